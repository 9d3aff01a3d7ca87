"""What comes as a file: settings, headers of models, what an engine learned, backups."""

import io
import tarfile
import tempfile
from pathlib import Path

from tools.osv import BadRecord, concerns_of, decode
from tools.pinned import Pinned

from autoglm.core.errors import BackupBroken, ModelFileError, SettingsError, StateBroken
from autoglm.inference.decision import Arm
from autoglm.inference.engine.learner import _DIGEST_BYTES, Learner, LearnerSettings, _digest
from autoglm.inference.engine.lessons import Lessons
from autoglm.inference.features import Features
from autoglm.inference.models.gguf import parse_gguf
from autoglm.settings import load_settings
from autoglm.store.sqlite.archive import MANIFEST_NAME, open_archive, path_of_member, read_manifest
from fuzzing.target import Target

_FOLDER = Path(tempfile.mkdtemp(prefix="fuzzed-"))
_FILE = _FOLDER / "file"


def fuzz_settings(data: bytes) -> None:
    _FILE.write_bytes(data)
    load_settings(_FILE, environ={})


def fuzz_gguf(data: bytes) -> None:
    parse_gguf(io.BytesIO(data), len(data))


def fuzz_learner(data: bytes) -> None:
    """With the checksum that it should have: whoever writes the file can compute one."""
    learner = Learner.restore(_digest(data) + data, LearnerSettings())
    assert Learner.restore(learner.state(), LearnerSettings()).state() == learner.state()


def fuzz_lessons(data: bytes) -> None:
    Lessons.restore(data, LearnerSettings())


def fuzz_backup(data: bytes) -> None:
    _FILE.write_bytes(data)
    with open_archive(_FILE) as members:
        for info, content in members:
            if info.name == MANIFEST_NAME:
                read_manifest(content, _FILE)
                break
            place = path_of_member(info.name)
            assert place is not None
            assert (_FOLDER / place).resolve().is_relative_to(_FOLDER.resolve())
            content.read(1 << 20)


def fuzz_advisory(data: bytes) -> None:
    """A record of an OSV database that somebody carried here, about packages that are pinned."""
    wanted = {
        ("PyPI", "aiohttp"): [Pinned("PyPI", "aiohttp", "3.14.5", ())],
        ("npm", "marked"): [Pinned("npm", "marked", "18.2.1", ())],
    }
    for concern in concerns_of(decode(data), wanted):
        assert concern.package.name in ("aiohttp", "marked")


def _tar(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def _gguf() -> bytes:
    def text(value: bytes) -> bytes:
        return len(value).to_bytes(8, "little") + value

    def number(value: int, size_bytes: int = 4) -> bytes:
        return value.to_bytes(size_bytes, "little")

    pairs = [
        text(b"general.architecture") + number(8) + text(b"llama"),
        text(b"llama.context_length") + number(4) + number(2048),
        text(b"llama.block_count") + number(4) + number(2),
        text(b"tokens") + number(9) + number(8) + number(2, 8) + text(b"a") + text(b"b"),
        text(b"nested") + number(9) + number(9) + number(1, 8) + number(0) + number(1, 8) + b"x",
    ]
    return b"GGUF" + number(3) + number(1, 8) + number(len(pairs), 8) + b"".join(pairs)


def _learned() -> Lessons:
    lessons = Lessons(LearnerSettings())
    for number in range(3):
        lessons.learner.learn(Features(api="/chat/completions", prompt_tokens=9 * number), Arm("m"), 0.5)
    return lessons


_LESSONS = _learned()

TARGETS = (
    Target("settings", fuzz_settings, (
        b'[gateway]\nport = 8600\nhost = "127.0.0.1"\n[[instance]]\nname = "a"\nprovider = "openai"\nbase_url = '
        b'"http://127.0.0.1:1/v1"\nmodels = ["m"]\n[[key]]\nname = "r"\nvalue = "sk-1234"\nscopes = ["model:use:*"]\n',
        b'[[channel]]\nname = "w"\nkind = "webhook"\nsenders = ["*"]\n[[route]]\nname = "r"\nto = ["user:a"]\n',
        b"[intents]\nencoder = true\n[engine]\n[budgets]\n[log]\n",
    ), (SettingsError,), (b"[[channel]]\n", b"[[key]]\n", b'name = "', b"'''", b'"""', b"= 1e400", b"= nan", b"\\ud800",
                          b"= 0xffffffffffffffffffffff", b"= [[[[", b"1979-05-27T07:32:00Z", b"{a={b=", b"~nobody/x")),
    Target("gguf", fuzz_gguf, (_gguf(),), (ModelFileError,), (b"\xff" * 8, b"\x00" * 8, b"\x09\x00\x00\x00", b"GGUF")),
    Target("learner", fuzz_learner, (_LESSONS.learner.state()[_DIGEST_BYTES:],), (StateBroken,)),
    Target("lessons", fuzz_lessons, (_LESSONS.state(),), (StateBroken,)),
    Target("advisory", fuzz_advisory, (
        b'{"id":"G","schema_version":"1.6.0","modified":"2026-01-01T00:00:00Z","summary":"s","affected":[{"package":{'
        b'"ecosystem":"PyPI","name":"AIOHTTP"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":'
        b'"3.9.1rc1"},{"last_affected":"4!1.0.post2"},{"limit":"*"}]}],"versions":["3.14.5","1.0"]}]}',
        b'{"id":"G","affected":[{"package":{"ecosystem":"npm","name":"marked"},"ranges":[{"type":"SEMVER","events":['
        b'{"introduced":"1.0.0-alpha.1"},{"fixed":"99.0.0+b"}]},{"type":"GIT"}]}]}',
    ), (BadRecord,), (b'"0"', b'"1.0.0-rc.1"', b'"v1"', b'"99999999999999999999"', b'"1.0.dev0"')),
    Target("backup", fuzz_backup, (
        _tar(("hub.db", b"x"), (MANIFEST_NAME, b'{"format":1,"hub_version":"0","schema_version":1,"created_at_ms":1,'
                                               b'"members":[]}')),
        _tar(("files/a/b", b"y"), ("../x", b"z")),
    ), (BackupBroken,), (b"../", b"/etc/x", b"ustar\x00", b"x", b"files/", b"\x00" * 512)),
)  # fmt: skip
