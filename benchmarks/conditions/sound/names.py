"""The benefit of a spoken name: a model given 0, 1 or 3 drawings of an emoji, and its name.

    python -m benchmarks.conditions.sound.names MODEL --out DIR

As `benchmarks.conditions` measures words, with the same judge, but that the model hears: the name
of the emoji, or that of another, by a voice of espeak-ng that training heard, or by one of another
accent that it never did. All emoji are of subgroups that training never saw. `name_data` beside
this file makes the data set, and configs/spoken-emoji.yaml trains.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.commands import resumable
from benchmarks.conditions.bench import Bench, another, parser_of
from benchmarks.conditions.sound.espeak import require_espeak, speak
from benchmarks.conditions.sound.name_data import CAPTION, KNOWN, NEW
from benchmarks.conditions.systems import NO_WORDS, Told, systems_of
from metatrain.model.file import load_model
from metatrain.model.given import condition_of_kind

_ITS, _ANOTHERS = "its name", "another's name"
_VOICES = {"known voices": KNOWN, "new voices": NEW}
_PITCH, _SPEED = 50, 150


def main(argv: Sequence[str] | None = None) -> int:
    """Speak and sample what is missing, and write the table and the picture."""
    options = parser_of("What a spoken name adds to images.").parse_args(argv)
    torch.set_num_threads(options.threads)
    return resumable(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    require_espeak()
    model = load_model(options.model, trust=True)
    condition = condition_of_kind("audio", model.config)
    bench = Bench(model, CAPTION, options)
    sounds: dict[str, list[str]] = {}
    for who, voices in _VOICES.items():
        spoken = spoken_names(bench.tasks, voices, Path(options.out, "voices"))
        sounds |= {f"{_ITS} by {who}": spoken, f"{_ANOTHERS} by {who}": another(spoken)}
    systems = systems_of(options.shots, list(sounds))
    its = [words for words in sounds if words.startswith(_ITS)]
    most = options.shots[-1]
    shown = [*(Told(0, words) for words in its), Told(most, NO_WORDS), Told(most, its[-1])]
    bench.measure(condition, sounds, systems, shown)


def spoken_names(names: Sequence[str], voices: Sequence[str], folder: Path) -> list[str]:
    """Let the voices speak the names in turn; return the path of each sound.

    Raises:
        UserError: when espeak-ng has no such voice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[str] = []
    for number, name in enumerate(names):
        voice = voices[number % len(voices)]
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]  # a name may be no file's
        path = folder / f"{digest}-{voice}.wav"
        speak(name, voice, _PITCH, _SPEED, path)
        paths.append(str(path))
    return paths


if __name__ == "__main__":
    sys.exit(main())
