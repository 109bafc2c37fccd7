"""What `kubectl apply -k` would send: every overlay as kustomize renders it, and views of it."""

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
    """The overlay as YAML, by kubectl's own kustomize and no option of it."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "k8s/overlays" / overlay)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects_of(overlay: str) -> list[Object]:
    """Its objects, for a test to do with what it likes."""
    return [*yaml.load_all(rendered(overlay), yaml.CSafeLoader)]


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [o for o in objects if o["kind"] in kinds]


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = (o for o in of_kind(objects, kind) if o["metadata"]["name"] == name)
    return found


def clusters(objects: list[Object]) -> list[Object]:
    """The specification of every Ray cluster, a job's or its own; at least one."""
    found = [o["spec"]["rayClusterSpec"] for o in of_kind(objects, "RayJob")]
    found += [o["spec"] for o in of_kind(objects, "RayCluster")]
    assert found
    return found


class Pod(NamedTuple):
    """Pods that an object leads to.

    Attributes:
        role: head, worker, submitter, or the name of the Deployment.
        template: metadata and spec.
        count: the most that there may be.
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
        """Its own, and what KubeRay adds."""
        own = self.template["metadata"]["labels"]
        if self.role not in ("head", "worker"):
            return own
        return {"ray.io/is-ray-node": "yes", "ray.io/node-type": self.role} | own

    def mounted(self, path: str) -> Object:
        """The volume at `path`."""
        names = [m["name"] for m in self.container["volumeMounts"] if m["mountPath"] == path]
        found = [volume for volume in self.spec["volumes"] if volume["name"] in names]
        assert len(found) == 1, f"{len(found)} volumes at {path}"
        return found[0]


def ray_pods(objects: list[Object]) -> list[Pod]:
    """Heads and workers."""
    found = []
    for cluster in clusters(objects):
        found.append(Pod("head", cluster["headGroupSpec"]["template"], 1))
        for group in cluster["workerGroupSpecs"]:
            found.append(Pod("worker", group["template"], group["maxReplicas"]))
    return found


def pods(objects: list[Object]) -> list[Pod]:
    """Of every kind."""
    found = ray_pods(objects)
    for job in of_kind(objects, "RayJob"):
        found.append(Pod("submitter", job["spec"]["submitterPodTemplate"], 1))
    for one in of_kind(objects, "Deployment"):
        found.append(Pod(one["metadata"]["name"], one["spec"]["template"], 1))
    return found


_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_UNITS |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGT", start=1)}


def quantity(text: Any) -> float:
    """A quantity as Kubernetes writes it: ``500m``, ``8Gi``."""
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text)).groups()
    return float(number) * _UNITS[unit]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value, with where it is."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, f"{path}/{key}")
    else:
        yield path, value


def with_change(objects: list[Object], kind: str, path: str, value: Any) -> list[Object]:
    """A copy in which the one thing at `path` of every object of `kind` is `value`, or gone.

    Args:
        objects: of an overlay.
        kind: of those to change.
        path: keys and indices, as in a JSON patch.
        value: what to set; None removes.
    """
    changed = json.loads(json.dumps(objects))
    for target in of_kind(changed, kind):
        *way, last = path.removeprefix("/").replace("~1", "\0").split("/")
        for key in way:
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
