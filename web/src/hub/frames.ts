import { fieldsOf, numberOr, Problem, problemIn, textOr } from "./problem";

export const KINDS = ["chat", "event", "alert", "log", "task", "receipt"] as const;
export type Kind = (typeof KINDS)[number];

export const STATES = [
  "accepted",
  "queued",
  "sent",
  "delivered",
  "read",
  "acknowledged",
  "failed",
  "expired",
  "cancelled",
] as const;
export type MessageState = (typeof STATES)[number];

/** A content part in OpenAI's style: `text`, `image_url`, `input_audio`, `file` or `json`. */
export type Part = { type: string } & Record<string, unknown>;

export interface Envelope {
  id: string;
  from: string;
  to: string;
  content: string | Part[];
  /** Milliseconds of the Unix epoch, by the sender's clock. */
  timestamp: number;
  kind?: Kind;
  reply_to?: string;
  thread?: string;
  /** Milliseconds of the Unix epoch, by the hub's clock; what comes later counts no more. */
  expires_at?: number;
  /** The answers that a question offers, in its order. */
  choices?: string[];
}

export interface Message extends Envelope {
  /** Its place in the hub's log. */
  seq: number;
}

/** A few words of an answer that a model is writing. */
export interface Delta {
  replyTo: string;
  from: string;
  /** From 0; starts anew when the hub had to start the answer anew. */
  index: number;
  text: string;
}

export interface Receipt {
  message: string;
  state: MessageState;
  time: number;
  by: string;
  seq: number;
  detail: string;
}

export type Frame =
  | { type: "welcome"; address: string }
  | { type: "subscribed"; to: string; after: number }
  | { type: "message"; message: Message }
  | { type: "delta"; delta: Delta }
  | { type: "receipt"; receipt: Receipt }
  | { type: "accepted"; id: string; seq: number; isRepeated: boolean }
  | { type: "acked"; id: string; state: MessageState }
  | { type: "error"; ref: string; problem: Problem };

/** As many as a question may have. */
const MOST_CHOICES = 20;

function isOneOf<T extends string>(known: readonly T[], value: unknown): value is T {
  return (known as readonly unknown[]).includes(value);
}

function messageIn(value: unknown): Message | null {
  const fields = fieldsOf(value);
  const { id, from, to, content, kind, reply_to: replyTo, thread } = fields;
  if (typeof id !== "string" || typeof from !== "string" || typeof to !== "string") return null;
  const parts = Array.isArray(content) ? content.map((part) => ({ type: "", ...fieldsOf(part) })) : textOr(content, "");
  return {
    id,
    from,
    to,
    content: parts,
    timestamp: numberOr(fields["timestamp"], 0),
    seq: numberOr(fields["seq"], 0),
    ...(isOneOf(KINDS, kind) ? { kind } : {}),
    ...(typeof replyTo === "string" ? { reply_to: replyTo } : {}),
    ...(typeof thread === "string" ? { thread } : {}),
    ...(typeof fields["expires_at"] === "number" ? { expires_at: fields["expires_at"] } : {}),
    ...choicesIn(fieldsOf(fields["labels"])),
  };
}

/** The hub's own questions name themselves in the label `question`; a stranger's label `choices` makes no buttons. */
function choicesIn(labels: Record<string, unknown>): { choices?: string[] } {
  if (typeof labels["question"] !== "string") return {};
  try {
    const found: unknown = JSON.parse(textOr(labels["choices"], "[]"));
    const texts = Array.isArray(found) ? found.filter((one) => typeof one === "string" && one.trim() !== "") : [];
    const choices = [...new Set<string>(texts)].slice(0, MOST_CHOICES);
    return choices.length > 0 ? { choices } : {};
  } catch {
    return {};
  }
}

/** A frame from the hub; null for one that this page does not know, which a newer hub may well send. */
export function readFrame(text: string): Frame | null {
  let frame: Record<string, unknown>;
  try {
    frame = fieldsOf(JSON.parse(text));
  } catch {
    return null;
  }
  switch (frame["type"]) {
    case "welcome":
      return { type: "welcome", address: textOr(frame["address"], "") };
    case "subscribed":
      return { type: "subscribed", to: textOr(frame["to"], ""), after: numberOr(frame["after"], 0) };
    case "message": {
      const message = messageIn(frame["message"]);
      return message && { type: "message", message };
    }
    case "delta": {
      const { reply_to: replyTo, from, index, text: words } = fieldsOf(frame["delta"]);
      if (typeof replyTo !== "string" || typeof index !== "number") return null;
      return { type: "delta", delta: { replyTo, from: textOr(from, ""), index, text: textOr(words, "") } };
    }
    case "receipt": {
      const { message, state, time, by, seq, detail } = fieldsOf(frame["receipt"]);
      if (typeof message !== "string" || !isOneOf(STATES, state)) return null;
      const rest = { time: numberOr(time, 0), by: textOr(by, ""), seq: numberOr(seq, 0), detail: textOr(detail, "") };
      return { type: "receipt", receipt: { message, state, ...rest } };
    }
    case "accepted": {
      const { id, seq, repeated } = frame;
      return { type: "accepted", id: textOr(id, ""), seq: numberOr(seq, 0), isRepeated: repeated === true };
    }
    case "acked": {
      const { id, state } = frame;
      return isOneOf(STATES, state) ? { type: "acked", id: textOr(id, ""), state } : null;
    }
    case "error":
      return { type: "error", ref: textOr(frame["ref"], ""), problem: problemIn(frame["problem"], 500) };
    default:
      return null;
  }
}

/** The text parts of a message, joined by newlines. */
export function textOf(content: Envelope["content"]): string {
  if (typeof content === "string") return content;
  return content
    .map((part) => (part.type === "text" ? textOr(part["text"], "") : ""))
    .filter((text) => text !== "")
    .join("\n");
}
