import type { HubApi } from "../hub/api";
import { fieldsOf, textOr } from "../hub/problem";

/** How long a code counts, in seconds, as this page asks for. */
export const CODE_TTL_S = 600;

/** The rights that most devices need, by the device's name. */
export const USUAL_RIGHTS = {
  send: (name: string) => `send:message:device:${name}`,
  read: (name: string) => `read:message:device:${name}`,
  ask: () => "model:use:*",
} as const;
export type UsualRight = keyof typeof USUAL_RIGHTS;
export const USUAL_RIGHT_NAMES = Object.keys(USUAL_RIGHTS) as UsualRight[];

export function scopesFor(name: string, usual: readonly UsualRight[], more: string): string[] {
  const typed = more.split(/[\s,]+/).filter((scope) => scope !== "");
  return [...new Set([...usual.map((right) => USUAL_RIGHTS[right](name)), ...typed])];
}

/** The code, which the hub shows this once. Raises Problem. */
export async function inviteDevice(api: HubApi, name: string, scopes: readonly string[]): Promise<string> {
  const made = await api.json("api/devices/enrolments", { body: { name, scopes, ttl_s: CODE_TTL_S } });
  return textOr(fieldsOf(made)["code"], "");
}

/** A code out of an address is somebody's word: nothing but letters and digits goes into a command for a shell. */
export function isPossibleCode(code: string): boolean {
  return /^[A-Za-z0-9]{8,100}$/.test(code);
}

/** What is typed on the device. hub: the hub's address, without a slash at its end. */
export function joinCommand(code: string, hub: string): string {
  return `autoglm devices join ${code} --url ${hub}`;
}

/** The same as the terminal's QR code has. */
export function enrolmentLink(code: string, hub: string): string {
  return `${hub}/#enrol=${code}`;
}
