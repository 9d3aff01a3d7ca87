"""Whether a right still holds by which something goes on that no request asks for, such as pushes to a browser."""

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.devices import Devices
from autoglm.auth.keys import KeyRing
from autoglm.auth.people.accounts import Account
from autoglm.auth.principal import Judge, Principal
from autoglm.core.lasting import Asker, LastingRight, RightState


class LastingRights:
    def __init__(self, auth: Authenticator, keys: KeyRing, devices: Devices, judge: Judge) -> None:
        self._auth = auth
        self._keys = keys
        self._devices = devices
        self._judge = judge

    def of(self, principal: Principal, ends_at_ms: int | None = None) -> LastingRight:
        """ends_at_ms: of the token that was shown, where it was one."""
        kind, _, name = principal.credential.partition(":")
        if kind == "session":
            # As long as the account and its password: whoever wants alarms does not log in every week for them.
            session = self._auth.people.session_of(principal.credential)
            mark = "" if session is None else f"{session.account_id} {session.epoch} {session.method}"
            return LastingRight(credential=principal.address, mark=mark, scopes=principal.scopes)
        is_asked_for = kind == "key" or (kind == "jkt" and self._devices.by_jkt(name) is not None)
        return LastingRight(
            credential=principal.credential, mark=self._keys.mark_of(principal), scopes=principal.scopes,
            limit=principal.limit, ends_at_ms=None if is_asked_for else ends_at_ms,
        )  # fmt: skip

    def asker(self, principal: Principal, ends_at_ms: int | None = None) -> Asker:
        """As `of`, to be kept with what he asks for."""
        return Asker(address=principal.address, right=self.of(principal, ends_at_ms))

    def principal(self, asker: Asker) -> Principal | None:
        """As whom he counts now; None when what he showed then was revoked, has ended, or is another's now."""
        if self._auth.is_revoked((asker.right.credential, asker.address)):
            return None
        principal = self._principal(asker.right, asker.address)
        return principal if principal is not None and principal.address == asker.address else None

    def state(self, right: LastingRight, address: str, action: str, resource: str) -> RightState:
        """Whether whoever has it as `address` may still do that. Notes nothing."""
        if not right.credential:
            return "over" if self._auth.is_revoked((address,)) else "holds"
        principal = self.principal(Asker(address=address, right=right))
        if principal is None:
            return "over"
        return "holds" if principal.allows(action, resource) else "rests"

    def _principal(self, right: LastingRight, address: str) -> Principal | None:
        """As whom it counts now; None when its key has ended, its device was removed, or its time is up."""
        kind, _, name = right.credential.partition(":")
        scopes = right.scopes
        if kind == "user":
            account = self._person(right)
            return None if account is None else Principal(
                address, account.address, account.scopes, credential=right.credential, judge=self._judge
            )  # fmt: skip
        if kind == "key":
            return self._keys.marked(name, right.mark)
        if right.ends_at_ms is not None:
            if self._keys.now_ms() >= right.ends_at_ms:
                return None
        elif kind == "jkt":
            device = self._devices.by_jkt(name)
            if device is None:
                return None
            address, scopes = device.address, device.scopes
        return Principal(
            address, address, scopes, credential=right.credential, judge=self._judge, limit=right.limit
        )  # fmt: skip

    def _person(self, right: LastingRight) -> Account | None:
        people = self._auth.people
        account = people.by_address(right.credential)
        if account is None or account.is_disabled:
            return None
        mark, _, method = right.mark.rpartition(" ")
        if mark != f"{account.id} {account.epoch}":
            return None
        if method == "oidc" and (people.oidc is None or not people.oidc.holds(account)):
            return None
        return account
