import { describe, expect, test } from "vitest";
import type { Delta, Frame, Message, MessageState } from "../hub/frames";
import { answersIn, newestFirst, wordsOfCompletion } from "./mail";
import { emptyMailbox, mailboxReducer, type MailboxAction, type MailboxState } from "./mailbox";

const message = (id: string, seq: number, more: Partial<Message> = {}): Frame => ({
  type: "message",
  message: { id, from: "user:bob", to: "user:me", content: id, timestamp: seq, seq, ...more },
});
const answer = (id: string, seq: number, replyTo: string) =>
  message(id, seq, { from: "model:small", reply_to: replyTo });
const delta = (index: number, text: string): Frame => {
  const words: Delta = { replyTo: "q", from: "model:auto", index, text };
  return { type: "delta", delta: words };
};
const receipt = (id: string, state: MessageState, seq: number): Frame => ({
  type: "receipt",
  receipt: { message: id, state, time: seq, by: "user:bob", seq, detail: "" },
});
const accepted = (id: string, seq: number): Frame => ({ type: "accepted", id, seq, isRepeated: false });
const queued = (id: string): MailboxAction => ({
  type: "queued",
  message: { id, from: "user:me", to: "user:bob", content: id, timestamp: 1 },
});
const frames = (...list: Frame[]): MailboxAction => ({ type: "frames", frames: list });
const run = (...actions: MailboxAction[]): MailboxState => actions.reduce(mailboxReducer, emptyMailbox);
const ids = (state: MailboxState) => newestFirst(state.mails.values()).map((mail) => mail.message.id);

describe("the answer to a task", () => {
  const completion = (message: unknown) => ({ object: "chat.completion", choices: [{ index: 0, message }] });

  test("is read as its words", () => {
    expect(wordsOfCompletion(completion({ role: "assistant", content: "It is done." }))).toBe("It is done.");
  });

  test("stays JSON when there is more to it than words", () => {
    for (const json of [
      completion({ content: null }),
      completion({ content: "x", tool_calls: [{ id: "1" }] }),
      { choices: [completion({}).choices[0], completion({}).choices[0]] },
      { temperature: 21 },
      null,
    ])
      expect(wordsOfCompletion(json)).toBeNull();
  });
});

describe("messages", () => {
  test("are shown once, newest first, however often the hub sends them", () => {
    const state = run(frames(message("a", 3), message("b", 5)), frames(message("a", 3), message("b", 5)));
    expect(ids(state)).toEqual(["b", "a"]);
    expect(state.lastSeq).toBe(5);
  });

  test("to oneself are one mail, whichever of acceptance and arrival comes first", () => {
    for (const order of [
      [accepted("a", 7), message("a", 7)],
      [message("a", 7), accepted("a", 7)],
    ]) {
      const state = run(queued("a"), frames(...order));
      expect(ids(state)).toEqual(["a"]);
      expect(state.mails.get("a")).toMatchObject({ isMine: true, isReceived: true, delivery: "accepted", seq: 7 });
    }
  });

  test("that wait to be sent come first and outlive the limit", () => {
    const many = Array.from({ length: 600 }, (_, index) => message(`m${index}`, index + 1));
    const state = run(queued("waiting"), frames(...many));
    expect(ids(state).slice(0, 2)).toEqual(["waiting", "m599"]);
    expect(state.mails.size).toBe(500);
  });

  test("of another log are forgotten, save those that wait to be sent", () => {
    const state = run(queued("waiting"), frames(message("a", 900)), { type: "log_changed" });
    expect([ids(state), state.lastSeq]).toEqual([["waiting"], 0]);
  });
});

describe("the answer of a model", () => {
  test("grows word by word and is replaced by the message", () => {
    const writing = run(frames(delta(0, "The"), delta(1, " quick")));
    expect(writing.drafts.get("q")?.text).toBe("The quick");
    const done = mailboxReducer(writing, frames(answer("r", 4, "q")));
    expect([done.drafts.size, ids(done)]).toEqual([0, ["r"]]);
  });

  test("starts anew with index 0 and takes each word once", () => {
    const state = run(
      frames(delta(0, "The"), delta(1, " slow"), delta(0, "A"), delta(1, " quick"), delta(1, " quick")),
    );
    expect(state.drafts.get("q")?.text).toBe("A quick");
  });

  test("shows where words are missing", () => {
    expect(run(frames(delta(0, "The"), delta(4, " fox"))).drafts.get("q")?.text).toBe("The… fox");
    expect(run(frames(delta(4, "fox"))).drafts.get("q")?.text).toBe("…fox");
  });

  test("does not come back by words that are late", () => {
    expect(run(frames(answer("r", 4, "q"), delta(7, " late"))).drafts.size).toBe(0);
  });

  test("is given up when the hub says that none will come", () => {
    expect(run(frames(delta(0, "The"), receipt("q", "failed", 4))).drafts.size).toBe(0);
  });

  test("stays when a person answers the same message", () => {
    expect(run(frames(delta(0, "The"), message("p", 4, { reply_to: "q" }))).drafts.size).toBe(1);
  });
});

describe("the answers to a question", () => {
  const said = (id: string): MailboxAction => ({
    type: "queued",
    message: { id, from: "user:me", to: "user:bob", content: id, timestamp: 1, reply_to: "q" },
  });
  const answered = (...actions: MailboxAction[]) => answersIn(newestFirst(run(...actions).mails.values())).get("q");

  test("are one's own, and the first is the one that counts", () => {
    expect(answered(frames(message("q", 1), message("other", 2, { reply_to: "q" })))).toBeUndefined();
    expect(answered(said("yes"), frames(accepted("yes", 3)), said("no"))).toBe("yes");
    expect(answered(said("no"), said("yes"), frames(accepted("no", 8), accepted("yes", 7)))).toBe("yes");
  });

  test("are none that the hub refused", () => {
    const failure = { status: 422, code: "invalid_field", detail: "", retryAfterS: null };
    expect(answered(said("yes"), { type: "refused", id: "yes", failure })).toBeUndefined();
  });
});

describe("receipts", () => {
  test("are kept once each, and move the place in the log", () => {
    const state = run(
      queued("a"),
      frames(accepted("a", 1), receipt("a", "delivered", 2), receipt("a", "delivered", 2)),
    );
    expect(state.mails.get("a")?.receipts.map(({ state }) => state)).toEqual(["delivered"]);
    expect(state.lastSeq).toBe(2);
  });

  test("prove that the hub has the message", () => {
    expect(run(queued("a"), frames(receipt("a", "accepted", 2))).mails.get("a")?.delivery).toBe("accepted");
  });
});

describe("confirming", () => {
  test("never takes an acknowledgement back to a mere reading", () => {
    const wanted = (state: "read" | "acknowledged"): MailboxAction => ({ type: "wanted", ids: ["a"], state });
    const acked: Frame = { type: "acked", id: "a", state: "acknowledged" };
    const state = run(frames(message("a", 1)), wanted("acknowledged"), wanted("read"), frames(acked));
    expect(state.mails.get("a")).toMatchObject({ wanted: "acknowledged", confirmed: "acknowledged" });
  });
});
