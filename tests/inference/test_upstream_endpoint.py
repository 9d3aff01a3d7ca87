"""An endpoint refuses what could not be sent safely, and keeps its secrets."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from autoglm.core.errors import InvalidField, SettingsError
from autoglm.inference.upstream import Endpoint, header_lines, open_upstream
from autoglm.inference.upstream.plain import PlainUpstream
from autoglm.inference.upstream.secure import SecureUpstream

URL = "http://127.0.0.1:9001/v1"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"base_url": "ftp://host/v1"}, "base_url: is no http"),
        ({"base_url": "http://"}, "base_url: names no host"),
        ({"base_url": "127.0.0.1:9001"}, "base_url: names no host"),
        ({"base_url": "http://host:99999"}, "base_url: has a host or a port that cannot be read"),
        ({"base_url": "http://me:hunter2@host"}, "base_url: holds a user name"),
        ({"base_url": "http://host/v1?key=hunter2"}, "base_url: ends in a query"),
        ({"base_url": "http://host/v1\r\nX: y"}, "base_url: holds a blank"),
        ({"base_url": "http://host/模型"}, "base_url: has a path"),
        ({"base_url": f"http://{'a' * 70}.example"}, "base_url: has a host name"),
        ({"api_key": SecretStr("hunter2\r\nX: y")}, "api_key: "),
        ({"api_key": SecretStr("hunter2\n")}, "api_key: "),
        ({"api_key": SecretStr("")}, "api_key: is empty"),
        ({"api_key": SecretStr("k"), "headers": {"authorization": "hunter2"}}, "contradicts api_key"),
        ({"headers": {"X-A": "hunter2\r\nX-B: c"}}, "X-A: holds a line break"),
        ({"headers": {"X-A": "模型"}}, "X-A: holds a line break, a control character or one outside Latin-1"),
        ({"headers": {"X-A\r\nX-B": "c"}}, "no header name"),
        ({"headers": {"": "c"}}, "no header name"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "set by the hub itself"),
        ({"proxy": "socks5://host:1080"}, "proxy: is no http"),
        ({"proxy": "http://me:hunter2@host:port"}, "proxy: has a host or a port"),
        ({"proxy": "http://host/path"}, "proxy: has more"),
    ],
)
def test_unsafe_settings_are_refused_by_name_and_without_their_secrets(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Endpoint(**{"name": "glm-a", "base_url": URL} | options)
    assert "instance 'glm-a': " in str(caught.value)
    assert reason in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Endpoint(name="a", base_url="ftp://host", api_key=SecretStr(""), headers={"": "c"}, proxy="http://")
    fields = [problem.split(": ")[1] for problem in caught.value.problems]
    assert fields == ["base_url", "api_key", "proxy", "headers"]


def test_no_secret_shows_in_the_repr() -> None:
    endpoint = Endpoint(
        name="glm-a",
        base_url=URL,
        api_key=SecretStr("hunter2"),
        headers={"X-Key": "hunter2"},
        proxy="http://me:hunter2@127.0.0.1:3128",
    )
    assert "hunter2" not in repr(endpoint)
    assert "glm-a" in repr(endpoint)


@pytest.mark.parametrize(
    ("url", "place", "host_header", "path"),
    [
        ("http://glm.example", "glm.example:80", "glm.example", ""),
        ("http://glm.example:8000/v1/", "glm.example:8000", "glm.example:8000", "/v1"),
        ("https://GLM.example:443/a/b", "glm.example:443", "glm.example", "/a/b"),
        ("http://[::1]:9001/v1", "[::1]:9001", "[::1]:9001", "/v1"),
        ("https://[2001:db8::1]/v1", "[2001:db8::1]:443", "[2001:db8::1]", "/v1"),
        ("http://bücher.example/v1", "xn--bcher-kva.example:80", "xn--bcher-kva.example", "/v1"),
    ],
)
def test_a_base_url_is_taken_apart(url: str, place: str, host_header: str, path: str) -> None:
    origin = Endpoint(name="glm-a", base_url=url).origin
    assert (origin.place, origin.host_header, origin.path) == (place, host_header, path)


def test_a_header_of_ones_own_replaces_the_hubs() -> None:
    endpoint = Endpoint(name="glm-a", base_url=URL, headers={"user-agent": "robot", "api-key": "k"})
    assert endpoint.fixed_headers == {"user-agent": "robot", "api-key": "k"}


def test_the_client_fits_the_way() -> None:
    assert isinstance(open_upstream(Endpoint(name="a", base_url="http://host/v1")), PlainUpstream)
    assert isinstance(open_upstream(Endpoint(name="a", base_url="https://host/v1")), SecureUpstream)
    assert isinstance(open_upstream(Endpoint(name="a", base_url="http://host/v1", proxy="http://p:1")), SecureUpstream)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=12), max_size=4))
def test_header_lines_hold_one_line_for_each_header_or_are_refused(headers: dict[str, str]) -> None:
    try:
        lines = header_lines(headers)
    except InvalidField:
        return
    assert lines.count(b"\r") == lines.count(b"\n") == lines.count(b"\r\n") == len(headers)
    assert [line.partition(b":")[0].decode() for line in lines.split(b"\r\n")[:-1]] == list(headers)
