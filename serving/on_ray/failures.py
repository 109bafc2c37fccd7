"""Refusals that pass from one process to another as values.

Ray raises another error in the place of an exception, whose text is the other's traceback.
"""

from dataclasses import dataclass
from typing import TypeVar

from metatrain.base.errors import UserError
from serving.limits import RequestError

Value = TypeVar("Value")

# Errors with a sentence for the client.
REFUSALS = (UserError, RequestError)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A refusal.

    Attributes:
        status: the HTTP status; None where it is of the model or of a file.
        sentence: what was wrong, and what to do.
    """

    status: int | None
    sentence: str


def failure_of(error: Exception) -> Failure:
    """Return the value of one of `REFUSALS`."""
    status = error.status if isinstance(error, RequestError) else None
    return Failure(status=status, sentence=str(error))


def checked(value: Value | Failure) -> Value:
    """Return a value, unless it is a refusal.

    Raises:
        UserError: when it is one without a status.
        RequestError: when it is one with a status.
    """
    if not isinstance(value, Failure):
        return value
    if value.status is None:
        raise UserError(value.sentence)
    raise RequestError(value.status, value.sentence)
