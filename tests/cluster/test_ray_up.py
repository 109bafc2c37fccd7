"""The files for `ray up`: valid for Ray's launcher, and safe by default."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import fillout_defaults, validate_config

FILES = sorted((Path(__file__).parents[2] / "cluster").glob("*.yaml"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def text(request):
    return request.param.read_text()


def test_there_is_a_file_for_each_provider():
    assert [path.stem for path in FILES] == ["aws", "gcp", "onprem"]


def test_rays_launcher_accepts_it_and_no_unknown_key(text):
    config = yaml.safe_load(text)
    validate_config(fillout_defaults(config))
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config(fillout_defaults(config | {"idle_timeout": 5}))


def test_every_start_requires_the_token_and_listens_locally(text):
    config = yaml.safe_load(text)
    [head] = [c for c in config["head_start_ray_commands"] if "--head" in c]
    [worker] = [c for c in config["worker_start_ray_commands"] if "--address" in c]
    for command in (head, worker):
        assert "RAY_AUTH_MODE=token" in command
        assert "RAY_USAGE_STATS_ENABLED=0" in command
    assert "--dashboard-host=127.0.0.1" in head
    # By path only; the token stays on the user's machine.
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert not re.search(r"(?i)(secret|password|AKIA[0-9A-Z]{16}|\b[0-9a-f]{40,})", text)


def test_packages_are_pinned_and_idle_nodes_end(text):
    config = yaml.safe_load(text)
    backends, project = [c for c in config["setup_commands"] if "pip install" in c]
    assert "--require-hashes -r requirements/build.txt" in backends
    assert "--no-build-isolation -c constraints.txt" in project
    for name, kind in config.get("available_node_types", {}).items():
        assert kind.get("min_workers", 0) == 0, name
        assert config["idle_timeout_minutes"] <= 10
    if "available_node_types" in config:
        assert config["available_node_types"]["head"]["resources"]["CPU"] == 0
    else:
        assert any("--num-cpus=0" in command for command in config["head_start_ray_commands"])
