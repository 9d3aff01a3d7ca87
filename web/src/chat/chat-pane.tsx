import { useEffect, useMemo, useRef, useState } from "react";
import { readinessFor } from "../hub/pool";
import type { Shelf } from "../hub/shelf";
import { useStore } from "../hub/store";
import type { PoolView } from "../hub/watch";
import { Icon } from "../shell/icons";
import { useText } from "../text/language";
import { Composer } from "./composer";
import { ConversationList } from "./conversation-list";
import { plainText } from "./announcement";
import type { ChatSession } from "./session";
import { TurnView } from "./turn-view";
import { useStickyScroll } from "./sticky-scroll";

interface Props {
  session: ChatSession;
  pool: PoolView;
  shelf: Shelf;
  isShown: boolean;
}

export function ChatPane({ session, pool, shelf, isShown }: Props) {
  const text = useText();
  const { conversations, current, running } = useStore(session.store);
  const [model, setModel] = useKeptModel(shelf, pool.models);
  const input = useRef<HTMLTextAreaElement>(null);
  const scroll = useStickyScroll();
  const readiness = readinessFor(model, pool.instances);
  const isRunning = running !== null;

  useEffect(() => {
    if (isShown) input.current?.focus({ preventScroll: true });
  }, [isShown, current.id]);
  useEscape(isShown && isRunning, () => {
    session.stop();
    input.current?.focus();
  });

  const list = (
    <ConversationList
      {...{ conversations, current }}
      onOpen={(id) => session.open(id)}
      onRemove={(id) => session.remove(id)}
      onBegin={() => session.begin()}
    />
  );
  const last = current.turns.at(-1);
  return (
    <div className="chat">
      <aside className="side" aria-label={text.conversations}>
        {list}
      </aside>
      <div className="talk">
        <div className="talk-bar">
          <button type="button" className="quiet" popoverTarget="conversations">
            <Icon name="history" />
            {text.conversations}
          </button>
          <div
            id="conversations"
            popover="auto"
            className="popover at-start"
            role="dialog"
            aria-label={text.conversations}
          >
            {list}
          </div>
          <button type="button" className="quiet" onClick={() => session.begin()} disabled={current.turns.length === 0}>
            <Icon name="plus" />
            {text.newShort}
          </button>
        </div>
        <div className="turns-box">
          <div
            className="turns"
            ref={scroll.box}
            role="log"
            aria-live="off"
            aria-label={text.conversation}
            tabIndex={0}
          >
            <div className="column" ref={scroll.content}>
              {current.turns.length === 0 && <Greeting readiness={readiness} />}
              {current.turns.map((turn) => (
                <TurnView
                  key={turn.id}
                  {...{ turn, readiness }}
                  onJudge={(answer, thumb) => void session.judge(answer, thumb)}
                  onRetry={turn === last && !isRunning ? () => session.retry(model) : null}
                />
              ))}
            </div>
          </div>
          {!scroll.isAtEnd && (
            <button type="button" className="to-end" onClick={scroll.toEnd} aria-label={text.toEnd} title={text.toEnd}>
              <Icon name="below" />
            </button>
          )}
        </div>
        <Composer
          ref={input}
          {...{ model, isRunning }}
          models={pool.models}
          onModel={setModel}
          onStop={() => session.stop()}
          onAsk={(question, images) => {
            scroll.toEnd();
            session.ask(question, images, model);
          }}
        />
        <p className="visually-hidden" role="status">
          {last && isShown ? plainText(last.answer, text) : ""}
        </p>
      </div>
    </div>
  );
}

function Greeting({ readiness }: { readiness: ReturnType<typeof readinessFor> }) {
  const text = useText();
  return (
    <div className="greeting">
      <h2>{text.greeting}</h2>
      <p>{text.greetings[readiness]}</p>
    </div>
  );
}

function useKeptModel(shelf: Shelf, models: readonly string[]): [string, (model: string) => void] {
  const [wanted, setWanted] = useState(() => {
    const kept = shelf.get("model");
    return typeof kept === "string" ? kept : "auto";
  });
  const choose = (model: string) => {
    shelf.put("model", model);
    setWanted(model);
  };
  // A model that is gone (or not announced yet) is not asked for, but taken up again when it comes back.
  const model = useMemo(() => (models.includes(wanted) ? wanted : "auto"), [models, wanted]);
  return [model, choose];
}

function useEscape(isActive: boolean, onEscape: () => void): void {
  const handler = useRef(onEscape);
  useEffect(() => {
    handler.current = onEscape;
  });
  useEffect(() => {
    if (!isActive) return;
    const listen = (event: KeyboardEvent) => {
      // Escape also closes a menu or an input method's list; it should not do two things at once.
      const isTaken = event.defaultPrevented || event.isComposing || document.querySelector("[popover]:popover-open");
      if (event.key === "Escape" && !isTaken) handler.current();
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  }, [isActive]);
}
