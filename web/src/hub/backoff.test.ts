import { expect, test } from "vitest";
import { waitBefore } from "./backoff";

test("waits grow to a limit, and chance decides half of each", () => {
  const shortest = [0, 1, 2, 5, 6, 1000].map((attempt) => waitBefore(attempt, () => 0));
  const longest = [0, 1, 2, 5, 6, 1000].map((attempt) => waitBefore(attempt, () => 1));
  expect(shortest).toEqual([250, 500, 1000, 8000, 10000, 10000]);
  expect(longest).toEqual([500, 1000, 2000, 16000, 20000, 20000]);
});
