"""Parts that the operations of the API share: models, what computes, bounds and counts."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from serving.computing import Computing
from serving.file_answers import MadeAnswer
from serving.limits import Limits, Places, RequestError
from serving.metrics import Metrics
from serving.models import Models
from serving.worker import Worker


@dataclass(frozen=True, kw_only=True)
class Service:
    """The parts of one server that compute, and its bounds.

    Attributes:
        models: the models to adapt.
        computing: what computes with them.
        worker: advances the jobs that keep what is computed.
        limits: the bounds of a request.
        metrics: counts what is done.
        downloads: places of answers that are made as a whole.
    """

    models: Models
    computing: Computing
    worker: Worker
    limits: Limits
    metrics: Metrics
    downloads: Places = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "downloads", Places(self.limits.downloads, "downloads"))

    def made(
        self, make: Callable[[], bytes], kind: str, held: ExitStack | None = None
    ) -> MadeAnswer:
        """Answer with a body that is made when there is a place for it; see `MadeAnswer`."""
        seconds = self.limits.download_seconds
        return MadeAnswer(make, kind, places=self.downloads, seconds=seconds, held=held)

    def refuse_steps(self, steps: int) -> None:
        """Refuse to take too many steps.

        Raises:
            RequestError: when they are.
        """
        if steps > self.limits.steps:
            raise RequestError(422, f"steps is {steps:,}; take at most {self.limits.steps:,}.")
