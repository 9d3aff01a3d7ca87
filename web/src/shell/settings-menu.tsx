import { useState } from "react";
import type { Me } from "../hub/api";
import type { Shelf } from "../hub/shelf";
import { keptTheme, THEMES, wear, type Theme } from "../look/theme";
import { nameOf } from "../people/account";
import { mayAdminister } from "../people/people";
import { RoleChips } from "../people/roles";
import { PushSetting } from "../push/push-setting";
import type { PushSwitch } from "../push/push-switch";
import { useLanguage, useText } from "../text/language";
import type { Language } from "../text/preferred";
import { useAct } from "./act";
import { FailureNote } from "./failure-note";
import { Icon } from "./icons";

const LANGUAGES: readonly [Language, string][] = [
  ["zh", "中文"],
  ["en", "English"],
];

/** The dialogs that open from here. */
export type SheetName = "account" | "people" | "enrol";

interface Props {
  /** Of its element: there are two of these while somebody has to log in again. */
  id?: string;
  shelf: Shelf;
  /** These are absent where nobody has signed in. */
  me?: Me;
  push?: PushSwitch;
  onSheet?: (sheet: SheetName) => void;
  onForget?: () => Promise<void>;
}

export function SettingsMenu({ id = "settings", shelf, me, push, onSheet, onForget }: Props) {
  const { text } = useLanguage();
  return (
    <>
      <button
        type="button"
        className="quiet square"
        popoverTarget={id}
        aria-label={text.settings}
        title={text.settings}
      >
        <Icon name="settings" />
      </button>
      <div
        id={id}
        popover="auto"
        className="popover"
        role="dialog"
        aria-label={text.settings}
        onToggle={(event) => event.newState === "open" && void push?.look()}
      >
        {me && onSheet && (
          <Person
            me={me}
            onSheet={(sheet) => {
              document.getElementById(id)?.hidePopover(); // so that the focus comes back to the menu's button
              onSheet(sheet);
            }}
          />
        )}
        <LanguageChoice id={id} />
        <ThemeChoice id={id} shelf={shelf} />
        {push && <PushSetting push={push} />}
        {me && onForget && <Leaving isSession={me.session !== null} onForget={onForget} />}
      </div>
    </>
  );
}

/** Who has logged in, and what they may look after. */
function Person({ me, onSheet }: { me: Me; onSheet: (sheet: SheetName) => void }) {
  const text = useText();
  const sheets: SheetName[] = [];
  if (me.session) sheets.push("account");
  if (mayAdminister(me.scopes, "people")) sheets.push("people");
  if (mayAdminister(me.scopes, "devices")) sheets.push("enrol");
  if (sheets.length === 0) return null;
  return (
    <div className="setting">
      {me.session && (
        <div className="who">
          <strong>{nameOf(me)}</strong>
          <RoleChips roles={me.session.roles} />
        </div>
      )}
      <ul className="menu">
        {sheets.map((sheet) => (
          <li key={sheet}>
            <button type="button" onClick={() => onSheet(sheet)}>
              <Icon name={sheet} />
              {text.sheets[sheet]}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Leaving({ isSession, onForget }: { isSession: boolean; onForget: () => Promise<void> }) {
  const text = useText();
  const act = useAct();
  const leave = () => {
    if (window.confirm(isSession ? text.logOutQuestion : text.forgetQuestion)) act.run(onForget);
  };
  return (
    <div className="setting">
      <button type="button" className="danger" disabled={act.isBusy} onClick={leave}>
        {isSession ? text.logOut : text.forget}
      </button>
      <p className="hint">{isSession ? text.logOutHint : text.forgetHint}</p>
      <FailureNote act={act} words={{ unreachable: text.stillLoggedIn }} />
    </div>
  );
}

function LanguageChoice({ id }: { id: string }) {
  const { text, language, choose } = useLanguage();
  return (
    <fieldset className="setting">
      <legend>{text.language}</legend>
      <div className="segments">
        {LANGUAGES.map(([value, name]) => (
          <label key={value} lang={value}>
            <input type="radio" name={`${id}-language`} checked={language === value} onChange={() => choose(value)} />
            <span>{name}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

function ThemeChoice({ id, shelf }: { id: string; shelf: Shelf }) {
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
            <input type="radio" name={`${id}-theme`} checked={theme === value} onChange={() => choose(value)} />
            <span>{text.themes[value]}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}
