"""Which names are this hub's, and which pages its own."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.gateway.hosts import Hosts, is_origin_of, same_origin

OURS = Hosts(["hub.factory.example", ".plant.example"])
MACHINE = socket.gethostname().lower().encode()


@pytest.mark.parametrize(
    "authority",
    [
        b"127.0.0.1", b"127.0.0.1:8600", b"10.1.2.3:8600", b"[::1]", b"[fe80::1]:8600", b"localhost", b"LOCALHOST:1",
        b"app.localhost:8600", b"hub", b"hub:8600", MACHINE, MACHINE + b".local:8600", b"hub.factory.example",
        b"Hub.Factory.Example.:443", b"a.plant.example", b"a.b.plant.example:80",
    ],
)  # fmt: skip
def test_addresses_plain_names_and_configured_ones_are_ours(authority: bytes) -> None:
    assert OURS.has(authority)


@pytest.mark.attack("DNS rebinding")
@pytest.mark.parametrize(
    "authority",
    [
        b"evil.example", b"evil.example:8600", b"127.0.0.1.evil.example", b"localhost.evil.example", b"plant.example",
        b"xplant.example", b"hub.factory.example.evil.example", b"other.local", b"", b":8600", b"hub:port", b"a b",
        b"evil.example@127.0.0.1", b"127.0.0.1\tevil.example", b"[::1", b"hub/x", b"127.0.0.1,evil.example",
        b"127.0.0.1#.evil.example", b"\xff.example", b"x" * 300, b"2130706433.evil.example", b"127.1", b"0x7f.1",
    ],
)  # fmt: skip
def test_a_name_that_a_stranger_can_own_is_not_ours(authority: bytes) -> None:
    assert not OURS.has(authority)


def test_with_tls_the_certificate_decides() -> None:
    assert Hosts(are_all=True).has(b"evil.example")
    assert not Hosts(are_all=True).has(b"a b")


def headers(**lines: str) -> dict[bytes, bytes]:
    return {name.replace("_", "-").encode(): value.encode() for name, value in lines.items()}


@pytest.mark.parametrize(
    "lines",
    [
        {"host": "hub:8600", "origin": "http://hub:8600"},
        {"host": "hub:8600", "origin": "http://hub:8600", "sec_fetch_site": "same-origin"},
        {"host": "hub:8600", "sec_fetch_site": "same-origin"},
        {"host": "hub.factory.example", "origin": "https://hub.factory.example"},
        {"host": "hub.factory.example:443", "origin": "https://hub.factory.example"},
        {"host": "HUB", "origin": "http://hub"},
        {"host": "[::1]:8600", "origin": "http://[::1]:8600"},
    ],
)
def test_the_hub_s_own_page_may_use_its_cookie(lines: dict[str, str]) -> None:
    assert same_origin(headers(**lines), OURS)


@pytest.mark.attack("cross-site request forgery")
@pytest.mark.parametrize(
    "lines",
    [
        {"host": "hub:8600", "origin": "http://evil.example"},
        {"host": "hub:8600", "origin": "null"},
        {"host": "hub:8600", "origin": ""},
        {"host": "hub:8600"},
        {"host": "hub:8600", "referer": "http://hub:8600/"},
        {"host": "hub:8600", "origin": "http://hub:8601"},
        {"host": "hub:8600", "origin": "http://hub"},
        {"host": "hub:8600", "origin": "file://hub:8600"},
        {"host": "hub:8600", "origin": "http://hub:8600.evil.example"},
        {"host": "hub:8600", "origin": "http://hub:8600@evil.example"},
        {"host": "hub:8600", "origin": "http://hub:8600", "sec_fetch_site": "same-site"},
        {"host": "hub:8600", "origin": "http://hub:8600", "sec_fetch_site": "cross-site"},
        {"host": "hub:8600", "origin": "http://hub:8600", "sec_fetch_site": "none"},
        {"host": "hub:8600", "origin": "http://evil.example", "sec_fetch_site": "same-origin"},
        {"host": "evil.example", "origin": "http://evil.example", "sec_fetch_site": "same-origin"},
        {"origin": "http://hub:8600"},
    ],
)
def test_a_page_of_others_may_not(lines: dict[str, str]) -> None:
    assert not same_origin(headers(**lines), OURS)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_whatever_comes_is_answered(origin: bytes, host: bytes) -> None:
    OURS.has(host)
    assert is_origin_of(origin, host) in (True, False)
