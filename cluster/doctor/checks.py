"""The checks, each a small function of the patient; `CHECKS` is all of them, in order."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from cluster.capacity import fewest_workers, places
from cluster.doctor.examination import Patient
from cluster.doctor.probe import Facts
from metatrain.config import Config
from metatrain.plan.hardware import Hardware
from metatrain.plan.plan import plan_of
from metatrain.plan.terminal_table import size
from metatrain.storage.files import is_s3

Verdict = Literal["pass", "warn", "fail"]

# What is little: bytes, bytes a second, seconds.
_LITTLE_SHM, _LITTLE_DISK = 2e9, 20e9
_SLOW_STORAGE, _SLOW_GLOO, _SLOW_NCCL = 20e6, 100e6, 2e9
_SKEW = 2.0


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        verdict: whether it is well; a fail is what a run would end with.
        what: was looked at.
        where: the node, or `all`.
        said: what was found.
        fix: what to do about it; '' where nothing is to be done.
    """

    verdict: Verdict
    what: str
    where: str
    said: str
    fix: str = ""


Check = Callable[[Patient], Iterator[Finding]]


def nodes(patient: Patient) -> Iterator[Finding]:
    """Every node can run what is ours."""
    for node in patient.nodes:
        if node.trouble:
            fix = "install metatrain[cluster] there as here, or look at the node's raylet.out"
            yield Finding("fail", "node", node.name, node.trouble, fix)
    heard = len(patient.heard)
    if heard == len(patient.nodes):
        yield Finding("pass", "node", "all", f"{heard} answer")


def versions(patient: Patient) -> Iterator[Finding]:
    """The driver's versions are every node's."""
    here, well = patient.driver, True
    for node, facts in patient.heard:
        for name, version in here.items():
            there = facts.versions[name]
            if there != version:
                well = False
                said = f"{name} is {there or 'missing'}, and {version or 'missing'} at the driver"
                fix = "install all nodes from the same image or constraints.txt"
                yield Finding("fail", "versions", node.name, said, fix)
    if well:
        said = ", ".join(f"{name} {version}" for name, version in here.items())
        yield Finding("pass", "versions", "all", said)


def gpus(patient: Patient) -> Iterator[Finding]:
    """Ray offers the GPUs that there are."""
    counts = Counter(len(facts.gpus) for _, facts in patient.heard)
    well = True
    for node, facts in patient.heard:
        there, offered = len(facts.gpus), int(node.resources.get("GPU", 0))
        if there != offered:
            well = False
            said = f"{there} GPUs by nvidia-smi, and Ray offers {offered}"
            verdict = "fail" if patient.gpus else "warn"
            yield Finding(verdict, "GPUs", node.name, said, "start Ray with --num-gpus, or mend it")
    if patient.gpus and not any(facts.gpus for _, facts in patient.heard):
        fix = "add GPU nodes, or set cluster.gpus_per_worker=0"
        yield Finding("fail", "GPUs", "all", "none, and every worker takes one", fix)
    elif well:
        said = ", ".join(f"{n} nodes with {count}" for count, n in sorted(counts.items()))
        yield Finding("pass", "GPUs", "all", said)


def room(patient: Patient) -> Iterator[Finding]:
    """The run's workers fit on the nodes."""
    if patient.config is None:
        return
    cluster = patient.config.cluster
    there = sum(places(node.resources, cluster) for node in patient.nodes)
    wanted = fewest_workers(cluster)
    said = f"room for {there} workers, and {wanted} are wanted"
    if there >= wanted:
        yield Finding("pass", "room", "all", said)
    else:
        yield Finding("fail", "room", "all", said, "add nodes, or lower cluster.workers")


def bandwidth(patient: Patient) -> Iterator[Finding]:
    """Workers of different nodes come together, fast enough."""
    backend = "NCCL" if patient.gpus else "gloo"
    what, slow = f"{backend} all-reduce", _SLOW_NCCL if patient.gpus else _SLOW_GLOO
    if patient.apart:
        fix = (
            f"open all ports between the nodes, and set {backend}_SOCKET_IFNAME to their interface"
        )
        yield Finding("fail", what, "all", patient.apart, fix)
    elif patient.bandwidth:
        between = len(patient.nodes) > 1
        said = f"{size(patient.bandwidth)}/s " + ("between nodes" if between else "on one node")
        if patient.bandwidth < slow and between:
            fix = "use a faster network, or fewer nodes and a larger meta.batch"
            yield Finding("warn", what, "all", said, fix)
        else:
            yield Finding("pass", what, "all", said)


def shm(patient: Patient) -> Iterator[Finding]:
    """/dev/shm holds Ray's objects and what NCCL and gloo hand on."""
    fix = "give more: docker run --shm-size, or an emptyDir of medium Memory at /dev/shm"
    yield from _each(patient, "/dev/shm", lambda facts: facts.shm, _LITTLE_SHM, fix)


