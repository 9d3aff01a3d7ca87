"""The authority's side: who must sign before anything is published, and what is written."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from securesystemslib.signer import SSlibKey

from auth.policy.authority import DAY_MS, Authority, Clock, Site, policy_files, revoking
from autoglm.auth.policy.repository import Holders, Repository
from autoglm.auth.policy.signing_key import has_passphrase, make_key, public_file, read_public, read_signer
from autoglm.core.errors import PolicyRefused, SettingsError


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} if folder.exists() else set()


def test_holders_sign_one_after_the_other(tmp_path: Path) -> None:
    """Each in a copy of the folder on his own machine; the keys never meet."""
    authority = Authority(tmp_path / "a")
    repository = authority.repository
    repository.stage(revoking("user:eve"))
    assert repository.missing() == {"root": 0, "targets": 1}
    assert repository.sign(authority.targets) == ["targets 1"]
    assert repository.missing() == {"root": 0, "targets": 0}
    assert repository.publish([authority.online]) == {"root": 1, "targets": 1, "snapshot": 1, "timestamp": 1}
    assert names(authority.folder / "metadata") == {
        "1.root.json", "1.targets.json", "1.snapshot.json", "timestamp.json",
    }  # fmt: skip
    assert names(authority.folder / "staged") == set()
    assert repository.published() == revoking("user:eve")


def test_below_the_threshold_nothing_is_published(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "a")
    authority.publish(policy_files())
    authority.repository.change("root")
    authority.sign_root(authority.root[0])
    with pytest.raises(PolicyRefused, match="signed by 1 keys of root, and 2 are wanted"):
        authority.publish()
    assert "2.root.json" not in names(authority.folder / "metadata")
    authority.repository.stage(revoking("user:eve"))
    authority.sign_root(authority.root[2])
    with pytest.raises(PolicyRefused, match="signed by 0 keys of targets"):
        authority.publish()
    assert "2.targets.json" not in names(authority.folder / "metadata")


def test_a_signature_is_for_what_was_there(tmp_path: Path) -> None:
    """What changes after it is signed is signed anew, or not published."""
    authority = Authority(tmp_path / "a")
    repository = authority.repository
    repository.stage(revoking("user:eve"))
    repository.sign(authority.targets)
    assert repository.stage(revoking("user:eve")) == 1
    assert repository.missing()["targets"] == 0
    repository.stage(policy_files())
    assert repository.missing()["targets"] == 1
    repository.sign(authority.targets)
    (authority.folder / "staged" / "revocations.json").write_bytes(b"{ }")
    with pytest.raises(PolicyRefused, match="changed in staged/ after it was signed"):
        repository.publish([authority.online])


def test_a_stranger_signs_nothing_and_publishes_nothing(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "a")
    stranger = type(authority.online).generate_ed25519()
    with pytest.raises(SettingsError, match="nothing is staged that the key"):
        authority.repository.sign(stranger)
    authority.publish(policy_files())
    with pytest.raises(SettingsError, match="timestamp is signed at publishing: give a key"):
        authority.repository.publish([stranger])


def test_keys_are_added_and_rotated(authority: Authority, site: Site) -> None:
    fresh = type(authority.online).generate_ed25519()
    gone = authority.root[0].public_key.keyid
    assert authority.repository.change("root", add=[fresh.public_key], threshold=3) == 2
    assert authority.repository.rotate("root", gone, authority.online.public_key) == 2
    held, threshold = authority.repository.holders()["root"]
    assert (threshold, len(held), gone in held) == (3, 4, False)
    authority.sign_root(*authority.root, fresh)
    authority.publish()
    assert site.client.pull(authority.source()).version == 1


def test_what_cannot_be_signed_for_is_no_root(tmp_path: Path) -> None:
    key = Holders([type(Authority(tmp_path / "x").online).generate_ed25519().public_key], 2)
    repository = Repository(tmp_path / "a", Clock())
    with pytest.raises(SettingsError, match="2 of 1 keys cannot be wanted"):
        repository.create(dict.fromkeys(("root", "targets", "snapshot", "timestamp"), key))
    with pytest.raises(SettingsError, match="holds an authority already"):
        Authority(tmp_path / "x")


def test_a_snapshot_is_signed_anew_before_it_ends(authority: Authority) -> None:
    assert authority.publish()["snapshot"] == 1
    authority.clock.now_ms += 16 * 86_400_000
    assert authority.publish()["snapshot"] == 2


# --- keys ---


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_a_key_is_for_its_holder(tmp_path: Path, passphrase: bytes | None) -> None:
    file = tmp_path / "alice.pem"
    public = make_key(file, passphrase)
    assert file.stat().st_mode & 0o777 == 0o600
    assert has_passphrase(file) is (passphrase is not None)
    assert (b"PRIVATE KEY" in file.read_bytes()) is (passphrase is None)
    assert read_signer(file, passphrase).public_key == public == read_public(public_file(file))
    with pytest.raises(SettingsError, match="File exists"):
        make_key(file, passphrase)
    with pytest.raises(SettingsError, match="passphrase"):
        read_signer(file, b"wrong" if passphrase else b"needless")
    file.chmod(0o640)
    with pytest.raises(SettingsError, match="can be read by others"):
        read_signer(file, passphrase)


def test_a_locked_key_asks_for_its_passphrase(tmp_path: Path) -> None:
    make_key(tmp_path / "alice.pem", b"correct horse")
    with pytest.raises(SettingsError, match="it has a passphrase; give --passphrase-file"):
        read_signer(tmp_path / "alice.pem", None)


def test_guessing_the_passphrase_of_a_key_costs_128_mib_a_guess(tmp_path: Path) -> None:
    """OWASP ASVS 5, 11.4.4."""
    make_key(tmp_path / "alice.pem", b"correct horse")
    kept = json.loads((tmp_path / "alice.pem").read_bytes())
    assert {name: kept["scrypt"][name] for name in ("n", "r", "p")} == {"n": 1 << 17, "r": 8, "p": 1}
    with pytest.raises(SettingsError, match="12 at least"):
        make_key(tmp_path / "bob.pem", b"horse")


def test_a_key_that_another_program_locked_is_read(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"horse"))
    file = tmp_path / "x.pem"
    file.write_bytes(pem)
    file.chmod(0o600)
    assert has_passphrase(file)
    assert read_signer(file, b"horse").public_key == SSlibKey.from_crypto(key.public_key())
    for wrong in (b"donkey", None):
        with pytest.raises(SettingsError, match="passphrase"):
            read_signer(file, wrong)


@pytest.mark.parametrize("text", ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.pem"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(SettingsError, match="is no private key in PEM"):
        read_signer(file, None)
    with pytest.raises(SettingsError, match="is no public key in PEM"):
        read_public(file)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_signer(tmp_path / "none.pem", None)


def test_renewing_a_policy_does_not_make_it_younger(tmp_path: Path) -> None:
    """By when it was published first, a site knows who still went by the one before."""
    authority = Authority(tmp_path / "a")
    authority.publish(policy_files())
    first_ms = authority.clock.now_ms
    authority.clock.now_ms += 20 * DAY_MS
    assert authority.publish()["snapshot"] == 2
    assert published_ms(authority, 2) == first_ms
    authority.clock.now_ms += DAY_MS
    assert authority.publish(revoking("user:eve"))["snapshot"] == 3
    assert published_ms(authority, 3) == authority.clock.now_ms


def published_ms(authority: Authority, snapshot: int) -> object:
    metadata = json.loads((authority.folder / "metadata" / f"{snapshot}.snapshot.json").read_bytes())
    return metadata["signed"]["x-autoglm-issued-ms"]
