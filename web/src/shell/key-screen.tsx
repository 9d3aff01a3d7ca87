import { useState, type SubmitEvent } from "react";
import { cleanKey, isPossibleKey } from "../hub/key";
import { useText } from "../text/language";
import { Logo } from "./logo";

interface Props {
  /** The hub did not accept the key that this page had. */
  isRefused: boolean;
  onKey: (key: string) => void;
  /** Null where nobody has a name and a password. */
  onUseName: (() => void) | null;
}

/** Asks for the key and says where it lies. */
export function KeyScreen({ isRefused, onKey, onUseName }: Props) {
  const text = useText();
  const [typed, setTyped] = useState("");
  const [fault, setFault] = useState("");
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const key = cleanKey(typed);
    if (isPossibleKey(key)) onKey(key);
    else setFault(key === "" ? text.keyMissing : text.keyImpossible);
  };
  const notice = fault || (isRefused ? text.keyRefused : "");
  return (
    <main className="welcome">
      <form className="card welcome-card" onSubmit={submit}>
        <Logo />
        <h1>{text.keyTitle}</h1>
        <p>{text.keyIntro}</p>
        <label htmlFor="key">{text.keyLabel}</label>
        <input
          id="key"
          type="password"
          value={typed}
          onChange={(event) => setTyped(event.target.value)}
          autoFocus
          autoComplete="current-password"
          spellCheck={false}
          placeholder="ag-…"
          aria-describedby="key-where key-notice"
          aria-invalid={notice !== ""}
        />
        <p id="key-notice" className="notice bad" role="alert">
          {notice}
        </p>
        <button type="submit" className="primary">
          {text.keySubmit}
        </button>
        {onUseName && (
          <button type="button" className="link" onClick={onUseName}>
            {text.useName}
          </button>
        )}
        <div id="key-where" className="hint">
          <p>{text.keyWhere}</p>
          <ul>
            <li>{text.keyWhereAddress}</li>
            <li>
              {text.keyWhereCommand} <code>autoglm console --print</code>
            </li>
            <li>{text.keyWhereFile}</li>
          </ul>
        </div>
      </form>
    </main>
  );
}
