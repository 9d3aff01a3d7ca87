"""The authority's side: a plain folder that a web server or a stick carries to the hubs.

Holders of keys sign one after the other, each on his own machine, what lies in `staged/`; nothing of it counts before
`publish`, which wants the threshold. Source: The Update Framework Specification 1.0.34, section 6.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, MetaFile, Role, Root, Snapshot, TargetFile, Targets, Timestamp

from autoglm.auth.policy import snapshot as content
from autoglm.auth.policy.metadata import (
    ISSUED,
    MAX_BYTES,
    TopRole,
    expires_ms,
    issued_ms,
    read_metadata,
    sha256,
    utc,
    verify,
)
from autoglm.auth.policy.seen import write_durably
from autoglm.core.errors import PolicyRefused, SettingsError

FORMS: Mapping[TopRole, type[Root | Targets | Snapshot | Timestamp]] = {
    "root": Root, "targets": Targets, "snapshot": Snapshot, "timestamp": Timestamp,
}  # fmt: skip
_DAY_S = 86_400


@dataclass(frozen=True)
class Lifetimes:
    """How long what is signed counts as fresh. The timestamp's is what an attacker can hold news back for."""

    root_s: int = 365 * _DAY_S
    targets_s: int = 180 * _DAY_S
    snapshot_s: int = 30 * _DAY_S
    timestamp_s: int = 1 * _DAY_S

    def of(self, role: TopRole) -> int:
        seconds: int = getattr(self, f"{role}_s")
        return seconds


@dataclass(frozen=True)
class Holders:
    """Who signs a role, and how many of them it takes."""

    keys: Sequence[SSlibKey]
    threshold: int = 1


