import type { Connection } from "../hub/socket";
import { useText } from "../text/language";
import type { Mail } from "./mail";

interface Props {
  connection: Connection;
  mails: readonly Mail[];
  onRetry: () => void;
}

/** Says that the mailbox is cut off, and how many messages wait for it to come back. */
export function ConnectionNotice({ connection, mails, onRetry }: Props) {
  const text = useText();
  if (connection === "online") return null;
  const queued = mails.filter((mail) => mail.delivery === "queued").length;
  return (
    <div className={connection === "waiting" ? "notice bad row" : "notice row"} role="status">
      <p>
        {text.connections[connection]} {queued > 0 && text.queuedCount(queued)}
      </p>
      {connection === "waiting" && (
        <button type="button" className="outlined" onClick={onRetry}>
          {text.retryNow}
        </button>
      )}
    </div>
  );
}
