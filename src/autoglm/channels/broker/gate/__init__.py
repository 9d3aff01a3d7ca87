"""The door before the hub's own broker: who a device is, which topics are its, and until when."""

from autoglm.channels.broker.gate.gate import Gate, logged, open_gate
from autoglm.channels.broker.gate.grants import Grants, subscribed
from autoglm.channels.broker.gate.rights import Attempt, Authenticate, Challenge, Decision, Record, Rights, Topics
from autoglm.channels.broker.gate.scopes import filters_of
from autoglm.channels.broker.gate.users import FixedUsers

__all__ = [
    "Attempt", "Authenticate", "Challenge", "Decision", "FixedUsers", "Gate", "Grants", "Record", "Rights", "Topics",
    "filters_of", "logged", "open_gate", "subscribed",
]  # fmt: skip
