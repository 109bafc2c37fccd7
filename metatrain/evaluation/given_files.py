"""The texts and sounds that the support of each task was given, kept for pages to show."""

import base64
import json
from dataclasses import dataclass
from typing import Any

from metatrain.base.errors import MissingStepError, UserError
from metatrain.base.progress import tracked
from metatrain.config import Config
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.episodes.benchmark import Benchmark
from metatrain.generators.conditions.config import kinds_of
from metatrain.storage.files import MissingError, read_file, write_file

TEXT, AUDIO = "text", "audio"


@dataclass(frozen=True)
class GivenValues:
    """A condition of one task: its name, its kind, and the distinct values of its support.

    A text is itself, and a sound the bytes of a WAV file.
    """

    name: str
    kind: str
    values: tuple[Any, ...]


def keep_given(store: EpisodeStore, benchmark: Benchmark, config: Config, folder: str) -> None:
    """Write what the model of `config` was given with each task of the first seed, if anything.

    Raises:
        UserError: when the data cannot be read, or the folder not be written.
    """
    kinds = kinds_of(config.generator)
    kinds = {name: kind for name, kind in kinds.items() if kind in (TEXT, AUDIO)}
    if not kinds:
        return
    tasks = {task.name: task for task in store.tasks(benchmark.episodes.split)}
    firsts = benchmark.episodes.episodes[: len(benchmark.tasks)]
    for i, entry in enumerate(tracked("writing conditions", firsts, len(firsts))):
        support = entry.plan(tasks[entry.task], benchmark.shots).support
        columns = store.read_columns(tasks[entry.task], list(kinds), support)
        given = [
            {"name": name, "kind": kind, "values": [_written(kind, v) for v in _distinct(column)]}
            for (name, kind), column in zip(kinds.items(), columns.values(), strict=True)
        ]
        write_file(f"{folder}/{_file(i)}", json.dumps(given, ensure_ascii=False).encode())


def read_given(folder: str, task: int) -> list[GivenValues]:
    """Read what a task, by number, was given; nothing where the model has no conditions.

    Raises:
        MissingStepError: when the file is damaged.
    """
    try:
        values = json.loads(read_file(f"{folder}/{_file(task)}"))
        return [
            GivenValues(
                str(one["name"]),
                str(one["kind"]),
                tuple(_read(one["kind"], value) for value in one["values"]),
            )
            for one in values
        ]
    except MissingError:
        return []
    except UserError:
        raise
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        sentence = f"{folder}/{_file(task)} is damaged; evaluate the run again."
        raise MissingStepError(sentence, step="evaluate") from error


def _file(task: int) -> str:
    return f"strips/{task:02d}/given.json"


def _distinct(values: list[bytes]) -> list[bytes]:
    return list(dict.fromkeys(value for value in values if value))


def _written(kind: str, value: bytes) -> str:
    return value.decode() if kind == TEXT else base64.b64encode(value).decode()


def _read(kind: str, value: str) -> str | bytes:
    return str(value) if kind == TEXT else base64.b64decode(value, validate=True)
