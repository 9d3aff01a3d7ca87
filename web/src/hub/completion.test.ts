import { describe, expect, test } from "vitest";
import { AnswerCut, readAnswer, type Piece } from "./completion";
import { Problem } from "./problem";

function body(...pieces: (string | Uint8Array)[]): ReadableStream<Uint8Array<ArrayBuffer>> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(typeof piece === "string" ? encoder.encode(piece) : piece.slice());
      controller.close();
    },
  });
}

const chunk = (delta: object, finish: string | null = null) =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`;

async function pieces(stream: ReadableStream<Uint8Array>): Promise<Piece[]> {
  const found: Piece[] = [];
  for await (const piece of readAnswer(stream)) found.push(piece);
  return found;
}

describe("readAnswer", () => {
  test("gives reasoning, text and the reason of the end; usage and roles say nothing", async () => {
    const stream = body(
      chunk({ role: "assistant", content: "" }),
      chunk({ reasoning_content: "hm" }),
      chunk({ content: "Hi" }),
      chunk({}, "stop"),
      'data: {"choices":[],"usage":{"total_tokens":3}}\n\n',
      "data: [DONE]\n\n",
    );
    expect(await pieces(stream)).toEqual([
      { kind: "reasoning", text: "hm" },
      { kind: "text", text: "Hi" },
      { kind: "finish", reason: "stop" },
    ]);
  });

  test("puts characters together that were cut between two pieces", async () => {
    const bytes = new TextEncoder().encode(chunk({ content: "你好" }) + "data: [DONE]\n\n");
    const halves = Array.from(bytes, (_, index) => bytes.subarray(index, index + 1));
    expect(await pieces(body(...halves))).toEqual([{ kind: "text", text: "你好" }]);
  });

  test("says that an answer without [DONE] was cut, even when the model had finished", async () => {
    await expect(pieces(body(chunk({ content: "Hi" }, "stop")))).rejects.toBeInstanceOf(AnswerCut);
    await expect(pieces(body(chunk({ content: "Hi" }), "data: {broken\n\n"))).rejects.toBeInstanceOf(AnswerCut);
  });

  test("raises the hub's problem in the middle of the stream", async () => {
    const error = { error: { message: "broke off", type: "server_error", param: null, code: "upstream_failed" } };
    const stream = body(chunk({ content: "Hi" }), `data: ${JSON.stringify(error)}\n\n`);
    await expect(pieces(stream)).rejects.toMatchObject({ code: "upstream_failed", detail: "broke off" });
    await expect(pieces(body('data: {"error":"plain"}\n\n'))).rejects.toBeInstanceOf(Problem);
  });

  test("reports a broken network as a cut answer and lets an abort through", async () => {
    const failing = (error: unknown) =>
      new ReadableStream<Uint8Array>({ pull: (controller) => controller.error(error) });
    await expect(pieces(failing(new TypeError("network error")))).rejects.toBeInstanceOf(AnswerCut);
    const abort = new DOMException("stopped", "AbortError");
    await expect(pieces(failing(abort))).rejects.toBe(abort);
  });

  test("closes the stream when its reader stops early", async () => {
    let isCancelled = false;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new TextEncoder().encode(chunk({ content: "x" }))),
      cancel: () => void (isCancelled = true),
    });
    for await (const piece of readAnswer(endless)) if (piece.kind === "text") break;
    expect(isCancelled).toBe(true);
  });
});
