"""The report of a run: the images that it generates, its scores, and how both were measured."""

from dataclasses import dataclass

from metatrain import __version__
from metatrain.config import to_yaml
from metatrain.evaluation.protocol import UNADAPTED
from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.scores.near_copies import NearCopyPicture, near_copy_file
from metatrain.evaluation.scores.statistics import Difference, Estimate
from metatrain.metrics.metric import EVALUATION_METRICS, MAIN_METRICS
from metatrain.report.evaluated import EvaluatedRun, read_run, task_kind
from metatrain.report.formatting import counted, report_template, score
from metatrain.report.pages import data_url
from metatrain.report.run_figures import expectation_figures, score_figures, training_figures
from metatrain.report.task_choice import first_tasks, worst_and_best
from metatrain.report.task_panels import displayed_width, read_panels
from metatrain.storage.files import read_file, write_file

_PAIR = ("drawn", "given")

# The number of first tasks on the page, and that of the worst and of the best ones.
_FIRST, _REMARKABLE = 12, 3


def write_report(run: str, out: str | None = None) -> str:
    """Write the page of an evaluated run; returns its URL.

    The page is one file that needs nothing else: no network, no script.

    Args:
        run: the run's folder, a path or any fsspec URL.
        out: the page's file; by default `report/index.html` of the run.

    Raises:
        UserError: when the run has not been trained or evaluated, or cannot be read.
    """
    evaluated = read_run(run)
    evaluation, model = evaluated.evaluation, evaluated.model
    worst, best = worst_and_best([evaluation], _REMARKABLE)
    page = report_template("run.html.j2").render(
        name=model.config.run.name,
        evaluation=evaluation,
        model=model,
        task_kind=task_kind(evaluation),
        verdict=_verdict(_gains(evaluated)),
        summary=_summary(evaluation),
        metrics=EVALUATION_METRICS,
        main=MAIN_METRICS,
        rows=_rows(evaluation),
        panels=read_panels(evaluated, first_tasks(evaluation, _FIRST)),
        best=read_panels(evaluated, best),
        worst=read_panels(evaluated, worst),
        image_width=displayed_width(model.config.data.image_size),
        figures=[*training_figures(evaluated.history), *score_figures(evaluation)],
        expectations=expectation_figures(evaluation),
        near_copies=_read_near_copies(evaluated),
        weights=sum(weight.numel() for weight in model.parameters.values()),
        seconds=evaluated.seconds,
        config=to_yaml(model.config),
        version=__version__,
    )
    url = out or f"{evaluated.url}/report/index.html"
    write_file(url, page.encode())
    return url


@dataclass(frozen=True, kw_only=True)
class NearCopyPair:
    """A generated image and the support image that it is nearest to, as data URLs."""

    scores: NearCopyPicture
    generated: str
    support: str


def _read_near_copies(run: EvaluatedRun) -> list[NearCopyPair]:
    pairs = []
    for i, scores in enumerate(run.evaluation.near_copies):
        generated, support = (
            data_url(read_file(f"{run.folder}/{near_copy_file(i, part)}")) for part in _PAIR
        )
        pairs.append(NearCopyPair(scores=scores, generated=generated, support=support))
    return pairs


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """A row of the table of scores: a system, or the model after fewer inner steps."""

    kind: str
    name: str
    about: str = ""
    scores: dict[str, Estimate]


def _rows(evaluation: Evaluation) -> list[ScoreRow]:
    """List the systems in the order of the evaluation, the model after each number of steps."""
    space, rows = evaluation.spaces[0].name, []
    for name, result in evaluation.results.items():
        if name == evaluation.system:
            rows += _model_rows(evaluation)
        elif name != UNADAPTED:  # the first of the model's rows
            scores = result.scores[space]
            rows.append(ScoreRow(kind="baseline", name=name, about=result.about, scores=scores))
    return rows


def _model_rows(evaluation: Evaluation) -> list[ScoreRow]:
    space, rows = evaluation.spaces[0].name, []
    last = max(evaluation.result.curve)
    for steps, point in sorted(evaluation.result.curve.items()):
        kind, name, scores = "between", f"after {counted(steps, 'step')}", point.scores
        if not steps:
            name = UNADAPTED
            scores = evaluation.results[UNADAPTED].scores[space] | scores
        if steps == last:
            kind, name = "adapted", f"adapted, {counted(steps, 'step')}"
            scores = evaluation.result.scores[space] | point.scores
        rows.append(ScoreRow(kind=kind, name=name, scores=scores))
    return rows


def _gains(run: EvaluatedRun) -> dict[str, Difference]:
    """Test the differences that adapting makes, by paired tests."""
    space = run.evaluation.spaces[0].name
    before = run.scores(UNADAPTED)[space]
    after = run.scores(run.evaluation.system)[space]
    return {metric: after[metric].minus(before[metric]) for metric in ("kid", "own_task")}


def _verdict(gains: dict[str, Difference]) -> str:
    """Conclude whether adapting helps: both differences must be significant, and agree."""
    kid, share = gains["kid"], gains["own_task"]
    if kid.significant and share.significant:
        if share.value > 0 > kid.value:
            return "Adapting helps."
        if share.value < 0 < kid.value:
            return "Adapting hurts."
    return "Adapting brings no clear gain."


def _summary(evaluation: Evaluation) -> str:
    """Write the result in one sentence, which holds for good and bad runs."""
    space = evaluation.spaces[0].name
    after = evaluation.result.scores[space]
    before = evaluation.results[UNADAPTED].scores[space]
    change = after["kid"].value - before["kid"].value
    verb = "falls" if change < 0 else "rises" if change > 0 else "goes"
    kind = task_kind(evaluation)
    article = "an" if kind == "unseen" else "a"
    return (
        f"After {counted(max(evaluation.result.curve), 'inner step')} on "
        f"{counted(evaluation.episodes.shots, 'image')} of {article} {kind} task, "
        f"{score(after['own_task'], 'own_task')} of the generated images are recognised as that "
        f"task, against {score(before['own_task'], 'own_task')} before; KID {verb} from "
        f"{score(before['kid'], 'kid')} to {score(after['kid'], 'kid')}, where 0 is perfect."
        + (f" But {evaluation.collapse}." if evaluation.collapse else "")
    )
