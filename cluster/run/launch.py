"""Starting a training run on Ray, and telling the person who started it how it goes."""

import json
from dataclasses import replace

from cluster.run.ray_cluster import check_resources, cpus_wanted, joined_cluster
from cluster.run.training import Training
from metatrain.base.errors import UserError
from metatrain.config import Config, differences
from metatrain.data.loader import open_tasks
from metatrain.evaluation.validation import read_validations
from metatrain.model.build import build_generator
from metatrain.model.file import load_model, save_model
from metatrain.training.checkpoint import Checkpoint, CheckpointStore
from metatrain.training.run_data import begin_run_with, source_of_run, training_sampler

# What may change when a run goes on: where and how it runs, not what it computes.
_MAY_CHANGE = (
    "run.",
    "validation.",
    "cluster.",
    "checkpoint.",
    "adapt.",
    "generator.sampler.",
    "data.path",
    "data.prefetch_bytes",
    "data.cache_",
    "meta.steps",
)


def launch(config: Config) -> str:
    """Train `config`'s run to its last step, going on where it was; returns its model's URL.

    Joins the cluster at RAY_ADDRESS, or starts one on this machine for as long as it takes.

    Raises:
        UserError: when the run cannot start, or failed.
    """
    checkpoints = CheckpointStore(config.run.url, _say)
    done = steps_taken(config, checkpoints)
    if done < config.meta.steps:
        _say(
            f"Training {config.run.url} from step {done:,} of {config.meta.steps:,}; starting "
            f"{config.cluster.workers} workers takes some 20 s."
        )
        with joined_cluster(cpus_wanted(config)) as own:
            check_resources(config, fixed=own)
            # Once more whenever the workers have left before the last step, as they were told to.
            while done < config.meta.steps:
                done = _relay(Training(config, lasting=not own), config.run.url, done)
    else:
        _say(
            f"{config.run.url} is trained already ({done:,} of {config.meta.steps:,} outer steps)."
        )
    return finish(config)


def finish(config: Config) -> str:
    """Write the model of a run that has taken its last step; returns its URL."""
    url = f"{config.run.url}/model.safetensors"
    # With today's configuration, of which some may have changed since the last checkpoint.
    model = load_model(CheckpointStore(config.run.url).folder(config.meta.steps))
    save_model(replace(model, config=config), url)
    return url


def steps_taken(config: Config, checkpoints: CheckpointStore) -> int:
    """The outer steps taken so far, once what would fail on the workers has been looked for.

    Raises:
        UserError: when the run cannot go on, or cannot begin.
    """
    build_generator(config)
    newest = checkpoints.newest()
    if newest and newest.step >= config.meta.steps:
        # No worker will read it any more.
        newest = checkpoints.latest(read=Checkpoint.verified)
    source = source_of_run(config) if newest else open_tasks(config.data)
    training_sampler(source, config)
    if newest is None:
        begin_run_with(source, config)
        return 0
    _check_may_go_on(newest.config, config)
    return newest.step


def _check_may_go_on(before: Config, now: Config) -> None:
    """Tell what differs from the configuration of the newest checkpoint.

    Raises:
        UserError: when some of it decides what is computed.
    """
    changes = {
        key: f"{key} from {json.dumps(a, default=str)} to {json.dumps(b, default=str)}"
        for key, (a, b) in differences(before, now).items()
    }
    forbidding = [said for key, said in changes.items() if not key.startswith(_MAY_CHANGE)]
    others = [said for key, said in changes.items() if key.startswith(_MAY_CHANGE)]
    if forbidding:
        besides = f" ({', '.join(others)} may change)" if others else ""
        raise UserError(
            f"{now.run.url} cannot go on with changed {', '.join(forbidding)}{besides}; set back "
            f"what was changed, or choose another run.name."
        )
    if others:
        _say(f"Changed since the newest checkpoint: {', '.join(others)}.")


def _relay(training: Training, run: str, saved: int) -> int:
    """Print what the workers say until training ends.

    Args:
        training: the workers.
        run: the URL of what they train.
        saved: the step up to which the run is safe.

    Returns:
        The step up to which it is then.

    Raises:
        UserError: what a worker says cannot go on.
        KeyboardInterrupt: with how far the run is safe.
    """
    try:
        for message in training.messages():
            if message.kind in ("saved", "done"):
                saved = message.content
            elif message.kind == "validated":
                _say(_found(run))
            else:
                _say(message.content)
    except BaseException as error:
        training.abort()
        if isinstance(error, KeyboardInterrupt):
            safe = f"safe up to step {saved:,}; the same command goes on from there"
            raise KeyboardInterrupt(safe) from error
        raise
    return saved


def _found(run: str) -> str:
    """What the newest validation of a run found, in a sentence."""
    found = read_validations(run)[-1]
    last = found.curve[-1]
    return (
        f"step {found.step:,}: {last.own_task:.1%} of what is drawn of unseen tasks after {last.k} "
        f"inner steps is nearest to its own, KID {last.kid:.3f}, query loss {last.loss:.4f}"
    )


def _say(line: str) -> None:
    print(line, flush=True)
