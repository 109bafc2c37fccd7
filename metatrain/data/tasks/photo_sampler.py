"""Planning the episodes of degradations: the photograph of each, before any is read."""

from dataclasses import dataclass

from metatrain.data.packed.store import Task
from metatrain.data.tasks.random_streams import IMAGES, random_stream, turn_of


@dataclass(frozen=True)
class PhotoPlan:
    """The photograph of one episode, the seed of all else, and the number of its queries."""

    task: Task
    image: int
    seed: int
    queries: int


@dataclass(frozen=True)
class PhotoSampler:
    """Plans of the episodes of one split: every photograph comes once before any comes twice."""

    tasks: list[Task]
    key: int
    meta_batch: int
    queries: int

    @property
    def epoch(self) -> int:
        """The number of photographs."""
        return len(self.tasks)

    def plan(self, step: int, slot: int) -> PhotoPlan:
        """Return the plan of `slot` in outer step `step`."""
        task = self.tasks[turn_of(self.key, step * self.meta_batch + slot, len(self.tasks))]
        stream = random_stream(self.key, IMAGES, step, slot)
        return PhotoPlan(
            task, int(stream.integers(task.count)), int(stream.integers(2**62)), self.queries
        )
