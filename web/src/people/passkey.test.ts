import { expect, test } from "vitest";
import { en } from "../text/en";
import { canUsePasskeys, passkeyProblem } from "./passkey";

test("each error that WebAuthn has for a person has words of its own", () => {
  const codes = ["NotAllowedError", "AbortError", "InvalidStateError", "SecurityError"].map(
    (name) => passkeyProblem(new DOMException("", name)).code,
  );
  expect(codes).toEqual(["passkey_cancelled", "passkey_cancelled", "passkey_known", "passkey_elsewhere"]);
  for (const code of codes) expect(en.failures).toHaveProperty(code);
});

test("any other error is told as it is", () => {
  expect(passkeyProblem(new TypeError("toJSON is not a function"))).toMatchObject({
    code: "passkey_failed",
    detail: "TypeError: toJSON is not a function",
  });
});

test("a browser without them is not asked for one", () => {
  expect(canUsePasskeys()).toBe(false); // Node has none
});
