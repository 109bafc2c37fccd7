"""The DeepSpeed engine: applies outer gradients to meta-parameters that ZeRO shards.

To be imported where DS_ACCELERATOR says what a worker was given, since importing DeepSpeed decides.
"""

import logging
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cluster.engine.deepspeed_import import deepspeed
from cluster.engine.mesh import TaskMesh
from metatrain.base.parameters import Parameters
from metatrain.config import Config
from metatrain.data.slots import in_order_of_slots
from metatrain.learning.inner.theta import Theta
from metatrain.training.engine import Engine

# It would be compiled for a minute, for collectives that gloo does as well here.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
deepspeed.utils.logger.setLevel(logging.WARNING)

MOMENTS = {"adam": ("exp_avg", "exp_avg_sq"), "sgd": ()}
COUNT = "step"


class ZeroEngine(Engine):
    """Meta-parameters under DeepSpeed's ZeRO, stage 0, 1 or 2.

    Every worker has all of theta, and takes episodes of its own. The process group must exist.
    Every worker must construct it with the same weights, and call its collective methods in the
    same order.

    Args:
        theta: held by the engine from now on; compute on another instance.
        config: stage, optimiser and clipping.
        optimizer_state: what `optimizer_state` returned when the run was interrupted.
    """

    def __init__(
        self, theta: Theta, config: Config, optimizer_state: Parameters | None = None
    ) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        timeout = timedelta(seconds=2 * config.cluster.timeout)
        self.mesh = TaskMesh.make(config.cluster.shards_per_group, timeout)
        settings = _deepspeed_config(config, sum(p.numel() for p in theta.parameters()))
        if config.cluster.zero_stage == 3:
            # One parameter at a time, so that it need not fit on the device as a whole.
            deepspeed.zero.Init(
                module=theta,
                data_parallel_group=self.mesh.get_data_parallel_group(),
                config_dict_or_path=settings,
            )
        self._named = theta.named()
        self._kind, self._stage = config.meta.optimizer, config.cluster.zero_stage
        # DeepSpeed wraps it from stage 1 on, and gives it shards for parameters.
        self._optimizer = _torch_optimizer(self._kind, list(self._named.values()))
        self._engine, *_ = deepspeed.initialize(
            model=theta,
            optimizer=self._optimizer,
            dist_init_required=False,
            mpu=self.mesh,
            config=settings,
        )
        if optimizer_state:
            self._restore(optimizer_state)

    @property
    def device(self) -> torch.device:
        """See `metatrain.training.engine.Engine.device`."""
        return next(iter(self._named.values())).device

    def parameters(self) -> Parameters:
        """Theta by name; views, which `apply` changes."""
        return {name: parameter.detach() for name, parameter in self._named.items()}

    def apply(self, gradient: Parameters, lr: float) -> None:
        """Average `gradient` over the workers and take one optimiser step at rate `lr`."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._hand_over(gradient)
        self._engine.step()

    def _hand_over(self, gradient: Parameters) -> None:
        """Have DeepSpeed hold the mean of `gradient` over the workers."""
        mean = self._mean_over_groups(gradient)
        # A loss whose gradient that is: the one door that stages 0 to 2 leave open.
        pairs = ((mean[name], parameter) for name, parameter in self._named.items())
        self._engine.backward(torch.stack([(g * p).sum() for g, p in pairs]).sum())

    def _mean_over_groups(self, gradient: Parameters) -> Parameters:
        mean = self.mesh.mean_over_groups([gradient[name] for name in self._named])
        return dict(zip(self._named, mean, strict=True))

    def mean(self, values: list[float]) -> list[float]:
        """The mean of each value over the workers."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return (tensor / dist.get_world_size()).tolist()

    def gather(self, own: list[Any]) -> list[Any]:
        """See `metatrain.training.engine.Engine.gather`; slot s is worker s % world's."""
        everyones: list[list[Any]] = [[] for _ in range(self.world)]
        dist.all_gather_object(everyones, own)
        return in_order_of_slots(everyones)

    def optimizer_state(self) -> Parameters:
        """The optimiser's tensors as 'parameter/moment', and its step count; collective."""
        moments, entries = MOMENTS[self._kind], list(self._optimizer.state.values())
        if not moments or not entries:
            return {}
        trees = {moment: self._moments(moment) for moment in moments}
        tensors = {f"{n}/{moment}": m for moment, tree in trees.items() for n, m in tree.items()}
        return tensors | {COUNT: entries[0][COUNT].detach().cpu().clone()}

    def _restore(self, state: Parameters) -> None:
        # DeepSpeed makes its state at the first step; one of rate 0 changes nothing else.
        self.apply({name: torch.zeros_like(p) for name, p in self.parameters().items()}, lr=0.0)
        for moment in MOMENTS[self._kind]:
            self._set_moments(moment, {name: state[f"{name}/{moment}"] for name in self._named})
        for entry in self._optimizer.state.values():
            entry[COUNT].copy_(state[COUNT])

    def _moments(self, moment: str) -> Parameters:
        """A moment of every parameter, whole, on the CPU. Collective."""
        return {n: self._moment(p, moment).cpu().clone() for n, p in self._named.items()}

    def _moment(self, parameter: Tensor, moment: str) -> Tensor:
        if self._stage == 0:
            return self._optimizer.state[parameter][moment]
        whole = deepspeed.utils.safe_get_full_optimizer_state(parameter, moment)
        assert whole is not None, "every parameter is in the optimiser"
        return whole

    def _set_moments(self, moment: str, values: Parameters) -> None:
        for name, parameter in self._named.items():
            if self._stage == 0:
                self._optimizer.state[parameter][moment].copy_(values[name])
            else:
                value = values[name].to(parameter.device)
                deepspeed.utils.safe_set_full_optimizer_state(parameter, value, moment)


def _torch_optimizer(kind: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    # Torch's own: DeepSpeed's are compiled for minutes on a CPU. The rate is set at every step.
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=0.0)
    return torch.optim.Adam(parameters, lr=0.0)


def _deepspeed_config(config: Config, parameters: int) -> dict[str, object]:
    cluster = config.cluster
    # Where the inner loop works on DeepSpeed's own weights, those are bf16 and their masters not.
    bf16 = config.inner.precision == "bf16" and cluster.inner_loop == "sharded"
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # Never left out: DeepSpeed's default clips to 1.0 and does not say so.
        "gradient_clipping": config.meta.clip,
        "zero_optimization": {
            "stage": cluster.zero_stage,
            # The buffer is made at once, and its default has room for half a billion numbers.
            "reduce_bucket_size": min(parameters, 500_000_000),
            # Parameters that DeepSpeed keeps whole would not see what is written to their shards,
            # and one that it gathers early or keeps for later is whole when nobody needs it.
            "stage3_param_persistence_threshold": 0,
            "stage3_max_reuse_distance": 0,
            "stage3_max_live_parameters": 0,
            "stage3_prefetch_bucket_size": 0,
            # On a stream of its own a gathering would not wait for what is written to the shards.
            "overlap_comm": False,
            "offload_optimizer": {"device": "cpu" if cluster.offload else "none"},
        },
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": bf16},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
    }
