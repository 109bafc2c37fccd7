"""The encoders of a network's conditions together."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metatrain.data.examples import Condition
from metatrain.generators.conditions.encoder import ConditionEncoder
from metatrain.generators.conditions.registry import ENCODERS
from metatrain.generators.conditions.sections import EncoderConfig


class Given(NamedTuple):
    """The conditions of B examples, as a network takes them.

    Attributes:
        tokens: [B, L, T], those of all conditions.
        visible: [B, L], where an example has a token.
        summary: [B, E], added to the embedding that modulates the network; 0 where an example has
            no condition.
    """

    tokens: Tensor
    visible: Tensor
    summary: Tensor


class Encoders(nn.Module):
    """An encoder for each condition, and the summary of what they give.

    Args:
        configs: of the encoders, by the name of the condition.
        token: channels of a token (T).
        embedding: channels of the summary (E).
    """

    def __init__(self, configs: Mapping[str, EncoderConfig], token: int, embedding: int) -> None:
        super().__init__()
        self.names, self.configs = tuple(configs), dict(configs)
        # A list, since a condition may have the name of a method.
        self.encoders = nn.ModuleList(
            ENCODERS[config.model_dump()["name"]](config, token) for config in configs.values()
        )
        # Without bias, so that what is missing adds nothing.
        self.summaries = nn.ModuleList(
            nn.Linear(token, embedding, bias=False) for _ in self.encoders
        )

    def tensors(self, given: Mapping[str, Condition], like: Tensor) -> dict[str, Tensor]:
        """Convert the conditions of examples, those that they lack too.

        Args:
            given: the values by name.
            like: [B, ...], a tensor on the device that is used.
        """
        tensors: dict[str, Tensor] = {}
        for name, encoder in self._named():
            values = given.get(name)
            value = encoder.missing(len(like)) if values is None else encoder.tensor(values)
            tensors[name] = value.to(like.device)
        return tensors

    def dropped(
        self, given: Mapping[str, Condition], stream: torch.Generator
    ) -> dict[str, Condition]:
        """Take from some examples some of their conditions, each by its own `dropout`."""
        dropped: dict[str, Condition] = {}
        for name, values in given.items():
            assert isinstance(values, Tensor), "`tensors` made it"
            kept = torch.rand(len(values), generator=stream) >= self.configs[name].dropout
            shape = (-1, *[1] * (values.ndim - 1))
            dropped[name] = values * kept.view(shape).to(values.device, values.dtype)
        return dropped

    def forward(self, tensors: Sequence[Tensor]) -> Given:
        """Encode the conditions of B examples, in the order of `names`."""
        tokens, visible, summaries = [], [], []
        for encoder, summary, values in zip(self.encoders, self.summaries, tensors, strict=True):
            of_one, seen = encoder(values)
            weight = seen.to(of_one.dtype)[:, None]
            mean = (weight @ of_one)[:, 0] / weight.sum(dim=2).clamp(min=1)
            tokens.append(of_one)
            visible.append(seen)
            summaries.append(summary(mean))
        return Given(torch.cat(tokens, 1), torch.cat(visible, 1), torch.stack(summaries).sum(0))

    def _named(self) -> list[tuple[str, ConditionEncoder]]:
        return [
            (name, encoder)
            for name, encoder in zip(self.names, self.encoders, strict=True)
            if isinstance(encoder, ConditionEncoder)
        ]
