"""The generator: a network, the objective it is trained on, and the codec between it and pixels."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from metatrain.base.section import Section
from metatrain.data.batch import Batch
from metatrain.data.examples import Condition, Examples, repeated_to
from metatrain.generators.codecs.codec import Codec
from metatrain.generators.networks.network import Network
from metatrain.generators.objectives.flow import random_stream
from metatrain.generators.objectives.objective import Draw, Objective

# Tells the random stream of conditions that are dropped from that of the objective's noise.
_DROPOUT = 1


class Generator(nn.Module):
    """A network with its objective and its codec.

    Learners call `prepare` and `forward`; callers that want images call `sample`.

    Args:
        network: holds the parameters.
        objective: the loss terms that they minimise.
        codec: the map between pixels and what the network sees.

    Raises:
        UserError: when the network cannot be trained on the objective.
    """

    def __init__(self, network: Network, objective: Objective, codec: Codec) -> None:
        super().__init__()
        objective.check(network)
        objective.install(network)
        self.network, self.objective = network, objective
        self.codec = codec.requires_grad_(False)

    def prepare(self, batch: Batch) -> Draw:
        """Compute the draw of `batch`: all that the objective needs, with noise from its seed."""
        encoded = self.encoded(batch)
        if self.training and encoded.examples.given:
            stream = random_stream(batch.seed, batch.noise_index, _DROPOUT)
            given = self.network.dropped(encoded.examples.given, stream)
            encoded = replace(encoded, examples=replace(encoded.examples, given=given))
        return self.objective.prepare(encoded, training=self.training)

    def forward(self, *draw: Tensor, term: int = 0) -> Tensor:
        """Compute one term of the objective, a scalar: a function of weights and `draw` alone."""
        return self.objective.terms[term].loss(self.network, *draw)

    def losses(self, batch: Batch) -> list[Tensor]:
        """Compute all terms of the objective on `batch`."""
        draw = self.prepare(batch)
        return [self(*draw, term=term) for term in range(len(self.objective.terms))]

    @torch.no_grad()
    def encoded(self, batch: Batch) -> Batch:
        """Replace the images of `batch` by their latents, and conditions by what encoders take."""
        examples, support = self.latents(batch.examples), self.latents(batch.support)
        return replace(batch, examples=examples, support=support)

    @torch.no_grad()
    def encoded_ahead(self, examples: Examples) -> Examples:
        """Replace the targets of `examples` by latents, once for all batches that are made of them.

        Examples whose conditions are images, which are encoded with them, stay as they are.
        """
        if examples.encoded or self.objective.images:
            return examples
        return replace(examples, target=self._encode(examples.target), encoded=True)

    @torch.no_grad()
    def sample(
        self,
        support: Examples,
        count: int,
        seed: int,
        sampler: Section | None = None,
        given: Mapping[str, Condition] | None = None,
    ) -> Tensor:
        """Sample `count` images [count, C, H, W] in [-1, 1] given `support`.

        The same `seed` gives the same noise whatever the weights are, so that images after
        different inner steps differ only by what was learned.

        Args:
            support: the examples to condition on.
            count: how many images.
            seed: of the noise.
            sampler: settings in place of the configured ones, of the objective's own section.
            given: by name, a condition for every image, or for as many as are repeated in turn;
                by default those of the support's examples.
        """
        latents = self.latents(support)
        values = support.given if given is None else given
        repeated = {name: repeated_to(count, condition) for name, condition in values.items()}
        conditions = self.network.conditions(repeated, support.target.new_empty(count))
        tensors = {name: c for name, c in conditions.items() if isinstance(c, Tensor)}
        samples = self.objective.sample(self.network, latents, count, seed, sampler, tensors)
        return self.codec.decode(samples).clamp(-1, 1)

    @torch.no_grad()
    def latents(self, examples: Examples) -> Examples:
        """Replace images by their latents where they are none, and conditions as encoders take."""
        given = dict(self.network.conditions(examples.given, examples.target))
        encode = _unchanged if examples.encoded else self._encode
        for name in self.objective.images:
            images = examples.given.get(name)
            if isinstance(images, Tensor):
                given[name] = encode(images)
        return replace(examples, target=encode(examples.target), given=given, encoded=True)

    def _encode(self, images: Tensor) -> Tensor:
        """Encode images [..., C, H, W]."""
        if not images.numel():  # some layers, as pixel_unshuffle, leave what is empty as it is
            return images.new_empty(*images.shape[:-3], *self.network.shape)
        return self.codec.encode(images.flatten(0, -4)).unflatten(0, images.shape[:-3])


def _unchanged(latents: Tensor) -> Tensor:
    return latents
