"""How large a pod that trains must be, by the plan of what it trains."""

from dataclasses import dataclass, replace
from math import ceil, inf

from k8s.request import Request
from metatrain.base.errors import UserError
from metatrain.plan.hardware import Hardware
from metatrain.plan.plan import Plan, plan_of, remedy
from metatrain.plan.terminal_table import advice

_GIB = 1024**3

# A process with torch, and with CUDA's libraries; Ray's own processes on a node; its object store,
# which takes little more than the workers' messages, and NCCL's buffers of a GPU.
_PROCESS, _RAY, _STORE, _NCCL = 3e9, 3e9, 2 * _GIB, _GIB


@dataclass(frozen=True)
class Size:
    """Of each pod that trains.

    Attributes:
        cpus: of Ray's node.
        memory: bytes, those of shared memory among them.
        shm: bytes of shared memory.
        gpus: whole ones.
    """

    cpus: int
    memory: int
    shm: int
    gpus: int

    @property
    def resources(self) -> dict[str, str]:
        """As Kubernetes writes them; its disk is what its volumes may hold, and logs."""
        wanted = {"cpu": str(self.cpus), "memory": gibibytes(self.memory)}
        wanted["ephemeral-storage"] = "50Gi"
        return wanted | ({"nvidia.com/gpu": str(self.gpus)} if self.gpus else {})


def gibibytes(count: int) -> str:
    """Bytes as Kubernetes writes them."""
    return f"{ceil(count / _GIB)}Gi"


def size_of(request: Request) -> Size:
    """What each of the pods needs.

    Raises:
        UserError: when the run does not fit into the GPUs' memory; says what would.
    """
    trainers, config = request.gpus or 1, request.config
    plan = _plan(request)
    each = sum(plan.memory.host.values()) + _PROCESS
    each += 0 if request.gpus else plan.memory.peak
    shm = _STORE + request.gpus * _NCCL
    memory = ceil((trainers * each + _RAY + shm) / _GIB) * _GIB
    # Ray's own processes want one too, or the workers' threads would wait for it.
    cpus = ceil(trainers * config.cluster.cpus_per_worker) + 1
    return Size(cpus, memory, shm, request.gpus)


def _plan(request: Request) -> Plan:
    # CPUs' memory is what is asked for here, so that there it always fits.
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
