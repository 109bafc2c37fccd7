"""Every check of test_overlays.py fails on a manifest with a single error."""

import inspect
from pathlib import Path

import pytest
import test_overlays
import yaml
from kubernetes_validate import ValidationError
from manifests import objects_of, with_change

CASES = yaml.safe_load((Path(__file__).parent / "broken.yaml").read_text())
CHECKS = {
    name: check
    for name, check in inspect.getmembers(test_overlays, inspect.isfunction)
    if name.startswith("test_") and inspect.signature(check).parameters
}


def check_of(words):
    (name,) = (name for name in CHECKS if name.startswith(f"test_{words}"))
    return name


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['refused_by']}-{c['path']}")
def test_a_broken_manifest_is_refused(case):
    objects = objects_of(case["overlay"])
    change = {key: case[key] for key in ("kind", "path", "value", "name") if key in case}
    broken = with_change(objects, **change)
    check = CHECKS[check_of(case["refused_by"])]
    with pytest.raises((AssertionError, ValidationError)):
        check(broken)
    check(objects)


def test_there_is_a_broken_manifest_for_every_check():
    assert {check_of(case["refused_by"]) for case in CASES} == set(CHECKS)
