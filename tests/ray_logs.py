"""What Ray Train's controllers wrote, for a test that fails where nobody can look."""

import json
import time
from pathlib import Path

# Of one controller; what it decides is told in a few lines a minute.
_LAST_LINES = 40


def said_by_controllers(within: float = 1800.0) -> str:
    """The last of what those said that wrote anything in the last `within` seconds."""
    since = time.time() - within
    logs = Path("/tmp/ray").glob("session_2*/logs/train/ray-train-app-controller-*.log")
    recent = sorted((p for p in logs if p.stat().st_mtime > since), key=lambda p: p.stat().st_mtime)
    return "\n\n".join(_told(log) for log in recent)


def _told(log: Path) -> str:
    records = [json.loads(line) for line in log.read_text().splitlines()]
    lines = [
        f"{r['asctime']} {r['message']}"
        for r in records
        if not r["message"].startswith("Skipping resize decision")
    ]
    return "\n".join([str(log), *lines[-_LAST_LINES:]])
