"""Models compared under degradations inside and outside those of their training.

    python -m benchmarks.super_resolution.degradations DATA --model joint=RUN --model maml++=RUN

DATA is a packed data set of photographs. Those of its split test are degraded, and enlarged after
0, 1, 5 and 10 inner steps. A NAME given again is another seed of the same model. A model without
learned rates adapts at the rate that is best on photographs of the split val, under the same
degradations. Prints the PSNR of Y of the first model, and what the others are above it: paired
differences with 95% intervals, by the bootstrap over photographs.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.super_resolution.sets import Pair, degraded, rgb
from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.config import with_values
from metatrain.data.degradations.degradation import Degradation
from metatrain.data.degradations.kernels import gaussian, motion
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.photo import Photo
from metatrain.evaluation.scores.statistics import Score, mean_of, score
from metatrain.learning.inner.theta import RULE
from metatrain.metrics.super_resolution import psnr_y
from metatrain.model.enlarge import enlarged, enlarging_network
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.model.self_support import support_of

# Side of the kernels in pixels.
_SIZE = 33
_MILD = gaussian(_SIZE, (1.4, 1.4))

# The training of configs/super-resolution.yaml has Gaussians of sigma 0.4 to 2.0 along each axis.
DEGRADATIONS = {
    name: Degradation(2, kernel, "direct", noise)
    for name, kernel, noise in (
        ("inside: Gaussian 1.4", _MILD, 0.0),
        ("inside: anisotropic 1.9, 0.7", gaussian(_SIZE, (1.9, 0.7), 0.7), 0.0),
        ("outside: Gaussian 2.8", gaussian(_SIZE, (2.8, 2.8)), 0.0),
        ("outside: anisotropic 3.5, 1.0", gaussian(_SIZE, (3.5, 1.0), 0.7), 0.0),
        ("outside: motion 9", motion(_SIZE, 9.0, 0.7), 0.0),
        ("outside: Gaussian 1.4, noise 4", _MILD, 4.0),
    )
}

# By degradation and inner steps, the PSNR of each photograph.
Results = dict[str, dict[int, list[float]]]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    arguments = _parse(argv)
    sets = _sets(arguments.data, "test", arguments.images, arguments.side, arguments.scale)
    val = _sets(arguments.data, "val", arguments.tuning, arguments.side, arguments.scale)
    results: dict[str, list[Results]] = {}
    for named in arguments.model:
        name, url = named.split("=", 1)
        model = _at_best_rate(load_model(url, trust=True), val, arguments.factors, arguments.steps)
        if not _learned(model):
            print(f"{named}: adapts at {model.config.adapt.lr:g}", flush=True)
        results.setdefault(name, []).append(_measured(model, sets, arguments.steps))
    print(_table({name: _mean(seeds) for name, seeds in results.items()}))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "degradations.json").write_text(json.dumps(results, indent=1))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Super-resolution under unseen degradations.")
    add = parser.add_argument
    add("data", metavar="DATA", help="packed data set of photographs")
    add("--model", metavar="NAME=RUN", action="append", required=True, help="repeatable")
    add("--steps", type=int, nargs="+", default=[0, 1, 5, 10], help="inner steps to measure at")
    add("--factors", type=float, nargs="+", default=[0.3, 1.0, 3.0], help="of adapt.lr, to try")
    add("--images", type=int, default=40, help="photographs of the split test (40)")
    add("--tuning", type=int, default=4, help="photographs of the split val (4)")
    add("--side", type=int, default=128, help="of the photographs' middles, in pixels (128)")
    add("--scale", type=int, choices=[2, 3, 4], default=2)
    add("--out", type=Path, help="folder of degradations.json")
    return parser.parse_args(argv)


Sets = Mapping[str, list[tuple[Pair, Degradation]]]


def _sets(url: str, split: str, count: int, side: int, scale: int) -> Sets:
    """Degrade the middles of the first photographs of a split, in each way."""
    store = EpisodeStore(url)
    highs = list[tuple[str, np.ndarray]]()
    for task in store.tasks(split)[:count]:
        pixels = rgb(store.read(task, [0])[0])
        if min(pixels.shape[:2]) < side:
            raise UserError(f"photograph '{task.name}' is smaller than --side {side}; lower it.")
        top, left = ((length - side) // 2 for length in pixels.shape[:2])
        highs.append((task.name, pixels[top : top + side, left : left + side]))
    scaled = {name: replace(of, scale=scale) for name, of in DEGRADATIONS.items()}
    return {name: [(degraded(*high, of), of) for high in highs] for name, of in scaled.items()}


def _measured(model: Model, sets: Sets, steps: Sequence[int]) -> Results:
    results: Results = {}
    for name, pairs in sets.items():
        by_image = [_psnr(model, *pair, steps) for pair in tracked(name, pairs, len(pairs))]
        results[name] = {k: [scores[k] for scores in by_image] for k in steps}
    return results


def _psnr(
    model: Model, pair: Pair, degradation: Degradation, steps: Sequence[int]
) -> dict[int, float]:
    """Adapt to an image, and return the PSNR after each number of inner steps."""
    data, photo, scores = model.config.data, Photo(pair.low), {}
    support = support_of(photo, degradation, channels=data.channels, size=data.image_size)
    for at in model.adapt_stepwise(support, steps=max(*steps, 1)):
        if at.step in steps:
            network = enlarging_network(at.model().generator())
            large = enlarged(network, photo, degradation.scale, data.channels)
            scores[at.step] = psnr_y(large.pixels, pair.high, degradation.scale)
    return scores


def _at_best_rate(
    model: Model, sets: Sets, factors: Sequence[float], steps: Sequence[int]
) -> Model:
    if _learned(model):
        return model
    rates = [factor * model.config.adapt.lr for factor in factors]
    candidates = [
        replace(model, config=with_values(model.config, {"adapt.lr": rate})) for rate in rates
    ]
    last = [max(steps)]

    def value(candidate: Model) -> float:
        measured = _measured(candidate, sets, last)
        return float(np.mean([of[last[0]] for of in measured.values()]))

    return max(candidates, key=value)


def _learned(model: Model) -> bool:
    return any(name.startswith(RULE) for name in model.parameters)


def _mean(seeds: Sequence[Results]) -> Results:
    first = seeds[0]
    return {
        name: {k: np.mean([of[name][k] for of in seeds], axis=0).tolist() for k in first[name]}
        for name in first
    }


def _table(results: Mapping[str, Results]) -> str:
    base, *others = results
    lines = [
        f"| degradation | steps | {base}, dB | {' | '.join(f'{o} minus {base}' for o in others)} |",
        "|---|--:|--:|" + "--:|" * len(others),
    ]
    for name, by_steps in results[base].items():
        for k in by_steps:
            ours = _score(results[base][name][k])
            apart = (_score(results[other][name][k]).minus(ours) for other in others)
            cells = (f"{d.value:+.2f} [{d.low:+.2f}, {d.high:+.2f}]" for d in apart)
            lines.append(f"| {name} | {k} | {ours.value:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _score(values: Sequence[float]) -> Score:
    return score(mean_of(torch.tensor(values)), len(values))


if __name__ == "__main__":
    main()
