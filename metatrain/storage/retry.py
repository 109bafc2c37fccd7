"""Retries: the faults of a storage that pass by themselves, and the time to wait for that."""

import errno
import random
import time
from collections.abc import Callable
from typing import TypeVar

from metatrain.base.errors import UserError
from metatrain.storage.refusals import refusal_of

Result = TypeVar("Result")

ATTEMPTS = 6
# Waits double from the first to 3.2 s: some 6 s in all, beside the time-outs of a silent storage.
_FIRST_WAIT = 0.2

# Errors that the same request would meet again.
_LASTING = (
    *(FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError, PermissionError),
    *(UserError, ImportError, NotImplementedError, TypeError, ValueError),
    *(ArithmeticError, LookupError, MemoryError),
)
_LASTING_NUMBERS = {
    *(errno.EINVAL, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EILSEQ),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EOVERFLOW, errno.EBADF, errno.ENODEV, errno.ENXIO, errno.EXDEV, errno.EMLINK),
    *(errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT),
}
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError")


class GarbledError(Exception):
    """Bytes that are not those that were written."""


def retrying(attempt: Callable[[], Result], on_retry: Callable[[], None] = lambda: None) -> Result:
    """Call `attempt` up to `ATTEMPTS` times, while it fails in a way that may pass.

    The waits between are random by half, so that many workers do not come back at once.

    Args:
        attempt: asks the storage once.
        on_retry: called before every attempt but the first.

    Raises:
        Exception: that of the last attempt, or the first that will not pass.
    """
    for number in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except Exception as error:
            if number == ATTEMPTS or not _may_pass(error):
                raise
        time.sleep(_FIRST_WAIT * 2 ** (number - 1) * random.uniform(0.5, 1))
        on_retry()
    raise AssertionError("unreachable")


def _may_pass(error: Exception) -> bool:
    if refusal := refusal_of(error):
        return not refusal.lasts
    if isinstance(error, _LASTING) or type(error).__name__ in _NO_CREDENTIALS:
        return False
    return not (isinstance(error, OSError) and error.errno in _LASTING_NUMBERS)
