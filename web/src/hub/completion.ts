import { fieldsOf, Problem, problemIn, textOr } from "./problem";
import { SseParser } from "./sse";

export type Piece =
  | { kind: "text"; text: string }
  | { kind: "reasoning"; text: string }
  /** `stop`, `length`, `content_filter`, ... */
  | { kind: "finish"; reason: string };

/** The stream ended before the hub said `[DONE]`: what came so far is not the whole answer. */
export class AnswerCut extends Error {
  override readonly name = "AnswerCut";
}

/** What one `data:` of the stream says. Raises Problem for `{"error": ...}`, AnswerCut for data that is no JSON. */
export function piecesIn(data: string): Piece[] {
  let chunk: unknown;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new AnswerCut(`no JSON in ${data.slice(0, 80)}`);
  }
  const fields = fieldsOf(chunk);
  if (fields["error"]) throw problemIn(chunk, 502);
  const choices = Array.isArray(fields["choices"]) ? fields["choices"] : [];
  const choice = fieldsOf(choices[0]);
  const delta = fieldsOf(choice["delta"]);
  const pieces: Piece[] = [];
  const reasoning = textOr(delta["reasoning_content"], null) ?? textOr(delta["reasoning"], "");
  const text = textOr(delta["content"], null) ?? textOr(delta["refusal"], "");
  const reason = textOr(choice["finish_reason"], "");
  if (reasoning) pieces.push({ kind: "reasoning", text: reasoning });
  if (text) pieces.push({ kind: "text", text });
  if (reason) pieces.push({ kind: "finish", reason });
  return pieces;
}

/** The pieces of a streamed answer. Raises Problem, AnswerCut, and what aborting the request raises. */
export async function* readAnswer(body: ReadableStream<Uint8Array>): AsyncGenerator<Piece, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new SseParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      for (const event of parser.push(done ? decoder.decode() : decoder.decode(value, { stream: true }))) {
        if (event.data === "[DONE]") return;
        yield* piecesIn(event.data);
      }
      if (done) throw new AnswerCut("the stream ended early");
    }
  } catch (error) {
    if (error instanceof Problem || error instanceof AnswerCut || isAbort(error)) throw error;
    throw new AnswerCut(String(error)); // the network broke off
  } finally {
    await reader.cancel().catch(() => undefined); // closes the connection, so that the model stops writing
  }
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}
