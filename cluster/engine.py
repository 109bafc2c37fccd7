"""The DeepSpeed engine: applies outer gradients to meta-parameters whose optimiser is sharded.

To be imported where DS_ACCELERATOR says what a worker was given, since importing DeepSpeed decides.
"""

import logging
from itertools import zip_longest
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_optimizer_state, safe_set_full_optimizer_state
from torch import Tensor, nn

from metatrain.config import Config
from metatrain.parameters import Parameters

# It would be compiled for a minute, for collectives that gloo does as well here.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
deepspeed.utils.logger.setLevel(logging.WARNING)

_MOMENTS = {"adam": ("exp_avg", "exp_avg_sq"), "sgd": ()}
_COUNT = "step"
_NOTHING = object()


class ZeroEngine:
    """Meta-parameters under DeepSpeed's ZeRO, stage 0, 1 or 2. See `metatrain.trainer.Engine`.

    The process group must exist. Every worker must construct it with the same weights, and call
    its collective methods in the same order.

    Args:
        generator: holds theta from now on; compute on another instance.
        config: stage, optimiser and clipping.
        optimizer_state: what `optimizer_state` returned when the run was interrupted.
    """

    def __init__(
        self, generator: nn.Module, config: Config, optimizer_state: Parameters | None = None
    ) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._named = dict(generator.named_parameters())
        self._kind, self._stage = config.meta.optimizer, config.cluster.zero_stage
        # DeepSpeed wraps it from stage 1 on, and gives it shards for parameters.
        self._optimizer = _torch_optimizer(self._kind, list(generator.parameters()))
        self._engine, *_ = deepspeed.initialize(
            model=generator,
            optimizer=self._optimizer,
            dist_init_required=False,
            config=_deepspeed_config(config),
        )
        if optimizer_state:
            self._restore(optimizer_state)

    def parameters(self) -> Parameters:
        """Theta by name; views, which `apply` changes."""
        return {name: parameter.detach() for name, parameter in self._named.items()}

    def apply(self, gradient: Parameters, lr: float) -> None:
        """Average `gradient` over the workers and take one optimiser step at rate `lr`."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        # A loss whose gradient is `gradient`: the one door that all ZeRO stages leave open.
        pairs = ((gradient[name], parameter) for name, parameter in self._named.items())
        self._engine.backward(torch.stack([(g * p).sum() for g, p in pairs]).sum())
        self._engine.step()

    def mean(self, values: list[float]) -> list[float]:
        """The mean of each value over the workers."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self._engine.device)
        dist.all_reduce(tensor)
        return (tensor / self.world).tolist()

    def gather(self, own: list[Any]) -> list[Any]:
        """See `metatrain.trainer.Engine.gather`; slot s is worker s % world's."""
        everyones: list[list[Any]] = [[] for _ in range(self.world)]
        dist.all_gather_object(everyones, own)
        rows = zip_longest(*everyones, fillvalue=_NOTHING)
        return [item for row in rows for item in row if item is not _NOTHING]

    def optimizer_state(self) -> Parameters:
        """The optimiser's tensors as 'parameter/moment', and its step count; collective."""
        moments, entries = _MOMENTS[self._kind], list(self._optimizer.state.values())
        if not moments or not entries:
            return {}
        tensors = {
            f"{name}/{moment}": self._moment(parameter, moment).detach().cpu().clone()
            for name, parameter in self._named.items()
            for moment in moments
        }
        return tensors | {_COUNT: entries[0][_COUNT].detach().cpu().clone()}

    def _restore(self, state: Parameters) -> None:
        # DeepSpeed makes its state at the first step; one of rate 0 changes nothing else.
        self.apply({name: torch.zeros_like(p) for name, p in self._named.items()}, lr=0.0)
        for name, parameter in self._named.items():
            for moment in _MOMENTS[self._kind]:
                self._set_moment(parameter, moment, state[f"{name}/{moment}"])
        for entry in self._optimizer.state.values():
            entry[_COUNT].copy_(state[_COUNT])

    def _moment(self, parameter: Tensor, moment: str) -> Tensor:
        if self._stage == 0:
            return self._optimizer.state[parameter][moment]
        whole = safe_get_full_optimizer_state(parameter, moment)
        assert whole is not None, "every parameter is in the optimiser"
        return whole

    def _set_moment(self, parameter: Tensor, moment: str, value: Tensor) -> None:
        if self._stage == 0:
            self._optimizer.state[parameter][moment].copy_(value)
        else:
            safe_set_full_optimizer_state(parameter, value.to(parameter.device), moment)


def _torch_optimizer(kind: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    # Torch's own: DeepSpeed's are compiled for minutes on a CPU. The rate is set at every step.
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=0.0)
    return torch.optim.Adam(parameters, lr=0.0)


def _deepspeed_config(config: Config) -> dict[str, object]:
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # Never left out: DeepSpeed's default clips to 1.0 and does not say so.
        "gradient_clipping": config.meta.clip,
        "zero_optimization": {"stage": config.cluster.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
    }
