"""The report of a sweep: its best trial, its response surface, and all of its trials."""

import hashlib
import math
from dataclasses import dataclass

from torch import Tensor

from metatrain import __version__
from metatrain.base.progress import human_duration
from metatrain.config import Config
from metatrain.data.pictures import grid, png
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.model.progression import draw_strip
from metatrain.report.pages import data_url, page_template
from metatrain.storage.files import read_file, write_file
from metatrain.training.run_data import held_out_episodes, source_of_run
from tuning.figures import curves_over_k, curves_over_steps, importance_figure
from tuning.ledger import SweepLedger, TrialRecord
from tuning.parallel_coordinates import parallel_coordinates
from tuning.response import response
from tuning.trial_table import short_value
from tuning.verdict import Verdict

# The number of unseen tasks on the page, and of images generated of each.
_TASKS, _IMAGES = 6, 5


@dataclass(frozen=True, kw_only=True)
class TaskRows:
    """The images of one unseen task, each row one data URL."""

    task: str
    support: str
    generated: str
    real: str


def write_report(ledger: SweepLedger, verdict: Verdict) -> str:
    """Write the page of a sweep; returns its URL.

    The page is one file that needs nothing else: no network, no script.

    Args:
        ledger: the ledger of the sweep.
        verdict: the outcome of the sweep.
    """
    best = verdict.lowest
    model = load_model(f"{ledger.url}/runs/{best.run}", trust=True)
    importance, compared_step = importance_figure(ledger)
    filters = {"short": short_value, "duration": human_duration}
    page = page_template("tuning", "sweep.html.j2", filters).render(
        settings=ledger.sweep.settings,
        ledger=ledger,
        best=best,
        verdict=verdict,
        config=model.config,
        trials=sorted(ledger.records.values(), key=_rank),
        keys=list(ledger.sweep.settings.space),
        parallel=parallel_coordinates(ledger),
        response=response(ledger),
        importance=importance,
        compared_step=compared_step,
        curves=[f for f in (curves_over_k(ledger), curves_over_steps(ledger)) if f],
        tasks=_generate(model, best.reports[-1].k),
        network=_network_hash(ledger),
        elapsed=human_duration(ledger.seconds()),
        yaml=read_file(f"{ledger.url}/best.yaml").decode(),
        version=__version__,
    )
    url = f"{ledger.url}/report.html"
    write_file(url, page.encode())
    return url


def _rank(record: TrialRecord) -> tuple[bool, int, float]:
    """Order finished trials by score, then the others by how far they trained."""
    report = record.last_report
    if report is None:
        return True, 0, math.inf
    return record.state != "finished", -report.step, report.score


def _generate(model: Model, k: int) -> list[TaskRows]:
    """Adapt `model` to unseen tasks by `k` inner steps, and generate images of each."""
    config = model.config
    episodes = held_out_episodes(
        source_of_run(config), config, split="val", tasks=_TASKS, queries=_IMAGES
    )
    adapter = model.adapter()
    strips = [draw_strip(adapter, episode, {k}, _IMAGES) for episode in episodes]
    return [
        TaskRows(
            task=strip.task,
            support=_row(strip.support, config),
            generated=_row(strip.drawn[k], config),
            real=_row(strip.query, config),
        )
        for strip in strips
    ]


def _row(images: Tensor, config: Config) -> str:
    scale = max(1, 64 // config.data.image_size)
    return data_url(png(grid(images, columns=len(images)), scale))


def _network_hash(ledger: SweepLedger) -> str:
    """Hash the metric network that scored all trials."""
    url = ledger.sweep.base.validation.network
    assert url, "a sweep sets one for all trials"
    return hashlib.sha256(read_file(url)).hexdigest()
