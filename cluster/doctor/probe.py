"""What a node says of itself. Runs there, on a Ray worker."""

import importlib.metadata
import os
import platform
import secrets
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from metatrain.base.errors import UserError
from metatrain.base.machine import free_memory
from metatrain.data.packed.manifest import MANIFEST
from metatrain.storage.files import filesystem_of, is_s3, read_file, write_file

PACKAGES = ("ray", "torch", "deepspeed", "numpy", "pyarrow", "fsspec")

# Bytes that are written and read back to see how fast a storage is.
_PROBE = 16_000_000

# Where S3's clients look first; of what is there, no more is told than that it is.
_CREDENTIALS = (
    *("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)


@dataclass(frozen=True)
class Storage:
    """How a node gets on with one place of storage.

    Attributes:
        url: the place.
        trouble: why it cannot be used; '' where it can.
        reads: bytes a second.
        writes: bytes a second; 0 where nothing is to be written.
    """

    url: str
    trouble: str = ""
    reads: float = 0.0
    writes: float = 0.0


@dataclass(frozen=True)
class Facts:
    """What a node says of itself.

    Attributes:
        versions: of Python and packages; '' for what is not installed.
        gpus: bytes of memory of each.
        shm: bytes of /dev/shm.
        disk: free bytes where Ray and caches write.
        memory: bytes that workers may take.
        clock: seconds since the epoch.
        credentials: where some for S3 were found; '' where none were.
        deepspeed: why it cannot be used; '' where it can.
        storage: places that a run reads and writes.
    """

    versions: dict[str, str]
    gpus: list[int]
    shm: int
    disk: int
    memory: int
    clock: float
    credentials: str = ""
    deepspeed: str = ""
    storage: list[Storage] = field(default_factory=list)


def clock() -> float:
    """Seconds since the epoch, here."""
    return time.time()


def probe(data: str | None, run: str | None, cache: str | None) -> Facts:
    """All facts of the node that this runs on.

    Args:
        data: URL of the data set that is to be read; None where none is.
        run: URL below which is to be written.
        cache: the folder that keeps what was read.
    """
    storage = [_reading(data)] if data else []
    storage += [_writing(run)] if run else []
    remote = any(is_s3(url) for url in (data or "", run or ""))
    return Facts(
        versions(),
        _gpus(),
        shutil.disk_usage("/dev/shm").total,
        shutil.disk_usage(_existing(cache or "/tmp")).free,
        free_memory(torch.device("cpu")),
        time.time(),
        _credentials() if remote else "",
        _deepspeed(),
        storage,
    )


def versions() -> dict[str, str]:
    """Of Python and of the packages that all nodes must have alike."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        found[name] = ""
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _gpus() -> list[int]:
    """By NVIDIA's own tool: torch sees no more than what Ray gave to this worker, which is none."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
        return [int(line) * 2**20 for line in said.split()]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


def _existing(folder: str) -> str:
    while not os.path.exists(folder):  # noqa: PTH110
        folder = os.path.dirname(folder) or "."  # noqa: PTH120
    return folder


def _credentials() -> str:
    """Where S3's clients would take credentials from."""
    import botocore.session

    for name in _CREDENTIALS:
        if os.environ.get(name):
            return name
    found = botocore.session.get_session().get_credentials()
    return found.method if found else ""


def _deepspeed() -> str:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # as of a worker that was given no GPU
    try:
        import deepspeed  # noqa: F401
    except Exception as error:  # whatever its import comes to: compilers, drivers, versions
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    return ""


def _reading(url: str) -> Storage:
    started = time.perf_counter()
    try:
        size = len(read_file(f"{url.rstrip('/')}/{MANIFEST}"))
    except UserError as error:
        return Storage(url, str(error))
    return Storage(url, reads=size / (time.perf_counter() - started))


def _writing(url: str) -> Storage:
    file = f"{url.rstrip('/')}/.doctor-{secrets.token_hex(8)}"
    content, started = os.urandom(_PROBE), time.perf_counter()
    try:
        write_file(file, content)
        written, started = time.perf_counter() - started, time.perf_counter()
        same = read_file(file) == content
        read = time.perf_counter() - started
        fs, path = filesystem_of(file)
        fs.rm(path)
    except (UserError, OSError) as error:
        return Storage(url, str(error))
    trouble = "" if same else "what was read back is not what was written"
    return Storage(url, trouble, _PROBE / read, _PROBE / written)
