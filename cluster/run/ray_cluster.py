"""Join a Ray cluster, or start one on this machine, and check that a run fits on it."""

import logging
import os
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import ceil
from pathlib import Path
from secrets import token_hex
from socket import socket
from tempfile import gettempdir, mkdtemp

import ray
from ray.util import get_node_ip_address

from cluster.addresses import address_to_join
from cluster.capacity import minimum_workers
from cluster.ray_internals import (
    GCS_PORT_VARIABLE,
    NO_SIGNAL_HANDLER_VARIABLE,
    is_startup_timeout,
)
from cluster.run.reaper import reaper
from metatrain.base.errors import UserError
from metatrain.base.progress import log_line
from metatrain.base.text import counted, reason_of
from metatrain.config import Config

# One for all clusters of this process, since Ray reads it once.
_TOKEN = token_hex(32)

# Open files that a node with its workers and agents needs on a small machine.
_FILES = 1024


@contextmanager
def ray_connection(*, cpus: int, dashboard: bool = False) -> Iterator[bool]:
    """Join the cluster at RAY_ADDRESS, or start one on this machine that ends with the context.

    Args:
        cpus: the number of CPUs of a started cluster.
        dashboard: whether a started cluster has a dashboard. Train needs one to release what a
            killed run holds: it asks the dashboard which of its actors live.

    Yields:
        Whether the cluster was started, and so ends with the context.

    Raises:
        UserError: when Ray cannot be joined or started.
    """
    address = address_to_join()
    with ExitStack() as started:
        folder = None
        if not address:
            folder = started.enter_context(_private_folder())
            started.enter_context(reaper())
        _connect(address, cpus=cpus, dashboard=dashboard, folder=folder)
        try:
            yield not address
        finally:
            ray.shutdown()


@contextmanager
def _private_folder() -> Iterator[str | None]:
    """Create a folder for the sockets and logs of a cluster, for this user alone.

    Ray's own is one for all users of the machine. This one is removed unless an error leaves the
    context, of which the logs may tell more; where RAY_TMPDIR names another one, none is created.
    """
    if os.environ.get("RAY_TMPDIR"):
        yield None
        return
    # As short as possible, since the names of sockets are limited to about 100 characters.
    folder = mkdtemp(prefix="ray-", dir="/tmp" if sys.platform == "darwin" else None)
    failed = False
    try:
        # Ray opens the folder that it is given to everybody, so it gets one inside.
        yield f"{folder}/r"
    except Exception:
        failed = True
        raise
    finally:
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # of a cluster that never started
            Path(folder).rmdir()


def _connect(address: str | None, *, cpus: int, dashboard: bool, folder: str | None) -> None:
    try:
        with _callers_signals():
            if address:
                ray.init(log_to_driver=False, logging_level=logging.ERROR)
            else:
                _start_cluster(cpus=cpus, dashboard=dashboard, folder=folder)
    except Exception as error:  # Ray raises a bare Exception when a busy machine starts too late
        # The error of a dashboard that does not start begins with an empty line.
        reason = reason_of(error)
        if address:
            hint = "check RAY_ADDRESS, and RAY_AUTH_TOKEN if the cluster requires one"
            raise UserError(f"Ray cannot be joined at {address} ({reason}); {hint}.") from error
        raise UserError(
            f"Ray cannot be started on this machine: {_with_mend(reason)}{_few_files()}."
        ) from error


@contextmanager
def _callers_signals() -> Iterator[None]:
    """Keep the caller's handler of SIGTERM, which `ray.init` replaces by ones that print a stack.

    A SIGTERM meanwhile reaches the caller's handler as well.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    os.environ.setdefault(NO_SIGNAL_HANDLER_VARIABLE, "1")
    try:
        yield
    except SystemExit:  # raised by Ray's own handler
        if callable(handler):
            handler(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)


def _few_files() -> str:
    """Return the limit of open files where Ray may have met it, as the end of a sentence."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit >= _FILES:
        return ""
    return f" (it may open {limit} files, and needs about {_FILES:,}: ulimit -n {_FILES})"


def _with_mend(reason: str) -> str:
    """Add to a reason what to do about it, where it is known."""
    if "AF_UNIX" not in reason:
        return reason
    folder = os.environ.get("RAY_TMPDIR") or gettempdir()
    return (
        f"the names of its sockets in {folder} are too long for the system; set TMPDIR to a "
        f"shorter folder, such as /tmp"
    )


def _start_cluster(*, cpus: int, dashboard: bool, folder: str | None) -> None:
    """Start a cluster on this machine, with a second try on a machine too busy for the first.

    A Ray node gives up when its agents have not started within 15 s.
    """
    # A local machine sends no preemption notice; skipping Train's watcher saves 2.5 s at start.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    for last_try in (False, True):
        try:
            with _cluster_in_environment():
                ray.init(
                    # Otherwise Ray joins any cluster that it finds on this machine.
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=dashboard,
                    _temp_dir=folder,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            return
        except Exception as error:
            if last_try or not is_startup_timeout(error):
                raise


@contextmanager
def _cluster_in_environment() -> Iterator[None]:
    """Tell the processes of a cluster that starts inside its address and its token.

    Without a token Ray would make one, in a file that other users of the machine may read.

    Train looks a cluster up by the address that it finds. Where several clusters run on a machine
    it would find none, and never release what a killed trial holds; or another one, in which the
    run's controller does not live, and end the run's workers.
    """
    with socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    variables = {GCS_PORT_VARIABLE: str(port), "RAY_ADDRESS": f"{get_node_ip_address()}:{port}"}
    if not any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        variables["RAY_AUTH_TOKEN"] = _TOKEN
    os.environ |= variables
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def check_resources(config: Config, *, fixed: bool) -> None:
    """Check that a run fits on the cluster; print a line where it waits for the cluster to grow.

    Args:
        config: the run's configuration.
        fixed: whether the cluster cannot grow.

    Raises:
        UserError: when a cluster of fixed size is too small.
    """
    cluster, resources = config.cluster, ray.cluster_resources()
    workers = minimum_workers(cluster)
    required = {
        "CPU": workers * cluster.cpus_per_worker,
        "GPU": workers * cluster.gpus_per_worker,
    }
    for kind, count in required.items():
        available = resources.get(kind, 0)
        if count <= available:
            continue
        needs = f"{counted(workers, 'worker')} need{'s' if workers == 1 else ''}"
        shortage = f"{needs} {counted(count, kind)}, and Ray has {available:g}"
        if fixed:
            key = "cluster.min_workers" if cluster.min_workers else "cluster.workers"
            raise UserError(f"{shortage}; lower {key} or cluster.{kind.lower()}s_per_worker.")
        print(log_line(f"{shortage}; waiting for the cluster to grow."), flush=True)


def required_cpus(config: Config) -> int:
    """Return the CPUs to start a cluster with: the machine's, and at least what the run reserves.

    So a machine of one core can train with two workers, slowly.
    """
    return max(os.cpu_count() or 1, ceil(config.cluster.workers * config.cluster.cpus_per_worker))
