"""The images of a split as one pool, whatever tasks they were packed as."""

from bisect import bisect_right
from itertools import accumulate

from metatrain.data.packed.store import EpisodeStore, ImagePlace


class Pool:
    """All images of a split, numbered through its tasks in the order of their names."""

    def __init__(self, store: EpisodeStore, split: str) -> None:
        self._tasks = store.tasks(split)
        self._ends = list(accumulate(task.count for task in self._tasks))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> ImagePlace:
        if not 0 <= number < len(self):
            raise IndexError(f"there is no image {number} of {len(self)}")
        at = bisect_right(self._ends, number)
        task = self._tasks[at]
        return task, number - self._ends[at] + task.count
