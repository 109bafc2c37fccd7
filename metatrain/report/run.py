"""A run's page: what it learned to draw, how well, and all one needs to know to believe it."""

from dataclasses import dataclass

from metatrain import __version__
from metatrain.config import to_yaml
from metatrain.evaluation.protocol import UNADAPTED
from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.scores.near_copies import NearCopyPicture, near_copy_file
from metatrain.evaluation.scores.statistics import Difference, Estimate
from metatrain.metrics.metric import EVALUATION_METRICS, MAIN_METRICS
from metatrain.report.evaluated import EvaluatedRun, read_run, unseen
from metatrain.report.figures import foresight_figures, score_figures, training_figures
from metatrain.report.pages import data_url
from metatrain.report.panels import displayed, read_panels
from metatrain.report.tasks import extremes, fixed
from metatrain.report.writing import counted, number, template
from metatrain.storage.files import read_file, write_file

_PAIR = ("drawn", "given")

# Tasks that are shown whatever they came to, and of the worst and of the best.
_FIXED, _EXTREME = 12, 3


def write_report(run: str, out: str | None = None) -> str:
    """Write the page of an evaluated run; returns where it lies.

    The page is one file that needs nothing else: no network, no script.

    Args:
        run: the run's folder, a path or any fsspec URL.
        out: the page's file; by default `report/index.html` of the run.

    Raises:
        UserError: when the run has not been trained or evaluated, or cannot be read.
    """
    found = read_run(run)
    evaluation, model = found.evaluation, found.model
    worst, best = extremes([evaluation], _EXTREME)
    page = template("run.html.j2").render(
        name=model.config.run.name,
        evaluation=evaluation,
        model=model,
        unseen=unseen(evaluation),
        verdict=_verdict(_gains(found)),
        finding=_finding(evaluation),
        metrics=EVALUATION_METRICS,
        main=MAIN_METRICS,
        rows=_rows(evaluation),
        panels=read_panels(found, fixed(evaluation, _FIXED)),
        best=read_panels(found, best),
        worst=read_panels(found, worst),
        image_width=displayed(model.config.data.image_size),
        figures=[*training_figures(found.history), *score_figures(evaluation)],
        foreseen=foresight_figures(evaluation),
        offenders=_read_offenders(found),
        weights=sum(weight.numel() for weight in model.parameters.values()),
        seconds=found.seconds,
        config=to_yaml(model.config),
        version=__version__,
    )
    url = out or f"{found.url}/report/index.html"
    write_file(url, page.encode())
    return url


@dataclass(frozen=True)
class Copy:
    """An image that is near to what was given, with that, both as data URLs."""

    of: NearCopyPicture
    drawn: str
    given: str


def _read_offenders(run: EvaluatedRun) -> list[Copy]:
    return [
        Copy(
            offender,
            *(data_url(read_file(f"{run.folder}/{near_copy_file(i, part)}")) for part in _PAIR),
        )
        for i, offender in enumerate(run.evaluation.near_copies)
    ]


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table of scores: a system, or the model on its way."""

    kind: str
    name: str
    about: str
    scores: dict[str, Estimate]


def _rows(evaluation: Evaluation) -> list[ScoreRow]:
    """The systems from the worst that is expected of them to the best, the model step by step."""
    space, rows = evaluation.spaces[0].name, []
    for name, result in evaluation.results.items():
        if name == UNADAPTED:
            continue  # the first step of the model's own rows
        if name != evaluation.system:
            rows.append(ScoreRow("baseline", name, result.about, result.scores[space]))
            continue
        *way, (last, end) = sorted(result.curve.items())
        rows += [
            ScoreRow("between", f"after {counted(n, 'step')}", "", point.scores)
            if n
            else ScoreRow(
                "between",
                UNADAPTED,
                "",
                evaluation.results[UNADAPTED].scores[space] | point.scores,
            )
            for n, point in way
        ]
        name = f"adapted, {counted(last, 'step')}"
        rows.append(ScoreRow("adapted", name, "", result.scores[space] | end.scores))
    return rows


def _gains(run: EvaluatedRun) -> dict[str, Difference]:
    """What adapting changes, by paired tests."""
    space = run.evaluation.spaces[0].name
    before = run.scores(UNADAPTED)[space]
    after = run.scores(run.evaluation.system)[space]
    return {metric: after[metric].minus(before[metric]) for metric in ("kid", "own_task")}


def _verdict(gains: dict[str, Difference]) -> str:
    """What can be said for sure: both scores must agree, and neither be chance."""
    kid, share = gains["kid"], gains["own_task"]
    if kid.significant and share.significant:
        if share.value > 0 > kid.value:
            return "Adapting helps."
        if share.value < 0 < kid.value:
            return "Adapting hurts."
    return "Adapting brings no clear gain."


def _finding(evaluation: Evaluation) -> str:
    """The result in one sentence that holds however the run went."""
    space = evaluation.spaces[0].name
    after = evaluation.result.scores[space]
    before = evaluation.results[UNADAPTED].scores[space]
    down = after["kid"].value - before["kid"].value
    move = "falls" if down < 0 else "rises" if down > 0 else "goes"
    article = "an" if unseen(evaluation) == "unseen" else "a"
    return (
        f"After {counted(max(evaluation.result.curve), 'inner step')} on "
        f"{counted(evaluation.episodes.shots, 'image')} of {article} {unseen(evaluation)} task, "
        f"{number(after['own_task'], 'own_task')} of what the model draws is recognised as that "
        f"task, against {number(before['own_task'], 'own_task')} before; KID {move} from "
        f"{number(before['kid'], 'kid')} to {number(after['kid'], 'kid')}, where 0 is perfect."
    )
