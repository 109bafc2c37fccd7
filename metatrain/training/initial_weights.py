"""The tensors that a run begins with, of which a worker makes no more than its slices.

They are random, as the seed decides, or those of the model that `run.init` names.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from metatrain.base.parameters import Parameters
from metatrain.config import Config
from metatrain.model.build import build_theta
from metatrain.training.partition import Partition
from metatrain.training.recording import Recording
from metatrain.training.starting_model import StartingModel


def initial_weights(config: Config, partition: Partition | None = None) -> Parameters:
    """Make the meta-parameters: those of `run.init`, or those that `config.seed` decides.

    The latter are bit for bit those of `build_theta`, as is what a learner or scope adds to the
    weights of a model that has none of it. Beside a worker's slices no more than one tensor is
    whole at any time, unless a constructor looks at values, as `torch.nn.init.trunc_normal_` does:
    then all of them are.

    Args:
        config: the run's configuration.
        partition: the slices to make; everything by default.

    Raises:
        UserError: when the model cannot be read, or has other tensors.
    """
    weights = _random_weights(config, partition)
    if config.run.init is not None:
        for name, whole in StartingModel(config).tensors():
            # Into a tensor of the same layout and type, for learners compute with what is here.
            weights[name].copy_(partition.cut(name, whole) if partition else whole)
    return weights


def _random_weights(config: Config, partition: Partition | None) -> Parameters:
    if partition is None:
        return build_theta(config).copy()
    weights: Parameters = {}

    def keep(name: str, whole: Tensor) -> None:
        weights[name] = partition.cut(name, whole).clone()

    _construct(config, lambda: build_theta(config).named(), keep)
    return {name: weights[name] for name in partition.slices}


def initial_constants(config: Config) -> Parameters:
    """Make what beside the meta-parameters is in `build_theta`: buffers, and what is frozen.

    Nothing is learned of them, and no checkpoint has them.
    """
    constants: Parameters = {}

    def keep(name: str, whole: Tensor) -> None:
        constants[name] = whole.clone()

    with torch.device("meta"):
        exist = bool(_constants(config))
    if exist:
        _construct(config, lambda: _constants(config), keep)
    return constants


def _constants(config: Config) -> Parameters:
    theta = build_theta(config)
    tensors = (*theta.named_parameters(), *theta.named_buffers())
    return {name: tensor for name, tensor in tensors if not tensor.requires_grad}


def _construct(
    config: Config,
    construct: Callable[[], Mapping[str, Tensor]],
    take: Callable[[str, Tensor], None],
) -> None:
    """Call `take` with each of the tensors that `construct` returns, with its values."""
    try:
        recording = Recording(construct)
    except Exception:  # whatever it is that takes values, and else it is raised here again
        for name, tensor in construct().items():
            take(name, tensor.detach())
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        recording.replay(take)
