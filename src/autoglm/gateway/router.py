"""From path and method to a handler. Paths are few and fixed, so a dict and a short list will do."""

import re
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple
from urllib.parse import unquote

from autoglm.core.errors import InvalidField, MethodNotAllowed, UnknownPath
from autoglm.gateway.exchange import Exchange

Handler = Callable[[Exchange, dict[str, str]], Awaitable[None]]

_has_bad_escape = re.compile(r"%(?![0-9A-Fa-f]{2})").search


class Route(NamedTuple):
    method: str
    template: str
    """`/api/messages/{id}/ack`; a variable stands for one segment, which may hold an encoded slash."""
    handler: Handler
    takes_rest: bool = False
    """True when the last variable stands for all that is left, plain slashes and all: clients do not encode them."""
    fits: Callable[[str], object] | None = None
    """What each variable must be like, as it came; where one is not, the path is none of this route."""
    may_end_in_slash: bool = False
    is_for_any_host: bool = False
    """True for what is called under names that this hub does not know, and verifies each caller by itself."""


class _Match(NamedTuple):
    methods: dict[str, Handler]
    route: str
    variables: dict[str, str]
    """As they came."""


class Router:
    """HEAD is answered by the handler of GET (the server leaves the body out), OPTIONS by the methods there are."""

    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes
        self._for_any_host = {route.template for route in routes if route.is_for_any_host}
        self._fixed: dict[str, dict[str, Handler]] = {}
        self._variable: list[tuple[list[str], dict[str, Handler], Route]] = []
        """With the first route of each template, which says how its variables are read."""
        for route in routes:
            if "{" not in route.template:
                methods = self._fixed.setdefault(route.template, {})
                methods[route.method] = route.handler
                if route.may_end_in_slash:
                    self._fixed[f"{route.template}/"] = methods
                continue
            segments = route.template.split("/")
            known = next((methods for known, methods, _ in self._variable if known == segments), None)
            if known is None:
                self._variable.append((segments, {route.method: route.handler}, route))
            else:
                known[route.method] = route.handler

    def find(self, exchange: Exchange) -> tuple[Handler, dict[str, str]]:
        """The handler and the path's variables. Raises UnknownPath, MethodNotAllowed, InvalidField; notes the route."""
        match = self._match(exchange)
        if match is None:
            raise UnknownPath(exchange.path[:200])
        exchange.route = match.route
        handler = _pick(match.methods, exchange)
        exchange.variables = {name: _decoded(name, value) for name, value in match.variables.items()}
        return handler, exchange.variables

    def has(self, exchange: Exchange) -> bool:
        """True where an endpoint takes this very method at this path."""
        match = self._match(exchange)
        return match is not None and ("GET" if exchange.is_head else exchange.method) in match.methods

    def is_for_any_host(self, exchange: Exchange) -> bool:
        """Whether an endpoint that takes this very method asks nobody under which name he calls."""
        match = self._match(exchange)
        return match is not None and match.route in self._for_any_host and exchange.method in match.methods

    def _match(self, exchange: Exchange) -> _Match | None:
        methods = self._fixed.get(exchange.path)
        if methods is not None:
            return _Match(methods, exchange.path, {})
        raw_path = exchange.head.raw_path.decode("ascii", "replace")
        for template, variable_methods, route in self._variable:
            path = raw_path.removesuffix("/") if route.may_end_in_slash else raw_path
            segments = path.split("/", len(template) - 1 if route.takes_rest else -1)
            if len(template) == len(segments) and all(
                theirs and (route.fits is None or route.fits(theirs)) if ours.startswith("{") else ours == theirs
                for ours, theirs in zip(template, segments, strict=True)
            ):
                variables = {
                    ours[1:-1]: theirs for ours, theirs in zip(template, segments, strict=True) if ours.startswith("{")
                }
                return _Match(variable_methods, route.template, variables)
        return None


def _pick(methods: dict[str, Handler], exchange: Exchange) -> Handler:
    method = exchange.method
    handler = methods.get("GET" if method == "HEAD" else method)
    if handler is not None:
        return handler
    return answer_without_handler(methods, exchange)


def answer_without_handler(methods: Collection[str], exchange: Exchange) -> Handler:
    """What answers OPTIONS for a path that takes `methods`. Raises MethodNotAllowed for every other method."""
    allowed = sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])})
    if exchange.method != "OPTIONS":
        raise MethodNotAllowed(exchange.method, exchange.path[:200], allowed)

    async def tell(exchange: Exchange, _: dict[str, str]) -> None:
        # No Access-Control headers: pages of other origins have no business here.
        exchange.respond(204, b"", [(b"allow", ", ".join(allowed).encode())])

    return tell


def _decoded(name: str, segment: str) -> str:
    if _has_bad_escape(segment) is not None:
        raise InvalidField(name, "has a % that two hexadecimal digits do not follow; write %25 for a percent sign")
    try:
        value = unquote(segment, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidField(name, "is not UTF-8") from error
    return value
