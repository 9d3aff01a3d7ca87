import { readinessFor, type Instance } from "../hub/pool";
import type { Connection } from "../hub/socket";
import type { PoolView } from "../hub/watch";
import type { Texts } from "../text/en";
import { useText } from "../text/language";

interface Props {
  connection: Connection;
  pool: PoolView;
  address: string;
  onRetry: () => void;
}

type Level = "good" | "busy" | "bad";

/** One word for the state of everything, which opens into the connection and the instances. */
export function StatusPill({ connection, pool, address, onRetry }: Props) {
  const text = useText();
  const [level, words] = summary(connection, pool.instances, text);
  return (
    <>
      <button type="button" className="pill" popoverTarget="status" data-level={level}>
        <span className="dot" aria-hidden="true" />
        <span role="status">{words}</span>
      </button>
      <div id="status" popover="auto" className="popover" role="dialog" aria-label={text.status}>
        <dl className="facts">
          <dt>{text.connection}</dt>
          <dd>
            {text.connections[connection]}{" "}
            {connection === "waiting" && (
              <button type="button" className="link" onClick={onRetry}>
                {text.retryNow}
              </button>
            )}
          </dd>
          <dt>{text.yourAddress}</dt>
          <dd>
            <code>{address}</code>
          </dd>
        </dl>
        <h2>{text.instances}</h2>
        <Instances instances={pool.instances} />
      </div>
    </>
  );
}

function Instances({ instances }: { instances: Instance[] | null }) {
  const text = useText();
  if (instances === null) return <p className="hint">{text.instancesUnknown}</p>;
  if (instances.length === 0) return <p className="hint">{text.instancesNone}</p>;
  return (
    <ul className="instances">
      {instances.map((instance) => (
        <li key={instance.name}>
          <div className="instance-head">
            <strong>{instance.name}</strong>
            <span className="chip" data-level={levelOf(instance)}>
              {text.instanceStates[instance.state]}
            </span>
          </div>
          <p className="hint">{instance.models.join(", ")}</p>
          <p className="hint">{text.load(instance.running, instance.slots, instance.waiting)}</p>
          {instance.error && <p className="hint bad">{instance.error}</p>}
        </li>
      ))}
    </ul>
  );
}

function levelOf(instance: Instance): Level {
  if (instance.state === "ready") return "good";
  return instance.state === "starting" ? "busy" : "bad";
}

function summary(connection: Connection, instances: Instance[] | null, text: Texts): [Level, string] {
  if (connection === "waiting") return ["bad", text.reconnecting];
  if (connection === "connecting") return ["busy", text.connecting];
  switch (readinessFor("auto", instances)) {
    case "unknown":
      return ["good", text.online];
    case "empty":
      return ["bad", text.noModel];
    case "starting":
      return ["busy", text.modelStarting];
    case "down":
      return ["bad", text.modelsDown];
    case "ready": {
      const ready = (instances ?? []).filter((instance) => instance.state === "ready").length;
      return ["good", text.readyCount(ready, instances?.length ?? 0)];
    }
  }
}
