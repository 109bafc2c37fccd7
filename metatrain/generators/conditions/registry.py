"""The encoders of conditions, by name."""

from typing import Any

from metatrain.base.registry import Registry
from metatrain.generators.conditions.audio import AudioEncoder
from metatrain.generators.conditions.encoder import ConditionEncoder
from metatrain.generators.conditions.text import TextEncoder
from metatrain.generators.conditions.transformers_text import TransformersText
from metatrain.generators.conditions.words import Words

ENCODERS: Registry[type[ConditionEncoder[Any]]] = Registry(
    "metatrain.encoders",
    {
        "text": TextEncoder,
        "words": Words,
        "transformers": TransformersText,
        "audio": AudioEncoder,
    },
)
