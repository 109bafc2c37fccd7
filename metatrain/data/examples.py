"""Examples: targets of a task, each with the conditions it is generated from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

# One condition of every example: numbers [B, ...], or a string for each.
Condition = Tensor | tuple[str, ...]


@dataclass(frozen=True)
class Examples:
    """Targets, and by name the conditions that each is generated from.

    Attributes:
        target: [B, C, H, W] in [-1, 1]; or latents.
        given: conditions by name; the first dimension, or the length, is B.
        encoded: whether the targets are latents already, as a data set may store them.
    """

    target: Tensor
    given: Mapping[str, Condition] = field(default_factory=dict)
    encoded: bool = False

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, rows: slice) -> "Examples":
        given = {name: c[rows] for name, c in self.given.items()}
        return Examples(self.target[rows], given, self.encoded)

    def split(self, count: int) -> tuple["Examples", "Examples"]:
        """Cut into the first `count` examples and the rest."""
        return self[:count], self[count:]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Examples":
        """Apply `function` to the targets and to every condition that is a tensor."""
        given = {n: function(c) if isinstance(c, Tensor) else c for n, c in self.given.items()}
        return Examples(function(self.target), given, self.encoded)

    def to(self, place: torch.device | torch.dtype) -> "Examples":
        """Move to a device, or convert the targets and conditions to a dtype."""
        return self.map(lambda tensor: tensor.to(place))


def concatenated(parts: Sequence[Examples]) -> Examples:
    """Join examples that have the same conditions, in order."""
    given = {name: _joined([part.given[name] for part in parts]) for name in parts[0].given}
    return Examples(torch.cat([part.target for part in parts]), given, parts[0].encoded)


def _joined(conditions: Sequence[Condition]) -> Condition:
    tensors = [c for c in conditions if isinstance(c, Tensor)]
    if tensors:
        return torch.cat(tensors)
    return tuple(text for texts in conditions for text in texts if isinstance(text, str))


def repeated_to(count: int, condition: Condition, first: int = 0) -> Condition:
    """Repeat the values of a condition in turn until there are `count`, from the `first` on."""
    rows = [(first + i) % len(condition) for i in range(count)]
    return condition[rows] if isinstance(condition, Tensor) else tuple(condition[i] for i in rows)
