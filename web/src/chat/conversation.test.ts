import { describe, expect, test } from "vitest";
import { chatReducer, emptyConversation, titleOf, type ChatAction, type ChatState } from "./conversation";

const start: ChatState = { conversations: [], current: emptyConversation("c1", 0), running: null };

const asked = (answer: string, text = "Why?"): ChatAction => ({
  type: "asked",
  turn: { id: `turn-${answer}`, text, images: [], imageCount: 0, askedAt: 1 },
  answer,
});
const wrote = (answer: string, text: string, firstTokenMs = 5): ChatAction => ({
  ...{ type: "wrote", answer, text, reasoning: "", finish: "", firstTokenMs },
});
const ended = (answer: string): ChatAction => ({ type: "ended", answer, status: "done", failure: null });
const run = (...actions: ChatAction[]) => actions.reduce(chatReducer, start);

describe("a conversation", () => {
  test("collects the words of an answer and the time of its first", () => {
    const state = run(asked("a"), wrote("a", "Be", 5), wrote("a", "cause", 9), ended("a"));
    expect(state.current.turns[0]?.answer).toMatchObject({ text: "Because", status: "done", firstTokenMs: 5 });
    expect(state.running).toBeNull();
    expect(titleOf(state.current)).toBe("Why?");
  });

  test("takes one question at a time", () => {
    expect(run(asked("a"), asked("b")).current.turns).toHaveLength(1);
  });

  test("takes a judgement after the end, in whichever conversation", () => {
    const state = run(asked("a"), wrote("a", "x"), ended("a"), { type: "began", id: "c2", at: 3 }, {
      type: "judged",
      answer: "a",
      thumb: "down",
    });
    expect(state.conversations[0]?.turns[0]?.answer.thumb).toBe("down");
    expect(state.current.turns).toEqual([]);
  });

  test("drops words that come after the end, or for an answer that was replaced", () => {
    const again: ChatAction = { type: "asked_again", answer: "b", at: 2 };
    const state = run(
      asked("a"),
      wrote("a", "old"),
      ended("a"),
      wrote("a", "!"),
      again,
      wrote("a", "late"),
      wrote("b", "new"),
    );
    expect(state.current.turns.map((turn) => turn.answer.text)).toEqual(["new"]);
  });

  test("goes on being written while another one is open", () => {
    const begun: ChatAction = { type: "began", id: "c2", at: 3 };
    const state = run(asked("a"), begun, wrote("a", "Because"), ended("a"));
    expect(state.current).toEqual(emptyConversation("c2", 3));
    expect(state.conversations[0]?.turns[0]?.answer.text).toBe("Because");
    const opened = chatReducer(state, { type: "opened", id: "c1", at: 4 });
    expect(opened.current.turns[0]?.answer.status).toBe("done");
  });

  test("that is removed while it is written leaves room for the next", () => {
    const state = run(asked("a"), { type: "removed", id: "c1", fresh: "c2", at: 3 }, wrote("a", "ghost"));
    expect(state).toEqual({ conversations: [], current: emptyConversation("c2", 3), running: null });
  });
});
