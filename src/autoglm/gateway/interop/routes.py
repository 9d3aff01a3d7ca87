"""All that other programs' clients call, for the composition root."""

from collections.abc import Callable

from autoglm.auth.authenticator import Authenticator
from autoglm.channels.routes.notifier import Notifier
from autoglm.gateway.interop.apprise import AppriseGateway
from autoglm.gateway.interop.ntfy import NtfyGateway
from autoglm.gateway.interop.reception import Reception
from autoglm.gateway.router import Route


def interop_routes(
    auth: Authenticator, notifier: Notifier, check_open: Callable[[], None], *, max_body_bytes: int
) -> list[Route]:
    """check_open: raises Draining once the shutdown has begun.

    They are for any host: each caller brings its key, some in the query, where a browser's page could not know it.
    """
    reception = Reception(auth, notifier, check_open)
    routes = [
        *AppriseGateway(reception, max_body_bytes=max_body_bytes).routes(),
        *NtfyGateway(reception, max_body_bytes=max_body_bytes).routes(),
    ]
    return [route._replace(is_for_any_host=True) for route in routes]