class Repository:
    """metadata/ and targets/ are what hubs read; staged/ is what waits for signatures."""

    def __init__(self, folder: Path, now_ms: Callable[[], int], lifetimes: Lifetimes = Lifetimes()) -> None:
        self._folder = folder
        self._now_ms = now_ms
        self._lifetimes = lifetimes

    @property
    def is_created(self) -> bool:
        return self._staged("root").exists() or self._newest("root") > 0

    def create(self, holders: Mapping[TopRole, Holders], site: str = "") -> None:
        """Stage the first root, to be signed by its holders. Raises SettingsError where there is one already."""
        if self.is_created:
            raise SettingsError([f"{self._folder} holds an authority already; rotate its keys instead"])
        root = Root(version=1, expires=self._end("root"), consistent_snapshot=True)
        for role in FORMS:
            _set_holders(root, role, holders[role])
        if site:
            root.unrecognized_fields["x-autoglm-site"] = site
        self._stage("root", Metadata(root))

    def change(
        self, role: TopRole, *, add: Sequence[SSlibKey] = (), remove: Sequence[str] = (), threshold: int = 0
    ) -> int:
        """Stage a root in which other keys hold `role`. Returns the root's version.

        remove: key ids. threshold: 0 leaves it. Keys of a root that was staged and not published are kept changed.
        Raises SettingsError.
        """
        staged = self._staged("root")
        root = self._read(staged, "root").signed if staged.exists() else self._following_root()
        assert isinstance(root, Root)
        kept = [root.keys[keyid] for keyid in root.roles[role].keyids if keyid not in remove]
        unknown = set(remove) - set(root.roles[role].keyids)
        if unknown:
            raise SettingsError([f"{role} has no key {', '.join(sorted(unknown))}"])
        keys = [key for key in kept if isinstance(key, SSlibKey)] + list(add)
        _set_holders(root, role, Holders(keys, threshold or root.roles[role].threshold))
        self._stage("root", Metadata(root))
        return root.version

    def rotate(self, role: TopRole, old: str, new: SSlibKey) -> int:
        """old: a key id. Where a timestamp's or snapshot's key goes, hubs begin to count its versions anew."""
        return self.change(role, add=[new], remove=[old])

    def stage(self, files: Mapping[str, bytes]) -> int:
        """Stage the next targets with this content; returns their version. The same content keeps its signatures.

        Raises PolicyRefused for content that no hub would take.
        """
        content.parse_snapshot(files, version=1, issued_ms=0, expires_ms=0)
        targets = {name: TargetFile.from_data(name, data) for name, data in files.items()}
        staged = self._staged("targets")
        if staged.exists() and self._read(staged, "targets").signed.targets == targets:
            return int(self._read(staged, "targets").signed.version)
        version = self._newest("targets") + 1
        for name, data in files.items():
            self._write(f"staged/{name}", data)
        self._stage("targets", Metadata(Targets(version=version, expires=self._end("targets"), targets=targets)))
        return version

    def sign(self, signer: CryptoSigner) -> list[str]:
        """Sign what is staged and this key holds; returns such as `root 2`. Raises SettingsError for nothing."""
        done = []
        keyid = signer.public_key.keyid
        for role in ("root", "targets"):
            file = self._staged(role)
            if not file.exists():
                continue
            metadata = self._read(file, role)
            holders = [root for root in self._roots_for(role) if keyid in root.roles[role].keyids]
            if holders:
                metadata.sign(signer, append=True)
                self._stage(role, metadata)
                done.append(f"{role} {metadata.signed.version}")
        if not done:
            raise SettingsError([f"nothing is staged that the key {keyid} signs"])
        return done

    def missing(self) -> dict[str, int]:
        """By what is staged, how many signatures it waits for."""
        found = {}
        for role in ("root", "targets"):
            if self._staged(role).exists():
                metadata = self._read(self._staged(role), role)
                results = [
                    root.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
                    for root in self._roots_for(role)
                ]
                found[role] = max(result.missing for result in results)
        return found

    def publish(self, signers: Sequence[CryptoSigner]) -> dict[str, int]:
        """What is staged, and a fresh snapshot and timestamp by these keys; returns the versions.

        With nothing staged it renews the freshness alone. A hub that reads meanwhile gets the old set or the new one:
        the timestamp goes last. Raises SettingsError for a missing key, PolicyRefused below a threshold.
        """
        self._publish_root()
        root = self._published_root()
        if self._staged("targets").exists():
            self._publish_targets(root)
        if self._newest("targets") == 0:
            raise SettingsError(["there is no policy yet; sign one first"])
        snapshot = self._snapshot(root, signers)
        file = self._folder / "metadata" / "timestamp.json"
        number = self._read(file, "timestamp").signed.version + 1 if file.exists() else 1
        timestamp = Timestamp(
            version=number, expires=self._end("timestamp"), unrecognized_fields={ISSUED: self._now_ms()},
            snapshot_meta=self._meta("snapshot", snapshot),
        )  # fmt: skip
        self._write(f"metadata/{file.name}", self._signed(root, "timestamp", Metadata(timestamp), signers))
        return {
            "root": root.version, "targets": self._newest("targets"), "snapshot": snapshot, "timestamp": number,
        }  # fmt: skip

    # --- what is published ---

    def published(self) -> dict[str, bytes]:
        """The files of the newest policy; empty before the first."""
        version = self._newest("targets")
        if version == 0:
            return {}
        targets = self._read(self._metadata(version, "targets"), "targets").signed
        assert isinstance(targets, Targets)
        return {
            name: (self._folder / "targets" / f"{target.hashes['sha256']}.{name}").read_bytes()
            for name, target in targets.targets.items()
        }

    def first_root(self) -> bytes:
        """What is handed to the hubs, by a hand that they trust. Raises SettingsError before it is published."""
        return self._bytes(self._metadata(1, "root"))

    def holders(self) -> dict[str, tuple[list[str], int]]:
        """By role, the key ids and the threshold, of the root that is staged or else published."""
        staged = self._staged("root")
        root = self._read(staged, "root").signed if staged.exists() else self._published_root()
        assert isinstance(root, Root)
        return {name: (list(role.keyids), role.threshold) for name, role in root.roles.items()}

    def _publish_root(self) -> None:
        file = self._staged("root")
        if not file.exists():
            return
        metadata = self._read(file, "root")
        for root in self._roots_for("root"):
            verify("staged root.json", "root", root, metadata)
        self._write(f"metadata/{metadata.signed.version}.root.json", self._bytes(file))
        file.unlink()

    def _publish_targets(self, root: Root) -> None:
        file = self._staged("targets")
        metadata = self._read(file, "targets")
        verify("staged targets.json", "targets", root, metadata)
        targets = metadata.signed
        assert isinstance(targets, Targets)
        for name, target in targets.targets.items():
            data = self._bytes(self._folder / "staged" / name)
            if sha256(data) != target.hashes["sha256"]:
                raise PolicyRefused(name, "it was changed in staged/ after it was signed; sign the policy again")
            self._write(f"targets/{target.hashes['sha256']}.{name}", data)
        self._write(f"metadata/{targets.version}.targets.json", self._bytes(file))
        for name in ("targets.json", *targets.targets):
            (self._folder / "staged" / name).unlink()

    def _snapshot(self, root: Root, signers: Sequence[CryptoSigner]) -> int:
        """The version that holds: the last one where it still says the same, by keys that hold, for long enough."""
        last = self._newest("snapshot")
        said = self._meta("targets", self._newest("targets"))
        published_ms = self._now_ms()
        if last:
            metadata = self._read(self._metadata(last, "snapshot"), "snapshot")
            is_lasting = expires_ms(metadata.signed) > self._now_ms() + self._lifetimes.snapshot_s * 500
            holds = root.get_verification_result("snapshot", metadata.signed_bytes, metadata.signatures).verified
            is_same = metadata.signed.meta["targets.json"] == said
            if is_lasting and holds and is_same:
                return last
            published_ms = issued_ms(metadata.signed) if is_same else published_ms
        fresh = Snapshot(
            version=last + 1, expires=self._end("snapshot"), meta={"targets.json": said},
            unrecognized_fields={ISSUED: published_ms},
        )  # fmt: skip
        self._write(f"metadata/{last + 1}.snapshot.json", self._signed(root, "snapshot", Metadata(fresh), signers))
        return last + 1

    def _signed(self, root: Root, role: TopRole, metadata: "Metadata[Any]", signers: Sequence[CryptoSigner]) -> bytes:
        for signer in signers:
            if signer.public_key.keyid in root.roles[role].keyids:
                metadata.sign(signer, append=True)
        if len(metadata.signatures) < root.roles[role].threshold:
            wanted = ", ".join(keyid[:12] for keyid in root.roles[role].keyids)
            raise SettingsError([f"{role} is signed at publishing: give a key of {wanted} with --key"])
        return metadata.to_bytes()

    def _meta(self, role: TopRole, version: int) -> MetaFile:
        data = self._bytes(self._metadata(version, role))
        return MetaFile.from_data(version, data, ["sha256"])

    # --- roots and files ---

    def _roots_for(self, role: str) -> list[Root]:
        """By whose keys it must be signed: a root by those of the one before as well as by its own."""
        staged = self._staged("root")
        roots = [self._read(staged, "root").signed] if staged.exists() else []
        if self._newest("root") and (role == "root" or not roots):
            roots.append(self._published_root())
        return [root for root in roots if isinstance(root, Root)]

    def _published_root(self) -> Root:
        version = self._newest("root")
        if version == 0:
            raise SettingsError(["the first root is not published yet; its holders sign it first"])
        root = self._read(self._metadata(version, "root"), "root").signed
        assert isinstance(root, Root)
        return root

    def _following_root(self) -> Root:
        root = self._published_root()
        root.version += 1
        root.expires = self._end("root")
        return root

    def _end(self, role: TopRole) -> Any:
        return utc(self._now_ms() + self._lifetimes.of(role) * 1000)

    def _newest(self, role: str) -> int:
        numbers = [file.name.split(".")[0] for file in (self._folder / "metadata").glob(f"*.{role}.json")]
        return max((int(number) for number in numbers if number.isdecimal()), default=0)

    def _metadata(self, version: int, role: str) -> Path:
        return self._folder / "metadata" / f"{version}.{role}.json"

    def _staged(self, role: str) -> Path:
        return self._folder / "staged" / f"{role}.json"

    def _stage(self, role: str, metadata: "Metadata[Any]") -> None:
        self._write(f"staged/{role}.json", metadata.to_bytes())

    def _read(self, file: Path, role: TopRole) -> "Metadata[Any]":
        return read_metadata(file.name, self._bytes(file), FORMS[role], MAX_BYTES[role])

    @staticmethod
    def _bytes(file: Path) -> bytes:
        try:
            return file.read_bytes()
        except OSError as error:
            raise SettingsError([f"{file} cannot be read: {error.strerror}"]) from error

    def _write(self, name: str, data: bytes) -> None:
        file = self._folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, data)
        file.chmod(0o644)  # all of it is public, and a web server of another user serves it


def _set_holders(root: Root, role: TopRole, holders: Holders) -> None:
    """Raises SettingsError. Keys that no role has any more are dropped."""
    count = len({key.keyid for key in holders.keys})
    if not 1 <= holders.threshold <= count:
        raise SettingsError([f"{role}: {holders.threshold} of {count} keys cannot be wanted"])
    root.roles[role] = Role([], holders.threshold)
    for key in holders.keys:
        root.add_key(key, role)
    in_use = {keyid for entry in root.roles.values() for keyid in entry.keyids}
    root.keys = {keyid: key for keyid, key in root.keys.items() if keyid in in_use}
