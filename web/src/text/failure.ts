import type { Failure } from "../hub/problem";
import type { Texts } from "./en";

/** A sentence for a person. The hub's own sentence follows where the code says too little by itself. */
export function failureText(failure: Failure, text: Texts): string {
  const known = (text.failures as Record<string, string | undefined>)[failure.code];
  return known ?? (failure.detail || text.failures.unknown);
}

/** The hub's own sentence, which names the value that failed; empty when it would only repeat `failureText`. */
export function failureDetail(failure: Failure, text: Texts): string {
  return failure.detail === failureText(failure, text) ? "" : failure.detail;
}
