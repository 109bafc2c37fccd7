"""The files that a job takes along as its working directory: what git tracks, and no secrets."""

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from cluster.jobs.credentials import credential_by_content, credential_by_name
from cluster.ray_internals import packaged_files
from metatrain.base.errors import UserError
from metatrain.base.text import counted, printable

# The bytes that a job's files may have in total; Ray keeps them in the memory of the head.
MAX_BYTES = 10_000_000

_REFUSED = {".parquet": "a data set", ".safetensors": "a checkpoint or a model"}
# The number of largest files that an error names.
_NAMED_FILES = 3

_log = logging.getLogger(__name__)


class Selection(NamedTuple):
    """The files below a folder that a job would upload.

    Attributes:
        sizes: the bytes of each file that may leave, by its path relative to the folder.
        refused: a sentence for each that may not: since it belongs to a data set, a checkpoint or a
            model, is a credential, or a link out of the folder or to a file that stays here.
    """

    sizes: dict[Path, int]
    refused: dict[Path, str]


def files_to_upload(folder: Path) -> dict[Path, int]:
    """Return what `select` selects, if a job may upload it.

    Raises:
        UserError: when a file is refused, or the files are too large.
    """
    sizes, refused = select(folder)
    if refused:
        sentence = next(iter(refused.values()))
        others = len(refused) - 1
        more = f" {counted(others, 'other file')} cannot go either; --list names all."
        raise UserError(sentence + more if others else sentence)
    refuse_too_much(sizes, folder)
    return sizes


def select(folder: Path) -> Selection:
    """Select the files below a folder that a job uploads, and tell which of them are refused.

    These are the files that git tracks, as they are in the folder; where the folder is no git
    checkout, all. What .gitignore and .rayignore exclude is left out.

    Raises:
        UserError: when git fails, or tracks nothing.
    """
    paths = {path.relative_to(folder) for path in packaged_files(folder)}
    tracked = _tracked(folder)
    if tracked is not None:
        untracked, paths = sorted(paths - tracked), paths & tracked
        if not paths:
            raise UserError(f"git tracks no file in {folder}; git add what the job needs.")
        if untracked:
            _log.warning(
                "%s that git does not track stay here, such as %s; git add what the job needs.",
                *(counted(len(untracked), "file"), _name(untracked[0])),
            )
    sizes: dict[Path, int] = {}
    refused: dict[Path, str] = {}
    for path in sorted(paths):
        if sentence := _refusal_of_link(path, paths, folder):
            refused[path] = sentence
            continue
        size = (folder / path).stat().st_size
        if sentence := _refusal_of_data(path, size) or _refusal(path, credential_by_name(path)):
            refused[path] = sentence
        else:
            sizes[path] = size
    if sum(sizes.values()) <= MAX_BYTES:  # or none of them goes, and to read them takes long
        for path in list(sizes):
            kind = credential_by_content(path.name, (folder / path).read_bytes())
            if sentence := _refusal(path, kind):
                refused[path] = sentence
                del sizes[path]
    return Selection(sizes, refused)


@contextmanager
def staged(files: Mapping[Path, int], folder: Path) -> Iterator[Path]:
    """Copy files into a folder of their own, for this user alone, which ends with the context.

    Ray uploads all of a folder, so it gets one that has nothing else.
    """
    with TemporaryDirectory(prefix="metatrain-job-") as stage:
        for path in files:
            (Path(stage) / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / path, Path(stage) / path)
        yield Path(stage)


def _tracked(folder: Path) -> set[Path] | None:
    """List what git tracks below a folder; None where the folder is in no git checkout."""
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false"]
    command += ["ls-files", "-z", "--cached", "--recurse-submodules"]
    try:
        git = subprocess.run(command, capture_output=True, env=os.environ | {"LC_ALL": "C"})
    except FileNotFoundError:
        if any((above / ".git").exists() for above in (folder, *folder.parents)):
            raise UserError(f"{folder} is a git checkout; install git to submit from it.") from None
        return None
    if git.returncode == 0:
        return {Path(os.fsdecode(name)) for name in git.stdout.split(b"\0") if name}
    reason = git.stderr.decode(errors="replace").strip()
    if "not a git repository" in reason:
        return None
    raise UserError(f"git cannot list the files of {folder} ({printable(reason)}).")


def _refusal_of_link(path: Path, paths: set[Path], folder: Path) -> str | None:
    """Refuse a link out of the folder, or to what itself stays here, such as ignored secrets."""
    inside = folder.resolve()
    is_folder, target = (folder / path).is_dir(), (folder / path).resolve()
    if is_folder or not target.is_relative_to(inside):
        place = "to a folder" if is_folder else f"out of {folder}"
        return (
            f"{_name(path)} is a link {place}, which no job follows; put the files themselves "
            f"in its place, or list it in .rayignore."
        )
    if target.relative_to(inside) not in paths:
        return (
            f"{_name(path)} is a link to {_name(target.relative_to(inside))}, which stays here; "
            f"git add what the job needs, or list the link in .rayignore."
        )
    return None


def _refusal_of_data(path: Path, size: int) -> str | None:
    owner = _REFUSED.get(path.suffix)
    return owner and (
        f"{_name(path)} ({_megabytes(size)}) belongs to {owner}, which no job uploads; list it in "
        f".rayignore, and store it where the cluster can read it: at a shared path or an fsspec "
        f"URL."
    )


def _refusal(path: Path, credential: str | None) -> str | None:
    return credential and (
        f"{_name(path)} is {credential}, which no job uploads; list it in .rayignore, and give the "
        f"cluster credentials of its own (docs/submit.md)."
    )


def refuse_too_much(sizes: Mapping[Path, int], folder: Path) -> None:
    """Refuse more bytes than a job may upload.

    Raises:
        UserError: when there are more.
    """
    total = sum(sizes.values())
    if total > MAX_BYTES:
        largest = [
            f"{_name(path)} ({_megabytes(size)})"
            for path, size in _largest_first(sizes)[:_NAMED_FILES]
        ]
        raise UserError(
            f"{folder} holds {_megabytes(total)} in {len(sizes):,} files, and a job uploads at "
            f"most {_megabytes(MAX_BYTES)}; list files that the job does not need in .rayignore, "
            f"of which the largest are {', '.join(largest)}."
        )


def _largest_first(sizes: Mapping[Path, int]) -> list[tuple[Path, int]]:
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _name(path: Path) -> str:
    return printable(str(path))
