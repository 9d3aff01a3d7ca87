import type { KeyboardEvent } from "react";
import { useText } from "../text/language";
import { Icon } from "./icons";

export const TABS = ["chat", "mailbox"] as const;
export type Tab = (typeof TABS)[number];

interface Props {
  tab: Tab;
  unread: number;
  onTab: (tab: Tab) => void;
}

/** Source for the keys: WAI-ARIA Authoring Practices, tabs pattern with automatic activation. */
export function Tabs({ tab, unread, onTab }: Props) {
  const text = useText();
  const move = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length] ?? tab;
    onTab(next);
    document.getElementById(`tab-${next}`)?.focus();
  };
  return (
    <div className="tabs" role="tablist" aria-label={text.sections} onKeyDown={move}>
      {TABS.map((name) => (
        <button
          key={name}
          id={`tab-${name}`}
          type="button"
          role="tab"
          aria-selected={tab === name}
          aria-controls={`panel-${name}`}
          tabIndex={tab === name ? 0 : -1}
          onClick={() => onTab(name)}
        >
          <Icon name={name === "chat" ? "chat" : "mail"} />
          {text.tabs[name]}
          {name === "mailbox" && unread > 0 && (
            <span className="count" aria-label={text.unread(unread)}>
              {unread > 99 ? "99+" : unread}
            </span>
          )}
        </button>
      ))}
    </div>
  );
}
