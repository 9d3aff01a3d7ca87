import { useEffect, useMemo, useState } from "react";
import { HubApi, type Me } from "../hub/api";
import { waitBefore } from "../hub/backoff";
import { Problem, type Failure } from "../hub/problem";
import type { Shelf } from "../hub/shelf";
import { failureDetail, failureText } from "../text/failure";
import { useText } from "../text/language";
import { Console } from "./console";

interface Props {
  hubKey: string;
  shelf: Shelf;
  onUnauthorized: () => void;
  onForget: () => void;
}

/** Asks the hub who this key is, until it answers, and then opens the console. */
export function Gate({ hubKey, shelf, onUnauthorized, onForget }: Props) {
  const text = useText();
  const [me, setMe] = useState<Me | null>(null);
  const [failure, setFailure] = useState<Failure | null>(null);
  const api = useMemo(() => new HubApi(document.baseURI, hubKey, onUnauthorized), [hubKey, onUnauthorized]);

  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isOver = false;
    const ask = async (attempt: number) => {
      try {
        const found = await api.me();
        if (!isOver) setMe(found);
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        if (isOver || error.status === 401) return;
        setFailure(error);
        timer = setTimeout(() => void ask(attempt + 1), waitBefore(attempt));
      }
    };
    void ask(0);
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [api]);

  if (me) return <Console api={api} hubKey={hubKey} address={me.address} {...{ shelf, onUnauthorized, onForget }} />;
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
