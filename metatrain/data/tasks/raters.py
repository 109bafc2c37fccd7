"""Raters with a hidden taste, who choose with noise."""

from dataclasses import dataclass

import numpy as np

from metatrain.data.rated import GREY_TRAITS, NAMED_TRAITS
from metatrain.data.tasks.random_streams import random_stream

# The purpose of the random streams, see `random_streams`; the numbers before are other purposes.
_TASTE = 2
# The slope of Bradley and Terry's sigmoid in standard deviations of the taste: of two random
# drawings the better one is then chosen about 8 times in 10.
_SLOPE = 2.0


@dataclass(frozen=True)
class Rater:
    """A rater of drawings, whose taste is a direction of their traits.

    Attributes:
        name: the rater's name, which tells a named taste.
        weights: of the traits, of length 1.
    """

    name: str
    weights: tuple[float, ...]

    def utilities(self, traits: np.ndarray) -> np.ndarray:
        """Compute the utility of drawings, [N] in float64, by their traits [N, D]."""
        return traits.astype(np.float64) @ np.array(self.weights)


def rater_of(key: int, number: int, *, traits: int, channels: int, named: float) -> Rater:
    """Return a rater: a pure function of the key of a seed and a split, and of a number.

    Args:
        key: see `metatrain.data.tasks.random_streams.stream_key`.
        number: of the rater.
        traits: the number of all traits.
        channels: of a drawing; of one channel, no taste is for a colour.
        named: the probability that the taste is for or against one trait with a name.
    """
    stream = random_stream(key, _TASTE, number)
    weights = np.zeros(traits)
    if stream.random() < named:
        trait = int(stream.integers(GREY_TRAITS if channels == 1 else len(NAMED_TRAITS)))
        weights[trait] = stream.choice([-1.0, 1.0])
        taste = f"{'not ' if weights[trait] < 0 else ''}{NAMED_TRAITS[trait]}"
    else:
        direction = stream.standard_normal(traits - len(NAMED_TRAITS))
        weights[len(NAMED_TRAITS) :] = direction / np.linalg.norm(direction)
        taste = "linear"
    return Rater(f"rater {number}, {taste}", tuple(weights.tolist()))


def better_of(utilities: np.ndarray, scale: float, stream: np.random.Generator) -> np.ndarray:
    """Choose one of each pair with noise, by Bradley and Terry 1952.

    Args:
        utilities: [N, 2].
        scale: the standard deviation of the utility over drawings.
        stream: of the noise.

    Returns:
        [N], the place of the better one, 0 or 1.
    """
    lead = _SLOPE * (utilities[:, 0] - utilities[:, 1]) / max(scale, 1e-12)
    return (stream.random(len(lead)) * (1 + np.exp(-lead.clip(-50, 50))) >= 1).astype(np.int64)
