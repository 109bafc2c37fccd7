"""`make leaderboard`: pack, train, combine, evaluate, and write docs/leaderboard.md.

Every step is left out where it has been done, so the same command goes on after an interruption.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.leaderboard.board import Board, Training, read_board, trainings
from benchmarks.leaderboard.page import Standing, baselines, record, standing, table
from benchmarks.leaderboard.pictures import curves, strips
from benchmarks.leaderboard.running import (
    Entry,
    combine,
    commit,
    entry_of,
    evaluate,
    hardware,
    pack,
    report,
    train,
)
from metatrain.report.contenders import MOST

_BOARD = str(Path(__file__).with_name("board.yaml"))

_PAGE = """\
# Leaderboard

{systems} systems on the icon benchmark, split {split}: {tasks} tasks, {seeds}, {shots} images
given. `make leaderboard` made this page, at commit `{commit}` on {hardware}. Each training had
{flops:.3g} floating-point operations in its outer gradients: `{base}` but for what
[board.yaml](../benchmarks/leaderboard/board.yaml) says. All adapt with the same number of inner
steps on one core. [leaderboard.html](leaderboard.html), to be opened in a browser, compares the
first {shown} of them with one another, and task by task. What each got in every feature space, how
it was configured and how long it took is in [leaderboard.json](leaderboard.json).

{table}

- **excess**: KID over that of held-out images, by the same of joint + fine-tuning; 0 is real.
- **of real's**: own-task share by that of held-out images.
- **training s**: of all outer steps, by the clock. Soups and ensembles count all that they are
  made of.

Beside them:

{baselines}

![What each draws of four unseen tasks](leaderboard-strips.png)

![KID over the seconds of adapting](leaderboard-curves.png)
"""


def main() -> None:
    """Do what is left to do."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--board", default=_BOARD, help="its file (board.yaml)")
    parser.add_argument("--flops", type=float, help="of each training (as in the file)")
    parser.add_argument("--tasks", type=int, help="to evaluate on, at most (as in the file)")
    parser.add_argument("--folder", default="runs/leaderboard", help="where runs go")
    parser.add_argument("--out", default="docs", help="where the page goes (docs)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be trained")
    options = parser.parse_args()
    given = {k: getattr(options, k) for k in ("flops", "tasks") if getattr(options, k)}
    board = read_board(options.board, given)
    planned = trainings(board, options.folder)
    for t in planned:
        print(f"{t.name:<16}{t.config.meta.steps:>6,} outer steps of {t.config.meta.batch} tasks")
    if not options.dry_run:
        entries = _all_systems(board, planned, options.folder)
        evaluate(board, entries, options.folder)
        standings = sorted(map(standing, entries), key=lambda s: s.excess.value)
        report([s.entry for s in standings[:MOST]], f"{options.out}/leaderboard.html")
        _write(board, standings, Path(options.out))


def _all_systems(board: Board, planned: Sequence[Training], folder: str) -> list[Entry]:
    pack(folder)
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
        shown=min(MOST, len(standings)),
        commit=commit()[:7],
        hardware=hardware(),
        flops=board.flops,
        base=board.base,
        table=table(standings),
        baselines=baselines(standings),
    )
    (out / "leaderboard-strips.png").write_bytes(strips(standings[:MOST]))
    (out / "leaderboard-curves.png").write_bytes(curves(standings[:MOST]))
    (out / "leaderboard.json").write_text(record(board, standings) + "\n")
    (out / "leaderboard.md").write_text(page)
    print(out / "leaderboard.md")


if __name__ == "__main__":
    main()
