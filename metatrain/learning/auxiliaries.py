"""Auxiliary losses: outer gradients that are added to those of any learner."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.generators.networks.velocity import VelocityNetwork
from metatrain.generators.objectives.flow import FlowMatching
from metatrain.learning.config import AuxiliaryConfig
from metatrain.learning.learners import Gather, Learner, OuterGradient


class Auxiliaries:
    """The outer gradients of the auxiliary losses.

    Args:
        config: their weights.
        learner: provides the generator and the inner loop.
        slots: this worker's slots of the meta-batch.
        gather: see `metatrain.learning.learners.Gather`.

    Raises:
        UserError: when a loss is enabled that the objective does not support.
    """

    def __init__(
        self, config: AuxiliaryConfig, learner: Learner, slots: range, gather: Gather
    ) -> None:
        self.config, self.inner, self.slots, self.gather = config, learner.inner, slots, gather
        self._generator = learner.inner.generator
        self._fixed = frozenset(learner.inner.scope if learner.fixed_start else ())
        flows = isinstance(self._generator.objective, FlowMatching)
        if (config.contrast or config.masked) and not flows:
            raise UserError(
                "auxiliary.contrast and auxiliary.masked need objective.name=flow; set both to 0."
            )

    def add_to(
        self, outer: OuterGradient, theta: Parameters, episodes: Sequence[Episode]
    ) -> OuterGradient:
        """Add the auxiliary gradients of `episodes` to `outer`, summed as it is.

        The losses join its metrics as `contrast` and `masked`, without their weights. Collective
        where `contrast` is used.
        """
        if not (self.config.contrast or self.config.masked):
            return outer
        gradient, metrics = dict(outer.gradient), dict(outer.metrics)
        self.inner.start(theta)
        if self.config.contrast:
            loss, value = self._contrast(episodes)
            self._add(gradient, self.config.contrast * loss)
            metrics["contrast"] = value
        for episode in episodes if self.config.masked else ():
            loss = self._masked(episode)
            self._add(gradient, self.config.masked * loss)
            metrics["masked"] = metrics.get("masked", 0.0) + loss.detach()
        return replace(outer, gradient=gradient, metrics=metrics)

    def _contrast(self, episodes: Sequence[Episode]) -> tuple[Tensor, Tensor]:
        """Compute the loss of the whole meta-batch, with this worker's part of it in the graph.

        The workers' gradients of it add up to its gradient.

        Returns:
            That loss, and the loss of this worker's episodes, detached.
        """
        local = [(self._embedding(e.support), self._embedding(e.query)) for e in episodes]
        gathered = self.gather([torch.stack(pair).detach().cpu() for pair in local])
        pairs = [embeddings.to(local[0][0]) for embeddings in gathered]
        for slot, pair in zip(self.slots, local, strict=True):
            pairs[slot] = torch.stack(pair)
        anchors, positives = torch.stack(pairs).unbind(dim=1)
        losses = info_nce(anchors, positives, self.config.temperature)
        return losses.sum(), losses.detach()[list(self.slots)].sum()

    def _embedding(self, examples: Examples) -> Tensor:
        latents = self._generator.latents(examples)
        return self._network.embed(latents.target).mean(dim=0)

    def _masked(self, episode: Episode) -> Tensor:
        """Compute the mean squared error of restored values over the hidden ones."""
        batch = self._generator.encoded(episode.whole_batch())
        stream, target = torch.Generator().manual_seed(episode.seed), batch.examples.target
        shape = (len(target), 1, *target.shape[2:])
        hidden = (torch.rand(shape, generator=stream) < self.config.hidden).to(target)
        flow = cast(FlowMatching, self._generator.objective)
        error = (flow.restore(self._network, batch, hidden) - target).square()
        return (hidden * error).sum() / (hidden.sum().clamp(min=1) * target.shape[1])

    @property
    def _network(self) -> VelocityNetwork:
        return cast(VelocityNetwork, self._generator.network)

    def _add(self, gradient: Parameters, loss: Tensor) -> None:
        parameters = self.inner.theta.named()
        slopes = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
        for name, slope in zip(parameters, slopes, strict=True):
            if name not in self._fixed:
                gradient[name] = gradient[name] + slope


def info_nce(anchors: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, eq. 4) with cosines for similarities.

    -log(exp(s_ii / t) / sum_j exp(s_ij / t)), s_ij the cosine of anchor i and positive j.

    Args:
        anchors: [M, E], one per task.
        positives: [M, E], of the same tasks.
        temperature: t.

    Returns:
        The loss of each task, [M].
    """
    cosines = F.normalize(anchors, dim=1) @ F.normalize(positives, dim=1).T
    return F.cross_entropy(
        cosines / temperature, torch.arange(len(anchors), device=anchors.device), reduction="none"
    )
