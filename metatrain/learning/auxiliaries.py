"""Auxiliary losses: outer gradients that join those of any learner."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from metatrain.base.parameters import Parameters
from metatrain.base.section import Section
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.learning.learners import Gather, Learner, OuterGradient


class AuxiliaryConfig(Section):
    """Losses beside the learner's own, at theta; a weight of 0 leaves one out."""

    contrast: float = Field(
        default=0.0, ge=0, description="Weight of InfoNCE between the tasks of a meta-batch."
    )
    temperature: float = Field(default=0.1, gt=0, description="Temperature of InfoNCE.")
    masked: float = Field(default=0.0, ge=0, description="Weight of masked-pixel denoising.")
    hidden: float = Field(
        default=0.5, gt=0, lt=1, description="Share of the pixels that are hidden from it."
    )


class Auxiliaries:
    """Makes the outer gradients of the auxiliary losses.

    Args:
        config: their weights.
        learner: lends its generator.
        slots: this worker's slots of the meta-batch.
        gather: see `metatrain.learning.learners.Gather`.
    """

    def __init__(
        self, config: AuxiliaryConfig, learner: Learner, slots: range, gather: Gather
    ) -> None:
        self.config, self.inner, self.slots, self.gather = config, learner.inner, slots, gather
        self._fixed = frozenset(learner.inner.scope if learner.fixed_start else ())

    def add_to(
        self, outer: OuterGradient, theta: Parameters, episodes: Sequence[Episode]
    ) -> OuterGradient:
        """`outer` with the auxiliary gradients of `episodes` added, summed like its own.

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
        return OuterGradient(gradient, metrics, outer.failed)

    def _contrast(self, episodes: Sequence[Episode]) -> tuple[Tensor, Tensor]:
        """The loss of the whole meta-batch, with this worker's part of it in the graph.

        The workers' gradients of it add up to its gradient. Also the loss of the own episodes.
        """
        own = [(self._embedding(e.support), self._embedding(e.query)) for e in episodes]
        everyones = self.gather([torch.stack(pair).detach().cpu() for pair in own])
        pairs = [embeddings.to(own[0][0]) for embeddings in everyones]
        for slot, pair in zip(self.slots, own, strict=True):
            pairs[slot] = torch.stack(pair)
        anchors, positives = torch.stack(pairs).unbind(dim=1)
        losses = info_nce(anchors, positives, self.config.temperature)
        return losses.sum(), losses.detach()[list(self.slots)].sum()

    def _embedding(self, examples: Examples) -> Tensor:
        return self.inner.generator.embed(examples.target).mean(dim=0)

    def _masked(self, episode: Episode) -> Tensor:
        """Mean squared error over hidden pixels of what the generator makes of the others."""
        batch = episode.whole_batch()
        stream = torch.Generator().manual_seed(episode.seed)
        images = batch.examples.target
        shape = (len(images), 1, *images.shape[2:])
        hidden = (torch.rand(shape, generator=stream) < self.config.hidden).to(images)
        error = (self.inner.generator.restore(batch, hidden) - images).square()
        return (hidden * error).sum() / (hidden.sum().clamp(min=1) * images.shape[1])

    def _add(self, gradient: Parameters, loss: Tensor) -> None:
        parameters = dict(self.inner.generator.named_parameters())
        slopes = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
        for name, slope in zip(parameters, slopes, strict=True):
            if name not in self._fixed:
                gradient[name] = gradient[name] + slope


def info_nce(anchors: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, eq. 4) with cosines for similarities.

    -log(exp(s_ii / t) / sum_j exp(s_ij / t)), s_ij the cosine of anchor i and positive j.

    Args:
        anchors: [M, E], one a task.
        positives: [M, E], of the same tasks.
        temperature: t.

    Returns:
        The loss of each task, [M].
    """
    cosines = F.normalize(anchors, dim=1) @ F.normalize(positives, dim=1).T
    return F.cross_entropy(
        cosines / temperature, torch.arange(len(anchors), device=anchors.device), reduction="none"
    )
