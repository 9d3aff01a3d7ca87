import { expect, test } from "vitest";
import { addressFault } from "./address";

test("addresses of every scheme are taken", () => {
  const good = ["user:alice", "group:夜班", "device:press-7", "model:auto", "channel:wecom/ops", "site:north/user:bob"];
  expect(good.map(addressFault)).toEqual(good.map(() => null));
});

test("a fault says what is missing", () => {
  const wrong = [
    "",
    "alice",
    "mail:bob",
    "user:",
    "user:a b",
    `user:${"x".repeat(201)}`,
    "channel:wecom",
    "site:north",
  ];
  const faults = ["empty", "no_scheme", "no_scheme", "no_name", "blank", "blank", "channel", "site"];
  expect(wrong.map(addressFault)).toEqual(faults);
});
