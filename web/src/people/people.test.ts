import { expect, test } from "vitest";
import { invitationsIn, mayAdminister, peopleIn } from "./people";

test("people and invitations are read as the hub tells of them", () => {
  const alice = { name: "alice", roles: ["admin"], is_disabled: true, has_password: true, passkeys: 2, sessions: 1 };
  expect(peopleIn({ people: [alice] })).toEqual([
    { name: "alice", roles: ["admin"], isDisabled: true, hasPassword: true, passkeys: 2, sessions: 1 },
  ]);
  const open = { handle: "h", name: "bob", roles: ["member"], is_reset: true, made_by: "user:alice", ends_at: 7 };
  expect(invitationsIn({ invitations: [open] })).toEqual([
    { handle: "h", name: "bob", roles: ["member"], isReset: true, endsAt: 7 },
  ]);
});

test("an area is administered by its own scope, or by the one for all", () => {
  expect(mayAdminister(["admin:people"], "people")).toBe(true);
  expect(mayAdminister(["admin:*"], "people")).toBe(true);
  for (const scopes of [[], ["admin:devices"], ["admin"], ["read:message:user:admin:people"]])
    expect(mayAdminister(scopes, "people")).toBe(false);
});
