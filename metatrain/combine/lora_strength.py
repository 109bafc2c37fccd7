"""The strength of a LoRA's terms, as its file or the configuration beside it says."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from metatrain.base.errors import UserError
from metatrain.base.text import reason_of
from metatrain.model.lora_layouts import PEFT_CONFIG
from metatrain.storage.files import MissingError, read_file

# What diffusers writes into a file's metadata, by the component of the pipeline.
_METADATA = "lora_adapter_metadata"
# A layer's name or its end; anything else would be a stranger's regular expression.
_NAME = re.compile(r"[A-Za-z0-9_.]{1,300}")
_LARGEST = 1e6
# PEFT's own default.
_USUAL_ALPHA = 8


class Strength(NamedTuple):
    """The numbers that terms are scaled by.

    Attributes:
        alpha: of all layers without another; None where it is the rank.
        of_layers: alpha by names of layers, whole or as they end after a dot.
        by_root: whether alpha is divided by the root of the rank (rsLoRA), not by the rank.
    """

    alpha: float | None = None
    of_layers: Mapping[str, float] = {}
    by_root: bool = False

    def of(self, layer: str, rank: int, alpha: float | None) -> float:
        """Return the strength of a layer's term of this rank; `alpha` is that beside its factors.

        Raises:
            ValueError: when it is no number to scale by.
        """
        ends = (a for name, a in self.of_layers.items() if f".{layer}".endswith(f".{name}"))
        stated = alpha if alpha is not None else next(ends, self.alpha)
        stated = float(rank) if stated is None else stated
        if not abs(stated) <= _LARGEST:
            raise ValueError(f"its alpha beside {layer} is {stated:g}")
        return stated / (math.sqrt(rank) if self.by_root else rank)


def strength_in(metadata: Mapping[str, str], component: str | None, url: str) -> Strength:
    """Read the strength that diffusers writes into a file's metadata; without any, alpha = rank.

    Raises:
        UserError: when it is damaged, or of adapters that are no plain LoRA.
    """
    if _METADATA not in metadata:
        return Strength()
    values = _parsed(metadata[_METADATA], url)
    start = f"{component}."
    part = {key.removeprefix(start): v for key, v in values.items() if key.startswith(start)}
    return _strength(part, url) if part else Strength()


def strength_beside(url: str) -> Strength:
    """Read the strength from PEFT's configuration in the folder of a file.

    Raises:
        UserError: when there is none, it is damaged, or of adapters that are no plain LoRA.
    """
    beside = f"{url.rpartition('/')[0] or '.'}/{PEFT_CONFIG}"
    try:
        return _strength(_parsed(read_file(beside), beside), beside)
    except MissingError as error:
        raise UserError(
            f"{url} is a LoRA of PEFT, whose strength is in {beside}, and that is missing; put it "
            f"there."
        ) from error


def _parsed(text: str | bytes, url: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the strength in {url} is not JSON; fetch the LoRA again.") from error
    if not isinstance(values, dict):
        raise UserError(f"the strength in {url} is no JSON object; fetch the LoRA again.")
    return values


def _strength(values: Mapping[str, Any], url: str) -> Strength:
    if values.get("peft_type", "LORA") != "LORA" or values.get("use_dora"):
        raise UserError(f"{url} is of another adapter than plain LoRA; give a LoRA.")
    try:
        patterns = dict(values.get("alpha_pattern") or {})
        of_layers = {_name(key): float(number) for key, number in patterns.items()}
        alpha = float(values.get("lora_alpha", _USUAL_ALPHA))
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"the strength in {url} cannot be used: {reason_of(error)}.") from error
    return Strength(alpha, of_layers, values.get("use_rslora") is True)


def _name(key: object) -> str:
    if not isinstance(key, str) or not _NAME.fullmatch(key):
        raise ValueError("its alpha_pattern names layers by more than their names")
    return key
