import { describe, expect, test } from "vitest";
import { memoryStorage, shelfIn } from "./shelf";
import { uuid4 } from "./uuid";

describe("a shelf", () => {
  test("gives back what was put, lists by prefix, and forgets what was dropped", () => {
    const shelf = shelfIn(memoryStorage());
    expect(shelf.put("a/1", { n: 1 })).toBe(true);
    shelf.put("a/2", "two");
    shelf.put("b", null);
    expect([shelf.get("a/1"), shelf.get("a/2"), shelf.get("b"), shelf.get("c")]).toEqual([
      { n: 1 },
      "two",
      null,
      undefined,
    ]);
    expect(shelf.names("a/")).toEqual(["a/1", "a/2"]);
    shelf.drop("a/1");
    expect(shelf.names("a/")).toEqual(["a/2"]);
  });

  test("says when there is no room, and keeps what was there", () => {
    const shelf = shelfIn(memoryStorage(40));
    expect(shelf.put("a", "small")).toBe(true);
    expect(shelf.put("a", "x".repeat(100))).toBe(false);
    expect(shelf.get("a")).toBe("small");
  });

  test("takes what it cannot read for nothing", () => {
    const storage = memoryStorage();
    storage.setItem("autoglm.a", "{");
    expect(shelfIn(storage).get("a")).toBeUndefined();
  });
});

test("uuid4 makes random UUIDs of version 4", () => {
  const ids = Array.from({ length: 100 }, uuid4);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(new Set(ids).size).toBe(100);
});
