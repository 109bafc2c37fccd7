"""The beginning, the resumption and the end of a run, wherever it trains."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from metatrain.base.errors import UserError
from metatrain.config import Config, differences
from metatrain.data.loader import open_tasks
from metatrain.generators.frozen import small_contents
from metatrain.model.file import load_model
from metatrain.training.checkpoint import Checkpoint, CheckpointStore
from metatrain.training.problems import problems_of, refuse
from metatrain.training.run_data import begin_run_with, source_of_run

# Bytes of a codec that a model has inside.
_MOST_INSIDE = 4_000_000

# The keys that may change when a run resumes: where and how it runs, but not what it computes.
_MAY_CHANGE = (
    "run.name",
    "run.dir",
    "validation.",
    "cluster.",
    "checkpoint.",
    "adapt.",
    "objective.sampler.",
    "data.path",
    "data.prefetch_bytes",
    "data.cache_",
    "meta.steps",
)


def begin_or_resume(
    config: Config,
    checkpoints: CheckpointStore,
    say: Callable[[str], None],
    *,
    gpus: int | None = None,
) -> int:
    """Check that a run can begin or resume, begin it if it is new, and return its outer step.

    Args:
        config: the run's configuration.
        checkpoints: the run's checkpoints.
        say: told in a sentence what a person should know: of the data, or what has changed since
            the newest of them.
        gpus: GPUs of the machine that trains; None where a cluster does.

    Raises:
        UserError: when the run cannot resume, or cannot begin.
    """
    newest = checkpoints.newest()
    if newest and newest.step >= config.meta.steps:
        # No worker will read it, so nobody else would notice damage.
        newest = checkpoints.latest(read=Checkpoint.verified)
        gpus = None
    source = cache(lambda: source_of_run(config) if newest else open_tasks(config.data))
    refuse(problems_of(config, source, gpus=gpus, resumes=newest is not None))
    if newest is None:
        begin_run_with(source(), config)
        for remark in source().remarks:
            say(remark)
        return 0
    changes = _allowed_changes(newest.config, config)
    if changes:
        say(f"Changed since the newest checkpoint: {', '.join(changes)}.")
    return newest.step


def _allowed_changes(before: Config, now: Config) -> list[str]:
    """List what has changed since the newest checkpoint.

    Raises:
        UserError: when a change affects what the run computes.
    """
    changes = {
        key: f"{key} from {json.dumps(a, default=str)} to {json.dumps(b, default=str)}"
        for key, (a, b) in differences(before, now).items()
    }
    forbidden = [text for key, text in changes.items() if not key.startswith(_MAY_CHANGE)]
    allowed = [text for key, text in changes.items() if key.startswith(_MAY_CHANGE)]
    if forbidden:
        note = f" ({', '.join(allowed)} may change)" if allowed else ""
        raise UserError(
            f"{now.run.url} cannot resume with changed {', '.join(forbidden)}{note}; restore the "
            f"previous values, or choose another run.name."
        )
    return allowed


def finish_run(config: Config) -> str:
    """Write the model of a run that has taken its last step, and return its URL.

    A small codec is inside, so that the model needs no other file.
    """
    url = f"{config.run.url}/model.safetensors"
    # Some keys may have changed since the last checkpoint.
    model = load_model(CheckpointStore(config.run.url).folder(config.meta.steps), trust=True)
    inside = small_contents(config.codec, _MOST_INSIDE)
    replace(model, config=config, frozen=inside).save(url)
    return url
