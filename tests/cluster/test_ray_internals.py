"""Canaries: each fails when Ray changes a private part that cluster/ray_internals.py uses.

None needs a cluster. That the parts work together is proved by the runs of test_train, test_faults
and test_submit.
"""

import ast
import inspect
import re
import zipfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.train.torch import TorchTrainer

from cluster import ray_internals

ROOT = Path(__file__).parents[2]
# Public, whatever their underscore says.
NAMED_TUPLE = {"_asdict", "_fields", "_replace"}


@contextmanager
def canary(part):
    """Turn any failure inside into a sentence that names the part of `ray_internals` to mend."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        pytest.fail(
            f"Ray {ray.__version__} changed what ray_internals.{part} relies on ({reason}); adapt "
            f"cluster/ray_internals.py, or pin the Ray before in constraints.txt.",
            pytrace=False,
        )


def private_names(file):
    """Yield the private modules of Ray that a file imports, and private attributes of objects."""
    tree = ast.parse(file.read_text())
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    of_ray = [name for name in modules if name.partition(".")[0] == "ray"]
    yield from (name for name in of_ray if "._" in name)
    if of_ray:
        attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        private = [node for node in attributes if re.match("_[^_]", node.attr)]
        others = [node for node in private if ast.unparse(node.value) not in ("self", "cls", "os")]
        yield from (ast.unparse(node) for node in others if node.attr not in NAMED_TUPLE)


def test_no_other_file_uses_a_private_name_of_ray():
    files = [file for package in ("cluster", "tuning") for file in (ROOT / package).rglob("*.py")]
    users = {file.name: [*names] for file in files if (names := [*private_names(file)])}
    assert users.keys() == {"ray_internals.py"}, users


@pytest.fixture
def trainer():
    return TorchTrainer(lambda: None)


def test_start_controller_passes_what_fit_passes(trainer, monkeypatch):
    def record(name, result):
        return lambda *_, **arguments: passed.update({name: arguments}) or result

    passed = {}
    actor = SimpleNamespace(remote=record("start_controller", None))
    with canary("start_controller"):
        monkeypatch.setattr(ray, "put", lambda value: value)
        outcome = SimpleNamespace(error=None)
        monkeypatch.setattr(
            TorchTrainer, "_initialize_and_run_controller", record("fit", outcome), raising=True
        )
        trainer.fit()
        remote_class = SimpleNamespace(options=record("options", actor))
        monkeypatch.setattr(ray, "remote", lambda _: remote_class)
        callbacks = trainer._create_default_callbacks()
        ray_internals.start_controller(trainer, callbacks, None)
        types = [
            {name: type(value) for name, value in passed[caller].items()}
            for caller in ("fit", "start_controller")
        ]
        assert dict(types[0].items() ^ types[1].items()) == {}


def test_a_controller_has_the_methods_that_a_started_run_calls():
    with canary("start_controller"):
        from ray.train.v2._internal.execution.controller import TrainController

        assert inspect.iscoroutinefunction(TrainController.run)
        assert inspect.iscoroutinefunction(TrainController.abort)
        assert "error" in inspect.get_annotations(
            inspect.signature(TrainController.get_result).return_annotation
        )


@pytest.mark.parametrize(
    ("outlives", "left_out"),
    [(True, {"Datasets"}), (False, {"Datasets", "PlacementGroupCleaner"})],
)
def test_default_callbacks_leave_out_those_with_idle_actors(trainer, outlives, left_out):
    with canary("default_callbacks"):
        every = {type(callback).__name__ for callback in trainer._create_default_callbacks()}
        kept = ray_internals.default_callbacks(trainer, cluster_outlives_run=outlives)
        names = {type(callback).__name__ for callback in kept}
        assert every - names == {f"{name}Callback" for name in left_out}


def test_a_lost_worker_is_unresponsive_or_dead():
    with canary("is_unresponsive and ray_internals.is_dead"):
        from ray.train.v2._internal.exceptions import (
            WorkerHealthCheckFailedError,
            WorkerHealthCheckTimeoutError,
        )
        from ray.train.v2._internal.execution.worker_group import worker_group

        silent = WorkerHealthCheckTimeoutError("silent")
        dead = WorkerHealthCheckFailedError("gone", failure=ValueError())
        assert [ray_internals.is_unresponsive(e) for e in (silent, dead)] == [True, False]
        assert [ray_internals.is_dead(e) for e in (silent, dead)] == [False, True]
        source = inspect.getsource(worker_group)
        assert "WorkerHealthCheckTimeoutError(" in source
        assert "WorkerHealthCheckFailedError(" in source


def test_a_node_that_starts_too_late_is_told_in_the_same_words():
    with canary("is_startup_timeout"):
        from ray._private import node

        [text] = [
            node.value
            for node in ast.walk(ast.parse(inspect.getsource(node)))
            if isinstance(node, ast.Constant) and "timed out during startup" in str(node.value)
        ]
        assert ray_internals.is_startup_timeout(Exception(text))
    assert not ray_internals.is_startup_timeout(Exception("no"))


def test_a_worker_is_told_its_place_by_one_function(monkeypatch):
    with canary("prepare_worker"):
        from ray.train.torch import config

        called = []
        monkeypatch.setattr(config, "_set_torch_distributed_env_vars", lambda: called.append(1))
        ray_internals.prepare_worker()
        assert called == [1]
        source = inspect.getsource(config._TorchBackend.on_start)
        assert "worker_group.execute(_set_torch_distributed_env_vars)" in source


def test_packaged_files_are_those_that_ray_packs(job_folder, tmp_path_factory):
    with canary("packaged_files"):
        from ray._private import ray_constants
        from ray._private.runtime_env.packaging import create_package

        target = tmp_path_factory.mktemp("packed") / "job.zip"
        excludes = ray_constants.get_runtime_env_default_excludes()
        create_package(str(job_folder), target, include_gitignore=True, excludes=excludes)
        with zipfile.ZipFile(target) as archive:
            packed = {info.filename for info in archive.infolist() if not info.is_dir()}
        paths = ray_internals.packaged_files(job_folder)
        assert {str(path.relative_to(job_folder)) for path in paths} == packed
    assert packed >= {"my.yaml", "code/x.py"}
    assert not packed & {"secret/key", "runs/a/b", "code/run.log", "code/y.py", ".git/HEAD"}


def test_a_job_client_takes_any_request_to_the_dashboard():
    with canary("get_from_dashboard"):
        from ray.job_submission import JobSubmissionClient

        parameters = inspect.signature(JobSubmissionClient._do_request).parameters
        assert list(parameters)[:3] == ["self", "method", "endpoint"]


def test_a_raylet_names_its_node_in_its_command():
    with canary("node_id_of"):
        from ray._private import services

        assert 'f"--node_id={node_id}"' in inspect.getsource(services.start_raylet)
    assert ray_internals.node_id_of(["raylet", "--node_id=ab12", "--other=1"]) == "ab12"
    assert ray_internals.node_id_of(["raylet"]) is None


def test_names_outside_of_python_are_rays_own():
    with canary("GCS_PORT_VARIABLE and ray_internals.TRAIN_WORKER_TITLE"):
        from ray._private import ray_constants
        from ray.train.v2._internal.execution.worker_group.worker import RayTrainWorker

        assert ray_constants.GCS_PORT_ENVIRONMENT_VARIABLE == ray_internals.GCS_PORT_VARIABLE
        assert f"ray::{RayTrainWorker.__name__}" == ray_internals.TRAIN_WORKER_TITLE
