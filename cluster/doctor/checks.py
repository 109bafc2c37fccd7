"""The checks, each a small function of an examination; `CHECKS` has all of them, in order."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from cluster.capacity import minimum_workers, workers_that_fit
from cluster.doctor.examination import Examination
from cluster.doctor.probe import NodeReport, StorageReport
from metatrain.base.text import counted, printable
from metatrain.config import Config
from metatrain.plan.hardware import Hardware
from metatrain.plan.plan import plan_of
from metatrain.plan.terminal_table import size
from metatrain.storage.files import is_s3

Status = Literal["pass", "warn", "fail"]

# Limits below which a check warns, in bytes and in bytes per second.
_MIN_SHM, _MIN_DISK = 2e9, 20e9
_MIN_STORAGE_RATE, _MIN_GLOO_RATE, _MIN_NCCL_RATE = 20e6, 100e6, 2e9
# Limits of the clock skew above which a check warns or fails, in seconds.
_WARN_SKEW, _FAIL_SKEW = 2.0, 300.0

_ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the table.

    Attributes:
        status: fail marks a problem that would fail a run.
        check: the subject of the check.
        node: the node's address, or `all`.
        detail: the observation.
        fix: the remedy; '' where none is needed.
    """

    status: Status
    check: str
    node: str
    detail: str
    fix: str = ""


Check = Callable[[Examination], Iterator[Finding]]


def check_nodes(examination: Examination) -> Iterator[Finding]:
    """Check that this package runs on every node."""
    for node in examination.nodes:
        if node.error:
            yield Finding(
                status="fail",
                check="node",
                node=node.address,
                detail=node.error,
                fix="install metatrain[cluster] there as here, or read raylet.out of the node",
            )
    answers = len(examination.reports)
    if answers == len(examination.nodes):
        yield Finding(status="pass", check="node", node=_ALL, detail=f"{answers} answer")


def check_versions(examination: Examination) -> Iterator[Finding]:
    """Check that every node has the driver's versions."""
    expected, same = examination.driver_versions, True
    for node, report in examination.reports:
        for name, version in expected.items():
            actual = report.versions[name]
            if actual != version:
                same = False
                yield Finding(
                    status="fail",
                    check="versions",
                    node=node.address,
                    detail=f"{name} is {actual or 'missing'}, and {version or 'missing'} at the "
                    f"driver",
                    fix="install all nodes from the same image or constraints.txt",
                )
    if same:
        detail = ", ".join(f"{name} {version}" for name, version in expected.items())
        yield Finding(status="pass", check="versions", node=_ALL, detail=detail)


def check_gpus(examination: Examination) -> Iterator[Finding]:
    """Check that Ray offers the GPUs that the nodes have."""
    counts = Counter(len(report.gpu_memory) for _, report in examination.reports)
    same = True
    for node, report in examination.reports:
        present, offered = len(report.gpu_memory), int(node.resources.get("GPU", 0))
        if present != offered:
            same = False
            yield Finding(
                status="fail" if examination.uses_gpus else "warn",
                check="GPUs",
                node=node.address,
                detail=f"{counted(present, 'GPU')} by nvidia-smi, and Ray offers {offered}",
                fix="start Ray with --num-gpus, or repair the driver",
            )
    if examination.uses_gpus and not any(counts):
        fix = "add GPU nodes, or set cluster.gpus_per_worker=0"
        detail = "none, and every worker needs one"
        yield Finding(status="fail", check="GPUs", node=_ALL, detail=detail, fix=fix)
    elif same:
        detail = ", ".join(
            f"{counted(nodes, 'node')} with {count}" for count, nodes in sorted(counts.items())
        )
        yield Finding(status="pass", check="GPUs", node=_ALL, detail=detail)


