import type { Failure } from "../hub/problem";
import { failureDetail, failureText } from "../text/failure";
import { useText } from "../text/language";

/** While the hub has not answered. */
export function Waiting({ failure }: { failure: Failure | null }) {
  const text = useText();
  return (
    <main className="welcome" aria-busy="true">
      <div className="card welcome-card" role="status">
        <h1>{failure ? text.hubAway : text.connecting}</h1>
        {failure && <p>{failureText(failure, text)}</p>}
        {failure && <p className="hint">{failureDetail(failure, text)}</p>}
      </div>
    </main>
  );
}
