"""Problems of data that training refuses."""

from collections.abc import Callable, Iterable

from metatrain.base.errors import UserError
from metatrain.data.tasks import TaskSource


def errors_of(checks: Iterable[Callable[[], object]]) -> list[UserError]:
    """Run every check, and return the mistakes that they found."""
    errors: list[UserError] = []
    for check in checks:
        try:
            check()
        except UserError as error:
            errors.append(error)
    return errors


def data_problems(source: TaskSource) -> list[UserError]:
    """List why a run cannot train on `source`: tasks of too few images, or images too small."""
    return errors_of(
        [
            lambda: source.sampler("train", seed=0, meta_batch=1),
            lambda: source.refuse_enlarging(source.data.image_size),
        ]
    )
