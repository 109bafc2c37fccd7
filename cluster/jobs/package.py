"""Check the files that a job uploads as its working directory."""

from collections.abc import Mapping
from pathlib import Path

from cluster.ray_internals import packaged_files
from metatrain.base.errors import UserError

# The bytes that a job's files may have in total; Ray keeps them in the memory of the head.
MAX_BYTES = 10_000_000

_REFUSED = {".parquet": "a data set", ".safetensors": "a checkpoint or a model"}
# The number of largest files that an error names.
_NAMED_FILES = 3


def files_to_upload(folder: Path) -> dict[Path, int]:
    """List the files that `JobSubmissionClient` uploads from a folder.

    Returns:
        The bytes of each file, by its path relative to `folder`.

    Raises:
        UserError: when a file belongs to a data set, a checkpoint or a model, or when the files are
            too large.
    """
    sizes = {path.relative_to(folder): path.stat().st_size for path in packaged_files(folder)}
    _refuse_data(sizes)
    _refuse_too_much(sizes, folder)
    return sizes


def _refuse_data(sizes: Mapping[Path, int]) -> None:
    for path, size in _largest_first(sizes):
        if owner := _REFUSED.get(path.suffix):
            raise UserError(
                f"{path} ({_megabytes(size)}) belongs to {owner}, which no job uploads; list it in "
                f".rayignore, and store it where the cluster can read it: at a shared path or an "
                f"fsspec URL."
            )


def _refuse_too_much(sizes: Mapping[Path, int], folder: Path) -> None:
    total = sum(sizes.values())
    if total > MAX_BYTES:
        largest = [
            f"{path} ({_megabytes(size)})" for path, size in _largest_first(sizes)[:_NAMED_FILES]
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
