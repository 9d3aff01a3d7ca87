import type { Delta, Envelope, Frame, Message, Receipt } from "../hub/frames";
import type { Failure } from "../hub/problem";
import type { Connection } from "../hub/socket";
import { isFromModel, newestFirst, outgoing, owesConfirmation, received, type Confirmation, type Mail } from "./mail";

/** An answer while a model writes it. */
export interface Draft {
  replyTo: string;
  from: string;
  text: string;
  /** The index of the words that come next. */
  next: number;
}

export interface MailboxState {
  connection: Connection;
  mails: ReadonlyMap<string, Mail>;
  /** By the id of the message that is being answered. */
  drafts: ReadonlyMap<string, Draft>;
  /** How far into the hub's log this page has seen. */
  lastSeq: number;
}

export type MailboxAction =
  | { type: "connection"; connection: Connection }
  | { type: "queued"; message: Envelope }
  | { type: "frames"; frames: readonly Frame[] }
  | { type: "refused"; id: string; failure: Failure }
  | { type: "wanted"; ids: readonly string[]; state: Confirmation }
  | { type: "not_confirmed"; id: string }
  | { type: "discarded"; id: string }
  /** Somebody wants to see a message that did not come to this mailbox, but in a notification. */
  | { type: "opened"; mail: Mail }
  /** The hub has another log than before; only what still waits to be sent is worth keeping. */
  | { type: "log_changed" };

const MAILS_SHOWN = 500;

export const emptyMailbox: MailboxState = { connection: "connecting", mails: new Map(), drafts: new Map(), lastSeq: 0 };

export function mailboxReducer(state: MailboxState, action: MailboxAction): MailboxState {
  switch (action.type) {
    case "connection":
      return state.connection === action.connection ? state : { ...state, connection: action.connection };
    case "queued":
      return state.mails.has(action.message.id) ? state : put(state, outgoing(action.message));
    case "frames":
      return bounded(action.frames.reduce(take, state));
    case "refused":
      return change(state, action.id, (mail) =>
        mail.delivery === "queued" ? { delivery: "refused", failure: action.failure } : {},
      );
    case "wanted":
      return action.ids.reduce(
        (next, id) => change(next, id, (mail) => (mail.wanted === "acknowledged" ? {} : { wanted: action.state })),
        state,
      );
    case "not_confirmed":
      return change(state, action.id, (mail) => ({
        wanted: mail.confirmed ?? "read",
        confirmed: mail.confirmed ?? "read",
      }));
    case "discarded": {
      const mails = new Map(state.mails);
      mails.delete(action.id);
      return { ...state, mails };
    }
    case "opened":
      return state.mails.has(action.mail.message.id) ? state : bounded(put(state, action.mail));
    case "log_changed": {
      const waiting = [...state.mails].filter(([, mail]) => mail.delivery === "queued");
      return { ...state, mails: new Map(waiting), drafts: new Map(), lastSeq: 0 };
    }
  }
}

function take(state: MailboxState, frame: Frame): MailboxState {
  switch (frame.type) {
    case "message":
      return takeMessage(state, frame.message);
    case "delta":
      return takeDelta(state, frame.delta);
    case "receipt":
      return takeReceipt(state, frame.receipt);
    case "accepted":
      return change(state, frame.id, () => ({ delivery: "accepted", seq: frame.seq, failure: null }));
    case "acked":
      return change(state, frame.id, () =>
        frame.state === "read" || frame.state === "acknowledged" ? { confirmed: frame.state } : {},
      );
    case "welcome":
    case "subscribed":
    case "error":
      return state;
  }
}

/** A message comes once more after a reconnect that the hub had not noticed; it is still one mail. */
function takeMessage(state: MailboxState, message: Message): MailboxState {
  const known = state.mails.get(message.id);
  const mail: Mail = known
    ? { ...known, message, seq: message.seq, isReceived: true, delivery: known.isMine ? "accepted" : null }
    : received(message);
  const drafts = new Map(state.drafts);
  if (message.reply_to !== undefined && isFromModel(message)) drafts.delete(message.reply_to);
  return { ...put(state, mail), drafts, lastSeq: Math.max(state.lastSeq, message.seq) };
}

function takeDelta(state: MailboxState, delta: Delta): MailboxState {
  const { replyTo, from, index, text } = delta;
  if (isAnswered(state, replyTo)) return state; // words that came late, after the whole answer
  const draft = state.drafts.get(replyTo);
  const next = draft?.next ?? 0;
  if (draft && index > 0 && index < next) return state; // told twice
  const before = index === 0 ? "" : (draft?.text ?? "");
  const gap = index > next ? "…" : ""; // words were lost while this page was away; the whole answer follows
  const drafts = new Map(state.drafts);
  drafts.set(replyTo, { replyTo, from, text: before + gap + text, next: index + 1 });
  return { ...state, drafts };
}

function isAnswered(state: MailboxState, id: string): boolean {
  for (const { message } of state.mails.values()) if (message.reply_to === id && isFromModel(message)) return true;
  return false;
}

function takeReceipt(state: MailboxState, receipt: Receipt): MailboxState {
  const drafts = new Map(state.drafts);
  if (receipt.state === "failed" || receipt.state === "cancelled") drafts.delete(receipt.message); // no answer follows
  const seen = { ...state, drafts, lastSeq: Math.max(state.lastSeq, receipt.seq) };
  return change(seen, receipt.message, ({ receipts, delivery }) => {
    const isKnown = receipts.some((known) => known.state === receipt.state && known.by === receipt.by);
    if (isKnown) return {};
    // A receipt is also a sign that the hub has the message, should its `accepted` have been lost with a connection.
    return { receipts: [...receipts, receipt], delivery: delivery === "queued" ? "accepted" : delivery };
  });
}

function put(state: MailboxState, mail: Mail): MailboxState {
  return { ...state, mails: new Map(state.mails).set(mail.message.id, mail) };
}

function change(state: MailboxState, id: string, changed: (mail: Mail) => Partial<Mail>): MailboxState {
  const mail = state.mails.get(id);
  return mail ? put(state, { ...mail, ...changed(mail) }) : state;
}

/** The oldest are forgotten here (the hub still has them), save those that wait to be sent or confirmed. */
function bounded(state: MailboxState): MailboxState {
  if (state.mails.size <= MAILS_SHOWN) return state;
  const kept = newestFirst(state.mails.values()).filter(
    (mail, index) => index < MAILS_SHOWN || mail.delivery === "queued" || owesConfirmation(mail),
  );
  return { ...state, mails: new Map(kept.map((mail) => [mail.message.id, mail])) };
}
