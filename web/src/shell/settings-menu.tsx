import { useState } from "react";
import type { Shelf } from "../hub/shelf";
import { keptTheme, THEMES, wear, type Theme } from "../look/theme";
import { PushSetting } from "../push/push-setting";
import type { PushSwitch } from "../push/push-switch";
import { useLanguage } from "../text/language";
import type { Language } from "../text/preferred";
import { Icon } from "./icons";

const LANGUAGES: readonly [Language, string][] = [
  ["zh", "中文"],
  ["en", "English"],
];

interface Props {
  shelf: Shelf;
  /** Absent where nobody has signed in. */
  push?: PushSwitch;
  /** Absent where there is no key to forget. */
  onForget?: () => void;
}

export function SettingsMenu({ shelf, push, onForget }: Props) {
  const { text } = useLanguage();
  return (
    <>
      <button
        type="button"
        className="quiet square"
        popoverTarget="settings"
        aria-label={text.settings}
        title={text.settings}
      >
        <Icon name="settings" />
      </button>
      <div
        id="settings"
        popover="auto"
        className="popover"
        role="dialog"
        aria-label={text.settings}
        onToggle={(event) => event.newState === "open" && void push?.look()}
      >
        <LanguageChoice />
        <ThemeChoice shelf={shelf} />
        {push && <PushSetting push={push} />}
        {onForget && (
          <div className="setting">
            <button type="button" className="danger" onClick={() => window.confirm(text.forgetQuestion) && onForget()}>
              {text.forget}
            </button>
            <p className="hint">{text.forgetHint}</p>
          </div>
        )}
      </div>
    </>
  );
}

function LanguageChoice() {
  const { text, language, choose } = useLanguage();
  return (
    <fieldset className="setting">
      <legend>{text.language}</legend>
      <div className="segments">
        {LANGUAGES.map(([value, name]) => (
          <label key={value} lang={value}>
            <input type="radio" name="language" checked={language === value} onChange={() => choose(value)} />
            <span>{name}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

function ThemeChoice({ shelf }: { shelf: Shelf }) {
  const { text } = useLanguage();
  const [theme, setTheme] = useState<Theme>(() => keptTheme(shelf));
  const choose = (wanted: Theme) => {
    shelf.put("theme", wanted);
    wear(wanted);
    setTheme(wanted);
  };
  return (
    <fieldset className="setting">
      <legend>{text.theme}</legend>
      <div className="segments">
        {THEMES.map((value) => (
          <label key={value}>
            <input type="radio" name="theme" checked={theme === value} onChange={() => choose(value)} />
            <span>{text.themes[value]}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}
