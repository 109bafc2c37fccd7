"""Words and a sound that models may be told, beside images or without any."""

from metatrain.config import Config
from metatrain.data.decoding.bad import BadValue
from metatrain.data.sound.reading import read_sound
from metatrain.data.sound.wave import to_wave
from metatrain.generators.conditions.config import kinds_of
from metatrain.model.given import Value, condition_of_kind
from serving.adaptations import Adaptation
from serving.limits import RequestError
from serving.models import Models
from serving.uploads import File

_KINDS = ("text", "audio")


def told_kinds(config: Config) -> list[str]:
    """List which of text and audio a model may be told: those that it has one condition of."""
    kinds = [*kinds_of(config.generator).values()]
    return [kind for kind in _KINDS if kinds.count(kind) == 1]


def as_wave(sound: File) -> bytes:
    """Decode a sound, and return it as conditions are packed, a WAV file.

    Raises:
        RequestError: when it cannot be used.
    """
    name, data = sound
    try:
        return to_wave(read_sound(data))
    except BadValue as error:
        raise RequestError(422, f"{name} cannot be used: {error}; give another.") from error


def told(config: Config, text: str | None, wave: bytes | None) -> dict[str, Value]:
    """Return by name the conditions that words and a sound are.

    Raises:
        UserError: when the model has none of their kinds.
    """
    values = {"text": text, "audio": wave}
    return {
        condition_of_kind(kind, config): value
        for kind, value in values.items()
        if value is not None
    }


def told_to_adapt(adaptation: Adaptation, config: Config) -> dict[str, Value]:
    """Return what a model was told beside the images of an adaptation.

    Raises:
        UserError: when the model has none of their kinds, or the sound cannot be read.
    """
    sound = adaptation.sound()
    return told(config, adaptation.record.text, sound[1] if sound else None)


def told_to_draw(
    adaptation: Adaptation, models: Models, text: str | None = None
) -> dict[str, Value]:
    """Return what to tell a model of an adaptation that draws.

    A model that has adapted to images has what it was told beside them, and other words take the
    place of those.

    Raises:
        UserError: when the model has no words.
    """
    record = adaptation.record
    if record.given and text is None:
        return {}
    config = models[record.model].config
    if record.given:
        return told(config, text, None)
    sound = adaptation.sound()
    return told(config, record.text if text is None else text, sound[1] if sound else None)
