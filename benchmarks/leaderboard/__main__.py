"""`make leaderboard`: pack, train, combine, evaluate, and write docs/leaderboard.md.

    python -m benchmarks.leaderboard --only reptile figr gan-mixture --page gans-leaderboard

It skips the steps that are done, so the same command resumes after an interruption.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.commands import pack
from benchmarks.equal_compute import PlannedTraining
from benchmarks.leaderboard.board import (
    Board,
    mixture_trainings,
    part_of,
    read_board,
    trainings,
)
from benchmarks.leaderboard.page import (
    Standing,
    baselines_table,
    leaderboard_json,
    leaderboard_table,
    standing,
)
from benchmarks.leaderboard.pictures import curves, strips
from benchmarks.leaderboard.running import (
    Entry,
    ensembles,
    evaluate,
    mixtures,
    report,
    soups,
    train,
)
from benchmarks.provenance import commit, hardware
from metatrain.metrics.diversity import COLLAPSED
from metatrain.report.compared_runs import MAX_RUNS

_BOARD = str(Path(__file__).with_name("board.yaml"))

_COMMAND = "python -m benchmarks.leaderboard"
_PAGE = """\
# {title}

{systems} systems on the icon benchmark, split {split}: {tasks} tasks, {seeds}, {shots} support
images. `{command}` wrote this
page, at commit `{commit}` on {hardware}. Each training had {flops:.3g} floating-point operations in
its outer gradients, with the configuration `{base}` except for the keys in
[board.yaml](../benchmarks/leaderboard/board.yaml). All systems adapt with the same number of inner
steps on one core. [{page}.html]({page}.html), for a browser, compares the first {shown} of them
with one another and task by task. [{page}.json]({page}.json) has the scores in every feature space,
the configuration and the times of each system.

{table}

- **excess**: KID above that of held-out images, relative to the excess of joint + fine-tuning; 0
  equals real images.
- **of real's**: own-task share, and diversity of the samples of a task, relative to those of
  held-out images. Below {collapsed:.0%} of their diversity, samples have collapsed.
- **training s**: wall time of all outer steps on one core; of a combination, the sum over its
  members.

The baselines:

{baselines}

![Samples of every system, for four unseen tasks]({page}-strips.png)

![KID over the seconds of adapting]({page}-curves.png)
"""


def main() -> None:
    """Run the remaining steps, and write the page."""
    options = _parse()
    overrides = {k: getattr(options, k) for k in ("flops", "tasks") if getattr(options, k)}
    board = read_board(options.board, overrides)
    if options.only:
        board = part_of(board, options.only)
    for t in _planned(board, options.folder):
        print(f"{t.name:<20}{t.config.meta.steps:>6,} outer steps of {t.config.meta.batch} tasks")
    if not options.dry_run:
        entries = _all_systems(board, options.folder, with_soups=not options.only)
        evaluate(board, entries, options.folder, options.workers)
        standings = sorted(map(standing, entries), key=lambda s: s.excess.value)
        page = Path(options.out, options.page)
        report([s.entry for s in standings[:MAX_RUNS]], f"{page}.html")
        _write(board, standings, page, options.only)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--board", default=_BOARD, help="file of the leaderboard (board.yaml)")
    add("--only", nargs="+", default=[], metavar="SYSTEM", help="these alone, and no soups")
    add("--flops", type=float, help="operations of each training (as in the file)")
    add("--tasks", type=int, help="maximum number of tasks (as in the file)")
    add("--folder", default="runs/leaderboard", help="folder of the runs")
    add("--out", default="docs", help="folder of the page (docs)")
    add("--page", default="leaderboard", help="name of the page's files (leaderboard)")
    add("--workers", type=int, metavar="N", help="processes that evaluate (one a core)")
    add("--dry-run", action="store_true", help="print the trainings only")
    return parser.parse_args()


def _planned(board: Board, folder: str) -> list[PlannedTraining]:
    mixed = [t for name in board.mixtures for t in mixture_trainings(board, name, folder)]
    return [*trainings(board, folder), *mixed]


def _all_systems(board: Board, folder: str, *, with_soups: bool) -> list[Entry]:
    pack("icons", f"{folder}/data", "--size", "32")
    trained = [train(training) for training in trainings(board, folder)]
    entries = [*trained, *mixtures(board, folder), *ensembles(board, trained, folder)]
    return [*entries, *soups(trained, folder)] if with_soups else entries


def _write(board: Board, standings: Sequence[Standing], page: Path, only: Sequence[str]) -> None:
    of = standings[0].evaluation.episodes
    text = _PAGE.format(
        title="Leaderboard, in part" if only else "Leaderboard",
        command=f"{_COMMAND} --only {' '.join(only)} --page {page.name}" if only else _COMMAND,
        page=page.name,
        systems=len(standings),
        split=of.split,
        tasks=len(of.tasks),
        seeds=f"{of.seeds} seed{'s' if of.seeds > 1 else ''}",
        shots=of.shots,
        shown=min(MAX_RUNS, len(standings)),
        commit=commit()[:7],
        hardware=hardware(),
        flops=board.flops,
        base=board.base,
        collapsed=COLLAPSED,
        table=leaderboard_table(standings),
        baselines=baselines_table(standings),
    )
    page.with_name(f"{page.name}-strips.png").write_bytes(strips(standings[:MAX_RUNS]))
    page.with_name(f"{page.name}-curves.png").write_bytes(curves(standings[:MAX_RUNS]))
    Path(f"{page}.json").write_text(leaderboard_json(board, standings) + "\n")
    Path(f"{page}.md").write_text(text)
    print(f"{page}.md")


if __name__ == "__main__":
    main()
