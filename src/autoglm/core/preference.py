"""What matters of an answer where the hub chooses the model."""

from typing import Literal

PreferenceName = Literal["fast", "balanced", "best", "cheap"]
