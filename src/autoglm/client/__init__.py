"""The Python client: asks models, sends and reads messages at a hub that runs elsewhere or on this machine."""

from autoglm.client.answer import Answer
from autoglm.client.client import Client, Page, Sent
from autoglm.client.errors import BrokenAnswer, ConnectionLost, HubProblem
from autoglm.client.events import Event
from autoglm.rendezvous import NoHub, NoKey

__all__ = [
    "Answer",
    "BrokenAnswer",
    "Client",
    "ConnectionLost",
    "Event",
    "HubProblem",
    "NoHub",
    "NoKey",
    "Page",
    "Sent",
]
