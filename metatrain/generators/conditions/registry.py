"""The encoders of conditions, by name."""

from typing import TYPE_CHECKING, Any

from metatrain.base.registry import BuiltIn, Registry
from metatrain.generators.conditions.sections import (
    AudioEncoderConfig,
    EncoderConfig,
    TextEncoderConfig,
    TransformersConfig,
    WordsConfig,
)

if TYPE_CHECKING:
    from metatrain.generators.conditions.encoder import ConditionEncoder

_FOLDER = "metatrain.generators.conditions"

ENCODERS: "Registry[type[ConditionEncoder[Any]]]" = Registry(
    {
        "text": BuiltIn(TextEncoderConfig, f"{_FOLDER}.text:TextEncoder"),
        "words": BuiltIn(WordsConfig, f"{_FOLDER}.words:Words"),
        "transformers": BuiltIn(
            TransformersConfig, f"{_FOLDER}.transformers_text:TransformersText"
        ),
        "audio": BuiltIn(AudioEncoderConfig, f"{_FOLDER}.audio:AudioEncoder"),
    },
    group="metatrain.encoders",
    base=EncoderConfig,
)
