import { describe, expect, test } from "vitest";
import { memoryStorage, shelfIn } from "../hub/shelf";
import { Outbox, type Outgoing } from "./outbox";

const message = (id: string, timestamp: number): Outgoing => ({ id, to: "user:bob", content: id, timestamp });

describe("the outbox", () => {
  test("holds messages unchanged and in order across a reload, until they are settled", () => {
    const shelf = shelfIn(memoryStorage());
    const before = new Outbox(shelf, "user:me");
    before.add(message("b", 2));
    before.add(message("a", 1));
    const after = new Outbox(shelf, "user:me");
    expect(after.waiting()).toEqual([message("a", 1), message("b", 2)]);
    after.settle("a");
    expect(new Outbox(shelf, "user:me").waiting()).toEqual([message("b", 2)]);
  });

  test("of another person is another one", () => {
    const shelf = shelfIn(memoryStorage());
    new Outbox(shelf, "user:me").add(message("a", 1));
    expect(new Outbox(shelf, "user:you").waiting()).toEqual([]);
  });

  test("still holds a message for which the browser has no room, and says so", () => {
    const outbox = new Outbox(shelfIn(memoryStorage(10)), "user:me");
    expect(outbox.add(message("a", 1))).toBe(false);
    expect(outbox.waiting()).toEqual([message("a", 1)]);
  });
});
