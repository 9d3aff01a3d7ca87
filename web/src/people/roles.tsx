import { useText } from "../text/language";
import { ROLES, type Role } from "./people";

/** A role by its name in this language; a newer hub's role as the hub names it. */
function useRoleName(): (role: string) => string {
  const text = useText();
  return (role) => (text.roles as Record<string, string | undefined>)[role] ?? role;
}

export function RoleChips({ roles }: { roles: readonly string[] }) {
  const name = useRoleName();
  return (
    <span className="chips">
      {roles.map((role) => (
        <span key={role} className="chip">
          {name(role)}
        </span>
      ))}
    </span>
  );
}

interface Props {
  chosen: readonly string[];
  onChoose: (roles: string[]) => void;
}

export function RoleChoice({ chosen, onChoose }: Props) {
  const text = useText();
  const name = useRoleName();
  const toggle = (role: Role) =>
    onChoose(ROLES.filter((one) => (one === role ? !chosen.includes(one) : chosen.includes(one))));
  return (
    <fieldset className="checks">
      <legend>{text.rolesLabel}</legend>
      {ROLES.map((role) => (
        <label key={role}>
          <input type="checkbox" checked={chosen.includes(role)} onChange={() => toggle(role)} />
          <span>
            {name(role)} <span className="hint">{text.roleHints[role]}</span>
          </span>
        </label>
      ))}
    </fieldset>
  );
}
