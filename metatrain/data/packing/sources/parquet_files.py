"""Parquet files of strangers, opened once it is known that they can be read within memory."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from metatrain.base.errors import UserError
from metatrain.base.text import reason_of
from metatrain.data.images import BadImage
from metatrain.data.packed.parquet_headers import refuse_bomb
from metatrain.data.packing.containers.container import Container

# Rows that are in memory at a time.
BATCH_ROWS = 32


def open_parquet(files: Container, name: str) -> pq.ParquetFile:
    """Open a Parquet file among `files`.

    Raises:
        UserError: when it is damaged, or unpacks to far more than it has.
    """
    with readable(files.place_of(name)):
        file = files.open(name)
        _check(file)
        return pq.ParquetFile(file)


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Turn what a Parquet file at `where` is refused for into a sentence.

    Raises:
        UserError: when the block inside fails on it.
    """
    try:
        yield
    except UserError:
        raise
    except (BadImage, pa.ArrowException, OSError) as error:
        raise UserError(f"{where} cannot be read ({reason_of(error)}); mend it.") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{where} is damaged ({reason_of(error)}); copy it again.") from error


def _check(file: BinaryIO) -> None:
    if isinstance(file, io.BytesIO):
        data: bytes | mmap = file.getvalue()
    else:
        data = mmap(file.fileno(), 0, access=ACCESS_READ)
    refuse_bomb(data)
