"""ZeRO stage 3: theta itself in shards, and an inner loop that works on them.

Trees of this module have flat tensors: of each parameter the values that this worker keeps. All
that learners do with trees goes value by value, so most of them never know.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cluster.engine.deepspeed_import import deepspeed
from cluster.engine.zero import ZeroEngine
from metatrain.base.parameters import Parameters, host_copy
from metatrain.config import Config
from metatrain.data.slots import in_order_of_slots
from metatrain.generators import Draw
from metatrain.learning.inner.theta import Theta

# Numbers that a checkpoint gathers at once.
_AT_ONCE = 16_000_000


class GatheringEngine(ZeroEngine):
    """Stage 3 with a whole theta for learners: any of them, each worker on tasks of its own.

    What is sharded are theta in the engine, the optimiser and the averages.
    """

    def __init__(
        self, theta: Theta, config: Config, optimizer_state: Parameters | None = None
    ) -> None:
        self._shapes = {name: p.shape for name, p in theta.named().items()}
        super().__init__(theta, config, optimizer_state)

    def parameters(self) -> Parameters:
        """All of theta, gathered by one collective."""
        return self._gathered(self.local())

    def local(self) -> Parameters:
        """See `metatrain.training.engine.Engine.local`: this worker's shards."""
        return {
            name: _present(deepspeed.utils.safe_get_local_fp32_param(p))[: self._real(name)]
            for name, p in self._named.items()
        }

    def localize(self, full: Parameters) -> Parameters:
        """See `metatrain.training.engine.Engine.localize`."""
        return {
            name: value.reshape(-1)[self._start(name) :][: self._real(name)].to(self.device)
            for name, value in full.items()
        }

    def full(self, local: Parameters) -> Parameters:
        """See `metatrain.training.engine.Engine.full`: in the host's memory."""
        found: Parameters = {}
        for names in self._batches(local):
            gathered = self._gathered({name: local[name] for name in names})
            found |= {name: value.cpu() for name, value in gathered.items()}
        return found

    def _batches(self, names: Iterable[str]) -> Iterator[list[str]]:
        """The names of tensors that are few enough to be whole at once, or of one alone."""
        batch, room = [], _AT_ONCE
        for name in names:
            room -= self._shapes[name].numel()
            if batch and room < 0:
                yield batch
                batch, room = [], _AT_ONCE - self._shapes[name].numel()
            batch.append(name)
        yield batch

    def _gathered(self, local: Parameters) -> Parameters:
        padded = {name: self._padded(name, value) for name, value in local.items()}
        everyones = self.mesh.gather_shards(torch.cat(list(padded.values())))
        columns = everyones.split([len(value) for value in padded.values()], dim=1)
        return {
            name: column.reshape(-1)[: self._shapes[name].numel()].view(self._shapes[name])
            for name, column in zip(padded, columns, strict=True)
        }

    def _hand_over(self, gradient: Parameters) -> None:
        self._hand_over_shards(self._mean_shards(gradient))

    def _mean_shards(self, gradient: Parameters) -> Parameters:
        """This worker's shards of the group's mean of full gradients; one collective."""
        shards, widths = self.mesh.shards, [self._width(name) for name in self._named]
        rows = [
            F.pad(gradient[name].reshape(-1), (0, shards * width - gradient[name].numel()))
            for name, width in zip(self._named, widths, strict=True)
        ]
        own = self.mesh.mean_of_own_shard(torch.cat([row.view(shards, -1) for row in rows], dim=1))
        parts = zip(self._named, own.split(widths), strict=True)
        return {name: part[: self._real(name)] for name, part in parts}

    def _hand_over_shards(self, gradient: Parameters) -> None:
        mean = self._mean_over_groups(gradient)
        self._engine.allreduce_gradients()  # nothing is left to reduce; DeepSpeed opens its buffers
        for name, parameter in self._named.items():
            deepspeed.utils.safe_set_local_grad(parameter, self._padded(name, mean[name]))

    def _moments(self, moment: str) -> Parameters:
        local = {
            name: _present(deepspeed.utils.safe_get_local_optimizer_state(p, moment))[
                : self._real(name)
            ]
            for name, p in self._named.items()
        }
        return self.full(local)

    def _set_moments(self, moment: str, values: Parameters) -> None:
        for name, value in self.localize(values).items():
            padded = self._padded(name, value)
            deepspeed.utils.safe_set_local_optimizer_state(self._named[name], padded, moment)

    def _shard(self, name: str) -> Tensor:
        """Where DeepSpeed keeps this worker's values, and padding."""
        parameter: Any = self._named[name]
        return parameter.ds_tensor

    def _width(self, name: str) -> int:
        """Values that every worker of the group has room for."""
        return self._shard(name).numel()

    def _start(self, name: str) -> int:
        return self.mesh.shard * self._width(name)

    def _real(self, name: str) -> int:
        """Values that are this worker's; the last workers' shards end in padding."""
        return max(0, min(self._width(name), self._shapes[name].numel() - self._start(name)))

    def _padded(self, name: str, value: Tensor) -> Tensor:
        return F.pad(value, (0, self._width(name) - len(value)))


