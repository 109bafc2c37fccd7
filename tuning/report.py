"""A sweep's page: what was tried, what came of it, and what to train with."""

import hashlib
import math
from dataclasses import dataclass

from torch import Tensor

from metatrain import __version__
from metatrain.base.progress import human_duration
from metatrain.config import Config
from metatrain.data.pictures import grid, png
from metatrain.model.adapt import Adapter
from metatrain.model.file import Model, load_model
from metatrain.model.progression import draw_strip
from metatrain.report.pages import data_url, page_template
from metatrain.storage.files import read_file, write_file
from metatrain.training.run_data import held_out_episodes, source_of_run
from tuning.figures import (
    curves_over_k,
    curves_over_steps,
    importance_figure,
    parallel_coordinates,
    response,
)
from tuning.ledger import Ledger, Record
from tuning.watch import brief

# Unseen tasks that are shown, and images drawn of each.
_TASKS, _DRAWN = 6, 5


@dataclass(frozen=True)
class Strip:
    """One unseen task as the best trial draws it: data URLs of rows of images."""

    task: str
    given: str
    drawn: str
    real: str


def write_report(ledger: Ledger, best: Record) -> str:
    """Write the page of a sweep; returns where it lies.

    The page is one file that needs nothing else: no network, no script.

    Args:
        ledger: of the sweep.
        best: its best trial.
    """
    model = load_model(f"{ledger.url}/runs/{best.run}")
    importance, compared_at = importance_figure(ledger)
    template = page_template(
        "tuning", "sweep.html.j2", {"brief": brief, "duration": human_duration}
    )
    page = template.render(
        settings=ledger.sweep.settings,
        ledger=ledger,
        best=best,
        config=model.config,
        trials=sorted(ledger.records.values(), key=_order),
        keys=list(ledger.sweep.settings.space),
        parallel=parallel_coordinates(ledger),
        response=response(ledger),
        importance=importance,
        compared_at=compared_at,
        curves=[f for f in (curves_over_k(ledger), curves_over_steps(ledger)) if f],
        strips=_strips(model, best.reports[-1].k),
        network=_network(ledger),
        spent=human_duration(ledger.spent()),
        yaml=read_file(f"{ledger.url}/best.yaml").decode(),
        version=__version__,
    )
    url = f"{ledger.url}/report.html"
    write_file(url, page.encode())
    return url


def _order(record: Record) -> tuple[bool, int, float]:
    """Finished trials first, the best of them at the top; then by how far they came."""
    last = record.last
    if last is None:
        return True, 0, math.inf
    return record.state != "finished", -last.step, last.score


def _strips(model: Model, k: int) -> list[Strip]:
    """Unseen tasks as `model` draws them after `k` inner steps."""
    config = model.config
    episodes = held_out_episodes(
        source_of_run(config), config, split="val", tasks=_TASKS, queries=_DRAWN
    )
    adapter, found = Adapter(model), []
    for episode in episodes:
        strip = draw_strip(adapter, episode, {k}, _DRAWN)
        rows = (strip.support, strip.drawn[k], strip.query)
        found.append(Strip(strip.task, *(_picture(rows_, config) for rows_ in rows)))
    return found


def _picture(images: Tensor, config: Config) -> str:
    scale = max(1, 64 // config.data.image_size)
    return data_url(png(grid(images, columns=len(images)), scale))


def _network(ledger: Ledger) -> str:
    """The hash of the metric network that all trials were scored in."""
    url = ledger.sweep.base.validation.network
    assert url, "a sweep names one for all trials"
    return hashlib.sha256(read_file(url)).hexdigest()
