import type { Turn } from "./conversation";

type Part = { type: "text"; text: string } | { type: "image_url"; image_url: { url: string } };

export interface PromptMessage {
  role: "user" | "assistant";
  content: string | Part[];
}

/** Small models have small windows: what lies further back is seldom missed, and would be read anew each time. */
const TURNS_SENT = 20;

/** The messages of a chat completion request for the last of `turns`. Failed and empty answers are left out. */
export function promptFor(turns: readonly Turn[]): PromptMessage[] {
  const recent = turns.slice(-TURNS_SENT);
  return recent.flatMap((turn, index): PromptMessage[] => {
    const isLast = index === recent.length - 1;
    if (isLast) return [question(turn)];
    return turn.answer.text === "" ? [] : [question(turn), { role: "assistant", content: turn.answer.text }];
  });
}

function question(turn: Turn): PromptMessage {
  if (turn.images.length === 0) return { role: "user", content: turn.text };
  const images = turn.images.map((url): Part => ({ type: "image_url", image_url: { url } }));
  const text: Part[] = turn.text === "" ? [] : [{ type: "text", text: turn.text }];
  return { role: "user", content: [...text, ...images] };
}
