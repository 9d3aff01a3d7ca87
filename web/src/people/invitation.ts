import type { HubApi } from "../hub/api";
import { fieldsOf, numberOr, textOr, textsIn } from "../hub/problem";

/** A link by which somebody gets an account, or a new password. */
export interface Invitation {
  name: string;
  roles: string[];
  isReset: boolean;
  /** Milliseconds of the Unix epoch, by the hub's clock. */
  endsAt: number;
}

export function invitationIn(body: unknown): Invitation {
  const { name, roles, is_reset: isReset, ends_at: endsAt } = fieldsOf(body);
  return { name: textOr(name, ""), roles: textsIn(roles), isReset: isReset === true, endsAt: numberOr(endsAt, 0) };
}

export async function lookAtInvitation(api: HubApi, token: string): Promise<Invitation> {
  return invitationIn(await api.json("api/login/invitation/look", { body: { token } }));
}

/** The browser is logged in afterwards. */
export async function acceptInvitation(api: HubApi, token: string, password: string): Promise<void> {
  await api.json("api/login/invitation", { body: { token, password } });
}
