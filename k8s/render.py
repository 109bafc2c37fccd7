"""A run's manifest: what the overlays say, with the run's own configuration, size and name on top.

kustomize puts it together, so there is one source of what is deployed, and nothing in it is edited.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from k8s.request import FOLDER, Request
from k8s.size import Size, gibibytes, size_of
from metatrain.base.errors import UserError

# The longest of a RayJob's name, to which KubeRay adds for what it makes of it.
_LONGEST = 47

_GROUP = "/spec/rayClusterSpec/workerGroupSpecs/0"
_INSTANCE = "metadata/labels/app.kubernetes.io~1instance"


def render(request: Request) -> str:
    """All objects of a run as YAML, in an order in which they can be applied.

    Raises:
        UserError: when the run does not fit, or kubectl is missing.
    """
    _check_quota(request)
    if not shutil.which("kubectl"):
        raise UserError(
            "kubectl is not installed, whose kustomize puts the manifest together; install version "
            "1.32 or newer (https://kubernetes.io/docs/tasks/tools)."
        )
    size = size_of(request)
    with TemporaryDirectory() as folder:
        _write(Path(folder).resolve(), request, size)
        command = ["kubectl", "kustomize", folder]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"kubectl kustomize failed: {done.stderr.strip()}")
    return done.stdout


def job_name(run: str) -> str:
    """A name that Kubernetes allows, always the same for a run and another for each.

    >>> job_name("flowers-64")
    'flowers-64'
    """
    if re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", run) and len(run) <= _LONGEST:
        return run
    mark = hashlib.sha256(run.encode()).hexdigest()[:8]
    plain = re.sub(r"[^a-z0-9]+", "-", f"run-{run.lower()}")
    return f"{plain[: _LONGEST - 9].strip('-')}-{mark}"


def _write(folder: Path, request: Request, size: Size) -> None:
    """The overlay in a folder of its own: components change a file after what is beside them."""
    for name, content in request.files.items():
        (folder / name).write_text(content)
    (folder / "overlay").mkdir()
    ours = Path(os.path.relpath(FOLDER.resolve(), folder / "overlay"))
    image, _, digest = request.image.partition("@")
    overlay = {
        "resources": [str(ours / "base")],
        "components": [str(ours / "components" / name) for name in request.components],
    }
    top = {
        "namespace": "metatrain",
        "resources": ["overlay"],
        "configMapGenerator": [{"name": "run", "behavior": "merge", "files": [*request.files]}],
        "images": [{"name": "metatrain", "newName": image, "digest": digest}],
        "patches": [_of_the_job(request, size), *_of_budgets(request)],
    }
    for place, content in ((folder / "overlay", overlay), (folder, top)):
        (place / "kustomization.yaml").write_text(yaml.safe_dump(content))


def _of_the_job(request: Request, size: Size) -> dict[str, Any]:
    name, pods = job_name(request.name), request.pods
    counts = ["maxReplicas"] if request.grows else ["replicas", "minReplicas", "maxReplicas"]
    templates = ["submitterPodTemplate", "rayClusterSpec/headGroupSpec/template"]
    shm = {"medium": "Memory", "sizeLimit": gibibytes(size.shm)}
    values = {
        "/metadata/name": name,
        f"/{_INSTANCE}": name,
        **{f"/spec/{template}/{_INSTANCE}": name for template in templates},
        f"{_GROUP}/template/{_INSTANCE}": name,
        **{f"{_GROUP}/{count}": pods for count in counts},
        f"{_GROUP}/template/spec/containers/0/resources/requests": size.resources,
        f"{_GROUP}/template/spec/containers/0/resources/limits": size.resources,
        f"{_GROUP}/template/spec/volumes/1": {"name": "shm", "emptyDir": shm},
    }
    return _replacing({"kind": "RayJob"}, values)


def _of_budgets(request: Request) -> list[dict[str, Any]]:
    """Each run has its own, or one run's pods would be guarded by another's."""
    name = job_name(request.name)
    selected = "/spec/selector/matchLabels/app.kubernetes.io~1instance"
    return [
        _replacing(
            {"kind": "PodDisruptionBudget", "name": f"metatrain-{role}"},
            {"/metadata/name": f"{name}-{role}", selected: name},
        )
        for role in ("head", "submitter")
    ]


def _replacing(target: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    steps = [{"op": "replace", "path": path, "value": value} for path, value in values.items()]
    patch = yaml.safe_dump(steps)
    return {"target": dict(target), "patch": patch, "options": {"allowNameChange": True}}


def _check_quota(request: Request) -> None:
    """What no quota admits would wait for ever, without a word.

    Raises:
        UserError: when the namespace may not have so much.
    """
    file = FOLDER / "base/resource-quota.yaml"
    most = int(yaml.safe_load(file.read_text())["spec"]["hard"]["requests.nvidia.com/gpu"])
    if request.pods * request.gpus > most:
        raise UserError(
            f"{request.pods} --workers of {request.gpus} GPUs are more than the {most} that {file} "
            f"lets all runs have together; raise it there."
        )
