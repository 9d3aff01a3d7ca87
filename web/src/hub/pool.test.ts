import { describe, expect, test } from "vitest";
import { instancesIn, readinessFor, type InstanceState } from "./pool";

function pool(...states: [string, InstanceState][]) {
  return instancesIn({
    instances: states.map(([model, state], index) => ({ name: `i${index}`, models: [model], state })),
  });
}

describe("readinessFor", () => {
  test("counts only the instances that serve the model", () => {
    const instances = pool(["small", "starting"], ["large", "ready"], ["huge", "cooling"]);
    expect(readinessFor("small", instances)).toBe("starting");
    expect(readinessFor("large", instances)).toBe("ready");
    expect(readinessFor("huge", instances)).toBe("down");
    expect(readinessFor("auto", instances)).toBe("ready");
  });

  test("counts what starts or wakes when asked as ready, and what was stopped as down", () => {
    const instances = pool(["small", "idle"], ["large", "asleep"], ["huge", "stopped"], ["old", "draining"]);
    expect(["small", "large", "huge", "old"].map((model) => readinessFor(model, instances))).toEqual([
      "ready", "ready", "down", "down",
    ]);
  });

  test("knows nothing before the first answer, and of an empty pool that it is empty", () => {
    expect(readinessFor("auto", null)).toBe("unknown");
    expect(readinessFor("auto", instancesIn({}))).toBe("empty");
  });
});
