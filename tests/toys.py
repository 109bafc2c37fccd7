"""Objectives of a few lines, over networks of a few parameters."""

from metatrain.generators import (
    Generator,
    Network,
    NetworkConfig,
    Objective,
    ObjectiveConfig,
    Term,
)
from metatrain.generators.codecs.codec import Identity, IdentityConfig
from metatrain.learning.inner.rule import InnerRule
from metatrain.learning.inner.theta import Theta


class ToyNetwork(Network):
    """A network without settings, for images of any size."""

    Config = NetworkConfig

    def __init__(self):
        super().__init__(NetworkConfig(), (1, 1, 1))


class ToyObjective(Objective):
    """Terms, and what they need of a batch, as functions."""

    Config = ObjectiveConfig

    def __init__(self, prepare, *terms, updates=None):
        super().__init__(ObjectiveConfig(), (1, 1, 1))
        self._prepare, self._terms, self._updates = prepare, terms, updates

    @property
    def terms(self):
        return self._terms

    @property
    def updates(self):
        return self._updates or super().updates

    def check(self, network):
        pass

    def prepare(self, batch, *, training):
        return self._prepare(batch)

    def sample(self, network, support, count, seed, sampler):
        raise AssertionError("nothing samples from a toy")


def toy_generator(network, prepare, *losses, updates=None):
    """A generator of `network` with a term for each loss, or for each (loss, moves)."""
    terms = [Term(*loss) if isinstance(loss, tuple) else Term(loss) for loss in losses]
    objective = ToyObjective(prepare, *terms, updates=updates)
    return Generator(network, objective, Identity(IdentityConfig()))


def toy_theta(network, prepare, *losses, updates=None):
    return Theta(toy_generator(network, prepare, *losses, updates=updates), InnerRule())
