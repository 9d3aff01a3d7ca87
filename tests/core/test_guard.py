"""Where requests may go: public addresses, and what the settings name."""

import re
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.core.errors import AddressRefused
from autoglm.core.guard import AddressGuard, check_address, parse_allowed


@pytest.mark.attack("server-side request forgery")
@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",
        "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1",
        "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1",
        "255.255.255.255", "::", "::1", "::127.0.0.1", "::10.0.0.1", "::ffff:127.0.0.1", "::ffff:a00:1",
        "::ffff:0:10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::1", "100::1", "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "2002:a00:1::", "2002:7f00:1::1", "2002:a9fe:a9fe::",
        "3fff::1", "5f00::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "4000::1",
        "8000::1", "nonsense", "",
    ],
)  # fmt: skip
def test_what_is_not_public_is_refused(address: str) -> None:
    found = AddressGuard().refusal("hooks.example", address)
    assert found is not None
    assert "allow" in found.en
    assert re.search("[\u4e00-\u9fff]", found.zh)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "169.253.0.1", "223.255.0.1",
        "11.0.0.1", "2606:4700::1111", "2400:3200::1", "64:ff9b::1.1.1.1", "::ffff:8.8.8.8", "2002:808:808::1",
    ],
)  # fmt: skip
def test_what_is_public_may_be_called(address: str) -> None:
    assert AddressGuard().refusal("hooks.example", address) is None


@pytest.mark.attack("server-side request forgery")
@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "1.2.3", "08.8.8.8", "8.8.8.8.8", "256.1.1.1", "x.1"],
)
def test_a_number_in_another_form_is_refused_even_for_a_public_address(host: str) -> None:
    """What one library takes for a name another one takes for an address: WHATWG, inet_aton and Python differ."""
    assert AddressGuard(["0.0.0.0/0"]).refusal(host, "8.8.8.8") is not None


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "ip6-localhost", "x.localdomain"])
def test_local_names_are_refused_whatever_they_resolve_to(host: str) -> None:
    assert AddressGuard().refusal(host, "8.8.8.8") is not None
    assert AddressGuard([host]).refusal(host, "127.0.0.1") is None


def test_a_network_allows_its_addresses_in_each_form() -> None:
    guard = AddressGuard(["10.1.0.0/16", "fd00::/64", "127.0.0.2"])
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd00::7", "127.0.0.2"):
        assert guard.refusal("erp.example", address) is None
    for address in ("10.2.0.1", "::ffff:10.2.0.1", "fd00:0:0:1::7", "127.0.0.1"):
        assert guard.refusal("erp.example", address) is not None


def test_a_name_allows_private_addresses_and_no_metadata() -> None:
    guard = AddressGuard(["ERP.intranet."])
    assert guard.refusal("erp.intranet", "192.168.7.7") is None
    assert guard.refusal("erp.intranet", "::1") is None
    assert guard.refusal("erp.intranet.", "10.0.0.1") is None
    for address in ("169.254.169.254", "0.0.0.0", "224.0.0.1", "fe80::1"):
        assert guard.refusal("erp.intranet", address) is not None
    assert guard.refusal("other.intranet", "192.168.7.7") is not None
    assert AddressGuard(["169.254.0.0/16"]).refusal("meta", "169.254.169.254") is None


@pytest.mark.parametrize("entry", ["", " ", "10.0.0.1/8", "10.0.0", "a b", "http://x", "*.example", "x:80", "-x"])
def test_what_cannot_be_allowed_is_told(entry: str) -> None:
    with pytest.raises(ValueError, match="neither a host's name nor a network"):
        parse_allowed(entry)


@given(st.ip_addresses(v=4))
def test_each_way_to_carry_an_ipv4_address_is_judged_as_the_address(address: IPv4Address) -> None:
    guard = AddressGuard()
    is_public = guard.refusal("h.example", str(address)) is None
    high, low = divmod(int(address), 1 << 16)
    for form in (f"::ffff:{address}", f"64:ff9b::{address}", f"::ffff:0:{address}", f"2002:{high:x}:{low:x}::1"):
        assert (guard.refusal("h.example", form) is None) is is_public, form


def test_what_an_operator_named_leads_to_itself_and_to_the_public_only() -> None:
    guard = AddressGuard.beside("https://idp.factory:8443/x", "http://10.1.2.3/policy")
    assert guard.refusal("idp.factory", "192.168.7.7") is None
    assert guard.refusal("10.1.2.3", "10.1.2.3") is None
    assert guard.refusal("elsewhere.example", "8.8.8.8") is None
    assert guard.refusal("elsewhere.example", "192.168.7.7") is not None
    assert guard.refusal("10.1.2.4", "10.1.2.4") is not None
    assert guard.refusal("idp.factory", "169.254.169.254") is not None, "no directory lists a cloud's metadata"


@pytest.mark.attack("server-side request forgery")
@pytest.mark.parametrize("url", ["http://127.0.0.1/x", "http://localhost/x", "https://[::1]:9/", "http://10.0.0.1"])
async def test_an_address_is_checked_by_what_it_resolves_to(url: str) -> None:
    with pytest.raises(AddressRefused, match="does not call"):
        await check_address(AddressGuard(), url)
    await check_address(AddressGuard(["127.0.0.0/8", "::1", "10.0.0.1", "localhost"]), url)
