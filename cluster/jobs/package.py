"""The working directory of a job: what of a folder Ray ships, and what it must not."""

from collections.abc import Mapping
from pathlib import Path

from cluster.ray_internals import packaged_files
from metatrain.base.errors import UserError

# Bytes that the files of a job may have together; Ray keeps them in the memory of its head.
MOST = 10_000_000

_REFUSED = {".parquet": "a data set", ".safetensors": "a checkpoint or a model"}
# How many of the largest files a person is told of.
_NAMED = 3


def files_to_ship(folder: Path) -> dict[Path, int]:
    """The bytes of every file that Ray ships of `folder`, by its path from there.

    Those that .gitignore and .rayignore leave, by Ray's own walk: what is looked at here is what
    `JobSubmissionClient` packs afterwards.

    Raises:
        UserError: when there is a data set, a checkpoint or a model among them, or too much.
    """
    found = {path.relative_to(folder): path.stat().st_size for path in packaged_files(folder)}
    _refuse_data(found)
    _refuse_too_much(found, folder)
    return found


def _refuse_data(found: Mapping[Path, int]) -> None:
    for path, size in _largest_first(found):
        if what := _REFUSED.get(path.suffix):
            raise UserError(
                f"{path} ({_megabytes(size)}) is of {what}, which no job carries along; list it in "
                f".rayignore, and have it where the cluster reads it: at a shared path or an "
                f"fsspec URL."
            )


def _refuse_too_much(found: Mapping[Path, int], folder: Path) -> None:
    total = sum(found.values())
    if total > MOST:
        largest = [f"{path} ({_megabytes(n)})" for path, n in _largest_first(found)[:_NAMED]]
        raise UserError(
            f"{folder} has {_megabytes(total)} in {len(found):,} files, and a job carries "
            f"{_megabytes(MOST)} at most; list in .rayignore what it has no use for, the largest "
            f"being {', '.join(largest)}."
        )


def _largest_first(found: Mapping[Path, int]) -> list[tuple[Path, int]]:
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
