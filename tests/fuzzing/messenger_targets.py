"""What messengers bring by the connections that channels keep up."""

import asyncio

from autoglm.channels.adapters.dingtalk.heard import Unreadable as NotFromDingTalk
from autoglm.channels.adapters.dingtalk.heard import heard as heard_by_dingtalk
from autoglm.channels.adapters.feishu.frames import Frame, Malformed, decoded, encoded
from autoglm.channels.adapters.feishu.heard import Said
from autoglm.channels.adapters.feishu.heard import Unreadable as NotFromFeishu
from autoglm.channels.adapters.feishu.heard import heard as heard_by_feishu
from autoglm.channels.adapters.ntfy import envelope_of as envelope_of_ntfy
from autoglm.channels.adapters.ntfy import read_event
from autoglm.channels.adapters.telegram.updates import NoUpdate, incoming_of, read_update
from autoglm.channels.adapters.wecom_aibot.frames import BadFrame, parse_frame
from autoglm.channels.adapters.wecom_aibot.incoming import message_of as message_of_aibot
from autoglm.channels.adapters.wecom_aibot.incoming import press_in
from autoglm.channels.vendor_json import vendor_value
from autoglm.core.envelope import Envelope, check_texts, encode_envelope
from autoglm.core.errors import InvalidField
from fuzzing.inbox import check_kept
from fuzzing.target import Target

_TO = "user:alice"


async def _no_picture(url: str, key: str) -> bytes | None:
    return b"\x89PNG"


def fuzz_wecom_aibot(data: bytes) -> None:
    frame = parse_frame(data)
    press_in(frame.body)
    envelope = asyncio.run(message_of_aibot("c", _TO, frame.body, _no_picture))
    check_texts(envelope)
    encode_envelope(envelope)


def fuzz_dingtalk(data: bytes) -> None:
    _checked(heard_by_dingtalk(data.decode("utf-8", "replace"), channel="c", incoming_to=_TO).envelope)


def fuzz_feishu(data: bytes) -> None:
    found = heard_by_feishu(data, channel="c", incoming_to=_TO)
    if isinstance(found, Said):
        _checked(found.envelope)


def fuzz_feishu_frame(data: bytes) -> None:
    frame = decoded(data)
    assert decoded(encoded(frame)) == frame


def fuzz_telegram(data: bytes) -> None:
    found = incoming_of(read_update(vendor_value(data)), "7")
    if found is not None:
        _checked(found.envelope)


def fuzz_ntfy_stream(data: bytes) -> None:
    incoming = read_event(data)
    if incoming is not None:
        _checked(envelope_of_ntfy(incoming, sender="channel:c/t", to=_TO))


def _checked(envelope: Envelope) -> None:
    check_texts(envelope)
    check_kept(envelope)


_JSON_WORDS = (
    b"123456789012345678901234567890", b'"\\ud800"', b"null", b"[" * 60, b'{"a":', b"1e400", b"NaN", b"true", b"-1",
    b'"content":', b'"\\u0000"', b"9007199254740993", b"18446744073709551616",
)  # fmt: skip

