"""The Python interface: load, pack, train and evaluate, from a notebook or a server.

A model adapts, samples, saves and moves itself: see `metatrain.Model`.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import PIL.Image
from typing_extensions import override

from metatrain.base.device import device_of
from metatrain.base.progress import tracked
from metatrain.config import Config, load_config
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.evaluation.candidates import read_candidates, with_folders
from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.running.runner import LocalRunner
from metatrain.evaluation.single import evaluate_one
from metatrain.evaluation.training_data import data_for
from metatrain.evaluation.validation import (
    Validation,
    ValidationResult,
    add_validation,
    validation_of,
)
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.model.support import Images
from metatrain.storage.lease import leases
from metatrain.training.local_run import train_locally
from metatrain.training.observer import Observer
from metatrain.training.run_data import source_of_run
from metatrain.training.state import Record, TrainState

__all__ = ["evaluate", "generate_art", "load", "pack", "train"]

_log = logging.getLogger("metatrain")


def load(url: str | Path, *, trust: bool = False) -> Model:
    """Load a model, onto the CPU.

    Args:
        url: a model file, or the folder of a finished run or of a checkpoint: a path or any fsspec
            URL. Or a name: of a model that ships, or one in a folder of METATRAIN_MODELS; a model
            in the working directory's folder of that name comes first. `models` lists all.
        trust: read whatever places the file names, such as that of the model's training data.

    Raises:
        UntrustedError: when building the model reads such a place, and it is not trusted.
        UserError: when there is no model, or it is damaged.
    """
    return load_model(str(url), trust=trust)


def train(
    config: Config | str | Path,
    *,
    device: str = "auto",
    on_step: Callable[[int, Record], None] | None = None,
    wait: bool = False,
) -> Model:
    """Train a run to its last step in this process, from its newest checkpoint on.

    No Ray and no DeepSpeed: the parameters are those that one worker of the cluster gives, and the
    run can resume there. The section `cluster` of the configuration has no effect, and no sample
    grids are logged. Logs to the logger `metatrain`.

    Args:
        config: the configuration (see `load_config`), or the YAML file of one.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        on_step: called after every outer step with its number and its metrics, such as `loss`.
        wait: wait until another process that trains the run has ended, in place of an error.

    Returns:
        The run's model, on the CPU.

    Raises:
        UserError: when the run cannot start, or failed.
    """
    config = config if isinstance(config, Config) else load_config(str(config))
    observers: list[Observer] = [_Callback(on_step)] if on_step else []
    if config.validation.tasks:
        observers.append(_Validator(config))
    url = train_locally(config, observers, device=device_of(device), say=_log.info, wait=wait)
    return load(url, trust=True)


def generate_art(
    model: Model | str | Path, style_images: Images, n: int, *, seed: int = 0
) -> list[PIL.Image.Image]:
    """Draw pictures in the style of a handful: adapt a model to them, and sample.

    To draw more in the same style, adapt once by `Model.adapt`, and sample from what it returns.

    Args:
        model: a model that was trained with styles as tasks, or what `load` takes.
        style_images: pictures in the style, as `Model.adapt` takes them.
        n: number of pictures.
        seed: the same seed, the same pictures.

    Raises:
        UserError: when the model or a picture cannot be used.
    """
    model = model if isinstance(model, Model) else load(model)
    return model.adapt(style_images, seed=seed).images(n, seed=seed)


def evaluate(
    model: Model | str | Path,
    data: str | Path | None = None,
    *,
    split: str = "test",
    tasks: int = 1000,
    seeds: int = 3,
    shots: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    trust: bool = False,
    wait: bool = False,
) -> Evaluation:
    """Score a model on unseen tasks, beside the baselines.

    Args:
        model: a model, or what `load` takes.
        data: a packed data set; by default that of the model's training, if the model is trusted
            or has its run's folder around it.
        split: the split of the tasks.
        tasks: at most so many tasks.
        seeds: at most so many selections of images of every task.
        shots: support images of an episode, those of the training by default.
        workers: processes that share the work: by default one a core, or one a GPU.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        out: folder of the evaluation, from which another call resumes. By default a temporary one,
            or `evaluation` beside the model where that is named.
        trust: read whatever places the model's file names, as `load` does.
        wait: wait until another process that evaluates there has ended, in place of an error.

    Raises:
        UntrustedError: when the model alone names the data, or what building it reads.
        UserError: when the model or the data cannot be used.
    """
    runner = LocalRunner(workers, device_of(device))
    with TemporaryDirectory(prefix="metatrain-") as temporary:
        url = model
        if isinstance(model, Model):
            url, out = f"{temporary}/model.safetensors", out or f"{temporary}/evaluation"
            model.save(url)
            trust = model.trusted
        [candidate] = read_candidates([str(url)], trust=trust)
        named = None if data is None else str(data)
        store = EpisodeStore(data_for(candidate.model, named, candidate.system.url))
        [candidate] = with_folders([candidate], store, out and str(out))
        with leases([candidate.folder], "evaluates", wait=wait):
            return evaluate_one(
                candidate, store, runner, split=split, tasks=tasks, seeds=seeds, shots=shots
            )


class _Callback(Observer):
    """A function to call after every outer step."""

    def __init__(self, on_step: Callable[[int, Record], None]) -> None:
        self._on_step = on_step

    @override
    def on_step(self, step: int, record: Record) -> None:
        self._on_step(step, record)


class _Validator(Observer):
    """Validation of a run in one process with every checkpoint."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._validation: Validation | None = None

    @override
    def on_checkpoint(self, state: TrainState) -> None:
        # Only now, since the run's data is known once it has begun.
        self._validation = self._validation or validation_of(
            self._config, source_of_run(self._config)
        )
        if state.step == 0:
            return
        adapter = Model(self._config, state.average, state.step).adapter()
        validation = self._validation
        episodes = tracked("validating", validation.episodes, len(validation.episodes))
        tasks = [validation.task_features(adapter, episode) for episode in episodes]
        result = ValidationResult(state.step, validation.scores(tasks))
        add_validation(self._config.run.url, result)
        last = result.curve[-1]
        _log.info("step %d: own task %.3f, KID %.3f", state.step, last.own_task, last.kid)
