"""A run as training and evaluation leave it, in miniature, with numbers of one's choice."""

from collections.abc import Sequence

import torch
from torch import Tensor

from metatrain.config import Config, load_config
from metatrain.data.pictures import png, to_uint8
from metatrain.evaluation.episodes.benchmark import Benchmark
from metatrain.evaluation.episodes.episode_list import EpisodeList, ListedEpisode
from metatrain.evaluation.protocol import UNADAPTED
from metatrain.evaluation.results import (
    Episodes,
    Evaluation,
    Moment,
    Result,
    Space,
    estimates,
    write_evaluation,
)
from metatrain.evaluation.running.jobs import Drawn
from metatrain.evaluation.scores.baselines import COPY, JITTERED, REAL
from metatrain.evaluation.scores.measure import Scores
from metatrain.evaluation.scores.near_copies import Offender, offender_file
from metatrain.evaluation.scores.statistics import Score
from metatrain.evaluation.strip_files import keep_strips
from metatrain.metrics.registry import EVALUATION_METRICS, MAIN_METRICS
from metatrain.model.build import build_theta
from metatrain.model.file import Model, save_model
from metatrain.storage.files import write_file
from metatrain.training.checkpoint import CheckpointStore, draft_of
from metatrain.training.state import TrainState, first_state

OVERRIDES = ["run.name=small", "data.image_size=8", "generator.width=8", "meta.steps=20"]
STEPS = (0, 5, 10)

# KID and own-task share of copies, after 0, 5 and 10 inner steps, and of real images.
SCORES = [(-0.046, 0.919), (0.111, 0.044), (0.107, 0.375), (0.007, 0.769), (-0.052, 0.925)]

OFFENDERS = [Offender("first", 0.25, True, None, 1.0), Offender("second", 0.5, False, 17.4, 0.83)]


def make_run(
    run: str,
    tasks: list[str],
    scores=SCORES,
    *,
    outer_steps: int = 20,
    seed: int = 0,
    own_task: Sequence[float] | None = None,
    overrides: Sequence[str] = (),
) -> str:
    """Leave a run at the folder `run`; the later a task, the better it goes, if not told."""
    config = load_config(None, [*OVERRIDES, *overrides])
    train(run, config)
    shares = own_task or [i / len(tasks) for i in range(len(tasks))]
    found, systems = measured(tasks, config.run.name, shares, scores, outer_steps, seed)
    _keep_images(f"{run}/evaluation", tasks, sorted(found.result.curve))
    write_evaluation(found, systems, f"{run}/evaluation")
    return run


def train(run: str, config: Config) -> None:
    """What training leaves."""
    weights = first_state(build_theta(config)).parameters
    history = [
        {"step": s, "loss": 2 / s, "inner_first": 3 / s, "gradient_norm": 1.0, "seconds": 0.5}
        for s in range(1, 21)
    ]
    average = {name: weight.clone() for name, weight in weights.items()}
    state = TrainState(20, weights, average, {}, history)
    CheckpointStore(run).save(draft_of(state, config))
    save_model(Model(config, average, 20), f"{run}/model.safetensors")


def measured(
    tasks: list[str],
    name: str = "small",
    own_task: Sequence[float] = (),
    scores=SCORES,
    outer_steps: int = 20,
    seed: int = 0,
) -> tuple[Evaluation, dict[str, Scores]]:
    """Plausible numbers, no two the same; the baselines' do not depend on `seed`."""
    copies, *way, real = [
        all_scores(*pair, seed=i if pair in (scores[0], scores[-1]) else i + 10 * seed)
        for i, pair in enumerate(scores)
    ]
    systems = {COPY: copies, JITTERED: copies, UNADAPTED: way[0], name: way[-1], REAL: real}
    curve = {
        step: Moment(
            estimates(of["metric network"] | {"query_loss": score(loss, 9)}), seconds=0.125 * step
        )
        for step, of, loss in zip(STEPS, way, (0.3151, 0.3191, 0.2941), strict=False)
    }
    results = {
        system: Result(
            system,
            "",
            "",
            {space: estimates(metrics) for space, metrics in of.items()},
            list(own_task),
            [0.1] * len(tasks),
            curve if system == name else {},
        )
        for system, of in systems.items()
    }
    episodes = Episodes("b", "c" * 64, True, "d" * 64, "test", 5, 3, 2, tasks, (len(tasks), 3))
    spaces = [Space("metric network", "e" * 64), Space("HOG", "")]
    found = Evaluation(episodes, spaces, 1.5, name, results, outer_steps, ["no joint"], OFFENDERS)
    return found, systems


def all_scores(kid: float, own_task: float, seed: int) -> Scores:
    """In two spaces."""
    values = {"kid": kid, "own_task": own_task}
    first = {name: score(values.get(name, 0.5), seed) for name in EVALUATION_METRICS}
    return {"metric network": first, "HOG": {name: first[name] for name in MAIN_METRICS}}


def score(value: float, seed: int) -> Score:
    """A score with an error of 0.01."""
    noise = torch.Generator().manual_seed(seed)
    return Score(value, value + 0.01 * torch.randn(1000, generator=noise, dtype=torch.float64))


def pictures(tasks: int) -> Tensor:
    """Five images [T, 5, 1, 8, 8] of each task, no two the same."""
    return torch.rand(tasks, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _keep_images(folder: str, tasks: list[str], steps: list[int]) -> None:
    images = pictures(len(tasks))
    listed = [
        ListedEpisode(seed=0, task=task, support=(), reference=(), held_out=(), noise=0)
        for task in tasks
    ]
    episodes = EpisodeList(benchmark="b", data="d" * 64, split="test", episodes=tuple(listed))
    few = images[None, :, :3]
    times = torch.zeros(len(steps))
    drawn = [
        Drawn(torch.tensor(steps), to_uint8(torch.stack([of[:3]] * len(steps))), *[times] * 4)
        for of in images
    ]
    keep_strips(Benchmark(episodes, 5, images[None], few, few), drawn, folder)
    for i, image in enumerate(images[0, :4]):
        write_file(f"{folder}/{offender_file(i // 2, ('drawn', 'given')[i % 2])}", png(image))
