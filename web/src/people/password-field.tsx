import { useId, useState, type ReactNode } from "react";
import { useText } from "../text/language";

interface Props {
  label: string;
  value: string;
  onChange: (value: string) => void;
  /** By the standard's names, so that password managers know what to do. */
  autoComplete: "current-password" | "new-password";
  autoFocus?: boolean;
  isWrong?: boolean;
  hint?: ReactNode;
}

/** A password that can be looked at while it is typed: safer than typing it twice. */
export function PasswordField({ label, value, onChange, autoComplete, autoFocus, isWrong, hint }: Props) {
  const text = useText();
  const [isShown, setShown] = useState(false);
  const id = useId();
  return (
    <div className="labelled">
      <label htmlFor={id}>{label}</label>
      <div className="revealing">
        <input
          id={id}
          type={isShown ? "text" : "password"}
          value={value}
          onChange={(event) => onChange(event.target.value)}
          required
          autoFocus={autoFocus}
          data-first={autoFocus}
          autoComplete={autoComplete}
          autoCapitalize="none"
          spellCheck={false}
          aria-invalid={isWrong}
          aria-describedby={hint ? `${id}-hint` : undefined}
        />
        <button type="button" className="quiet" aria-pressed={isShown} onClick={() => setShown(!isShown)}>
          {text.showPassword}
        </button>
      </div>
      {hint && (
        <p id={`${id}-hint`} className="hint">
          {hint}
        </p>
      )}
    </div>
  );
}