TARGETS = (
    Target("wecom-aibot", fuzz_wecom_aibot, (
        b'{"cmd":"aibot_msg_callback","headers":{"req_id":"r"},"body":{"msgid":"m","chattype":"group","chatid":"g",'
        b'"from":{"userid":"u"},"msgtype":"mixed","mixed":{"msg_item":[{"msgtype":"text","text":{"content":"x"}},'
        b'{"msgtype":"image","image":{"url":"https://a","aeskey":"k"}}]},"quote":{"msgtype":"text","text":'
        b'{"content":"q"}},"create_time":1}}',
        b'{"cmd":"aibot_event_callback","body":{"event":{"eventtype":"template_card_event","template_card_event":'
        b'{"event_key":"k","task_id":"t"}},"from":{"userid":"u"},"msgtype":"event"}}',
    ), (BadFrame, InvalidField), _JSON_WORDS),
    Target("dingtalk", fuzz_dingtalk, (
        b'{"msgId":"m","senderStaffId":"s","senderNick":"n","conversationId":"cid","conversationType":"2","msgtype":'
        b'"text","text":{"content":" hi ","isReplyMsg":true,"repliedMsg":{"msgId":"q"}},"createAt":1,"sessionWebhook":'
        b'"https://oapi.dingtalk.com/x","sessionWebhookExpiredTime":2}',
        b'{"msgId":"m","senderId":"s","conversationId":"c","msgtype":"richText","content":{"richText":[{"text":"a"},'
        b'{"pictureDownloadCode":"p"}]}}',
        b'{"msgId":"m","senderId":"s","conversationId":"c","msgtype":"file","content":{"size":1,"name":"f"}}',
    ), (NotFromDingTalk, InvalidField), _JSON_WORDS),
    Target("feishu", fuzz_feishu, (
        b'{"header":{"event_type":"im.message.receive_v1","event_id":"e"},"event":{"sender":{"sender_type":"user",'
        b'"sender_id":{"open_id":"o"}},"message":{"message_id":"m","chat_id":"c","chat_type":"p2p","create_time":"1",'
        b'"message_type":"text","content":"{\\"text\\":\\"@_user_1 hi\\"}","mentions":[{"key":"@_user_1",'
        b'"name":"n"}]}}}',
        b'{"header":{"event_type":"im.message.receive_v1"},"event":{"sender":{"sender_type":"user","sender_id":{'
        b'"open_id":"o"}},"message":{"message_id":"m","chat_id":"c","message_type":"post","content":"{\\"title\\":'
        b'\\"t\\",\\"content\\":[[{\\"tag\\":\\"a\\",\\"text\\":\\"x\\",\\"href\\":\\"h\\"}]]}"}}}',
        b'{"header":{"event_type":"card.action.trigger","event_id":"e","create_time":"1700000000000000"},"event":{'
        b'"operator":{"open_id":"o"},"action":{"value":{"text":"t","action":"ack"},"tag":"button","form_value":{"a":1}},'
        b'"context":{"open_message_id":"m","open_chat_id":"c"}}}',
        b'{"header":{"event_type":"im.message.message_read_v1"},"event":{"message_id_list":["m"]}}',
    ), (NotFromFeishu, InvalidField), _JSON_WORDS),
    Target("feishu-frame", fuzz_feishu_frame, (
        encoded(Frame(seq_id=1, log_id=2, service=-1, method=1, headers=(("type", "event"),), payload=b"{}")),
        encoded(Frame(payload_encoding="gzip", payload_type="x", log_id_new="y")),
    ), (Malformed,), (b"\xff" * 9 + b"\x01", b"\x08", b"\x2a", b"\x42")),
    Target("telegram", fuzz_telegram, (
        b'{"update_id":1,"message":{"message_id":2,"chat":{"id":-3},"date":4,"from":{"id":5,"username":"u"},"caption":'
        b'"c","photo":[{"file_id":"f","file_size":9}],"reply_to_message":{"message_id":1,"chat":{"id":-3}}}}',
        b'{"update_id":1,"callback_query":{"id":"q","from":{"id":5},"data":"ack:m","message":{"message_id":1,"chat":'
        b'{"id":3}}}}',
        b'{"update_id":1,"channel_post":{"message_id":2,"chat":{"id":3},"document":{"file_id":"f","file_name":"n",'
        b'"mime_type":"a/b"}}}',
    ), (NoUpdate, InvalidField), _JSON_WORDS),
    Target("ntfy-stream", fuzz_ntfy_stream, (
        b'{"id":"i","event":"message","topic":"t","time":1,"message":"ack:m","title":"x","priority":5,"tags":["a"],'
        b'"attachment":{"url":"u"}}',
    ), (InvalidField,), _JSON_WORDS),
)  # fmt: skip
