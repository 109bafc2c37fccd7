"""ZeRO stage 3: theta itself in shards, and an inner loop that works on them.

Trees of this module are local: of each parameter the values that this worker keeps. Learners treat
trees value by value, so most of them need not know.
"""

import os
from collections.abc import Iterator
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from cluster.engine.deepspeed_import import deepspeed
from cluster.engine.zero import ZeroEngine
from metatrain.base.parameters import Parameters
from metatrain.config import Config
from metatrain.data.slots import in_order_of_slots
from metatrain.generators import Draw
from metatrain.learning.inner.theta import Theta
from metatrain.training.exchange import Item
from metatrain.training.partition import Slice, StateParts


class GatheringEngine(ZeroEngine):
    """Stage 3 with a whole theta for learners, of any kind; each worker takes different tasks.

    Theta in the engine, the optimiser and the averages are sharded.

    Args:
        theta: owned by the engine from now on; parameters on the meta device are made one at a
            time, and have no values before `begin` or `load`.
        config: stage, optimiser and clipping.
    """

    @override
    def _prepare(self, theta: Theta, settings: dict[str, object]) -> None:
        deepspeed.zero.Init(
            module=_OneAtATime(theta),
            data_parallel_group=self.mesh.get_data_parallel_group(),
            config_dict_or_path=settings,
        )

    @override
    def _own_slice(self, name: str) -> Slice:
        count, width = prod(self._shapes[name]), self._width(name)
        return min(count, self.mesh.shard * width), min(count, (self.mesh.shard + 1) * width)

    @override
    def parameters(self) -> Parameters:
        return self._gathered(self.local())

    @override
    def local(self) -> Parameters:
        return {
            name: self._fragment(name, deepspeed.utils.safe_get_local_fp32_param(p))
            for name, p in self._named.items()
        }

    def _fragment(self, name: str, padded: Tensor | None) -> Tensor:
        """Return a local tree's tensor from DeepSpeed's padded one; a view."""
        assert padded is not None, "every parameter is in the optimiser"
        return self._partition.shaped(name, padded.detach()[: self._real(name)])

    @override
    def _load_theta(self, theta: Parameters) -> None:
        for name, value in theta.items():
            padded = self._padded(name, value)
            # DeepSpeed computes with its shards, and steps from their masters.
            self._shard(name).data.copy_(padded)
            deepspeed.utils.safe_set_local_fp32_param(self._named[name], padded)

    @override
    def _hand_over(self, gradient: Parameters) -> None:
        self._hand_over_shards(self._mean_shards(gradient))

    @override
    def _hand_over_zeros(self) -> None:
        self._hand_over_shards({name: torch.zeros_like(v) for name, v in self.local().items()})

    def _mean_shards(self, gradient: Parameters) -> Parameters:
        """Average full gradients over the group into a local tree; one collective."""
        shards, widths = self.mesh.shards, [self._width(name) for name in self._named]
        rows = [
            F.pad(gradient[name].reshape(-1), (0, shards * width - gradient[name].numel()))
            for name, width in zip(self._named, widths, strict=True)
        ]
        fragment = self.mesh.mean_of_fragments(
            torch.cat([row.view(shards, -1) for row in rows], dim=1)
        )
        parts = zip(self._named, fragment.split(widths), strict=True)
        return {name: self._fragment(name, part) for name, part in parts}

    def _hand_over_shards(self, gradient: Parameters) -> None:
        mean = self._mean_over_groups(gradient)
        self._engine.allreduce_gradients()  # nothing is left to reduce; DeepSpeed opens its buffers
        for name, parameter in self._named.items():
            deepspeed.utils.safe_set_local_grad(parameter, self._padded(name, mean[name]))

    @override
    def _moment(self, name: str, moment: str) -> Tensor:
        parameter = self._named[name]
        padded = deepspeed.utils.safe_get_local_optimizer_state(parameter, moment)
        return self._fragment(name, padded).reshape(-1)

    @override
    def _set_moment(self, name: str, moment: str, value: Tensor) -> None:
        padded = self._padded(name, value)
        deepspeed.utils.safe_set_local_optimizer_state(self._named[name], padded, moment)

    def _shard(self, name: str) -> Tensor:
        """Return DeepSpeed's own tensor of this worker's values and padding."""
        parameter: Any = self._named[name]
        return parameter.ds_tensor

    def _width(self, name: str) -> int:
        """Return how many values every worker of the group has room for."""
        return self._shard(name).numel()

    def _real(self, name: str) -> int:
        """Return how many of them are values; the last workers' shards end in padding."""
        start, stop = self._own_slice(name)
        return stop - start

    def _padded(self, name: str, value: Tensor) -> Tensor:
        return F.pad(value.reshape(-1), (0, self._width(name) - value.numel()))


