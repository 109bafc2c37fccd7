"""Findings as a table that a person reads."""

from collections import Counter
from collections.abc import Sequence

from cluster.doctor.checks import Finding

_MARKS = {"pass": "✓ pass", "warn": "! warn", "fail": "✗ fail"}


def table(findings: Sequence[Finding]) -> str:
    """A line for each finding, with what to do below those that are not well."""
    what = max(len(f.what) for f in findings)
    where = max(len(f.where) for f in findings)
    lines = []
    for f in findings:
        lines.append(f"{_MARKS[f.verdict]}  {f.what:<{what}}  {f.where:<{where}}  {f.said}")
        if f.fix:
            lines.append(f"{'':<{what + 10}}{'':<{where + 2}}→ {f.fix}")
    counts = Counter(f.verdict for f in findings)
    lines.append(", ".join(f"{counts[verdict]} {verdict}" for verdict in _MARKS))
    return "\n".join(lines)
