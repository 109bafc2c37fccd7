"""LoRA files that others made, read for one backbone and checked tensor by tensor."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.progress import say
from metatrain.base.text import printable
from metatrain.combine.lora_strength import Strength, strength_beside, strength_in
from metatrain.generators.frozen_folder import PICKLES
from metatrain.generators.networks.backbone import Backbone
from metatrain.learning.inner.low_rank import layers_of, low_rank_terms
from metatrain.model.lora_layouts import ALPHA, COMPONENTS, DOWN, LAYOUTS, UP, paths_of
from metatrain.model.original_layers import OriginalLayer, original_layers
from metatrain.storage.files import MissingError
from metatrain.storage.tensor_file import TensorFile

# Beginnings of what a LoRA may have for text encoders.
_OF_TEXTS = ("lora_te", "text_encoder")
_MOST_SHOWN = 100
_LARGEST_RANK = 4096
# Far above what a LoRA has; the squares of products of such factors are still finite.
_LARGEST_VALUE = 1e5


class LoRATerm(NamedTuple):
    """A layer's term with its strength folded in.

    Attributes:
        down: [r, columns].
        up: [rows, r].
    """

    down: Tensor
    up: Tensor


def read_lora(url: str, backbone: Backbone) -> dict[str, LoRATerm]:
    """Read a LoRA file of kohya's, diffusers' or PEFT's names.

    Terms for text encoders are left out, and named.

    Args:
        url: a safetensors file; that of PEFT has its configuration beside it.
        backbone: the network that it is for, with terms beside the layers that may have one.

    Returns:
        The terms by the names of their layers, in float32.

    Raises:
        UserError: when it cannot be read, is no plain LoRA, or one for another backbone.
    """
    file = _opened(url)
    layers, terms = _layers_by_path(backbone), low_rank_terms(backbone.model)
    weights = {name: layer.weight for name, layer in layers_of(backbone.model)}
    parts = _parts(file)
    strengths = _strengths(file, parts, backbone)
    read: dict[str, LoRATerm] = {}
    for path, names in parts.items():
        original = layers.get(path)
        if original is None:
            raise _other_backbone(
                url, f"has a term for {_shown(path)}", backbone, "has no such layer"
            )
        rows = [len(weights[part]) for part in original.parts]
        shape = (sum(rows), *weights[original.parts[0]].shape[1:])
        term = _term(file, original.parts[0], names, shape, strengths, backbone)
        for layer, part in _by_layer(original, term, rows).items():
            if layer not in terms:
                raise UserError(
                    f"{url} has a term beside {layer}, which inner.scope.target_modules leaves "
                    f"out; add it there."
                )
            if layer in read:
                raise UserError(f"{url} has two terms beside {layer}; fetch it again.")
            read[layer] = part
    if not read:
        raise UserError(f"{url} has no term for a backbone; give a LoRA.")
    return read


def _opened(url: str) -> TensorFile:
    if url.endswith(PICKLES):
        raise UserError(
            f"{url} is a pickle, which runs code when it is read; convert it to safetensors."
        )
    try:
        return TensorFile(url)
    except MissingError as error:
        raise UserError(f"there is no file {url}; give the LoRA's safetensors file.") from error


def _layers_by_path(backbone: Backbone) -> dict[str, OriginalLayer]:
    kind = type(backbone.model).__name__
    count = getattr(backbone.model.config, "layers_per_block", 0)
    per_block = count if isinstance(count, int) else 0
    names = [name for name, _ in layers_of(backbone.model)]
    single = {
        path: OriginalLayer(name, (name,))
        for name in names
        for path in paths_of(name, COMPONENTS.get(kind), per_block)
    }
    kohya = LAYOUTS["kohya"].path
    return single | {kohya(layer.name, None): layer for layer in original_layers(kind, names)}


def _parts(file: TensorFile) -> dict[str, dict[str, str]]:
    """Return the names of the tensors of each layer, by its path and then by factor."""
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    of_texts = [name for name in file.shapes if name.startswith(_OF_TEXTS)]
    if of_texts:
        say(f"{file.url} adapts text encoders too, which is left out: texts are embedded without.")
    for name in sorted(file.shapes.keys() - set(of_texts)):
        factor = next((part for part in (*DOWN, *UP, ALPHA) if name.endswith(f".{part}")), None)
        if factor is None:
            raise UserError(
                f"{file.url} has {_shown(name)}, which plain LoRA has not (DoRA, LoHa, LoKr and "
                f"biases are not read); give a plain LoRA."
            )
        kind = "down" if factor in DOWN else "up" if factor in UP else ALPHA
        parts[name.removesuffix(f".{factor}")][kind] = name
    return parts


def _strengths(
    file: TensorFile, parts: Mapping[str, Mapping[str, str]], backbone: Backbone
) -> Strength:
    start = LAYOUTS["peft"].path("", None)
    if any(path.startswith(start) for path in parts):
        return strength_beside(file.url)
    return strength_in(file.metadata, COMPONENTS.get(type(backbone.model).__name__), file.url)


def _term(
    file: TensorFile,
    layer: str,
    names: Mapping[str, str],
    shape: tuple[int, ...],
    strengths: Strength,
    backbone: Backbone,
) -> LoRATerm:
    if missing := {"down", "up"} - names.keys():
        raise UserError(f"{file.url} lacks the factor {min(missing)} beside {layer}; fetch it.")
    down, up = (file.shapes[names[factor]] for factor in ("down", "up"))
    rank, rows, columns = (down or (0,))[0], shape[0], math.prod(shape[1:])
    if not (_same(down, (rank, *shape[1:])) and _same(up, (rows, rank))):
        there = f"has {list(down)} and {list(up)} beside {layer}"
        ours = f"maps {columns} to {rows} there"
        raise _other_backbone(file.url, there, backbone, ours)
    if not 0 < rank <= _LARGEST_RANK:
        raise UserError(f"{file.url} has a rank of {rank} beside {layer}; give another.")
    try:
        # That which diffusers writes is a whole number.
        alpha = float(file.read(names[ALPHA], as_stored=True).item()) if ALPHA in names else None
        strength = strengths.of(layer, rank, alpha)
    except UserError:
        raise
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{file.url} cannot be used: {error}; fetch it again.") from error
    below, above = (file.read(names[factor]) for factor in ("down", "up"))
    read = LoRATerm(below.reshape(rank, columns), strength * above.reshape(rows, rank))
    if max(float(factor.abs().max()) for factor in read) > _LARGEST_VALUE:
        raise UserError(
            f"{file.url} has numbers above {_LARGEST_VALUE:,.0f} beside {layer}; fetch it again."
        )
    return read


def _by_layer(original: OriginalLayer, term: LoRATerm, rows: Sequence[int]) -> dict[str, LoRATerm]:
    """Return the terms of the layers that make up one of the authors', but for those of 0."""
    ups = original.split(term.up, rows)
    return {
        layer: LoRATerm(term.down, up)
        for layer, up in zip(original.parts, ups, strict=True)
        if len(ups) == 1 or up.any()
    }


def _same(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Compare shapes up to sides of 1 at the end: a convolution of one pixel is a linear layer."""
    return all(a == b for a, b in zip_longest(shape, other, fillvalue=1))


def _other_backbone(url: str, there: str, backbone: Backbone, ours: str) -> UserError:
    kind = type(backbone.model).__name__
    return UserError(
        f"{url} is a LoRA for another backbone: it {there}, and this {kind} {ours}; name the "
        f"backbone that it was made for."
    )


def _shown(name: str) -> str:
    return printable(name)[:_MOST_SHOWN]
