import { createContext, useContext, useEffect, useMemo, useState, type ReactNode } from "react";
import type { Shelf } from "../hub/shelf";
import { en, type Texts } from "./en";
import { preferredLanguage, type Language } from "./preferred";
import { zh } from "./zh";

const TEXTS: Record<Language, Texts> = { en, zh };
const TAGS: Record<Language, string> = { en: "en", zh: "zh-CN" };

interface Speech {
  language: Language;
  /** The BCP 47 tag, for Intl and the `lang` attribute. */
  tag: string;
  text: Texts;
  choose(language: Language): void;
}

const Context = createContext<Speech>({ language: "en", tag: "en", text: en, choose: () => undefined });

export function LanguageProvider({ shelf, children }: { shelf: Shelf; children: ReactNode }) {
  const [language, setLanguage] = useState<Language>(() => {
    const kept = shelf.get("language");
    return kept === "en" || kept === "zh" ? kept : preferredLanguage(navigator.languages);
  });
  useEffect(() => {
    document.documentElement.lang = TAGS[language];
  }, [language]);
  const speech = useMemo<Speech>(
    () => ({
      language,
      tag: TAGS[language],
      text: TEXTS[language],
      choose(wanted) {
        shelf.put("language", wanted);
        setLanguage(wanted);
      },
    }),
    [language, shelf],
  );
  return <Context value={speech}>{children}</Context>;
}

export function useLanguage(): Speech {
  return useContext(Context);
}

export function useText(): Texts {
  return useContext(Context).text;
}
