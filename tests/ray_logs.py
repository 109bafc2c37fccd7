"""What Ray Train's controllers wrote, for a test that fails where nobody can look."""

import json
from contextlib import suppress
from pathlib import Path

# Of one controller; what it decides is told in a few lines a minute.
_LAST_LINES = 40


def said_by_controllers(since: float) -> str:
    """The last of what those said that wrote anything since a time, in seconds of the epoch."""
    logs = Path("/tmp/ray").glob("session_2*/logs/train/ray-train-app-controller-*.log")
    recent = sorted((p for p in logs if p.stat().st_mtime > since), key=lambda p: p.stat().st_mtime)
    return "\n\n".join("\n".join([str(log), *_told(log)[-_LAST_LINES:]]) for log in recent)


def _told(log: Path) -> list[str]:
    lines = []
    for line in log.read_text().splitlines():
        with suppress(ValueError):  # one that is being written
            record = json.loads(line)
            lines.append(f"{record['asctime']} {record['message']}")
    return [line for line in lines if "Skipping resize decision" not in line]
