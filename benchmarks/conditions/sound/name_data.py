"""The data set: emoji, each drawing with its name as a voice of espeak-ng speaks it.

    metatrain pack emoji runs/emoji-data/pixels
    python -m benchmarks.conditions.sound.name_data runs/emoji-data/pixels runs/spoken-emoji-data

Tasks and splits are those of EMOJI, so that val and test have subgroups of their own. The drawings
of a task are spoken by different voices; four voices, with an accent and speakers of their own, are
kept for the test. DEST gets `pixels`, and `latents` of them by the codec of the shipped model, from
which configs/spoken-emoji.yaml begins.
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.commands import metatrain, resumable
from benchmarks.conditions.sound.espeak import PITCHES, SPEEDS, require_espeak, speak
from metatrain.base.errors import UserError
from metatrain.base.progress import say, tracked
from metatrain.data.packed.manifest import MANIFEST
from metatrain.data.packed.store import EpisodeStore, Task
from metatrain.data.packing.pack import pack
from metatrain.model.file import load_model
from metatrain.storage.files import write_file

KNOWN = tuple(
    f"{accent}+{speaker}"
    for accent, speaker in product(
        ("en-gb-x-rp", "en-us", "en-gb-scotland"), ("m1", "m3", "m5", "f1", "f2", "f5")
    )
)
NEW = tuple(f"en-029+{speaker}" for speaker in ("m2", "m7", "f3", "f4"))
CAPTION, AUDIO = "caption", "audio"
_COLUMNS = ("file_name", "task", "split", CAPTION, AUDIO, "voice")


def main(argv: Sequence[str] | None = None) -> int:
    """Speak, pack and encode the data set."""
    parser = argparse.ArgumentParser(description="Emoji, with their names spoken by espeak-ng.")
    add = parser.add_argument
    add("emoji", metavar="EMOJI", help="what metatrain pack emoji wrote")
    add("dest", metavar="DEST", help="folder to write")
    options = parser.parse_args(argv)
    return resumable(lambda: make(options.emoji, options.dest))


def make(emoji: str, dest: str) -> None:
    """Write what is missing of the data set in pixels and in latents.

    Raises:
        UserError: when espeak-ng is not installed, or `emoji` cannot be read.
    """
    pixels, latents, codec = f"{dest}/pixels", f"{dest}/latents", f"{dest}/codec.safetensors"
    if not Path(pixels, MANIFEST).exists():
        speak_names(emoji, pixels)
    [weights] = load_model("emoji").frozen.values()
    write_file(codec, weights)
    if not Path(latents, MANIFEST).exists():
        metatrain("encode", pixels, "--codec", codec, "--out", latents)


def speak_names(emoji: str, dest: str) -> None:
    """Pack the drawings of `emoji` with their names, spoken by known voices.

    Raises:
        UserError: when espeak-ng is not installed, or `emoji` has no captions or cannot be read.
    """
    require_espeak()
    store = EpisodeStore(emoji)
    if CAPTION not in store.conditions:
        raise UserError(f"{emoji} has no captions; give what metatrain pack emoji wrote.")
    tasks = [(split, task) for split in ("train", "val", "test") for task in store.tasks(split)]
    with TemporaryDirectory(prefix="metatrain-") as folder:
        with Path(folder, "metadata.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(_COLUMNS)
            for number, (split, task) in enumerate(tracked("speaking", tasks, len(tasks))):
                table.writerows(_rows(store, task, split, number, Path(folder)))
        say(str(pack(folder, dest, conditions={CAPTION: "text", AUDIO: "audio"})))


def _rows(
    store: EpisodeStore, task: Task, split: str, number: int, folder: Path
) -> Iterator[Sequence[str]]:
    """Write the drawings and sounds of a task, and yield their rows of the table."""
    stream = np.random.default_rng(number)
    voices = stream.permutation(len(KNOWN))
    captions = store.read_columns(task, [CAPTION])[CAPTION]
    for image, (data, caption) in enumerate(zip(store.read(task), captions, strict=True)):
        voice, name = KNOWN[voices[image % len(KNOWN)]], f"{number:04}-{image}"
        pitch, speed = int(stream.choice(PITCHES)), int(stream.choice(SPEEDS))
        (folder / f"{name}.png").write_bytes(data)
        speak(task.name, voice, pitch, speed, folder / f"{name}.wav")
        yield (f"{name}.png", task.name, split, caption.decode(), f"{name}.wav", voice)


if __name__ == "__main__":
    sys.exit(main())
