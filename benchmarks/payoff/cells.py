"""The cells: each is trained, adapts at the rate that is best on the split val, and is scored."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from benchmarks.commands import pack
from benchmarks.equal_compute import PlannedTraining
from benchmarks.payoff.cell_files import CellResult, read_cell, write_cell, write_scores
from benchmarks.payoff.evaluator import Evaluator
from benchmarks.payoff.plan import Cell, Plan, cell_config, cell_key, cell_trainings
from benchmarks.payoff.unlabelled import make_groups
from benchmarks.provenance import commit, hardware
from metatrain.api import train
from metatrain.config import Config, to_yaml, with_values
from metatrain.learning.inner.theta import RULE
from metatrain.model.model import Model
from metatrain.storage.files import write_file
from metatrain.training.initial_weights import initial_weights

# The scores of held-out real images, beside the cells of a data set.
REAL = "real.safetensors"


@dataclass(frozen=True)
class RateChoice:
    """The rate of adapting that is best for a model.

    Attributes:
        url: the model that adapts at this rate.
        rate: the rate; None where the model learned its own.
        kid: KID on the split val by rate; empty where there was no choice.
    """

    url: str
    rate: float | None
    kid: dict[str, float]


class Cells:
    """The cells of a plan, in a folder; a cell that was interrupted resumes.

    Args:
        plan: the file of the payoff.
        folder: folder of data sets, trainings and results.
        workers: processes that adapt; training is in this process.
    """

    def __init__(self, plan: Plan, folder: str, workers: int) -> None:
        self._plan, self._folder, self._workers = plan, folder, workers
        self._evaluator = cache(self._make_evaluator)

    def folder_of(self, cell: Cell) -> str:
        """Return the folder of a cell."""
        return f"{self._folder}/cells/{cell.name}"

    def result(self, cell: Cell) -> CellResult | None:
        """Return what was measured of a cell, None where it is not done."""
        return read_cell(self.folder_of(cell), cell_key(self._plan, cell))

    def real_file(self, data: str) -> str:
        """Return the file of the scores of held-out real images."""
        return f"{self._folder}/cells/{data}/{REAL}"

    def run(self, cell: Cell) -> None:
        """Train and evaluate a cell, from where it was interrupted.

        Raises:
            UserError: when its training or its evaluation fails.
        """
        folder, evaluator = self.folder_of(cell), self._evaluator(cell.data)
        for stage in self._plan.methods[cell.method]:
            if stage.groups:
                make_groups(self._data_url(cell.data), stage.groups)
        trainings = cell_trainings(self._plan, cell, self._data_url(cell.data), folder)
        choice = self._choose_rate(self._trained(cell, trainings), evaluator, folder)
        scores, seconds = evaluator.test_scores(choice.url, folder)
        result = CellResult(
            key=cell_key(self._plan, cell),
            outer_steps=[training.config.meta.steps for training in trainings],
            tflop=sum(training.flops for training in trainings) / 1e12,
            rate=choice.rate,
            validation=choice.kid,
            seconds=seconds,
            tasks=evaluator.test.benchmark.tasks,
            metric=evaluator.metric_sha256,
            commit=commit(),
            hardware=hardware(),
        )
        write_cell(folder, result, scores)

    def _trained(self, cell: Cell, trainings: list[PlannedTraining]) -> Model:
        if not trainings:
            config = cell_config(self._plan, cell, self._data_url(cell.data), {})
            return Model(config, initial_weights(config), step=0)
        return [_train(training.config) for training in trainings][-1]

    def _choose_rate(self, model: Model, evaluator: Evaluator, folder: str) -> RateChoice:
        learned = any(name.startswith(RULE) for name in model.parameters)
        rates = [None] if learned else self._plan.rates
        urls = {rate: _saved(model, rate, folder) for rate in rates}
        if len(urls) == 1:
            [(rate, url)] = urls.items()
            return RateChoice(url, rate, {})
        kid = {rate: evaluator.validation_kid(url, folder) for rate, url in urls.items()}
        best = min(kid, key=lambda rate: kid[rate])
        return RateChoice(urls[best], best, {f"{rate:g}": value for rate, value in kid.items()})

    def _make_evaluator(self, data: str) -> Evaluator:
        of, url = self._plan.data[data], self._data_url(data)
        pack(of.pack[0], url, *of.pack[1:])
        any_cell = Cell(data, 0.0, 0, "")
        folder = f"{self._folder}/cells/{data}"
        config = cell_config(self._plan, any_cell, url, {})
        evaluator = Evaluator(self._plan, config, url, folder, self._workers)
        if not Path(self.real_file(data)).exists():
            write_scores(self.real_file(data), {0: evaluator.real_scores()})
        return evaluator

    def _data_url(self, data: str) -> str:
        return f"{self._folder}/data/{data}"


def _train(config: Config) -> Model:
    write_file(f"{config.run.url}/payoff.yaml", to_yaml(config).encode())
    return train(config, device="cpu")


def _saved(model: Model, rate: float | None, folder: str) -> str:
    """Write `model` as it adapts at `rate`, and return its URL."""
    if rate is not None:
        model = replace(model, config=with_values(model.config, {"adapt.lr": rate}))
    url = f"{folder}/rate-{'learned' if rate is None else f'{rate:g}'}/model.safetensors"
    model.save(url)
    return url
