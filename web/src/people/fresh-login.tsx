import { useState, type SubmitEvent } from "react";
import type { HubApi } from "../hub/api";
import { useAct } from "../shell/act";
import { useSecondsUntil } from "../shell/countdown";
import { FailureNote } from "../shell/failure-note";
import { useText } from "../text/language";
import { logIn, logInByPasskey } from "./login";
import { canUsePasskeys } from "./passkey";
import { PasswordField } from "./password-field";

interface Props {
  api: HubApi;
  name: string;
  hasPasskey: boolean;
  /** Logs in at a provider, and may have no password here. */
  isByProvider: boolean;
  onDone: () => void;
  onCancel: () => void;
}

/** The login is too old for what somebody wants to change: they prove again that it is them, and it goes on. */
export function FreshLogin({ api, name, hasPasskey, isByProvider, onDone, onCancel }: Props) {
  const text = useText();
  const [password, setPassword] = useState("");
  const act = useAct();
  const isClosed = useSecondsUntil(act.heldUntilMs) > 0 || act.isBusy;
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    if (!isClosed) act.run(() => logIn(api, name, password).then(onDone));
  };
  return (
    <form className="stack inset" onSubmit={submit} aria-label={text.freshLogin} aria-busy={act.isBusy}>
      <p>{text.freshLogin}</p>
      <input className="visually-hidden" value={name} readOnly tabIndex={-1} aria-hidden="true" autoComplete="username" />
      <PasswordField
        label={text.password}
        value={password}
        onChange={setPassword}
        autoComplete="current-password"
        autoFocus
        isWrong={act.failure?.code === "login_refused"}
      />
      <FailureNote act={act} words={{ login_refused: text.proofRefused }} />
      <div className="buttons">
        <button type="submit" className="primary" disabled={isClosed}>
          {text.confirm}
        </button>
        {hasPasskey && canUsePasskeys() && (
          <button
            type="button"
            className="outlined"
            disabled={isClosed}
            onClick={() => act.run(() => logInByPasskey(api).then(onDone))}
          >
            {text.usePasskey}
          </button>
        )}
        {isByProvider && (
          <a className="button outlined" href="api/login/oidc?fresh=1">
            {text.useOrganisation}
          </a>
        )}
        <button type="button" className="quiet" onClick={onCancel}>
          {text.cancel}
        </button>
      </div>
    </form>
  );
}
