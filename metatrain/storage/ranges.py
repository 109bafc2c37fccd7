"""Byte ranges of files: from object stores by obstore, from elsewhere by fsspec.

Of an object store too fsspec can read ranges, for four to ten times the CPU, and on one thread that
all readers wait for.
"""

import os
import re
from http import HTTPStatus

import obstore

from metatrain.storage.files import filesystem_of, read_bytes
from metatrain.storage.object_stores import object_store_of
from metatrain.storage.refusals import PASSING_CODES, PASSING_STATUSES
from metatrain.storage.retry import GarbledError

# A forked process has none of the threads by which obstore works, and would wait for them for ever.
_PROCESS = os.getpid()
_STATUS = re.compile(r"status code: (\d+) ([\w ]+)")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_CAUSE = re.compile(r'(?:message: |error: |source: (?=\w+,))"?(\w[\w: ]*)')


def read_range(url: str, start: int, end: int) -> memoryview:
    """Read the bytes [start, end) of the file at `url`, in one request; threads may share it.

    Raises:
        GarbledError: when the file ends before `start`.
        Exception: what the storage says otherwise; see `metatrain.storage.files.reaching`.
    """
    folder, _, name = url.rpartition("/")
    store = object_store_of(folder) if os.getpid() == _PROCESS else None
    if store is None:
        return memoryview(read_bytes(*filesystem_of(url), start, end))
    try:
        # No copy: of some megabytes it would take as much CPU as their request.
        return memoryview(obstore.get_range(store, name, start=start, end=end))
    except Exception as error:
        # The cause would print the whole request.
        raise refusal(str(error)) from None


def refusal(text: str) -> Exception:
    """Return the exception for what obstore says: its type tells whether it may pass."""
    text, _, details = text.partition("\n\nDebug source:")
    answer = _STATUS.search(text)
    if answer is None:
        reason = ", ".join([text.rpartition(": ")[2], *_CAUSE.findall(details)[-1:]])
        return PermissionError(reason) if "BareRedirect" in details else OSError(reason)
    status, code = int(answer[1]), _CODE.search(text)
    reason = f"{code[1] if code else answer[2]} ({status})"
    if status == HTTPStatus.NOT_FOUND:
        return FileNotFoundError(reason)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return GarbledError(reason)
    passing = status in PASSING_STATUSES or (code and code[1] in PASSING_CODES)
    lasting = status < HTTPStatus.INTERNAL_SERVER_ERROR and not passing
    return PermissionError(reason) if lasting else OSError(reason)
