"""Findings as a table for a terminal."""

from collections import Counter
from collections.abc import Sequence

from cluster.doctor.checks import Finding

_MARKS = {"pass": "✓ pass", "warn": "! warn", "fail": "✗ fail"}


def findings_table(findings: Sequence[Finding]) -> str:
    """Format a line for each finding, its fix below it, and the counts at the end."""
    check_width = max(len(f.check) for f in findings)
    node_width = max(len(f.node) for f in findings)
    lines = []
    for f in findings:
        mark = _MARKS[f.status]
        lines.append(f"{mark}  {f.check:<{check_width}}  {f.node:<{node_width}}  {f.detail}")
        if f.fix:
            lines.append(f"{'':<{check_width + 10}}{'':<{node_width + 2}}→ {f.fix}")
    counts = Counter(f.status for f in findings)
    lines.append(", ".join(f"{counts[status]} {status}" for status in _MARKS))
    return "\n".join(lines)
