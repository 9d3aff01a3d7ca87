import { useId, useState, type SubmitEvent } from "react";
import type { HubApi } from "../hub/api";
import { useAct } from "../shell/act";
import { useSecondsUntil } from "../shell/countdown";
import { FailureNote } from "../shell/failure-note";
import { Logo } from "../shell/logo";
import { useText } from "../text/language";
import { logIn, logInByPasskey, type Ways } from "./login";
import { canUsePasskeys } from "./passkey";
import { PasswordField } from "./password-field";

/** `ended`: the session of whoever worked here; the others: what came of the organisation's login. */
export type LoginNotice = "ended" | "refused" | "unreachable";

interface Props {
  api: HubApi;
  ways: Ways;
  notice: LoginNotice | null;
  /** Who worked here until the session ended; null where nobody did. */
  formerName: string | null;
  onLoggedIn: () => void;
  onUseKey: () => void;
}

export function LoginScreen({ api, ways, notice, formerName, onLoggedIn, onUseKey }: Props) {
  const text = useText();
  const [name, setName] = useState(formerName ?? "");
  const [password, setPassword] = useState("");
  const [way, setWay] = useState<"password" | "passkey">("password");
  const act = useAct();
  const id = useId();
  const isHeld = useSecondsUntil(act.heldUntilMs) > 0;
  const isClosed = act.isBusy || isHeld;
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    if (isClosed) return;
    setWay("password");
    act.run(() => logIn(api, name.trim(), password).then(onLoggedIn));
  };
  const usePasskey = () => {
    setWay("passkey");
    act.run(() => logInByPasskey(api).then(onLoggedIn));
  };
  const isWrong = way === "password" && act.failure?.code === "login_refused";
  return (
    <main className="welcome">
      <form className="card welcome-card" onSubmit={submit} aria-busy={act.isBusy}>
        <Logo />
        <h1>{text.loginTitle}</h1>
        {notice && act.failure === null && (
          <p className={notice === "ended" ? "notice" : "notice bad"} role="alert">
            {text.loginNotices[notice]}
          </p>
        )}
        <div className="labelled">
          <label htmlFor={id}>{text.userName}</label>
          <input
            id={id}
            value={name}
            onChange={(event) => setName(event.target.value)}
            required
            autoFocus={formerName === null}
            data-first={formerName === null}
            autoComplete="username"
            autoCapitalize="none"
            spellCheck={false}
            aria-invalid={isWrong}
          />
        </div>
        <PasswordField
          label={text.password}
          value={password}
          onChange={setPassword}
          autoComplete="current-password"
          autoFocus={formerName !== null}
          isWrong={isWrong}
        />
        <FailureNote
          act={act}
          words={{ login_refused: way === "password" ? text.loginRefused : text.passkeyRefused }}
        />
        <button type="submit" className="primary" disabled={isClosed}>
          {act.isBusy ? text.oneMoment : text.logIn}
        </button>
        {ways.hasPasskey && canUsePasskeys() && (
          <button type="button" className="outlined" disabled={isClosed} onClick={usePasskey}>
            {text.usePasskey}
          </button>
        )}
        {ways.hasOidc && (
          // Beside a page with something typed in it, in a tab of its own: this one then goes on by itself.
          <a className="button outlined" href="api/login/oidc" {...(formerName !== null && ASIDE)}>
            {text.useOrganisation}
          </a>
        )}
        <button type="button" className="link" onClick={onUseKey}>
          {text.useKey}
        </button>
      </form>
    </main>
  );
}

const ASIDE = { target: "_blank", rel: "noopener" };
