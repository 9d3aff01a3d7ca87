"""What is done to policies on their way and in the cache, and that none of it is taken.

Each test ends with the policy that held before, which revokes `user:mallory`, still holding after a restart. The
scenarios are those of the TUF conformance suite (theupdateframework/tuf-conformance), and some of our own.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner

from auth.policy.authority import DAY_MS, START_MS, Authority, Site, WebServer, policy_files, revoking
from autoglm.auth.policy.client import PolicyClient
from autoglm.auth.policy.metadata import ISSUED, TopRole, utc
from autoglm.auth.policy.sources import ZipSource
from autoglm.core.errors import HubError, NotFound, PolicyRefused

attack = pytest.mark.attack


@pytest.fixture(autouse=True)
def _held(authority: Authority, site: Site) -> Iterator[None]:
    """Mallory's revocation outlives each attack."""
    site.client.pull(authority.source())
    yield
    if not site.cache.exists() or not (site.trust / "seen.json").exists():
        return
    try:
        held = site.restarted().load()
    except PolicyRefused:
        return  # nothing holds, which a decider answers by denying
    assert held is not None
    assert "user:mallory" in held.revocations


def refused(site: Site, web: WebServer, match: str) -> None:
    with pytest.raises(PolicyRefused, match=match):
        site.restarted().pull(web.source())


def set_version(number: int, signed: Any) -> None:
    signed.version = number


def copy_of(folder: Path, name: str) -> Path:
    return Path(shutil.copytree(folder, folder.with_name(name), dirs_exist_ok=True))


# --- rollback ---


@attack("snapshot rollback")
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_an_older_version_of_a_role_is_refused(authority: Authority, site: Site, web: WebServer, role: str) -> None:
    """Signed by the right keys, who were tricked or stolen."""
    authority.publish(revoking("user:mallory", "user:eve"))
    site.client.pull(web.source())

    def older(signed: Any) -> None:
        signed.version = 1

    if role == "timestamp":
        authority.forge("timestamp.json", older)
        refused(site, web, r"timestamp\.json: its version is 1, and 2 was seen")
    elif role == "snapshot":
        authority.forge("2.snapshot.json", older, to="1.snapshot.json")
        refused(site, web, r"the snapshot's version in it is 1, and 2 was seen")
    else:
        authority.forge("2.targets.json", older, to="1.targets.json")
        refused(site, web, r"snapshot\.json: the version of 'targets\.json' in it is 1, and 2 was seen")


@attack("snapshot rollback")
def test_the_whole_repository_of_yesterday_is_refused(authority: Authority, site: Site, web: WebServer) -> None:
    yesterday = copy_of(authority.folder, "yesterday")
    authority.publish(revoking("user:mallory", "user:eve"))
    site.client.pull(web.source())
    web.folder = yesterday
    refused(site, web, r"timestamp\.json: its version is 1, and 2 was seen before")


@attack("snapshot rollback")
def test_a_targets_role_may_not_disappear(authority: Authority, site: Site, web: WebServer) -> None:
    authority.forge("1.snapshot.json", lambda s: s.meta.update(wards=s.meta["targets.json"]), to="1.snapshot.json")
    authority.forge("1.snapshot.json", lambda s: setattr(s, "version", 2), to="2.snapshot.json")
    site.client.pull(web.source())

    def forget(signed: Any) -> None:
        signed.version = 3
        del signed.meta["wards"]

    authority.forge("2.snapshot.json", forget, to="3.snapshot.json")
    refused(site, web, r"snapshot\.json: it has no 'wards' any more")


@attack("snapshot rollback")
def test_an_older_root_is_refused(authority: Authority, site: Site, web: WebServer) -> None:
    """A root whose keys were taken away comes no more, also where the cache was emptied."""
    old = copy_of(authority.folder, "old")
    authority.repository.rotate(
        "targets", authority.targets.public_key.keyid, CryptoSigner.generate_ed25519().public_key
    )
    authority.sign_root()
    authority.repository.publish([authority.online])
    with pytest.raises(HubError):  # the policy that is published is signed by the key that went
        site.client.pull(web.source())
    shutil.rmtree(site.cache)
    web.folder = old
    refused(site, web, r"root\.json: version 1 is all there is, and 2 was seen before")


