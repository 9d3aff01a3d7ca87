import { useCallback, useState, type SubmitEvent } from "react";
import type { HubApi, Me } from "../hub/api";
import { useAct } from "../shell/act";
import { useAnswer } from "../shell/answer";
import { FailureNote } from "../shell/failure-note";
import { Sheet } from "../shell/sheet";
import { failureText } from "../text/failure";
import { useLanguage, useText } from "../text/language";
import { shortMoment } from "../text/moment";
import { browserOf, changePassword, endSession, nameOf, sessionsIn, type Session } from "./account";
import { FreshLogin } from "./fresh-login";
import { useHeld } from "./held";
import { PasskeySection } from "./passkey-section";
import { PasswordField } from "./password-field";
import { RoleChips } from "./roles";
import { Section } from "./section";

interface Props {
  api: HubApi;
  me: Me;
  onClose: () => void;
}

/** Who is logged in, and what proves it. */
export function AccountSheet({ api, me, onClose }: Props) {
  const text = useText();
  const name = nameOf(me);
  const isByProvider = me.session?.method === "oidc";
  return (
    <Sheet title={text.account} onClose={onClose}>
      <div className="who">
        <strong>{name}</strong>
        <RoleChips roles={me.session?.roles ?? []} />
      </div>
      {!isByProvider && <PasswordSection api={api} name={name} />}
      <PasskeySection {...{ api, name, isByProvider }} />
      <SessionSection {...{ api, name, isByProvider }} />
    </Sheet>
  );
}

function PasswordSection({ api, name }: { api: HubApi; name: string }) {
  const text = useText();
  const [state, setState] = useState<"closed" | "open" | "done">("closed");
  const [current, setCurrent] = useState("");
  const [fresh, setFresh] = useState("");
  const act = useAct();
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    act.run(async () => {
      await changePassword(api, current, fresh);
      setState("done");
      setCurrent("");
      setFresh("");
    });
  };
  return (
    <Section title={text.password}>
      {state === "done" && (
        <p className="notice good" role="status">
          {text.passwordChanged}
        </p>
      )}
      {state !== "open" && (
        <button type="button" className="outlined" onClick={() => setState("open")}>
          {text.changePassword}
        </button>
      )}
      {state === "open" && (
        <form className="stack inset" onSubmit={submit} aria-busy={act.isBusy}>
          <input
            className="visually-hidden"
            value={name}
            readOnly
            tabIndex={-1}
            aria-hidden="true"
            autoComplete="username"
          />
          <PasswordField
            label={text.currentPassword}
            value={current}
            onChange={setCurrent}
            autoComplete="current-password"
            autoFocus
            isWrong={act.failure?.code === "login_refused"}
          />
          <PasswordField
            label={text.newPassword}
            value={fresh}
            onChange={setFresh}
            autoComplete="new-password"
            isWrong={act.failure?.code === "invalid_field"}
            hint={text.passwordHint}
          />
          <FailureNote act={act} words={{ login_refused: text.currentRefused, invalid_field: text.passwordRefused }} />
          <div className="buttons">
            <button type="submit" className="primary" disabled={act.isBusy}>
              {text.changePassword}
            </button>
            <button type="button" className="quiet" onClick={() => setState("closed")}>
              {text.cancel}
            </button>
          </div>
        </form>
      )}
    </Section>
  );
}

function SessionSection({ api, name, isByProvider }: { api: HubApi; name: string; isByProvider: boolean }) {
  const text = useText();
  const [round, setRound] = useState(0);
  const ask = useCallback(() => api.json("api/me/sessions").then(sessionsIn), [api, round]);
  const { answer, problem } = useAnswer(ask);
  const act = useAct();
  const held = useHeld(act);
  const others = (answer ?? []).filter(({ isThis }) => !isThis);
  const end = (ended: readonly Session[]) =>
    held.change(async () => {
      for (const { handle } of ended) await endSession(api, handle);
      setRound(round + 1);
    });
  return (
    <Section title={text.sessions}>
      {problem && <p className="hint bad">{failureText(problem, text)}</p>}
      <ul className="rows">
        {answer?.map((session) => (
          <SessionRow key={session.handle} session={session} isBusy={act.isBusy} onEnd={() => end([session])} />
        ))}
      </ul>
      <FailureNote act={act} />
      {held.isHeld && (
        <FreshLogin {...{ api, name, isByProvider }} hasPasskey onDone={held.goOn} onCancel={held.drop} />
      )}
      {others.length > 1 && (
        <button type="button" className="outlined" disabled={act.isBusy} onClick={() => end(others)}>
          {text.endOthers}
        </button>
      )}
    </Section>
  );
}

function SessionRow({ session, isBusy, onEnd }: { session: Session; isBusy: boolean; onEnd: () => void }) {
  const { text, tag } = useLanguage();
  const name = browserOf(session.agent) || text.unknownBrowser;
  return (
    <li className="row">
      <div>
        <p>
          {name} {session.isThis && <span className="chip">{text.thisBrowser}</span>}
        </p>
        <p className="hint">
          {session.client} · {text.lastSeen(shortMoment(session.seenAt, Date.now(), tag))}
        </p>
      </div>
      {!session.isThis && (
        <button type="button" className="quiet" disabled={isBusy} aria-label={text.endSession(name)} onClick={onEnd}>
          {text.end}
        </button>
      )}
    </li>
  );
}
