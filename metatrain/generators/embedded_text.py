"""Texts embedded once by the frozen encoders of a pipeline, so that training needs none of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.generators.networks.backbone_texts import caption_key
from metatrain.generators.text_pipelines import encoder_of

# Stands for the caption of an image in a text.
_PLACE = "{}"


@torch.no_grad()
def embed_text(
    folder: str,
    text: str,
    negative: str = "",
    captions: Sequence[str] = (),
    tokens: int | None = None,
) -> dict[str, Tensor]:
    """Embed a text, what stands for no text, and the captions of images, as a pipeline does.

    Args:
        folder: of the whole pipeline, on this machine.
        text: the text that examples are made from, with {} in the place of their captions.
        negative: the text that guidance leads away from.
        captions: distinct captions, none of them empty.
        tokens: how many T5 reads, where there is one; by default as many as the pipeline does.

    Returns:
        `states` [2 + N, L, D] and `pooled` [2 + N, P]: row 0 is of the text without a caption, row
        1 of the negative, and the rest of the N captions; in half precision where there are any,
        with their keys in `captions` [N, 32].

    Raises:
        UserError: when the folder holds no pipeline whose texts are known, `tokens` has no meaning
            for it, or the text has no place for captions.
    """
    if bool(captions) != (_PLACE in text):
        raise UserError(
            f"captions stand in the place of {_PLACE} in the text, as in 'a photo of sks, "
            f"{_PLACE}'; give both, or neither."
        )
    encode = encoder_of(folder, tokens)
    states, pooled = encode(text.replace(_PLACE, "").strip(" ,"), negative)
    if not captions:
        return {"states": states, "pooled": pooled}
    parts = [(states.half(), pooled.half())]
    for caption in tracked("embedding captions", captions, len(captions)):
        one, summary = encode(text.replace(_PLACE, caption), None)
        parts.append((one.half(), summary.half()))
    keys = b"".join(map(caption_key, captions))
    return {
        "states": torch.cat([part[0] for part in parts]),
        "pooled": torch.cat([part[1] for part in parts]),
        "captions": torch.frombuffer(bytearray(keys), dtype=torch.uint8).view(-1, 32),
    }