@attack("snapshot rollback")
def test_a_root_of_another_number_is_refused(authority: Authority, site: Site, web: WebServer) -> None:
    for number in (1, 3):
        authority.forge("1.root.json", partial(set_version, number), to="2.root.json")
        refused(site, web, rf"2\.root\.json: it has version {number}")


# --- freeze ---


@attack("freeze")
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_what_has_ended_is_not_news(authority: Authority, site: Site, web: WebServer, role: str) -> None:
    def ended(signed: Any) -> None:
        signed.version += 1
        signed.expires = utc(START_MS)
        if role == "timestamp":
            signed.unrecognized_fields.pop(ISSUED)

    name = {"root": "1.root.json", "timestamp": "timestamp.json"}.get(role, f"1.{role}.json")
    authority.forge(name, ended, to="timestamp.json" if role == "timestamp" else f"2.{role}.json")
    refused(site, web, rf"{role}\.json: version 2 ended at 2026-09-21 14:13 UTC")


@attack("freeze")
def test_the_same_answer_for_ever_ends_by_itself(authority: Authority, site: Site, web: WebServer) -> None:
    authority.clock.now_ms += DAY_MS
    refused(site, web, r"timestamp\.json: version 1 ended at")
    assert site.restarted().load() is not None  # the ladder says what that is still good for


@attack("freeze")
@attack("clock back and forward")
def test_setting_the_clock_back_does_not_make_it_fresh(authority: Authority, site: Site) -> None:
    """What was signed last is told to the clock, which never goes below that."""
    authority.clock.now_ms += 3 * DAY_MS
    authority.publish()
    authority.clock.now_ms = START_MS
    site.client.pull(authority.source())
    assert max(site.saw) == START_MS + 3 * DAY_MS


@attack("clock back and forward")
def test_a_time_after_its_own_end_is_no_time(authority: Authority, site: Site, web: WebServer) -> None:
    def later(signed: Any) -> None:
        signed.version += 1
        signed.unrecognized_fields[ISSUED] = START_MS + 9 * DAY_MS

    authority.forge("timestamp.json", later)
    refused(site, web, "is no time before its end")
    assert max(site.saw) == START_MS


# --- mix and match ---


@attack("mix-and-match")
@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_files_of_two_versions_do_not_go_together(authority: Authority, site: Site, web: WebServer, role: str) -> None:
    """Each signed well, and by now another than the one that was signed for."""
    authority.publish(revoking("user:mallory", "user:eve"))
    old = (authority.folder / "metadata" / f"1.{role}.json").read_bytes()
    web.answers[f"/metadata/2.{role}.json"] = (200, old)
    refused(site, web, rf"2\.{role}\.json: it is not the one that was signed for")


@attack("mix-and-match")
def test_a_version_that_is_not_the_one_that_was_announced(authority: Authority, site: Site, web: WebServer) -> None:
    """Where a repository gives no hashes, the version is what binds."""
    authority.publish(revoking("user:mallory", "user:eve"))

    def without_hashes(signed: Any) -> None:
        signed.version += 1
        signed.snapshot_meta.hashes = signed.snapshot_meta.length = None

    authority.forge("timestamp.json", without_hashes)
    old = (authority.folder / "metadata" / "1.snapshot.json").read_bytes()
    web.answers["/metadata/2.snapshot.json"] = (200, old)
    refused(site, web, r"2\.snapshot\.json: it has version 1")


@attack("mix-and-match")
def test_a_role_in_the_place_of_another(authority: Authority, site: Site, web: WebServer) -> None:
    """Snapshot and timestamp are signed by the same key here."""
    web.answers["/metadata/timestamp.json"] = (200, (authority.folder / "metadata" / "1.snapshot.json").read_bytes())
    refused(site, web, r"timestamp\.json: it is a snapshot, not a timestamp")


