"""Opens the second places of the audit, as the settings name them."""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from autoglm.auth.audit.elastic_place import ElasticsearchPlace, Request
from autoglm.auth.audit.file_place import FilePlace
from autoglm.auth.audit.places import Place
from autoglm.auth.audit.settings import (
    ElasticsearchPlaceSettings,
    FilePlaceSettings,
    PlaceSettings,
    SyslogPlaceSettings,
)
from autoglm.auth.audit.syslog_place import SyslogPlace

_TIMEOUT_S = 30.0
_MAX_ANSWER_BYTES = 8 << 20


@asynccontextmanager
async def open_places(settings: Sequence[PlaceSettings], site: str) -> AsyncIterator[list[Place]]:
    async with AsyncExitStack() as resources:
        places: list[Place] = []
        for entry in settings:
            match entry:
                case FilePlaceSettings():
                    places.append(FilePlace(entry))
                case SyslogPlaceSettings():
                    places.append(SyslogPlace(entry))
                case ElasticsearchPlaceSettings():
                    request = await resources.enter_async_context(_requests(entry))
                    places.append(ElasticsearchPlace(entry, site, request))
        yield places


@asynccontextmanager
async def _requests(settings: ElasticsearchPlaceSettings) -> AsyncIterator[Request]:
    """To the one address of the settings, without redirects."""
    import aiohttp

    key = settings.api_key
    headers = {} if key is None else {"authorization": f"ApiKey {key.get_secret_value()}"}
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(), limit=1)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:

        async def request(method: str, path: str, body: bytes, media_type: str) -> tuple[int, bytes]:
            try:
                async with session.request(
                    method, settings.url.rstrip("/") + path, data=body, headers={"content-type": media_type},
                    allow_redirects=False,
                ) as answer:  # fmt: skip
                    content = bytearray()
                    async for chunk in answer.content.iter_chunked(64 << 10):
                        content += chunk
                        if len(content) > _MAX_ANSWER_BYTES:
                            raise OSError("the answer is too long")
                    return answer.status, bytes(content)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise OSError(str(error) or type(error).__name__) from error

        yield request