class ShardedEngine(GatheringEngine):
    """Stage 3 without any whole tree: the workers of a group adapt to the same tasks.

    Learners see local trees; their inner loop is a `ShardedInnerLoop`.
    """

    sharded = True

    def __init__(self, theta: Theta, config: Config) -> None:
        if config.inner.precision == "bf16":
            # Inside of DeepSpeed's forward pass, which switches off autocast around it.
            device = os.environ["DS_ACCELERATOR"]
            theta.forward = torch.autocast(device, torch.bfloat16)(theta.forward)
        super().__init__(theta, config)
        self.rank, self.world = self.mesh.group, self.mesh.groups

    @property
    @override
    def partitions(self) -> StateParts:
        return StateParts(theta=self._partition, memory=self._partition)

    @override
    def parameters(self) -> Parameters:
        return self.local()

    @override
    def norm(self, tree: Parameters) -> Tensor:
        return self.dot(tree, tree).sqrt()

    def dot(self, a: Parameters, b: Parameters) -> Tensor:
        """Return the inner product of two local trees. Collective in the group."""
        local = torch.stack([(value * b[name]).sum() for name, value in a.items()]).sum()
        return self.mesh.sum_over_shards(local)

    @override
    def gather(self, items: list[Item]) -> list[Item]:
        # Among the workers that keep the same shards.
        return in_order_of_slots(self.mesh.gather_from_peers(items))

    def gradient_at(
        self, phi: Parameters, draw: Draw, weight: float, term: int = 0
    ) -> tuple[Parameters, Tensor]:
        """Compute the gradient of the group's mean of a term at weights `phi`, and that mean.

        Theta is not lost: `apply` writes it anew. Collective in the group.

        Args:
            phi: local tree of all weights.
            draw: this worker's images.
            weight: weight of its mean loss in the group's mean over workers.
            term: number of the objective's term.
        """
        self._write(phi)
        optimizer: Any = self._engine.optimizer
        optimizer.zero_grad()
        for name, parameter in self._named.items():
            # A parameter that the loss does not touch would keep its last gradient.
            deepspeed.utils.safe_set_local_grad(parameter, torch.zeros_like(self._shard(name)))
        with torch.enable_grad():
            loss = weight * self._engine(*draw, term=term)
            self._engine.backward(loss)
        gradient = {
            name: self._fragment(name, deepspeed.utils.safe_get_local_grad(p)).clone()
            for name, p in self._named.items()
        }
        # The mean on all workers, so that all of them notice a loss that is not finite.
        return gradient, self.mesh.sum_over_shards(loss.detach()) / self.mesh.shards

    def _write(self, phi: Parameters) -> None:
        for name, value in phi.items():
            self._shard(name).data[: self._real(name)].copy_(value.reshape(-1))

    @override
    def _hand_over(self, gradient: Parameters) -> None:
        self._hand_over_shards(gradient)


class _OneAtATime(nn.Module):
    """Module whose parameters on the meta device become zeros when they are iterated over.

    DeepSpeed shards each before it takes the next.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module

    @override
    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        made: dict[nn.Parameter, nn.Parameter] = {}
        for module in self._module.modules():
            for name, parameter in module._parameters.items():
                if parameter is None:
                    continue
                if parameter.is_meta and parameter not in made:
                    zeros = torch.zeros(parameter.shape, dtype=parameter.dtype)
                    made[parameter] = nn.Parameter(zeros, parameter.requires_grad)
                # Those that modules share stay shared.
                module._parameters[name] = made.get(parameter, parameter)
                yield made.get(parameter, parameter)
