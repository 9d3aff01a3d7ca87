import { hubAddress } from "../hub/place";
import { CopyBox } from "../shell/copy-box";
import { Logo } from "../shell/logo";
import { useText } from "../text/language";
import { isPossibleCode, joinCommand } from "./enrolment";

/** Somebody opened the QR code of a device. The code stays unused: it is the device's, not the browser's. */
export function EnrolmentScreen({ code, onLeave }: { code: string; onLeave: () => void }) {
  const text = useText();
  return (
    <main className="welcome">
      <div className="card welcome-card">
        <Logo />
        <h1>{text.enrolmentTitle}</h1>
        {isPossibleCode(code) ? <Command code={code} /> : <p className="notice bad">{text.noCode}</p>}
        <button type="button" className="link" onClick={onLeave}>
          {text.toConsole}
        </button>
      </div>
    </main>
  );
}

function Command({ code }: { code: string }) {
  const text = useText();
  const command = joinCommand(code, hubAddress());
  return (
    <>
      <p>{text.enrolmentIntro}</p>
      <CopyBox content={command} label={text.command} />
      <p className="hint">{text.enrolmentHint}</p>
    </>
  );
}
