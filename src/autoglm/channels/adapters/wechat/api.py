"""Requests to WeCom's and WeChat's servers with an access token, which is fetched anew once when it is refused."""

import json
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote, urlencode

import msgspec

from autoglm.channels.access_tokens import AccessTokens, NoToken, Token
from autoglm.channels.adapters.wechat.answers import Fields, Refused, fields_of
from autoglm.channels.adapters.wechat.uploads import Uploads
from autoglm.channels.delivery import Delivery, Reasons, Words
from autoglm.channels.web import Answer, NoAnswer, Web

TOKEN_CODES = frozenset({40001, 40014, 42001})
"""Invalid, invalid, expired."""
_LIFE_S = 7200.0


class Api:
    """`ask` requests an access token; what comes back is the vendor's answer to that."""

    def __init__(
        self, web: Web, base_url: str, *, vendor: Words, reasons: Reasons, ask: Callable[[], Awaitable[Answer]]
    ) -> None:
        self._web, self._base_url, self._vendor, self._reasons, self._ask = web, base_url, vendor, reasons, ask
        self._tokens = AccessTokens(self._fetch)
        self._uploads = Uploads(self._upload)

    async def post(self, path: str, body: object) -> Fields:
        """The fields of a good answer. Raises Refused, without doubt where the token is what failed."""
        data = json.dumps(body, ensure_ascii=False).encode()
        return await self._request("POST", path, {}, "application/json", data, has_code=True)

    async def get(self, path: str, **query: str) -> Fields:
        return await self._request("GET", path, query, "", None)

    async def post_with_media(
        self, path: str, body: Callable[[str], object], kind: str, name: str, data: bytes
    ) -> Fields:
        """Post what `body` makes of the id of a picture or file. Raises Refused."""

        async def post(media_id: str) -> Fields:
            return await self.post(path, body(media_id))

        return await self._uploads.post(post, kind, name, data)

    async def check(self) -> None:
        """Raises Refused when no new token is to be had, whatever is left of the old one."""
        try:
            await self._tokens.renewed()
        except NoToken as error:
            raise Refused(error.delivery) from None

    async def _request(
        self, method: str, path: str, query: Mapping[str, str], content_type: str, body: bytes | None, *,
        has_code: bool = False,
    ) -> Fields:  # fmt: skip
        async def attempt(token: str) -> Fields | Refused:
            url = f"{self._base_url}{path}?{urlencode({**query, 'access_token': token}, quote_via=quote)}"
            headers = {"Content-Type": content_type} if content_type else {}
            try:
                answer = await self._web.request(method, url, headers=headers, body=body)
                return fields_of(answer, self._vendor, self._reasons, has_code=has_code)
            except NoAnswer as error:
                return Refused(error.delivery)
            except Refused as error:
                return error

        try:
            found = await self._tokens.use(attempt, lambda one: isinstance(one, Refused) and one.code in TOKEN_CODES)
        except NoToken as error:
            raise Refused(error.delivery) from None
        if isinstance(found, Refused):
            raise found
        return found

    async def _upload(self, kind: str, content_type: str, form: bytes) -> Fields:
        return await self._request("POST", "/cgi-bin/media/upload", {"type": kind}, content_type, form)

    async def _fetch(self) -> Token:
        try:
            fields = fields_of(await self._ask(), self._vendor, self._reasons, has_code=False)
        except NoAnswer as error:
            raise NoToken(self._without_token(error.delivery)) from None
        except Refused as error:
            raise NoToken(self._without_token(error.delivery)) from None
        match fields.get("access_token"), fields.get("expires_in"):
            case str(text), int() | float() as lasts_s if text:
                return Token(text, lasts_s)
            case str(text), _ if text:
                return Token(text, _LIFE_S)
        raise NoToken(self._without_token(Delivery(outcome="retry", failure="transient", code="no_token")))

    def _without_token(self, delivery: Delivery) -> Delivery:
        """The message is not to blame, and not out: it waits, and an operator acts where the vendor says no."""
        why = delivery.reason
        known = delivery.code.lstrip("-").isdecimal()  # an errcode; the words of others speak of the message
        words = Words(
            f"no access token from {self._vendor.en} ({why.en if known else delivery.code})",
            f"未能从{self._vendor.zh}取得 access_token（{why.zh if known else delivery.code}）",
        )
        failure = "auth" if delivery.failure in ("permanent", "too_large") else delivery.failure
        return msgspec.structs.replace(delivery, outcome="retry", failure=failure, reason=words, is_in_doubt=False)
