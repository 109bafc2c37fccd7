"""The overlays as kustomize renders them for `kubectl apply -k`, and views of their objects."""

import json
import re
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = sorted(p.parent.name for p in (ROOT / "k8s/overlays").glob("*/kustomization.yaml"))

Object = dict[str, Any]


@lru_cache
def rendered(overlay: str) -> str:
    """Render an overlay as YAML with kubectl's own kustomize, without options."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "k8s/overlays" / overlay)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects_of(overlay: str) -> list[Object]:
    """Return a fresh copy of an overlay's objects, which a test may change."""
    return [*yaml.load_all(rendered(overlay), yaml.CSafeLoader)]


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [o for o in objects if o["kind"] in kinds]


def named(objects: list[Object], kind: str, name: str) -> Object:
    (match,) = (o for o in of_kind(objects, kind) if o["metadata"]["name"] == name)
    return match


def clusters(objects: list[Object]) -> list[Object]:
    """List the specifications of all Ray clusters, of jobs, services or alone; at least one."""
    specs = [o["spec"]["rayClusterSpec"] for o in of_kind(objects, "RayJob")]
    specs += [o["spec"] for o in of_kind(objects, "RayCluster")]
    specs += [o["spec"]["rayClusterConfig"] for o in of_kind(objects, "RayService")]
    assert specs
    return specs


class Pod(NamedTuple):
    """Pods that an object creates.

    Attributes:
        role: head, worker, submitter, or the name of the Deployment.
        template: metadata and spec.
        count: the largest number of pods.
    """

    role: str
    template: Object
    count: int

    @property
    def spec(self) -> Object:
        return self.template["spec"]

    @property
    def container(self) -> Object:
        (only,) = self.spec["containers"]
        return only

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the template, and those that KubeRay adds."""
        labels = self.template["metadata"]["labels"]
        if self.role not in ("head", "worker"):
            return labels
        return {"ray.io/is-ray-node": "yes", "ray.io/node-type": self.role} | labels

    def mounted(self, path: str) -> Object:
        """Return the volume that is mounted at `path`."""
        names = [m["name"] for m in self.container["volumeMounts"] if m["mountPath"] == path]
        volumes = [volume for volume in self.spec["volumes"] if volume["name"] in names]
        assert len(volumes) == 1, f"{len(volumes)} volumes at {path}"
        return volumes[0]


def ray_pods(objects: list[Object]) -> list[Pod]:
    """List heads and workers."""
    heads_and_workers = []
    for cluster in clusters(objects):
        heads_and_workers.append(Pod("head", cluster["headGroupSpec"]["template"], 1))
        for group in cluster["workerGroupSpecs"]:
            heads_and_workers.append(Pod("worker", group["template"], group["maxReplicas"]))
    return heads_and_workers


def pods(objects: list[Object]) -> list[Pod]:
    """List the pods of all roles."""
    every_pod = ray_pods(objects)
    for job in of_kind(objects, "RayJob"):
        every_pod.append(Pod("submitter", job["spec"]["submitterPodTemplate"], 1))
    for one in of_kind(objects, "Deployment"):
        every_pod.append(Pod(one["metadata"]["name"], one["spec"]["template"], 1))
    return every_pod


_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_UNITS |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGT", start=1)}


def quantity(text: Any) -> float:
    """Parse a quantity of Kubernetes, such as ``500m`` or ``8Gi``."""
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text)).groups()
    return float(number) * _UNITS[unit]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every plain value with its path."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, f"{path}/{key}")
    else:
        yield path, value


def with_change(
    objects: list[Object], kind: str, path: str, value: Any, name: str | None = None
) -> list[Object]:
    """Copy an overlay's objects with one change in every object of a kind, or in the one named.

    Args:
        objects: the overlay's objects.
        kind: the kind of the objects to change.
        path: the keys and indices of the change, as in a JSON patch.
        value: the new value; None removes the old one.
        name: the name of the only object to change.
    """
    changed = json.loads(json.dumps(objects))
    for target in [named(changed, kind, name)] if name else of_kind(changed, kind):
        *parents, last = path.removeprefix("/").replace("~1", "\0").split("/")
        for key in parents:
            target = target[_index(target, key)]
        key = _index(target, last)
        if value is None:
            del target[key]
        elif isinstance(target, list) and key == len(target):
            target.append(value)
        else:
            target[key] = value
    assert changed != objects
    return changed


def _index(inside: Any, key: str) -> Any:
    if isinstance(inside, list):
        return len(inside) if key == "-" else int(key)
    return key.replace("\0", "/")
