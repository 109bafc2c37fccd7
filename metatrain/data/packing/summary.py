"""The outcome of packing: what was kept, and what was refused and why."""

import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress
from metatrain.base.text import counted
from metatrain.data.images import WARNINGS, BadValue, NormalisedImage
from metatrain.data.packed.manifest import SPLITS
from metatrain.data.packing.raw_images import RawImage
from metatrain.data.packing.sources.folders import NOT_AN_IMAGE

# Images named for each warning; all are counted.
_NAMED = 10
NEAR_COPIES = "nearly the same as another of their task (saved again, or resized): kept"


@dataclass(frozen=True)
class PackSummary:
    """The outcome of packing.

    Attributes:
        url: where the data set lies.
        tasks: the number of tasks by split.
        images: the number of images that were kept.
        notes: the number of kept images by a peculiarity, such as ``transparent: on white``.
        refused: the number of refused files by reason.
        already_packed: whether the data set was there before, and nothing was done.
        near_copies: the number of images that are nearly the same as another of their task, among
            the tasks that were packed now.
    """

    url: str
    tasks: Mapping[str, int]
    images: int
    notes: Mapping[str, int]
    refused: Mapping[str, int]
    already_packed: bool = False
    near_copies: int = 0

    def __str__(self) -> str:
        splits = ", ".join(f"{count:,} {split}" for split, count in self.tasks.items())
        lines = [
            f"{'already packed' if self.already_packed else 'packed'}: {self.url}",
            f"  {counted(sum(self.tasks.values()), 'task')} ({splits}), "
            f"{counted(self.images, 'image')}",
        ]
        lines += [f"  {count:,} {note}" for note, count in self.notes.items()]
        if self.near_copies:
            lines.append(f"  {self.near_copies:,} {NEAR_COPIES}")
        lines += [f"  {count:,} refused: {reason}" for reason, count in self.refused.items()]
        return "\n".join(lines)


def add_summary(summary: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Add the summary of the data set that was there."""
    total = dict(summary)
    for key, counts in before.items():
        if isinstance(counts, Mapping):
            names = sorted(counts | summary[key]) if key != "tasks" else SPLITS
            total[key] = {n: counts.get(n, 0) + summary[key].get(n, 0) for n in names}
        else:
            total[key] = counts + summary[key]
    return total


class Tally:
    """Counts of the images' outcomes; refused ones are reported to the user, folder by folder.

    Attributes:
        progress: the line that shows it.
        kept: the number of images by task.
        notes: the number of kept images by peculiarity.
        present: the number of images that the data set had before.
        near_copies: the number of images that are nearly the same as another of their task.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.kept = Counter[str]()
        self.notes = Counter[str]()
        self.present = self.near_copies = 0
        self._refused = Counter[str]()
        self._unreported: dict[tuple[str, str], list[tuple[str, BadValue]]] = {}

    def refuse(self, name: str, error: BadValue) -> None:
        """Count a refused file."""
        self._refused[error.reason] += 1
        if error.reason != NOT_AN_IMAGE:
            place = (posixpath.dirname(name), error.reason)
            self._unreported.setdefault(place, []).append((name, error))

    def keep(self, raw: RawImage, image: NormalisedImage) -> None:
        """Count a kept image, and name it where it deserves a look."""
        self.kept[raw.task] += 1
        self.notes.update(image.notes)
        for note in set(image.notes) & set(WARNINGS):
            if self.notes[note] <= _NAMED:
                self.progress.say(f"kept {raw.name!r}: {note}")

    def report(self) -> None:
        """Report the files that were refused since the last report."""
        for (folder, reason), files in self._unreported.items():
            name, error = files[0]
            # repr: control characters in a file name would act on a terminal.
            if len(files) == 1:
                self.progress.say(f"refused {name!r}: {error}")
                continue
            names = ", ".join(repr(posixpath.basename(name)) for name, _ in files[:3])
            more = f" and {len(files) - 3:,} more" if len(files) > 3 else ""
            where = f" in {folder!r}" if folder else ""
            self.progress.say(f"refused {len(files):,} files{where}: {reason} ({names}{more})")
        self._unreported = {}

    def summary(
        self, source: str, splits: Mapping[str, str], known: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the counts of a `PackSummary`.

        Args:
            source: what was packed, for messages.
            splits: of the tasks.
            known: tasks that the data set had before.

        Raises:
            UserError: when there is no image.
        """
        if not self.kept:
            raise UserError(
                f"no image in {source} could be kept, for the reasons above; "
                "replace those files, or name another SOURCE."
            )
        tasks = Counter(splits[task] for task in self.kept if task not in known)
        return {
            "tasks": {split: tasks[split] for split in SPLITS},
            "images": self.kept.total(),
            "notes": dict(sorted(self.notes.items())),
            "refused": dict(sorted(self._refused.items())),
        }
