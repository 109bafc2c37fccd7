"""A run's page: what it learned to draw, how well, and all one needs to know to believe it."""

import base64
import math
import re
from dataclasses import dataclass

import fsspec
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from pydantic import TypeAdapter

from metatrain import __version__
from metatrain.charts import Curve, Figure, Level, Point, draw
from metatrain.checkpoint import CheckpointStore
from metatrain.config import to_yaml
from metatrain.errors import UserError
from metatrain.evaluate import STRIPS, Evaluation, Score, strip_folder
from metatrain.model import load_model, write_bytes
from metatrain.progress import human_duration
from metatrain.trainer import Record

# About how wide images are shown, in CSS pixels.
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
        figures=[*_training_figures(history), _kid_figure(evaluation), _share_figure(evaluation)],
        weights=sum(weight.numel() for weight in model.parameters.values()),
        seconds=_seconds(history),
        config=to_yaml(model.config),
        version=__version__,
    )
    url = f"{run}/report/index.html"
    write_bytes(url, page.encode())
    return url


def _template() -> Template:
    # Task names are other people's data: everything is escaped, whatever the template is called.
    environment = Environment(
        loader=PackageLoader("metatrain"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "kid": _kid,
        "share": _share,
        "count": _count,
        "duration": human_duration,
    }
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
            [
                Row(label, kind, [_data_url(next(files)) for _ in range(n)])
                for _, label, kind, n in parts
            ],
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
    """The width to show images at: every pixel as wide as the next, if they are small."""
    scale = round(_IMAGE_WIDTH / image_size)
    return scale * image_size or _IMAGE_WIDTH


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


def _training_figures(history: list[Record]) -> list[Figure]:
    """The training curve; none where no history was kept."""
    names = {"first": "before the inner loop", "loss": "at its end"}
    if not any("first" in record for record in history):
        names = {"loss": "loss"}
    each = {
        key: _finite([Point(record["step"], record[key]) for record in history if key in record])
        for key in names
    }
    values = [point.y for points in each.values() for point in points]
    if not values:
        return []
    log = min(values) > 0
    curves = [Curve("", f"{key} faint", points) for key, points in each.items()]
    curves += [Curve(names[key], key, _running_mean(points)) for key, points in each.items()]
    title = f"Training loss, {'log' if log else 'linear'} scale, with running mean"
    return [draw(title, curves, [], x_label="outer steps", log=log)]


def _running_mean(points: list[Point]) -> list[Point]:
    """Every point's mean with its neighbours, a twentieth of all."""
    reach = len(points) // 40
    around = [points[max(0, i - reach) : i + reach + 1] for i in range(len(points))]
    return [
        Point(point.x, sum(p.y for p in near) / len(near))
        for point, near in zip(points, around, strict=True)
    ]


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
    # The ceiling first, since it may equal copy-support, whose dots show on top of its dashes.
    return draw(title, [curve], levels[::-1], x_label="inner steps")


def _finite(points: list[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point.y + point.error)]


def _seconds(history: list[Record]) -> float:
    """How long the outer steps of a training took."""
    before = [0.0, *(record["step"] for record in history)]
    return sum((r["step"] - b) * r["seconds"] for r, b in zip(history, before, strict=False))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _kid(kid: float) -> str:
    return f"{kid:z.3f}".replace("-", "−")


def _share(score: Score) -> str:
    return f"{score.own_task:.1%} ± {score.own_task_error:.1%}"
