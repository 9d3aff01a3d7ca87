import { useId, useState, type SubmitEvent } from "react";
import type { HubApi } from "../hub/api";
import { hubAddress } from "../hub/place";
import { useAct } from "../shell/act";
import { CopyBox } from "../shell/copy-box";
import { useSecondsUntil } from "../shell/countdown";
import { FailureNote } from "../shell/failure-note";
import { QrCode } from "../shell/qr-code";
import { Sheet } from "../shell/sheet";
import { useText } from "../text/language";
import {
  CODE_TTL_S,
  enrolmentLink,
  inviteDevice,
  joinCommand,
  scopesFor,
  USUAL_RIGHT_NAMES,
  type UsualRight,
} from "./enrolment";

interface Made {
  name: string;
  code: string;
  /** By this browser's clock, so that a wrong one does no harm. */
  endsAtMs: number;
}

/** Makes the code by which a device gets its name and its rights. */
export function EnrolSheet({ api, onClose }: { api: HubApi; onClose: () => void }) {
  const text = useText();
  const [made, setMade] = useState<Made | null>(null);
  return (
    <Sheet title={text.enrolDevice} onClose={onClose}>
      {made === null ? <DeviceForm api={api} onMade={setMade} /> : <Code made={made} onAgain={() => setMade(null)} />}
    </Sheet>
  );
}

function DeviceForm({ api, onMade }: { api: HubApi; onMade: (made: Made) => void }) {
  const text = useText();
  const [name, setName] = useState("");
  const [usual, setUsual] = useState<readonly UsualRight[]>(["send", "read"]);
  const [more, setMore] = useState("");
  const act = useAct();
  const id = useId();
  const scopes = scopesFor(name.trim(), usual, more);
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    act.run(async () => {
      const endsAtMs = Date.now() + CODE_TTL_S * 1_000;
      onMade({ name: name.trim(), code: await inviteDevice(api, name.trim(), scopes), endsAtMs });
    });
  };
  const toggle = (right: UsualRight) =>
    setUsual(usual.includes(right) ? usual.filter((one) => one !== right) : [...usual, right]);
  return (
    <form className="stack" onSubmit={submit} aria-busy={act.isBusy}>
      <p className="hint">{text.enrolDeviceIntro}</p>
      <div className="labelled">
        <label htmlFor={id}>{text.deviceName}</label>
        <input
          id={id}
          value={name}
          onChange={(event) => setName(event.target.value)}
          required
          maxLength={64}
          autoFocus
          data-first="true"
          autoComplete="off"
          autoCapitalize="none"
          spellCheck={false}
          placeholder="press-7"
        />
      </div>
      <fieldset className="checks">
        <legend>{text.deviceRights}</legend>
        {USUAL_RIGHT_NAMES.map((right) => (
          <label key={right}>
            <input type="checkbox" checked={usual.includes(right)} onChange={() => toggle(right)} />
            <span>{text.usualRights[right]}</span>
          </label>
        ))}
      </fieldset>
      <div className="labelled">
        <label htmlFor={`${id}-more`}>{text.moreRights}</label>
        <input
          id={`${id}-more`}
          value={more}
          onChange={(event) => setMore(event.target.value)}
          autoComplete="off"
          autoCapitalize="none"
          spellCheck={false}
          placeholder="publish:topic:plant/press-7/*"
          aria-describedby={`${id}-hint`}
        />
        <p id={`${id}-hint`} className="hint">
          {text.moreRightsHint}
        </p>
      </div>
      <FailureNote act={act} />
      <button type="submit" className="primary" disabled={act.isBusy || scopes.length === 0 || name.trim() === ""}>
        {text.makeCode}
      </button>
    </form>
  );
}

function Code({ made: { name, code, endsAtMs }, onAgain }: { made: Made; onAgain: () => void }) {
  const text = useText();
  const seconds = useSecondsUntil(endsAtMs);
  const hub = hubAddress();
  if (seconds === 0)
    return (
      <div className="stack">
        <p className="notice bad" role="alert">
          {text.codeEnded}
        </p>
        <button type="button" className="primary" autoFocus onClick={onAgain}>
          {text.anotherCode}
        </button>
      </div>
    );
  return (
    <div className="stack">
      <p>{text.codeIntro(name)}</p>
      <QrCode content={enrolmentLink(code, hub)} label={text.codeAsPicture} />
      <CopyBox content={code} label={text.code} />
      <p>{text.codeCommand}</p>
      <CopyBox content={joinCommand(code, hub)} label={text.command} />
      <p className="hint" role="timer">
        {text.codeEnds(text.duration(Math.floor(seconds / 60), seconds % 60))}
      </p>
      <button type="button" className="outlined" onClick={onAgain}>
        {text.anotherDevice}
      </button>
    </div>
  );
}
