import type { Shelf } from "../hub/shelf";
import { newestFirst, type Mail } from "./mail";
import { emptyMailbox, type MailboxState } from "./mailbox";

const MAILS_KEPT = 200;
/** A message above this size is kept without its content, which the hub is asked for when the page opens again. */
const LARGEST_CONTENT_CHARS = 20_000;

interface Kept {
  mail: Mail;
  isHollow: boolean;
}

/** The mailbox as this browser last saw it, so that a reload asks the hub only for what is new. */
export class MailCache {
  readonly #prefix: string;
  readonly #seqName: string;

  constructor(
    private readonly shelf: Shelf,
    owner: string,
  ) {
    this.#prefix = `mail.${owner}/`;
    this.#seqName = `mail-seq.${owner}`;
  }

  /** Also gives the ids of the messages whose content must be fetched. */
  load(): { state: MailboxState; hollow: string[] } {
    const kept = this.shelf.names(this.#prefix).flatMap((name) => {
      const found = this.shelf.get(name) as Partial<Kept> | undefined;
      return typeof found?.mail?.message?.id === "string" ? [found as Kept] : [];
    });
    const lastSeq = this.shelf.get(this.#seqName);
    const state: MailboxState = {
      ...emptyMailbox,
      mails: new Map(kept.map(({ mail }) => [mail.message.id, mail])),
      lastSeq: typeof lastSeq === "number" ? lastSeq : 0,
    };
    return { state, hollow: kept.filter(({ isHollow }) => isHollow).map(({ mail }) => mail.message.id) };
  }

  /** Write what differs between two states. */
  save(before: MailboxState, after: MailboxState): void {
    if (before.mails !== after.mails) {
      const newest = newestFirst(after.mails.values());
      for (const mail of newest.slice(0, MAILS_KEPT))
        if (before.mails.get(mail.message.id) !== mail) this.#put(mail, newest);
      for (const { message } of newest.slice(MAILS_KEPT)) if (before.mails.has(message.id)) this.#drop(message.id);
      for (const id of before.mails.keys()) if (!after.mails.has(id)) this.#drop(id);
    }
    if (before.lastSeq !== after.lastSeq) this.shelf.put(this.#seqName, after.lastSeq);
  }

  #put(mail: Mail, newest: readonly Mail[]): void {
    const isHollow = JSON.stringify(mail.message.content).length > LARGEST_CONTENT_CHARS;
    const kept: Kept = { mail: isHollow ? { ...mail, message: { ...mail.message, content: "" } } : mail, isHollow };
    const name = this.#prefix + mail.message.id;
    for (let last = newest.length - 1; !this.shelf.put(name, kept) && last > 0; last--) {
      const oldest = newest[last];
      if (oldest && oldest !== mail) this.#drop(oldest.message.id);
    }
  }

  #drop(id: string): void {
    this.shelf.drop(this.#prefix + id);
  }
}
