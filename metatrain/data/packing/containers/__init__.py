"""Containers of files: a folder, a zip or tar archive, or a folder of archives."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.data.packing.containers.container import Container
from metatrain.data.packing.containers.folder import Folder
from metatrain.data.packing.containers.joined import Joined
from metatrain.data.packing.containers.tar import Tar
from metatrain.data.packing.containers.zip import Zip
from metatrain.data.packing.names import is_image_name, is_passed_over
from metatrain.storage.files import MissingError, is_folder

# A further kind of archive is one class and its endings here.
ARCHIVES: Mapping[str, Callable[[str], Container]] = {
    ".zip": Zip,
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"), Tar),
}


def open_container(url: str) -> Container:
    """Open the files at `url`: an archive, or a folder of files or of nothing but archives.

    Raises:
        UserError: when there is neither, or it cannot be read.
    """
    if ending := _archive_ending(url):
        return ARCHIVES[ending](url)
    folder = Folder(url)
    if not folder.sizes and not is_folder(url):
        raise MissingError(f"there is no folder at {url}; check the path.")
    archives = [n for n in folder.sizes if _archive_ending(n) and not is_passed_over(n)]
    if not archives or any(is_image_name(n) and PurePosixPath(n).suffix for n in folder.sizes):
        return folder
    return _joined(url, sorted(archives))


def _joined(url: str, archives: list[str]) -> Container:
    # One level of folders, each of an archive's name.
    stems = {n: n[: -len(_archive_ending(n))].replace("/", " ") for n in archives}
    names = Counter(stems.values())
    if twice := [name for name, count in names.items() if count > 1]:
        raise UserError(f"{url} holds two archives called '{printable(twice[0])}'; rename one.")
    return Joined(
        url,
        {
            stem: ARCHIVES[_archive_ending(name)](f"{url.rstrip('/')}/{name}")
            for name, stem in stems.items()
        },
    )


def _archive_ending(name: str) -> str:
    """Return the ending that tells a kind of archive, as it is spelled in `ARCHIVES`, or ''."""
    return next((end for end in ARCHIVES if name.lower().endswith(end)), "")
