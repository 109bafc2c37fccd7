"""Folders of images: the folder that is a task, and the folders that are splits."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import NamedTuple

from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.data.images import BadImage, BadValue
from metatrain.data.packing.containers.container import Container
from metatrain.data.packing.names import is_image_name, is_passed_over, split_named
from metatrain.data.packing.sources.files_beside import FilesBeside
from metatrain.data.packing.sources.listing import ListedImage, Listing, Options

NOT_AN_IMAGE = "not an image"

# The folders above an image, from the source's own on.
_Folders = tuple[str, ...]


class Folders:
    """A folder of images for each task, perhaps within folders of splits."""

    description = "a folder, .zip or .tar of images with one folder for each task"
    endings = ()

    def recognises(self, files: Container) -> bool:
        """Tell whether any file is an image."""
        return any(is_image_name(name) for name in files.sizes)

    def listing(self, files: Container, options: Options) -> Listing:
        """List the images with the tasks that their folders mean.

        Raises:
            UserError: when the folders have several meanings, or hold no task.
        """
        images = [name for name in files.sizes if is_image_name(name)]
        layout = layout_of([folders_of(name) for name in images], options.task_depth, files.url)
        result = Listing(refused=list(files.refused), read_file=files.read)
        beside = FilesBeside(files, options.conditions)
        others = (n for n in files.sizes if not is_image_name(n) and n not in beside.names)
        result.refused += [
            (name, BadImage(NOT_AN_IMAGE)) for name in others if not is_passed_over(name)
        ]
        result.remarks += layout.remarks
        for name in sorted(images):
            task = layout.task_of(folders_of(name))
            if task is None:
                result.refused.append((name, BadImage("not in a task's folder")))
            elif re.search("[\ud800-\udfff]", name):
                result.refused.append((name, BadImage("its name is not UTF-8")))
            else:
                split = layout.split_of(folders_of(name))
                try:
                    metadata = beside.values(name)
                except BadValue as error:
                    result.refused.append((name, error))
                    continue
                stamp = beside.stamp(name)
                result.entries.append(
                    ListedImage(task, name, split, metadata, partial(files.read, name), stamp)
                )
        if not result.entries:
            raise UserError(
                f"no task found in {files.url}; put the images of each task in a folder of its "
                "own, not a link to one, or name a table with the columns path and task."
            )
        return result


class FolderLayout(NamedTuple):
    """The meaning of folders.

    Attributes:
        begin: the number of folders above those of tasks that say nothing of tasks.
        end: the number of folders down to that of a task, which is the last of them.
        split: the place of the folder that is a split, or None.
        remarks: sentences for the user.
    """

    begin: int
    end: int
    split: int | None
    remarks: tuple[str, ...] = ()

    def task_of(self, folders: _Folders) -> str | None:
        """Return the task of an image in these folders; None where it is in no task's."""
        return "/".join(folders[self.begin : self.end]) if len(folders) >= self.end else None

    def split_of(self, folders: _Folders) -> str | None:
        """Return the split of an image in these folders."""
        return None if self.split is None else split_named(folders[self.split])


def layout_of(folders: Iterable[_Folders], depth: int | None, url: str) -> FolderLayout:
    """Find out what the folders of images mean.

    A folder that all share says nothing, and neither do folders within a task's. What has two
    meanings is refused: to merge the classes of a data set into one task would train on nonsense.

    Args:
        folders: of each image.
        depth: a task is a folder so many levels below the source, or below the folders of splits;
            None finds it out.
        url: of the source, for messages.

    Raises:
        UserError: when the folders have several meanings.
    """
    places = sorted({place for place in folders if place})
    shared = _shared(places)
    tops = sorted({place[shared] for place in places if len(place) > shared})
    splits = bool(tops) and all(split_named(top) for top in tops)
    if depth is None and not splits:
        _refuse_some_splits(places, shared, tops, url)
    if depth is None:
        begin = shared + splits
        _refuse_nested(places, begin, shared if not splits else 0, url)
        return FolderLayout(begin, begin + 1, shared if splits else None, _remarks(places, shared))
    begin = shared + 1 if splits else 0
    end = begin + depth
    tasks = [place[begin:end] for place in places if len(place) >= end]
    # Folders that all tasks share are no part of their names.
    common = min(_common(tasks), depth - 1) if tasks else 0
    return FolderLayout(begin + common, end, shared if splits else None)


def folders_of(name: str) -> _Folders:
    """Return the folders above a file, from the source's own on."""
    return PurePosixPath(name).parts[:-1]


def _shared(places: Sequence[_Folders]) -> int:
    """Count the folders around all others: those above the first that is a split or a task."""
    shared = places[0][: _common(places)] if places else ()
    named = [at for at, folder in enumerate(shared) if split_named(folder)]
    if named:
        return named[0]
    return 0 if shared in places else len(shared)


def _common(places: Sequence[_Folders]) -> int:
    """Count the folders from the top on that are the same in all."""
    levels = [len(set(level)) == 1 for level in zip(*places, strict=False)]
    return levels.index(False) if False in levels else len(levels)


def _remarks(places: Sequence[_Folders], shared: int) -> tuple[str, ...]:
    if not shared:
        return ()
    holder = printable("/".join(places[0][:shared]))
    return (f"tasks are the folders within '{holder}', which holds them all",)


def _refuse_some_splits(
    places: Sequence[_Folders], shared: int, tops: Sequence[str], url: str
) -> None:
    """Refuse folders of which some are splits with tasks inside, and others are not."""
    direct = {place[shared] for place in places if len(place) == shared + 1}
    named = [top for top in tops if split_named(top) and top not in direct]
    if named:
        others = [top for top in tops if not split_named(top)]
        raise UserError(
            f"{url} has the splits {_some(named)} beside {_some(others)}, which is no name of a "
            f"split; the folders of splits must be named train, val, test. Or give --task-depth "
            f"{shared + 1} or {shared + 2}, the level of the folders that are tasks."
        )


def _refuse_nested(places: Sequence[_Folders], begin: int, counted: int, url: str) -> None:
    """Refuse a folder of folders that may be a task, or else hold a task in each of them."""
    direct = {place[begin] for place in places if len(place) == begin + 1}
    inner = Counter(place[begin] for place in places if len(place) > begin + 1)
    # Beside subfolders of a task's there may be other tasks, but not beside all of them.
    clear = direct if len(direct | set(inner)) > 1 else set()
    nested = next((top for top, n in inner.items() if n > 1 and top not in clear), None)
    if nested is None:
        return
    within = sorted(place for place in places if place[begin : begin + 1] == (nested,))
    level = counted + 1
    longest = max(within, key=len)
    nested, deepest = printable(nested), printable("/".join(longest[begin:]))
    deeper = len(longest) - begin + counted
    raise UserError(
        f"{url} has folders within folders: '{nested}' holds the folders "
        f"{_some(place[begin + 1] for place in within if len(place) > begin + 1)}. Give "
        f"--task-depth {level} if '{nested}' is a task, or --task-depth {deeper} if "
        f"'{deepest}' is one."
    )


def _some(names: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - 3} more" if len(distinct) > 3 else ""
    return ", ".join(f"'{printable(name)}'" for name in distinct[:3]) + more
