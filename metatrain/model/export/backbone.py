"""Models over backbones of diffusers, as files that other tools load."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from metatrain.base.errors import UserError
from metatrain.generators.networks.backbone import Backbone
from metatrain.learning.inner.deltas import DELTA, deltas_of
from metatrain.learning.inner.low_rank import TERM, LowRank, layers_of, low_rank_terms
from metatrain.model.lora_layouts import (
    ALPHA,
    COMPONENTS,
    LAYOUTS,
    LORA_FILE,
    PEFT_CONFIG,
    PEFT_FILE,
    LayoutName,
)
from metatrain.model.model import Model
from metatrain.model.original_layers import OriginalLayer, original_layers
from metatrain.storage.files import write_file


class LowRankTerms(NamedTuple):
    """Low-rank terms of one rank, each with a strength of 1 (alpha = rank).

    Attributes:
        terms: `down` [r, columns] or [r, C, h, w] and `up` [rows, r] or [rows, r, 1, 1], by the
            names of their layers.
        rank: of all terms.
        component: the backbone's name in a pipeline; None where none loads a LoRA for it.
        kind: the backbone's class.
        rows: of the weights of all its layers, by their names.
    """

    terms: Mapping[str, tuple[Tensor, Tensor]]
    rank: int
    component: str | None
    kind: str
    rows: Mapping[str, int]


def export_adapter(model: Model, folder: str, format: LayoutName) -> str:
    """Write the low-rank terms of a model as a LoRA file, and return its URL.

    Args:
        model: the model, in the scope `lora` over a backbone.
        folder: where to write.
        format: diffusers: `load_lora_weights` of its pipelines reads it; kohya: ComfyUI and A1111
            do too; peft: `PeftModel.from_pretrained` does.

    Raises:
        UserError: when the model has no such terms, or no tool reads the format for its backbone.
    """
    files = adapter_files(model, format)
    for name, content in files.items():
        write_file(f"{folder}/{name}", content)
    return f"{folder}/{[*files][-1]}"


def adapter_files(model: Model, format: LayoutName) -> dict[str, bytes]:
    """Return the files of `export_adapter` by name, the one with the tensors last.

    Raises:
        UserError: as `export_adapter`.
    """
    adapter = _adapter(model)
    _check_layout(adapter, format)
    tensors = {name: t.contiguous() for name, t in lora_tensors(adapter, format).items()}
    content = save(tensors, {"format": "pt"})
    if format == "peft":
        return {PEFT_CONFIG: _peft_config(adapter), PEFT_FILE: content}
    return {LORA_FILE: content}


def export_merged(model: Model, folder: str) -> str:
    """Write the whole backbone with what was learned added, as diffusers' `save_pretrained` does.

    Returns:
        The folder, which diffusers' `from_pretrained` reads.

    Raises:
        UserError: when the model has no backbone of diffusers.
    """
    backbone = _backbone(model)
    added = _added(backbone.model)
    weights = {
        name: (tensor.float() + added.get(name, 0.0)).contiguous()
        for name, tensor in backbone.model.state_dict().items()
        if not {TERM, DELTA} & set(name.split("."))
    }
    values = dict(cast(Any, backbone.model).config)
    configuration = {"_class_name": type(backbone.model).__name__, **_plain(values)}
    write_file(f"{folder}/config.json", json.dumps(configuration, indent=2).encode())
    data = save(weights, {"format": "pt"})
    write_file(f"{folder}/diffusion_pytorch_model.safetensors", data)
    return folder


@torch.no_grad()
def _added(network: nn.Module) -> dict[str, Tensor]:
    """Return what adapters add to the parameters of a network, by their names."""
    terms = {f"{n}.weight": term.weight() for n, term in low_rank_terms(network).items()}
    deltas = deltas_of(network).items()
    return terms | {f"{n}.{leaf}": p for n, delta in deltas for leaf, p in delta.named_parameters()}


def _backbone(model: Model) -> Backbone:
    network = model.to("cpu").generator().network
    if not isinstance(network, Backbone):
        raise UserError(
            f"the model's generator is {model.config.generator.name}, which other tools do not "
            f"have; as diffusers, kohya or peft a backbone alone is exported "
            f"(generator.name=diffusers), so choose onnx or web."
        )
    return network


@torch.no_grad()
def _adapter(model: Model) -> LowRankTerms:
    backbone = _backbone(model)
    terms = low_rank_terms(backbone.model)
    if not terms:
        raise UserError(
            f"the model was trained in the scope {model.config.inner.scope.name}, and has no "
            f"low-rank terms to export; write its whole weights (merge), or train with "
            f"inner.scope.name=lora."
        )
    rank, kind = max(sum(term.ranks) for term in terms.values()), type(backbone.model).__name__
    factors = {name: _factors(term, rank) for name, term in terms.items()}
    rows = {name: len(layer.weight) for name, layer in layers_of(backbone.model)}
    return LowRankTerms(factors, rank, COMPONENTS.get(kind), kind, rows)


def _factors(term: LowRank, rank: int) -> tuple[Tensor, Tensor]:
    """Return `down` and `up` of a term with a strength of 1, filled up with zeros to `rank`.

    Readers take one rank for all terms, and strengths that differ from 1 for none.
    """
    down, up = term.factors()
    missing = rank - len(down)
    down, up = F.pad(down, (0, 0, 0, missing)), F.pad(up, (0, missing))
    if len(term.kernel) == 1:
        return down, up
    return down.unflatten(1, term.kernel), up[:, :, None, None]


def _check_layout(adapter: LowRankTerms, layout: LayoutName) -> None:
    """Refuse names that no tool reads for the backbone."""
    if layout == "diffusers" and adapter.component is None:
        raise UserError(
            f"no pipeline of diffusers loads a LoRA for {adapter.kind}; export it as peft, or "
            f"merged."
        )
    if layout == "kohya" and adapter.component is None:
        raise UserError(
            f"kohya's names are those of {', '.join(COMPONENTS)}, and the backbone is "
            f"{adapter.kind}; export it as peft, or merged."
        )


def lora_tensors(adapter: LowRankTerms, name: LayoutName) -> dict[str, Tensor]:
    """Return the tensors of a LoRA file, by the names of a layout."""
    layout, tensors = LAYOUTS[name], dict[str, Tensor]()
    terms = _of_original_layers(adapter) if name == "kohya" else adapter.terms
    for layer, (down, up) in terms.items():
        path = layout.path(layer, adapter.component)
        tensors[f"{path}.{layout.down}"], tensors[f"{path}.{layout.up}"] = down, up
        if name == "kohya":
            tensors[f"{path}.{ALPHA}"] = torch.tensor(float(len(down)))
    return tensors


def _of_original_layers(adapter: LowRankTerms) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Return the terms of a transformer by its authors' layers; those of a U-Net as they are."""
    if adapter.component == "unet":
        return adapter.terms
    return {
        layer.name: layer.joined([_term_or_zeros(adapter, layer, part) for part in layer.parts])
        for layer in original_layers(adapter.kind, adapter.rows)
        if adapter.terms.keys() & set(layer.parts)
    }


def _term_or_zeros(adapter: LowRankTerms, layer: OriginalLayer, part: str) -> tuple[Tensor, Tensor]:
    """Return the term of a part, which may have none: readers take parts of one rank."""
    if part in adapter.terms:
        return adapter.terms[part]
    down, _ = next(adapter.terms[other] for other in layer.parts if other in adapter.terms)
    return torch.zeros_like(down), down.new_zeros(adapter.rows[part], len(down))


def _peft_config(adapter: LowRankTerms) -> bytes:
    values = {
        "peft_type": "LORA",
        "r": adapter.rank,
        "lora_alpha": adapter.rank,
        "target_modules": sorted(adapter.terms),
        "bias": "none",
        "inference_mode": True,
    }
    return json.dumps(values, indent=2).encode()


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what diffusers keeps of the place that a configuration came from."""
    return {name: value for name, value in values.items() if not name.startswith("_")}
