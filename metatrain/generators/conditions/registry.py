"""The encoders of conditions, by name."""

from typing import Any

from metatrain.base.registry import Registry
from metatrain.generators.conditions.audio import AudioEncoder
from metatrain.generators.conditions.encoder import ConditionEncoder
from metatrain.generators.conditions.text import TextEncoder

ENCODERS: Registry[type[ConditionEncoder[Any]]] = Registry(
    "metatrain.encoders", {"text": TextEncoder, "audio": AudioEncoder}
)
