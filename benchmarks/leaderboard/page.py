"""The leaderboard as tables, and as JSON for other analyses."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from benchmarks.leaderboard.board import BASELINE, Board
from benchmarks.leaderboard.running import Entry
from benchmarks.provenance import commit, hardware
from metatrain.config import load_config
from metatrain.config.values import differences
from metatrain.evaluation.protocol import JOINT, UNADAPTED
from metatrain.evaluation.results import Evaluation, read_evaluation, read_scores
from metatrain.evaluation.scores.baselines import REAL
from metatrain.evaluation.scores.measure import SpaceScores
from metatrain.evaluation.scores.statistics import Difference, Estimate
from metatrain.evaluation.terminal_table import difference_texts, score_with_interval
from metatrain.report.evaluated import read_run


@dataclass(frozen=True)
class Standing:
    """The standing of a system.

    Attributes:
        entry: the system.
        evaluation: its evaluation.
        excess: its KID minus that of held-out images, relative to that of joint + fine-tuning.
        share: its own-task share relative to that of held-out images.
        diversity: the diversity of a task's samples relative to that of held-out images.
        copies: its rate of memorised images minus that of held-out images.
        seconds: wall time of all outer steps of its trainings.
    """

    entry: Entry
    evaluation: Evaluation
    excess: Estimate
    share: Estimate
    diversity: Estimate
    copies: Difference
    seconds: float


def standing(entry: Entry) -> Standing:
    """Read the evaluation of a system, and compare it with the baselines."""
    evaluation = read_evaluation(entry.folder)
    space = evaluation.spaces[0].name

    def scores(system: str) -> SpaceScores:
        return read_scores(entry.folder, evaluation, system)

    system, joint, real = (scores(s)[space] for s in (evaluation.system, JOINT, REAL))
    excess = system["kid"].less(real["kid"]).over(joint["kid"].less(real["kid"]))
    return Standing(
        entry,
        evaluation,
        excess.estimate,
        system["own_task"].over(real["own_task"]).estimate,
        system["diversity"].over(real["diversity"]).estimate,
        system["memorised"].minus(real["memorised"]),
        sum(read_run(training.config.run.url).seconds for training in entry.made_of),
    )


def leaderboard_table(standings: Sequence[Standing]) -> str:
    """Return the table of the systems in Markdown."""
    lines = [
        "| system | outer steps | TFLOP | training s | KID | excess | own task | of real's | "
        "diversity, of real's | memorised, beyond real's |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    copies = difference_texts([("memorised", s.copies) for s in standings])
    for s, beyond_real in zip(standings, copies, strict=True):
        scores = s.evaluation.result.scores[s.evaluation.spaces[0].name]
        steps = " + ".join(f"{t.config.meta.steps:,}" for t in s.entry.made_of)
        flops = sum(t.flops for t in s.entry.made_of) / 1e12
        cells = [
            s.entry.name,
            steps,
            f"{flops:.2f}",
            f"{s.seconds:,.0f}",
            score_with_interval("kid", scores["kid"]),
            _with_interval(s.excess),
            score_with_interval("own_task", scores["own_task"]),
            _with_interval(s.share),
            _with_interval(s.diversity) + (", collapsed" if s.evaluation.collapse else ""),
            beyond_real,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def baselines_table(standings: Sequence[Standing]) -> str:
    """Return the table of the baselines; an unadapted model is a set encoder."""
    [joint] = [s.evaluation for s in standings if s.entry.name == BASELINE]
    space = joint.spaces[0].name
    lines = ["| | KID | own task | memorised |", "|---|--:|--:|--:|"]
    for system, result in joint.results.items():
        if system not in (joint.system, JOINT):
            name = "set encoder: joint, unadapted" if system == UNADAPTED else system
            scores = result.scores[space]
            cells = [score_with_interval(m, scores[m]) for m in ("kid", "own_task", "memorised")]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _with_interval(ratio: Estimate) -> str:
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def leaderboard_json(board: Board, standings: Sequence[Standing]) -> str:
    """Return everything as JSON: the trainings and the scores of each system."""
    base = load_config(board.base)
    return json.dumps(
        {
            "score_with_interval": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "hardware": hardware(),
            "board": board.model_dump(mode="json"),
            "systems": {
                s.entry.name: {
                    "trainings": {
                        t.name: {
                            "flops": t.flops,
                            "seconds": read_run(t.config.run.url).seconds,
                            "differs_from_base": {
                                k: now for k, (_, now) in differences(base, t.config).items()
                            },
                        }
                        for t in s.entry.made_of
                    },
                    "excess": asdict(s.excess),
                    "own_task_by_real": asdict(s.share),
                    "diversity_by_real": asdict(s.diversity),
                    "collapsed": bool(s.evaluation.collapse),
                    "memorised_beyond_real": asdict(s.copies),
                    "sha256": s.evaluation.result.sha256,
                    "scores": {
                        space: {m: asdict(e) for m, e in metrics.items()}
                        for space, metrics in s.evaluation.result.scores.items()
                    },
                    "curve": {k: asdict(m) for k, m in s.evaluation.result.curve.items()},
                }
                for s in standings
            },
            "episodes": asdict(standings[0].evaluation.episodes),
        },
        indent=1,
    )
