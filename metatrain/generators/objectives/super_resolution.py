"""Super-resolution: the absolute difference of an enlarged image to the true one."""

from collections.abc import Mapping, Sequence

from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.data.batch import Batch
from metatrain.data.degradations.degradation import LOW
from metatrain.data.examples import Examples
from metatrain.generators.networks.network import Network
from metatrain.generators.networks.residual import EnlargingNetwork
from metatrain.generators.objectives.objective import NOTHING, Draw, Objective, Term
from metatrain.generators.objectives.sections import SuperResolutionConfig


class SuperResolution(Objective[SuperResolutionConfig]):
    """The mean absolute difference |f(low) - target| per value.

    Soh et al. 2020 (MZSR), eq. 5. An example's target [C, H, W] is generated from its condition
    `low` [C, H / scale, W / scale]. A draw is low [B, C, h, w] and target [B, C, H, W]; there is no
    noise.
    """

    Config = SuperResolutionConfig
    trains = EnlargingNetwork
    needs = "a generator that enlarges, such as generator.name=residual or edsr"

    @property
    @override
    def terms(self) -> Sequence[Term]:
        return (Term(absolute_error),)

    @override
    def prepare(self, batch: Batch, *, training: bool) -> Draw:
        return _low(batch.examples), batch.examples.target

    @override
    def sample(
        self,
        network: Network,
        support: Examples,
        count: int,
        seed: int,
        sampler: Section | None,
        given: Mapping[str, Tensor] = NOTHING,
    ) -> Tensor:
        """Enlarge the low images of the support, one after the other and again from the first."""
        assert isinstance(network, EnlargingNetwork)
        rows = [i % len(support) for i in range(count)]
        low = _low(support)[rows]
        return network.enlarge(low, support.target.shape[-1] // low.shape[-1])


def absolute_error(network: EnlargingNetwork, low: Tensor, target: Tensor) -> Tensor:
    """Compute the mean of |f(low) - target|, a scalar."""
    return (network.enlarge(low, target.shape[-1] // low.shape[-1]) - target).abs().mean()


def _low(examples: Examples) -> Tensor:
    low = examples.given.get(LOW)
    if not isinstance(low, Tensor):
        raise UserError(
            f"objective.name=super_resolution needs the condition '{LOW}' of every example; train "
            f"on data.tasks.name=degradations, and adapt by Model.enlarge."
        )
    return low
