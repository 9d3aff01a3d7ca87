export interface SseEvent {
  /** The event's type; `message` where the stream names none. */
  type: string;
  data: string;
  /** The last id that the stream gave. */
  id: string;
}

/**
 * Server-sent events out of text that arrives in arbitrary pieces.
 *
 * An event that the stream did not end with a blank line is dropped, as the standard wants.
 * Source: WHATWG HTML, section 9.2.6 "Interpreting an event stream".
 */
export class SseParser {
  #rest = "";
  #isFirst = true;
  #data: string[] = [];
  #type = "";
  #id = "";

  push(text: string): SseEvent[] {
    this.#rest += text;
    if (this.#isFirst && this.#rest !== "") {
      this.#isFirst = false;
      if (this.#rest.startsWith("\uFEFF")) this.#rest = this.#rest.slice(1);
    }
    const events: SseEvent[] = [];
    for (let line = this.#nextLine(); line !== null; line = this.#nextLine()) {
      const event = this.#take(line);
      if (event) events.push(event);
    }
    return events;
  }

  /** Lines end in CRLF, LF or CR. A CR at the very end may be half of a CRLF, so it waits for what follows. */
  #nextLine(): string | null {
    const end = this.#rest.search(/[\r\n]/);
    if (end < 0 || (this.#rest[end] === "\r" && end === this.#rest.length - 1)) return null;
    const line = this.#rest.slice(0, end);
    this.#rest = this.#rest.slice(end + (this.#rest.startsWith("\r\n", end) ? 2 : 1));
    return line;
  }

  #take(line: string): SseEvent | null {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return null; // a comment, which keeps the connection alive
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#type = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    return null;
  }

  #dispatch(): SseEvent | null {
    const event = { type: this.#type || "message", data: this.#data.join("\n"), id: this.#id };
    const isEmpty = this.#data.length === 0;
    this.#data = [];
    this.#type = "";
    return isEmpty ? null : event;
  }
}
