import { describe, expect, test } from "vitest";
import { memoryStorage, shelfIn } from "../hub/shelf";
import { MailCache } from "./cache";
import { received } from "./mail";
import { emptyMailbox, type MailboxState } from "./mailbox";

function mailbox(count: number, content = "text"): MailboxState {
  const mails = Array.from({ length: count }, (_, index) => {
    const common = { from: "user:bob", to: "user:me", content, timestamp: index };
    return received({ id: `m${index}`, seq: index + 1, ...common });
  });
  return { ...emptyMailbox, mails: new Map(mails.map((mail) => [mail.message.id, mail])), lastSeq: count };
}

describe("the cache", () => {
  test("gives back the mailbox and the place in the log", () => {
    const shelf = shelfIn(memoryStorage());
    const state = mailbox(3);
    new MailCache(shelf, "user:me").save(emptyMailbox, state);
    expect(new MailCache(shelf, "user:me").load()).toEqual({ state, hollow: [] });
  });

  test("keeps the newest two hundred", () => {
    const shelf = shelfIn(memoryStorage());
    const cache = new MailCache(shelf, "user:me");
    const before = mailbox(150);
    cache.save(emptyMailbox, before);
    cache.save(before, mailbox(300));
    const kept = [...cache.load().state.mails.values()].map((mail) => mail.seq ?? 0);
    expect([kept.length, Math.min(...kept)]).toEqual([200, 101]);
  });

  test("keeps a large message without its content, and names it", () => {
    const shelf = shelfIn(memoryStorage());
    new MailCache(shelf, "user:me").save(emptyMailbox, mailbox(1, "x".repeat(30_000)));
    const { state, hollow } = new MailCache(shelf, "user:me").load();
    expect([state.mails.get("m0")?.message.content, hollow]).toEqual(["", ["m0"]]);
  });

  test("makes room by dropping the oldest", () => {
    const shelf = shelfIn(memoryStorage(6_000));
    const cache = new MailCache(shelf, "user:me");
    let state = emptyMailbox;
    for (let count = 1; count <= 40; count++) {
      const next = mailbox(count);
      const grown = { ...next, mails: new Map([...next.mails, ...state.mails]) };
      cache.save(state, grown);
      state = grown;
    }
    const kept = [...cache.load().state.mails.keys()];
    expect(kept).toContain("m39");
    expect(kept).not.toContain("m0");
  });
});
