"""The commit of this metatrain, where it runs from a checkout."""

import subprocess
from pathlib import Path


def checked_out_commit() -> str | None:
    """Return the sha of the commit, marked `-dirty` where files differ; None where unknown."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # an installed package may lie in the checkout of another
        return None
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
