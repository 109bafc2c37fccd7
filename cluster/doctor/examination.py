"""Who is examined: a cluster, with what its nodes say, and the run that it is to take."""

import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.doctor.all_reduce import all_reduce
from cluster.doctor.probe import Facts, clock, probe, versions
from metatrain.config import Config

_PATIENCE = 180.0


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        name: its address.
        resources: what it has, by Ray's count.
        facts: what it says; None where it says nothing.
        trouble: why.
        skew: seconds that its clock is off the driver's at the least.
    """

    id: str
    name: str
    resources: dict[str, float]
    facts: Facts | None = None
    trouble: str = ""
    skew: float = 0.0


@dataclass(frozen=True)
class Patient:
    """A cluster, and what it is to do.

    Attributes:
        nodes: those that live.
        driver: versions of Python and packages where the driver runs.
        config: of the run; None where none is planned.
        bandwidth: bytes a second of an all-reduce between the nodes.
        apart: why they do not come together; '' where they do.
    """

    nodes: list[Node]
    driver: dict[str, str]
    config: Config | None = None
    bandwidth: float = 0.0
    apart: str = ""

    @property
    def gpus(self) -> bool:
        """Whether workers take GPUs: as the run says, or where no run is planned, all nodes."""
        if self.config:
            return bool(self.config.cluster.gpus_per_worker)
        return all(node.resources.get("GPU") for node in self.nodes)

    @property
    def heard(self) -> list[tuple[Node, Facts]]:
        """Nodes that say something."""
        return [(node, node.facts) for node in self.nodes if node.facts]


def examine(config: Config | None) -> Patient:
    """The cluster that this process has joined."""
    places = (None, None, None)
    if config:
        places = (config.data.url, config.run.url, config.data.cache_dir)
    found = [
        Node(n["NodeID"], n["NodeManagerAddress"], n["Resources"])
        for n in ray.nodes()
        if n["Alive"]
    ]
    # All at once: what takes long is to start a worker and to import torch.
    asked = [_on(node, probe).remote(*places) for node in found]
    nodes = [_heard(node, reference) for node, reference in zip(found, asked, strict=True)]
    patient = Patient(nodes, versions(), config)
    return _wired(patient) if all(node.facts for node in nodes) else patient


def _on(node: Node, function: Any) -> Any:
    here = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=here)


def _heard(node: Node, reference: Any) -> Node:
    try:
        facts: Any = ray.get(reference, timeout=_PATIENCE)
        asked = time.time()
        there: Any = ray.get(_on(node, clock).remote(), timeout=_PATIENCE)
    except (RayError, TimeoutError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Node(node.id, node.name, node.resources, trouble=lines[-1])
    # It was read at some moment in between.
    skew = max(0.0, asked - there, there - time.time())
    return Node(node.id, node.name, node.resources, facts, skew=skew)


def _wired(patient: Patient) -> Patient:
    kind = "GPU" if patient.gpus else "CPU"
    training = [node for node in patient.nodes if node.resources.get(kind)]
    if sum(node.resources[kind] for node in training) < 2:
        return patient  # nobody would have anybody to add up with
    try:
        bandwidth, apart = all_reduce([n.id for n in training], gpus=patient.gpus), ""
    except RuntimeError as error:
        bandwidth, apart = 0.0, str(error)
    return Patient(patient.nodes, patient.driver, patient.config, bandwidth, apart)
