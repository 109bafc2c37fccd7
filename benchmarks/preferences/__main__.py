"""Win rates against the unadapted model after few choices, by raters whose taste is hidden.

    python -m benchmarks.preferences MODEL --tasks 8 --choices 5 10 20 50 100

For each task of the split, each rater and each number of choices, direct preference, fine-tuning on
the winners and best of n learn from the same choices; the hidden taste judges their drawings, and
KID to real images stands beside it. RaterCells that are done are not repeated, so the same command
resumes. At the end a table has the mean over tasks and raters, with the 95% interval by the
bootstrap over tasks.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.preferences.cells import RaterCell, RaterCells
from benchmarks.provenance import commit, hardware
from metatrain.base.errors import UserError
from metatrain.base.machine import device_of
from metatrain.base.progress import StreamDisplay, displayed, say
from metatrain.base.tables import aligned
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.episodes.benchmark import read_benchmark
from metatrain.evaluation.episodes.episode_list import list_episodes
from metatrain.evaluation.scores.statistics import mean_of, score
from metatrain.evaluation.training_data import data_for
from metatrain.model.file import load_model, model_url
from metatrain.model.model import Model
from metatrain.preferences.direct import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cells that remain, and print the table."""
    options = _parse(argv)
    torch.set_num_threads(options.threads)
    try:
        with displayed(StreamDisplay(sys.stderr)):
            _run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command resumes.", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    model = load_model(options.model, trust=True).to(device_of(options.device))
    store = EpisodeStore(data_for(model, options.data, model_url(options.model)))
    episodes = _episodes(model, store, options)
    folder = Path(options.folder, model.sha256[:12])
    cells = RaterCells(model, episodes, folder, Settings(beta=options.beta, lr=options.lr))
    every = [
        RaterCell(task, rater, count)
        for count in options.choices
        for rater in options.raters
        for task in episodes
    ]
    remaining = [cell for cell in every if not cells.is_done(cell)]
    for number, cell in enumerate(remaining, start=1):
        say(f"cell {number} of {len(remaining)}: {cell.task}, {cell.rater}, {cell.choices}")
        cells.run(cell)
    print(f"{hardware()}, commit {commit()}, {len(episodes)} tasks, model {model.sha256[:12]}")
    print(_table(cells, options, list(episodes)))


def _episodes(model: Model, store: EpisodeStore, options: argparse.Namespace) -> dict[str, Episode]:
    """Read one episode of each task, with as many shots as the model was trained with."""
    data = model.config.data
    listed = list_episodes(store, options.split).first(options.tasks, 1)
    shots = min(data.shots, listed.shape.support)
    images = read_benchmark(
        store, listed, shots=shots, image_size=data.image_size, channels=data.channels
    )
    real = torch.cat([images.reference[0], images.held_out[0]], dim=1)
    return {
        task: Episode(task, Examples(support), Examples(query), seed=0)
        for task, support, query in zip(listed.tasks, images.support[0], real, strict=True)
    }


def _table(cells: RaterCells, options: argparse.Namespace, tasks: list[str]) -> str:
    rows: list[tuple[str, ...]] = [("choices", "method", "win rate", "interval", "KID")]
    for count in options.choices:
        by_task = [[cells.scores(RaterCell(t, r, count)) for r in options.raters] for t in tasks]
        for method in by_task[0][0]:
            wins, kids = (
                torch.tensor([[scores[method][key] for scores in of] for of in by_task]).mean(dim=1)
                for key in ("win", "kid")
            )
            win, mean = score(mean_of(wins), len(tasks)).estimate, kids.mean().item()
            interval = f"{win.low:.1%} to {win.high:.1%}"
            rows.append((str(count), method, f"{win.value:.1%}", interval, f"{mean:.3f}"))
    return aligned(rows, justify="left")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("model", help="a model file, a run's folder or a name")
    add("--data", help="packed data set (that of the model's training)")
    add("--tasks", type=int, default=8, help="at most so many tasks of the split (8)")
    add("--split", default="test")
    add("--raters", nargs="+", default=["thick", "symmetric", "linear-0", "linear-1"])
    add("--choices", nargs="+", type=int, default=[5, 10, 20, 50, 100])
    add("--beta", type=float, default=Settings.beta)
    add("--lr", type=float, default=Settings.lr)
    add("--threads", type=int, default=1)
    add("--device", default="auto")
    add("--folder", default="runs/preferences", help="folder of results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