@attack("mix-and-match")
@pytest.mark.parametrize("change", [b"X", b" "], ids=["changed", "longer"])
def test_a_file_of_another_content_is_refused(authority: Authority, site: Site, web: WebServer, change: bytes) -> None:
    authority.publish(revoking("user:mallory", "user:eve"))
    (file,) = [f for f in (authority.folder / "targets").glob("*.revocations.json") if b"eve" in f.read_bytes()]
    data = file.read_bytes()
    changed = data.replace(b"eve", b"exe") if change == b"X" else data + change
    web.answers[f"/targets/{file.name}"] = (200, changed)
    refused(site, web, r"revocations\.json: it is (not the one that was signed for|over)")


@attack("mix-and-match")
def test_two_timestamps_of_one_number(authority: Authority, site: Site, web: WebServer) -> None:
    """The first counts."""
    authority.publish(revoking("user:mallory", "user:eve"))
    other = copy_of(authority.folder, "other")
    site.client.pull(web.source())
    web.folder = other
    authority.forge("timestamp.json", lambda t: t.unrecognized_fields.update({ISSUED: START_MS - 1}))
    other_timestamp = (authority.folder / "metadata" / "timestamp.json").read_bytes()
    web.answers["/metadata/timestamp.json"] = (200, other_timestamp)
    assert site.client.pull(web.source()).issued_ms == START_MS
    for file in (site.cache / "metadata").glob("*.timestamp.json"):
        file.unlink()
    refused(site, web, "missing in the cache")


# --- forged, under threshold ---


@attack("forged")
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_other_keys_sign_nothing(authority: Authority, site: Site, web: WebServer, role: str) -> None:
    thief = CryptoSigner.generate_ed25519()
    name = {"timestamp": "timestamp.json"}.get(role, f"1.{role}.json")
    target = name if role == "timestamp" else f"2.{role}.json"
    authority.forge(name, lambda s: setattr(s, "version", 2), thief, to=target)
    refused(site, web, rf"{role}\.json: it is signed by 0 keys of {role}")


@attack("forged")
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_a_changed_byte_breaks_the_signature(authority: Authority, site: Site, web: WebServer, role: str) -> None:
    name = {"root": "2.root.json", "timestamp": "timestamp.json"}.get(role, f"2.{role}.json")
    authority.repository.change("root")
    authority.sign_root()
    authority.publish(revoking("user:mallory", "user:eve"))
    data = (authority.folder / "metadata" / name).read_bytes()
    web.answers[f"/metadata/{name}"] = (200, data.replace(b'"expires":"2', b'"expires":"3'))
    refused(site, web, rf"{name}: it is (signed by 0 keys|not the one that was signed for)")


@attack("forged")
def test_the_keys_of_one_role_do_not_sign_another(authority: Authority, site: Site, web: WebServer) -> None:
    """Whoever has the key that is online can make nobody's policy."""
    authority.forge("1.targets.json", lambda t: setattr(t, "version", 2), authority.online, to="2.targets.json")
    refused(site, web, r"2\.targets\.json: it is signed by 0 keys of targets, and 1 are wanted")


@attack("under threshold")
def test_too_few_holders_make_no_root(authority: Authority, site: Site, web: WebServer) -> None:
    authority.forge("1.root.json", lambda r: setattr(r, "version", 2), authority.root[0], to="2.root.json")
    refused(site, web, r"2\.root\.json: it is signed by 1 keys of root, and 2 are wanted")


@attack("under threshold")
def test_new_holders_need_the_old_ones_and_the_old_ones_the_new(
    authority: Authority, site: Site, web: WebServer
) -> None:
    fresh = [CryptoSigner.generate_ed25519() for _ in range(2)]

    def replace(signed: Any) -> None:
        signed.version = 2
        for signer in authority.root:
            signed.revoke_key(signer.public_key.keyid, "root")
        for signer in fresh:
            signed.add_key(signer.public_key, "root")

    authority.forge("1.root.json", replace, *fresh, to="2.root.json")
    refused(site, web, r"2\.root\.json: it is signed by 0 keys")
    authority.forge("1.root.json", replace, *authority.root[:2], to="2.root.json")
    refused(site, web, r"2\.root\.json: it is signed by 0 keys")
    authority.forge("1.root.json", replace, *authority.root[:2], *fresh, to="2.root.json")
    site.client.pull(web.source())


