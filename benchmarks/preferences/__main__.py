"""Win rates against the unadapted model after few choices, by raters whose taste is hidden.

    python -m benchmarks.preferences MODEL --start START --raters 16 --choices 5 10 20 50 100

A rater is one of the task source's split test, which no meta-training has seen, and rates drawings
of the model adapted to one task of the split. For each rater and number of choices, direct
preference from the standard and the meta-trained start, fine-tuning on the winners and best of n
learn from the same choices; the hidden taste judges their drawings, and KID to real images stands
beside it. Cells that are done are not repeated, so the same command resumes. At the end a table has
the mean over raters, with its 95% interval by the bootstrap over raters; `--write` puts it into
docs/preferences.md.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.commands import resumable
from benchmarks.preferences.cells import METHODS, MOST, RaterCell, RaterCells
from benchmarks.preferences.table import HEADER, WinRates, between, markdown
from benchmarks.provenance import commit, hardware
from metatrain.base.device import device_of
from metatrain.base.progress import say
from metatrain.base.tables import aligned
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.episodes.benchmark import read_benchmark
from metatrain.evaluation.episodes.episode_list import list_episodes
from metatrain.evaluation.training_data import data_for
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.model.places import model_url
from metatrain.preferences.starts import LR, Settings

_DOCS = Path(__file__).parents[2] / "docs" / "preferences.md"
_BEGIN, _END = "<!-- win rates -->", "<!-- end of win rates -->"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cells that remain, and print the table."""
    options = _parse(argv)
    torch.set_num_threads(options.threads)
    return resumable(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    model = load_model(options.model, trust=True).to(device_of(options.device))
    store = EpisodeStore(data_for(model, options.data, model_url(options.model)))
    episodes = _episodes(model, store, options)
    start = load_model(options.start, trust=True) if options.start else None
    settings = Settings(beta=options.beta, lr=options.lr)
    # Results of other settings lie elsewhere.
    values = [start and start.sha256, options.lr, options.beta, options.steps, options.methods]
    key = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    folder = Path(options.folder, f"{model.sha256[:12]}-{key[:12]}")
    cells = RaterCells(
        model, episodes, folder, settings, start, steps=options.steps, methods=options.methods
    )
    tasks = list(episodes)
    raters = [(tasks[number % len(tasks)], number) for number in range(options.raters)]
    every = [RaterCell(task, rater, count) for task, rater in raters for count in options.choices]
    remaining = [cell for cell in every if not cells.is_done(cell)]
    for number, cell in enumerate(remaining, start=1):
        say(f"cell {number} of {len(remaining)}: {cell.task}, {cell.rater}, {cell.choices}")
        cells.run(cell)
    wins = WinRates(cells, raters, options.choices)
    _show(wins, _provenance(model, start, options), options.write)


def _provenance(model: Model, start: Model | None, options: argparse.Namespace) -> str:
    steps = f"{options.steps} steps" if options.steps else "steps by held-out choices"
    began = f", start {start.sha256[:12]}" if start else ""
    return (
        f"{options.raters} raters, {options.tasks} tasks, {steps}, model {model.sha256[:12]}"
        f"{began}; {hardware()}, commit {commit()}."
    )


def _show(wins: WinRates, provenance: str, write: bool) -> None:
    rows, verdict = wins.rows(), wins.verdict()
    print(provenance)
    print(aligned([HEADER, *rows], justify="left"))
    if verdict:
        print(verdict)
    if write:
        parts = [markdown(rows), *([verdict] if verdict else []), provenance]
        text = _DOCS.read_text()
        _DOCS.write_text(between(text, "\n\n".join(parts), _BEGIN, _END))


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


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("model", help="a model file, a run's folder or a name")
    add("--data", help="packed data set (that of the model's training)")
    add("--tasks", type=int, default=8, help="at most so many tasks of the split (8)")
    add("--split", default="test")
    add("--start", help="a model that was meta-trained on objective.name=preference")
    add("--raters", type=int, default=16, help="raters, each with one of the tasks in turn (16)")
    counts = [5, 10, 20, 50, 100]
    add("--choices", nargs="+", type=int, choices=range(5, MOST + 1), default=counts, metavar="N")
    add("--beta", type=float, default=Settings.beta)
    add("--lr", type=float, default=LR, help="rate of Adam from the standard start")
    add("--steps", type=int, help="steps of each training (as held-out choices say)")
    add("--methods", nargs="+", choices=METHODS, default=METHODS, metavar="NAME", help="all")
    add("--threads", type=int, default=1)
    add("--device", default="auto")
    add("--folder", default="runs/preferences", help="folder of results")
    add("--write", action="store_true", help="put the table into docs/preferences.md")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
