"""The fixed users of `[[mqtt_broker.user]]`, as the gate knows them."""

import hashlib
import hmac
from collections.abc import Sequence

from autoglm.channels.broker.gate.grants import Grants
from autoglm.channels.broker.gate.rights import Attempt, Rights
from autoglm.channels.broker_settings import BrokerUser
from autoglm.core.errors import Unauthorized

_NOBODY = hashlib.sha256(b"").digest()


class FixedUsers:
    """An Authenticate that knows them alone."""

    def __init__(self, users: Sequence[BrokerUser]) -> None:
        self._users = {user.name: user for user in users}
        self._digests = {
            user.name: hashlib.sha256(user.password.get_secret_value().encode()).digest() for user in users
        }  # fmt: skip

    async def __call__(self, attempt: Attempt) -> Rights:
        wanted = self._digests.get(attempt.username, _NOBODY)
        is_right = hmac.compare_digest(wanted, hashlib.sha256(attempt.password).digest())
        user = self._users.get(attempt.username)
        if attempt.method or user is None or not is_right:
            raise Unauthorized("the broker does not know this user name with this password")
        return Rights(user.name, Grants(user.publish, user.subscribe))
