"""Levels of images of more than 8 bits a channel, by default the same for all images of a task."""

from collections.abc import Callable, Sequence
from functools import cached_property
from threading import Lock
from typing import Literal

from metatrain.base.progress import tracked
from metatrain.data.decoding.levels import ChooseLevels, Levels, ValueExtent
from metatrain.data.images import BadValue, extent_of

# The last is the values that become black and white.
ValueRange = Literal["per-task", "per-image"] | tuple[float, float]


def levels_of(
    task: Sequence[Callable[[], bytes]], value_range: ValueRange = "per-task"
) -> ChooseLevels:
    """Return the choice of levels for the images of one task, each given by its reader."""
    if value_range == "per-task":
        return _TaskLevels(task)
    if value_range == "per-image":
        return lambda extent: extent.stretched
    fixed = Levels(*value_range)
    return lambda extent: fixed


class _TaskLevels:
    """The levels of a task, measured once the first image needs them: most tasks never do."""

    def __init__(self, task: Sequence[Callable[[], bytes]]) -> None:
        self._task, self._lock = task, Lock()

    def __call__(self, extent: ValueExtent) -> Levels:
        with self._lock:  # or each thread would measure them
            extents = self._extents
        return (extents.get(extent.kind, extent) | extent).levels

    @cached_property
    def _extents(self) -> dict[str, ValueExtent]:
        extents: dict[str, ValueExtent] = {}
        for read in tracked("measuring a task's values", self._task, len(self._task)):
            try:
                extent = extent_of(read())
            except BadValue:
                continue  # It is refused, with its reason, when its turn comes.
            if extent:
                extents[extent.kind] = extents.get(extent.kind, extent) | extent
        return extents
