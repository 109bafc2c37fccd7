"""Report what a node has and can do. Runs on the node, in a Ray worker."""

import importlib.metadata
import os
import platform
import secrets
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field

from metatrain.base.errors import UserError
from metatrain.base.machine import free_memory
from metatrain.base.text import reason_of
from metatrain.data.packed.manifest import MANIFEST
from metatrain.storage.files import filesystem_of, is_s3, read_file, write_file

PACKAGES = ("ray", "torch", "deepspeed", "numpy", "pyarrow", "fsspec")

# The bytes that are written and read back to measure a storage's speed.
_PROBE_BYTES = 16_000_000

# The environment variables that S3 clients read first. Only a variable's name is ever reported.
_CREDENTIAL_VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)


@dataclass(frozen=True, kw_only=True)
class StorageReport:
    """A node's access to one URL of a storage.

    Attributes:
        url: the URL.
        error: why the node cannot use it; '' where it can.
        read_rate: bytes per second.
        write_rate: bytes per second; 0 where a run only reads.
    """

    url: str
    error: str = ""
    read_rate: float = 0.0
    write_rate: float = 0.0


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """The hardware, software and access of one node.

    Attributes:
        versions: of Python and packages; '' for a package that is not installed.
        gpu_memory: the bytes of each GPU.
        shm: the bytes of /dev/shm.
        disk: the free bytes where Ray and caches write.
        memory: the bytes that workers may use.
        credentials: the source of S3 credentials; '' where there is none.
        deepspeed_error: why DeepSpeed cannot be imported; '' where it can.
        storage: the access to each URL that a run uses.
    """

    versions: dict[str, str]
    gpu_memory: list[int]
    shm: int
    disk: int
    memory: int
    credentials: str = ""
    deepspeed_error: str = ""
    storage: list[StorageReport] = field(default_factory=list)


def read_clock() -> float:
    """Return this node's time in seconds since the epoch."""
    return time.time()


def probe_node(*, data: str | None, run: str | None, cache: str | None) -> NodeReport:
    """Report on the node that this runs on.

    Args:
        data: the URL of the data set that a run reads; None where there is no run.
        run: the URL below which a run writes; None where there is no run.
        cache: the folder that caches data; None takes the one where Ray writes.
    """
    storage = [_probe_reading(data)] if data else []
    storage += [_probe_writing(run)] if run else []
    uses_s3 = any(is_s3(url) for url in (data or "", run or ""))
    return NodeReport(
        versions=installed_versions(),
        gpu_memory=_gpu_memory(),
        shm=shutil.disk_usage("/dev/shm").total,
        disk=shutil.disk_usage(_existing_parent(cache or "/tmp")).free,
        memory=free_memory(),
        credentials=_credential_source() if uses_s3 else "",
        deepspeed_error=_deepspeed_error(),
        storage=storage,
    )


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that must be the same on all nodes."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        versions[name] = ""
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _gpu_memory() -> list[int]:
    """Ask nvidia-smi, since Ray hides the node's GPUs from torch in this worker."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        process = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
        return [int(mebibytes) * 2**20 for mebibytes in process.stdout.split()]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


def _existing_parent(folder: str) -> str:
    while not os.path.exists(folder):  # noqa: PTH110
        folder = os.path.dirname(folder) or "."  # noqa: PTH120
    return folder


def _credential_source() -> str:
    """Return where S3 clients find credentials; '' where they find none."""
    import botocore.session

    for name in _CREDENTIAL_VARIABLES:
        if os.environ.get(name):
            return name
    credentials = botocore.session.get_session().get_credentials()
    return credentials.method if credentials else ""


def _deepspeed_error() -> str:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # as in a worker that Ray gave no GPU
    try:
        import deepspeed  # noqa: F401
    except Exception as error:  # its import may fail by compilers, drivers and versions
        return f"{type(error).__name__}: {reason_of(error)}"
    return ""


def _probe_reading(url: str) -> StorageReport:
    start = time.perf_counter()
    try:
        size = len(read_file(f"{url.rstrip('/')}/{MANIFEST}"))
    except UserError as error:
        return StorageReport(url=url, error=str(error))
    return StorageReport(url=url, read_rate=size / (time.perf_counter() - start))


def _probe_writing(url: str) -> StorageReport:
    file = f"{url.rstrip('/')}/.doctor-{secrets.token_hex(8)}"
    content = os.urandom(_PROBE_BYTES)
    try:
        start = time.perf_counter()
        write_file(file, content)
        write_seconds, start = time.perf_counter() - start, time.perf_counter()
        same = read_file(file) == content
        read_seconds = time.perf_counter() - start
        fs, path = filesystem_of(file)
        fs.rm(path)
    except (UserError, OSError) as error:
        return StorageReport(url=url, error=str(error))
    return StorageReport(
        url=url,
        error="" if same else "a file that was read back differs from what was written",
        read_rate=_PROBE_BYTES / read_seconds,
        write_rate=_PROBE_BYTES / write_seconds,
    )
