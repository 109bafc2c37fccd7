"""Validate against KubeRay's schemas as the API server does, refusing unknown fields."""

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
_SKIP_REASON = (
    f"KubeRay's schemas are not in {_FOLDER}: set KUBERAY_CRDS to a folder with those of v1.7.0, "
    "ray-operator/config/crd/bases/ of https://github.com/ray-project/kuberay."
)


@lru_cache
def _schema(kind: str) -> dict[str, Any]:
    file = _FOLDER / f"ray.io_{kind.lower()}s.yaml"
    if not file.exists():
        pytest.skip(_SKIP_REASON)
    definition = yaml.load(file.read_text(), yaml.CSafeLoader)
    (version,) = (v for v in definition["spec"]["versions"] if v["name"] == "v1")
    return version["schema"]["openAPIV3Schema"]


@lru_cache
def _validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(_strict(_schema(kind)))


def complaints(ray: Object) -> list[str]:
    """List what the API server would refuse in an object of Ray, after setting defaults."""
    kind = ray["kind"]
    errors = _validator(kind).iter_errors(with_defaults(ray, _schema(kind)))
    lines = [f"/{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in errors]
    return lines + [f"{path} has a duplicate" for path in _duplicates(ray, _schema(kind))]


def with_defaults(value: Any, schema: dict[str, Any]) -> Any:
    """Copy `value` with the defaults of missing fields."""
    if isinstance(value, list):
        return [with_defaults(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    missing = {k: p["default"] for k, p in known.items() if k not in value and "default" in p}
    filled = value | json.loads(json.dumps(missing))
    return {k: with_defaults(part, known.get(k, others)) for k, part in filled.items()}


def _strict(schema: Any) -> Any:
    """Convert to a JSON Schema without unknown fields, unless the schema preserves them."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    omitted = ("description", "properties")
    strict = {
        k: _strict(part)
        for k, part in schema.items()
        if k not in omitted and not k.startswith("x-")
    }
    if schema.get("x-kubernetes-int-or-string"):
        strict.pop("type", None)
    if schema.get("type") == "object" and "additionalProperties" not in schema:
        known = {k: _strict(part) for k, part in schema.get("properties", {}).items()}
        if {"metadata", "apiVersion"} <= known.keys():
            known["metadata"] = _METADATA  # the API server has its own schema for it
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


def _duplicates(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """List the paths of lists of type map that have a key twice."""
    if isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys", [])
        identities = [tuple(str(item.get(key)) for key in keys) for item in value if keys]
        paths = [path] if len(identities) > len(set(identities)) else []
        parts = [(str(i), item, schema.get("items", {})) for i, item in enumerate(value)]
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        paths, parts = [], [(k, part, known.get(k, {})) for k, part in value.items()]
    else:
        return []
    return paths + [d for k, part, inner in parts for d in _duplicates(part, inner, f"{path}/{k}")]
