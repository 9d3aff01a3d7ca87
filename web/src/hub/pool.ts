import { fieldsOf, numberOr, textOr } from "./problem";

export const INSTANCE_STATES = [
  "starting", "ready", "down", "blocked", "cooling", "draining", "drained", "idle", "asleep", "stopped",
] as const;
export type InstanceState = (typeof INSTANCE_STATES)[number];

/** They answer, some of them after a start. */
const ON_CALL: ReadonlySet<InstanceState> = new Set(["ready", "idle", "asleep"]);

export interface Instance {
  name: string;
  provider: string;
  models: string[];
  state: InstanceState;
  slots: number;
  running: number;
  waiting: number;
  error: string;
}

/** `unknown`: not asked yet, or the key may not ask. */
export type Readiness = "unknown" | "empty" | "starting" | "ready" | "down";

export function instancesIn(body: unknown): Instance[] {
  const list = fieldsOf(body)["instances"];
  return (Array.isArray(list) ? list : []).map((item) => {
    const { name, provider, models, state, slots, running, waiting, error } = fieldsOf(item);
    return {
      name: textOr(name, "?"),
      provider: textOr(provider, ""),
      models: Array.isArray(models) ? models.filter((model) => typeof model === "string") : [],
      state: INSTANCE_STATES.find((known) => known === state) ?? "down",
      slots: numberOr(slots, 0),
      running: numberOr(running, 0),
      waiting: numberOr(waiting, 0),
      error: textOr(error, ""),
    };
  });
}

/** Whether a question to `model` would be answered now; `auto` and unknown names may go anywhere. */
export function readinessFor(model: string, instances: readonly Instance[] | null): Readiness {
  if (instances === null) return "unknown";
  const serving = instances.filter((instance) => instance.models.includes(model));
  const able = serving.length > 0 ? serving : instances;
  if (able.length === 0) return "empty";
  if (able.some((instance) => ON_CALL.has(instance.state))) return "ready";
  return able.some((instance) => instance.state === "starting") ? "starting" : "down";
}