def _same_key_twice(signed: Any, key: Any, spelling: Callable[[str], str]) -> None:
    """Lists the key a second time, under another id."""
    signed.version = 2
    twin = type(key)("f" * 64, key.keytype, key.scheme, {"public": spelling(key.keyval["public"])})
    signed.roles["root"].keyids = [key.keyid, twin.keyid]
    signed.keys[twin.keyid] = twin


@attack("under threshold")
@pytest.mark.parametrize("spelling", [str, str.upper], ids=["as it is", "in capitals"])
def test_one_key_under_two_ids_is_one_key(authority: Authority, tmp_path: Path, spelling: Callable[[str], str]) -> None:
    """One holder would be enough otherwise, wherever a second id was slipped in."""
    holder = authority.root[0]
    authority.forge("1.root.json", lambda r: _same_key_twice(r, holder.public_key, spelling), holder, to="2.root.json")
    file = authority.folder / "metadata" / "2.root.json"
    tree = json.loads(file.read_bytes())
    tree["signatures"].append({**tree["signatures"][0], "keyid": "f" * 64})
    client = PolicyClient(tmp_path / "other", tmp_path / "cache", authority.clock)
    with pytest.raises(PolicyRefused, match="it is signed by 1 keys of root, and 2 are wanted"):
        client.init(json.dumps(tree).encode())


@attack("under threshold")
def test_one_signature_twice_is_refused(authority: Authority, site: Site, web: WebServer) -> None:
    authority.forge("1.root.json", lambda r: setattr(r, "version", 2), authority.root[0], to="2.root.json")
    tree = json.loads((authority.folder / "metadata" / "2.root.json").read_bytes())
    tree["signatures"] *= 2
    web.answers["/metadata/2.root.json"] = (200, json.dumps(tree).encode())
    refused(site, web, r"2\.root\.json: it is no TUF metadata: Multiple signatures found")


@attack("forged")
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_other_kinds_of_keys_do_not_count(authority: Authority, tmp_path: Path, kind: str) -> None:
    signer = CryptoSigner.generate_rsa() if kind == "rsa" else CryptoSigner.generate_ecdsa()

    def hand_over(signed: Any) -> None:
        signed.roles["root"].keyids, signed.roles["root"].threshold = [], 1
        signed.add_key(signer.public_key, "root")

    authority.forge("1.root.json", hand_over, signer, to="9.root.json")
    root = (authority.folder / "metadata" / "9.root.json").read_bytes()
    with pytest.raises(PolicyRefused, match="it is signed by 0 keys of root"):
        PolicyClient(tmp_path / "other", tmp_path / "cache", authority.clock).init(root)


# --- huge and malformed ---


@attack("huge")
@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json"])
def test_huge_metadata_is_refused_before_it_is_read(
    authority: Authority, site: Site, web: WebServer, name: str
) -> None:
    web.answers[f"/metadata/{name}"] = (200, b" " * (2 << 20))
    refused(site, web, rf"{name}: it is over (262144|16384) bytes")


@attack("huge")
@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_metadata_that_is_announced_as_huge_is_not_fetched(
    authority: Authority, site: Site, web: WebServer, role: str
) -> None:
    def announce(signed: Any) -> None:
        signed.version += 1
        said = signed.snapshot_meta if role == "snapshot" else signed.meta["targets.json"]
        said.version, said.length = 2, 1 << 40

    above = "timestamp.json" if role == "snapshot" else "1.snapshot.json"
    authority.forge(above, announce, to=above if role == "snapshot" else "2.snapshot.json")
    refused(site, web, rf"{role}\.json: it is announced with 1099511627776 bytes")
    assert f"2.{role}.json" not in web.asked


@attack("huge")
def test_a_policy_that_is_announced_as_huge_is_not_fetched(authority: Authority, site: Site, web: WebServer) -> None:
    def announce(signed: Any) -> None:
        signed.version += 1
        signed.targets["revocations.json"].length = 1 << 40

    authority.forge("1.targets.json", announce, to="2.targets.json")
    refused(site, web, r"revocations\.json: it is announced with 1099511627776 bytes")
    assert not [name for name in web.asked if "revocations" in name]


