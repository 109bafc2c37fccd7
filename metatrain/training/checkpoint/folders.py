"""The folders of a run's checkpoints, one a step: listed, refused and removed."""

import re
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from metatrain.base.errors import UserError
from metatrain.storage.files import MissingError, asking, filesystem_of, sizes_under
from metatrain.training.checkpoint.index import COMMIT

_FOLDER = re.compile(r"step-(\d{8,19})")


class StepFolders:
    """Folders such as `step-00000100` under a URL.

    Args:
        url: the folder of them all.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._filesystem, self._path = filesystem_of(url)

    def of(self, step: int) -> str:
        """Return the URL of the folder of `step`."""
        return f"{self.url}/{_name(step)}"

    def sizes(self, step: int) -> dict[str, int]:
        """List the bytes of every file of `step`, by its path from there."""
        return sizes_under(self.of(step))

    def steps(self) -> set[int]:
        """List the steps that have a folder with anything in it."""
        return {step for name in self._names() if (step := _step_of(name)) is not None}

    def committed(self) -> list[int]:
        """List the steps of the committed checkpoints, ascending.

        Raises:
            UserError: when the storage cannot be reached, which does not mean that there are none;
                or when one of the folders is a link.
        """
        self._refuse_links()
        parted = (path.partition("/") for path in sizes_under(self.url))
        folders = (folder for folder, _, file in parted if file == COMMIT)
        return sorted(step for folder in folders if (step := _step_of(folder)) is not None)

    def remains(self) -> list[str]:
        """List what looks like a checkpoint, but for step 0, where none is committed.

        A start that was killed leaves a part of step 0, and a run that saves a later step has saved
        step 0 before.
        """
        return sorted(n for n in self._names() if n.startswith("step-") and n != _name(0))

    def remove(self, step: int) -> None:
        """Remove a folder, whole or not.

        Raises:
            UserError: when it cannot be removed.
        """
        path = f"{self._path}/{_name(step)}"
        # The commit first, since the other files are not removed all at once.
        with suppress(MissingError):
            asking(self.url, lambda: self._filesystem.rm_file(f"{path}/{COMMIT}"))
        with suppress(MissingError):
            asking(self.url, lambda: self._filesystem.rm(path, recursive=True))

    def remove_others(self, step: int, names: Collection[str]) -> None:
        """Remove all files of `step` but those of these names.

        Raises:
            UserError: when one cannot be removed.
        """
        for name in self.sizes(step).keys() - set(names):
            path = f"{self._path}/{_name(step)}/{name}"
            asking(self.url, partial(self._filesystem.rm_file, path))

    def _names(self) -> set[str]:
        return {name.partition("/")[0] for name in sizes_under(self.url)}

    def _refuse_links(self) -> None:
        """Refuse a step's folder that is a link: listings pass over it, and nothing prunes it."""
        if not isinstance(self._filesystem, LocalFileSystem):
            return
        folders = Path(self._path).glob("step-*")
        link = next((folder for folder in sorted(folders) if folder.is_symlink()), None)
        if link:
            raise UserError(f"{link} is a link; put the checkpoint itself in its place.")


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _step_of(name: str) -> int | None:
    """Return the step of a folder; None where no step has a folder of this name, as `step-5`."""
    match = _FOLDER.fullmatch(name)
    step = int(match[1]) if match else None
    return step if step is not None and _name(step) == name else None
