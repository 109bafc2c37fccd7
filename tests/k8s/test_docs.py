"""docs/cluster.md and k8s/README.md agree with the code."""

import re
import shlex

import test_overlays
import yaml
from manifests import ROOT, of_kind

from k8s.commands import K8S
from metatrain.cli.command import run

GUIDE = (ROOT / "docs/cluster.md").read_text()
POINTS = (ROOT / "k8s/README.md").read_text()
IMAGE = f"registry.example.com/metatrain@sha256:{64 * 'a'}"


def commands():
    """List the commands of the guide's second block; the first block sets their variables."""
    return re.findall(r"```sh\n(.*?)```", GUIDE, re.S)[1].splitlines()


def test_the_ten_commands_are_ten_and_the_first_applies_the_crds_on_the_server():
    assert len(commands()) == 10
    assert commands()[0].startswith("kubectl apply --server-side -k ")
    assert commands()[0].endswith("?ref=v1.7.0'")


def test_the_manifest_of_the_guide_is_rendered_and_its_store_can_be_applied_first(
    capsys, monkeypatch
):
    monkeypatch.chdir(ROOT)
    (line,) = (line for line in commands() if line.startswith("metatrain k8s render"))
    for variable, value in (("REGISTRY/metatrain@$DIGEST", IMAGE), ("API_SERVER", "10.0.0.5:6443")):
        line = line.replace(f"${variable}", value)
    words = shlex.split(line.partition(" > ")[0])
    assert run("metatrain", {"k8s": K8S}, words[1:]) == 0
    objects = [*yaml.safe_load_all(capsys.readouterr().out)]
    assert of_kind(objects, "RayJob")[0]["metadata"]["name"] == "glyphs"
    (label,) = re.findall(r"apply -f sweep.yaml -l (\S+)=", GUIDE)
    first = {o["kind"] for o in objects if label in o["metadata"].get("labels", {})}
    assert first == {
        *("Service", "PersistentVolumeClaim", "ServiceAccount"),
        *("Deployment", "NetworkPolicy"),
    }


def test_every_point_of_the_readme_names_tests_that_exist():
    known = [name for name in dir(test_overlays) if name.startswith("test_")] + list(globals())
    named = re.findall(r"`([a-z0-9_]+_[a-z0-9_]+)(?:_\.\.\.)?`", POINTS.partition("## How")[0])
    named = [name for name in named if "." not in name]
    assert len(named) > 25
    for name in named:
        assert any(test.startswith(f"test_{name}") for test in known), name
