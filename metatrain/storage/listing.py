"""Listings of everything under a folder, which show how much they have found."""

from typing import Any

from fsspec.asyn import sync
from fsspec.implementations.local import LocalFileSystem

from metatrain.base.progress import Progress


def list_files(fs: Any, path: str) -> dict[str, int]:
    """List the files under a folder, or a file itself: bytes by path, in the order of the paths.

    Raises:
        OSError: when a folder of a disk cannot be listed, which fsspec would leave out.
        Exception: what the storage says; see `metatrain.storage.files.reaching`.
    """
    progress = Progress(f"listing {path}, files", 0)
    try:
        if isinstance(fs, LocalFileSystem):
            return dict(sorted(_on_disk(fs, path, progress).items()))
        if fs.protocol[0] == "s3":
            sizes: Any = sync(fs.loop, _in_bucket, fs, path, progress)
            return dict(sorted(sizes.items()))
        details = fs.find(path, detail=True)
        return {str(name): info["size"] or 0 for name, info in details.items()}
    finally:
        progress.close()


def _on_disk(fs: Any, path: str, progress: Progress) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for _, _, files in fs.walk(path, detail=True, on_error=_unless_gone):
        sizes |= {info["name"]: info["size"] for info in files.values()}
        progress.update(len(sizes))
    return sizes


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


async def _in_bucket(fs: Any, path: str, progress: Progress) -> dict[str, int]:
    """List objects a thousand with each request."""
    bucket, key, _ = fs.split_path(path)
    sizes: dict[str, int] = {}
    async for info in fs._iterdir(bucket, delimiter="", prefix=f"{key}/" if key else ""):
        sizes[info["name"]] = info["size"]
        progress.update(len(sizes))
    if not sizes and key:
        info = await fs._info(path)
        sizes = {path: info["size"]} if info["type"] == "file" else {}
    return sizes
