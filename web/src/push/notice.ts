import { fieldsOf, numberOr, textOr } from "../hub/problem";

/** What the hub pushes: a message, or a piece of a long one. */
export interface Notice {
  id: string;
  from: string;
  text: string;
  /** Milliseconds of the Unix epoch. */
  time: number;
  kind: string;
  priority: number;
  thread: string | null;
  /** Which piece this is, from 0, and of how many. */
  piece: number;
  pieces: number;
}

/** A message as it stands in a notification, and travels with it. */
export interface Shown {
  id: string;
  from: string;
  time: number;
  kind: string;
  thread: string | null;
  /** By piece; null for one that has not come yet. */
  texts: (string | null)[];
}

const MOST_PIECES = 100;
const URGENT = 8;

/** Null for what is none: then there is nothing to show but that something came. */
export function readNotice(value: unknown): Notice | null {
  const fields = fieldsOf(value);
  const { id, from, text } = fields;
  if (typeof id !== "string" || typeof from !== "string" || typeof text !== "string") return null;
  const pieces = Math.min(Math.max(1, numberOr(fields["pieces"], 1)), MOST_PIECES);
  return {
    id,
    from,
    text,
    time: numberOr(fields["time"], 0),
    kind: textOr(fields["kind"], "chat"),
    priority: numberOr(fields["priority"], 5),
    thread: textOr(fields["thread"], null),
    piece: Math.min(Math.max(0, numberOr(fields["piece"], 0)), pieces - 1),
    pieces,
  };
}

/** From the data of a notification, or from a worker of another version. */
export function readShown(value: unknown): Shown | null {
  const fields = fieldsOf(value);
  const { id, from, texts } = fields;
  if (typeof id !== "string" || typeof from !== "string" || !Array.isArray(texts)) return null;
  return {
    id,
    from,
    time: numberOr(fields["time"], 0),
    kind: textOr(fields["kind"], "chat"),
    thread: textOr(fields["thread"], null),
    texts: texts.map((text: unknown) => textOr(text, null)),
  };
}

/** `before`: what is shown under the same tag: other pieces of this message, or an earlier one of its thread. */
export function shownWith(notice: Notice, before: Shown | null): Shown {
  const { id, from, time, kind, thread } = notice;
  const known = before?.id === id && before.texts.length === notice.pieces ? before.texts : [];
  const texts = Array.from({ length: notice.pieces }, (_, piece) => known[piece] ?? null);
  texts[notice.piece] = notice.text;
  return { id, from, time, kind, thread, texts };
}

/** One notification for a thread, which shows its newest message. */
export function tagOf({ id, thread }: Notice): string {
  return thread === null ? `message ${id}` : `thread ${thread}`;
}

export function bodyOf(shown: Shown): string {
  return shown.texts.map((text) => text ?? "…").join("");
}

export function isUrgent({ priority }: Notice): boolean {
  return priority >= URGENT;
}

/** What the worker opens the page with. */
export function fragmentOf(id: string): string {
  return `#mail=${encodeURIComponent(id)}`;
}

/** The message in a fragment such as `#mail=order-17`; null when there is none. */
export function mailInFragment(fragment: string): string | null {
  const found = /[#&]mail=([^&]+)/.exec(fragment)?.[1];
  if (found === undefined) return null;
  try {
    return decodeURIComponent(found);
  } catch {
    return null; // a stray `%`
  }
}
