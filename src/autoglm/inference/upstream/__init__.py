"""Asks model instances over HTTP: pooled connections, timeouts, back-pressure, and honest ends of replies."""

from autoglm.inference.upstream.endpoint import Endpoint, header_lines
from autoglm.inference.upstream.reply import Reply
from autoglm.inference.upstream.upstream import Upstream, open_upstream

__all__ = ["Endpoint", "Reply", "Upstream", "header_lines", "open_upstream"]
