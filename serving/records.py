"""The state of an adaptation, as its files and its clients have it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from metatrain.base.errors import UserError
from metatrain.base.section import Count
from metatrain.preferences import choices
from metatrain.preferences.pairs import Answers

# The file of a record, in the folder of its adaptation.
RECORD = "adaptation.json"

# Of what is in a record, which a stranger may have written.
Finite = Annotated[float, Field(allow_inf_nan=False)]
FileName = Annotated[str, Field(pattern=r"^[\w.+-]{1,200}$")]
# By the layout that tools read: kohya's in one file, PEFT's in two.
LoraName = Literal["lora.safetensors", "lora.zip"]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preview(_Stored):
    """Images drawn after so many inner steps: step-STEP-0.png, ..."""

    step: Count
    images: Count


class Drawing(_Stored):
    """An image drawn after adapting, and the settings that draw it again.

    Attributes:
        name: its name among the drawings of its adaptation.
        seed: the seed.
        steps: sampler steps; None for the configuration's.
        guidance: the guidance; None for the configuration's.
        text: words that it was drawn from in the place of the adaptation's; None for these.
        nearest: the index of the given image nearest to it by pixels; None where none is given.
        distance: the root-mean-square distance to that image; pixels are from 0 to 1.
        kept: whether its owner keeps it.
    """

    name: FileName
    seed: Count
    steps: Count | None
    guidance: Finite | None
    text: str | None = None
    nearest: Count | None
    distance: Finite | None
    kept: bool = False


class Summary(_Stored):
    """The state of an adaptation, as a list of them has it.

    Attributes:
        id: not to be guessed.
        model: the name of the model that adapts.
        created: seconds since 1970.
        expires: seconds since 1970 from which on it is removed; None where it stays.
        given: the names of the images; there may be none where there are words or a sound.
        text: the words given.
        sound: the name of the sound given.
        seed: of the noise of the inner steps.
        steps: inner steps to take.
        step: inner steps taken.
        state: "waiting", "adapting", "done" or "failed".
        loss: the loss before the last step; None where it is not finite.
        warning: a line on images that are unlike the training tasks.
        expectation: a line on the quality to expect.
        error: the reason of a failure.
        previews: the images drawn on the way.
        origin: the id of the adaptation that it has learned from choices of; None where its model
            comes from the images alone.
        report: sentences on what choices taught.
        choices: answers to which of two drawings is better.
        decided: pairs that have a winner by these, and by the marks of drawings.
        shows: whether it draws on the way.
        lora: the name of the file that other tools read as a LoRA; None where there is none.
    """

    id: str
    model: str
    created: Finite
    expires: Finite | None = None
    given: tuple[str, ...]
    text: str | None = None
    sound: str | None = None
    seed: Count
    steps: Count
    step: Count = 0
    state: Literal["waiting", "adapting", "done", "failed"] = "waiting"
    loss: Finite | None = None
    warning: str | None = None
    expectation: str | None = None
    error: str | None = None
    previews: tuple[Preview, ...] = ()
    origin: str | None = None
    report: tuple[str, ...] = ()
    choices: Count = 0
    decided: Count = 0
    shows: bool = True
    lora: LoraName | None = None


class Record(Summary):
    """The state of an adaptation.

    Attributes:
        drawings: the images drawn since, in the order of drawing.
        marks: those marked good or bad, by name; the file of choices has them.
    """

    drawings: tuple[Drawing, ...] = ()
    marks: dict[FileName, Literal["good", "bad"]] = {}


def read_record(data: bytes, folder: str) -> Record:
    """Read the state of an adaptation; one that a stop of the server interrupted waits again.

    Args:
        data: its file.
        folder: the URL of its folder, which its id names.

    Raises:
        UserError: when it is no such state.
    """
    try:
        record = Record.model_validate_json(data)
        if record.id != folder.rpartition("/")[2]:
            raise ValueError("it is the record of another adaptation")
    except ValueError as error:
        raise UserError(f"{folder}/{RECORD} cannot be read; remove the folder {folder}.") from error
    if record.state in ("done", "failed"):
        return record
    anew = {"state": "waiting", "step": 0, "loss": None, "previews": (), "report": ()}
    return record.model_copy(update=anew)


def count_choices(url: str) -> dict[str, Any]:
    """Return the fields of a record that tell of the choices and marks in a file.

    The file has them as soon as they are answered, unlike the record's own.

    Raises:
        UserError: when it is missing, or a line is none.
    """
    lines = choices.read_lines(url)
    answers = Answers.of(lines)
    images = {line.drawing: line.image.sha256 for line in lines if isinstance(line, choices.Mark)}
    # Drawings of several names may be one image, such as those of the usual steps and of as many.
    marks = {name: answers.marks[sha256] for name, sha256 in images.items()}
    return {
        "choices": sum(isinstance(line, choices.RaterChoice) for line in lines),
        "decided": len(answers.decided),
        "marks": {name: mark for name, mark in marks.items() if mark != "none"},
    }
