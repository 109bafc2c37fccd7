"""Parts that the operations of the API share: models, the worker, bounds and counts."""

from dataclasses import dataclass

from serving.limits import Limits, RequestError
from serving.metrics import Metrics
from serving.models import Models
from serving.worker import Worker


@dataclass(frozen=True, kw_only=True)
class Service:
    """The parts of one server that compute, and its bounds.

    Attributes:
        models: the models to adapt.
        worker: what computes.
        limits: the bounds of a request.
        metrics: counts what is done.
    """

    models: Models
    worker: Worker
    limits: Limits
    metrics: Metrics

    def refuse_steps(self, steps: int) -> None:
        """Refuse to take too many steps.

        Raises:
            RequestError: when they are.
        """
        if steps > self.limits.steps:
            raise RequestError(422, f"steps is {steps:,}; take at most {self.limits.steps:,}.")
