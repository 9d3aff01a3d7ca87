"""Secrets at rest: unreadable without the key, tied to their names, and changed whole or not at all."""

from pathlib import Path

import msgspec
import pytest

from autoglm.auth.sealing import read_passphrase
from autoglm.auth.vault import Opener, change_vault, open_vault, secrets_of
from autoglm.core.errors import InvalidField, NotFound, VaultBroken, WrongPassphrase

PASSPHRASE = "correct horse battery"
VALUE = "sk-canary-1"


def by_key(folder: Path) -> Opener:
    return Opener(folder / "secrets.key")


def by_passphrase(folder: Path, passphrase: str = PASSPHRASE) -> Opener:
    return Opener(folder / "absent.key", lambda: passphrase)


def test_a_secret_comes_back_and_is_in_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "trust"
    with change_vault(folder, by_key(folder)) as vault:
        vault.put("glm", VALUE)
    assert open_vault(folder, by_key(folder)).get("glm") == VALUE
    for path in folder.iterdir():
        assert VALUE.encode() not in path.read_bytes()
        assert b"glm" not in path.read_bytes()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.glob("secrets.[jk]*")} == {
        "secrets.json": 0o600, "secrets.key": 0o600,
    }  # fmt: skip


def test_a_wrong_passphrase_says_so_and_shows_nothing(tmp_path: Path) -> None:
    with change_vault(tmp_path, by_passphrase(tmp_path), by_passphrase=True) as vault:
        vault.put("glm", VALUE)
    with pytest.raises(WrongPassphrase, match="passphrase or key file does not open") as caught:
        open_vault(tmp_path, by_passphrase(tmp_path, "another horse battery"))
    assert "another horse" not in str(caught.value)
    assert VALUE not in repr(open_vault(tmp_path, by_passphrase(tmp_path)))


def test_the_key_file_of_another_vault_opens_nothing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with change_vault(tmp_path / name, by_key(tmp_path / name)) as vault:
            vault.put("glm", VALUE)
    with pytest.raises(WrongPassphrase):
        open_vault(tmp_path / "one", by_key(tmp_path / "two"))


@pytest.mark.attack("secrets swapped between vaults")
def test_the_sealed_part_of_another_vault_is_refused_even_under_its_key(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        with change_vault(folder, Opener(tmp_path / "shared.key")) as vault:
            vault.put("glm", f"{VALUE}-{folder.name}")
    mine, theirs = (msgspec.json.decode((folder / "secrets.json").read_bytes()) for folder in (one, two))
    for taken in ("sealed", "by_key_file"):
        (one / "secrets.json").write_bytes(msgspec.json.encode(mine | {taken: theirs[taken]}))
        with pytest.raises((VaultBroken, WrongPassphrase)):
            open_vault(one, Opener(tmp_path / "shared.key"))


@pytest.mark.attack("tampering with secrets at rest")
def test_a_changed_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    with change_vault(tmp_path, by_key(tmp_path)) as vault:
        vault.put("glm", VALUE)
    tree = msgspec.json.decode((tmp_path / "secrets.json").read_bytes())
    for field in ("sealed", "by_key_file", "id"):
        value = tree[field]
        for place in (0, len(value) // 2, len(value) - 5):
            other = "A" if value[place] != "A" else "B"
            changed = tree | {field: value[:place] + other + value[place + 1 :]}
            (tmp_path / "secrets.json").write_bytes(msgspec.json.encode(changed))
            with pytest.raises((VaultBroken, WrongPassphrase)):
                open_vault(tmp_path, by_key(tmp_path))


@pytest.mark.attack("a cost of scrypt that eats the memory")
def test_a_file_cannot_have_us_take_all_memory(tmp_path: Path) -> None:
    with change_vault(tmp_path, by_passphrase(tmp_path), by_passphrase=True):
        pass
    tree = msgspec.json.decode((tmp_path / "secrets.json").read_bytes())
    tree["scrypt"]["n"] = 1 << 30
    (tmp_path / "secrets.json").write_bytes(msgspec.json.encode(tree))
    with pytest.raises(WrongPassphrase, match="cost of scrypt"):
        open_vault(tmp_path, by_passphrase(tmp_path))


def test_rotation_changes_the_key_and_keeps_the_values(tmp_path: Path) -> None:
    """Who read it before goes on; the old key opens the new file no more."""
    with change_vault(tmp_path, by_key(tmp_path)) as vault:
        vault.put("glm", VALUE)
    before = open_vault(tmp_path, by_key(tmp_path))
    with change_vault(tmp_path, by_key(tmp_path)) as vault:
        vault.rotate(key_file=None, passphrase=PASSPHRASE)
    assert before.get("glm") == VALUE
    after = open_vault(tmp_path, by_passphrase(tmp_path))
    assert (after.get("glm"), after.is_opened_by) == (VALUE, ("passphrase",))
    with pytest.raises(WrongPassphrase, match="none was given"):
        open_vault(tmp_path, by_key(tmp_path))


def test_a_rotation_replaces_the_key_file_and_may_be_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the new key took the old one's place, it opens all the same; and can be done again."""
    with change_vault(tmp_path, by_key(tmp_path)) as vault:
        vault.put("glm", VALUE)
    old = (tmp_path / "secrets.key").read_bytes()

    def killed(_self: Path, _target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, change_vault(tmp_path, by_key(tmp_path)) as vault:
        replace = Path.replace
        patch.setattr(Path, "replace", lambda self, to: (killed if to.name == "secrets.key" else replace)(self, to))
        with pytest.raises(KeyboardInterrupt):
            vault.rotate(key_file=tmp_path / "secrets.key", passphrase=None)
    assert open_vault(tmp_path, by_key(tmp_path)).get("glm") == VALUE
    (tmp_path / "aside").write_bytes(old)
    with pytest.raises(WrongPassphrase):
        open_vault(tmp_path, Opener(tmp_path / "aside"))
    with change_vault(tmp_path, by_key(tmp_path)) as vault:
        vault.rotate(key_file=tmp_path / "secrets.key", passphrase=None)
    assert open_vault(tmp_path, by_key(tmp_path)).get("glm") == VALUE
    assert (tmp_path / "secrets.key").read_bytes() != old
    assert not (tmp_path / "secrets.key.next").exists()


def test_what_is_not_there_is_told_for_each_setting(tmp_path: Path) -> None:
    found, problems = secrets_of(tmp_path, {"instance[0].api_key": "glm"}, by_key(tmp_path))
    assert found == {}
    assert problems[0].startswith("instance[0].api_key: secret:glm cannot be had: there is no file of secrets")
    with change_vault(tmp_path, by_key(tmp_path)) as vault:
        vault.put("other", VALUE)
    found, problems = secrets_of(tmp_path, {"a": "glm", "b": "other"}, by_key(tmp_path))
    assert (found, problems) == ({"b": VALUE}, ["a: there is no secret 'glm'; 'autoglm secrets set glm' keeps one"])


def test_names_values_and_passphrases_have_bounds(tmp_path: Path) -> None:
    with change_vault(tmp_path, by_key(tmp_path)) as vault:
        for name, value in (("../x", "v"), ("", "v"), ("a" * 65, "v"), ("a", ""), ("a", "x" * 65_537)):
            with pytest.raises(InvalidField):
                vault.put(name, value)
        with pytest.raises(NotFound):
            vault.remove("never there")
        assert vault.names == []
        with pytest.raises(InvalidField, match="12 at least"):
            vault.rotate(key_file=None, passphrase="short")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(InvalidField, match="is empty"):
        read_passphrase(tmp_path / "empty")
