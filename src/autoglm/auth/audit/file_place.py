"""A folder with files of JSON lines: a second place on another disk, a share or a stick.

`audit-GGGG-SSSSSSSSSSSS.jsonl`: S is the first entry in it. G grows when the store turned out to be an older copy: what
went on from there is another chain, and stands in files of its own beside what was written before.
"""

import itertools
import os
import re
import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeVar

import anyio.to_thread
import msgspec

from autoglm.auth.audit.line import from_line, to_line
from autoglm.auth.audit.places import PlaceFailed, Trouble
from autoglm.auth.audit.settings import FilePlaceSettings
from autoglm.core.ports import Journal, JournalEntry

_NAME = re.compile(r"audit-(\d{4})-(\d{12})\.jsonl")
_DRAFT = ".new"
_BLOCK_BYTES = 64 * 1024

Result = TypeVar("Result")


class _File(msgspec.Struct, frozen=True, order=True):
    generation: int
    first_seq: int
    path: Path


class FilePlace:
    """Implements `Place`."""

    def __init__(self, settings: FilePlaceSettings) -> None:
        self.name = settings.name
        self._folder = settings.folder
        self._max_bytes = settings.max_file_bytes
        self._generation = 1
        self._file: IO[bytes] | None = None

    async def open(self, position: int, journal: Journal) -> tuple[int, Trouble | None]:
        """What the file has counts: it was synced before the position was noted."""
        try:
            last = await self._in_thread(self._resume)
        except ValueError:
            await self._in_thread(self._begin_anew, position + 1)
            return position, "place_damaged"
        if last is None:
            return 0, "place_emptied" if position else None
        found = await journal.read(after=last.seq - 1, limit=1)
        if not found or found[0].seq != last.seq or found[0].digest != last.digest:
            await self._in_thread(self._begin_anew, position + 1)
            return position, "place_ahead"
        return last.seq, "place_cut" if last.seq < position else None

    async def put(self, rows: Sequence[JournalEntry]) -> Trouble | None:
        await self._in_thread(self._append, rows)
        return None

    async def erase(self, runs: Sequence[tuple[int, int]]) -> None:
        await self._in_thread(self._erase, runs)

    async def aclose(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    async def _in_thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        try:
            return await anyio.to_thread.run_sync(function, *arguments)
        except OSError as error:
            raise PlaceFailed(f"{self._folder}: {error.strerror or error}") from error

    # --- in a thread: they block ------------------------------------------------------------------------

    def _resume(self) -> JournalEntry | None:
        """Open the newest file, without what a kill left at its end. Returns the last entry in it; None for no file.

        Raises ValueError when that entry cannot be read.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for draft in self._folder.glob(f"*{_DRAFT}"):
            draft.unlink()
        files = list_files(self._folder)
        while files:
            newest = files.pop()
            self._generation = newest.generation
            with newest.path.open("r+b") as file:
                line = _cut_to_last_line(file)
            if line is not None:
                last = from_line(line)
                self._file = _open_private(newest.path)
                return last
            newest.path.unlink()  # begun, and nothing in it yet
        return None

    def _begin_anew(self, first_seq: int) -> None:
        self._generation += 1
        self._begin(first_seq)

    def _begin(self, first_seq: int) -> None:
        if self._file is not None:
            self._file.close()
        path = self._folder / f"audit-{self._generation:04d}-{first_seq:012d}.jsonl"
        self._file = _open_private(path)
        _sync_folder(self._folder)

    def _append(self, rows: Sequence[JournalEntry]) -> None:
        if self._file is None or self._file.tell() >= self._max_bytes:
            self._begin(rows[0].seq)
        file = self._file
        assert file is not None
        file.write(b"".join(to_line(row) for row in rows))
        file.flush()
        os.fsync(file.fileno())

    def _erase(self, runs: Sequence[tuple[int, int]]) -> None:
        """In all generations. A file is replaced as a whole, or stays."""
        files = list_files(self._folder)
        for file, following in zip(files, [*files[1:], None], strict=True):
            ends = following.first_seq if following and following.generation == file.generation else None
            if any(last >= file.first_seq and (ends is None or first < ends) for first, last in runs):
                is_open = self._file is not None and following is None
                if is_open and self._file is not None:
                    self._file.close()
                    self._file = None
                _rewrite(file.path, runs)
                if is_open:
                    self._file = _open_private(file.path)


def list_files(folder: Path) -> list[_File]:
    """In the order in which they were written."""
    found = []
    for path in folder.iterdir():
        if match := _NAME.fullmatch(path.name):
            found.append(_File(int(match[1]), int(match[2]), path))
    return sorted(found)


def read_files(folder: Path) -> Iterator[JournalEntry]:
    """The chain that the newest files are of. Raises ValueError for a line that cannot be read, OSError.

    Of older generations only what is before it: the rest of them is a chain that the store does not have any more.
    """
    files = list_files(folder)
    for index, file in enumerate(files):
        later = [other.first_seq for other in files[index + 1 :] if other.generation > file.generation]
        for row in _read_file(file.path):
            if not later or row.seq < min(later):
                yield row


class Fork(msgspec.Struct, frozen=True):
    seq: int
    """From this entry on there is more than one chain."""
    end: JournalEntry | None
    """The last entry of the chain that was left; None where it cannot be read."""


def forks(folder: Path) -> list[Fork]:
    """Raises OSError."""
    files = list_files(folder)
    found = []
    for former, following in itertools.pairwise(files):
        if former.generation < following.generation:
            found.append(Fork(following.first_seq, _last_of(former.path)))
    return found


def last_of(folder: Path) -> JournalEntry | None:
    """The last entry there. Raises OSError."""
    files = list_files(folder)
    return _last_of(files[-1].path) if files else None


def _last_of(path: Path) -> JournalEntry | None:
    with suppress(ValueError):
        return deque(_read_file(path), maxlen=1)[0]
    return None


def _read_file(path: Path) -> Iterator[JournalEntry]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return  # it is being written, or a kill cut it
            try:
                yield from_line(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error


def _cut_to_last_line(file: IO[bytes]) -> bytes | None:
    """The last line that is whole, as the file's end; None when there is none."""
    tail = b""
    position = file.seek(0, os.SEEK_END)
    while position and tail.count(b"\n") < 2:
        step = min(_BLOCK_BYTES, position)
        position = file.seek(position - step)
        tail = file.read(step) + tail
    whole, _, torn = tail.rpartition(b"\n")
    if torn or not tail:
        file.truncate(position + len(tail) - len(torn))
        os.fsync(file.fileno())
    return whole.rpartition(b"\n")[2] + b"\n" if whole else None


def _rewrite(path: Path, runs: Sequence[tuple[int, int]]) -> None:
    draft = path.with_name(path.name + _DRAFT)
    ordered = sorted(runs)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as copy:
        for row in _read_file(path):
            place = bisect_right(ordered, (row.seq, sys.maxsize)) - 1
            is_erased = place >= 0 and row.seq <= ordered[place][1]
            copy.write(to_line(row, with_personal=not is_erased))
        copy.flush()
        os.fsync(copy.fileno())
    draft.replace(path)
    _sync_folder(path.parent)


def _open_private(path: Path) -> IO[bytes]:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")  # the place closes it


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
