"""Embedded texts that a backbone makes images from: one for all, or a caption for each image."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.generators.frozen import FrozenWeights
from metatrain.generators.networks.backbone_classes import EmbeddedText

# Rows of the texts; captions come behind.
TEXT, NEGATIVE = 0, 1
# By this name, examples have the row of their text.
ROWS = "text_rows"

_MOST_SHOWN = 80


def caption_key(caption: str) -> bytes:
    """Return the 32 bytes that a caption is looked up by."""
    return hashlib.sha256(caption.encode()).digest()


class EmbeddedTexts(nn.Module):
    """Texts of a file of `metatrain embed-text`, or zeros in their place.

    Args:
        weights: the file; None for zeros.
        widths: D and P, which the backbone takes.
        tokens: the length of the zeros.

    Raises:
        UserError: when the file has no such texts.
    """

    def __init__(self, weights: FrozenWeights | None, widths: tuple[int, int], tokens: int) -> None:
        super().__init__()
        width, pooled = widths
        states, summary = torch.zeros(2, tokens, width), torch.zeros(2, pooled)
        self._rows: dict[bytes, int] = {}
        if weights is not None:
            device = states.device
            states, summary, keys = _read(weights, width, pooled)
            states, summary = states.to(device), summary.to(device)
            self._rows = {key: row for row, key in enumerate(keys, start=NEGATIVE + 1)}
        self.register_buffer("states", states)
        self.register_buffer("pooled", summary)

    def forward(self, rows: Tensor, dtype: torch.dtype) -> EmbeddedText:
        """Return the texts of rows [B]."""
        states, pooled = self.get_buffer("states"), self.get_buffer("pooled")
        return EmbeddedText(states[rows].to(dtype), pooled[rows].to(dtype))

    def rows(self, captions: Sequence[str]) -> Tensor:
        """Return the rows [B] of captions; an empty one is the text of all.

        Raises:
            UserError: when one has not been embedded.
        """
        return torch.tensor([self._row(caption) for caption in captions], device="cpu")

    def _row(self, caption: str) -> int:
        if not caption:
            return TEXT
        row = self._rows.get(caption_key(caption))
        if row is None:
            raise UserError(
                f"the caption '{printable(caption)[:_MOST_SHOWN]}' is not among the "
                f"{len(self._rows):,} that generator.text has embedded; embed it with them, or "
                f"leave it out for the text of all images."
            )
        return row


def _read(weights: FrozenWeights, width: int, pooled: int) -> tuple[Tensor, Tensor, list[bytes]]:
    """Read the texts [2 + N, L, D] and [2 + N, P], and the keys of N captions."""
    tensors = weights.tensors()
    none = torch.empty(0, 32, dtype=torch.uint8)
    states, summary = (tensors.get(name, none) for name in ("states", "pooled"))
    keys = tensors.get("captions", none)
    shaped = (states.ndim, summary.ndim, keys.ndim) == (3, 2, 2) and keys.shape[1] == 32
    counted = shaped and len(states) == len(summary) == 2 + len(keys)
    finite = all(t.is_floating_point() and t.isfinite().all() for t in (states, summary))
    if not (counted and finite) or keys.dtype != torch.uint8:
        raise UserError(
            f"{weights.path} holds no embedded text; make it with metatrain embed-text."
        )
    if states.shape[2] != width or summary.shape[1:] != (pooled,):
        raise UserError(
            f"{weights.path} holds texts of width {states.shape[2]} and {summary.shape[-1]}, and "
            f"the backbone takes {width} and {pooled}; embed the text with its own pipeline."
        )
    return states, summary, [key.numpy().tobytes() for key in keys]
