"""Keys that have moved: files and models of earlier versions still have the old ones."""

from collections.abc import Mapping
from typing import Any

# They stood in the section of the network, which has nothing to do with them.
_OF_THE_FLOW = ("shared_noise", "stratified_time", "condition_dropout", "sampler")


def with_moved_keys(values: Any) -> Any:
    """Move the keys of earlier versions to where they are now; keys that are there stay."""
    if not isinstance(values, Mapping) or not isinstance(values.get("generator"), Mapping):
        return values
    flow: dict[str, Any] = {}
    generator = _without(values["generator"], flow)
    if isinstance(generator.get("of"), Mapping):
        generator["of"] = _without(generator["of"], flow)
    if not flow:
        return values
    return {**values, "generator": generator, "objective": {**flow, **values.get("objective", {})}}


def _without(section: Mapping[str, Any], flow: dict[str, Any]) -> dict[str, Any]:
    """Copy a section without the flow's keys, which are added to `flow`."""
    flow |= {key: section[key] for key in _OF_THE_FLOW if key in section}
    return {key: value for key, value in section.items() if key not in _OF_THE_FLOW}
