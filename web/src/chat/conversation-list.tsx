import { Icon } from "../shell/icons";
import { useLanguage } from "../text/language";
import { shortMoment } from "../text/moment";
import { titleOf, type Conversation } from "./conversation";

interface Props {
  conversations: readonly Conversation[];
  current: Conversation;
  onOpen: (id: string) => void;
  onRemove: (id: string) => void;
  onBegin: () => void;
}

export function ConversationList({ conversations, current, onOpen, onRemove, onBegin }: Props) {
  const { text, tag } = useLanguage();
  return (
    <>
      <button type="button" className="outlined wide" onClick={onBegin} disabled={current.turns.length === 0}>
        <Icon name="plus" />
        {text.newConversation}
      </button>
      {conversations.length === 0 && <p className="hint">{text.conversationsNone}</p>}
      <ul className="conversations">
        {conversations.map((conversation) => {
          const title = titleOf(conversation) || text.pictureOnly;
          return (
            <li key={conversation.id} data-current={conversation.id === current.id}>
              <button
                type="button"
                className="conversation"
                aria-current={conversation.id === current.id ? "true" : undefined}
                onClick={() => onOpen(conversation.id)}
              >
                <span className="conversation-title">{title}</span>
                <time className="hint" dateTime={new Date(conversation.changedAt).toISOString()}>
                  {shortMoment(conversation.changedAt, Date.now(), tag)}
                </time>
              </button>
              <button
                type="button"
                className="quiet square"
                aria-label={text.removeConversation(title)}
                title={text.remove}
                onClick={() => onRemove(conversation.id)}
              >
                <Icon name="trash" />
              </button>
            </li>
          );
        })}
      </ul>
    </>
  );
}
