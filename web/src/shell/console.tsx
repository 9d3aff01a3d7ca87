import { useEffect, useState } from "react";
import { Archive } from "../chat/archive";
import { ChatPane } from "../chat/chat-pane";
import { ChatSession } from "../chat/session";
import { EnrolSheet } from "../devices/enrol-sheet";
import type { HubApi, Me } from "../hub/api";
import type { Shelf } from "../hub/shelf";
import { useStore } from "../hub/store";
import { PoolWatch } from "../hub/watch";
import { isUnread } from "../mailbox/mail";
import { MailboxPane } from "../mailbox/mailbox-pane";
import { MailboxSession } from "../mailbox/session";
import { AccountSheet } from "../people/account-sheet";
import { logOut } from "../people/login";
import { PeopleSheet } from "../people/people-sheet";
import { hearOfOpened } from "../push/opened";
import { PushSwitch } from "../push/push-switch";
import { useText } from "../text/language";
import { Logo } from "./logo";
import { SettingsMenu, type SheetName } from "./settings-menu";
import { StatusPill } from "./status-pill";
import { Tabs, type Tab } from "./tabs";

interface Props {
  api: HubApi;
  /** Null where the browser's session stands for it. */
  hubKey: string | null;
  me: Me;
  shelf: Shelf;
  /** Whoever works here has to log in again: nothing is asked of the hub meanwhile, and all stays as it is. */
  isAway: boolean;
  /** The hub does not know who this is, or takes this browser for somebody else. */
  onUnauthorized: () => void;
  onForget: () => void;
}

/** As long as leaving waits for notifications to be switched off: the hub may be away. */
const PUSH_OFF_MS = 5_000;

/** The page itself: a header, and a pane for each of its two tabs. Both panes live on while one is hidden. */
export function Console({ api, hubKey, me, shelf, isAway, onUnauthorized, onForget }: Props) {
  const text = useText();
  const { address } = me;
  const [{ chat, mailbox, watch, push }] = useState(() => {
    const url = new URL("api/ws", document.baseURI).href.replace(/^http/, "ws");
    const place = { url, key: hubKey, address };
    const mails = new MailboxSession(api, place, shelf, onUnauthorized);
    return {
      chat: new ChatSession(api, new Archive(shelf, address)),
      mailbox: mails,
      watch: new PoolWatch(api, mails.drop),
      push: new PushSwitch(api, shelf, address),
    };
  });
  useEffect(() => {
    window.addEventListener("pagehide", chat.keep);
    return () => {
      window.removeEventListener("pagehide", chat.keep);
      chat.stop();
    };
  }, [chat]);
  useEffect(() => {
    if (isAway) return;
    mailbox.start();
    watch.start();
    push.resume();
    return () => {
      mailbox.stop();
      watch.stop();
    };
  }, [isAway, mailbox, watch, push]);

  const pool = useStore(watch.store);
  const { connection, mails } = useStore(mailbox.store);
  const unread = [...mails.values()].filter(isUnread).length;
  const [tab, setTab] = useState<Tab>(() => (shelf.get("tab") === "mailbox" ? "mailbox" : "chat"));
  useEffect(() => void shelf.put("tab", tab), [shelf, tab]);
  const [opened, setOpened] = useState<{ id: string } | null>(null);
  useEffect(
    () =>
      hearOfOpened(({ id, shown, isAcknowledged }) => {
        setTab("mailbox");
        void mailbox.open(id, shown).then(() => {
          if (isAcknowledged) mailbox.confirm([id], "acknowledged");
          setOpened({ id });
        });
      }),
    [mailbox],
  );
  useEffect(() => {
    document.title = unread > 0 ? `(${unread > 99 ? "99+" : unread}) ${text.product}` : text.product;
  }, [unread, text]);
  const [sheet, setSheet] = useState<SheetName | null>(null);
  const forget = async () => {
    const isOff = push.signOut();
    // Whoever has logged out can no longer tell the hub to push nothing more; a key can.
    if (hubKey === null) {
      await Promise.race([isOff, new Promise((resolve) => setTimeout(resolve, PUSH_OFF_MS))]);
      await logOut(api); // raises Problem where the hub is away: then all stays as it is
    }
    chat.forget();
    mailbox.forget();
    onForget();
  };
  const onClose = () => setSheet(null);

  return (
    <div className="console">
      <header className="top">
        <h1 className="brand">
          <Logo />
          <span>{text.product}</span>
        </h1>
        <Tabs tab={tab} unread={unread} onTab={setTab} />
        <div className="top-end">
          <StatusPill {...{ connection, pool, address }} onRetry={mailbox.reconnect} />
          <SettingsMenu {...{ shelf, me, push }} onSheet={setSheet} onForget={forget} />
        </div>
      </header>
      <main>
        <div id="panel-chat" role="tabpanel" aria-labelledby="tab-chat" hidden={tab !== "chat"}>
          <ChatPane session={chat} pool={pool} shelf={shelf} isShown={tab === "chat"} />
        </div>
        <div id="panel-mailbox" role="tabpanel" aria-labelledby="tab-mailbox" hidden={tab !== "mailbox"}>
          <MailboxPane session={mailbox} models={pool.models} isShown={tab === "mailbox"} opened={opened} />
        </div>
      </main>
      {sheet === "account" && <AccountSheet {...{ api, me, onClose }} />}
      {sheet === "people" && <PeopleSheet {...{ api, onClose }} own={address} />}
      {sheet === "enrol" && <EnrolSheet {...{ api, onClose }} />}
    </div>
  );
}
