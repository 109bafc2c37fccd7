"""Kinds of conditions. A further one is one file here and one line below, or an entry point."""

from typing import TYPE_CHECKING, Any

from metatrain.base.lazy_names import lazy_names
from metatrain.base.registry import BuiltIn, Registry
from metatrain.data.conditions.sections import AudioConfig, ImageConfig, TextConfig, VectorConfig

if TYPE_CHECKING:
    from metatrain.data.conditions.kind import ConditionKind

CONDITIONS: "Registry[type[ConditionKind[Any]]]" = Registry(
    {
        "text": BuiltIn(TextConfig, f"{__name__}.text:Text"),
        "vector": BuiltIn(VectorConfig, f"{__name__}.vector:Vector"),
        "image": BuiltIn(ImageConfig, f"{__name__}.image:ImageKind"),
        "audio": BuiltIn(AudioConfig, f"{__name__}.audio:Audio"),
    },
    group="metatrain.conditions",
)

__all__ = ["CONDITIONS", "ConditionKind"]

__getattr__ = lazy_names(__name__, {"ConditionKind": f"{__name__}.kind"})
