"""The inner loop on shards of the weights, data-parallel over the images of a step."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from typing_extensions import override

from cluster.engine.zero3 import ShardedEngine
from metatrain.base.parameters import Parameters
from metatrain.config import Config
from metatrain.data.batch import Batch
from metatrain.generators import Draw
from metatrain.learning.inner.config import Precision
from metatrain.learning.inner.gradient_field import GradientField
from metatrain.learning.inner.loop import InnerLoop
from metatrain.learning.inner.theta import Theta
from metatrain.learning.learners import LEARNERS, Learner
from metatrain.model.build import build_theta


def build_sharded_learner(config: Config, engine: ShardedEngine) -> Learner:
    """Build the configured learner, whose inner loop works on the shards of `engine`."""
    return LEARNERS[config.learner.name](config.learner, ShardedInnerLoop(config, engine))


class ShardedInnerLoop(InnerLoop):
    """Inner loop in which phi, gradients and moments are shards, like theta.

    Every worker of a group takes the same steps on its part of the images; DeepSpeed gathers the
    weights of one layer at a time and scatters their gradient.

    Args:
        config: the run's configuration.
        engine: has the shards that phi is written to.
    """

    def __init__(self, config: Config, engine: ShardedEngine) -> None:
        with torch.device("meta"):  # for names and draws, since the weights are the engine's
            theta = build_theta(config)
        super().__init__(
            theta,
            config.inner,
            hvp=config.meta.hvp,
            proximity=LEARNERS[config.learner.name].proximity(config.learner),
            field=_ShardedField(theta, config.inner.precision, engine),
        )
        self._parameters = {n: nn.Parameter(p.clone()) for n, p in engine.local().items()}

    @override
    def _slope(self, moved: Mapping[str, nn.Parameter], batch: Batch) -> tuple[Parameters, Tensor]:
        loss, gradient = self.field.gradient(self.phi(), tuple(moved), self.prepare(batch))
        return gradient, loss


class _ShardedField(GradientField):
    """Gradient field at shards of all weights, of which each worker computes a part."""

    def __init__(self, theta: Theta, precision: Precision, engine: ShardedEngine) -> None:
        super().__init__(theta, precision)
        self._engine = engine

    @override
    def gradient_of(
        self, term: int, weights: Parameters, names: tuple[str, ...], draw: Draw
    ) -> tuple[Tensor, Parameters]:
        """Compute a term and its gradient. Collective in the group."""
        shard, shards, count = self._engine.mesh.shard, self._engine.mesh.shards, len(draw[0])
        first, last = count * shard // shards, count * (shard + 1) // shards
        # With fewer images than workers some take one of weight 0, since every worker is needed to
        # gather the weights.
        rows = slice(first, max(last, first + 1))
        share = self.theta.generator.objective.share(draw, rows)
        weight = shards * (last - first) / count
        gradient, loss = self._engine.gradient_at(weights, share, weight, term)
        return loss, {name: gradient[name] for name in names}

    @override
    def dot(self, a: Parameters, b: Parameters) -> Tensor:
        """Compute the inner product of two trees of shards. Collective in the group."""
        return self._engine.dot(a, b)
