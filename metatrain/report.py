"""A run's page: what it learned to draw, how well, and all one needs to know to believe it."""

import re
from dataclasses import dataclass
from functools import partial

from jinja2 import Template

from metatrain import __version__
from metatrain.checkpoint import CheckpointStore
from metatrain.config import to_yaml
from metatrain.errors import UserError
from metatrain.evaluation.candidates import STRIPS, strip_folder
from metatrain.evaluation.measure import METRICS
from metatrain.evaluation.offenders import offender_file
from metatrain.evaluation.protocol import UNADAPTED
from metatrain.evaluation.results import Evaluation, Offender, read_evaluation, read_scores
from metatrain.evaluation.statistics import Difference, Estimate
from metatrain.evaluation.table import MAIN
from metatrain.figures import score_figures, training_figures
from metatrain.files import MissingError, asking, filesystem_of, read_file, write_file
from metatrain.model import load_model
from metatrain.pages import data_url, page_template
from metatrain.progress import human_duration
from metatrain.trainer import Record

# About how wide images are shown, in CSS pixels.
_IMAGE_WIDTH = 56

_PAIR = ("drawn", "given")


@dataclass(frozen=True)
class Part:
    """What a strip shows at one moment: `label` for the eye, `kind` for the style sheet."""

    folder: str
    kind: str
    label: str
    count: int


@dataclass(frozen=True)
class Row:
    """The images of one part, as data URLs."""

    part: Part
    images: list[str]


@dataclass(frozen=True)
class Panel:
    """One task of the page: its name, the character that it names if any, and its images."""

    task: str
    character: str
    rows: list[Row]


def write_report(run: str) -> str:
    """Write the page of an evaluated run; returns where it lies.

    The page is one file that needs nothing else: no network, no script.

    Args:
        run: the run's folder, a path or any fsspec URL.

    Raises:
        UserError: when the run has not been trained or evaluated, or cannot be read.
    """
    run = run.rstrip("/")
    folder = f"{run}/evaluation"
    evaluation = _read_evaluation(run)
    gains = _gains(folder, evaluation)
    model = load_model(run)
    history = CheckpointStore(run).history()
    page = _template().render(
        name=model.config.run.name,
        evaluation=evaluation,
        model=model,
        unseen=_unseen(evaluation),
        verdict=_verdict(gains),
        finding=_finding(evaluation),
        metrics=METRICS,
        main=MAIN,
        rows=_rows(evaluation),
        panels=_read_panels(run, evaluation),
        image_width=_displayed(model.config.data.image_size),
        figures=[*training_figures(history), *score_figures(evaluation)],
        offenders=_read_offenders(run, evaluation),
        weights=sum(weight.numel() for weight in model.parameters.values()),
        seconds=_seconds(history),
        config=to_yaml(model.config),
        version=__version__,
    )
    url = f"{run}/report/index.html"
    write_file(url, page.encode())
    return url


def _template() -> Template:
    filters = {
        "number": _number,
        "interval": _interval,
        "counted": _counted,
        "duration": human_duration,
    }
    return page_template("metatrain", "report.html.j2", filters)


def _read_evaluation(run: str) -> Evaluation:
    try:
        return read_evaluation(f"{run}/evaluation")
    except MissingError as error:
        raise UserError(_what_is_missing(run)) from error


def _what_is_missing(run: str) -> str:
    fs, path = filesystem_of(f"{run}/model.safetensors")
    if asking(run, lambda: fs.exists(path)):
        return f"{run} has not been evaluated yet; run `metatrain evaluate {run}` first."
    return f"{run} has no trained model yet; run `metatrain train CONFIG` first, then evaluate it."


def _read_panels(run: str, evaluation: Evaluation) -> list[Panel]:
    """The strips that the evaluation kept, all of their images read in one go."""
    fs, root = filesystem_of(f"{run}/evaluation")
    tasks, parts = evaluation.episodes.tasks[:STRIPS], _parts(evaluation)
    paths = [
        f"{root}/{strip_folder(i)}/{part.folder}/{n}.png"
        for i in range(len(tasks))
        for part in parts
        for n in range(part.count)
    ]
    # Not `cat`, which would take a bracket in a path for a pattern.
    read = partial(fs.cat_ranges, paths, None, None, on_error="raise")
    files = iter(asking(f"{run}/evaluation/strips", read))
    return [
        Panel(
            task,
            _character(task),
            [Row(part, [data_url(next(files)) for _ in range(part.count)]) for part in parts],
        )
        for task in tasks
    ]


