"""A run's page: what it learned to draw, how well, and all one needs to know to believe it."""

import base64
import math
import re
from dataclasses import dataclass
from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from pydantic import TypeAdapter, ValidationError

from metatrain import __version__
from metatrain.checkpoint import CheckpointStore
from metatrain.config import to_yaml
from metatrain.errors import UserError
from metatrain.evaluate import STRIPS, Evaluation, Score, strip_folder
from metatrain.figures import kid_figure, share_figure, training_figures
from metatrain.files import MissingError, asking, filesystem_of, read_file, write_file
from metatrain.model import load_model
from metatrain.progress import human_duration
from metatrain.trainer import Record

# About how wide images are shown, in CSS pixels.
_IMAGE_WIDTH = 56


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
    evaluation = _read_evaluation(run)
    model = load_model(run)
    history = CheckpointStore(run).history()
    page = _template().render(
        name=model.config.run.name,
        evaluation=evaluation,
        model=model,
        unseen=_unseen(evaluation),
        verdict=_verdict(evaluation),
        finding=_finding(evaluation),
        panels=_read_panels(run, evaluation),
        image_width=_displayed(model.config.data.image_size),
        figures=[*training_figures(history), kid_figure(evaluation), share_figure(evaluation)],
        weights=sum(weight.numel() for weight in model.parameters.values()),
        seconds=_seconds(history),
        config=to_yaml(model.config),
        version=__version__,
    )
    url = f"{run}/report/index.html"
    write_file(url, page.encode())
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
        "counted": _counted,
        "duration": human_duration,
    }
    return environment.get_template("report.html.j2")


def _read_evaluation(run: str) -> Evaluation:
    url = f"{run}/evaluation/evaluation.json"
    try:
        # Pydantic, since JSON has turned the numbers of steps into strings.
        return TypeAdapter(Evaluation).validate_json(read_file(url))
    except MissingError as error:
        raise UserError(_what_is_missing(run)) from error
    except ValidationError as error:
        raise UserError(f"{url} is damaged; run `metatrain evaluate {run}` again.") from error


def _what_is_missing(run: str) -> str:
    fs, path = filesystem_of(f"{run}/model.safetensors")
    if asking(run, lambda: fs.exists(path)):
        return f"{run} has not been evaluated yet; run `metatrain evaluate {run}` first."
    return f"{run} has no trained model yet; run `metatrain train CONFIG` first, then evaluate it."


def _read_panels(run: str, evaluation: Evaluation) -> list[Panel]:
    """The strips that the evaluation kept, all of their images read in one go."""
    fs, root = filesystem_of(f"{run}/evaluation")
    tasks, parts = evaluation.tasks[:STRIPS], _parts(evaluation)
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
            [Row(part, [_data_url(next(files)) for _ in range(part.count)]) for part in parts],
        )
        for task in tasks
    ]


def _parts(evaluation: Evaluation) -> list[Part]:
    """The parts of every strip, from top to bottom."""
    drawn = [
        Part(f"step-{n:04d}", "drawn", _counted(n, "step") if n else "before", evaluation.images)
        for n in sorted(evaluation.steps)
    ]
    given = Part("support", "given", "given", evaluation.shots)
    return [given, *drawn, Part("real", "real", "real", evaluation.images)]


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
        f"After {_counted(max(evaluation.steps), 'inner step')} on "
        f"{_counted(evaluation.shots, 'image')} of {article} {_unseen(evaluation)} task, "
        f"{_share(after)} of what the model draws is recognised as that task, against "
        f"{_share(before)} before; KID {move} from {_kid(before.kid)} to {_kid(after.kid)}, where "
        f"0 is perfect."
    )


def _before_after(evaluation: Evaluation) -> tuple[Score, Score]:
    return evaluation.steps[0], evaluation.steps[max(evaluation.steps)]


def _seconds(history: list[Record]) -> float:
    """How long the outer steps of a training took."""
    before = [0.0, *(record["step"] for record in history)]
    return sum((r["step"] - b) * r["seconds"] for r, b in zip(history, before, strict=False))


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _kid(kid: float) -> str:
    return f"{kid:z.3f}".replace("-", "−")


def _share(score: Score) -> str:
    return f"{score.own_task:.1%} ± {score.own_task_error:.1%}"
