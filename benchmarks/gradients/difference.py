"""The error of `Difference` by its step: `python -m benchmarks.gradients.difference`.

Compares one product in float32 with double backward in float64, the vector being the query's
gradient, on glyphs, with random and with trained weights.
"""

import torch

from benchmarks.gradients.cases import Case
from benchmarks.gradients.measure import relative_error
from benchmarks.gradients.trained import glyph_episodes, train
from metatrain.data.episodes import Episode
from metatrain.learning.inner.gradient_field import GradientField
from metatrain.learning.inner.hvp import DoubleBackward, FiniteDifference
from metatrain.learning.inner.theta import Theta

STEPS, TRAINING = (5e-3, 1e-3, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5), 600


def main() -> None:
    """Print a table with a row for every network and kind of weights."""
    torch.set_num_threads(1)
    episodes = glyph_episodes(100)
    print("| weights | " + " | ".join(f"{step:.0e}" for step in STEPS) + " |")
    print("| --- |" + " --: |" * len(STEPS))
    for network in ("unet", "dit"):
        theta = _theta(network, torch.float32)
        for weights in ("random", "trained"):
            if weights == "trained":
                train(theta.generator, episodes, TRAINING)
            row = errors(theta, _theta(network, torch.float64), episodes[3])
            cells = " | ".join(f"{error:.1e}" for error in row)
            print(f"| {network}, {weights} | {cells} |", flush=True)


def errors(theta: Theta, double: Theta, episode: Episode) -> list[float]:
    """Measure the relative error of a product at `theta` for each of `STEPS`.

    Args:
        theta: the weights, in float32.
        double: of the same network in float64; its weights are not read.
        episode: the support to take products on, and the query whose gradient is the vector.
    """
    field, weights, generator = GradientField(theta), theta.copy(), theta.generator
    draw = generator.prepare(episode.support_batch())
    query = generator.prepare(episode.query_batch())
    _, vector = field.gradient(weights, tuple(weights), query)
    exact = DoubleBackward(GradientField(double))(
        {name: w.double() for name, w in weights.items()},
        {name: v.double() for name, v in vector.items()},
        tuple(t.double() if t.is_floating_point() else t for t in draw),
    )
    difference, measured = FiniteDifference(field), []
    for step in STEPS:
        difference.STEP = step
        measured.append(relative_error(difference(weights, vector, draw), exact))
    return measured


def _theta(network: str, dtype: torch.dtype) -> Theta:
    return Case(network, 1, 1, dtype).learner("maml").inner.theta


if __name__ == "__main__":
    main()
