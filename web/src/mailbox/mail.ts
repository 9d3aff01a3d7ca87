import { textOf, type Envelope, type Message, type MessageState, type Receipt } from "../hub/frames";
import { fieldsOf, textOr, type Failure } from "../hub/problem";
import { bodyOf, type Shown } from "../push/notice";

/** `queued`: kept on this device until the hub takes it. `refused`: the hub said no, and asking again will not help. */
export type Delivery = "queued" | "accepted" | "refused";

export type Confirmation = "read" | "acknowledged";

/** A message that came, or went out, or both: a message to oneself is one mail. */
export interface Mail {
  message: Envelope;
  /** Its place in the hub's log; null until the hub has it. */
  seq: number | null;
  isMine: boolean;
  isReceived: boolean;
  delivery: Delivery | null;
  failure: Failure | null;
  /** What became of it, oldest first; of what this page sent. */
  receipts: Receipt[];
  /** What this reader wants the sender to know, and what the hub has confirmed of it. */
  wanted: Confirmation | null;
  confirmed: Confirmation | null;
}

export function outgoing(message: Envelope): Mail {
  return { ...blank(message), isMine: true, delivery: "queued" };
}

export function received(message: Message): Mail {
  return { ...blank(message), seq: message.seq, isReceived: true };
}

/**
 * What a notification said of a message that the hub does not give here. It can be answered; `isReceived`: also
 * acknowledged, for the hub may have it, and is away. Else it has none by this id that this key may read.
 */
export function glimpsed(shown: Shown, to: string, isReceived: boolean): Mail {
  const { id, from, time, thread } = shown;
  const message: Envelope = { id, from, to, content: bodyOf(shown), timestamp: time };
  return { ...blank(thread === null ? message : { ...message, thread }), isReceived };
}

function blank(message: Envelope): Mail {
  const delivery: Delivery | null = null;
  const nothing = { failure: null, receipts: [], wanted: null, confirmed: null };
  return { message, seq: null, isMine: false, isReceived: false, delivery, ...nothing };
}

export function isUnread(mail: Mail): boolean {
  return mail.isReceived && !mail.isMine && mail.wanted === null;
}

/** Whether the hub has yet to hear that this mail was read or acknowledged. */
export function owesConfirmation(mail: Mail): boolean {
  return mail.wanted !== null && mail.wanted !== mail.confirmed;
}

/** By message what this reader has answered to it; the first answer is the one that counts. */
export function answersIn(mails: readonly Mail[]): Map<string, string> {
  const answers = new Map<string, string>();
  for (const { message, isMine, delivery } of mails)
    if (isMine && delivery !== "refused" && message.reply_to !== undefined)
      answers.set(message.reply_to, textOf(message.content));
  return answers;
}

export function isFromModel(message: Envelope): boolean {
  return message.from.startsWith("model:");
}

/** The words of a chat completion, which is what a task is answered with; null when it is none, or has tool calls. */
export function wordsOfCompletion(json: unknown): string | null {
  const { choices } = fieldsOf(json);
  if (!Array.isArray(choices) || choices.length !== 1) return null;
  const answer = fieldsOf(fieldsOf(choices[0])["message"]);
  return answer["tool_calls"] ? null : textOr(answer["content"], null);
}

/** The newest first; what waits to be sent comes before all. */
export function newestFirst(mails: Iterable<Mail>): Mail[] {
  const place = (mail: Mail) => mail.seq ?? Infinity;
  return [...mails].sort((one, other) => {
    if (one.seq === other.seq) return other.message.timestamp - one.message.timestamp;
    return place(other) - place(one);
  });
}

const RANK: readonly MessageState[] = ["accepted", "queued", "sent", "delivered", "read", "acknowledged"];

/** The receipts in the order of a message's life, whatever order they came in; an end such as `failed` comes last. */
export function inOrder(receipts: readonly Receipt[]): Receipt[] {
  const rank = (receipt: Receipt) => (RANK.includes(receipt.state) ? RANK.indexOf(receipt.state) : RANK.length);
  return [...receipts].sort((one, other) => rank(one) - rank(other) || one.time - other.time);
}
