"""Pulling policies over HTTP, and going on with the last one: what is normal; for attacks see test_policy_attacks."""

import json
import shutil
import zipfile
from pathlib import Path

import msgspec
import pytest

from auth.policy.authority import DAY_MS, START_MS, Authority, Site, WebServer, policy_files, revoking
from autoglm.auth.policy.seen import Seen
from autoglm.auth.policy.sources import FolderSource, ZipSource, source_of
from autoglm.core.errors import NotFound, PolicyRefused, PolicyUnreachable, SettingsError


def seen(site: Site) -> Seen:
    return msgspec.json.decode((site.trust / "seen.json").read_bytes(), type=Seen)


def test_a_policy_is_pulled_and_read_again_with_no_network(authority: Authority, site: Site, web: WebServer) -> None:
    assert site.client.load() is None
    pulled = site.client.pull(web.source())
    assert (pulled.version, list(pulled.revocations)) == (1, ["user:mallory"])
    web.answers = {f"/metadata/{name}": (500, b"") for name in web.asked}
    assert site.restarted().load() == pulled


def test_what_did_not_change_is_not_fetched_again(authority: Authority, site: Site, web: WebServer) -> None:
    site.client.pull(web.source())
    web.asked.clear()
    site.restarted().pull(web.source())
    assert web.asked == ["2.root.json", "timestamp.json"]
    authority.publish()
    web.asked.clear()
    site.client.pull(web.source())
    assert web.asked == ["2.root.json", "timestamp.json"]


def test_a_new_policy_takes_the_place_of_the_old_one(authority: Authority, site: Site, web: WebServer) -> None:
    site.client.pull(web.source())
    authority.publish(revoking("device:press-7"))
    assert list(site.client.pull(web.source()).revocations) == ["device:press-7"]
    kept = {file.name for file in (site.cache / "metadata").iterdir()}
    assert kept == {"2.timestamp.json", "2.snapshot.json", "2.targets.json"}
    assert len(list((site.cache / "targets").iterdir())) == 4


