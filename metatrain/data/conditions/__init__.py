"""Kinds of conditions. A further one is one file here and one line below, or an entry point."""

from typing import Any

from metatrain.base.registry import Registry
from metatrain.data.conditions.audio import Audio
from metatrain.data.conditions.image import ImageKind
from metatrain.data.conditions.kind import ConditionKind
from metatrain.data.conditions.text import Text
from metatrain.data.conditions.vector import Vector

CONDITIONS: Registry[type[ConditionKind[Any]]] = Registry(
    "metatrain.conditions", {"text": Text, "vector": Vector, "image": ImageKind, "audio": Audio}
)

__all__ = ["CONDITIONS", "ConditionKind"]