def disk(patient: Patient) -> Iterator[Finding]:
    """There is room for what Ray and the cache keep."""
    fix = "make room, lower data.cache_bytes, or start Ray with --temp-dir on a larger disk"
    yield from _each(patient, "free disk", lambda facts: facts.disk, _LITTLE_DISK, fix)


def _each(
    patient: Patient, what: str, of: Callable[[Facts], int], little: float, fix: str
) -> Iterator[Finding]:
    for node, facts in patient.heard:
        if of(facts) < little:
            yield Finding("warn", what, node.name, size(of(facts)), fix)
    if enough := [of(facts) for _, facts in patient.heard if of(facts) >= little]:
        yield Finding("pass", what, "all" if len(enough) > 1 else "", f"{size(min(enough))}")


def clocks(patient: Patient) -> Iterator[Finding]:
    """S3 refuses requests of clocks that are minutes off; logs become hard to read before."""
    worst = max((node.skew for node, _ in patient.heard), default=0.0)
    for node, _ in patient.heard:
        if node.skew > _SKEW:
            verdict = "fail" if node.skew > 300 else "warn"
            yield Finding(verdict, "clock", node.name, f"{node.skew:.0f} s off", "run NTP there")
    if worst <= _SKEW:
        yield Finding("pass", "clock", "all", f"at most {worst:.1f} s off")


def deepspeed(patient: Patient) -> Iterator[Finding]:
    """DeepSpeed can be imported; of its compiled ops we use none, optimisers being torch's."""
    well = True
    for node, facts in patient.heard:
        if facts.deepspeed:
            well = False
            fix = "install deepspeed as constraints.txt has it, on an image with its CUDA"
            yield Finding("fail", "DeepSpeed", node.name, facts.deepspeed, fix)
    if well and patient.heard:
        yield Finding("pass", "DeepSpeed", "all", "can be imported; no op has to be compiled")


def credentials(patient: Patient) -> Iterator[Finding]:
    """Where a run reads or writes S3, every node finds some; what they are nobody prints."""
    config = patient.config
    if config is None or not any(is_s3(url) for url in (config.data.url or "", config.run.url)):
        return
    for node, facts in patient.heard:
        if facts.credentials:
            yield Finding("pass", "credentials", node.name, f"by {facts.credentials}")
        else:
            fix = "give the nodes a role, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            yield Finding("fail", "credentials", node.name, "none for S3", fix)


def storage(patient: Patient) -> Iterator[Finding]:
    """Every node reads the data set, and writes below the run."""
    for node, facts in patient.heard:
        for place in facts.storage:
            if place.trouble:
                fix = "use a path that all nodes share, or an fsspec URL and its credentials"
                yield Finding("fail", "storage", node.name, place.trouble, fix)
                continue
            said = f"{place.url}: reads {size(place.reads)}/s"
            said += f", writes {size(place.writes)}/s" if place.writes else ""
            # Of a data set, no more is read than a manifest, which tells nothing of speed.
            slow = place.writes and min(place.reads, place.writes) < _SLOW_STORAGE
            fix = "use a storage that is nearer, or a longer checkpoint.every" if slow else ""
            yield Finding("warn" if slow else "pass", "storage", node.name, said, fix)


def memory(patient: Patient) -> Iterator[Finding]:
    """The run's plan fits into the memory that the nodes have; see `metatrain plan`."""
    if patient.config is None or not patient.heard:
        return
    plan = plan_of(patient.config, _hardware(patient, patient.config))
    said = f"{size(plan.memory.peak)} of {size(plan.hardware.memory)} a worker"
    if plan.fits:
        yield Finding("pass", "memory plan", "all", said)
    else:
        yield Finding("fail", "memory plan", "all", said, "see metatrain plan for what needs less")


def _hardware(patient: Patient, config: Config) -> Hardware:
    """The smallest of the nodes that take workers."""
    homes = [(n, f) for n, f in patient.heard if places(n.resources, config.cluster)]
    homes = homes or patient.heard
    most = max(places(node.resources, config.cluster) for node, _ in homes)
    per_node = max(1, min(most, config.cluster.workers))
    usual = replace(Hardware.h100(bf16=config.inner.precision == "bf16"), per_node=per_node)
    if patient.gpus:
        return replace(usual, memory=min((min(f.gpus) for _, f in homes if f.gpus), default=0))
    return replace(usual, memory=min(facts.memory for _, facts in homes) / per_node)


CHECKS: tuple[Check, ...] = (
    *(nodes, versions, gpus, room, bandwidth, shm, disk, clocks, deepspeed),
    *(credentials, storage, memory),
)
