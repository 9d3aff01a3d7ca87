"""Where a pull leads to."""

import msgspec

from autoglm.inference.models.folder import ModelFolder
from autoglm.inference.models.progress import Reporter


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A model's name in a folder, locked for the pull that holds this, and the one to tell about its progress."""

    folder: ModelFolder
    name: str
    reporter: Reporter
