"""Classes of diffusers that can be a backbone, each with how it is called."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from metatrain.base.errors import UserError

# Pixels of an image for each value of a latent, which SDXL is told sizes in.
_FACTOR = 8
# The strength of guidance that is distilled into FLUX.1-dev; 1 is none.
_DISTILLED_GUIDANCE = 1.0


class EmbeddedText(NamedTuple):
    """Embedded text of each image.

    Attributes:
        states: of its tokens, [B, L, D].
        pooled: of all of it, [B, P].
    """

    states: Tensor
    pooled: Tensor


class BackboneClass(NamedTuple):
    """A class of diffusers, and what distinguishes it from others.

    Attributes:
        predict: maps a model, noisy latents [B, C, H, W], timesteps [B] and texts to [B, C, H, W].
        text: gives the widths D and P of the texts that it needs; (0, 0) for none.
        multiple: gives the number that divides the side of its latents.
        side: gives the only side of its latents; None where any will do.
        head: its last layers.
        film: patterns of the names of layers that modulate features by time and text.
    """

    predict: Callable[[Any, Tensor, Tensor, EmbeddedText], Tensor]
    text: Callable[[Any], tuple[int, int]]
    multiple: Callable[[Any], int]
    side: Callable[[Any], int | None]
    head: tuple[str, ...]
    film: tuple[str, ...]


def _unet(model: Any, x: Tensor, times: Tensor, text: EmbeddedText) -> Tensor:
    return model(x, times).sample


def _conditional_unet(model: Any, x: Tensor, times: Tensor, text: EmbeddedText) -> Tensor:
    added = None
    if model.config.addition_embed_type == "text_time":
        height, width = (_FACTOR * side for side in x.shape[-2:])
        # The original size, the place of the crop and the size to make.
        sizes = x.new_tensor([height, width, 0, 0, height, width]).expand(len(x), -1)
        added = {"text_embeds": text.pooled, "time_ids": sizes}
    return model(x, times, encoder_hidden_states=text.states, added_cond_kwargs=added).sample


def _dit(model: Any, x: Tensor, times: Tensor, text: EmbeddedText) -> Tensor:
    # The label after the last stands for no class.
    labels = times.new_full((len(x),), model.config.num_embeds_ada_norm, dtype=torch.long)
    # Where it predicts a variance too, that comes behind.
    return model(x, timestep=times, class_labels=labels).sample[:, : x.shape[1]]


def _sd3(model: Any, x: Tensor, times: Tensor, text: EmbeddedText) -> Tensor:
    return model(
        x, encoder_hidden_states=text.states, pooled_projections=text.pooled, timestep=times
    ).sample


def _flux(model: Any, x: Tensor, times: Tensor, text: EmbeddedText) -> Tensor:
    """Predict with tokens of 2 x 2 values, whose places are (0, row, column)."""
    batch, _, height, width = x.shape
    rows, columns = height // 2, width // 2
    tokens = nn.functional.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2)
    places = x.new_zeros(rows, columns, 3)
    places[..., 1] += torch.arange(rows, device=x.device)[:, None]
    places[..., 2] += torch.arange(columns, device=x.device)[None]
    guided = model.config.guidance_embeds
    predicted = model(
        hidden_states=tokens,
        encoder_hidden_states=text.states,
        pooled_projections=text.pooled,
        timestep=times / 1000,
        img_ids=places.view(-1, 3),
        txt_ids=x.new_zeros(text.states.shape[1], 3),
        guidance=x.new_full((batch,), _DISTILLED_GUIDANCE) if guided else None,
    ).sample
    grid = predicted.transpose(1, 2).unflatten(2, (rows, columns))
    return nn.functional.pixel_shuffle(grid, 2)


# Inputs that are neither text nor size, as a U-Net's configuration has them.
_FURTHER_INPUTS = ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type")


def _no_text(config: Any) -> tuple[int, int]:
    _refuse_further_inputs(config)
    return 0, 0


def _refuse_further_inputs(config: Any) -> None:
    further = [name for name in _FURTHER_INPUTS if config.get(name)]
    if config.get("addition_embed_type") not in (None, "text_time"):
        further.append("addition_embed_type")
    if further:
        raise UserError(
            f"the backbone is conditioned on more than a text and a size ({', '.join(further)}); "
            f"choose one that is not."
        )


def _unet_text(config: Any) -> tuple[int, int]:
    _refuse_further_inputs(config)
    width = config.cross_attention_dim
    width = width if isinstance(width, int) else width[0]
    sizes = 6 * (config.addition_time_embed_dim or 0)
    return width, (config.projection_class_embeddings_input_dim or 0) - sizes


def _transformer_text(config: Any) -> tuple[int, int]:
    return config.joint_attention_dim, config.pooled_projection_dim


def _halvings(config: Any) -> int:
    return 2 ** (len(config.block_out_channels) - 1)


def _any_side(config: Any) -> None:
    return None


_UNET_HEAD, _UNET_FILM = ("conv_norm_out", "conv_out"), ("*.time_emb_proj",)
_TRANSFORMER_FILM = ("*.norm1.linear", "*.norm1_context.linear", "*.norm_out.linear")

# Patterns of the names of the projections of attention, in all classes.
ATTENTION = (
    *(f"*.to_{part}" for part in ("q", "k", "v", "out.0", "add_out")),
    *(f"*.add_{part}_proj" for part in ("q", "k", "v")),
)

CLASSES = {
    "UNet2DModel": BackboneClass(_unet, _no_text, _halvings, _any_side, _UNET_HEAD, _UNET_FILM),
    "UNet2DConditionModel": BackboneClass(
        _conditional_unet, _unet_text, _halvings, _any_side, _UNET_HEAD, _UNET_FILM
    ),
    "DiTTransformer2DModel": BackboneClass(
        _dit,
        _no_text,
        lambda config: config.patch_size,
        lambda config: config.sample_size,
        ("proj_out_1", "proj_out_2"),
        ("*.norm1.linear", "*.proj_out_1"),
    ),
    "SD3Transformer2DModel": BackboneClass(
        _sd3,
        _transformer_text,
        lambda config: config.patch_size,
        _any_side,
        ("norm_out", "proj_out"),
        _TRANSFORMER_FILM,
    ),
    "FluxTransformer2DModel": BackboneClass(
        _flux,
        _transformer_text,
        lambda config: 2,
        _any_side,
        ("norm_out", "proj_out"),
        (*_TRANSFORMER_FILM, "*.norm.linear"),
    ),
}