@attack("duplicate JSON keys")
@attack("forged")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"version":1}', b'"version":1,"version":1}'),
        (b'{"signatures"', b'\xff{"signatures"'),
        (b'"version":1}', b'"version":true}'),
        (b'"version":1}', b'"version":NaN}'),
        (b'"version":1}', b'"version":' + b"9" * 5000 + b"}"),
        (b'"version":1}', b'"version":1e400}'),
        (b'"spec_version":"1.', b'"spec_version":"2.'),
        (b"{", b"[" * 15_000),
        (b'{"signatures"', b'{"signatures":[],"x"'),
    ],
    ids=["twice", "no UTF-8", "true", "NaN", "digits", "infinite", "other spec", "deep", "unsigned"],
)
def test_what_two_readers_could_read_differently_is_refused(
    authority: Authority, site: Site, web: WebServer, old: bytes, new: bytes
) -> None:
    data = (authority.folder / "metadata" / "timestamp.json").read_bytes()
    assert old in data
    web.answers["/metadata/timestamp.json"] = (200, data.replace(old, new, 1))
    refused(site, web, r"timestamp\.json: it is (no|signed by 0)")


@attack("forged")
def test_metadata_in_another_writing_is_the_same_metadata(authority: Authority, site: Site, web: WebServer) -> None:
    """What is signed is the canonical form: blanks and order are free where no hash binds them."""
    authority.publish()
    data = json.loads((authority.folder / "metadata" / "timestamp.json").read_bytes())
    web.answers["/metadata/timestamp.json"] = (200, json.dumps(data, indent=3).encode())
    site.client.pull(web.source())
    taken = site.client._seen_file.read().taken
    assert taken is not None
    assert taken.timestamp.version == data["signed"]["version"]


# --- the cache, and keys that go ---


def _files(site: Site) -> list[Path]:
    return sorted(file for file in site.cache.rglob("*") if file.is_file())


@attack("cache tampering")
@pytest.mark.parametrize("how", ["changed", "emptied", "gone", "a folder", "a pipe", "endless", "huge"])
def test_no_file_of_the_cache_can_be_changed(authority: Authority, site: Site, how: str) -> None:
    """Each in turn: the policy is refused until it is pulled again, which mends it."""
    for file in _files(site):
        data = file.read_bytes()
        if not data and how == "emptied":
            continue
        file.unlink()
        match how:
            case "changed":
                file.write_bytes(data.replace(b"mallory", b"nobody1") if b"mallory" in data else data + b" ")
            case "emptied":
                file.write_bytes(b"")
            case "a folder":
                file.mkdir()
            case "a pipe":
                os.mkfifo(file)
            case "endless":
                file.symlink_to("/dev/zero")
            case "huge":
                with file.open("wb") as sparse:
                    sparse.truncate(1 << 33)
            case _:
                pass
        with pytest.raises(PolicyRefused):
            site.restarted().load()
        file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)
        file.write_bytes(data)
        assert site.restarted().load() is not None


@attack("cache tampering")
@attack("snapshot rollback")
def test_a_cache_that_was_put_back_is_refused(authority: Authority, site: Site) -> None:
    """All of it is well signed; it is yesterday's, from before somebody was revoked."""
    yesterday = copy_of(site.cache, "yesterday")
    authority.publish(revoking("user:mallory", "user:eve"))
    site.client.pull(authority.source())
    shutil.rmtree(site.cache)
    yesterday.rename(site.cache)
    with pytest.raises(PolicyRefused, match="missing in the cache"):
        site.restarted().load()
    names = {file.name: file for file in (site.cache / "metadata").iterdir()}
    for role in ("timestamp", "snapshot", "targets"):  # under the names of today's, too
        names[f"1.{role}.json"].rename(site.cache / "metadata" / f"2.{role}.json")
    with pytest.raises(PolicyRefused, match="the cache was put back or changed"):
        site.restarted().load()


@attack("cache tampering")
def test_a_cache_of_another_authority_is_refused(authority: Authority, site: Site, tmp_path: Path) -> None:
    """Also by one who could write the marks, but not the pinned root."""
    other = Authority(tmp_path / "thief")
    other.publish(policy_files())
    thief = Site(tmp_path / "thiefs-site", other)
    thief.client.pull(other.source())
    shutil.rmtree(site.cache)
    shutil.copytree(thief.cache, site.cache)
    shutil.copy(thief.trust / "seen.json", site.trust / "seen.json")
    with pytest.raises(PolicyRefused, match="it is signed by 0 keys of timestamp"):
        site.restarted().load()
    (site.trust / "seen.json").write_bytes(b"{}")


