import { expect, test } from "vitest";
import { secondsUntil } from "./countdown";

test("a second counts until it is over", () => {
  expect([10_000, 9_999, 9_001, 9_000, 0].map((now) => secondsUntil(10_000, now))).toEqual([0, 1, 1, 1, 10]);
  expect(secondsUntil(0, 10_000)).toBe(0);
});
