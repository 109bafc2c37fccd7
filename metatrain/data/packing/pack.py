"""Packing images, grouped into tasks, into a data set for `metatrain.data.packed.store`.

The same source with the same options gives the same bytes. Further tasks packed into the same place
add shards, and leave the shards that are there as they are.
"""

import logging
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import PurePosixPath
from typing import Any

from metatrain.base.errors import HeldError, UserError
from metatrain.base.progress import Progress
from metatrain.data.images import WARNINGS, Background, BadValue, NormalisedImage
from metatrain.data.packed.manifest import SPLITS
from metatrain.data.packed.writer import DatasetWriter, sha256_of
from metatrain.data.packing.built_in import BUILT_IN
from metatrain.data.packing.condition_columns import ConditionColumns
from metatrain.data.packing.folders_and_tables import NOT_AN_IMAGE, is_table, open_source
from metatrain.data.packing.pixel_options import PixelOptions
from metatrain.data.packing.raw_images import RawImage, Source
from metatrain.data.task_levels import ValueRange
from metatrain.storage.files import filesystem_of, write_file
from metatrain.storage.lease import LeaseKey, lease

_log = logging.getLogger(__name__)

# To be raised when the same source no longer gives the same data set.
_FORMAT = 2

# Images named for each warning; all are counted.
_NAMED = 10


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
    """

    url: str
    tasks: Mapping[str, int]
    images: int
    notes: Mapping[str, int]
    refused: Mapping[str, int]
    already_packed: bool = False

    def __str__(self) -> str:
        splits = ", ".join(f"{count:,} {split}" for split, count in self.tasks.items())
        lines = [
            f"{'already packed' if self.already_packed else 'packed'}: {self.url}",
            f"  {sum(self.tasks.values()):,} tasks ({splits}), {self.images:,} images",
        ]
        lines += [f"  {count:,} {note}" for note, count in self.notes.items()]
        lines += [f"  {count:,} refused: {reason}" for reason, count in self.refused.items()]
        return "\n".join(lines)


def pack(
    source: str,
    dest: str,
    *,
    size: int | None = None,
    raw: bool = False,
    seed: int = 0,
    split: tuple[float, float, float] = (0.8, 0.1, 0.1),
    variant: str | None = None,
    conditions: Mapping[str, str] | None = None,
    background: Background = "white",
    value_range: ValueRange = "per-task",
    wait: bool = False,
) -> PackSummary:
    """Pack the images of `source` as a data set at `dest`, or add its new tasks to the one there.

    A task as a whole goes to train, val or test, so that val and test hold nothing but tasks that
    training never saw. Nothing outside of the source's folder is read: no symbolic link and no
    path in a table leads out of it. Refused files are logged, and packing continues.
    When packing fails or is interrupted, its files are removed; the files of a killed process are
    removed by the next one. Added tasks get their splits among themselves, so that no task that is
    there changes its own.

    Args:
        source: a folder with one folder of images for each task, these perhaps within folders
            named train, val and test; or a .csv or .parquet table with columns path (relative to
            the table) and task, optionally split, and metadata to keep; or 'glyphs' or 'icons', the
            benchmarks (for a folder of that name, write './icons'). Any fsspec URL.
        dest: the folder to write; any fsspec URL.
        size: crop all images to squares of this many pixels a side; None keeps them as they are
            (glyphs are then drawn at 28, icons at 32).
        raw: store the pixels themselves, which are read fastest and take most room; needs `size`.
        seed: decides, with a task's name, the split of tasks to which the source gives none.
        split: the shares of those tasks for train, val and test; they sum to 1.
        variant: a variant of a benchmark: glyphs with 'style' has faces as tasks in place of
            characters; icons with 'wide' has more and smaller tasks.
        conditions: metadata to pack as conditions of the images, by column the name of its kind:
            'text', 'vector' (numbers as JSON), 'image' (the path of a file), or another package's.
        background: takes the place of transparency: 'white' or 'black'; 'auto' is white, or black
            for an image that white would hide; 'keep' packs RGBA.
        value_range: the values of images of more than 8 bits that become black and white:
            'per-task' takes the same for all images of a task, so that they stay comparable;
            'per-image' stretches each by itself; or two numbers.
        wait: whether to wait until another process that packs into `dest` has ended.

    Raises:
        HeldError: when another process packs into `dest`.
        UserError: when there is nothing to pack, `dest` holds a data set that was packed with
            other options or has other images of the same task, or either cannot be reached.
    """
    _check_options(size, raw, split)
    pixels = PixelOptions(size, raw, background, value_range)
    _refuse_overlap(source, dest)
    opened = open_source(source, size, variant)
    options = {"size": size, "raw": raw, "seed": seed, "split": list(split), "format": _FORMAT}
    options |= {"background": background} if background != "white" else {}
    if value_range != "per-task":
        options["range"] = value_range if isinstance(value_range, str) else list(value_range)
    options |= {"variant": variant} if variant else {}
    options |= {"conditions": dict(conditions)} if conditions else {}
    columns = ConditionColumns(conditions or {}, opened, source, size, raw)
    with _leased(dest, wait) as held:
        metadata = [column for column in opened.columns if column not in columns.types]
        writer = DatasetWriter(dest, metadata, columns.types)
        before = writer.packed_before()
        columns.continue_with(writer.conditions)
        new = _new_tasks(opened.identities, options, before, dest)
        if before and not new:
            return PackSummary(dest, **before["summary"], already_packed=True)
        splits = assign_splits({name: opened.splits[name] for name in new}, seed, split)
        tally = _Tally(Progress("packing", sum(opened.counts[name] for name in new)))
        rows = _rows(opened, splits, pixels, columns, tally)
        known = before or {"tasks": {}, "summary": {}}
        with _attempt(writer, held), closing(tally.progress):
            for row in rows:
                writer.add(row)
            for name, data in opened.beside().items():
                write_file(f"{dest}/{name}", data)
            summary = _sum(tally.summary(source, splits), known["summary"])
            tasks = {**known["tasks"], **new}
            note = {"options": options, "tasks": tasks, "summary": summary}
            held.check()
            writer.commit(note, columns.sections)
        return PackSummary(dest, **summary)


def _check_options(size: int | None, raw: bool, split: tuple[float, float, float]) -> None:
    if len(split) != 3 or min(split) < 0 or abs(sum(split) - 1) > 1e-6:
        raise UserError(
            f"split {split} must be three shares, for train, val and test, summing to 1."
        )
    if raw and size is None:
        raise UserError("raw pixels must all be of one size; give it, such as --size 32.")


@contextmanager
def _leased(dest: str, wait: bool) -> Iterator[LeaseKey]:
    """Hold `dest`; where it cannot be written, only what is packed there already can be told."""
    with ExitStack() as stack:
        try:
            key = stack.enter_context(lease(dest, "packs", wait=wait)).key
        except HeldError:
            raise
        except UserError as error:
            _log.info("no lease: %s", error)
            key = LeaseKey(dest, "")
        yield key


@contextmanager
def _attempt(writer: DatasetWriter, held: LeaseKey) -> Iterator[None]:
    """Remove the files of the block inside if it fails, and they can be no one else's."""
    writer.begin()
    try:
        yield
    except BaseException:
        with suppress(Exception):
            held.check()
            writer.clear()
        raise


