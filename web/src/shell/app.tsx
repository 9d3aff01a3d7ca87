import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { EnrolmentScreen } from "../devices/enrolment-screen";
import { HubApi, type Me } from "../hub/api";
import { keptKey } from "../hub/key";
import { Problem } from "../hub/problem";
import { hearOfOtherPages, type Shelf } from "../hub/shelf";
import { nameOf } from "../people/account";
import { InvitationScreen } from "../people/invitation-screen";
import { knock, logOut, type Found, type Ways } from "../people/login";
import { LoginScreen, type LoginNotice } from "../people/login-screen";
import { LanguageProvider } from "../text/language";
import { takeArrival, type Arrival } from "./arrival";
import { Boundary } from "./boundary";
import { Console } from "./console";
import { Curtain } from "./curtain";
import { Gate } from "./gate";
import { KeyScreen } from "./key-screen";
import { SettingsMenu } from "./settings-menu";

/** What stays when somebody leaves: it says nothing about anybody. */
const KEPT = new Set(["language", "theme"]);
/** Written at each login by a session, so that this browser's other pages hear of it. */
const PERSON = "person";

type Screen =
  | { name: "console" }
  /** The hub is asked whose this browser is. */
  | { name: "gate"; notice: LoginNotice | null }
  | { name: "login"; ways: Ways; notice: LoginNotice | null }
  | { name: "key"; ways: Ways; isRefused: boolean }
  | { name: "invitation"; token: string }
  | { name: "enrolment"; code: string };

const CONSOLE: Screen = { name: "console" };
const GATE: Screen = { name: "gate", notice: null };

function screenFor(arrival: Arrival): Screen {
  switch (arrival.about) {
    case "invitation":
      return { name: "invitation", token: arrival.token };
    case "enrolment":
      return { name: "enrolment", code: arrival.code };
    case "login":
      return { name: "gate", notice: arrival.outcome };
    case "key":
    case "nothing":
      return GATE;
  }
}

