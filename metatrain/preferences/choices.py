"""The file of choices: JSON lines, appended to one by one, beside a folder of the images.

A line is an answer to which of two drawings is better, or the mark of one as good or bad. An image
is the file `images/SHA256.png` beside the choices, named by the hash of its pixels
(`metatrain.metrics.precomputed.pixel_hash`). A line that `append_line` has returned from outlives a
crash and a power cut; what these cut off is no line, and the next one takes its place.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.storage.files import MissingError, reaching, read_file

FILE = "choices.jsonl"
# More would take a person weeks.
MOST = 20_000
_MOST_BYTES = 2000 * MOST

Answer = Literal["left", "right", "tie", "skip"]
Marking = Literal["good", "bad", "none"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Drawn(_Line):
    """An image of a choice.

    Attributes:
        sha256: the hash of its pixels, which its file is named by.
        seed: the seed that it was drawn with.
    """

    sha256: Sha256
    seed: Annotated[int, Field(ge=0, lt=2**64)]


class RaterChoice(_Line):
    """One answer to the question which of two drawings is better.

    Attributes:
        format: changes when older readers could not read the line.
        model: the hash of the adapted model that drew both, see `Model.sha256`.
        left: the image on the left.
        right: the image on the right.
        answer: the better one; "tie" where neither is, "skip" where there was no answer.
        repeated: whether the pair was shown once more, to see how consistent the rater is.
        seconds: how long the rater looked.
        time: seconds since 1970.
    """

    format: Literal["metatrain-choice-1"] = "metatrain-choice-1"
    model: Sha256
    left: Drawn
    right: Drawn
    answer: Answer
    repeated: bool
    seconds: Annotated[float, Field(ge=0, le=1e7)]
    time: Annotated[float, Field(ge=0, le=1e11)]

    @model_validator(mode="after")
    def _two_images(self) -> "RaterChoice":
        if self.left.sha256 == self.right.sha256 and self.winner:
            raise ValueError("left and right are one image, and one of them is better")
        return self

    @property
    def pair(self) -> tuple[str, str]:
        """The hashes of both images, in an order that no side decides."""
        first, second = sorted((self.left.sha256, self.right.sha256))
        return first, second

    @property
    def hashes(self) -> tuple[str, ...]:
        """The hashes of its images."""
        return self.pair

    @property
    def winner(self) -> str | None:
        """The hash of the better image; None where there is none."""
        sides = {"left": self.left.sha256, "right": self.right.sha256}
        return sides.get(self.answer)


class Mark(_Line):
    """A drawing that was marked good or bad, or freed of its mark; the last mark of one counts.

    Attributes:
        format: changes when older readers could not read the line.
        model: the hash of the adapted model that drew it, see `Model.sha256`.
        drawing: its name among the drawings of the model.
        image: the drawing.
        mark: "none" where an earlier mark is taken back.
        time: seconds since 1970.
    """

    format: Literal["metatrain-mark-1"] = "metatrain-mark-1"
    model: Sha256
    drawing: Annotated[str, Field(pattern=r"^[\w.+-]{1,200}$")]
    image: Drawn
    mark: Marking
    time: Annotated[float, Field(ge=0, le=1e11)]

    @property
    def hashes(self) -> tuple[str, ...]:
        """The hash of its image."""
        return (self.image.sha256,)


Line = RaterChoice | Mark


def _kind(line: object) -> str:
    marked = isinstance(line, dict) and line.get("format") == "metatrain-mark-1"
    return "mark" if marked else "choice"


_LINE: TypeAdapter[Line] = TypeAdapter(
    Annotated[
        Annotated[RaterChoice, Tag("choice")] | Annotated[Mark, Tag("mark")], Discriminator(_kind)
    ]
)


def image_url(choices_url: str, sha256: str) -> str:
    """Return the file of an image of the choices in a file."""
    folder = choices_url.rpartition("/")[0]
    return f"{folder or '.'}/images/{sha256}.png"


def append_line(file: Path, line: Line) -> None:
    """Append a choice or a mark to a file, and return once it is on the disk.

    One process appends at a time.

    Raises:
        UserError: when it cannot be written.
    """
    with reaching(str(file)):
        _append(file, line.model_dump_json().encode() + b"\n")
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # or a power cut might take the name of a new file
        finally:
            os.close(folder)


def _append(file: Path, line: bytes) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    opened = os.open(file, flags, 0o600)
    try:
        _end_last_line(opened)
        _write(opened, line)
        os.fsync(opened)
    finally:
        os.close(opened)


def read_choices(url: str) -> list[RaterChoice]:
    """Read the answers to pairs in a file of choices, in their order; see `read_lines`."""
    return [line for line in read_lines(url) if isinstance(line, RaterChoice)]


def read_lines(url: str) -> list[Line]:
    """Read a file of choices, in their order.

    Args:
        url: a path or any fsspec URL.

    Raises:
        MissingError: when there is none.
        UserError: when a line is neither a choice nor a mark, with its number.
    """
    try:
        data = read_file(url)
    except MissingError as error:
        raise MissingError(f"there is no file of choices at {url}; name one.") from error
    if len(data) > _MOST_BYTES:
        raise UserError(f"{url} has {len(data):,} bytes; choices take at most {_MOST_BYTES:,}.")
    lines, last = _lines(data)
    if len(lines) > MOST:
        raise UserError(f"{url} has {len(lines):,} lines; give at most {MOST:,} choices.")
    whole = [_line(line, url, number) for number, line in enumerate(lines, start=1)]
    return [*whole, last] if last else whole


def _lines(data: bytes) -> tuple[list[bytes], Line | None]:
    """Return the whole lines, and the choice or mark in a last one without end, where it is one."""
    *lines, rest = data.split(b"\n")
    return lines, _parsed(rest)


def _parsed(line: bytes) -> Line | None:
    try:
        return _LINE.validate_json(line)
    except ValidationError:
        return None


def _line(line: bytes, url: str, number: int) -> Line:
    try:
        return _LINE.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UserError(
            f"line {number} of {url} is no choice: {_reason(first)}; mend or remove the line."
        ) from error


def _reason(error: ErrorDetails) -> str:
    if error["type"] == "json_invalid":
        return "it is not JSON"
    key = printable(".".join(map(str, error["loc"][1:])))  # after the kind of the line
    reason = printable(error["msg"]).removeprefix("Value error, ")
    return f"{f'{key}: ' if key else ''}{reason[0].lower()}{reason[1:]}"


def _end_last_line(opened: int) -> None:
    """End a last line without end, or remove it where a crash cut it off."""
    size = os.fstat(opened).st_size
    tail = os.pread(opened, min(size, _MOST_BYTES // MOST), max(0, size - _MOST_BYTES // MOST))
    rest = tail.rpartition(b"\n")[2]
    if not rest:
        return
    if _parsed(rest):
        _write(opened, b"\n")
    else:
        os.ftruncate(opened, size - len(rest))


def _write(opened: int, data: bytes) -> None:
    while data:
        data = data[os.write(opened, data) :]
