"""Flow matching: regress the velocity of straight paths from noise to examples."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.base.text import listed, printable
from metatrain.data.batch import Batch
from metatrain.data.examples import Examples
from metatrain.generators.conditions.config import SUPPORT
from metatrain.generators.conditions.encoders import Given
from metatrain.generators.networks.network import Network
from metatrain.generators.networks.velocity import VelocityNetwork
from metatrain.generators.objectives.objective import NOTHING, Draw, Objective, Term
from metatrain.generators.objectives.sections import FlowConfig, FlowNoiseConfig
from metatrain.generators.sampler_sections import FlowSamplerConfig
from metatrain.generators.samplers import Velocity, guided, integrate

F = TypeVar("F", bound=FlowNoiseConfig)


class FlowMatching(Objective[F]):
    """Rectified flow from noise x_0 at t = 0 to examples x_1 at t = 1.

    Lipman et al. 2023, "Flow Matching for Generative Modeling", eq. 23 with sigma_min = 0;
    Liu et al. 2023, "Flow Straight and Fast", eq. 1:
    x_t = (1 - t) x_0 + t x_1, and the network regresses x_1 - x_0.

    A draw is x_1 [B, C, H, W], x_0, the times [B], the support [K, C, H, W], `visible` [B, K],
    True where an example may see a support example, and then each condition [B, ...] of the
    network's encoders.
    """

    Config = FlowConfig
    trains = VelocityNetwork
    needs = "a generator that predicts a velocity"

    @property
    @override
    def terms(self) -> Sequence[Term]:
        return (Term(velocity_error),)

    @override
    def prepare(self, batch: Batch, *, training: bool) -> Draw:
        x1 = batch.examples.target
        x0, t, kept = self._random(batch, training)
        visible = visible_support(batch) & kept[:, None].to(x1.device)
        given = [c for c in batch.examples.given.values() if isinstance(c, Tensor)]
        return x1, x0.to(x1), t.to(x1), batch.support.target, visible, *given

    def errors(self, network: Network, draw: Draw) -> Tensor:
        """Compute the error of each example of a draw, [B]; see `ErrorsByExample`."""
        assert isinstance(network, VelocityNetwork)
        return _velocity_squares(network, *draw).mean(dim=(1, 2, 3))

    @override
    def share(self, draw: Draw, rows: slice) -> Draw:
        x1, x0, t, support, *of_examples = draw
        return x1[rows], x0[rows], t[rows], support, *(part[rows] for part in of_examples)

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
        assert isinstance(network, VelocityNetwork)
        config = sampler if isinstance(sampler, FlowSamplerConfig) else self.config.sampler
        noise = torch.randn((count, *self.shape), generator=torch.Generator().manual_seed(seed))
        velocity = self.field(network, support, count, config, given)
        return integrate(velocity, noise.to(support.target), config)

    def field(
        self,
        network: VelocityNetwork,
        support: Examples,
        count: int,
        config: FlowSamplerConfig,
        given: Mapping[str, Tensor] = NOTHING,
    ) -> Velocity:
        """Return the guided velocity of `count` examples under `config`; see `sample`.

        Raises:
            UserError: when guidance is towards a condition that the network does not have.
        """
        _check_guidance(config, given)
        seen = len(support) > 0
        # Of an empty support there is an image that nothing sees: layers refuse batches of none.
        memory = network.encode(
            support.target if seen else support.target.new_zeros(1, *self.shape)
        )
        names = [name for name, values in given.items() if bool(values.any())]

        def velocity(visible: bool, shown: Sequence[str]) -> Velocity:
            rows = torch.full((count, len(memory)), visible, device=support.target.device)
            values = [v if name in shown else torch.zeros_like(v) for name, v in given.items()]
            encoded = self.paced(
                network, network.encode_given(values), memory, memory.new_zeros(count), config
            )
            return lambda x, time: network.velocity(
                x, x.new_full((len(x),), time), memory, rows, encoded
            )

        velocities = [velocity(False, ()), *([velocity(True, ())] if seen else [])]
        velocities += [velocity(seen, names[: i + 1]) for i in range(len(names))]
        weights = [config.weight(name) for name in ([SUPPORT] if seen else []) + names]
        return guided(velocities, weights)

    def paced(
        self,
        network: VelocityNetwork,
        given: Given | None,
        memory: Tensor,
        times: Tensor,
        config: FlowSamplerConfig,
    ) -> Given | None:
        """Add to what is given what the network is to know of the sampler's steps at `times` [B].

        The network of a flow knows nothing of them.
        """
        return given

    def restore(self, network: VelocityNetwork, batch: Batch, hidden: Tensor) -> Tensor:
        """Estimate the targets of `batch` without the values that are `hidden`.

        Hidden values are replaced by noise; the time is the fraction that is not hidden.

        Args:
            network: predicts the velocity.
            batch: B examples, and their support.
            hidden: [B, 1, H, W], 1 where a value is hidden, else 0.

        Returns:
            [B, C, H, W].
        """
        target = batch.examples.target
        noise = self._random(batch, network.training)[0].to(target)
        x = hidden * noise + (1 - hidden) * target
        t = 1 - hidden.mean(dim=(1, 2, 3))
        memory = network.encode(batch.support.target)
        return x + hidden * network.velocity(x, t, memory, visible_support(batch))

    def _random(self, batch: Batch, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Sample noise, times and condition dropout of a batch from its seed, on the CPU.

        A GPU's random generator gives other numbers, and runs would not be comparable.
        """
        count = len(batch.examples)
        fresh = random_stream(batch.seed, batch.noise_index)
        noise = random_stream(batch.seed) if self.config.shared_noise else fresh
        x0 = torch.randn(batch.examples.target.shape, generator=noise)
        t = torch.rand(count, generator=fresh)
        if self.config.stratified_time:
            t = (torch.randperm(count, generator=fresh) + t) / count
        dropout = self.config.condition_dropout if training else 0.0
        kept = torch.rand(count, generator=fresh) >= dropout
        return x0, t, kept


