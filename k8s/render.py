"""Render a run's manifest: the overlays, with the run's configuration, size and name.

kustomize combines them, so that the overlays stay the only source of what is deployed.
"""

import hashlib
import json
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

# The most characters of a RayJob's name, to which KubeRay appends for the objects that it makes.
_MAX_NAME = 47

_GROUP = "/spec/rayClusterSpec/workerGroupSpecs/0"
_INSTANCE = "metadata/labels/app.kubernetes.io~1instance"


def render(request: Request) -> str:
    """Render all objects of a run as YAML, in an order in which they can be applied.

    Raises:
        UserError: when the run does not fit, or kubectl is missing.
    """
    _check_quota(request)
    if not shutil.which("kubectl"):
        raise UserError(
            "kubectl is not installed, whose kustomize renders the manifest; install version 1.32 "
            "or newer (https://kubernetes.io/docs/tasks/tools)."
        )
    size = size_of(request)
    with TemporaryDirectory() as folder:
        _write_kustomization(Path(folder).resolve(), request, size)
        command = ["kubectl", "kustomize", folder]
        process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        raise UserError(f"kubectl kustomize failed: {process.stderr.strip()}")
    return process.stdout


def job_name(run: str) -> str:
    """Derive a valid Kubernetes name from a run's, stable and different for every run.

    >>> job_name("flowers-64")
    'flowers-64'
    """
    if re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", run) and len(run) <= _MAX_NAME:
        return run
    digest = hashlib.sha256(run.encode()).hexdigest()[:8]
    plain = re.sub(r"[^a-z0-9]+", "-", f"run-{run.lower()}")
    return f"{plain[: _MAX_NAME - 9].strip('-')}-{digest}"


def _write_kustomization(folder: Path, request: Request, size: Size) -> None:
    """Write the overlay below the run's changes, since kustomize applies components last."""
    for name, content in request.files.items():
        (folder / name).write_text(content)
    (folder / "overlay").mkdir()
    source = Path(os.path.relpath(FOLDER.resolve(), folder / "overlay"))
    image, _, digest = request.image.partition("@")
    overlay = {
        "resources": [str(source / "base")],
        "components": [str(source / "components" / name) for name in request.components],
    }
    top = {
        "namespace": "metatrain",
        "resources": ["overlay"],
        "configMapGenerator": [{"name": "run", "behavior": "merge", "files": [*request.files]}],
        "images": [{"name": "metatrain", "newName": image, "digest": digest}],
        "patches": [
            _job_patch(request, size),
            *_budget_patches(request),
            *_network_patches(request),
            _run_network_patch(request),
        ],
    }
    for target, content in ((folder / "overlay", overlay), (folder, top)):
        # JSON, since kustomize reads an unquoted n as a boolean, which PyYAML would write.
        (target / "kustomization.yaml").write_text(json.dumps(content))


def _job_patch(request: Request, size: Size) -> dict[str, Any]:
    name, pods = job_name(request.name), request.pods
    counts = ["maxReplicas"] if request.autoscales else ["replicas", "minReplicas", "maxReplicas"]
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
    return _replacement_patch({"kind": "RayJob"}, values)


def _budget_patches(request: Request) -> list[dict[str, Any]]:
    """Name the budgets by the run, or a run's pods would count in the budgets of another."""
    name = job_name(request.name)
    selector = "/spec/selector/matchLabels/app.kubernetes.io~1instance"
    return [
        _replacement_patch(
            {"kind": "PodDisruptionBudget", "name": f"metatrain-{role}"},
            {"/metadata/name": f"{name}-{role}", selector: name},
        )
        for role in ("head", "submitter")
    ]


def _network_patches(request: Request) -> list[dict[str, Any]]:
    """Name the namespace of KubeRay and the addresses of the API server, where they are given."""
    patches = []
    if request.operator_namespace:
        labels = {"kubernetes.io/metadata.name": request.operator_namespace}
        path = "/spec/ingress/0/from/0/namespaceSelector/matchLabels"
        target = {"kind": "NetworkPolicy", "name": "operator"}
        patches.append(_replacement_patch(target, {path: labels}))
    if request.api_server:
        rules = [
            {
                "to": [{"ipBlock": {"cidr": endpoint.cidr}}],
                "ports": [{"port": endpoint.port, "protocol": "TCP"}],
            }
            for endpoint in request.api_server
        ]
        target = {"kind": "NetworkPolicy", "name": "autoscaler"}
        patches.append(_replacement_patch(target, {"/spec/egress": rules}))
    return patches


def _run_network_patch(request: Request) -> dict[str, Any]:
    """Name the policy by the run, whose pods alone reach each other."""
    name = job_name(request.name)
    selectors = ("podSelector", "ingress/0/from/0/podSelector", "egress/0/to/0/podSelector")
    label = "matchLabels/app.kubernetes.io~1instance"
    return _replacement_patch(
        {"kind": "NetworkPolicy", "name": "metatrain-cluster"},
        {
            "/metadata/name": f"{name}-cluster",
            **{f"/spec/{selector}/{label}": name for selector in selectors},
        },
    )


def _replacement_patch(target: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    steps = [{"op": "replace", "path": path, "value": value} for path, value in values.items()]
    patch = json.dumps(steps)
    return {"target": dict(target), "patch": patch, "options": {"allowNameChange": True}}


def _check_quota(request: Request) -> None:
    """Check the namespace's quota, which would let a larger run wait forever without a message.

    Raises:
        UserError: when the run needs more GPUs than the quota.
    """
    file = FOLDER / "base/resource-quota.yaml"
    limit = int(yaml.safe_load(file.read_text())["spec"]["hard"]["requests.nvidia.com/gpu"])
    if request.pods * request.gpus > limit:
        raise UserError(
            f"{request.pods} --workers of {request.gpus} GPUs exceed the {limit} GPUs that {file} "
            f"allows for all runs together; raise the limit there."
        )
