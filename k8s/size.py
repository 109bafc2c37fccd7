"""The size of a worker pod, by the plan of its run."""

from dataclasses import dataclass, replace
from math import ceil, inf

from k8s.request import Request
from metatrain.base.errors import UserError
from metatrain.plan.hardware import Hardware
from metatrain.plan.plan import Plan, plan_of, remedy
from metatrain.plan.terminal_table import advice

_GIB = 1024**3

# Bytes of a process with torch and CUDA's libraries, and of Ray's own processes on a node.
_PROCESS_BYTES, _RAY_BYTES = 3e9, 3e9
# Bytes of Ray's object store, which holds little more than the workers' messages, and of NCCL's
# buffers for a GPU.
_OBJECT_STORE_BYTES, _NCCL_BYTES = 2 * _GIB, _GIB


@dataclass(frozen=True, kw_only=True)
class Size:
    """The resources of one worker pod.

    Attributes:
        cpus: CPUs, including one for Ray itself.
        memory: bytes, including shared memory.
        shm: bytes of shared memory.
        gpus: whole GPUs.
    """

    cpus: int
    memory: int
    shm: int
    gpus: int

    @property
    def resources(self) -> dict[str, str]:
        """The resources as Kubernetes writes them; the disk holds the pod's volumes and logs."""
        resources = {"cpu": str(self.cpus), "memory": gibibytes(self.memory)}
        resources["ephemeral-storage"] = "50Gi"
        return resources | ({"nvidia.com/gpu": str(self.gpus)} if self.gpus else {})


def gibibytes(count: int) -> str:
    """Write a number of bytes as Kubernetes does, rounded up to GiB."""
    return f"{ceil(count / _GIB)}Gi"


def size_of(request: Request) -> Size:
    """Compute the size of each worker pod.

    Raises:
        UserError: when the run does not fit into the GPUs' memory; names what would fit.
    """
    workers, config = request.gpus or 1, request.config
    plan = _plan(request)
    per_worker = sum(plan.memory.host.values()) + _PROCESS_BYTES
    per_worker += 0 if request.gpus else plan.memory.peak
    shm = _OBJECT_STORE_BYTES + request.gpus * _NCCL_BYTES
    memory = ceil((workers * per_worker + _RAY_BYTES + shm) / _GIB) * _GIB
    # One more CPU for Ray's own processes, or the workers' threads would wait for them.
    cpus = ceil(workers * config.cluster.cpus_per_worker) + 1
    return Size(cpus=cpus, memory=memory, shm=shm, gpus=request.gpus)


def _plan(request: Request) -> Plan:
    # Without a limit where workers run on CPUs, since the plan determines the pod's memory.
    hardware = Hardware(inf, per_node=1, link=1e9, network=1e9)
    if request.gpus:
        bf16 = request.config.inner.precision == "bf16"
        hardware = replace(Hardware.h100(bf16=bf16), per_node=request.gpus)
    if request.gpu_memory:
        hardware = replace(hardware, memory=request.gpu_memory)
    plan = plan_of(request.config, hardware)
    if not plan.fits:
        raise UserError(advice(*remedy(plan, request.load)))
    return plan
