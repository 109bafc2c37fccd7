"""Speech by espeak-ng, a program of its own: apt install espeak-ng."""

import shutil
import subprocess
from pathlib import Path

from metatrain.base.errors import UserError

COMMAND = "espeak-ng"
# Of a take, on espeak-ng's scale from 0 to 99, and words a minute.
PITCHES, SPEEDS = (35, 50, 65), (130, 150, 175, 200)


def require_espeak() -> None:
    """Refuse to begin without the program.

    Raises:
        UserError: when it is not installed.
    """
    if not shutil.which(COMMAND):
        raise UserError(f"{COMMAND} is not installed; apt install {COMMAND}.")


def speak(text: str, voice: str, pitch: int, speed: int, path: Path) -> None:
    """Write a WAV file; it appears when it is complete.

    Args:
        text: is spoken.
        voice: an accent and a speaker, such as en-us+f2.
        pitch: one of `PITCHES`, or another.
        speed: one of `SPEEDS`, or another.
        path: of the file; one that is there stays.

    Raises:
        UserError: when espeak-ng has no such voice.
    """
    if path.exists():
        return
    part = path.with_suffix(".part")
    settings = ["-v", voice, "-p", str(pitch), "-s", str(speed), "-w", str(part)]
    result = subprocess.run([COMMAND, *settings, "--", text], capture_output=True, text=True)
    if result.returncode or not part.exists():
        reason = result.stderr.strip().partition("\n")[0] or "it wrote no sound"
        raise UserError(f"{COMMAND} cannot speak as '{voice}': {reason}")
    part.replace(path)
