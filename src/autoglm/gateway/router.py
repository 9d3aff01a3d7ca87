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


class Router:
    """HEAD is answered by the handler of GET (the server leaves the body out), OPTIONS by the methods there are."""

    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes
        self._fixed: dict[str, dict[str, Handler]] = {}
        self._variable: list[tuple[list[str], dict[str, Handler], str]] = []
        self._rest: set[str] = set()
        for route in routes:
            if "{" not in route.template:
                self._fixed.setdefault(route.template, {})[route.method] = route.handler
                continue
            if route.takes_rest:
                self._rest.add(route.template)
            segments = route.template.split("/")
            known = next((methods for known, methods, _ in self._variable if known == segments), None)
            if known is None:
                self._variable.append((segments, {route.method: route.handler}, route.template))
            else:
                known[route.method] = route.handler

    def find(self, exchange: Exchange) -> tuple[Handler, dict[str, str]]:
        """The handler and the path's variables. Raises UnknownPath, MethodNotAllowed; notes the route."""
        methods = self._fixed.get(exchange.path)
        if methods is not None:
            exchange.route = exchange.path
            return _pick(methods, exchange), {}
        raw_path = exchange.head.raw_path.decode("ascii", "replace")
        for template, variable_methods, name in self._variable:
            segments = raw_path.split("/", len(template) - 1 if name in self._rest else -1)
            if len(template) == len(segments) and all(
                theirs if ours.startswith("{") else ours == theirs
                for ours, theirs in zip(template, segments, strict=True)
            ):
                exchange.route = name
                handler = _pick(variable_methods, exchange)
                return handler, {
                    ours[1:-1]: _decoded(ours[1:-1], theirs)
                    for ours, theirs in zip(template, segments, strict=True)
                    if ours.startswith("{")
                }
        raise UnknownPath(exchange.path[:200])


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
