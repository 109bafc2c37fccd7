"""Joining a Ray cluster, or starting one on this machine, that is large enough."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import ceil
from socket import socket

import ray
from ray.util import get_node_ip_address

from cluster.capacity import fewest_workers
from cluster.ray_internals import GCS_PORT_VARIABLE, is_startup_timeout
from metatrain.base.errors import UserError
from metatrain.config import Config


@contextmanager
def joined_cluster(cpus: int, dashboard: bool = False) -> Iterator[bool]:
    """Join the cluster at RAY_ADDRESS, or start one on this machine for as long as it takes.

    Args:
        cpus: how many a cluster of our own has.
        dashboard: whether it has one. Where runs are to end without leaving anything behind, Train
            needs it: it asks there which of its actors live.

    Yields:
        Whether the cluster is of our own.

    Raises:
        UserError: when Ray cannot be joined or started.
    """
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        else:
            _start_ray(cpus, dashboard)
    except Exception as error:  # also bare ones, as where a busy machine starts its node too late
        reason = str(error).partition("\n")[0].rstrip(".")
        if address:
            hint = "check RAY_ADDRESS, and RAY_AUTH_TOKEN if the cluster wants one"
            raise UserError(f"Ray cannot be joined at {address} ({reason}); {hint}.") from error
        raise UserError(f"Ray cannot be started on this machine: {reason}.") from error
    try:
        yield not address
    finally:
        ray.shutdown()


def _start_ray(cpus: int, dashboard: bool) -> None:
    """Start a cluster on this machine; once more, where that was too busy to start it in time.

    Ray's nodes give up when their agents have not started within 15 s, whatever else is computed.
    """
    # Nobody announces that he takes this machine away, and to listen takes Train 2.5 s.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    for last in (False, True):
        try:
            with _telling_its_address() if dashboard else nullcontext():
                ray.init(
                    # Or Ray would join whatever cluster happens to run on this machine.
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=dashboard,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            return
        except Exception as error:
            if last or not is_startup_timeout(error):
                raise


@contextmanager
def _telling_its_address() -> Iterator[None]:
    """Inside, a cluster that starts here tells its processes which one is theirs.

    Train asks by the address that it finds, and where several clusters run on a machine it would
    find none: what a killed trial held would never be given back.
    """
    with socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    address = {GCS_PORT_VARIABLE: str(port), "RAY_ADDRESS": f"{get_node_ip_address()}:{port}"}
    os.environ |= address
    try:
        yield
    finally:
        for name in address:
            del os.environ[name]


def check_resources(config: Config, *, fixed: bool) -> None:
    """A cluster of a fixed size must be large enough; one that may grow is waited for, aloud."""
    cluster, there = config.cluster, ray.cluster_resources()
    workers = fewest_workers(cluster)
    wanted = {
        "CPU": workers * cluster.cpus_per_worker,
        "GPU": workers * cluster.gpus_per_worker,
    }
    for kind, count in wanted.items():
        has, key = there.get(kind, 0), f"cluster.{kind.lower()}s_per_worker"
        short = f"{workers} workers need {count:g} {kind}s, and Ray has {has:g}"
        if count > has and fixed:
            lower = "cluster.min_workers" if cluster.min_workers else "cluster.workers"
            raise UserError(f"{short}; lower {lower} or {key}.")
        if count > has:
            print(f"{short}; waiting for the cluster to grow.", flush=True)


def cpus_wanted(config: Config) -> int:
    """At least what the run reserves: a machine of one core can take two workers, slowly."""
    return max(os.cpu_count() or 1, ceil(config.cluster.workers * config.cluster.cpus_per_worker))
