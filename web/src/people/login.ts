import type { HubApi, Me } from "../hub/api";
import { fieldsOf, Problem } from "../hub/problem";
import { proofByPasskey } from "./passkey";

/** How one may log in here. */
export interface Ways {
  hasPasskey: boolean;
  hasOidc: boolean;
  /** Somebody has an account; else only the key opens the page. */
  hasPeople: boolean;
}

/** Whose this browser is, or how to log in where it is nobody's. */
export type Found = { me: Me } | { ways: Ways };

export function waysIn(body: unknown): Ways {
  const { passkey, oidc, has_people: hasPeople } = fieldsOf(body);
  return { hasPasskey: passkey === true, hasOidc: oidc === true, hasPeople: hasPeople === true };
}

/** Ask the hub who this is. stranger: for what needs no key, and would not get past a wrong one. Raises Problem for all
 * but a 401. */
export async function knock(api: HubApi, stranger: HubApi): Promise<Found> {
  try {
    return { me: await api.me() };
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 401) throw error;
    return { ways: waysIn(await stranger.json("api/login")) };
  }
}

/** The browser gets its session as a cookie that no script reads. Raises Problem, as all of these. */
export async function logIn(api: HubApi, name: string, password: string): Promise<void> {
  await api.json("api/login/password", { body: { name, password } });
}

export async function logInByPasskey(api: HubApi): Promise<void> {
  const options = await api.json("api/login/passkey/options", { body: {} });
  await api.json("api/login/passkey", { body: { answer: await proofByPasskey(options) } });
}

export async function logOut(api: HubApi): Promise<void> {
  await api.json("api/logout", { body: {} });
}
