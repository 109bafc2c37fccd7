"""The engine of a run in one process, with torch alone."""

from typing import Any

import torch
from torch import nn
from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.config import MetaConfig
from metatrain.training.engine import Engine
from metatrain.training.outer_optimizer import COUNT, MOMENTS, outer_optimizer


class LocalEngine(Engine):
    """Meta-parameters of one process, under the outer optimiser.

    Its optimiser's state has the names of `cluster.engine.zero.ZeroEngine`, so that a run may
    resume under either.

    Args:
        theta: the meta-parameters to start from; they are copied.
        config: optimiser and clipping.
        device: device of the trees.
        optimizer_state: result of `optimizer_state` when the run was interrupted.
    """

    rank, world = 0, 1

    def __init__(
        self,
        theta: Parameters,
        config: MetaConfig,
        *,
        device: torch.device,
        optimizer_state: Parameters | None = None,
    ) -> None:
        self._named = {n: nn.Parameter(p.to(device, copy=True)) for n, p in theta.items()}
        self._kind, self._clip = config.optimizer, config.clip
        self._optimizer = outer_optimizer(config, list(self._named.values()))
        if optimizer_state:
            self._restore(optimizer_state)

    @override
    def parameters(self) -> Parameters:
        return {name: parameter.detach() for name, parameter in self._named.items()}

    @override
    def apply(self, gradient: Parameters, lr: float) -> None:
        scale = self._clipping(gradient)
        for name, parameter in self._named.items():
            parameter.grad = gradient[name] if scale is None else scale * gradient[name]
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _clipping(self, gradient: Parameters) -> torch.Tensor | None:
        """Return the factor that limits the gradient's norm, as in `clip_grad_norm_`."""
        if not self._clip:
            return None
        return (self._clip / (self.norm(gradient) + 1e-6)).clamp(max=1.0)

    @override
    def mean(self, values: list[float]) -> list[float]:
        return values

    @override
    def gather(self, items: list[Any]) -> list[Any]:
        return items

    @override
    def optimizer_state(self) -> Parameters:
        if not MOMENTS[self._kind] or not self._optimizer.state:
            return {}
        state = {
            f"{name}/{moment}": self._optimizer.state[parameter][moment]
            for name, parameter in self._named.items()
            for moment in MOMENTS[self._kind]
        }
        [count, *_] = (entry[COUNT] for entry in self._optimizer.state.values())
        return state | {COUNT: count}

    def _restore(self, state: Parameters) -> None:
        for name, parameter in self._named.items():
            moments = {m: state[f"{name}/{m}"].to(parameter.device) for m in MOMENTS[self._kind]}
            self._optimizer.state[parameter] = {
                COUNT: state[COUNT].clone(),
                **{moment: value.clone() for moment, value in moments.items()},
            }
