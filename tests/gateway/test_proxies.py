"""Only a proxy of the settings is believed about where a request comes from, and only in the header it sets."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.gateway.proxies import Proxies, ProxyHeader

PROXY, CLIENT = "10.0.0.1", "192.0.2.7"


def client(peer: str, value: str, header: ProxyHeader = "x-forwarded-for") -> str:
    return Proxies(["10.0.0.0/24", "::1"], header).client(peer, {header.encode(): value.encode("latin-1")})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (CLIENT, CLIENT),
        (f"{CLIENT}:4711", CLIENT),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        (f"198.51.100.9, {CLIENT}", CLIENT),
        (f"{CLIENT}, 10.0.0.2", CLIENT),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("", PROXY),
        ("unknown", PROXY),
        (f"{CLIENT}, unknown, 10.0.0.2", "10.0.0.2"),
        (f"{CLIENT}, ", PROXY),
    ],
)
def test_the_nearest_address_that_is_no_proxy_s_counts(value: str, expected: str) -> None:
    assert client(PROXY, value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"for={CLIENT}", CLIENT),
        (f'for="{CLIENT}:99";proto=https;by=10.0.0.1', CLIENT),
        ('For="[2001:db8::1]:4711"', "2001:db8::1"),
        (f"for=198.51.100.9, for={CLIENT};proto=http", CLIENT),
        ("for=_hidden", PROXY),
        ("for=unknown", PROXY),
        ("proto=https", PROXY),
    ],
)
def test_the_standard_s_header_is_read_where_the_settings_say_so(value: str, expected: str) -> None:
    assert client(PROXY, value, "forwarded") == expected


@pytest.mark.attack("forged X-Forwarded-For")
def test_who_is_no_proxy_is_not_believed() -> None:
    assert client("203.0.113.5", CLIENT) == "203.0.113.5"
    assert client("", CLIENT) == ""


@pytest.mark.attack("forged X-Forwarded-For")
def test_the_header_that_the_proxy_does_not_set_is_not_read() -> None:
    proxies = Proxies([PROXY], "x-forwarded-for")
    assert proxies.client(PROXY, {b"forwarded": b"for=198.51.100.9", b"x-forwarded-for": CLIENT.encode()}) == CLIENT
    assert proxies.client(PROXY, {b"forwarded": b"for=198.51.100.9"}) == PROXY


@pytest.mark.attack("forged X-Forwarded-For")
def test_a_chain_without_end_is_read_from_its_near_end_only() -> None:
    assert client(PROXY, ",".join(["198.51.100.9"] * 5000 + [CLIENT])) == CLIENT
    assert client(PROXY, ",".join(["198.51.100.9", *["10.0.0.2"] * 5000])) == "10.0.0.2"


@given(
    st.text(alphabet=st.characters(max_codepoint=255), max_size=200), st.sampled_from(["x-forwarded-for", "forwarded"])
)
def test_whatever_comes_an_address_is_told(value: str, header: ProxyHeader) -> None:
    found = client(PROXY, value, header)
    assert found == str(ip_address(found))