def velocity_error(
    network: VelocityNetwork,
    x1: Tensor,
    x0: Tensor,
    t: Tensor,
    support: Tensor,
    visible: Tensor,
    *given: Tensor,
) -> Tensor:
    """Compute the mean over the batch of |v(x_t, t) - (x_1 - x_0)|^2 per value, a scalar."""
    # Not F.mse_loss: forward-mode differentiation of it crashes in compiled graphs.
    return _velocity_squares(network, x1, x0, t, support, visible, *given).mean()


def _velocity_squares(
    network: VelocityNetwork,
    x1: Tensor,
    x0: Tensor,
    t: Tensor,
    support: Tensor,
    visible: Tensor,
    *given: Tensor,
) -> Tensor:
    """Compute (v(x_t, t) - (x_1 - x_0))^2, [B, C, H, W]."""
    at = t[:, None, None, None]
    memory, conditions = network.encode(support), network.encode_given(given)
    velocity = network.velocity((1 - at) * x0 + at * x1, t, memory, visible, conditions)
    return (velocity - (x1 - x0)).square()


def visible_support(batch: Batch) -> Tensor:
    """Mark in [B, K] the support examples that each example may see: all but itself."""
    index = batch.support_index
    positions = torch.arange(len(batch.support), device=index.device)
    return index[:, None] != positions[None, :]


def _check_guidance(config: FlowSamplerConfig, given: Mapping[str, Tensor]) -> None:
    """Refuse guidance towards a condition that the network does not have."""
    names = config.guidance if isinstance(config.guidance, dict) else {}
    if unknown := [name for name in names if name not in (SUPPORT, *given)]:
        raise UserError(
            f"guidance is towards '{printable(unknown[0])}', and the conditions of the model are "
            f"{listed([SUPPORT, *given])}; name one of these."
        )


def random_stream(*key: int) -> torch.Generator:
    """Make a random generator for `key`, independent of those of other keys however close."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed))
