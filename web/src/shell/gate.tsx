import { useCallback, useEffect } from "react";
import type { HubApi } from "../hub/api";
import { knock, type Found } from "../people/login";
import { useAnswer } from "./answer";
import { Waiting } from "./waiting";

interface Props {
  api: HubApi;
  stranger: HubApi;
  onFound: (found: Found) => void;
}

/** Asks the hub whose this browser is, until it answers. */
export function Gate({ api, stranger, onFound }: Props) {
  const { answer, problem } = useAnswer(useCallback(() => knock(api, stranger), [api, stranger]));
  useEffect(() => {
    if (answer) onFound(answer);
  }, [answer, onFound]);
  return <Waiting failure={problem} />;
}
