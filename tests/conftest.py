"""What tests of both packages share: a small real data set and a configuration to train on it."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from domains import domains  # noqa: F401
from hypothesis import settings
from job import checkout, job_folder  # noqa: F401
from object_storage import proxy, s3, s3_server  # noqa: F401
from PIL import Image
from ray_head import jobs_head, ray_head  # noqa: F401
from ray_logs import controller_logs
from small_models import evaluated, listed, places  # noqa: F401
from training_run import Run
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

from metatrain.config import Config, load_config
from metatrain.data.packing.pack import pack

TASKS, IMAGES, SIZE = 20, 16, 16

# A shell makes background processes ignore Ctrl-C, and all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more about what else the machine does than about us.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


# Files that share a server: S3's, of which two looking for free ports would take each other's, and
# the cluster that takes jobs, of which one is enough. And those that share small models.
_TOGETHER = {
    "test_adaptation_store.py": "s3",
    "test_check.py": "s3",
    "test_conditions.py": "s3",
    "test_lease.py": "s3",
    "test_object_storage.py": "s3",
    "test_object_stores.py": "s3",
    "test_streaming.py": "s3",
    "test_surviving.py": "s3",
    "test_writing.py": "s3",
    "test_evaluation.py": "models",
    "test_samples.py": "models",
    "test_doctor.py": "jobs",
    "test_sr_jobs.py": "jobs",
    "test_submit.py": "jobs",
    "test_sweep.py": "jobs",
}
# Files of long tests that share nothing.
_APART = ("test_every_learner.py", "test_faults.py", "test_kills.py", "test_train.py")
# Files that `make test` leaves to `make test-all`: lost nodes, kills and storage that fails, whole
# sweeps, jobs on a cluster, every learner under every way of sharding, the image, mutated files,
# and the benchmarks. Single tests of other files are marked there.
_LONG = (
    *("test_every_learner.py", "test_faults.py", "test_footprint.py", "test_sharding.py"),
    *("test_submit.py", "test_kills.py", "test_sweep.py", "test_doctor.py", "test_evaluate.py"),
    *("test_engine.py", "test_sent_bytes.py", "test_checkpoint_memory.py", "test_glyphs.py"),
    *("test_image.py", "test_render.py", "test_surviving.py", "test_fuzz.py", "test_fuzz_runs.py"),
    *("test_fuzz_sources.py", "test_fuzz_http.py", "test_fuzz_ledger.py", "test_payoff.py"),
    *("test_leaderboard.py", "test_sr_benchmark.py", "test_sr_jobs.py", "test_replay.py"),
    *("test_writing.py", "test_fuzz_lora.py", "test_fuzz_tokens.py"),
)


class _ByFile(LoadFileScheduling):
    """Where several processes share the tests, a file stays in one, for its fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        name = Path(file).name
        return nodeid if name in _APART else _TOGETHER.get(name, file)

    def _reschedule(self, node: WorkerController) -> None:
        """One test waits behind the one that runs, and no more: some take minutes."""
        if self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Called where tests are shared."""
    return _ByFile(config, log)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files of the other half, since importing all tests takes long in every process."""
    if collection_path.suffix != ".py" or not config.option.markexpr:
        return None
    whole = collection_path.name in _LONG
    partly = whole or "@pytest.mark.long" in collection_path.read_text()
    return {"long": not partly, "not long": whole}.get(config.option.markexpr) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark long tests, and put fast ones first and whole runs on Ray last, the longest first.

    Tests that take jobs, a sweep of two trials at once among them, run beside tests without Ray.
    """
    for item in items:
        if item.path.name in _LONG:
            item.add_marker("long")
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if not {"cluster", "tuning"} & set(item.path.parts):
        return 0
    if item.path.name in _APART:
        return 1
    return 2 if _TOGETHER.get(item.path.name) == "jobs" else 3


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Iterator[None]:
    """What its runs and Ray said belongs to a test's failure: elsewhere it may not come again."""
    report = yield
    if report.failed and Run.started:
        report.sections += [("A run said", run.output) for run in Run.started]
        report.sections.append(("Ray Train's controllers said", controller_logs(call.start)))
    return report


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> str:
    """A folder of stripes: a task is an angle and a width, an image a phase."""
    source = tmp_path_factory.mktemp("stripes")
    for task in range(TASKS):
        (source / f"task-{task:02d}").mkdir()
        for image in range(IMAGES):
            _stripes(task, image).save(source / f"task-{task:02d}" / f"{image:02d}.png")
    return str(source)


@pytest.fixture(scope="session")
def packed(images: str, tmp_path_factory) -> str:
    """Those stripes as a packed data set."""
    dest = tmp_path_factory.mktemp("packed") / "data"
    pack(images, str(dest))
    return str(dest)


@pytest.fixture(scope="session")
def glyphs(tmp_path_factory) -> str:
    """The built-in tasks, packed at 16 pixels."""
    dest = str(tmp_path_factory.mktemp("glyphs") / "set")
    pack("glyphs", dest, size=16)
    return dest


def _stripes(task: int, image: int) -> Image.Image:
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    angle, frequency = np.pi * task / TASKS, 2 + task % 3
    wave = np.sin(
        2 * np.pi * (frequency * (x * np.cos(angle) + y * np.sin(angle)) + image / IMAGES)
    )
    return Image.fromarray(((wave + 1) * 127.5).astype(np.uint8))


@pytest.fixture
def overrides(packed: str, tmp_path: Path) -> list[str]:
    """A run that takes seconds: the real thing, small."""
    return [
        "run.name=small",
        f"run.dir={tmp_path}/runs",
        f"data.path={packed}",
        "data.image_size=16",
        "data.shots=3",
        "data.queries=3",
        "generator.width=8",
        "inner.steps=2",
        "meta.steps=20",
        "meta.warmup=2",
        "adapt.steps=3",
        "objective.sampler.steps=2",
        "checkpoint.every=5",
        "checkpoint.samples=false",
    ]


@pytest.fixture
def config(overrides: list[str]) -> Config:
    """The configuration of that run."""
    return load_config(None, overrides)


@pytest.fixture(autouse=True)
def _no_run_outlives_its_test() -> Iterator[None]:
    """One that goes on after a failure would take the machine from the tests that follow."""
    yield
    while Run.started:
        Run.started.pop().end()


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """One thread, so that sums come in one order, here and in the workers; one seed, so that a test
    draws the same after any other tests."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
