"""Pairs with a winner, by answers and by marks, the rater's consistency, and the pictures."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.text import counted
from metatrain.data.images import BadImage, normalise, shape_of
from metatrain.data.pictures import decode, lossless
from metatrain.metrics.precomputed import pixel_hash
from metatrain.model.model import Model
from metatrain.preferences.choices import Line, Mark, Marking, RaterChoice, image_url, read_lines
from metatrain.preferences.share import Share
from metatrain.storage.files import read_file

# Fewer choices cannot be divided into those that teach and those that judge.
LEAST = 10


@dataclass(frozen=True)
class Answers:
    """Answers of a rater, pair by pair, and the drawings that the rater marked good or bad.

    Attributes:
        choices: all answers but the skipped ones, in their order.
        marks: the last mark of each drawing, by the hash of its image.
    """

    choices: Sequence[RaterChoice]
    marks: Mapping[str, Marking] = field(default_factory=dict)

    @classmethod
    def of(cls, lines: Iterable[Line]) -> "Answers":
        """Leave out what was skipped, and earlier marks."""
        lines = [*lines]
        choices = [c for c in lines if isinstance(c, RaterChoice) and c.answer != "skip"]
        return cls(choices, {m.image.sha256: m.mark for m in lines if isinstance(m, Mark)})

    @cached_property
    def by_pair(self) -> dict[tuple[str, str], list[RaterChoice]]:
        """The answers to each pair, in the order of their first."""
        by_pair: dict[tuple[str, str], list[RaterChoice]] = {}
        for choice in self.choices:
            by_pair.setdefault(choice.pair, []).append(choice)
        return by_pair

    @cached_property
    def decided(self) -> list[tuple[str, str]]:
        """The winner and the loser of each pair that has a winner.

        A pair of answers has one by most of them; after these come those of marks.
        """
        decided = []
        for (first, second), choices in self.by_pair.items():
            lead = sum((c.winner == first) - (c.winner == second) for c in choices)
            if lead:
                decided.append((first, second) if lead > 0 else (second, first))
        return decided + self._marked({sha256 for pair in decided for sha256 in pair})

    def _marked(self, taken: Set[str]) -> list[tuple[str, str]]:
        """Pair each good drawing with a bad one, in the order of their hashes, which is random.

        Every drawing is in one pair at most, and in none where answers have it already: a good one
        that beat all bad ones would make pairs that are no evidence apart from each other.
        """
        good, bad = (
            sorted(s for s, mark in self.marks.items() if mark == kind and s not in taken)
            for kind in ("good", "bad")
        )
        return [*zip(good, bad, strict=False)]

    @property
    def consistency(self) -> Share:
        """The share of repeated answers that are those that the pair had at first."""
        repeated = [
            choice.winner == choices[0].winner
            for choices in self.by_pair.values()
            for choice in choices[1:]
        ]
        return Share(sum(repeated), len(repeated))


@dataclass(frozen=True)
class Pairs:
    """Images of choices with a winner.

    Attributes:
        winners: [N, C, H, W] in [-1, 1].
        losers: [N, C, H, W] in [-1, 1].
    """

    winners: Tensor
    losers: Tensor

    def __len__(self) -> int:
        return len(self.winners)

    def __getitem__(self, rows: Tensor) -> "Pairs":
        return Pairs(self.winners[rows], self.losers[rows])


def read_answers(url: str, model: Model) -> Answers:
    """Read a rater's answers on the drawings of an adapted model.

    Raises:
        UserError: when there are too few with a winner, or some are on drawings of another model.
    """
    lines, sha256 = read_lines(url), model.sha256
    for number, line in enumerate(lines, start=1):
        if line.model != sha256:
            raise UserError(
                f"line {number} of {url} is about drawings of the model {line.model[:12]}, and "
                f"this is {sha256[:12]}; give the adapted model that drew them."
            )
    answers = Answers.of(lines)
    if len(answers.decided) < LEAST:
        raise UserError(
            f"{url} has {counted(len(answers.decided), 'pair')} with a winner, and fewer than "
            f"{LEAST} teach nothing; choose between more."
        )
    return answers


def read_pairs(url: str, answers: Answers, model: Model) -> Pairs:
    """Read the images of all pairs with a winner, which lie beside the file of choices.

    Raises:
        UserError: when one is missing, or is not the image that was chosen or of the model's size.
    """
    hashes = dict.fromkeys(sha256 for pair in answers.decided for sha256 in pair)
    images = {sha256: _image(image_url(url, sha256), sha256, model) for sha256 in hashes}
    winners, losers = zip(*answers.decided, strict=True)
    return Pairs(*(torch.stack([images[h] for h in side]) for side in (winners, losers)))


def stored_image(image: Tensor, model: Model) -> tuple[bytes, str]:
    """Return the PNG file of a drawing [C, H, W], and the hash that names it."""
    content = lossless(image, model.config.data.bits)
    return content, stored_hash(content, model)


def stored_hash(content: bytes, model: Model) -> str:
    """Return the hash that names the PNG file of a drawing."""
    return pixel_hash(_decoded(content, model)).hex()


def _image(url: str, sha256: str, model: Model) -> Tensor:
    try:
        image = _decoded(read_file(url), model)
    except BadImage as error:
        raise UserError(f"{url} cannot be used: {error}; restore the file.") from error
    if pixel_hash(image).hex() != sha256:
        raise UserError(f"{url} is another image than was chosen; restore the file.")
    return image


def _decoded(content: bytes, model: Model) -> Tensor:
    """Decode an image of the model's size, as a stranger's file is decoded.

    Raises:
        BadImage: when it cannot be, or has another size.
    """
    data = model.config.data
    background = "keep" if data.channels == 4 else "white"
    plain = normalise(content, background=background, bits=data.bits).data
    height, width, _ = shape_of(plain)
    if (height, width) != (data.image_size, data.image_size):
        raise BadImage(
            f"it has {width} x {height} pixels, and the model draws {data.image_size} x "
            f"{data.image_size}"
        )
    return decode([plain], data.image_size, data.channels)[0]
