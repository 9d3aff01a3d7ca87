import { describe, expect, test } from "vitest";
import { readFrame, textOf } from "./frames";

const read = (frame: unknown) => readFrame(JSON.stringify(frame));

describe("readFrame", () => {
  test("reads every frame of the interface", () => {
    const message = { id: "m", from: "user:a", to: "user:b", content: "x", timestamp: 1, reply_to: "q", seq: 17 };
    expect(read({ type: "message", message })).toEqual({ type: "message", message });
    const delta = { reply_to: "q", from: "model:auto", to: "user:a", index: 3, text: " brown" };
    const words = { replyTo: "q", from: "model:auto", index: 3, text: " brown" };
    expect(read({ type: "delta", delta })).toEqual({ type: "delta", delta: words });
    const receipt = { message: "q", state: "delivered", time: 2, by: "user:a", seq: 18 };
    expect(read({ type: "receipt", receipt })).toEqual({ type: "receipt", receipt: { ...receipt, detail: "" } });
    const accepted = { type: "accepted", id: "q", seq: 9, isRepeated: true };
    expect(read({ type: "accepted", id: "q", seq: 9, repeated: true })).toEqual(accepted);
    expect(read({ type: "acked", id: "q", state: "read", seq: 1 })).toEqual({ type: "acked", id: "q", state: "read" });
    const problem = { status: 422, code: "invalid_field", detail: "to: no" };
    expect(read({ type: "error", ref: "send:q", problem })).toMatchObject({ type: "error", ref: "send:q", problem });
  });

  test("passes over what it does not know", () => {
    const unknown = [
      { type: "news" },
      { type: "message" },
      { type: "receipt", receipt: { message: "q", state: "eaten" } },
      [],
      1,
    ];
    for (const frame of unknown) expect(read(frame)).toBeNull();
    expect(readFrame("{")).toBeNull();
  });
});

describe("the answers that a question offers", () => {
  const choicesOf = (labels: unknown) => {
    const message = { id: "m", from: "user:a", to: "user:b", content: "x", timestamp: 1, seq: 1, labels };
    const frame = read({ type: "message", message });
    return frame?.type === "message" ? frame.message.choices : null;
  };

  test("are read in their order, each once, and no more than 20", () => {
    const of = (choices: unknown) => choicesOf({ question: "q", choices: JSON.stringify(choices) });
    expect(of(["stop", "let it run"])).toEqual(["stop", "let it run"]);
    expect(of(["no", "yes", "no", " ", 5])).toEqual(["no", "yes"]);
    expect(of(Array.from({ length: 30 }, (_, index) => `${index}`))).toHaveLength(20);
  });

  test("are none where there is no question or no list", () => {
    expect(choicesOf({ choices: '["yes"]' })).toBeUndefined();
    expect(choicesOf(undefined)).toBeUndefined();
    for (const choices of ["[", "5", "{}", "[]", "[1]", '[" "]'])
      expect(choicesOf({ question: "q", choices })).toBeUndefined();
  });
});

test("textOf joins the text parts of a message", () => {
  expect(textOf("plain")).toBe("plain");
  const picture = { type: "image_url", image_url: { url: "data:," } };
  expect(textOf([{ type: "text", text: "one" }, picture, { type: "text", text: "two" }])).toBe("one\ntwo");
});