export function App({ shelf, arrival }: { shelf: Shelf; arrival: Arrival }) {
  /** Null: the browser's session counts, where it has one. */
  const [key, setKey] = useState(() => (arrival.about === "key" ? arrival.key : keptKey(shelf)));
  /** Whose console is open. It stays open, behind a curtain, while they have to log in again. */
  const [me, setMe] = useState<Me | null>(null);
  const [screen, setScreen] = useState(() => screenFor(arrival));
  const stranger = useMemo(() => new HubApi(document.baseURI, null), []);
  const asker = useMemo(() => new HubApi(document.baseURI, key), [key]);

  const begin = useCallback((by: string | null) => {
    setKey(by);
    setMe(null);
    setScreen(GATE);
  }, []);
  const enter = useCallback(
    (fresh: string) => {
      shelf.put("key", fresh);
      begin(fresh);
    },
    [shelf, begin],
  );
  const loggedIn = () => {
    shelf.drop("key");
    shelf.put(PERSON, Date.now());
    setKey(null);
    setScreen(GATE);
  };
  const found = useCallback(
    (answer: Found) => {
      if ("me" in answer) {
        if (answer.me.session && shelf.get(PERSON) === undefined) shelf.put(PERSON, Date.now());
        setMe(answer.me);
        setScreen(CONSOLE);
        return;
      }
      const { ways } = answer;
      setScreen((now) => {
        const notice = now.name === "gate" ? now.notice : null;
        if (key !== null) return { name: "key", ways, isRefused: true };
        return ways.hasPeople || ways.hasOidc ? { name: "login", ways, notice } : { name: "key", ways, isRefused: false };
      });
    },
    [shelf, key],
  );
  const recheck = useRecheck(stranger, setMe, setScreen);
  const unauthorized = useCallback(() => {
    if (key === null) void recheck();
    else begin(key); // which finds that the key counts no more
  }, [key, recheck, begin]);
  const api = useMemo(() => new HubApi(document.baseURI, key, unauthorized), [key, unauthorized]);
  const forget = () => {
    for (const name of shelf.names("")) if (!KEPT.has(name)) shelf.drop(name);
    begin(null);
  };

  useEffect(() => {
    // Somebody opens an address of this page in a tab that already shows it: the browser does not load it anew.
    const take = () => {
      const next = takeArrival(shelf);
      if (next.about === "key") enter(next.key);
      else if (next.about !== "nothing") setScreen(screenFor(next));
    };
    window.addEventListener("hashchange", take);
    return () => window.removeEventListener("hashchange", take);
  }, [shelf, enter]);
  useEffect(() => {
    if (key === null || shelf.get(PERSON) === undefined) return;
    shelf.drop(PERSON);
    logOut(stranger).catch(unlessProblem); // or it would open the page again once the key is forgotten
  }, [shelf, key, stranger]);
  useEffect(
    () =>
      hearOfOtherPages(["key", PERSON], () => {
        const kept = keptKey(shelf);
        if (kept !== key) begin(kept);
        else if (key === null && shelf.get(PERSON) === undefined) begin(null);
        else if (key === null) void recheck();
      }),
    [shelf, key, begin, recheck],
  );

  const isAway = screen.name !== "console";
  const back = () => setScreen(me ? CONSOLE : GATE);
  const front = isAway && (
    <>
      <div className="corner">
        <SettingsMenu id="front-settings" shelf={shelf} />
      </div>
      {screen.name === "gate" && <Gate api={asker} stranger={stranger} onFound={found} />}
      {screen.name === "login" && (
        <LoginScreen
          api={stranger}
          {...screen}
          formerName={me && nameOf(me)}
          onLoggedIn={loggedIn}
          onUseKey={() => setScreen({ name: "key", ways: screen.ways, isRefused: false })}
        />
      )}
      {screen.name === "key" && (
        <KeyScreen
          isRefused={screen.isRefused}
          onKey={enter}
          onUseName={
            screen.ways.hasPeople || screen.ways.hasOidc
              ? () => setScreen({ name: "login", ways: screen.ways, notice: null })
              : null
          }
        />
      )}
      {screen.name === "invitation" && (
        <InvitationScreen api={stranger} token={screen.token} onLoggedIn={loggedIn} onLeave={back} />
      )}
      {screen.name === "enrolment" && <EnrolmentScreen code={screen.code} onLeave={back} />}
    </>
  );
  return (
    <LanguageProvider shelf={shelf}>
      {me && (
        <Boundary onForget={() => (key === null ? logOut(stranger).catch(unlessProblem) : Promise.resolve()).then(forget)}>
          <Console
            key={`${key ?? ""} ${me.address}`}
            {...{ api, me, shelf, isAway }}
            hubKey={key}
            onUnauthorized={unauthorized}
            onForget={forget}
          />
        </Boundary>
      )}
      {me && front ? <Curtain>{front}</Curtain> : front}
    </LanguageProvider>
  );
}

/** Looks once whether the browser still has the session that it had: what was refused may have been on its way when the
 * session was replaced by a fresh one. */
function useRecheck(stranger: HubApi, setMe: (me: Me) => void, setScreen: (next: (now: Screen) => Screen) => void) {
  const isAsking = useRef(false);
  return useCallback(async () => {
    if (isAsking.current) return;
    isAsking.current = true;
    try {
      const answer = await knock(stranger, stranger);
      if ("me" in answer) {
        setMe(answer.me);
        setScreen((now) => (now.name === "login" ? CONSOLE : now));
      } else {
        const ended: Screen = { name: "login", ways: answer.ways, notice: "ended" };
        setScreen((now) => (now.name === "console" ? ended : now));
      }
    } catch (error) {
      unlessProblem(error); // the hub is away, which the page shows by itself
    } finally {
      isAsking.current = false;
    }
  }, [stranger, setMe, setScreen]);
}

function unlessProblem(error: unknown): void {
  if (!(error instanceof Problem)) throw error;
}
