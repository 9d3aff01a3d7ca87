"""The policy as somebody writes it, before it is signed: files in a folder, with the tests of what they shall say."""

from pathlib import Path

from autoglm.auth.policy.decider import CompiledPolicy, compile_policy
from autoglm.auth.policy.seen import write_durably
from autoglm.auth.policy.sentences import TESTS, Outcome, Sentence, outcomes, parse_sentences
from autoglm.auth.policy.snapshot import CEDAR, MAX_BYTES, PINS, REVOCATIONS, ROLES, parse_snapshot
from autoglm.core.errors import PolicyRefused, SettingsError

FIRST = {
    CEDAR: """// Policies in Cedar: https://docs.cedarpolicy.com. A forbid wins over all scopes, roles and permits.
// With one permit or more, whatever somebody does needs one of them beside a scope.

@id("no device writes to everybody, save alarms")
forbid(principal is Device, action == Action::"send:message", resource == Group::"all")
unless { context.labels.contains("kind=alert") };
""",
    ROLES: '{\n  "roles": {"reader": ["read:message"]},\n  "groups": {},\n  "grants": {}\n}\n',
    REVOCATIONS: "{}\n",
    PINS: "[]\n",
    TESTS: """# What the policy must say. `autoglm policy check` refuses one that says otherwise.
[[test]]
says = "device:press-7 may not send:message group:all"
scopes = ["send:message"]

[[test]]
says = "device:press-7 may send:message group:all"
scopes = ["send:message"]
alarm = true
""",
}


class Draft:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self) -> None:
        """Write a first policy. Files that are there stay."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, text in FIRST.items():
            if not self.path(name).exists():
                self.write(name, text.encode())

    def path(self, name: str) -> Path:
        return self._folder / name

    def write(self, name: str, data: bytes) -> None:
        write_durably(self.path(name), data)
        self.path(name).chmod(0o644)

    def files(self) -> dict[str, bytes]:
        """What is signed. Raises SettingsError."""
        return {name: self._read(name) for name in MAX_BYTES}

    def sentences(self) -> list[Sentence]:
        """None where there is no tests.toml. Raises PolicyRefused, SettingsError."""
        return parse_sentences(self._read(TESTS).decode(errors="replace")) if self.path(TESTS).exists() else []

    def compiled(self) -> CompiledPolicy:
        """Raises PolicyRefused, SettingsError."""
        return compile_policy(parse_snapshot(self.files(), version=1, issued_ms=0, expires_ms=0))

    def outcomes(self, time_zone: str = "UTC") -> list[Outcome]:
        """Of its own tests. Raises PolicyRefused, SettingsError."""
        return outcomes(self.sentences(), self.compiled(), time_zone=time_zone)

    def flaws(self, time_zone: str = "UTC") -> list[str]:
        """Sentences on what is wrong with it; empty when it may be signed. Raises SettingsError."""
        from autoglm.auth.policy.cedar import flaws

        try:
            snapshot = parse_snapshot(self.files(), version=1, issued_ms=0, expires_ms=0)
            found = [f"{CEDAR}: {flaw}" for flaw in flaws(snapshot.cedar)]
            return found or [
                f"{TESTS}: {outcome.sentence.text!r} does not hold: {outcome.verdict.detail}"
                for outcome in self.outcomes(time_zone)
                if not outcome.holds
            ]
        except PolicyRefused as error:
            return [str(error)]

    def _read(self, name: str) -> bytes:
        file = self.path(name)
        limit = MAX_BYTES.get(name, 1 << 20)
        try:
            with file.open("rb") as content:
                data = content.read(limit + 1)
        except OSError as error:
            raise SettingsError([f"{file} cannot be read: {error.strerror}"]) from error
        if len(data) > limit:
            raise PolicyRefused(name, f"it is over {limit} bytes")
        return data
