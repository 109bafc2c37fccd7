"""Render a run's manifest: the overlays, with the run's configuration, size and name.

kustomize combines them, so that the overlays stay the only source of what is deployed.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from k8s.request import FOLDER, Endpoint, Request
from k8s.size import Size, gibibytes, size_of
from metatrain.base.errors import UserError

# The most characters of a RayJob's name, to which KubeRay appends for the objects that it makes.
_MAX_NAME = 47

_GROUP = "/spec/rayClusterSpec/workerGroupSpecs/0"
INSTANCE = "metadata/labels/app.kubernetes.io~1instance"


def render(request: Request) -> str:
    """Render all objects of a run as YAML, in an order in which they can be applied.

    Raises:
        UserError: when the run does not fit, or kubectl is missing.
    """
    check_quota(request.pods, request.gpus)
    return kustomized(
        image=request.image,
        components=request.components,
        files=request.files,
        patches=[
            _job_patch(request, size_of(request)),
            *budget_patches(job_name(request.name), ("head", "submitter")),
            *network_patches(request.api_server, request.operator_namespace),
            run_network_patch(job_name(request.name)),
        ],
    )


def kustomized(
    *,
    image: str,
    components: Sequence[str],
    files: Mapping[str, str],
    patches: Sequence[Mapping[str, Any]],
) -> str:
    """Render the base with components and patches as YAML.

    Args:
        image: the image, by digest.
        components: kustomize components on top of the base.
        files: the files that the pods read, by name.
        patches: patches on top of the components.

    Raises:
        UserError: when kubectl is missing or fails.
    """
    if not shutil.which("kubectl"):
        raise UserError(
            "kubectl is not installed, whose kustomize renders the manifest; install version 1.32 "
            "or newer (https://kubernetes.io/docs/tasks/tools)."
        )
    with TemporaryDirectory() as folder:
        _write_kustomization(Path(folder).resolve(), image, components, files, patches)
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


def _write_kustomization(
    folder: Path,
    image: str,
    components: Sequence[str],
    files: Mapping[str, str],
    patches: Sequence[Mapping[str, Any]],
) -> None:
    """Write the overlay below the run's changes, since kustomize applies components last."""
    for name, content in files.items():
        (folder / name).write_text(content)
    (folder / "overlay").mkdir()
    source = Path(os.path.relpath(FOLDER.resolve(), folder / "overlay"))
    name, _, digest = image.partition("@")
    overlay = {
        "resources": [str(source / "base")],
        "components": [str(source / "components" / name) for name in components],
    }
    generators = [{"name": "run", "behavior": "merge", "files": [*files]}]
    top = {
        "namespace": "metatrain",
        "resources": ["overlay"],
        "configMapGenerator": generators if files else [],
        "images": [{"name": "metatrain", "newName": name, "digest": digest}],
        "patches": patches,
    }
    for target, content in ((folder / "overlay", overlay), (folder, top)):
        # JSON, since kustomize reads an unquoted n as a boolean, which PyYAML would write.
        (target / "kustomization.yaml").write_text(json.dumps(content))


def _job_patch(request: Request, size: Size) -> dict[str, Any]:
    name, pods = job_name(request.name), request.pods
    counts = ["maxReplicas"] if request.autoscales else ["replicas", "minReplicas", "maxReplicas"]
    templates = ["submitterPodTemplate", "rayClusterSpec/headGroupSpec/template"]
    values = {
        "/metadata/name": name,
        f"/{INSTANCE}": name,
        **{f"/spec/{template}/{INSTANCE}": name for template in templates},
        **{f"{_GROUP}/{count}": pods for count in counts},
        **worker_values(_GROUP, name, size),
    }
    return replacement_patch({"kind": "RayJob"}, values)


def worker_values(group: str, name: str, size: Size) -> dict[str, Any]:
    """Return what each worker pod of a group has, by its path.

    Args:
        group: the path of the group.
        name: the name of the run.
        size: the size of each pod.
    """
    shm = {"medium": "Memory", "sizeLimit": gibibytes(size.shm)}
    return {
        f"{group}/template/{INSTANCE}": name,
        f"{group}/template/spec/containers/0/resources/requests": size.resources,
        f"{group}/template/spec/containers/0/resources/limits": size.resources,
        f"{group}/template/spec/volumes/1": {"name": "shm", "emptyDir": shm},
    }


def budget_patches(name: str, roles: Sequence[str]) -> list[dict[str, Any]]:
    """Name the budgets by the run, or a run's pods would count in the budgets of another."""
    selector = "/spec/selector/matchLabels/app.kubernetes.io~1instance"
    return [
        replacement_patch(
            {"kind": "PodDisruptionBudget", "name": f"metatrain-{role}"},
            {"/metadata/name": f"{name}-{role}", selector: name},
        )
        for role in roles
    ]


def network_patches(
    api_server: Sequence[Endpoint], operator_namespace: str | None
) -> list[dict[str, Any]]:
    """Name the namespace of KubeRay and the addresses of the API server, where they are given."""
    patches = []
    if operator_namespace:
        labels = {"kubernetes.io/metadata.name": operator_namespace}
        path = "/spec/ingress/0/from/0/namespaceSelector/matchLabels"
        target = {"kind": "NetworkPolicy", "name": "operator"}
        patches.append(replacement_patch(target, {path: labels}))
    if api_server:
        rules = [
            {
                "to": [{"ipBlock": {"cidr": endpoint.cidr}}],
                "ports": [{"port": endpoint.port, "protocol": "TCP"}],
            }
            for endpoint in api_server
        ]
        target = {"kind": "NetworkPolicy", "name": "autoscaler"}
        patches.append(replacement_patch(target, {"/spec/egress": rules}))
    return patches


def run_network_patch(name: str) -> dict[str, Any]:
    """Name the policy by the run, whose pods alone reach each other."""
    selectors = ("podSelector", "ingress/0/from/0/podSelector", "egress/0/to/0/podSelector")
    label = "matchLabels/app.kubernetes.io~1instance"
    return replacement_patch(
        {"kind": "NetworkPolicy", "name": "metatrain-cluster"},
        {
            "/metadata/name": f"{name}-cluster",
            **{f"/spec/{selector}/{label}": name for selector in selectors},
        },
    )


def replacement_patch(target: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the patch that replaces the values at these paths."""
    steps = [{"op": "replace", "path": path, "value": value} for path, value in values.items()]
    patch = json.dumps(steps)
    return {"target": dict(target), "patch": patch, "options": {"allowNameChange": True}}


def check_quota(pods: int, gpus: int) -> None:
    """Check the namespace's quota, which would let a larger run wait forever without a message.

    Raises:
        UserError: when the run needs more GPUs than the quota.
    """
    file = FOLDER / "base/resource-quota.yaml"
    limit = int(yaml.safe_load(file.read_text())["spec"]["hard"]["requests.nvidia.com/gpu"])
    if pods * gpus > limit:
        raise UserError(
            f"{pods} --workers of {gpus} GPUs exceed the {limit} GPUs that {file} "
            f"allows for all runs together; raise the limit there."
        )
