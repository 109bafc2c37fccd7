"""`make leaderboard`: pack, train, combine, evaluate, and write docs/leaderboard.md.

It skips the steps that are done, so the same command resumes after an interruption.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.commands import pack
from benchmarks.equal_compute import PlannedTraining
from benchmarks.leaderboard.board import Board, read_board, trainings
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
    combine,
    entry_of,
    evaluate,
    report,
    train,
)
from benchmarks.provenance import commit, hardware
from metatrain.report.compared_runs import MAX_RUNS

_BOARD = str(Path(__file__).with_name("board.yaml"))

_PAGE = """\
# Leaderboard

{systems} systems on the icon benchmark, split {split}: {tasks} tasks, {seeds}, {shots} support
images. `make leaderboard` wrote this page, at commit `{commit}` on {hardware}. Each training had
{flops:.3g} floating-point operations in its outer gradients, with the configuration `{base}` except
for the keys in [board.yaml](../benchmarks/leaderboard/board.yaml). All systems adapt with the same
number of inner steps on one core. [leaderboard.html](leaderboard.html), for a browser, compares the
first {shown} of them with one another and task by task. [leaderboard.json](leaderboard.json) has
the scores in every feature space, the configuration and the times of each system.

{table}

- **excess**: KID above that of held-out images, relative to the excess of joint + fine-tuning; 0
  equals real images.
- **of real's**: own-task share relative to that of held-out images.
- **training s**: wall time of all outer steps; for soups and ensembles, the sum over their members.

The baselines:

{baselines}

![Samples of every system, for four unseen tasks](leaderboard-strips.png)

![KID over the seconds of adapting](leaderboard-curves.png)
"""


def main() -> None:
    """Run the remaining steps, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--board", default=_BOARD, help="file of the leaderboard (board.yaml)")
    parser.add_argument("--flops", type=float, help="operations of each training (as in the file)")
    parser.add_argument("--tasks", type=int, help="maximum number of tasks (as in the file)")
    parser.add_argument("--folder", default="runs/leaderboard", help="folder of the runs")
    parser.add_argument("--out", default="docs", help="folder of the page (docs)")
    parser.add_argument("--dry-run", action="store_true", help="print the trainings only")
    options = parser.parse_args()
    overrides = {k: getattr(options, k) for k in ("flops", "tasks") if getattr(options, k)}
    board = read_board(options.board, overrides)
    planned = trainings(board, options.folder)
    for t in planned:
        print(f"{t.name:<16}{t.config.meta.steps:>6,} outer steps of {t.config.meta.batch} tasks")
    if not options.dry_run:
        entries = _all_systems(board, planned, options.folder)
        evaluate(board, entries, options.folder)
        standings = sorted(map(standing, entries), key=lambda s: s.excess.value)
        report([s.entry for s in standings[:MAX_RUNS]], f"{options.out}/leaderboard.html")
        _write(board, standings, Path(options.out))


def _all_systems(board: Board, planned: Sequence[PlannedTraining], folder: str) -> list[Entry]:
    pack("icons", f"{folder}/data", "--size", "32")
    for training in planned:
        train(training)
    return [*map(entry_of, planned), *combine(board, {t.name: t for t in planned}, folder)]


def _write(board: Board, standings: Sequence[Standing], out: Path) -> None:
    of = standings[0].evaluation.episodes
    page = _PAGE.format(
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
        table=leaderboard_table(standings),
        baselines=baselines_table(standings),
    )
    (out / "leaderboard-strips.png").write_bytes(strips(standings[:MAX_RUNS]))
    (out / "leaderboard-curves.png").write_bytes(curves(standings[:MAX_RUNS]))
    (out / "leaderboard.json").write_text(leaderboard_json(board, standings) + "\n")
    (out / "leaderboard.md").write_text(page)
    print(out / "leaderboard.md")


if __name__ == "__main__":
    main()
