"""A plain training loop over PEFT's layers, which passes the backbone as often as a learner."""

import copy

import peft
import torch
from torch import Tensor, nn
from torch.func import functional_call

from metatrain.config import Config
from metatrain.data.batch import Batch
from metatrain.data.episodes import Episode
from metatrain.generators import Generator
from metatrain.generators.networks.backbone import Backbone
from metatrain.learning.inner.hvp import plain_attention
from metatrain.learning.inner.low_rank import low_rank_terms


class PlainLoop:
    """The generator of a configuration with PEFT's LoRA in the place of ours.

    Args:
        generator: with terms of ours, which is left as it is.
        config: its configuration.

    Attributes:
        generator: the one with PEFT's layers.
    """

    def __init__(self, generator: Generator, config: Config) -> None:
        self.generator, self._config = copy.deepcopy(generator), config
        network = self.generator.network
        assert isinstance(network, Backbone)
        layers = list(low_rank_terms(network.model))
        for layer in map(network.model.get_submodule, layers):
            del layer.lora
            layer._forward_hooks.clear()
        rank = config.inner.scope.rank
        adapter = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=layers)
        peft.inject_adapter_in_model(adapter, network.model)
        self._named = {n: p for n, p in self.generator.named_parameters() if p.requires_grad}
        self._start = {name: p.detach().clone() for name, p in self._named.items()}

    def run(self, learner: str, episode: Episode) -> None:
        """Pass the backbone as the learner does in one meta-step of one episode."""
        {"reptile": self._reptile, "fomaml": self._fomaml, "maml": self._maml}[learner](episode)

    def _reptile(self, episode: Episode) -> None:
        self._train([episode.whole_batch(step) for step in range(self._config.inner.steps)])

    def _fomaml(self, episode: Episode) -> None:
        self._train([episode.support_batch(step) for step in range(self._config.inner.steps)])
        self._loss(episode.query_batch()).backward()

    def _maml(self, episode: Episode) -> None:
        """Differentiate through the steps by autograd, with all their graphs."""
        start = {n: p.clone().requires_grad_() for n, p in self._start.items()}
        phi, rate = dict(start), self._config.inner.lr
        with plain_attention():
            for step in range(self._config.inner.steps):
                draw = self.generator.prepare(episode.support_batch(step))
                loss = functional_call(self.generator, phi, draw)
                slopes = torch.autograd.grad(loss, list(phi.values()), create_graph=True)
                phi = {n: p - rate * g for (n, p), g in zip(phi.items(), slopes, strict=True)}
            draw = self.generator.prepare(episode.query_batch())
            loss = functional_call(self.generator, phi, draw)
        torch.autograd.grad(loss, list(start.values()))

    @torch.no_grad()
    def _reset(self) -> None:
        for name, parameter in self._named.items():
            parameter.copy_(self._start[name])

    def _train(self, batches: list[Batch]) -> None:
        self._reset()
        parameters: list[nn.Parameter] = list(self._named.values())
        optimizer = torch.optim.SGD(parameters, lr=self._config.inner.lr)
        for batch in batches:
            optimizer.zero_grad()
            self._loss(batch).backward()
            optimizer.step()
        optimizer.zero_grad()

    def _loss(self, batch: Batch) -> Tensor:
        return self.generator(*self.generator.prepare(batch))