class ShardedEngine(GatheringEngine):
    """Stage 3 with nothing whole at any time: the workers of a group adapt to the same tasks.

    Learners see shards; their inner loop is `cluster.engine.sharded_inner_loop`'s.
    """

    sharded = True

    def __init__(
        self, theta: Theta, config: Config, optimizer_state: Parameters | None = None
    ) -> None:
        bf16 = config.inner.precision == "bf16"
        start = host_copy({**theta.named()}) if bf16 else {}
        if bf16:
            # Within DeepSpeed's own call, which ends what is around it.
            device = os.environ["DS_ACCELERATOR"]
            theta.forward = torch.autocast(device, torch.bfloat16)(theta.forward)
        super().__init__(theta, config, optimizer_state)
        self.rank, self.world = self.mesh.group, self.mesh.groups
        # DeepSpeed makes masters of weights that are rounded already.
        for name, value in self.localize(start).items():
            deepspeed.utils.safe_set_local_fp32_param(self._named[name], self._padded(name, value))

    def parameters(self) -> Parameters:
        """This worker's shards of theta."""
        return self.local()

    def norm(self, tree: Parameters) -> Tensor:
        """See `metatrain.training.engine.Engine.norm`. Collective."""
        return self.dot(tree, tree).sqrt()

    def dot(self, a: Parameters, b: Parameters) -> Tensor:
        """The inner product of two trees of shards. Collective in the group."""
        own = torch.stack([(value * b[name]).sum() for name, value in a.items()]).sum()
        return self.mesh.sum_over_shards(own)

    def gather(self, own: list[Any]) -> list[Any]:
        """See `metatrain.training.engine.Engine.gather`: among those who keep the same shards."""
        return in_order_of_slots(self.mesh.gather_from_peers(own))

    def gradient_at(
        self, phi: Parameters, draw: Draw, weight: float, term: int = 0
    ) -> tuple[Parameters, Tensor]:
        """Compute the gradient of the group's mean of a term at weights `phi`, and that mean.

        Theta is not lost: `apply` writes it anew. Collective in the group.

        Args:
            phi: shards of all weights.
            draw: this worker's images.
            weight: what its mean loss counts in the group's mean over workers.
            term: of the objective.
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
            name: _present(deepspeed.utils.safe_get_local_grad(p))[: self._real(name)].clone()
            for name, p in self._named.items()
        }
        # So that all of them notice a loss that is not finite.
        return gradient, self.mesh.sum_over_shards(loss.detach()) / self.mesh.shards

    def _write(self, phi: Parameters) -> None:
        for name, value in phi.items():
            self._shard(name).data[: self._real(name)].copy_(value)

    def _hand_over(self, gradient: Parameters) -> None:
        self._hand_over_shards(gradient)


def _present(value: Tensor | None) -> Tensor:
    assert value is not None, "every parameter is in the optimiser"
    return value.detach()
