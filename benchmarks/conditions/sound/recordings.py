"""Recordings of spoken digits, and those that training hears."""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from metatrain.base.errors import UserError

DIGITS = "0123456789"
# Of each speaker's takes of a digit, training hears all but the last of this share.
_KEPT = 4


class Recording(NamedTuple):
    """A recording of a digit."""

    path: Path
    digit: str
    speaker: str
    take: int


class Recordings(NamedTuple):
    """Recordings of digits, each part by the digit.

    Attributes:
        training: those that training hears.
        seen: further takes of the same speakers.
        unseen: as many takes of a speaker that training never hears.
    """

    training: dict[str, list[Recording]]
    seen: dict[str, list[Recording]]
    unseen: dict[str, list[Recording]]


def read_recordings(folder: Path) -> Recordings:
    """List the recordings in a folder; the last speaker by name is the one held out.

    Args:
        folder: has files DIGIT_SPEAKER_TAKE.wav, as the Free Spoken Digit Dataset.

    Raises:
        UserError: when it has too few to hold takes and a speaker out.
    """
    takes: dict[tuple[str, str], list[Recording]] = defaultdict(list)
    for path in sorted(folder.glob("[0-9]_*_*.wav")):
        digit, speaker, take = path.stem.split("_", 2)
        if take.isdigit():
            takes[speaker, digit].append(Recording(path, digit, speaker, int(take)))
    speakers = sorted({speaker for speaker, _ in takes})
    for speaker in speakers:
        if missing := [d for d in DIGITS if len(takes[speaker, d]) < _KEPT]:
            raise UserError(
                f"{folder} has fewer than {_KEPT} recordings of '{missing[0]}' by {speaker}; add "
                f"some, or leave the speaker out."
            )
    if len(speakers) < 2:
        raise UserError(
            f"{folder} has recordings DIGIT_SPEAKER_TAKE.wav of {len(speakers)} speakers; give "
            f"those of two or more."
        )
    parts = Recordings({}, {}, {})
    for digit in DIGITS:
        ends = [_ends(takes[speaker, digit]) for speaker in speakers]
        parts.training[digit] = [one for first, _ in ends[:-1] for one in first]
        parts.seen[digit] = [one for _, last in ends[:-1] for one in last]
        parts.unseen[digit] = ends[-1][1]
    return parts


def _ends(takes: list[Recording]) -> tuple[list[Recording], list[Recording]]:
    ordered = sorted(takes, key=lambda recording: recording.take)
    kept = len(ordered) - len(ordered) // _KEPT
    return ordered[:kept], ordered[kept:]
