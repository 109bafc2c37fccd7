"""A backbone: a network of diffusers, pretrained and frozen, or random and trained from nothing."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.data.examples import Condition
from metatrain.generators.diffusers_import import constructed
from metatrain.generators.frozen import fill, on_meta
from metatrain.generators.networks.backbone_classes import ATTENTION, CLASSES, BackboneClass
from metatrain.generators.networks.backbone_texts import ROWS, TEXT, EmbeddedTexts
from metatrain.generators.networks.network import Network
from metatrain.generators.networks.sections import BackboneConfig


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
    attention_layers = ATTENTION

    def __init__(self, config: BackboneConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        values = config.values()
        self.kind = _kind_of(values, config.url)
        self.model = _pure(constructed(values, config.url))
        self.head = tuple(f"model.{name}" for name in self.kind.head)
        self.film_layers = self.kind.film
        _check_shape(self.kind, values["_class_name"], self.model.config, shape, config.url)
        widths = self.kind.text(self.model.config)
        if config.has_weights:
            self._freeze(config)
        if config.recompute:
            self.model.enable_gradient_checkpointing(_recomputed)
        self.texts = EmbeddedTexts(config.text, widths, config.tokens)
        self.captions = config.captions
        if config.captions and config.text is None:
            raise UserError(
                "generator.captions is set, and generator.text is not; give the file of embedded "
                "captions, or leave generator.captions out."
            )

    @override
    def conditions(self, given: Mapping[str, Condition], target: Tensor) -> Mapping[str, Condition]:
        if ROWS in given:
            return given
        captions = given.get(self.captions) if self.captions else None
        if captions is None:
            return {ROWS: torch.full((len(target),), TEXT, device=target.device)}
        return {ROWS: self.texts.rows([str(text) for text in captions]).to(target.device)}

    def predict(self, x: Tensor, times: Tensor, rows: Tensor) -> Tensor:
        """Predict what the network was trained to: noise, a velocity or examples.

        Args:
            x: noisy examples, [B, C, H, W].
            times: timesteps of the scheduler, [B].
            rows: [B], the text that each example is made from.

        Returns:
            [B, C, H, W].
        """
        dtype = next(self.model.parameters()).dtype
        text = self.texts(rows, dtype)
        return self.kind.predict(self.model, x.to(dtype), times, text).to(x.dtype)

    def _freeze(self, config: BackboneConfig) -> None:
        self.model.requires_grad_(False)
        if not on_meta(self.model):
            fill(self.model, config.tensors(), config.url)
        if config.precision == "bf16":
            # Not its own `to`, which warns of precisions that are mixed later.
            nn.Module.to(self.model, torch.bfloat16)


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
    """Call a block whose activations are computed again when a gradient needs them."""
    # By then `functional_call` may have given the block other weights back.
    weights: dict[str, Tensor] = dict(block.named_parameters())

    def call(*inputs: Any) -> Any:
        return functional_call(block, weights, inputs)

    return checkpoint(call, *inputs, use_reentrant=False, preserve_rng_state=False)


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
    predicted = config.get("out_channels") or config.in_channels
    # DiT's predicts a variance too, which is left out.
    if predicted != config.in_channels and name != "DiTTransformer2DModel":
        raise UserError(
            f"{url} takes {config.in_channels} channels and predicts {predicted}, as a backbone "
            f"that predicts a variance too does; choose one that predicts as many as it takes."
        )
    if side % kind.multiple(config) or kind.side(config) not in (None, side):
        fit = kind.side(config) or f"a multiple of {kind.multiple(config)}"
        raise UserError(
            f"{url} takes examples of {fit} a side, and they have {side} as the codec leaves "
            f"them; choose another data.image_size."
        )
