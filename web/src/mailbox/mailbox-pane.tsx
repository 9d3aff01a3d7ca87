import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { textOf } from "../hub/frames";
import { useStore } from "../hub/store";
import { useText } from "../text/language";
import { ComposeForm } from "./compose-form";
import { ConnectionNotice } from "./connection-notice";
import { DraftCard } from "./draft-card";
import { answersIn, isUnread, newestFirst, type Mail } from "./mail";
import { cardId, MailCard } from "./mail-card";
import type { MailboxSession } from "./session";

const SHOWN_AT_FIRST = 50;

interface Props {
  session: MailboxSession;
  models: readonly string[];
  isShown: boolean;
  /** The message that a notification was about; a new object for each click. */
  opened: { id: string } | null;
}

export function MailboxPane({ session, models, isShown, opened }: Props) {
  const text = useText();
  const { connection, mails, drafts } = useStore(session.store);
  const [shown, setShown] = useState(SHOWN_AT_FIRST);
  const [answered, setAnswered] = useState<Mail | null>(null);
  const sorted = useMemo(() => newestFirst(mails.values()), [mails]);
  const visible = useMemo(() => sorted.slice(0, shown), [sorted, shown]);
  const answers = useMemo(() => answersIn(sorted), [sorted]);
  const writing = [...drafts.values()].reverse();
  useReading(session, visible, isShown);
  const place = opened === null ? -1 : sorted.findIndex((mail) => mail.message.id === opened.id);
  if (place >= shown) setShown(place + 1);
  useEffect(() => {
    const card = opened === null ? null : document.getElementById(cardId(opened.id));
    card?.scrollIntoView({ block: "center" });
    card?.focus({ preventScroll: true });
  }, [opened]);
  // The same functions each time, so that a word of a draft does not render every card anew.
  const acknowledge = useCallback((id: string) => session.confirm([id], "acknowledged"), [session]);
  const answer = useCallback(
    (mail: Mail, choice: string) => void session.send(mail.message.from, choice, mail),
    [session],
  );
  const discard = useCallback((id: string) => session.discard(id), [session]);

  return (
    <div className="mailbox">
      <ComposeForm
        addresses={useAddresses(session.address, models, sorted)}
        answered={answered}
        onAnswered={setAnswered}
        onSend={(to, words) => session.send(to, words, answered)}
      />
      <section className="mails" aria-label={text.messages} tabIndex={0}>
        <ConnectionNotice connection={connection} mails={sorted} onRetry={session.reconnect} />
        {sorted.length === 0 && writing.length === 0 && <p className="empty">{text.mailboxEmpty}</p>}
        {writing.map((draft) => (
          <DraftCard key={draft.replyTo} draft={draft} />
        ))}
        {visible.map((mail) => (
          <MailCard
            key={mail.message.id}
            mail={mail}
            original={mails.get(mail.message.reply_to ?? "") ?? null}
            answer={answers.get(mail.message.id) ?? null}
            onAnswer={answer}
            onAcknowledge={acknowledge}
            onReply={setAnswered}
            onDiscard={discard}
          />
        ))}
        {sorted.length > shown && (
          <button type="button" className="outlined wide" onClick={() => setShown(shown + SHOWN_AT_FIRST)}>
            {text.showOlder}
          </button>
        )}
      </section>
      <Announcement newest={sorted.find((mail) => mail.isReceived && !mail.isMine)} />
    </div>
  );
}

/** What is on the screen of somebody who looks at it counts as read. */
function useReading(session: MailboxSession, visible: readonly Mail[], isShown: boolean): void {
  useEffect(() => {
    const read = () => {
      if (!isShown || document.visibilityState !== "visible") return;
      session.confirm(
        visible.filter(isUnread).map((mail) => mail.message.id),
        "read",
      );
    };
    read();
    document.addEventListener("visibilitychange", read);
    return () => document.removeEventListener("visibilitychange", read);
  }, [session, visible, isShown]);
}

/** Addresses to offer: the models, this one, and whoever wrote or was written to. */
function useAddresses(own: string, models: readonly string[], mails: readonly Mail[]): string[] {
  return useMemo(() => {
    const known = mails.slice(0, 100).flatMap(({ message }) => [message.from, message.to]);
    return [...new Set(["model:auto", ...models.map((name) => `model:${name}`), own, ...known])].slice(0, 30);
  }, [own, models, mails]);
}

/** Tells a screen reader of messages that come while the page is open, not of those that were there before. */
function Announcement({ newest }: { newest: Mail | undefined }) {
  const text = useText();
  const first = useRef(newest?.message.id);
  const isNew = newest !== undefined && newest.message.id !== first.current;
  return (
    <p className="visually-hidden" role="status">
      {isNew ? text.newMessage(newest.message.from, textOf(newest.message.content).slice(0, 300)) : ""}
    </p>
  );
}
