"""Random backbones of every class, written as diffusers writes them, and configurations of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from metatrain.config import Config, load_config
from metatrain.generators.diffusers_import import diffusers_class

# Channels of a latent, and its side.
_CHANNELS, _SIDE = 4, 16
_FLOWS = ("SD3Transformer2DModel", "FluxTransformer2DModel")


def _unet(width: int, **further: Any) -> dict[str, Any]:
    sizes = {"in_channels": _CHANNELS, "out_channels": _CHANNELS, "sample_size": _SIDE}
    widths = {"block_out_channels": (width, 2 * width), "attention_head_dim": 16}
    return {**sizes, **widths, "layers_per_block": 2, "norm_num_groups": 8, **further}


def _transformer(width: int, **further: Any) -> dict[str, Any]:
    heads = {"num_attention_heads": width // 16, "attention_head_dim": 16, "num_layers": 4}
    return {**heads, "joint_attention_dim": 64, "pooled_projection_dim": 64, **further}


def sizes_of(width: int) -> dict[str, dict[str, Any]]:
    """Return what each class is made with, by its name; `width` in channels, a multiple of 16."""
    crossing = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
    plain = ("DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D")
    channels = {"in_channels": _CHANNELS, "out_channels": _CHANNELS, "sample_size": _SIDE}
    return {
        "UNet2DModel": _unet(width, down_block_types=plain[0], up_block_types=plain[1]),
        "UNet2DConditionModel": _unet(
            width, cross_attention_dim=64, down_block_types=crossing[0], up_block_types=crossing[1]
        ),
        "DiTTransformer2DModel": {
            **channels,
            "num_attention_heads": width // 16,
            "attention_head_dim": 16,
            "num_layers": 4,
            "patch_size": 2,
            "num_embeds_ada_norm": 10,
        },
        "SD3Transformer2DModel": _transformer(
            width, **channels, patch_size=2, caption_projection_dim=width, pos_embed_max_size=_SIDE
        ),
        "FluxTransformer2DModel": _transformer(
            width, in_channels=4 * _CHANNELS, num_single_layers=4, axes_dims_rope=(4, 6, 6)
        ),
    }


def config_of(folder: Path, name: str, width: int, overrides: Sequence[str]) -> Config:
    """Write the class's model and scheduler under `folder` if they are not there; configure them.

    Args:
        folder: where.
        name: of the class.
        width: see `sizes_of`.
        overrides: of the configuration.
    """
    place = folder / f"{name}-{width}"
    if not (place / "scheduler" / "scheduler_config.json").exists():
        torch.manual_seed(0)
        diffusers_class(name)(**sizes_of(width)[name]).save_pretrained(place / "model")
        flow = name in _FLOWS
        scheduler = "FlowMatchEulerDiscreteScheduler" if flow else "DDPMScheduler"
        diffusers_class(scheduler)().save_pretrained(place / "scheduler")
    fixed = [
        *(f"generator.path={place}", "generator.name=diffusers", "generator.subfolder=model"),
        *(f"objective.path={place}", "objective.name=diffusers", "objective.subfolder=scheduler"),
        *("inner.scope.name=lora", "inner.scope.target_modules=[to_q,to_k,to_v,to_out.0]"),
        # Four channels are those of RGBA, in the place of a codec's latents.
        *(f"data.image_size={_SIDE}", f"data.channels={_CHANNELS}", "inner.scope.rank=8"),
    ]
    return load_config(None, [*fixed, *overrides])
