"""Names of the tensors of a LoRA in the files of other tools."""

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

LayoutName = Literal["diffusers", "kohya", "peft"]

# What pipelines call the network, and the classes that have names in kohya's files.
COMPONENTS = {
    "UNet2DConditionModel": "unet",
    "SD3Transformer2DModel": "transformer",
    "FluxTransformer2DModel": "transformer",
}
PEFT_CONFIG = "adapter_config.json"
LORA_FILE, PEFT_FILE = "pytorch_lora_weights.safetensors", "adapter_model.safetensors"
# The strength of a layer's terms is this number by their rank.
ALPHA = "alpha"


class LoRANames(NamedTuple):
    """Names as one tool has them: `<path of the layer>.<factor>`.

    Attributes:
        path: returns the path of a layer within a component of a pipeline.
        down: the name of the factor next to the layer's input.
        up: the name of the factor next to its output.
    """

    path: Callable[[str, str | None], str]
    down: str
    up: str


LAYOUTS: dict[LayoutName, LoRANames] = {
    "diffusers": LoRANames(
        lambda layer, component: f"{component}.{layer}", "lora_A.weight", "lora_B.weight"
    ),
    "kohya": LoRANames(
        lambda layer, _: f"lora_unet_{layer.replace('.', '_')}",
        "lora_down.weight",
        "lora_up.weight",
    ),
    "peft": LoRANames(
        lambda layer, _: f"base_model.model.{layer}", "lora_A.weight", "lora_B.weight"
    ),
}
# As diffusers wrote them before it used PEFT.
_EARLIER = LoRANames(LAYOUTS["diffusers"].path, "lora.down.weight", "lora.up.weight")

_READ = (*LAYOUTS.values(), _EARLIER)
DOWN, UP = {layout.down for layout in _READ}, {layout.up for layout in _READ}

# Stable Diffusion's own names of parts within a block, which kohya keeps for SDXL.
_PARTS_OF_RESNETS = {
    "conv1": "in_layers_2",
    "conv2": "out_layers_3",
    "time_emb_proj": "emb_layers_1",
    "conv_shortcut": "skip_connection",
}


def paths_of(layer: str, component: str | None, per_block: int) -> list[str]:
    """List the paths that files have for a layer.

    Args:
        layer: its name in the backbone.
        component: the backbone's name in a pipeline; None where none loads a LoRA for it.
        per_block: residual layers in a block of a U-Net's way down.
    """
    paths = [layout.path(layer, component) for layout in LAYOUTS.values()]
    original = _original_name(layer, per_block)
    return [*paths, f"lora_unet_{original.replace('.', '_')}"] if original else paths


def _original_name(layer: str, per_block: int) -> str | None:
    """Return the name of a U-Net's layer as Stable Diffusion's own code has it, where it differs.

    There the way down and the way up are lists of layers, each with its attention behind it.
    """
    fields = re.fullmatch(r"(down|mid|up)_block(?:s\.(\d+))?\.(\w+)\.(\d+)\.(.+)", layer)
    if fields is None:
        return None
    side, block, kind, at, rest = fields.groups()
    block, at = int(block or 0), int(at)
    if kind == "resnets":
        rest = _PARTS_OF_RESNETS.get(rest, rest)
    if side == "mid":
        return f"middle_block.{2 * at + (kind == 'attentions')}.{rest}"
    if side == "down":
        if kind == "downsamplers":
            return f"input_blocks.{(block + 1) * (per_block + 1)}.0.op"
        return f"input_blocks.{block * (per_block + 1) + at + 1}.{int(kind == 'attentions')}.{rest}"
    if kind == "upsamplers":
        return f"output_blocks.{block * (per_block + 1) + per_block}.2.{rest}"
    return f"output_blocks.{block * (per_block + 1) + at}.{int(kind == 'attentions')}.{rest}"
