import { fieldInFragment } from "../hub/fragment";
import { fieldsOf, numberOr, textOr } from "../hub/problem";
import type { Language } from "../text/preferred";

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
  /** Of several messages: the hub knows none by its id. */
  isDigest: boolean;
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

/** A click on a notification: on its button, or on the rest of it. */
export interface Click {
  shown: Shown;
  isAcknowledged: boolean;
}

/** The `action` of the button. */
export const ACKNOWLEDGE = "acknowledge";
/** As the page has it on its own; the worker has none of the page's other words. */
export const ACKNOWLEDGE_WORDS: Record<Language, string> = { en: "Acknowledge", zh: "确认收到" };

/** What a page asks the worker: are there clicks that no page has taken? */
export const ASK = "clicked";

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
    isDigest: fields["is_digest"] === true,
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

/** What the worker tells a page; null where a worker of another version says something else. */
export function readClick(value: unknown): Click | null {
  const { type, shown, isAcknowledged } = fieldsOf(value);
  const read = type === "open" ? readShown(shown) : null;
  return read && { shown: read, isAcknowledged: isAcknowledged === true };
}

/** What a page tells the worker once it has a click. */
export function takenWords({ shown }: Click): { type: string; id: string } {
  return { type: "taken", id: shown.id };
}

/** The message whose click a page has taken; null where it says something else. */
export function readTaken(value: unknown): string | null {
  const { type, id } = fieldsOf(value);
  return type === "taken" ? textOr(id, null) : null;
}

/** Of a digest none: the messages in it would look as if somebody had seen to each. */
export function buttonsOf({ isDigest }: Notice, language: Language): { action: string; title: string }[] {
  return isDigest ? [] : [{ action: ACKNOWLEDGE, title: ACKNOWLEDGE_WORDS[language] }];
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
  return fieldInFragment(fragment, "mail");
}
