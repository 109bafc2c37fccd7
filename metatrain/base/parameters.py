"""Parameters by name: the form in which theta, phi and gradients pass between rooms."""

from collections.abc import Mapping

from torch import Tensor

Parameters = dict[str, Tensor]


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the first name whose values are not all finite in single precision; None if all are.

    Everything is computed in that precision, so a larger float64 counts as infinite.
    """
    return next((name for name, value in tensors.items() if not _is_finite(value)), None)


def _is_finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(value.float().isfinite().all())
