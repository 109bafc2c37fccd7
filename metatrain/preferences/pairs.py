"""Choices with a winner, the rater's consistency, and the pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.text import counted
from metatrain.data.images import BadImage, normalise, shape_of
from metatrain.data.pictures import decode, png
from metatrain.metrics.precomputed import pixel_hash
from metatrain.model.model import Model
from metatrain.preferences.choices import RaterChoice, image_url, read_choices
from metatrain.preferences.share import Share
from metatrain.storage.files import read_file

# Fewer choices cannot be divided into those that teach and those that judge.
LEAST = 10


@dataclass(frozen=True)
class Answers:
    """Answers of a rater, pair by pair.

    Attributes:
        choices: all answers but the skipped ones, in their order.
    """

    choices: Sequence[RaterChoice]

    @classmethod
    def of(cls, choices: Iterable[RaterChoice]) -> "Answers":
        """Leave out what was skipped."""
        return cls([choice for choice in choices if choice.answer != "skip"])

    @cached_property
    def by_pair(self) -> dict[tuple[str, str], list[RaterChoice]]:
        """The answers to each pair, in the order of their first."""
        by_pair: dict[tuple[str, str], list[RaterChoice]] = {}
        for choice in self.choices:
            by_pair.setdefault(choice.pair, []).append(choice)
        return by_pair

    @cached_property
    def decided(self) -> list[tuple[str, str]]:
        """The winner and the loser of each pair that has a winner by most of its answers."""
        decided = []
        for (first, second), choices in self.by_pair.items():
            lead = sum((c.winner == first) - (c.winner == second) for c in choices)
            if lead:
                decided.append((first, second) if lead > 0 else (second, first))
        return decided

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
    choices, sha256 = read_choices(url), model.sha256
    for number, choice in enumerate(choices, start=1):
        if choice.model != sha256:
            raise UserError(
                f"line {number} of {url} is about drawings of the model {choice.model[:12]}, and "
                f"this is {sha256[:12]}; give the adapted model that drew them."
            )
    answers = Answers.of(choices)
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
    content = png(image)
    return content, pixel_hash(_decoded(content, model)).hex()


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
    plain = normalise(content, background="keep" if data.channels == 4 else "white").data
    height, width, _ = shape_of(plain)
    if (height, width) != (data.image_size, data.image_size):
        raise BadImage(
            f"it has {width} x {height} pixels, and the model draws {data.image_size} x "
            f"{data.image_size}"
        )
    return decode([plain], data.image_size, data.channels)[0]
