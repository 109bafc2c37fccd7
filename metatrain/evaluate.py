"""Evaluation on held-out tasks: one protocol, with the baselines beside it.

Of every task the model sees `shots` support images and nothing else. Of the others, some are the
reference that everything is compared with, and as many play the perfect generator.
"""

import json
import time
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from metatrain.adapt import Adapter
from metatrain.errors import UserError
from metatrain.files import write_file
from metatrain.loader import held_out_episodes
from metatrain.metrics.kid import kid
from metatrain.metrics.network import HashedNetwork, metric_network
from metatrain.metrics.retrieval import own_task_share
from metatrain.model import Model
from metatrain.pictures import png
from metatrain.progress import Progress
from metatrain.store import EpisodeStore
from metatrain.strips import Strip, draw_strips, steps_shown

# Images drawn of a task, its reference images, its held-out real ones, and, where there are as
# many shots, of its support: the same number, so that no score profits from a larger sample.
IMAGES = 5

# Tasks whose images are kept, to be looked at.
STRIPS = 12


@dataclass(frozen=True)
class Score:
    """How images compare with the reference.

    Attributes:
        kid: pooled over tasks, in the metric network's space; 0 is perfect, lower is better.
        own_task: share of the images whose nearest task is their own; higher is better.
        own_task_error: standard error of `own_task` over tasks.
    """

    kid: float
    own_task: float
    own_task_error: float


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and what one must know to read it.

    Attributes:
        split: the tasks' split.
        tasks: their names, in the order of the strips.
        shots: support images of each task.
        images: images drawn, reference images and held-out real images of each task.
        outer_steps: outer steps behind the model.
        data: sha256 of the data set's manifest.
        metric_network: sha256 of the network in whose space was measured.
        seconds: time of adapting to one task, taken once, with nothing drawn.
        baselines: scores of copying the support, and of held-out real images (the ceiling).
        steps: by number of inner steps, the model's scores; 0 is the unadapted model.
        query_loss: by number of inner steps, the mean loss on held-out images.
    """

    split: str
    tasks: list[str]
    shots: int
    images: int
    outer_steps: int
    data: str
    metric_network: str
    seconds: float
    baselines: dict[str, Score]
    steps: dict[int, Score]
    query_loss: dict[int, float]


def evaluate(
    model: Model, store: EpisodeStore, network: HashedNetwork, *, split: str, tasks: int
) -> tuple[Evaluation, list[Strip]]:
    """Adapt to up to `tasks` tasks of `split`, draw, and score.

    Tasks with fewer than shots + 2 * `IMAGES` images are passed over.

    Raises:
        UserError: when that leaves fewer than two tasks.
    """
    config = model.config
    episodes = held_out_episodes(store, config, split=split, tasks=tasks, queries=2 * IMAGES)
    if len(episodes) < 2:
        raise UserError(f"split '{split}' has one task only; scores need at least two.")
    shown = steps_shown(config)
    progress = Progress("adapting to unseen tasks", len(episodes))
    strips: list[Strip] = []
    for strip in draw_strips(model, episodes, shown, IMAGES):
        strips.append(strip)
        progress.update(len(strips))
    progress.close()
    reference = network.features(torch.stack([strip.query[:IMAGES] for strip in strips]))

    def score(images: list[Tensor]) -> Score:
        return _score(network.features(torch.stack(images)), reference)

    evaluation = Evaluation(
        split=split,
        tasks=[strip.task for strip in strips],
        shots=config.data.shots,
        images=IMAGES,
        outer_steps=model.step,
        data=store.fingerprint,
        metric_network=network.sha256,
        seconds=_seconds_to_adapt(model, strips[0].support),
        baselines={
            "copy-support": score([strip.support[:IMAGES] for strip in strips]),
            "held-out real": score([strip.query[IMAGES:] for strip in strips]),
        },
        steps={n: score([strip.drawn[n] for strip in strips]) for n in shown},
        query_loss={n: _mean([strip.query_loss[n] for strip in strips]) for n in shown},
    )
    return evaluation, strips


def evaluate_to_folder(model: Model, data: str, out: str, *, split: str, tasks: int) -> Evaluation:
    """Evaluate, and write `evaluation.json` with the images of every strip under `out`.

    Args:
        model: a meta-trained model.
        data: URL of a packed data set.
        out: folder to write to, a path or any fsspec URL; the metric network is kept there too.
        split: the tasks' split.
        tasks: how many tasks at most.
    """
    store = EpisodeStore(data)
    network = metric_network(store, model.config.data, f"{out}/metric.safetensors")
    evaluation, strips = evaluate(model, store, network, split=split, tasks=tasks)
    for i, strip in enumerate(strips[:STRIPS]):
        _write_strip(strip, f"{out}/{strip_folder(i)}")
    # Last, since it is what says that the evaluation is complete.
    write_file(f"{out}/evaluation.json", json.dumps(asdict(evaluation), indent=1).encode())
    return evaluation


def strip_folder(index: int) -> str:
    """The folder of a strip: by number, since a task's name may have any character."""
    return f"strips/{index:02d}"


def table(evaluation: Evaluation) -> str:
    """The scores as a table for a terminal."""
    last = max(evaluation.steps)
    rows = {
        "copy-support": evaluation.baselines["copy-support"],
        "unadapted": evaluation.steps[0],
        f"adapted, {last} steps": evaluation.steps[last],
        "held-out real": evaluation.baselines["held-out real"],
    }
    losses = {"unadapted": evaluation.query_loss[0]}
    losses[f"adapted, {last} steps"] = evaluation.query_loss[last]
    lines = [f"{'':<20}{'KID':>8}{'own task':>16}{'query loss':>12}"]
    for name, score in rows.items():
        share = f"{score.own_task:.1%} ± {score.own_task_error:.1%}"
        loss = f"{losses[name]:.4f}" if name in losses else ""
        lines.append(f"{name:<20}{score.kid:>8.3f}{share:>16}{loss:>12}")
    return "\n".join(lines)


def _write_strip(strip: Strip, folder: str) -> None:
    drawn = {f"step-{n:04d}": images for n, images in strip.drawn.items()}
    parts = {"support": strip.support, "real": strip.query[:IMAGES]} | drawn
    for part, images in parts.items():
        for i, image in enumerate(images):
            write_file(f"{folder}/{part}/{i}.png", png(image))


def _score(features: Tensor, reference: Tensor) -> Score:
    share = own_task_share(features, reference)
    return Score(
        kid=kid(features, reference),
        own_task=share.mean().item(),
        own_task_error=(share.std() / len(share) ** 0.5).item(),
    )


def _seconds_to_adapt(model: Model, support: Tensor) -> float:
    adapter = Adapter(model)
    started = time.perf_counter()
    adapter.adapt(support)
    return time.perf_counter() - started


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