@attack("cache tampering")
@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"root":"1"}', None])
def test_marks_that_are_damaged_or_gone_are_no_first_start(site: Site, data: bytes | None) -> None:
    """Else whoever deletes one file would bring everybody back who was revoked."""
    file = site.trust / "seen.json"
    file.unlink() if data is None else file.write_bytes(data)
    with pytest.raises(PolicyRefused, match=r"seen\.json.*begin anew"):
        site.restarted().load()


@attack("a key revoked while offline")
def test_a_policy_by_a_key_that_was_taken_away_is_refused(authority: Authority, site: Site, web: WebServer) -> None:
    """The site was cut off meanwhile. A thief of the old key brings a stick before the site hears of it, and after."""
    stolen, authority.targets = authority.targets, CryptoSigner.generate_ed25519()
    authority.repository.rotate("targets", stolen.public_key.keyid, authority.targets.public_key)
    authority.sign_root()
    authority.publish(revoking("user:mallory", "user:eve"))
    authority.forge("2.targets.json", lambda t: setattr(t, "version", 3), stolen, to="3.targets.json")
    refused(site, web, r"3\.targets\.json: it is signed by 0 keys of targets, and 1 are wanted")


@attack("a key revoked while offline")
@pytest.mark.parametrize("role", ["targets", "timestamp"])
def test_what_was_taken_by_a_key_before_it_went_goes_on_until_news_comes(
    authority: Authority, site: Site, web: WebServer, role: TopRole
) -> None:
    """Whoever cuts the line right after the new root came does not leave the ward without any policy."""
    fresh = CryptoSigner.generate_ed25519()
    old = authority.targets if role == "targets" else authority.online
    authority.repository.rotate(role, old.public_key.keyid, fresh.public_key)
    authority.sign_root()
    authority.repository.stage(revoking("user:mallory", "user:eve"))
    authority.repository.sign(fresh if role == "targets" else authority.targets)
    authority.repository.publish([authority.online, fresh])
    web.answers["/metadata/timestamp.json"] = (503, b"")
    with pytest.raises(HubError):
        site.client.pull(web.source())
    assert msgspec.json.decode((site.trust / "seen.json").read_bytes())["root"] == 2
    held = site.restarted().load()
    assert held is not None
    assert held.version == 1
    web.answers.clear()
    assert site.restarted().pull(web.source()).version == 2


@attack("a path in a name")
@pytest.mark.parametrize("name", ["../../trust/root.json", "/etc/passwd", "..\\x", "a/../../b"])
def test_names_lead_nowhere_else(authority: Authority, name: str) -> None:
    with pytest.raises(PolicyRefused, match="it is no name of a file here"):
        authority.source().target(name, 1000)


@attack("huge")
@attack("a decompression bomb")
def test_a_stick_unpacks_no_more_than_is_asked_for(authority: Authority, site: Site, tmp_path: Path) -> None:
    file = tmp_path / "policy.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata/timestamp.json", b" " * 50_000_000)
    with pytest.raises(PolicyRefused, match=r"timestamp\.json: it is over 16384 bytes"):
        site.client.pull(ZipSource(file))


@attack("huge")
def test_a_stick_with_endless_entries_is_refused_unread(authority: Authority, site: Site, tmp_path: Path) -> None:
    """Their list is read into memory, whatever is asked for."""
    file = tmp_path / "policy.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"metadata/{number}.root.json", b"")
    with pytest.raises(PolicyRefused, match="its list of entries is too long"):
        site.client.pull(ZipSource(file))


ZIP64 = b"PK\6\7" + b"\0" * 16 + b"PK\5\6" + b"\0" * 18


@attack("forged")
@pytest.mark.parametrize("data", [b"", b"PK", b"x" * 5000, ZIP64[20:], ZIP64])
def test_what_is_no_zip_is_told(authority: Authority, site: Site, tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "policy.zip"
    file.write_bytes(data)
    with pytest.raises((PolicyRefused, NotFound)):
        site.client.pull(ZipSource(file))
