"""Values of a configuration: by dotted key, compared, and as YAML."""

from collections.abc import Collection, Iterator
from typing import Any

from metatrain.base.section import Section
from metatrain.config.tree import Config, brought_scope
from metatrain.config.yaml_values import written


def leaves(section: Section, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every dotted key, after `prefix`, with its value."""
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, Section):
            yield from leaves(value, f"{prefix}{key}.")
        elif _holds_sections(value):
            for name, part in value.items():
                yield from leaves(part, f"{prefix}{key}.{name}.")
        else:
            yield prefix + key, value


def _holds_sections(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(part, Section) for part in value.values())


def differences(a: Section, b: Section) -> dict[str, tuple[Any, Any]]:
    """Return by dotted key the values in `a` and `b` that differ; None stands for a missing key."""
    values_a, values_b = dict(leaves(a)), dict(leaves(b))
    pairs = {key: (values_a.get(key), values_b.get(key)) for key in values_a | values_b}
    return {key: (before, now) for key, (before, now) in pairs.items() if before != now}


def non_defaults(config: Section) -> dict[str, Any]:
    """Return by dotted key what differs from the defaults, as JSON has it.

    Where another component than the default is picked, its name is there too, since the defaults
    are then its own. A section without a default, such as a frozen file, has no name.
    """
    values, plain = {}, config.model_dump(mode="json")
    for key, field in type(config).model_fields.items():
        value, default = getattr(config, key), field.get_default(call_default_factory=True)
        if isinstance(value, Section):
            values |= {f"{key}.{k}": v for k, v in non_defaults(value).items()}
            if type(value) is not type(default) and "name" in plain[key]:
                values[f"{key}.name"] = plain[key]["name"]
        elif value != default:
            values[key] = plain[key]
    return values


def chosen(config: Config) -> list[str]:
    """List the dotted keys of `non_defaults`, less the scope that a learner or generator brings."""
    keys = list(non_defaults(config))
    brought = brought_scope({"learner": dict(config.learner), "generator": dict(config.generator)})
    return [key for key in keys if not (brought and key == "inner.scope.name")]


def to_yaml(config: Section, only: Collection[str] | None = None) -> str:
    """Return the configuration as YAML, every key with its description as a comment.

    Args:
        config: the configuration.
        only: the dotted keys to write; None writes all.
    """
    return "".join(f"{line}\n" for line in _yaml_lines(config, only))


def _yaml_lines(section: Section, only: Collection[str] | None, place: str = "") -> Iterator[str]:
    indent = "  " * place.count(".")
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, Section):
            lines = [*_yaml_lines(value, only, f"{place}{key}.")]
            yield from [f"{indent}{key}:", *lines] if lines else []
        elif only is not None and place + key not in only:
            continue
        elif _holds_sections(value):
            yield f"{indent}{key}:"
            for name, part in value.items():
                yield f"{indent}  {written(name)}:"
                yield from _yaml_lines(part, None, f"{place}{key}..")
        else:
            line = f"{indent}{key}: {written(value)}"
            yield f"{line:<32}  # {field.description}" if field.description else line
