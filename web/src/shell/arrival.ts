import { fieldInFragment } from "../hub/fragment";
import { keyInFragment } from "../hub/key";
import type { Shelf } from "../hub/shelf";

/** What the address that somebody opened is about. */
export type Arrival =
  | { about: "nothing" }
  | { about: "key"; key: string }
  | { about: "invitation"; token: string }
  | { about: "enrolment"; code: string }
  /** Back from the organisation's login, without one. */
  | { about: "login"; outcome: "refused" | "unreachable" };

export function arrivalBy(fragment: string): Arrival {
  const key = keyInFragment(fragment);
  if (key !== null) return { about: "key", key };
  const token = fieldInFragment(fragment, "invite");
  if (token !== null) return { about: "invitation", token };
  const code = fieldInFragment(fragment, "enrol");
  if (code !== null) return { about: "enrolment", code };
  const outcome = fieldInFragment(fragment, "login");
  if (outcome === "refused" || outcome === "unreachable") return { about: "login", outcome };
  return { about: "nothing" };
}

/** What was taken is no longer in the address bar, so that no secret is in the history, bookmarks or screenshots. */
export function takeArrival(shelf: Shelf): Arrival {
  const arrival = arrivalBy(window.location.hash);
  if (arrival.about === "key") shelf.put("key", arrival.key);
  if (arrival.about !== "nothing")
    window.history.replaceState(null, "", window.location.pathname + window.location.search);
  return arrival;
}
