import { useCallback, useId, useState, type SubmitEvent } from "react";
import type { HubApi } from "../hub/api";
import { hubAddress } from "../hub/place";
import { useAct, type Act } from "../shell/act";
import { useAnswer } from "../shell/answer";
import { CopyBox } from "../shell/copy-box";
import { FailureNote } from "../shell/failure-note";
import { Icon } from "../shell/icons";
import { QrCode } from "../shell/qr-code";
import { Sheet } from "../shell/sheet";
import { failureDetail, failureText } from "../text/failure";
import { useLanguage, useText } from "../text/language";
import { shortMoment } from "../text/moment";
import {
  allPeople,
  changePerson,
  endSessions,
  invite,
  removePerson,
  resetLink,
  withdraw,
  type FreshInvitation,
  type OpenInvitation,
  type People,
  type Person,
} from "./people";
import { RoleChips, RoleChoice } from "./roles";
import { Section } from "./section";

interface Props {
  api: HubApi;
  /** The address of whoever looks at this: they cannot send themselves away. */
  own: string;
  onClose: () => void;
}

type View = { name: "list" } | { name: "invite" } | { name: "link"; invitation: FreshInvitation };

const LIST: View = { name: "list" };

/** Who has an account here, and who is invited. */
export function PeopleSheet({ api, own, onClose }: Props) {
  const text = useText();
  const [view, setView] = useState<View>(LIST);
  const onLink = (invitation: FreshInvitation) => setView({ name: "link", invitation });
  return (
    <Sheet title={view.name === "invite" ? text.invite : text.people} onClose={onClose}>
      {view.name === "list" && <List {...{ api, own, onLink }} onInvite={() => setView({ name: "invite" })} />}
      {view.name === "invite" && <InviteForm {...{ api, onLink }} onCancel={() => setView(LIST)} />}
      {view.name === "link" && <Link invitation={view.invitation} onBack={() => setView(LIST)} />}
    </Sheet>
  );
}

interface ListProps {
  api: HubApi;
  own: string;
  onLink: (invitation: FreshInvitation) => void;
  onInvite: () => void;
}

function List({ api, own, onLink, onInvite }: ListProps) {
  const text = useText();
  const [round, setRound] = useState(0);
  const { answer, problem } = useAnswer<People>(useCallback(() => allPeople(api), [api, round]));
  const act = useAct();
  const change = (action: () => Promise<void>) =>
    act.run(async () => {
      await action();
      setRound((now) => now + 1);
    });
  return (
    <>
      <button type="button" className="primary wide" onClick={onInvite}>
        <Icon name="plus" />
        {text.invite}
      </button>
      <FailureNote act={act} />
      {problem && (
        <div className="notice bad" role="alert">
          <p>{failureText(problem, text)}</p>
          <p className="hint">{failureDetail(problem, text)}</p>
        </div>
      )}
      {answer?.people.length === 0 && <p className="hint">{text.peopleNone}</p>}
      <ul className="rows">
        {answer?.people.map((person) => (
          <PersonRow
            key={person.name}
            {...{ person, act, change }}
            api={api}
            isOwn={own === `user:${person.name}`}
            onReset={() => act.run(async () => onLink(await resetLink(api, person.name)))}
          />
        ))}
      </ul>
      {answer && answer.invitations.length > 0 && (
        <Section title={text.openInvitations}>
          <ul className="rows">
            {answer.invitations.map((invitation) => (
              <InvitationRow
                key={invitation.handle}
                invitation={invitation}
                isBusy={act.isBusy}
                onWithdraw={() => change(() => withdraw(api, invitation.handle))}
              />
            ))}
          </ul>
        </Section>
      )}
    </>
  );
}

interface PersonProps {
  api: HubApi;
  person: Person;
  isOwn: boolean;
  act: Act;
  change: (action: () => Promise<void>) => void;
  onReset: () => void;
}

