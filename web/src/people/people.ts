import type { HubApi } from "../hub/api";
import { fieldsOf, numberOr, textOr, textsIn } from "../hub/problem";
import { listOf } from "./account";
import { invitationIn, type Invitation } from "./invitation";

export const ROLES = ["admin", "operator", "auditor", "member", "observer"] as const;
export type Role = (typeof ROLES)[number];

export interface Person {
  name: string;
  roles: string[];
  isDisabled: boolean;
  hasPassword: boolean;
  /** How many. */
  passkeys: number;
  sessions: number;
}

export interface OpenInvitation extends Invitation {
  handle: string;
}

/** With the secret, which the hub shows this once. */
export interface FreshInvitation extends Invitation {
  token: string;
}

export interface People {
  people: Person[];
  invitations: OpenInvitation[];
}

export function peopleIn(body: unknown): Person[] {
  return listOf(fieldsOf(body)["people"]).map((fields) => ({
    name: textOr(fields["name"], ""),
    roles: textsIn(fields["roles"]),
    isDisabled: fields["is_disabled"] === true,
    hasPassword: fields["has_password"] === true,
    passkeys: numberOr(fields["passkeys"], 0),
    sessions: numberOr(fields["sessions"], 0),
  }));
}

export function invitationsIn(body: unknown): OpenInvitation[] {
  return listOf(fieldsOf(body)["invitations"]).map((fields) => ({
    ...invitationIn(fields),
    handle: textOr(fields["handle"], ""),
  }));
}

export async function allPeople(api: HubApi): Promise<People> {
  const [people, invitations] = await Promise.all([api.json("api/people"), api.json("api/invitations")]);
  return { people: peopleIn(people), invitations: invitationsIn(invitations) };
}

export async function invite(api: HubApi, name: string, roles: readonly string[]): Promise<FreshInvitation> {
  return freshInvitationIn(await api.json("api/invitations", { body: { name, roles } }));
}

/** A link for somebody who cannot log in any more. */
export async function resetLink(api: HubApi, name: string): Promise<FreshInvitation> {
  return freshInvitationIn(await api.json(`${placeOf(name)}/reset`, { body: {} }));
}

function freshInvitationIn(body: unknown): FreshInvitation {
  const { token, invitation } = fieldsOf(body);
  return { ...invitationIn(invitation), token: textOr(token, "") };
}

export async function withdraw(api: HubApi, handle: string): Promise<void> {
  await api.json(`api/invitations/${encodeURIComponent(handle)}`, { method: "DELETE" });
}

export async function changePerson(
  api: HubApi,
  name: string,
  change: { roles: string[] } | { is_disabled: boolean },
): Promise<void> {
  await api.json(placeOf(name), { method: "PATCH", body: change });
}

export async function endSessions(api: HubApi, name: string): Promise<void> {
  await api.json(`${placeOf(name)}/sessions`, { method: "DELETE" });
}

export async function removePerson(api: HubApi, name: string): Promise<void> {
  await api.json(placeOf(name), { method: "DELETE" });
}

function placeOf(name: string): string {
  return `api/people/${encodeURIComponent(name)}`;
}

/** Whether these scopes administer an area such as `people`. */
export function mayAdminister(scopes: readonly string[], area: string): boolean {
  return scopes.includes("admin:*") || scopes.includes(`admin:${area}`);
}
