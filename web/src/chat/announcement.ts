import type { Texts } from "../text/en";
import type { Answer } from "./conversation";

const LONGEST_CHARS = 1_000;

/** What a screen reader says of the newest answer: once when it begins and once when it has ended, not word by word. */
export function plainText(answer: Answer, text: Texts): string {
  switch (answer.status) {
    case "waiting":
    case "streaming":
      return text.answering;
    case "done":
      return `${text.answered} ${answer.text.slice(0, LONGEST_CHARS)}`;
    case "stopped":
      return text.stopped;
    case "cut":
      return text.cut;
    case "failed":
      return text.notAnswered;
  }
}
