import { useCallback, useEffect, useState } from "react";
import { takeKey } from "../hub/key";
import type { Shelf } from "../hub/shelf";
import { LanguageProvider } from "../text/language";
import { Boundary } from "./boundary";
import { Gate } from "./gate";
import { KeyScreen } from "./key-screen";
import { SettingsMenu } from "./settings-menu";

/** What stays when a key is forgotten: it says nothing about anybody. */
const KEPT = new Set(["language", "theme"]);

export function App({ shelf }: { shelf: Shelf }) {
  const [key, setKey] = useState(() => takeKey(shelf));
  const [isRefused, setRefused] = useState(false);

  const enter = useCallback(
    (fresh: string) => {
      shelf.put("key", fresh);
      setKey(fresh);
      setRefused(false);
    },
    [shelf],
  );
  const refuse = useCallback(() => setRefused(true), []);
  const forget = useCallback(() => {
    for (const name of shelf.names("")) if (!KEPT.has(name)) shelf.drop(name);
    setKey(null);
    setRefused(false);
  }, [shelf]);

  useEffect(() => {
    // Somebody opens the address with a key in a tab that already shows the page: the browser does not load it anew.
    const take = () => {
      const fresh = takeKey(shelf);
      if (fresh !== null) enter(fresh);
    };
    window.addEventListener("hashchange", take);
    return () => window.removeEventListener("hashchange", take);
  }, [shelf, enter]);

  return (
    <LanguageProvider shelf={shelf}>
      {key === null || isRefused ? (
        <>
          <div className="corner">
            <SettingsMenu shelf={shelf} />
          </div>
          <KeyScreen isRefused={isRefused} onKey={enter} />
        </>
      ) : (
        <Boundary onForget={forget}>
          <Gate key={key} hubKey={key} shelf={shelf} onUnauthorized={refuse} onForget={forget} />
        </Boundary>
      )}
    </LanguageProvider>
  );
}
