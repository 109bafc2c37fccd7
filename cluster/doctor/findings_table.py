"""Findings as a table for a terminal."""

from collections import Counter
from collections.abc import Sequence

from cluster.doctor.checks import Finding
from metatrain.base.tables import aligned

_MARKS = {"pass": "✓ pass", "warn": "! warn", "fail": "✗ fail"}


def findings_table(findings: Sequence[Finding]) -> str:
    """Format a row for each finding, its fix below it, and the counts at the end."""
    rows = []
    for f in findings:
        rows.append([_MARKS[f.status], f.check, f.node, f.detail])
        if f.fix:
            rows.append(["", "", "", f"→ {f.fix}"])
    counts = Counter(f.status for f in findings)
    summary = ", ".join(f"{counts[status]} {status}" for status in _MARKS)
    return f"{aligned(rows, justify='left')}\n{summary}"
