import type { HubApi, Me } from "../hub/api";
import { fieldsOf, numberOr, textOr } from "../hub/problem";
import { freshPasskey } from "./passkey";

/** As the person types it when logging in. */
export function nameOf({ address, principal }: Me): string {
  return address.startsWith("user:") ? address.slice("user:".length) : principal;
}

export interface Passkey {
  handle: string;
  label: string;
  /** Kept by the maker of the browser or the phone, so that a lost device does not lose it. */
  isBackedUp: boolean;
  /** Milliseconds of the Unix epoch, as in the next; null for one that was not used yet. */
  createdAt: number;
  usedAt: number | null;
}

export interface Session {
  handle: string;
  seenAt: number;
  /** The address it came from. */
  client: string;
  agent: string;
  /** Of this very browser. */
  isThis: boolean;
}

export interface Passkeys {
  passkeys: Passkey[];
  /** Whether the hub takes passkeys at this address. */
  isOffered: boolean;
}

export function passkeysIn(body: unknown): Passkeys {
  const { passkeys, is_offered: isOffered } = fieldsOf(body);
  return { passkeys: listOf(passkeys).map(passkeyIn), isOffered: isOffered === true };
}

function passkeyIn(fields: Record<string, unknown>): Passkey {
  return {
    handle: textOr(fields["handle"], ""),
    label: textOr(fields["label"], ""),
    isBackedUp: fields["is_backed_up"] === true,
    createdAt: numberOr(fields["created_at"], 0),
    usedAt: numberOr(fields["used_at"], null),
  };
}

/** This browser's comes first, then the one that was seen last. */
export function sessionsIn(body: unknown): Session[] {
  const found = listOf(fieldsOf(body)["sessions"]).map(
    (fields): Session => ({
      handle: textOr(fields["handle"], ""),
      seenAt: numberOr(fields["seen_at"], 0),
      client: textOr(fields["client"], ""),
      agent: textOr(fields["agent"], ""),
      isThis: fields["is_this"] === true,
    }),
  );
  return found.sort((one, other) => Number(other.isThis) - Number(one.isThis) || other.seenAt - one.seenAt);
}

export function listOf(value: unknown): Record<string, unknown>[] {
  return (Array.isArray(value) ? value : []).map(fieldsOf);
}

const BROWSERS: readonly [RegExp, string][] = [
  [/\bEdgA?\//, "Edge"],
  [/\b(?:OPR|Opera)\//, "Opera"],
  [/\b(?:Firefox|FxiOS)\//, "Firefox"],
  [/\b(?:Headless)?Chrom(?:e|ium)\/|\bCriOS\//, "Chrome"],
  [/\bSafari\//, "Safari"],
];
const SYSTEMS: readonly [RegExp, string][] = [
  [/\biPhone\b/, "iPhone"],
  [/\biPad\b/, "iPad"],
  [/\bAndroid\b/, "Android"],
  [/\bWindows\b/, "Windows"],
  [/\bMac OS X\b/, "macOS"],
  [/\bCrOS\b/, "ChromeOS"],
  [/\bLinux\b/, "Linux"],
];

/** `Firefox · Windows`, out of a User-Agent; its beginning for a program that is none of the known browsers. */
export function browserOf(agent: string): string {
  const named = (all: readonly [RegExp, string][]) => all.find(([pattern]) => pattern.test(agent))?.[1];
  const [browser, system] = [named(BROWSERS), named(SYSTEMS)];
  return [browser ?? agent.slice(0, 40), browser && system].filter(Boolean).join(" · ");
}

/** All of these raise Problem; its code is `fresh_login_wanted` where the login is too old for that. */
export async function changePassword(api: HubApi, current: string, fresh: string): Promise<void> {
  await api.json("api/me/password", { body: { current, new: fresh } });
}

export async function addPasskey(api: HubApi, label: string): Promise<void> {
  const options = await api.json("api/me/passkeys/options", { body: {} });
  await api.json("api/me/passkeys", { body: { answer: await freshPasskey(options), label } });
}

export async function removePasskey(api: HubApi, handle: string): Promise<void> {
  await api.json(`api/me/passkeys/${encodeURIComponent(handle)}`, { method: "DELETE" });
}

export async function endSession(api: HubApi, handle: string): Promise<void> {
  await api.json(`api/me/sessions/${encodeURIComponent(handle)}`, { method: "DELETE" });
}
