"""A backbone: a network of diffusers, pretrained and frozen, or random and trained from nothing."""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.generators.diffusers_import import constructed
from metatrain.generators.frozen import FrozenWeights, fill, on_meta
from metatrain.generators.frozen_folder import FrozenFolder
from metatrain.generators.networks.backbone_classes import CLASSES, BackboneClass, EmbeddedText
from metatrain.generators.networks.network import Network

# Buffers of embedded texts.
_TEXTS = ("text_states", "text_pooled")


class BackboneConfig(FrozenFolder):
    """A network of diffusers by its folder: UNet2DModel, UNet2DConditionModel and transformers."""

    name: Literal["diffusers"] = "diffusers"
    init: Literal["pretrained", "random"] = Field(
        default="pretrained",
        description="pretrained: the folder's weights, frozen; random: trained from nothing.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="Precision in which frozen weights are held."
    )
    recompute: bool = Field(
        default=False,
        description="Compute activations again for the gradient: less memory, more time.",
    )
    text: FrozenWeights | None = Field(
        default=None,
        description="File of metatrain embed-text; null: zeros where the network needs a text.",
    )
    tokens: int = Field(
        default=1, ge=1, le=1024, description="Tokens of the zeros that stand for no text."
    )

    @property
    @override
    def has_weights(self) -> bool:
        return self.init == "pretrained"


class Backbone(Network):
    """A network of diffusers that predicts from noisy examples and timesteps.

    Pretrained, it is no part of theta, and a scope that adds parameters adapts it.

    Args:
        config: its folder.
        shape: of an example as the network sees it, [C, H, W], H = W.

    Raises:
        UserError: when the folder cannot be used, or is of another shape.
    """

    Config = BackboneConfig

    def __init__(self, config: BackboneConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        values = config.values()
        self.kind = _kind_of(values, config.url)
        self.model = _pure(constructed(values, config.url))
        self.head = tuple(f"model.{name}" for name in self.kind.head)
        _check_shape(self.kind, values["_class_name"], self.model.config, shape, config.url)
        if config.has_weights:
            self._freeze(config)
        if config.recompute:
            self.model.enable_gradient_checkpointing(_recomputed)
        self._add_text(config)

    def predict(self, x: Tensor, times: Tensor, prompted: Tensor) -> Tensor:
        """Predict what the network was trained to: noise, a velocity or examples.

        Args:
            x: noisy examples, [B, C, H, W].
            times: timesteps of the scheduler, [B].
            prompted: [B], True where an example is made from the text.

        Returns:
            [B, C, H, W].
        """
        dtype = next(self.model.parameters()).dtype
        row = (~prompted).long()
        text = EmbeddedText(*(self.get_buffer(name)[row].to(dtype) for name in _TEXTS))
        return self.kind.predict(self.model, x.to(dtype), times, text).to(x.dtype)

    def _freeze(self, config: BackboneConfig) -> None:
        self.model.requires_grad_(False)
        if not on_meta(self.model):
            fill(self.model, config.tensors(), config.url)
        if config.precision == "bf16":
            # Not its own `to`, which warns of precisions that are mixed later.
            nn.Module.to(self.model, torch.bfloat16)

    def _add_text(self, config: BackboneConfig) -> None:
        """Keep the embedded text in row 0 of two buffers, and in row 1 that of no text."""
        width, pooled = self.kind.text(self.model.config)
        states, summary = torch.zeros(2, config.tokens, width), torch.zeros(2, pooled)
        if config.text is not None:
            states, summary = _texts(config.text, width, pooled, states.device)
        for name, value in zip(_TEXTS, (states, summary), strict=True):
            self.register_buffer(name, value)


def _kind_of(values: dict[str, Any], url: str) -> BackboneClass:
    name = values["_class_name"]
    if name not in CLASSES:
        raise UserError(
            f"{url} is of the class {name}, and a backbone is one of {', '.join(CLASSES)}; name "
            f"another folder, or its subfolder."
        )
    return CLASSES[name]


def _pure(model: Any) -> Any:
    """Make the output of a model a function of its weights and inputs alone, under vmap too."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0  # pyright: ignore[reportArgumentType]
        # Under vmap, torch cannot normalise groups of what attention leaves in another order.
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(_in_order)
    return model


def _recomputed(block: nn.Module, *inputs: Any) -> Any:
    """Call a block whose activations are computed again when a gradient needs them.

    They are those of the weights within the block then, so that only inner loops in place, which
    those of first order are, have the right gradient.
    """
    return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)


def _in_order(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.contiguous() for x in inputs)


def _check_shape(
    kind: BackboneClass, name: str, config: Any, shape: tuple[int, int, int], url: str
) -> None:
    channels, side, _ = shape
    # FLUX counts the channels of tokens, each of 2 x 2 values.
    wanted = config.in_channels // 4 if name == "FluxTransformer2DModel" else config.in_channels
    if wanted != channels:
        raise UserError(
            f"{url} takes {wanted} channels, and examples have {channels} as the codec leaves "
            f"them; choose the codec that it was trained with (codec.name), or data.channels."
        )
    if side % kind.multiple(config) or kind.side(config) not in (None, side):
        fit = kind.side(config) or f"a multiple of {kind.multiple(config)}"
        raise UserError(
            f"{url} takes examples of {fit} a side, and they have {side} as the codec leaves "
            f"them; choose another data.image_size."
        )


def _texts(
    weights: FrozenWeights, width: int, pooled: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Read the texts [2, L, D] and [2, P] of a file of `metatrain embed-text`."""
    tensors = weights.tensors()
    states, summary = tensors.get("states"), tensors.get("pooled")
    if states is None or summary is None or states.ndim != 3 or len(states) != 2:
        raise UserError(
            f"{weights.path} holds no embedded text; make it with metatrain embed-text."
        )
    if states.shape[2] != width or summary.shape != (2, pooled):
        raise UserError(
            f"{weights.path} holds texts of width {states.shape[2]} and {summary.shape[-1]}, and "
            f"the backbone takes {width} and {pooled}; embed the text with its own pipeline."
        )
    return states.float().to(device), summary.float().to(device)
