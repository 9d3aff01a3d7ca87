import { describe, expect, test } from "vitest";
import { SseParser } from "./sse";

function data(...pieces: string[]): string[] {
  const parser = new SseParser();
  return pieces.flatMap((piece) => parser.push(piece)).map((event) => event.data);
}

describe("SseParser", () => {
  test("takes LF, CRLF and CR as the end of a line", () => {
    expect(data("data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\n\n")).toEqual(["a", "b", "c", "d"]);
  });

  test("gives the same events wherever the stream is cut into pieces", () => {
    const stream = ": hi\r\n\r\nevent: delta\r\nid: 7\r\ndata: one\r\ndata:two\r\n\r\ndata\n\ndata: 三\r\r\n";
    const whole = new SseParser().push(stream);
    expect(whole).toEqual([
      { type: "delta", data: "one\ntwo", id: "7" },
      { type: "message", data: "", id: "7" },
      { type: "message", data: "三", id: "7" },
    ]);
    for (let size = 1; size <= stream.length; size++) {
      const parser = new SseParser();
      const pieces = stream.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];
      expect(pieces.flatMap((piece) => parser.push(piece))).toEqual(whole);
    }
  });

  test("skips comments and unknown fields, and takes away one blank after the colon only", () => {
    expect(data(": keep-alive\n\nretry: 10\nwhat: ever\ndata:  two blanks\n\n")).toEqual([" two blanks"]);
  });

  test("drops a byte order mark and an event without its blank line", () => {
    expect(data("\uFEFFdata: first\n\ndata: unfinished\n")).toEqual(["first"]);
  });
});
