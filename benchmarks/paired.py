"""Systems that are measured with several seeds, paired by seed, and a file for each measurement."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.provenance import commit, hardware
from metatrain.base.errors import UserError
from metatrain.base.progress import say, tracked
from metatrain.storage.files import write_file

# The accuracy on each part of the test by system, one for each seed.
Results = dict[str, list[dict[str, float]]]


def measured(
    out: Path,
    systems: Sequence[str],
    seeds: int,
    settings: Mapping[str, int | None],
    measure: Callable[[str, int], dict[str, float]],
) -> Results:
    """Measure what is missing in a folder.

    Args:
        out: the folder; another call resumes.
        systems: names of the systems.
        seeds: number of seeds.
        settings: budgets, which all measurements of a folder share.
        measure: returns the accuracies of a system with a seed.

    Raises:
        UserError: when the folder has measurements with other settings.
    """
    _refuse_other(out, settings)
    results: Results = {system: [] for system in systems}
    cells = [(system, seed) for seed in range(seeds) for system in systems]
    for system, seed in tracked("measuring", cells, len(cells)):
        path = out / "cells" / f"{system.replace(', ', '-').replace(' ', '-')}-{seed}.json"
        if not path.exists():
            write_file(str(path), json.dumps(measure(system, seed)).encode())
        results[system].append(json.loads(path.read_text()))
        say(f"{system}, seed {seed}: {_mean(results[system][-1]):.3f}")
    return results


def table(results: Results) -> str:
    """Format the mean accuracies, and what they are above those of the first system."""
    base = next(iter(results))
    lines = [f"| learned from | accuracy | minus {base} |", "|---|--:|--:|"]
    least = [_mean(scores) for scores in results[base]]
    for system, seeds in results.items():
        means = [_mean(scores) for scores in seeds]
        differences = [mean - other for mean, other in zip(means, least, strict=True)]
        lines.append(f"| {system} | {_with_error(means)} | {_with_error(differences)} |")
    return "\n".join(lines)


def written(out: Path, content: str, settings: Mapping[str, int | None]) -> str:
    """Write a table as `table.md` in a folder, with where it comes from, and return its text."""
    text = f"{content}\n\n{hardware()}, commit {commit()}, {json.dumps(settings)}"
    write_file(f"{out}/table.md", f"{text}\n".encode())
    return text


def _refuse_other(out: Path, settings: Mapping[str, int | None]) -> None:
    """Refuse to mix measurements of other budgets in."""
    path = out / "settings.json"
    if not path.exists():
        write_file(str(path), json.dumps(settings).encode())
    elif json.loads(path.read_text()) != settings:
        raise UserError(f"{out} has measurements with other settings; choose another --out.")


def _mean(scores: dict[str, float]) -> float:
    return statistics.fmean(scores.values())


def _with_error(values: list[float]) -> str:
    """Format a mean and its standard error over seeds."""
    mean = 100 * statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    return f"{mean:.1f} ± {100 * statistics.stdev(values) / len(values) ** 0.5:.1f}"
