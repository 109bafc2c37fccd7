"""The DeepSpeed engine: applies outer gradients to meta-parameters that ZeRO shards.

Set DS_ACCELERATOR before the import: DeepSpeed chooses its device then.
"""

import logging
from collections.abc import Iterable, Iterator
from datetime import timedelta
from math import prod
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from cluster.engine.deepspeed_import import deepspeed
from cluster.engine.gather import gather_values
from cluster.engine.mesh import TaskMesh
from metatrain.base.parameters import Parameters
from metatrain.config import Config
from metatrain.data.slots import in_order_of_slots
from metatrain.learning.inner.theta import Theta
from metatrain.plan.deepspeed import bucket_size, keeps_bf16
from metatrain.training.engine import Engine
from metatrain.training.exchange import Item
from metatrain.training.initial_weights import initial_weights
from metatrain.training.outer_optimizer import COUNT, MOMENTS, outer_optimizer
from metatrain.training.partition import Partition, Slice, StateParts
from metatrain.training.state import TrainState, first_state

# It would be compiled for a minute, for collectives that gloo does as well.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
deepspeed.utils.logger.setLevel(logging.WARNING)

# Numbers of whole tensors that are gathered at once.
_GATHERED_AT_ONCE = 16_000_000


class ZeroEngine(Engine):
    """Meta-parameters under DeepSpeed's ZeRO, stage 0, 1 or 2.

    Every worker has all of theta and takes different episodes. The process group must exist. All
    workers must call the constructor and the collective methods in the same order.

    Args:
        theta: owned by the engine from now on, with the weights that a run begins with.
        config: stage, optimiser and clipping.
    """

    def __init__(self, theta: Theta, config: Config) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        timeout = timedelta(seconds=2 * config.cluster.timeout)
        self.mesh = TaskMesh.make(config.cluster.shards_per_group, timeout)
        self._shapes = {name: tuple(p.shape) for name, p in theta.named().items()}
        self._kind, self._stage = config.meta.optimizer, config.cluster.zero_stage
        self._config = config
        settings = _deepspeed_config(config, sum(prod(shape) for shape in self._shapes.values()))
        self._prepare(theta, settings)
        self._named = theta.named()
        # From stage 1 on, DeepSpeed wraps it and gives it shards for parameters.
        self._optimizer = outer_optimizer(config.meta, list(self._named.values()))
        self._engine, *_ = deepspeed.initialize(
            model=theta,
            optimizer=self._optimizer,
            dist_init_required=False,
            mpu=self.mesh,
            config=settings,
        )
        self._partition = self._own_partition()
        # By member of the group; slices of a tensor lie in the order of members.
        self._members = self.mesh.gather_from_members(self._partition.slices)

    def _prepare(self, theta: Theta, settings: dict[str, object]) -> None:
        """Prepare theta for DeepSpeed."""

    def _own_partition(self) -> Partition:
        if self._stage == 0:
            return Partition.whole(self._shapes, copy=self.rank, copies=self.world)
        slices = {name: self._own_slice(name) for name in self._named}
        mesh = self.mesh
        return Partition(shapes=self._shapes, slices=slices, copy=mesh.group, copies=mesh.groups)

    def _own_slice(self, name: str) -> Slice:
        """Return the slice of a parameter whose master and moments DeepSpeed keeps here."""
        fragment = _fragment(self._named[name])
        if fragment is None:
            return (0, 0)
        address = fragment.lp_fragment_address
        return (address.start, address.start + address.numel)

    @property
    @override
    def device(self) -> torch.device:
        return next(iter(self._named.values())).device

    @property
    @override
    def partitions(self) -> StateParts:
        whole = Partition.whole(self._shapes, copy=self.rank, copies=self.world)
        return StateParts(theta=self._partition, memory=whole)

    def begin(self) -> TrainState:
        """Set theta to what a new run begins with, and return its local state. Collective.

        Raises:
            UserError: when the model that the run starts from cannot be read.
        """
        # Below stage 3, the parameters have the random weights of the seed already.
        if self._stage == 3 or self._config.run.init is not None:
            self._load_theta(initial_weights(self._config, self._partition))
        return first_state(self.local())

    def load(self, state: TrainState) -> None:
        """Set theta and the optimiser's state to those of a local state. Collective."""
        if state.optimizer:
            self._load_optimizer(state.optimizer)
        self._load_theta(state.parameters)

    @torch.no_grad()
    def _load_theta(self, theta: Parameters) -> None:
        for tensors in self._gathered_in_turn(theta):
            for name, value in tensors.items():
                self._named[name].copy_(value)
        optimizer: Any = self._engine.optimizer
        if self._stage:
            optimizer.refresh_fp32_params()

    def _load_optimizer(self, state: Parameters) -> None:
        # DeepSpeed makes its state at the first step; one of rate 0 changes nothing else.
        self._set_rate(0.0)
        self._hand_over_zeros()
        self._engine.step()
        for name in self._named:
            for moment in MOMENTS[self._kind]:
                self._set_moment(name, moment, state[f"{name}/{moment}"].reshape(-1))
        for entry in self._optimizer.state.values():
            entry[COUNT].copy_(state[COUNT])

    @override
    def parameters(self) -> Parameters:
        return {name: parameter.detach() for name, parameter in self._named.items()}

    @override
    def local(self) -> Parameters:
        return self._partition.local(self.parameters())

    @override
    def full(self, local: Parameters, wanted: bool = True) -> Parameters:
        if self._stage == 0:
            return local
        whole: Parameters = {}
        for tensors in self._gathered_in_turn(local):
            if wanted:
                whole |= {name: value.cpu() for name, value in tensors.items()}
        return whole

    def _gathered_in_turn(self, local: Parameters) -> Iterator[Parameters]:
        """Gather the tensors of a local tree, a few at a time. Collective in the group."""
        if self._stage == 0:
            yield local
            return
        for names in self._batches(local):
            yield self._gathered({name: local[name] for name in names})

    def _batches(self, names: Iterable[str]) -> Iterator[list[str]]:
        """Group names into batches that are small enough to be whole at once, or have one name."""
        batch, room = [], _GATHERED_AT_ONCE
        for name in names:
            room -= prod(self._shapes[name])
            if batch and room < 0:
                yield batch
                batch, room = [], _GATHERED_AT_ONCE - prod(self._shapes[name])
            batch.append(name)
        yield batch

    def _gathered(self, local: Parameters) -> Parameters:
        """Gather the tensors of a local tree, by one collective in the group."""
        lengths = [[_length(slices[name]) for name in local] for slices in self._members]
        fragment = torch.cat([value.reshape(-1) for value in local.values()])
        longest = max(sum(each) for each in lengths)
        rows = self.mesh.gather_shards(F.pad(fragment, (0, longest - len(fragment))))
        parts = [row[: sum(each)].split(each) for row, each in zip(rows, lengths, strict=True)]
        return {
            name: torch.cat(pieces).view(self._shapes[name])
            for name, *pieces in zip(local, *parts, strict=True)
        }

    @override
    def apply(self, gradient: Parameters, lr: float) -> None:
        self._set_rate(lr)
        self._hand_over(gradient)
        self._engine.step()

    def _set_rate(self, lr: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = lr

    def _hand_over(self, gradient: Parameters) -> None:
        """Have DeepSpeed hold the mean of `gradient` over the workers."""
        mean = self._mean_over_groups(gradient)
        # By a loss with that gradient, since stages 0 to 2 take gradients in no other way.
        pairs = ((mean[name], parameter) for name, parameter in self._named.items())
        self._engine.backward(torch.stack([(g * p).sum() for g, p in pairs]).sum())

    def _hand_over_zeros(self) -> None:
        self._hand_over({name: torch.zeros_like(p) for name, p in self.parameters().items()})

    def _mean_over_groups(self, gradient: Parameters) -> Parameters:
        mean = self.mesh.mean_over_groups([gradient[name] for name in self._named])
        return dict(zip(self._named, mean, strict=True))

    @override
    def mean(self, values: list[float]) -> list[float]:
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return (tensor / dist.get_world_size()).tolist()

    @override
    def gather(self, items: list[Item]) -> list[Item]:
        # Slot s belongs to worker s % world.
        return in_order_of_slots(gather_values(items))

    @override
    def optimizer_state(self) -> Parameters:
        moments, entries = MOMENTS[self._kind], list(self._optimizer.state.values())
        if not moments or not entries:
            return {}
        state = {
            f"{name}/{moment}": self._partition.shaped(name, self._moment(name, moment))
            for name in self._named
            for moment in moments
        }
        return state | ({} if dist.get_rank() else {COUNT: entries[0][COUNT]})

    def _moment(self, name: str, moment: str) -> Tensor:
        """Return this worker's slice of a moment, flat; a view."""
        parameter = self._named[name]
        if self._stage == 0:
            return self._optimizer.state[parameter][moment].reshape(-1)
        fragment = _fragment(parameter)
        return parameter.new_empty(0) if fragment is None else fragment.get_hp_fragment(moment)

    def _set_moment(self, name: str, moment: str, value: Tensor) -> None:
        self._moment(name, moment).copy_(value)


def _fragment(parameter: nn.Parameter) -> Any:
    """Return DeepSpeed's record of this worker's slice at stages 1 and 2; None if it is empty.

    Its public functions gather the whole parameter instead.
    """
    return parameter._hp_mapping  # pyright: ignore[reportAttributeAccessIssue]


def _length(part: Slice) -> int:
    return part[1] - part[0]


def _deepspeed_config(config: Config, parameters: int) -> dict[str, object]:
    cluster = config.cluster
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # Always set, since DeepSpeed clips to 1.0 by default, silently.
        "gradient_clipping": config.meta.clip,
        "zero_optimization": {
            "stage": cluster.zero_stage,
            "reduce_bucket_size": bucket_size(parameters),
            # Parameters that DeepSpeed keeps whole would miss what is written to their shards, and
            # those that it gathers early or keeps for later would need memory in between.
            "stage3_param_persistence_threshold": 0,
            "stage3_max_reuse_distance": 0,
            "stage3_max_live_parameters": 0,
            "stage3_prefetch_bucket_size": 0,
            # On a separate stream, gathering would not wait for what is written to the shards.
            "overlap_comm": False,
            "offload_optimizer": {"device": "cpu" if cluster.offload else "none"},
        },
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": keeps_bf16(config, sharded=cluster.inner_loop == "sharded")},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
    }
