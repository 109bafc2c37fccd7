"""A mixture: a network whose parameters are a point between models, and that adapts the point."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.generators.combined.sections import MixtureConfig
from metatrain.generators.conditions.encoders import Encoders, Given
from metatrain.generators.networks.registry import NETWORKS
from metatrain.generators.networks.velocity import VelocityNetwork


class Coefficients(nn.Module):
    """The coefficients alpha [M] of the task vectors, 0 at first."""

    def __init__(self, vectors: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(vectors))


class TaskVectors(nn.Module):
    """A weight plus multiples of task vectors, theta_0 + sum_i alpha_i tau_i.

    Ilharco et al. 2023, "Editing Models with Task Arithmetic", section 2, with
    tau_i = theta_i - theta_0 and a coefficient for each.
    """

    def __init__(self, weight: Tensor, coefficients: Coefficients) -> None:
        super().__init__()
        self.vectors = nn.Parameter(weight.new_zeros(len(coefficients.alpha), *weight.shape))
        # In a tuple, or torch would take the one alpha for a parameter of every weight.
        self._shared = (coefficients,)

    def forward(self, weight: Tensor) -> Tensor:
        """Add the task vectors to theta_0's `weight`, times their coefficients."""
        return weight + torch.tensordot(self._shared[0].alpha, self.vectors, dims=1)


def add_task_vectors(network: nn.Module, coefficients: Coefficients) -> None:
    """Add task vectors, 0 at first, to every parameter of `network`."""
    for module in list(network.modules()):
        for name, weight in list(module.named_parameters(recurse=False)):
            vectors = TaskVectors(weight, coefficients)
            parametrize.register_parametrization(module, name, vectors)


def with_task_vectors(start: Parameters, others: Sequence[Parameters]) -> Parameters:
    """Name the parameters of `start`, and the differences of `others` to it as task vectors."""
    parameters: Parameters = {}
    for name, weight in start.items():
        module, _, leaf = name.rpartition(".")
        inside = f"{module}.parametrizations.{leaf}" if module else f"parametrizations.{leaf}"
        parameters[f"{inside}.original"] = weight
        parameters[f"{inside}.0.vectors"] = torch.stack([p[name] - weight for p in others])
    return parameters


class Mixture(VelocityNetwork):
    """A network with task vectors added to its every parameter.

    Its head is alpha, so that the scope `head` moves M numbers and leaves theta_0 and the vectors
    as they are.

    Args:
        config: its network and its task vectors.
        shape: of an example as the network sees it, [C, H, W], H = W.

    Raises:
        UserError: when the mixed network predicts no velocity.
    """

    Config = MixtureConfig
    head = ("coefficients",)

    def __init__(self, config: MixtureConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        self.coefficients = Coefficients(config.vectors)
        network = NETWORKS[config.of.name](config.of, shape)
        if not isinstance(network, VelocityNetwork):
            raise UserError(
                f"generator.name=mixture mixes networks that predict a velocity, and "
                f"{config.of.name} does not; use generator.name=gan_mixture."
            )
        self.network = network
        add_task_vectors(network, self.coefficients)

    @staticmethod
    def parameters_of(start: Parameters, others: Sequence[Parameters]) -> Parameters:
        """Name the parameters of a mixture of `start` and its difference to each of `others`."""
        vectors = with_task_vectors(start, others)
        inside = {f"network.{name}": value for name, value in vectors.items()}
        return {"coefficients.alpha": torch.zeros(len(others))} | inside

    @override
    def encode(self, support: Tensor) -> Tensor:
        return self.network.encode(support)

    @property
    @override
    def converters(self) -> Encoders | None:
        return self.network.converters

    @override
    def encode_given(self, conditions: Sequence[Tensor]) -> Given | None:
        return self.network.encode_given(conditions)

    @override
    def velocity(
        self, x: Tensor, t: Tensor, memory: Tensor, visible: Tensor, given: Given | None = None
    ) -> Tensor:
        return self.network.velocity(x, t, memory, visible, given)