def check_capacity(examination: Examination) -> Iterator[Finding]:
    """Check that the run's workers fit on the nodes."""
    if examination.config is None:
        return
    cluster = examination.config.cluster
    fitting = sum(workers_that_fit(node.resources, cluster) for node in examination.nodes)
    required = minimum_workers(cluster)
    detail = f"the run needs {counted(required, 'worker')}, and {fitting} fit"
    if fitting >= required:
        yield Finding(status="pass", check="capacity", node=_ALL, detail=detail)
    else:
        fix = "add nodes, or lower cluster.workers"
        yield Finding(status="fail", check="capacity", node=_ALL, detail=detail, fix=fix)


def check_bandwidth(examination: Examination) -> Iterator[Finding]:
    """Check that workers on different nodes connect, at sufficient speed."""
    backend = "NCCL" if examination.uses_gpus else "gloo"
    check, rate = f"{backend} all-reduce", examination.bandwidth
    if examination.all_reduce_error:
        yield Finding(
            status="fail",
            check=check,
            node=_ALL,
            detail=examination.all_reduce_error,
            fix=f"open all ports between the nodes, and set {backend}_SOCKET_IFNAME to their "
            f"interface",
        )
    elif rate:
        several = len(examination.nodes) > 1
        detail = f"{size(rate)}/s {'between nodes' if several else 'on one node'}"
        if several and rate < (_MIN_NCCL_RATE if examination.uses_gpus else _MIN_GLOO_RATE):
            fix = "use a faster network, or fewer nodes and a larger meta.batch"
            yield Finding(status="warn", check=check, node=_ALL, detail=detail, fix=fix)
        else:
            yield Finding(status="pass", check=check, node=_ALL, detail=detail)


def check_shm(examination: Examination) -> Iterator[Finding]:
    """Check the size of /dev/shm, which holds Ray's objects and buffers of NCCL and gloo."""
    yield from _at_least(
        _MIN_SHM,
        lambda report: report.shm,
        examination,
        check="/dev/shm",
        fix="enlarge it with docker run --shm-size, or an emptyDir of medium Memory at /dev/shm",
    )


def check_disk(examination: Examination) -> Iterator[Finding]:
    """Check the free disk space, which Ray and the data cache fill."""
    yield from _at_least(
        _MIN_DISK,
        lambda report: report.disk,
        examination,
        check="free disk",
        fix="free space, lower data.cache_bytes, or start Ray with --temp-dir on a larger disk",
    )


def _at_least(
    minimum: float,
    bytes_of: Callable[[NodeReport], int],
    examination: Examination,
    *,
    check: str,
    fix: str,
) -> Iterator[Finding]:
    for node, report in examination.reports:
        if bytes_of(report) < minimum:
            detail = size(bytes_of(report))
            yield Finding(status="warn", check=check, node=node.address, detail=detail, fix=fix)
    sizes = [bytes_of(report) for _, report in examination.reports]
    if enough := [count for count in sizes if count >= minimum]:
        node = _ALL if len(enough) > 1 else ""
        yield Finding(status="pass", check=check, node=node, detail=size(min(enough)))


def check_clocks(examination: Examination) -> Iterator[Finding]:
    """Check that clocks agree: S3 refuses requests whose time is minutes off."""
    worst = max((node.clock_skew for node, _ in examination.reports), default=0.0)
    for node, _ in examination.reports:
        if node.clock_skew > _WARN_SKEW:
            yield Finding(
                status="fail" if node.clock_skew > _FAIL_SKEW else "warn",
                check="clock",
                node=node.address,
                detail=f"{node.clock_skew:.0f} s off",
                fix="run NTP there",
            )
    if worst <= _WARN_SKEW:
        detail = f"at most {worst:.1f} s off"
        yield Finding(status="pass", check="clock", node=_ALL, detail=detail)


def check_deepspeed(examination: Examination) -> Iterator[Finding]:
    """Check that DeepSpeed can be imported; a run needs none of its compiled operators."""
    errors = [(node, report.deepspeed_error) for node, report in examination.reports]
    for node, error in errors:
        if error:
            fix = "install the deepspeed of constraints.txt, on an image with its CUDA"
            yield Finding(
                status="fail", check="DeepSpeed", node=node.address, detail=error, fix=fix
            )
    if errors and not any(error for _, error in errors):
        detail = "can be imported; nothing has to be compiled"
        yield Finding(status="pass", check="DeepSpeed", node=_ALL, detail=detail)


