"""A run's page: what it learned to draw, how well, and all one needs to know to believe it."""

import base64
import math
import re
from dataclasses import dataclass

import fsspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import TypeAdapter

from metatrain import __version__
from metatrain.charts import Curve, Level, Point, draw
from metatrain.checkpoint import CheckpointStore
from metatrain.config import to_yaml
from metatrain.errors import UserError
from metatrain.evaluate import STRIPS, Evaluation, Score, strip_folder
from metatrain.model import Model, load_model, write_bytes
from metatrain.progress import human_duration
from metatrain.trainer import Record

# Width in CSS pixels that small images are magnified to, by whole numbers.
_IMAGE_WIDTH = 56


@dataclass(frozen=True)
class Row:
    """Images of one task at one moment: `label` for the eye, `kind` for the style sheet."""

    label: str
    kind: str
    images: list[str]


@dataclass(frozen=True)
class Panel:
    """One task of the page: its name, the character that it names if any, and its images."""

    task: str
    character: str
    rows: list[Row]


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table of scores; `note` explains a baseline."""

    name: str
    kind: str
    score: Score
    query_loss: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A chart with its legend, pairs of a CSS class and words."""

    title: str
    svg: Markup
    legend: list[tuple[str, str]]


def write_report(run: str) -> str:
    """Write the page of an evaluated run; returns where it lies.

    The page is one file that needs nothing else: no network, no script.

    Args:
        run: the run's folder, a path or any fsspec URL.

    Raises:
        UserError: when the run has not been trained or evaluated, or cannot be read.
    """
    run = run.rstrip("/")
    evaluation = _read_evaluation(run)
    model = load_model(run)
    state = CheckpointStore(run, model.config.checkpoint.keep).latest()
    history = state.history if state else []
    page = _template().render(
        name=model.config.run.name,
        evaluation=evaluation,
        model=model,
        unseen=_unseen(evaluation),
        verdict=_verdict(evaluation),
        finding=_finding(evaluation),
        panels=_read_panels(run, evaluation),
        image_width=_displayed(model.config.data.image_size),
        scores=_score_rows(evaluation),
        figures=[*_training_figures(history), _kid_figure(evaluation), _share_figure(evaluation)],
        facts=_facts(evaluation, model, history),
        config=to_yaml(model.config),
    )
    url = f"{run}/report/index.html"
    write_bytes(url, page.encode())
    return url


def _template():
    # Task names are other people's data: everything is escaped, whatever the template is called.
    environment = Environment(
        loader=PackageLoader("metatrain"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"kid": _kid, "share": _share, "loss": _loss}
    return environment.get_template("report.html.j2")


def _read_evaluation(run: str) -> Evaluation:
    url = f"{run}/evaluation/evaluation.json"
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        # Pydantic, since JSON has turned the numbers of steps into strings.
        return TypeAdapter(Evaluation).validate_json(filesystem.cat_file(path))
    except FileNotFoundError as error:
        raise UserError(_what_is_missing(run)) from error
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"{url} cannot be read ({type(error).__name__}); write it again with "
            f"`metatrain evaluate {run}`."
        ) from error


def _what_is_missing(run: str) -> str:
    filesystem, path = fsspec.core.url_to_fs(f"{run}/model.safetensors")
    if filesystem.exists(path):
        return f"{run} has not been evaluated yet; run `metatrain evaluate {run}` first."
    return f"{run} has no trained model yet; run `metatrain train CONFIG` first, then evaluate it."


def _read_panels(run: str, evaluation: Evaluation) -> list[Panel]:
    """The strips that the evaluation kept, all of their images read in one go."""
    filesystem, root = fsspec.core.url_to_fs(f"{run}/evaluation")
    tasks, parts = evaluation.tasks[:STRIPS], _parts(evaluation)
    paths = [
        f"{root}/{strip_folder(i, task)}/{folder}/{n}.png"
        for i, task in enumerate(tasks)
        for folder, _, _, count in parts
        for n in range(count)
    ]
    try:
        files = iter(filesystem.cat_ranges(paths, None, None, on_error="raise"))
    except OSError as error:
        raise UserError(
            f"the images in {run}/evaluation/strips cannot be read ({type(error).__name__}); write "
            f"them again with `metatrain evaluate {run}`."
        ) from error
    return [
        Panel(
            task,
            _character(task),
            [Row(label, kind, [_data_url(next(files)) for _ in range(n)]) for _, label, kind, n in parts],
        )
        for task in tasks
    ]


def _parts(evaluation: Evaluation) -> list[tuple[str, str, str, int]]:
    """Of every strip, from top to bottom: folder, label, kind and number of images."""
    count = evaluation.images
    drawn = [
        (f"step-{n:04d}", _count(n, "step") if n else "before", "drawn", count)
        for n in sorted(evaluation.steps)
    ]
    given = ("support", "given", "given", evaluation.shots)
    return [given, *drawn, ("real", "real", "real", count)]


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _character(task: str) -> str:
    """What a task named after a code point, such as 'U+0416', looks like; '' for all others."""
    match = re.fullmatch(r"U\+([0-9A-F]{4,5})", task)
    character = chr(int(match[1], 16)) if match else ""
    return character if character.isprintable() else ""


