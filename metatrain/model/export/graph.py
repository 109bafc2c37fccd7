"""Adapted models as functions of tensors alone, which graph formats can hold."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from metatrain.base.errors import MissingStepError, UserError
from metatrain.generators import Codec, Generator
from metatrain.generators.codecs.codec import Identity
from metatrain.generators.networks.adversarial import LATENT, AdversarialNetwork
from metatrain.generators.networks.velocity import VelocityNetwork
from metatrain.generators.objectives.adversarial import Adversarial
from metatrain.generators.objectives.flow import FlowMatching
from metatrain.model.model import Model

# Rows of an example input: more than one, or the batch would be taken for a constant.
_ROWS = 2


class Graph(NamedTuple):
    """A function of tensors of one batch size, whatever that is.

    Attributes:
        module: maps the inputs, in their order, to one tensor [B, ...].
        inputs: an example of each, [2, ...].
        output: the name of the result.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    output: str

    def rows(self, count: int) -> dict[str, Tensor]:
        """Return example inputs of `count` rows."""
        return {name: x[torch.arange(count) % _ROWS] for name, x in self.inputs.items()}


class _Velocity(nn.Module):
    """The velocity of an adapted flow; what the network remembers of the support is a constant.

    So is the length of the steps that the network is to be sampled in, where it knows that.
    """

    memory: Tensor

    def __init__(self, network: VelocityNetwork, support: Tensor, flow: FlowMatching[Any]) -> None:
        super().__init__()
        self.network, self.flow = network, flow
        self.register_buffer("memory", network.encode(support))

    @override
    def forward(self, x: Tensor, t: Tensor, sees_support: Tensor) -> Tensor:
        visible = sees_support[:, None].expand(-1, self.memory.shape[0])
        given = self.flow.paced(self.network, None, self.memory, t, self.flow.config.sampler)
        return self.network.velocity(x, t, self.memory, visible, given)


class _OnePass(nn.Module):
    """The generator of an adapted GAN; its summary of the support is a constant."""

    condition: Tensor

    def __init__(self, network: AdversarialNetwork, support: Tensor) -> None:
        super().__init__()
        self.network = network
        visible = torch.ones(1, len(support), dtype=torch.bool)
        self.register_buffer("condition", network.condition(support, visible))

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.network.generate(x, self.condition.expand(x.shape[0], -1))


class _Decoder(nn.Module):
    """The way from latents to pixels."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    @override
    def forward(self, latents: Tensor) -> Tensor:
        return self.codec.decode(latents)


def sampling_generator(model: Model) -> Generator:
    """Return the generator of an adapted model, on the CPU.

    Raises:
        MissingStepError: when the model was not adapted.
        UserError: when it takes conditions beside the support.
    """
    if model.support is None:
        raise MissingStepError("this model has not been adapted, and has no support.", step="adapt")
    generator = model.to("cpu").generator().eval().requires_grad_(False)
    network = generator.network
    if isinstance(network, VelocityNetwork) and network.converters:
        raise UserError(
            "the model takes conditions beside its support (generator.conditions), and an exported "
            "network has no input for them; export a model without."
        )
    return generator


@torch.no_grad()
def network_graph(model: Model, generator: Generator) -> Graph:
    """Return the network of an adapted model, with what it takes of the support as constants.

    The inputs of a flow are the state `x` [B, C, H, W], the time `t` [B] and whether each row
    `sees_support` [B]; the output is its `velocity`. The input of a GAN is its latents `x`, and the
    output `samples`.

    Args:
        model: the model.
        generator: its generator; see `sampling_generator`.

    Raises:
        UserError: when its objective samples in another way.
    """
    assert model.support is not None
    support = generator.latents(model.support.to(torch.device("cpu"))).target
    objective, network = generator.objective, generator.network
    if isinstance(objective, FlowMatching) and isinstance(network, VelocityNetwork):
        x, t = torch.randn(_ROWS, *objective.shape), torch.linspace(0.25, 0.75, _ROWS)
        inputs = {"x": x, "t": t, "sees_support": torch.tensor([True, False])}
        return Graph(_Velocity(network, support, objective), inputs, "velocity")
    if isinstance(objective, Adversarial) and isinstance(network, AdversarialNetwork):
        return Graph(_OnePass(network, support), {"x": torch.randn(_ROWS, LATENT)}, "samples")
    raise UserError(
        f"the model's objective is {model.config.objective.name}; only flows and GANs "
        f"(objective.name=flow, meanflow, distill, adversarial) can be exported as graphs."
    )


def decoder_graph(generator: Generator) -> Graph | None:
    """Return the map from `latents` [B, c, h, w] to `images` [B, C, H, W]; None where it is none.

    Images lie in [-1, 1] once they are clamped.
    """
    if isinstance(generator.codec, Identity):
        return None
    latents = torch.randn(_ROWS, *generator.objective.shape)
    return Graph(_Decoder(generator.codec), {"latents": latents}, "images")
