"""The protocols of the benchmark: the meaning of a task, and its split."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from metatrain.data.packed.writer import sha256_of
from metatrain.data.packing.emoji.hands import EmojiDrawing

# Shares of the subgroups of each group.
_TEST, _VAL = 0.2, 0.1
# A hand with a style of its own, and with drawings of most emoji.
UNSEEN = "fluent"


@dataclass(frozen=True)
class EmojiProtocol:
    """A protocol.

    Attributes:
        by_hand: whether a task is a subgroup as one hand draws it, rather than an emoji.
        images: the fewest images of a task.
        unseen: a hand that no task of training and validation has.
        tests_unseen: whether the test tasks are those of the unseen hand, rather than those of the
            others.
    """

    by_hand: bool
    images: int
    unseen: str | None = None
    tests_unseen: bool = False

    def task_of(self, drawing: EmojiDrawing) -> str:
        """Return the task of a drawing."""
        emoji = drawing.emoji
        return f"{drawing.hand}: {emoji.subgroup}" if self.by_hand else emoji.label

    def split_of(self, drawing: EmojiDrawing, splits: Mapping[str, str]) -> str | None:
        """Return the split of a drawing's task; None where the protocol leaves it out.

        Args:
            drawing: the drawing.
            splits: by subgroup, its split.
        """
        if drawing.hand == self.unseen:
            return "test" if self.tests_unseen else None
        split = splits[drawing.emoji.subgroup]
        return None if split == "test" and self.tests_unseen else split


BY_EMOJI = EmojiProtocol(by_hand=False, images=5)
BY_HAND = EmojiProtocol(by_hand=True, images=10, unseen=UNSEEN)
# The training and validation tasks of `BY_HAND`, and the unseen hand to test on.
NEW_HAND = EmojiProtocol(by_hand=True, images=10, unseen=UNSEEN, tests_unseen=True)


def subgroup_splits(groups: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Return the split of every subgroup: of each group a fifth are test, and a tenth are val.

    So animals, food, tools and all else are in every split, and no subgroup is in two.

    Args:
        groups: by group of Unicode, its subgroups.
    """
    splits: dict[str, str] = {}
    for subgroups in groups.values():
        order = sorted(subgroups, key=_lot)
        test, val = (max(1, round(share * len(order))) for share in (_TEST, _VAL))
        names = ["test"] * test + ["val"] * val + ["train"] * len(order)
        splits |= zip(order, names, strict=False)
    return splits


def _lot(subgroup: str) -> str:
    return sha256_of(f"emoji/{subgroup}".encode())