def test_renewed_freshness_moves_the_end_and_no_version(authority: Authority, site: Site) -> None:
    first = site.client.pull(authority.source())
    authority.clock.now_ms += DAY_MS // 2
    authority.publish()
    second = site.client.pull(authority.source())
    assert (second.version, second.expires_ms - first.expires_ms) == (first.version, DAY_MS // 2)


def test_the_clock_is_told_what_was_signed(authority: Authority, site: Site) -> None:
    authority.clock.now_ms += 5000
    authority.publish()
    authority.clock.now_ms = START_MS - 30 * DAY_MS  # the site's clock is set back
    site.client.pull(authority.source())
    assert site.saw == [START_MS + 5000]


@pytest.mark.parametrize("is_zip", [False, True])
def test_a_stick_does_as_well(authority: Authority, site: Site, tmp_path: Path, is_zip: bool) -> None:
    stick = tmp_path / "stick"
    shutil.copytree(authority.folder, stick)
    if is_zip:
        stick = Path(shutil.make_archive(str(tmp_path / "policy"), "zip", authority.folder))
    source = source_of(str(stick), lambda url, limit: b"")
    assert isinstance(source, ZipSource if is_zip else FolderSource)
    assert site.client.pull(source).version == 1


def test_a_cache_can_be_carried_on_to_the_next_site(authority: Authority, site: Site, tmp_path: Path) -> None:
    """But for the timestamp's name, it has a repository's form."""
    site.client.pull(authority.source())
    metadata = site.cache / "metadata"
    shutil.copy(metadata / "1.timestamp.json", metadata / "timestamp.json")
    assert Site(tmp_path / "next", authority).client.pull(FolderSource(site.cache)).version == 1


def test_roots_follow_one_by_one(authority: Authority, site: Site, web: WebServer) -> None:
    """Each is signed by the holders before it; the first ones need not sign the last."""
    site.client.pull(web.source())
    for number in (2, 3, 4):
        authority.repository.change("root")
        authority.sign_root(*authority.root[number % 3 :], *authority.root[: number % 3])
        authority.publish()
    web.asked.clear()
    site.client.pull(web.source())
    assert web.asked[:4] == ["2.root.json", "3.root.json", "4.root.json", "5.root.json"]
    assert seen(site).root == 4
    assert site.restarted().load() is not None


def test_a_damaged_root_in_the_cache_is_fetched_again(authority: Authority, site: Site) -> None:
    authority.repository.change("root")
    authority.sign_root()
    authority.publish()
    site.client.pull(authority.source())
    (site.cache / "metadata" / "2.root.json").write_text("{}")
    with pytest.raises(PolicyRefused, match=r"2\.root\.json"):
        site.restarted().load()
    site.client.pull(authority.source())
    assert site.restarted().load() is not None


def test_new_keys_let_versions_begin_anew(authority: Authority, site: Site) -> None:
    """5.3.11: after a thief of the online key has pushed the versions up as far as they go."""
    authority.forge("1.snapshot.json", lambda s: setattr(s, "version", 2**52), to=f"{2**52}.snapshot.json", refer=True)
    authority.forge("timestamp.json", lambda t: setattr(t, "version", 2**52))
    site.client.pull(authority.source())
    stolen, authority.online = authority.online, type(authority.online).generate_ed25519()
    for role in ("snapshot", "timestamp"):
        authority.repository.rotate(role, stolen.public_key.keyid, authority.online.public_key)
    authority.sign_root()
    for file in (authority.folder / "metadata").glob("*snapshot.json"):
        file.unlink()
    (authority.folder / "metadata" / "timestamp.json").unlink()
    authority.publish(revoking("key:online"))
    assert "key:online" in site.client.pull(authority.source()).revocations
    marks = seen(site)
    assert marks.timestamp is not None
    assert marks.timestamp.version == 1


def test_a_cut_in_the_middle_leaves_the_policy_that_held(authority: Authority, site: Site, web: WebServer) -> None:
    """Whatever file is the one that does not come; and it is taken up again where it stopped."""
    held = site.client.pull(web.source())
    authority.publish(revoking("device:press-7"))
    names = ["timestamp.json", "2.snapshot.json", "2.targets.json"]
    paths = [f"/metadata/{name}" for name in names]
    paths += [f"/targets/{file.name}" for file in (authority.folder / "targets").glob("*.revocations.json")]
    for path in paths:
        web.answers = {path: (503, b"")}
        if path in paths[:3] or path.rpartition("/")[2] not in {f.name for f in (site.cache / "targets").iterdir()}:
            with pytest.raises(PolicyUnreachable, match="503"):
                site.restarted().pull(web.source())
        assert site.restarted().load() == held
    web.answers = {}
    assert site.restarted().pull(web.source()).version == 2


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json"])
def test_a_file_that_is_missing_is_told(authority: Authority, site: Site, web: WebServer, name: str) -> None:
    (authority.folder / "metadata" / name).unlink()
    with pytest.raises(NotFound, match=name.replace(".", r"\.")):
        site.client.pull(web.source())
    assert site.restarted().load() is None


def test_fields_that_nobody_knows_are_kept_and_signed_for(authority: Authority, site: Site) -> None:
    """Section 4: what is unknown is part of what is signed."""
    authority.forge("1.targets.json", lambda t: t.unrecognized_fields.update({"x-ward": {"of": [3]}}))
    site.client.pull(authority.source())
    file = authority.folder / "metadata" / "1.targets.json"
    tree = json.loads(file.read_bytes())
    tree["signed"]["x-ward"]["of"] = [4]
    file.write_text(json.dumps(tree))
    site.trust.joinpath("seen.json").unlink()
    site.client.init(authority.repository.first_root())
    shutil.rmtree(site.cache)
    with pytest.raises(PolicyRefused, match=r"1\.targets\.json"):
        site.client.pull(authority.source())


def test_a_policy_that_is_wrong_in_itself_is_not_taken(authority: Authority, site: Site, tmp_path: Path) -> None:
    """The authority refuses to stage it; one that signs it nevertheless is refused by the sites."""
    held = site.client.pull(authority.source())
    with pytest.raises(PolicyRefused, match=r"roles\.json"):
        authority.repository.stage(policy_files(roles={"roles": {"nurse": ["read:everything"]}}))
    authority.publish(policy_files("permit(principal, action resource);"))
    with pytest.raises(PolicyRefused, match=r"policies\.cedar.*unexpected token"):
        site.client.pull(authority.source())
    assert site.restarted().load() == held


def test_a_server_that_does_not_answer_is_told(authority: Authority, site: Site, web: WebServer) -> None:
    source = web.source()
    web.shutdown()
    web.server_close()
    with pytest.raises(PolicyUnreachable, match="the policy that held before goes on holding"):
        site.client.pull(source)


def test_a_site_without_its_root_says_so(authority: Authority, site: Site) -> None:
    (site.trust / "root.json").unlink()
    assert not site.client.is_initialised
    with pytest.raises(SettingsError, match=r"root\.json cannot be read"):
        site.client.pull(authority.source())


def test_the_trust_folder_is_for_its_owner(authority: Authority, site: Site) -> None:
    site.client.pull(authority.source())
    modes = {file.name: file.stat().st_mode & 0o777 for file in (site.trust, *site.trust.glob("*.json"))}
    assert modes == {"trust": 0o700, "root.json": 0o600, "seen.json": 0o600}


def test_a_zip_with_a_comment_is_no_stick_of_ours(authority: Authority, site: Site, tmp_path: Path) -> None:
    file = tmp_path / "policy.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = b"x"
        archive.write(authority.folder / "metadata" / "timestamp.json", "metadata/timestamp.json")
    with pytest.raises(PolicyRefused, match="comment"):
        site.client.pull(ZipSource(file))
