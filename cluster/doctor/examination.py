"""Examine a cluster: collect a report from every node, and measure the network between them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError

from cluster.doctor.all_reduce import measure_all_reduce
from cluster.doctor.probe import NodeReport, installed_versions, probe_node, read_clock
from cluster.placement import on_node
from metatrain.base.text import reason_of
from metatrain.config import Config
from metatrain.training.problems import problems_of

_TIMEOUT_SECONDS = 180.0


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node of a cluster.

    Attributes:
        id: Ray's id.
        address: its IP address.
        resources: by Ray's count.
        report: None where the node did not answer.
        error: why it did not answer.
        clock_skew: the seconds, at least, by which its clock differs from the driver's.
    """

    id: str
    address: str
    resources: dict[str, float]
    report: NodeReport | None = None
    error: str = ""
    clock_skew: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Examination:
    """The findings about a cluster that the checks judge.

    Attributes:
        nodes: the live nodes.
        driver_versions: of Python and packages where the driver runs.
        config: the configuration of the run; None where no run is planned.
        bandwidth: the bytes per second of an all-reduce between the nodes; 0 where not measured.
        all_reduce_error: why the nodes cannot connect; '' where they can.
        problems: why training would refuse the run's settings or data.
    """

    nodes: list[Node]
    driver_versions: dict[str, str]
    config: Config | None = None
    bandwidth: float = 0.0
    all_reduce_error: str = ""
    problems: tuple[str, ...] = ()

    @property
    def uses_gpus(self) -> bool:
        """Whether workers take GPUs: by the run, or without a run, where all nodes have some."""
        if self.config:
            return bool(self.config.cluster.gpus_per_worker)
        return all(node.resources.get("GPU") for node in self.nodes)

    @property
    def reports(self) -> list[tuple[Node, NodeReport]]:
        """The nodes that answered, with their reports."""
        return [(node, node.report) for node in self.nodes if node.report]


def examine(config: Config | None) -> Examination:
    """Examine the cluster that this process has joined.

    Args:
        config: the configuration of the run; None where no run is planned.
    """
    urls: dict[str, str | None] = {"data": None, "run": None, "cache": None}
    if config:
        data = config.data
        urls = {"data": data.url, "run": config.run.url, "cache": data.cache_dir}
    nodes = [
        Node(id=node["NodeID"], address=node["NodeManagerAddress"], resources=node["Resources"])
        for node in ray.nodes()
        if node["Alive"]
    ]
    # On all nodes at once: a probe spends its time starting a worker and importing torch.
    probes = [_on(node, probe_node).remote(**urls) for node in nodes]
    nodes = [_with_report(node, probe) for node, probe in zip(nodes, probes, strict=True)]
    problems = [str(problem) for problem in problems_of(config)] if config else []
    examination = Examination(
        nodes=nodes,
        driver_versions=installed_versions(),
        config=config,
        problems=tuple(problems),
    )
    answered = all(node.report for node in nodes)
    return _with_bandwidth(examination) if answered else examination


def _on(node: Node, function: Callable[..., object]) -> Any:
    """Make a remote function that runs on one node."""
    strategy = on_node(node.id)
    return ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy)


def _with_report(node: Node, probe: Any) -> Node:
    try:
        report: Any = ray.get(probe, timeout=_TIMEOUT_SECONDS)
        before = time.time()
        node_time: Any = ray.get(_on(node, read_clock).remote(), timeout=_TIMEOUT_SECONDS)
    except (RayError, TimeoutError) as error:
        return replace(node, error=reason_of(error))
    # The node read its clock at some moment between the two readings here.
    skew = max(0.0, before - node_time, node_time - time.time())
    return replace(node, report=report, clock_skew=skew)


def _with_bandwidth(examination: Examination) -> Examination:
    kind = "GPU" if examination.uses_gpus else "CPU"
    nodes = [node for node in examination.nodes if node.resources.get(kind)]
    if sum(node.resources[kind] for node in nodes) < 2:
        return examination  # a single worker reduces with nobody
    try:
        bandwidth = measure_all_reduce([node.id for node in nodes], gpus=examination.uses_gpus)
    except RuntimeError as error:
        return replace(examination, all_reduce_error=str(error))
    return replace(examination, bandwidth=bandwidth)
