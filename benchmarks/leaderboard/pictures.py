"""The leaderboard's pictures: samples of the same tasks, and scores over time."""

import io
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.leaderboard.page import Standing
from metatrain.data.pictures import to_uint8
from metatrain.evaluation.scores.baselines import COPY, REAL
from metatrain.evaluation.strip_files import read_strips

# Numbers of the tasks to show.
_TASKS = (0, 3, 5, 8)
# The axis of KID is linear below this, and logarithmic above.
_LINEAR_BELOW = 0.05


def strips(standings: Sequence[Standing]) -> bytes:
    """Return a PNG file with a row a system: its samples after the last inner step, by task."""
    kept = [read_strips(s.entry.folder, s.evaluation, _TASKS) for s in standings]
    rows = [("given", [_beside(strip.support) for strip in kept[0]])]
    for s, strips in zip(standings, kept, strict=True):
        rows.append(
            (s.entry.name, [_beside(strip.samples[max(strip.samples)]) for strip in strips])
        )
    rows.append(("held out", [_beside(strip.real) for strip in kept[0]]))
    return _rows(rows)


def _beside(images: Tensor) -> np.ndarray:
    """Join the first four images [N, 1, H, W] side by side."""
    framed = to_uint8(F.pad(images[:4], (1, 1, 1, 1), value=0.6)).squeeze(1)
    return np.concatenate(list(framed.numpy()), axis=1)


def _rows(rows: Sequence[tuple[str, list[np.ndarray]]]) -> bytes:
    figure, axes = plt.subplots(
        len(rows), len(_TASKS), figsize=(9.6, 0.62 * len(rows)), squeeze=False
    )
    for (name, images), line in zip(rows, axes, strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for image, axis in zip(images, line, strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_visible(False)
    figure.subplots_adjust(
        left=0.17, right=0.995, top=0.995, bottom=0.005, wspace=0.03, hspace=0.05
    )
    return _png(figure)


def curves(standings: Sequence[Standing]) -> bytes:
    """Return a PNG file of KID over the seconds of adapting to one task, a line a system."""
    figure, axis = plt.subplots(figsize=(7.6, 4.4), layout="constrained")
    for s, colour in zip(standings, plt.cm.tab20.colors, strict=False):  # pyright: ignore
        points = [point for _, point in sorted(s.evaluation.result.curve.items())]
        seconds = [point.seconds for point in points]
        kid = [point.scores["kid"].value for point in points]
        axis.plot(seconds, kid, marker="o", markersize=4, label=s.entry.name, color=colour)
    evaluation = standings[0].evaluation
    space = evaluation.spaces[0].name
    for name, style in ((COPY, ":"), (REAL, "--")):
        level = evaluation.results[name].scores[space]["kid"].value
        axis.axhline(level, linestyle=style, color="grey", linewidth=1, label=name)
    # Ratios matter, but the best KIDs are near 0, and an unbiased estimate may be below 0.
    axis.set_yscale("symlog", linthresh=_LINEAR_BELOW, linscale=0.6)
    axis.yaxis.set_major_formatter("{x:g}")
    lowest = min(float(np.min(line.get_ydata())) for line in axis.lines)
    axis.set_ylim(bottom=min(lowest, 0) - _LINEAR_BELOW / 2)
    axis.set(xlabel="seconds of adapting, one core", ylabel="KID, lower is better")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white")
    plt.close(figure)
    return buffer.getvalue()
