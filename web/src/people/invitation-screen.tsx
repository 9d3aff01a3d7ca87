import { useCallback, useId, useState, type SubmitEvent } from "react";
import type { HubApi } from "../hub/api";
import { Problem } from "../hub/problem";
import { useAct } from "../shell/act";
import { useAnswer } from "../shell/answer";
import { useSecondsUntil } from "../shell/countdown";
import { FailureNote } from "../shell/failure-note";
import { Logo } from "../shell/logo";
import { Waiting } from "../shell/waiting";
import { useText } from "../text/language";
import { acceptInvitation, lookAtInvitation, type Invitation } from "./invitation";
import { PasswordField } from "./password-field";

interface Props {
  api: HubApi;
  token: string;
  onLoggedIn: () => void;
  /** Go on without it. */
  onLeave: () => void;
}

/** Somebody followed a link that gives an account, or a new password. */
export function InvitationScreen({ api, token, onLoggedIn, onLeave }: Props) {
  const { answer, problem } = useAnswer(useCallback(() => lookAtInvitation(api, token), [api, token]));
  const [hasEnded, setEnded] = useState(false);
  if (hasEnded || (problem && !problem.isPassing)) return <VoidLink onLeave={onLeave} />;
  if (answer === null) return <Waiting failure={problem} />;
  return <ChoosePassword {...{ api, token, onLoggedIn, onLeave }} invitation={answer} onVoid={() => setEnded(true)} />;
}

function ChoosePassword({
  api,
  token,
  invitation: { name, isReset },
  onLoggedIn,
  onLeave,
  onVoid,
}: Props & { invitation: Invitation; onVoid: () => void }) {
  const text = useText();
  const [password, setPassword] = useState("");
  const act = useAct();
  const id = useId();
  const isClosed = useSecondsUntil(act.heldUntilMs) > 0 || act.isBusy;
  const accept = async () => {
    try {
      await acceptInvitation(api, token, password);
    } catch (error) {
      // Somebody else was faster, or its time ran out while the password was chosen.
      if (error instanceof Problem && error.code === "login_refused") return onVoid();
      throw error;
    }
    onLoggedIn();
  };
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    if (!isClosed) act.run(accept);
  };
  return (
    <main className="welcome">
      <form className="card welcome-card" onSubmit={submit} aria-busy={act.isBusy}>
        <Logo />
        <h1>{isReset ? text.resetTitle : text.invitationTitle}</h1>
        <p>{isReset ? text.resetIntro : text.invitationIntro}</p>
        <div className="labelled">
          <label htmlFor={id}>{text.userName}</label>
          <input id={id} value={name} readOnly autoComplete="username" />
        </div>
        <PasswordField
          label={text.newPassword}
          value={password}
          onChange={setPassword}
          autoComplete="new-password"
          autoFocus
          isWrong={act.failure?.code === "invalid_field"}
          hint={text.passwordHint}
        />
        <FailureNote act={act} words={{ invalid_field: text.passwordRefused }} />
        <button type="submit" className="primary" disabled={isClosed}>
          {act.isBusy ? text.oneMoment : text.setPassword}
        </button>
        <button type="button" className="link" onClick={onLeave}>
          {text.notNow}
        </button>
      </form>
    </main>
  );
}

function VoidLink({ onLeave }: { onLeave: () => void }) {
  const text = useText();
  return (
    <main className="welcome">
      <div className="card welcome-card" role="alert">
        <Logo />
        <h1>{text.voidLinkTitle}</h1>
        <p>{text.voidLinkHint}</p>
        <button type="button" className="primary" autoFocus onClick={onLeave}>
          {text.goOn}
        </button>
      </div>
    </main>
  );
}