def check_credentials(examination: Examination) -> Iterator[Finding]:
    """Check that every node finds S3 credentials where a run uses S3; none is ever printed."""
    config = examination.config
    if config is None or not any(is_s3(url) for url in (config.data.url or "", config.run.url)):
        return
    for node, report in examination.reports:
        if report.credentials:
            detail = f"from {report.credentials}"
            yield Finding(status="pass", check="credentials", node=node.address, detail=detail)
        else:
            yield Finding(
                status="fail",
                check="credentials",
                node=node.address,
                detail="none for S3",
                fix="give the nodes a role, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )


def check_storage(examination: Examination) -> Iterator[Finding]:
    """Check that every node reads the data set, and writes to the run's folder."""
    for node, report in examination.reports:
        for storage in report.storage:
            yield _storage_finding(node.address, storage)


def _storage_finding(node: str, storage: StorageReport) -> Finding:
    if storage.error:
        fix = "use a path that all nodes share, or an fsspec URL and its credentials"
        return Finding(status="fail", check="storage", node=node, detail=storage.error, fix=fix)
    detail = f"{storage.url}: reads {size(storage.read_rate)}/s"
    detail += f", writes {size(storage.write_rate)}/s" if storage.write_rate else ""
    # Of a data set only the manifest is read, which is too small to measure speed.
    rate = min(storage.read_rate, storage.write_rate)
    if storage.write_rate and rate < _MIN_STORAGE_RATE:
        fix = "use a nearer storage, or a larger checkpoint.every"
        return Finding(status="warn", check="storage", node=node, detail=detail, fix=fix)
    return Finding(status="pass", check="storage", node=node, detail=detail)


def check_memory(examination: Examination) -> Iterator[Finding]:
    """Check that the run's plan fits into the nodes' memory; see `metatrain plan`."""
    if examination.config is None or not examination.reports:
        return
    plan = plan_of(examination.config, _hardware(examination, examination.config))
    detail = f"{size(plan.memory.peak)} of {size(plan.hardware.memory)} per worker"
    if plan.fits:
        yield Finding(status="pass", check="memory plan", node=_ALL, detail=detail)
    else:
        fix = "run metatrain plan, which names smaller settings"
        yield Finding(status="fail", check="memory plan", node=_ALL, detail=detail, fix=fix)


def _hardware(examination: Examination, config: Config) -> Hardware:
    """Describe the smallest of the nodes on which workers fit."""
    capacity = [workers_that_fit(n.resources, config.cluster) for n, _ in examination.reports]
    reports = [r for (_, r), fit in zip(examination.reports, capacity, strict=True) if fit]
    reports = reports or [report for _, report in examination.reports]
    per_node = max(1, min(max(capacity), config.cluster.workers))
    h100 = replace(Hardware.h100(bf16=config.inner.precision == "bf16"), per_node=per_node)
    if examination.uses_gpus:
        memory = min((min(r.gpu_memory) for r in reports if r.gpu_memory), default=0)
        return replace(h100, memory=memory)
    return replace(h100, memory=min(report.memory for report in reports) / per_node)


def check_run(examination: Examination) -> Iterator[Finding]:
    """Check that training would accept the run's settings and data."""
    if examination.config is None:
        return
    for problem in examination.problems:
        yield Finding(status="fail", check="run", node=_ALL, detail=printable(problem))
    if not examination.problems:
        detail = "its settings and its data can be trained with"
        yield Finding(status="pass", check="run", node=_ALL, detail=detail)


CHECKS: tuple[Check, ...] = (
    *(check_nodes, check_versions, check_gpus, check_capacity, check_bandwidth, check_shm),
    *(check_disk, check_clocks, check_deepspeed, check_credentials, check_storage, check_memory),
    check_run,
)
