"""Opens the calls that a vendor makes to /api/hooks/NAME: checks time and signature, and decrypts."""

from collections.abc import Callable

from autoglm.channels.adapters.wechat.crypto import BadCall, CallbackCipher, check_signature, signature_of
from autoglm.channels.adapters.wechat.elements import MAX_BYTES, Element, parse_xml
from autoglm.channels.channel import HookCall, HookReply
from autoglm.core.clock import now_ms

_MAX_FIELD = 512
"""Characters of a signed field of the query; an echostr has some 200."""
REFUSED_STATUS = {"signature": 403, "receiver": 403, "time": 403, "size": 413}


class Callback:
    """One app's end of the vendor's calls. Cheap checks come first, so that a flood of wrong calls costs little."""

    def __init__(
        self, token: str, aes_key: str | None, receiver: str, *, window_s: float, clock_ms: Callable[[], int] = now_ms
    ) -> None:
        """window_s: how far the time of a call may be from ours, either way. aes_key: None for plain text."""
        self._token = token
        self.cipher = CallbackCipher(aes_key, receiver) if aes_key is not None else None
        self._window_s = window_s
        self._clock_ms = clock_ms

    def echo(self, call: HookCall) -> str:
        """What the vendor wants to hear when an address is entered: to the byte, without quotes. Raises BadCall."""
        stamp = self._stamp(call)
        text = _field(call, "echostr")
        if "msg_signature" not in call.query:  # Official Accounts sign it without encrypting it
            check_signature(_field(call, "signature"), self._token, *stamp)
            return text
        check_signature(_field(call, "msg_signature"), self._token, *stamp, text)
        return self._decrypted(text)

    def message(self, call: HookCall) -> Element:
        """What the vendor brings. Raises BadCall."""
        stamp = self._stamp(call)
        if len(call.body) > MAX_BYTES:
            raise BadCall("size", f"the body is over {MAX_BYTES} bytes")
        if self.cipher is None:  # the signature covers no body then
            check_signature(_field(call, "signature"), self._token, *stamp)
            return parse_xml(call.body)
        signature = _field(call, "msg_signature")
        encrypted = parse_xml(call.body).get("Encrypt")
        check_signature(signature, self._token, *stamp, encrypted)
        return parse_xml(self._decrypted(encrypted))

    def sealed(self, message: str, nonce: str) -> bytes:
        """An answer to a call, encrypted and signed."""
        if self.cipher is None:
            return message.encode()
        text, stamp = self.cipher.encrypt(message), str(self._clock_ms() // 1000)
        signature = signature_of(self._token, stamp, nonce, text)
        return (
            f"<xml><Encrypt><![CDATA[{text}]]></Encrypt><MsgSignature><![CDATA[{signature}]]></MsgSignature>"
            f"<TimeStamp>{stamp}</TimeStamp><Nonce><![CDATA[{nonce}]]></Nonce></xml>"
        ).encode()

    def _stamp(self, call: HookCall) -> tuple[str, str]:
        """timestamp and nonce, once the time is near enough: an old call is a replayed one."""
        text = _field(call, "timestamp", "time")
        if not (text.isascii() and text.isdecimal() and len(text) <= 12):
            raise BadCall("time", "the timestamp is no number of seconds")
        if abs(self._clock_ms() / 1000 - int(text)) > self._window_s:
            raise BadCall("time", "the call is too old or from the future; are the clocks right?")
        return text, _field(call, "nonce")

    def _decrypted(self, text: str) -> str:
        if self.cipher is None:
            raise BadCall("receiver", "the call is encrypted, and the settings have no aes_key")
        return self.cipher.decrypt(text)


def _field(call: HookCall, name: str, code: str = "signature") -> str:
    text = call.query.get(name, "")
    if not text or len(text) > _MAX_FIELD:
        raise BadCall(code, f"{name} is missing or too long")
    return text


def refusal(error: BadCall) -> HookReply:
    """One line in plain text: vendors show nothing of it, operators find it in their tools."""
    return HookReply(REFUSED_STATUS.get(error.code, 400), f"{error.code}: {error}\n".encode())