function PersonRow({ api, person, isOwn, act, change, onReset }: PersonProps) {
  const text = useText();
  const [roles, setRoles] = useState<string[]>(person.roles);
  const { name, isDisabled, sessions } = person;
  const hasOtherRoles = roles.join() !== person.roles.join();
  const proofs = [
    person.hasPassword ? text.hasPassword : text.hasNoPassword,
    text.passkeyCount(person.passkeys),
    text.sessionCount(sessions),
  ];
  return (
    <li>
      <details name="person" className="person">
        <summary>
          <strong>{name}</strong>
          <RoleChips roles={person.roles} />
          {isDisabled && (
            <span className="chip" data-level="bad">
              {text.disabled}
            </span>
          )}
        </summary>
        <div className="stack inset">
          <p className="hint">{proofs.join(" · ")}</p>
          <RoleChoice chosen={roles} onChoose={setRoles} />
          <div className="buttons">
            {hasOtherRoles && (
              <button
                type="button"
                className="primary"
                disabled={act.isBusy || roles.length === 0}
                onClick={() => change(() => changePerson(api, name, { roles }))}
              >
                {text.saveRoles}
              </button>
            )}
            {!isDisabled && (
              <button type="button" className="outlined" disabled={act.isBusy} onClick={onReset}>
                {text.resetLink}
              </button>
            )}
            {sessions > 0 && (
              <button
                type="button"
                className="outlined"
                disabled={act.isBusy}
                onClick={() => change(() => endSessions(api, name))}
              >
                {text.endSessions}
              </button>
            )}
            {!isOwn && (
              <button
                type="button"
                className="outlined"
                disabled={act.isBusy}
                onClick={() => change(() => changePerson(api, name, { is_disabled: !isDisabled }))}
              >
                {isDisabled ? text.enable : text.disable}
              </button>
            )}
            {!isOwn && (
              <button
                type="button"
                className="danger"
                disabled={act.isBusy}
                onClick={() => window.confirm(text.removeQuestion(name)) && change(() => removePerson(api, name))}
              >
                {text.removeShort}
              </button>
            )}
          </div>
        </div>
      </details>
    </li>
  );
}

interface InvitationProps {
  invitation: OpenInvitation;
  isBusy: boolean;
  onWithdraw: () => void;
}

function InvitationRow({ invitation: { name, roles, endsAt, isReset }, isBusy, onWithdraw }: InvitationProps) {
  const { text, tag } = useLanguage();
  const until = text.countsUntil(shortMoment(endsAt, Date.now(), tag));
  return (
    <li className="row">
      <div>
        <p>
          {name} {!isReset && <RoleChips roles={roles} />}
        </p>
        <p className="hint">{isReset ? `${text.newPassword} · ${until}` : until}</p>
      </div>
      <button
        type="button"
        className="quiet"
        disabled={isBusy}
        aria-label={text.withdrawInvitation(name)}
        onClick={onWithdraw}
      >
        {text.withdraw}
      </button>
    </li>
  );
}

interface InviteProps {
  api: HubApi;
  onLink: (invitation: FreshInvitation) => void;
  onCancel: () => void;
}

function InviteForm({ api, onLink, onCancel }: InviteProps) {
  const text = useText();
  const [name, setName] = useState("");
  const [roles, setRoles] = useState<string[]>(["member"]);
  const act = useAct();
  const id = useId();
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    act.run(async () => onLink(await invite(api, name.trim(), roles)));
  };
  return (
    <form className="stack" onSubmit={submit} aria-busy={act.isBusy}>
      <div className="labelled">
        <label htmlFor={id}>{text.userName}</label>
        <input
          id={id}
          value={name}
          onChange={(event) => setName(event.target.value)}
          required
          maxLength={64}
          autoFocus
          autoComplete="off"
          autoCapitalize="none"
          spellCheck={false}
          placeholder={text.userNameExample}
        />
      </div>
      <RoleChoice chosen={roles} onChoose={setRoles} />
      <FailureNote act={act} />
      <div className="buttons">
        <button type="submit" className="primary" disabled={act.isBusy || name.trim() === "" || roles.length === 0}>
          {text.makeLink}
        </button>
        <button type="button" className="quiet" onClick={onCancel}>
          {text.cancel}
        </button>
      </div>
    </form>
  );
}

function Link({ invitation, onBack }: { invitation: FreshInvitation; onBack: () => void }) {
  const { text, tag } = useLanguage();
  const { name, token, endsAt } = invitation;
  const link = `${hubAddress()}/#invite=${encodeURIComponent(token)}`;
  return (
    <div className="stack">
      <p>{text.linkIntro(name)}</p>
      <QrCode content={link} label={text.linkAsPicture} />
      <CopyBox content={link} label={text.link} />
      <p className="hint">{text.linkEnds(shortMoment(endsAt, Date.now(), tag))}</p>
      <button type="button" className="outlined" onClick={onBack}>
        {text.back}
      </button>
    </div>
  );
}