@dataclass(frozen=True)
class Copy:
    """An image that is near to what was given, with that, both as data URLs."""

    of: Offender
    drawn: str
    given: str


def _read_offenders(run: str, evaluation: Evaluation) -> list[Copy]:
    folder = f"{run}/evaluation"
    return [
        Copy(
            offender,
            *(data_url(read_file(f"{folder}/{offender_file(i, part)}")) for part in _PAIR),
        )
        for i, offender in enumerate(evaluation.offenders)
    ]


def _parts(evaluation: Evaluation) -> list[Part]:
    """The parts of every strip, from top to bottom."""
    images = evaluation.episodes.images
    drawn = [
        Part(f"step-{n:04d}", "drawn", _counted(n, "step") if n else "before", images)
        for n in sorted(evaluation.result.curve)
    ]
    given = Part("support", "given", "given", evaluation.episodes.shots)
    return [given, *drawn, Part("real", "real", "real", images)]


def _character(task: str) -> str:
    """What a task named after a code point, such as 'U+0416', looks like; '' for all others."""
    match = re.fullmatch(r"U\+([0-9A-F]{4,5})", task)
    character = chr(int(match[1], 16)) if match else ""
    return character if character.isprintable() else ""


def _displayed(image_size: int) -> int:
    """The width to show images at: every pixel as wide as the next, if they are small."""
    scale = round(_IMAGE_WIDTH / image_size)
    return scale * image_size or _IMAGE_WIDTH


def _unseen(evaluation: Evaluation) -> str:
    return "training" if evaluation.episodes.split == "train" else "unseen"


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
            ScoreRow("between", f"after {_counted(n, 'step')}", "", point.scores)
            if n
            else ScoreRow(
                "between",
                UNADAPTED,
                "",
                evaluation.results[UNADAPTED].scores[space] | point.scores,
            )
            for n, point in way
        ]
        name = f"adapted, {_counted(last, 'step')}"
        rows.append(ScoreRow("adapted", name, "", result.scores[space] | end.scores))
    return rows


def _gains(folder: str, evaluation: Evaluation) -> dict[str, Difference]:
    """What adapting changes, by paired tests."""
    space = evaluation.spaces[0].name
    before = read_scores(folder, evaluation, UNADAPTED)[space]
    after = read_scores(folder, evaluation, evaluation.system)[space]
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
    article = "an" if _unseen(evaluation) == "unseen" else "a"
    return (
        f"After {_counted(max(evaluation.result.curve), 'inner step')} on "
        f"{_counted(evaluation.episodes.shots, 'image')} of {article} {_unseen(evaluation)} task, "
        f"{_number(after['own_task'], 'own_task')} of what the model draws is recognised as that "
        f"task, against {_number(before['own_task'], 'own_task')} before; KID {move} from "
        f"{_number(before['kid'], 'kid')} to {_number(after['kid'], 'kid')}, where 0 is perfect."
    )


def _seconds(history: list[Record]) -> float:
    """How long the outer steps of a training took."""
    before = [0.0, *(record["step"] for record in history)]
    return sum((r["step"] - b) * r["seconds"] for r, b in zip(history, before, strict=False))


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _number(found: Estimate, metric: str) -> str:
    return _plain(found.value, metric) + ("%" if _is_share(metric) else "")


def _interval(found: Estimate, metric: str) -> str:
    return f"{_plain(found.low, metric)} to {_plain(found.high, metric)}"


def _plain(value: float, metric: str) -> str:
    digits = 4 if metric == "query_loss" else 3
    text = f"{100 * value:z.1f}" if _is_share(metric) else f"{value:z.{digits}f}"
    return text.replace("-", "−")


def _is_share(metric: str) -> bool:
    return metric in METRICS and METRICS[metric].share