def _displayed(image_size: int) -> int:
    """The width to show images at: whole pixels of theirs, so that none is wider than the next."""
    return min(_IMAGE_WIDTH * 5 // 4, image_size * max(1, round(_IMAGE_WIDTH / image_size)))


def _unseen(evaluation: Evaluation) -> str:
    return "training" if evaluation.split == "train" else "unseen"


def _verdict(evaluation: Evaluation) -> str:
    """What can be said for sure: both scores must agree, the share by two standard errors."""
    before, after = _before_after(evaluation)
    error = math.hypot(before.own_task_error, after.own_task_error)
    gain, drop = after.own_task - before.own_task, before.kid - after.kid
    if gain > 2 * error and drop > 0:
        return "Adapting helps."
    if gain < -2 * error and drop < 0:
        return "Adapting hurts."
    return "Adapting brings no clear gain."


def _finding(evaluation: Evaluation) -> str:
    """The result in one sentence that holds however the run went."""
    before, after = _before_after(evaluation)
    move = "falls" if after.kid < before.kid else "rises" if after.kid > before.kid else "goes"
    article = "an" if _unseen(evaluation) == "unseen" else "a"
    return (
        f"After {_count(max(evaluation.steps), 'inner step')} on "
        f"{_count(evaluation.shots, 'image')} of {article} {_unseen(evaluation)} task, "
        f"{_share(after)} of what the model draws is recognised as that task, against "
        f"{_share(before)} before; KID {move} from {_kid(before.kid)} to {_kid(after.kid)}, where "
        f"0 is perfect."
    )


def _before_after(evaluation: Evaluation) -> tuple[Score, Score]:
    return evaluation.steps[0], evaluation.steps[max(evaluation.steps)]


def _score_rows(evaluation: Evaluation) -> list[ScoreRow]:
    copied, real = evaluation.baselines["copy-support"], evaluation.baselines["held-out real"]
    names = {n: f"after {_count(n, 'step')}" for n in sorted(evaluation.steps)}
    last = max(names)
    names |= {last: f"adapted, {_count(last, 'step')}", 0: "unadapted"}
    kinds = {0: "before", last: "adapted"}
    return [
        ScoreRow("copy-support", "baseline", copied, note="the given images, handed back"),
        *(
            ScoreRow(name, kinds.get(n, "between"), evaluation.steps[n], evaluation.query_loss[n])
            for n, name in names.items()
        ),
        ScoreRow("held-out real", "baseline", real, note="real images of the task: the ceiling"),
    ]


def _training_figures(history: list[Record]) -> list[Figure]:
    """The training curve; none where no history was kept."""
    names = {"first": "before the inner loop", "loss": "after the inner loop"}
    if not any("first" in record for record in history):
        names = {"loss": "loss"}
    curves = [
        Curve(name, key, _finite([Point(r["step"], r[key]) for r in history if key in r]))
        for key, name in names.items()
    ]
    if not any(curve.points for curve in curves):
        return []
    log = all(point.y > 0 for curve in curves for point in curve.points)
    title = f"Training loss ({'log' if log else 'linear'} scale)"
    svg = draw(curves, [], title=title, x_label="outer steps", log=log)
    return [Figure(title, svg, [(curve.style, curve.name) for curve in curves])]


def _kid_figure(evaluation: Evaluation) -> Figure:
    points = [Point(n, score.kid) for n, score in sorted(evaluation.steps.items())]
    levels = {name: score.kid for name, score in evaluation.baselines.items()}
    return _score_figure("KID, lower is better", points, levels)


def _share_figure(evaluation: Evaluation) -> Figure:
    points = [
        Point(n, 100 * score.own_task, 100 * score.own_task_error)
        for n, score in sorted(evaluation.steps.items())
    ]
    levels = {name: 100 * score.own_task for name, score in evaluation.baselines.items()}
    return _score_figure("Own-task share in %, higher is better", points, levels)


def _score_figure(title: str, points: list[Point], baselines: dict[str, float]) -> Figure:
    curve = Curve("the model", "model", _finite(points), marked=True)
    levels = [
        Level(name, name.replace(" ", "-"), value)
        for name, value in baselines.items()
        if math.isfinite(value)
    ]
    svg = draw([curve], levels, title=title, x_label="inner steps")
    return Figure(title, svg, [(line.style, line.name) for line in [curve, *levels]])


def _finite(points: list[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point.y + point.error)]


def _facts(
    evaluation: Evaluation, model: Model, history: list[Record]
) -> list[tuple[str, str]]:
    """What one must know to judge the numbers, or to measure them again."""
    config, count = model.config, evaluation.images
    weights = sum(parameter.numel() for parameter in model.parameters.values())
    steps = [0.0, *(record["step"] for record in history)]
    seconds = sum((r["step"] - before) * r["seconds"] for r, before in zip(history, steps, strict=False))
    trained = f"{config.meta.learner}, {_count(evaluation.outer_steps, 'outer step')}"
    adapting = f"{_count(config.adapt.steps, 'inner step')} of {config.inner.optimizer}"
    return [
        ("Tasks", f"{len(evaluation.tasks):,} of split '{evaluation.split}'"),
        ("Shots", f"{_count(evaluation.shots, 'support image')} of each task"),
        (
            "Images of each task",
            f"{count} drawn, {count} real ones as the reference, {count} held-out real",
        ),
        ("Model", f"{config.generator.name}, {weights:,} parameters"),
        ("Training", f"{trained} in {human_duration(seconds)}" if history else trained),
        ("Adapting", f"{adapting} in {human_duration(evaluation.seconds)}, where it was evaluated"),
        ("Data", f"sha256 {evaluation.data[:12]}"),
        ("Metric network", f"sha256 {evaluation.metric_network[:12]}"),
        ("metatrain", __version__),
    ]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _kid(kid: float) -> str:
    return f"{kid:z.3f}".replace("-", "−")


def _share(score: Score) -> str:
    return f"{score.own_task:.1%} ± {score.own_task_error:.1%}"


def _loss(loss: float) -> str:
    return f"{loss:.4f}"
