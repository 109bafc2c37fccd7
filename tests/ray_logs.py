"""The logs of Ray Train's controllers, for a test that fails where nobody can look."""

import json
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir

# Lines of each controller's log; it writes a few a minute.
_LAST_LINES = 40


def controller_logs(since: float) -> str:
    """Return the ends of the logs that were written after `since`, in seconds since the epoch."""
    logs = Path(gettempdir()).glob("ray*/r/session_2*/logs/train/ray-train-app-controller-*.log")
    recent = sorted((p for p in logs if p.stat().st_mtime > since), key=lambda p: p.stat().st_mtime)
    return "\n\n".join("\n".join([str(log), *_lines(log)[-_LAST_LINES:]]) for log in recent)


def _lines(log: Path) -> list[str]:
    lines = []
    for line in log.read_text().splitlines():
        with suppress(ValueError):  # a line that is still being written
            record = json.loads(line)
            lines.append(f"{record['asctime']} {record['message']}")
    return [line for line in lines if "Skipping resize decision" not in line]