def _new_tasks(
    identities: Mapping[str, str],
    options: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    dest: str,
) -> dict[str, str]:
    """Return the tasks that `dest` does not have yet, with their identities."""
    if before is None:
        return dict(identities)
    if before.get("options") != options:
        raise UserError(
            f"{dest} already holds a data set that was packed with other options; "
            "choose another DEST, or remove that data set first."
        )
    packed: Mapping[str, str] = before["tasks"]
    for name, identity in identities.items():
        if packed.get(name, identity) != identity:
            raise UserError(
                f"{dest} already holds a data set that has other images of task '{name}'; "
                "choose another DEST, or remove that data set first."
            )
    return {name: identity for name, identity in identities.items() if name not in packed}


def _sum(summary: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Add the summary of the data set that was there."""
    total = dict(summary)
    for key, counts in before.items():
        if isinstance(counts, Mapping):
            names = sorted(counts | summary[key]) if key != "tasks" else SPLITS
            total[key] = {n: counts.get(n, 0) + summary[key].get(n, 0) for n in names}
        else:
            total[key] = counts + summary[key]
    return total


def assign_splits(
    tasks: Mapping[str, str | None], seed: int, shares: tuple[float, float, float]
) -> dict[str, str]:
    """Return the split of every task: the given one, or by the rank of a hash of seed and name.

    val and test get their rounded shares, but at least one task each of three or more, and two of
    ten or more; train gets the rest.

    Args:
        tasks: every task's name, and the split that the source gives it, or None.
        seed: another seed gives another assignment.
        shares: of train, val and test, summing to 1.
    """
    free = sorted(
        (name for name, fixed in tasks.items() if fixed is None),
        key=lambda name: sha256_of(f"{seed}/{name}".encode()),
    )
    # Two, where there are enough: scores compare a task with others.
    least = 2 if len(free) >= 10 else 1 if len(free) >= 3 else 0
    val, test = (max(round(share * len(free)), least if share else 0) for share in shares[1:])
    order = ["val"] * val + ["test"] * test + ["train"] * len(free)
    fixed = {name: split for name, split in tasks.items() if split}
    return fixed | dict(zip(free, order, strict=False))


class _Tally:
    """Counts of the images' outcomes; refused ones are reported to the user."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.kept = Counter[str]()
        self.notes = Counter[str]()
        self.refused = Counter[str]()

    def refuse(self, name: str, error: BadValue) -> None:
        self.refused[error.reason] += 1
        if error.reason != NOT_AN_IMAGE:
            # repr: control characters in a file name would act on a terminal.
            self.progress.say(f"refused {name!r}: {error}")

    def keep(self, raw: RawImage, image: NormalisedImage) -> None:
        self.kept[raw.task] += 1
        self.notes.update(image.notes)
        for note in set(image.notes) & set(WARNINGS):
            if self.notes[note] <= _NAMED:
                self.progress.say(f"kept {raw.name!r}: {note}")

    def summary(self, source: str, splits: Mapping[str, str]) -> dict[str, Any]:
        """Return the counts of a `PackSummary`."""
        if not self.kept:
            raise UserError(
                f"no image in {source} could be kept, for the reasons above; "
                "replace those files, or name another SOURCE."
            )
        tasks = Counter(splits[task] for task in self.kept)
        return {
            "tasks": {split: tasks[split] for split in SPLITS},
            "images": self.kept.total(),
            "notes": dict(sorted(self.notes.items())),
            "refused": dict(sorted(self.refused.items())),
        }


def _rows(
    source: Source,
    splits: Mapping[str, str],
    pixels: PixelOptions,
    columns: ConditionColumns,
    tally: _Tally,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the tasks in `splits`, one task after the other, without refused images."""
    for name, error in source.refused:
        tally.refuse(name, error)
    counts = {task: count for task, count in source.counts.items() if task in splits}
    starts = dict(zip(counts, accumulate(counts.values(), initial=0), strict=False))
    images = (image for image in source.images if image.task in splits)
    for task, group in groupby(images, key=lambda raw: raw.task):
        raws = list(group)
        normalised = pixels.normaliser(raws)
        for done, raw in enumerate(raws, start=starts[task]):
            tally.progress.update(done)
            try:
                image = normalised(raw.read())
                values = columns.encode(raw)
            except BadValue as error:
                tally.refuse(raw.name, error)
                continue
            yield {
                "task": task,
                "index": tally.kept[task],
                "image": image.data,
                "width": image.width,
                "height": image.height,
                "split": splits[task],
                **raw.metadata,
                **values,
            }
            tally.keep(raw, image)


def _refuse_overlap(source: str, dest: str) -> None:
    """Refuse to pack into the source: packed files would be packed again, or overwrite images."""
    if source in BUILT_IN:
        return
    (source_fs, path), (dest_fs, root) = filesystem_of(source), filesystem_of(dest)
    if is_table(source):
        overlap = root == posixpath.dirname(path)
    else:
        overlap = PurePosixPath(root).is_relative_to(path)
    if overlap and type(source_fs) is type(dest_fs):
        raise UserError(f"DEST {dest} lies in SOURCE {source}; choose a DEST outside of it.")
