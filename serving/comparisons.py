"""Which is better: pairs of drawings of an adaptation, the answers to them, and marks of one."""

import random
import time
from dataclasses import dataclass

from metatrain.preferences.choices import Answer, Drawn, Mark, Marking, RaterChoice
from metatrain.preferences.pairs import stored_hash
from serving.adaptations import Adaptation
from serving.computing import Computing, Wish
from serving.limits import RequestError
from serving.models import Models
from serving.records import Drawing, Record
from serving.worker import Job

# Seeds of pairs begin beyond those that people type.
_FIRST_SEED = 1_000_000
# The last of so many pairs is one of the others once more.
_REPEATED = 10


@dataclass(frozen=True)
class Turn:
    """A pair's turn: its seeds, and whether it is shown once more.

    Attributes:
        left: the seed of the drawing on the left.
        right: the seed of the drawing on the right.
        repeated: whether the pair was shown before.
    """

    left: int
    right: int
    repeated: bool


def turn_of(identifier: str, number: int) -> Turn:
    """Return turn `number` of an adaptation, counted from 0, on random sides.

    It depends on nothing else, so that a restart goes on where it was, and a page can ask for the
    next pair before this one is answered.
    """
    stream = random.Random(f"{identifier}/{number}")
    repeated = number % _REPEATED == _REPEATED - 1
    # Not the pair just before, which everybody remembers.
    pair = number - stream.randrange(2, _REPEATED) if repeated else number
    first = _FIRST_SEED + 2 * pair
    left, right = stream.sample((first, first + 1), 2)
    return Turn(left, right, repeated)


@dataclass(frozen=True)
class ShownPair:
    """Two drawings to compare.

    Attributes:
        number: the number of the turn.
        left: the drawing on the left.
        right: the drawing on the right.
    """

    number: int
    left: Drawn
    right: Drawn


def show_pair(adaptation: Adaptation, computing: Computing, number: int) -> Job[ShownPair]:
    """Draw the pair of a turn, and write its images beside the choices.

    Raises:
        UserError: when the model can never learn from choices, before anybody makes any.
    """
    turn = turn_of(adaptation.record.id, number)
    seeds, compared = (turn.left, turn.right), adaptation.compared
    wishes = [Wish(seed=seed, compared=True) for seed in seeds if seed not in compared]
    pictures = computing.draw(adaptation.source, wishes)
    for wish, picture in zip(wishes, pictures, strict=True):
        assert picture.sha256 is not None  # it is compared
        adaptation.write(adaptation.compared_file(picture.sha256), picture.content)
        compared[wish.seed] = picture.sha256
        yield
    return ShownPair(number, *(Drawn(sha256=compared[seed], seed=seed) for seed in seeds))


def choose(
    adaptation: Adaptation, computing: Computing, *, number: int, answer: Answer, seconds: float
) -> Job[Record]:
    """Append the answer of a turn to the file of choices, and return the state that counts it.

    Raises:
        RequestError: when it is not the next turn's, or tells one image from itself.
    """
    pair = yield from show_pair(adaptation, computing, number)
    model = computing.sha256_of(adaptation.source)
    return adaptation.append(lambda record: _choice(record, pair, model, answer, seconds))


def _choice(
    record: Record, pair: ShownPair, model: str, answer: Answer, seconds: float
) -> RaterChoice:
    number = pair.number
    if number != record.choices:
        raise RequestError(
            409, f"pair {number} is not the next one, which is {record.choices}; answer that."
        )
    if pair.left.sha256 == pair.right.sha256 and answer in ("left", "right"):
        raise RequestError(422, "both drawings are one image; answer tie or skip.")
    return RaterChoice(
        model=model,
        left=pair.left,
        right=pair.right,
        answer=answer,
        repeated=turn_of(record.id, number).repeated,
        seconds=seconds,
        time=time.time(),
    )


def mark(
    adaptation: Adaptation,
    models: Models,
    computing: Computing,
    *,
    drawing: Drawing,
    marking: Marking,
) -> Job[Record]:
    """Append the mark of a drawing to the file of choices, and return the state that has it.

    Raises:
        UserError: when the model can never learn from marks.
        MissingError: when the drawing has given way to newer ones.
        FileNotFoundError: as a MissingError.
    """
    disk = adaptation.disk
    model = computing.sha256_of(adaptation.source)
    content = disk.read(adaptation.drawing_file(drawing.name))
    sha256 = stored_hash(content, models[adaptation.record.model])
    if not disk.has(adaptation.compared_file(sha256)):
        adaptation.write(adaptation.compared_file(sha256), content)
    line = Mark(
        model=model,
        drawing=drawing.name,
        image=Drawn(sha256=sha256, seed=drawing.seed),
        mark=marking,
        time=time.time(),
    )
    return adaptation.append(lambda _: line)
    yield
