"""KubeRay's schemas, as the API server reads them: unknown fields refused, enums, defaults."""

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from manifests import ROOT, Object

_FOLDER = Path(os.environ.get("KUBERAY_CRDS", ROOT.parent / "shared/crds"))
_HOW = (
    f"KubeRay's schemas are not in {_FOLDER}: set KUBERAY_CRDS to a folder with those of v1.7.0, "
    "ray-operator/config/crd/bases/ of https://github.com/ray-project/kuberay."
)


@lru_cache
def _schema(kind: str) -> dict[str, Any]:
    file = _FOLDER / f"ray.io_{kind.lower()}s.yaml"
    if not file.exists():
        pytest.skip(_HOW)
    definition = yaml.load(file.read_text(), yaml.CSafeLoader)
    (version,) = (v for v in definition["spec"]["versions"] if v["name"] == "v1")
    return version["schema"]["openAPIV3Schema"]


@lru_cache
def _validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(_strict(_schema(kind)))


def complaints(ray: Object) -> list[str]:
    """What the API server would refuse about a RayJob or RayCluster, once defaults are set."""
    kind = ray["kind"]
    found = _validator(kind).iter_errors(with_defaults(ray, _schema(kind)))
    said = [f"/{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in found]
    return said + [f"{path} appears twice" for path in _twice(ray, _schema(kind))]


def with_defaults(value: Any, schema: dict[str, Any]) -> Any:
    """A copy of `value` in which what is missing has its default."""
    if isinstance(value, list):
        return [with_defaults(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    missing = {k: p["default"] for k, p in known.items() if k not in value and "default" in p}
    filled = value | json.loads(json.dumps(missing))
    return {k: with_defaults(part, known.get(k, others)) for k, part in filled.items()}


def _strict(schema: Any) -> Any:
    """As JSON Schema: no fields but those known, unless the schema keeps unknown ones."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    left_out = ("description", "properties")
    strict = {
        k: _strict(part)
        for k, part in schema.items()
        if k not in left_out and not k.startswith("x-")
    }
    if schema.get("x-kubernetes-int-or-string"):
        strict.pop("type", None)
    if schema.get("type") == "object" and "additionalProperties" not in schema:
        known = {k: _strict(part) for k, part in schema.get("properties", {}).items()}
        if {"metadata", "apiVersion"} <= known.keys():
            known["metadata"] = _METADATA  # which the API server has a schema of its own for
        keeps = schema.get("x-kubernetes-preserve-unknown-fields", False)
        strict |= {"properties": known, "additionalProperties": keeps}
    return strict


_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA = {
    "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}}
    | {"labels": _TEXTS, "annotations": _TEXTS},
    "required": ["name", "namespace"],
    "additionalProperties": False,
}


def _twice(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Where a list that is a map has a key twice."""
    if isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys", [])
        seen = [tuple(str(item.get(key)) for key in keys) for item in value if keys]
        found = [path] if len(seen) > len(set(seen)) else []
        parts = [(str(i), item, schema.get("items", {})) for i, item in enumerate(value)]
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        found, parts = [], [(k, part, known.get(k, {})) for k, part in value.items()]
    else:
        return []
    return found + [t for k, part, inner in parts for t in _twice(part, inner, f"{path}/{k}")]
