import type { Failure } from "../hub/problem";
import { failureDetail, failureText } from "../text/failure";
import { useText } from "../text/language";
import type { Act } from "./act";
import { useSecondsUntil } from "./countdown";

interface Props {
  act: Act;
  /** What a code means here, where the page's usual sentence for it would say too little. */
  words?: Readonly<Record<string, string>>;
}

/** What went wrong with the last try, and how long to wait where the hub said so. */
export function FailureNote({ act: { failure, heldUntilMs }, words = {} }: Props) {
  if (failure === null) return null;
  return (
    <div className="notice bad">
      <Words failure={failure} said={words[failure.code]} />
      <Wait untilMs={heldUntilMs} />
    </div>
  );
}

/** The hub's own sentence for these adds nothing. */
const SAYS_ALL = new Set(["login_refused", "login_throttled", "session_ended"]);

function Words({ failure, said }: { failure: Failure; said: string | undefined }) {
  const text = useText();
  const detail = SAYS_ALL.has(failure.code) ? "" : failureDetail(failure, text);
  return (
    <div role="alert">
      <p>{said ?? failureText(failure, text)}</p>
      {detail && <p className="hint">{detail}</p>}
    </div>
  );
}

/** Outside the alert, which would read out each second. */
function Wait({ untilMs }: { untilMs: number }) {
  const text = useText();
  const seconds = useSecondsUntil(untilMs);
  if (seconds === 0) return null;
  return <p role="timer">{text.tryAgainIn(text.duration(Math.floor(seconds / 60), seconds % 60))}</p>;
}
