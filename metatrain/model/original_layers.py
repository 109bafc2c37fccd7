"""Layers of transformers as their authors' code has them: one there may be several in diffusers.

kohya's LoRA files, and ComfyUI, name these.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor


class OriginalLayer(NamedTuple):
    """A layer of the authors' code.

    Attributes:
        name: its name there.
        parts: the layers of diffusers whose outputs it computes, one after the other.
        swapped: whether the two halves of its output, scale and shift, change places there.
    """

    name: str
    parts: tuple[str, ...]
    swapped: bool = False

    def joined(self, factors: Collection[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return one down [r, ...] and up [rows, r, ...] of those of the parts, in their order."""
        if len(factors) > 1:
            downs, ups = zip(*factors, strict=True)
            return torch.cat(downs), torch.block_diag(*ups)
        [(down, up)] = factors
        return down, torch.cat(up.chunk(2)[::-1]) if self.swapped else up

    def split(self, up: Tensor, rows: Collection[int]) -> tuple[Tensor, ...]:
        """Return the up [rows of a part, r] of each part."""
        return (torch.cat(up.chunk(2)[::-1]),) if self.swapped else up.split(list(rows))


def original_layers(kind: str, layers: Collection[str]) -> list[OriginalLayer]:
    """List the authors' layers that a transformer of diffusers has.

    Args:
        kind: its class.
        layers: names of its layers.

    Returns:
        Those of which diffusers has all parts; none for a class whose names are not known.
    """
    known = _layers_of(kind, 1 + max(map(_number, layers), default=-1))
    return [layer for layer in known if set(layer.parts) <= set(layers)]


def _number(layer: str) -> int:
    block = re.match(r"(?:single_)?transformer_blocks\.(\d+)\.", layer)
    return int(block[1]) if block else -1


def _layers_of(kind: str, blocks: int) -> Iterator[OriginalLayer]:
    for (name, parts), block in product(_NAMES.get(kind, {}).items(), range(max(1, blocks))):
        if "#" not in name and block:
            continue
        at = [text.replace("#", str(block)) for text in (name, *parts)]
        # The last block of Stable Diffusion 3 has no output for the text, and norms it at the end.
        last = kind == "SD3Transformer2DModel" and block == blocks - 1 and name == _NORM_OF_TEXT
        yield OriginalLayer(at[0], tuple(at[1:]), swapped=last or name == _LAST_NORM)


def _prefixed(start: str, ours: str, parts: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return names and parts behind prefixes; parts are separated by spaces."""
    return {
        f"{start}{name}": tuple(f"{ours}{part}" for part in value.split())
        for name, value in parts.items()
    }


_LAST_NORM, _NORM_OF_TEXT = (
    "final_layer.adaLN_modulation.1",
    "joint_blocks.#.context_block.adaLN_modulation.1",
)
_LAST = {"final_layer.linear": "proj_out", _LAST_NORM: "norm_out.linear"}
_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "SD3Transformer2DModel": _prefixed(
        "joint_blocks.#.",
        "transformer_blocks.#.",
        {
            "x_block.attn.qkv": "attn.to_q attn.to_k attn.to_v",
            "x_block.attn.proj": "attn.to_out.0",
            "x_block.attn2.qkv": "attn2.to_q attn2.to_k attn2.to_v",
            "x_block.attn2.proj": "attn2.to_out.0",
            "x_block.mlp.fc1": "ff.net.0.proj",
            "x_block.mlp.fc2": "ff.net.2",
            "x_block.adaLN_modulation.1": "norm1.linear",
            "context_block.attn.qkv": "attn.add_q_proj attn.add_k_proj attn.add_v_proj",
            "context_block.attn.proj": "attn.to_add_out",
            "context_block.mlp.fc1": "ff_context.net.0.proj",
            "context_block.mlp.fc2": "ff_context.net.2",
            "context_block.adaLN_modulation.1": "norm1_context.linear",
        },
    )
    | _prefixed(
        "",
        "",
        {
            **_LAST,
            "x_embedder.proj": "pos_embed.proj",
            "context_embedder": "context_embedder",
            "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
            "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
            "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
            "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
        },
    ),
    "FluxTransformer2DModel": _prefixed(
        "double_blocks.#.",
        "transformer_blocks.#.",
        {
            "img_attn.qkv": "attn.to_q attn.to_k attn.to_v",
            "img_attn.proj": "attn.to_out.0",
            "img_mlp.0": "ff.net.0.proj",
            "img_mlp.2": "ff.net.2",
            "img_mod.lin": "norm1.linear",
            "txt_attn.qkv": "attn.add_q_proj attn.add_k_proj attn.add_v_proj",
            "txt_attn.proj": "attn.to_add_out",
            "txt_mlp.0": "ff_context.net.0.proj",
            "txt_mlp.2": "ff_context.net.2",
            "txt_mod.lin": "norm1_context.linear",
        },
    )
    | _prefixed(
        "single_blocks.#.",
        "single_transformer_blocks.#.",
        {
            "linear1": "attn.to_q attn.to_k attn.to_v proj_mlp",
            "linear2": "proj_out",
            "modulation.lin": "norm.linear",
        },
    )
    | _prefixed(
        "",
        "time_text_embed.",
        {
            "time_in.in_layer": "timestep_embedder.linear_1",
            "time_in.out_layer": "timestep_embedder.linear_2",
            "vector_in.in_layer": "text_embedder.linear_1",
            "vector_in.out_layer": "text_embedder.linear_2",
            "guidance_in.in_layer": "guidance_embedder.linear_1",
            "guidance_in.out_layer": "guidance_embedder.linear_2",
        },
    )
    | _prefixed("", "", {**_LAST, "img_in": "x_embedder", "txt_in": "context_embedder"}),
}
