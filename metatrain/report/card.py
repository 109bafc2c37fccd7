"""The card of a model to give away: its data, its training, its scores, and its limits."""

from collections.abc import Sequence
from dataclasses import dataclass

from metatrain import __version__
from metatrain.base.progress import human_duration
from metatrain.base.text import counted, printable_lines
from metatrain.config import chosen, to_yaml
from metatrain.data.check import DataCard
from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.terminal_table import evaluation_table, score_with_interval
from metatrain.model.model import Model
from metatrain.plan.trace import to_be_traced, trace
from metatrain.report.evaluated import training_seconds
from metatrain.training.state import Record

_COLOURS = {1: "grey", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, kw_only=True)
class CardInputs:
    """All that a card is made of.

    Attributes:
        model: the model as it is given away.
        evaluation: its evaluation.
        data: what its training data holds.
        attribution: the attribution that lies with the data; None where none does.
        history: the log of its training.
        bytes: the size of its file.
        commit: the commit that the file was made at; None where that is not known.
        about: its first sentence; None for one made of the configuration.
    """

    model: Model
    evaluation: Evaluation
    data: DataCard
    attribution: str | None
    history: Sequence[Record]
    bytes: int
    commit: str | None
    about: str | None


def model_card(inputs: CardInputs) -> str:
    """Return the card as Markdown."""
    parts = [
        f"# {inputs.model.config.run.name}\n\n{inputs.about or _about(inputs)}",
        _use(inputs),
        _data(inputs),
        _training(inputs),
        _scores(inputs),
        _limits(inputs),
    ]
    if inputs.attribution:
        parts.append(_below(inputs.attribution))
    return printable_lines("\n\n".join(parts)) + "\n"


def _about(inputs: CardInputs) -> str:
    data, tasks = inputs.model.config.data, inputs.data.tasks["train"]
    return (
        f"Adapts to {counted(data.shots, 'image')} of something new and generates more of it, "
        f"{_shape(inputs)}; meta-trained on {counted(tasks, 'task')} of "
        f"{inputs.evaluation.episodes.benchmark}."
    )


def _shape(inputs: CardInputs) -> str:
    data = inputs.model.config.data
    return f"{data.image_size} x {data.image_size} pixels in {_COLOURS[data.channels]}"


def _use(inputs: CardInputs) -> str:
    name, shots = inputs.model.config.run.name, inputs.model.config.data.shots
    return (
        f"    metatrain adapt {name} IMAGES/ --out new/    # {counted(shots, 'image')}, or a few\n"
        f"    metatrain generate new/ --out new/sheet.png\n\n"
        f"{sum(p.numel() for p in inputs.model.parameters.values()):,} parameters; the file has "
        f"{inputs.bytes / 1e6:.2f} MB in half precision, which is exact after loading."
    )


def _data(inputs: CardInputs) -> str:
    episodes = inputs.evaluation.episodes
    _, *lines = str(inputs.data).splitlines()  # the first is the place on this machine
    facts = "\n".join(f"- {line.strip()}" for line in lines)
    licences = "" if inputs.data.licences else "\n- licences: the data set has none recorded"
    return (
        f"## Data\n\n{episodes.benchmark}, a packed data set with the manifest of sha256 "
        f"`{episodes.data}`.\n\n{facts}{licences}"
    )


def _training(inputs: CardInputs) -> str:
    model, config = inputs.model, inputs.model.config
    each = trace(config, to_be_traced(config, config.meta.batch)).flops * config.meta.batch
    seconds, workers = training_seconds(inputs.history), config.cluster.workers
    time = f"{human_duration(seconds)} of outer steps" if seconds else "no log of its time"
    commit = f", commit {inputs.commit}" if inputs.commit else ""
    return (
        f"## Training\n\n`metatrain train {config.run.name}.yaml` with the settings below: "
        f"{model.step:,} outer steps, {each * model.step / 1e12:.3g} TFLOP in outer gradients, "
        f"{time} ({config.learner.name}, {counted(workers, 'worker')} configured). Made into this "
        f"file by metatrain {__version__}{commit}.\n\n"
        f"```yaml\n{to_yaml(config, chosen(config))}```"
    )


def _scores(inputs: CardInputs) -> str:
    return (
        f"## Scores\n\nOn unseen tasks, with 95% intervals over tasks, of the very file "
        f"(model `{inputs.model.sha256[:12]}`, after rounding).\n\n"
        f"```\n{evaluation_table(inputs.evaluation)}\n```"
    )


def _limits(inputs: CardInputs) -> str:
    data, evaluation = inputs.model.config.data, inputs.evaluation
    first = evaluation.spaces[0].name
    scores = {m: score_with_interval(m, e) for m, e in evaluation.result.scores[first].items()}
    benchmark = evaluation.episodes.benchmark
    return (
        f"## Not for\n\n"
        f"- images unlike {benchmark}: photographs, faces, documents, medical images. Adapting "
        f"warns where images are unlike the training tasks, and no score above holds for them;\n"
        f"- other shapes than {_shape(inputs)}; images are cropped and resampled to that;\n"
        f"- teaching a classifier in place of real images: trained on samples, it recognises "
        f"{scores['teaches']} of real images;\n"
        f"- passing samples off as new designs: {scores['memorised']} of them are as near to one "
        f"of the {counted(data.shots, 'image')} given as only 5% of real images are, and the "
        f"rights in the images given remain their owners'."
    )


def _below(attribution: str) -> str:
    """Return an attribution with its headings below the card's own."""
    lines = attribution.strip().splitlines()
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in lines)
