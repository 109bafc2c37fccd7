"""How exact `Difference` is by the length of its step: `python -m benchmarks.gradients.difference`.

The error of one product in float32 against double backward in float64, for the query's gradient as
the vector, on glyphs, with random and with trained weights.
"""

import torch

from benchmarks.gradients.cases import Case, theta_of
from benchmarks.gradients.measure import relative_error
from benchmarks.gradients.trained import glyph_episodes, train
from metatrain.data.episodes import Episode
from metatrain.generators import Generator
from metatrain.learning.inner.hvp import Difference, DoubleBackward

STEPS, TRAINING = (5e-3, 1e-3, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5), 600


def main() -> None:
    """Print a table, a row for every network and kind of weights."""
    torch.set_num_threads(1)
    episodes = glyph_episodes(100)
    print("| weights | " + " | ".join(f"{step:.0e}" for step in STEPS) + " |")
    print("| --- |" + " --: |" * len(STEPS))
    for network in ("unet", "dit"):
        generator = _generator(network, torch.float32)
        for weights in ("random", "trained"):
            if weights == "trained":
                train(generator, episodes, TRAINING)
            found = errors(network, generator, episodes[3])
            cells = " | ".join(f"{error:.1e}" for error in found)
            print(f"| {network}, {weights} | {cells} |", flush=True)


def errors(network: str, generator: Generator, episode: Episode) -> list[float]:
    """The relative error of a product with each of `STEPS`."""
    weights, draw = theta_of(generator), generator.draw(episode.support_batch())
    query = generator.objective(episode.query_batch())
    vector = dict(zip(weights, torch.autograd.grad(query, [*generator.parameters()]), strict=True))
    double = tuple(t.double() if t.is_floating_point() else t for t in draw)
    exact = DoubleBackward(Loss(_generator(network, torch.float64)))(
        {name: w.double() for name, w in weights.items()},
        {name: v.double() for name, v in vector.items()},
        double,
    )
    difference, found = Difference(Loss(generator)), []
    for step in STEPS:
        difference.STEP = step
        found.append(relative_error(difference(weights, vector, draw), exact))
    return found


def _generator(network: str, dtype: torch.dtype) -> Generator:
    return Case(network, 1, 1, dtype).learner("maml").inner.generator


if __name__ == "__main__":
    main()
