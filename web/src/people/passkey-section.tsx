import { useCallback, useId, useState, type SubmitEvent } from "react";
import type { HubApi } from "../hub/api";
import { useAct } from "../shell/act";
import { useAnswer } from "../shell/answer";
import { FailureNote } from "../shell/failure-note";
import { failureText } from "../text/failure";
import { useLanguage, useText } from "../text/language";
import { shortMoment } from "../text/moment";
import { addPasskey, browserOf, passkeysIn, removePasskey, type Passkey } from "./account";
import { FreshLogin } from "./fresh-login";
import { useHeld } from "./held";
import { canUsePasskeys } from "./passkey";
import { Section } from "./section";

/** The passkeys of whoever is logged in. To change them, the hub wants a login of the last minutes. */
export function PasskeySection({ api, name, isByProvider }: { api: HubApi; name: string; isByProvider: boolean }) {
  const text = useText();
  const [round, setRound] = useState(0);
  const ask = useCallback(() => api.json("api/me/passkeys").then(passkeysIn), [api, round]);
  const { answer, problem } = useAnswer(ask);
  const [isAdding, setAdding] = useState(false);
  const act = useAct();
  const held = useHeld(act);
  const change = (action: () => Promise<void>) =>
    held.change(async () => {
      await action();
      setAdding(false);
      setRound((now) => now + 1);
    });
  const canAdd = answer?.isOffered === true && canUsePasskeys();
  return (
    <Section title={text.passkeys}>
      {problem && <p className="hint bad">{failureText(problem, text)}</p>}
      <ul className="rows">
        {answer?.passkeys.map((passkey) => (
          <PasskeyRow
            key={passkey.handle}
            passkey={passkey}
            isBusy={act.isBusy}
            onRemove={() => {
              if (window.confirm(text.removePasskeyQuestion(passkey.label)))
                change(() => removePasskey(api, passkey.handle));
            }}
          />
        ))}
      </ul>
      {answer && !canAdd && <p className="hint">{text.noPasskeysHere}</p>}
      {answer && canAdd && answer.passkeys.length === 0 && <p className="hint">{text.passkeyIntro}</p>}
      <FailureNote act={act} />
      {held.isHeld && (
        <FreshLogin
          {...{ api, name, isByProvider }}
          hasPasskey={canAdd && answer.passkeys.length > 0}
          onDone={held.goOn}
          onCancel={held.drop}
        />
      )}
      {!held.isHeld && canAdd && isAdding && (
        <AddForm
          isBusy={act.isBusy}
          onAdd={(label) => change(() => addPasskey(api, label))}
          onCancel={() => setAdding(false)}
        />
      )}
      {!held.isHeld && canAdd && !isAdding && (
        <button type="button" className="outlined" onClick={() => setAdding(true)}>
          {text.addPasskey}
        </button>
      )}
    </Section>
  );
}

interface RowProps {
  passkey: Passkey;
  isBusy: boolean;
  onRemove: () => void;
}

function PasskeyRow({ passkey: { label, createdAt, usedAt, isBackedUp }, isBusy, onRemove }: RowProps) {
  const { text, tag } = useLanguage();
  const moment = (time: number) => shortMoment(time, Date.now(), tag);
  return (
    <li className="row">
      <div>
        <p>
          {label} {isBackedUp && <span className="chip">{text.backedUp}</span>}
        </p>
        <p className="hint">{usedAt === null ? text.addedAt(moment(createdAt)) : text.lastUsed(moment(usedAt))}</p>
      </div>
      <button
        type="button"
        className="quiet"
        disabled={isBusy}
        aria-label={text.removePasskey(label)}
        onClick={onRemove}
      >
        {text.removeShort}
      </button>
    </li>
  );
}

interface AddProps {
  isBusy: boolean;
  onAdd: (label: string) => void;
  onCancel: () => void;
}

function AddForm({ isBusy, onAdd, onCancel }: AddProps) {
  const text = useText();
  const [label, setLabel] = useState(() => browserOf(navigator.userAgent));
  const id = useId();
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    onAdd(label.trim());
  };
  return (
    <form className="stack inset" onSubmit={submit} aria-busy={isBusy}>
      <div className="labelled">
        <label htmlFor={id}>{text.passkeyLabel}</label>
        <input
          id={id}
          value={label}
          onChange={(event) => setLabel(event.target.value)}
          required
          maxLength={64}
          autoFocus
          autoComplete="off"
          aria-describedby={`${id}-hint`}
        />
        <p id={`${id}-hint`} className="hint">
          {text.passkeyLabelHint}
        </p>
      </div>
      <div className="buttons">
        <button type="submit" className="primary" disabled={isBusy || label.trim() === ""}>
          {isBusy ? text.oneMoment : text.addPasskey}
        </button>
        <button type="button" className="quiet" onClick={onCancel}>
          {text.cancel}
        </button>
      </div>
    </form>
  );
}
