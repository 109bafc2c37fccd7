"""A training run in one process, with torch alone."""

from collections.abc import Callable, Sequence

import torch
from typing_extensions import override

from metatrain.base.progress import Progress
from metatrain.config import Config
from metatrain.data.loader import load_episodes
from metatrain.data.tasks import TaskSource
from metatrain.generators.frozen import pinned
from metatrain.model.build import build_learner, build_theta
from metatrain.storage.lease import Lease, lease
from metatrain.training.auto_values import resolve_auto_locally
from metatrain.training.average_snapshots import snapshots
from metatrain.training.checkpoint import ALONE, BackgroundWriter, CheckpointStore, draft_of
from metatrain.training.initial_weights import initial_weights
from metatrain.training.local_engine import LocalEngine
from metatrain.training.observer import Observer
from metatrain.training.run import begin_or_resume, finish_run
from metatrain.training.run_data import encoded_source, source_of_run, training_sampler
from metatrain.training.state import Record, TrainState, first_state
from metatrain.training.trainer import Trainer


def train_locally(
    config: Config,
    observers: Sequence[Observer] = (),
    *,
    device: torch.device,
    say: Callable[[str], None],
    wait: bool = False,
) -> str:
    """Train a run to its last step in this process, from the newest checkpoint on.

    Args:
        config: the run's configuration; its section `cluster` has no effect.
        observers: called on the way, before each checkpoint is saved.
        device: where to train.
        say: told in a sentence what a person should know.
        wait: whether to wait until another process that trains the run has ended.

    Returns:
        The URL of the run's model.

    Raises:
        HeldError: when another process trains the run.
        UserError: when the run cannot start, or failed.
        KeyboardInterrupt: once the run is saved, with the step up to which it is.
    """
    config = pinned(config)
    with lease(config.run.url, "trains", wait=wait) as held:
        checkpoints = CheckpointStore(config.run.url, say, held.key.check)
        if begin_or_resume(config, checkpoints, say) < config.meta.steps:
            source, state = source_of_run(config), checkpoints.latest()
            resolved = resolve_auto_locally(config, checkpoints, source, device, say)
            progress = _Progress(config.meta.steps, state.step if state else 0)
            saver = LocalSaver(config, checkpoints, say)
            observers = [_HeldRun(held), *observers, progress, saver]
            trainer = local_trainer(resolved, source, observers, state=state, device=device)
            _run_or_save(trainer, checkpoints)
        return finish_run(config)


def _run_or_save(trainer: Trainer, checkpoints: CheckpointStore) -> None:
    """Train to the last step; on Ctrl-C save, and raise it again with the step that is saved."""
    try:
        trainer.run()
    except KeyboardInterrupt as interrupt:
        trainer.save_and_end()
        steps = checkpoints.steps()
        interrupt.args = (f"saved up to step {steps[-1]:,}",) if steps else ()
        raise


class _HeldRun(Observer):
    """The lease of a run, without which it does not continue."""

    def __init__(self, held: Lease) -> None:
        self._held = held

    @override
    def on_step(self, step: int, record: Record) -> None:
        self._held.check()


def local_trainer(
    config: Config,
    source: TaskSource,
    observers: Sequence[Observer] = (),
    *,
    state: TrainState | None = None,
    device: torch.device | None = None,
    told_to_leave: Callable[[], bool] = lambda: False,
) -> Trainer:
    """Make the trainer of a run in this process.

    Args:
        config: the run's configuration, with nothing left at `auto`.
        source: the run's task source.
        observers: called on the way.
        state: where to begin; by default, before the first step.
        device: where to train, the CPU by default.
        told_to_leave: whether training is to end after the present step.
    """
    device, theta = device or torch.device("cpu"), build_theta(config)
    state = state or first_state(initial_weights(config))
    engine = LocalEngine(
        state.parameters, config.meta, device=device, optimizer_state=state.optimizer
    )
    learner = build_learner(config, theta.to(device))
    sampler = training_sampler(source, config)
    episodes = load_episodes(encoded_source(source, config), sampler, start=state.step)
    return Trainer(
        config,
        engine,
        learner,
        episodes,
        state,
        observers,
        read_counts=source.traffic.take,
        told_to_leave=told_to_leave,
    )


class LocalSaver(Observer):
    """Checkpoints of a run in one process, written while training continues.

    Args:
        config: the run's configuration.
        checkpoints: the destination.
        say: told in a sentence which checkpoint could not be written.
    """

    def __init__(
        self, config: Config, checkpoints: CheckpointStore, say: Callable[[str], None]
    ) -> None:
        self._config = config
        self._writer = BackgroundWriter(
            checkpoints,
            ALONE,
            config.checkpoint.max_failures,
            report=say,
            on_saved=lambda _: None,
        )

    @override
    def on_checkpoint(self, state: TrainState) -> None:
        averages = snapshots(state, self._config)
        self._writer.save(draft_of(state, self._config, snapshots=averages))

    @override
    def on_end(self) -> None:
        self._writer.finish()


class _Progress(Observer):
    """Progress of a run from the step that it begins at."""

    def __init__(self, steps: int, begin: int) -> None:
        self._begin, self._progress = begin, Progress("training", steps - begin)

    @override
    def on_step(self, step: int, record: Record) -> None:
        self._progress.update(step - self._begin)

    @override
    def on_end(self) -> None:
        self._progress.close()
