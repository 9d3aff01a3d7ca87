"""AutoGLM Hub: a self-hosted AI hub that goes on working without a cloud or a steady network."""

from typing import TYPE_CHECKING

from autoglm.version import __version__

if TYPE_CHECKING:
    from autoglm.app import Hub
    from autoglm.client import Client
else:

    def __getattr__(name: str) -> object:
        """`Hub` and `Client` are loaded when asked for: local workers and `--help` must not pay for them."""
        match name:
            case "Client":
                from autoglm.client import Client

                return Client
            case "Hub":
                from autoglm.app import Hub

                return Hub
            case _:
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Client", "Hub", "__version__"]
