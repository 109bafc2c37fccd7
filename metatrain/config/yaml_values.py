"""YAML as plain values: YAML 1.2's scalars, and nothing that runs code, resolves or repeats."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

from metatrain.base.errors import UserError

_TAG = "tag:yaml.org,2002:"

# A value of an override that begins so is YAML's notation; any other is a plain scalar.
_NOTATION = ("[", "{", '"', "'")


class _Loader(yaml.SafeLoader):
    """PyYAML's SafeLoader with the scalars of YAML 1.2's core schema.

    YAML 1.1, PyYAML's own, reads `no` as a boolean, `1:30` as 90, and `1e-3` as a text.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Refuse aliases, of which aliases grow without bound, and tags, which fit no value."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases are not read; write the value again"
            raise ConstructorError(None, None, problem, event.start_mark)
        if getattr(event, "tag", None) is not None:
            problem = f"the tag {event.tag} is not read; leave it out"
            raise ConstructorError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)


def _refusal(node: Node, problem: str) -> ConstructorError:
    return ConstructorError(None, None, problem, node.start_mark)


def _text(_: _Loader, node: ScalarNode) -> str:
    if "${" in node.value:
        raise _refusal(
            node, f"{node.value} asks for another value, and none is looked up; write it itself"
        )
    return node.value


def _mapping(loader: _Loader, node: MappingNode) -> dict[Any, Any]:
    values: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, ScalarNode):
            raise _refusal(key_node, "a key is a list or a section; write a word")
        key = loader.construct_object(key_node)
        if key in values:
            raise _refusal(key_node, f"the key {key} is there twice; remove one")
        values[key] = loader.construct_object(value_node, deep=True)
    return values


def _none(_: _Loader, node: ScalarNode) -> None:
    raise _refusal(
        node, "None is a text in YAML; write null to have no value, or quotes around the text"
    )


def _float(_: _Loader, node: ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


# The scalars that are no texts: tag, pattern, first characters, and what constructs the value.
_SCALARS: tuple[tuple[str, str, list[str], Callable[[_Loader, ScalarNode], Any]], ...] = (
    (_TAG + "null", "~|null|Null|NULL|", [*"~nN", ""], lambda _, node: None),
    (
        _TAG + "bool",
        "true|True|TRUE|false|False|FALSE",
        [*"tTfF"],
        lambda _, node: node.value.lower() == "true",
    ),
    (_TAG + "int", "[-+]?[0-9]+", [*"-+0123456789"], lambda _, node: int(node.value)),
    (
        _TAG + "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
        r"|\.(nan|NaN|NAN)",
        [*"-+.0123456789"],
        _float,
    ),
    ("!none", "None", ["N"], _none),
)
for _tag, _pattern, _first, _construct in _SCALARS:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)
    _Loader.add_constructor(_tag, _construct)
_Loader.add_constructor(_TAG + "str", _text)
_Loader.add_constructor(_TAG + "map", _mapping)


class _Dumper(yaml.SafeDumper):
    """PyYAML's SafeDumper that quotes the texts that any YAML reads as something else.

    `_Loader` reads YAML 1.2. Kubernetes and many others read 1.1, where `on` and `n` are booleans.
    """

    yaml_implicit_resolvers: dict[str, Any] = {  # noqa: RUF012
        first: [
            *_Loader.yaml_implicit_resolvers.get(first, []),
            *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
        ]
        for first in {*_Loader.yaml_implicit_resolvers, *yaml.SafeDumper.yaml_implicit_resolvers}
    }


# PyYAML itself knows neither of these: a boolean of YAML 1.1, and an octal number of YAML 1.2.
_Dumper.add_implicit_resolver(_TAG + "bool", re.compile(r"[yYnN]\Z"), [*"yYnN"])
_Dumper.add_implicit_resolver(_TAG + "int", re.compile(r"0o[0-7]+\Z"), ["0"])


def parse_file(data: bytes, name: str) -> dict[str, Any]:
    """Parse the keys and values of a YAML file; an empty one has none.

    Args:
        data: the file's content.
        name: the path or URL that messages name.

    Raises:
        UserError: with line and column, when it is no YAML, or holds no keys and values.
    """
    try:
        values = _constructed(lambda: yaml.load(data.decode("utf-8-sig"), _Loader))
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{name} cannot be read as YAML: {_cause(error)}.") from error
    if not isinstance(values, Mapping | None):
        kind = "a list" if isinstance(values, list) else f"the value {values}"
        raise UserError(
            f"{name} cannot be read as YAML keys and values: it holds {kind}; write lines such as "
            f"seed: 1."
        )
    return dict(values or {})


def parse_override(override: str) -> tuple[str, Any]:
    """Parse `key=value` into its dotted key and its value.

    The value is YAML in one line; a plain one is kept whole, with any `#` and `:` in it.

    Raises:
        UserError: when there is no `=`, or the value is no YAML.
    """
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"'{override}' is not an override; write key=value, as in inner.lr=0.01.")
    try:
        if text.startswith(_NOTATION):
            return key, _constructed(lambda: yaml.load(text, _Loader))
        return key, _constructed(lambda: _plain(text))
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{override} cannot be read as YAML: {_cause(error)}.") from error


def dumped(values: Mapping[str, Any]) -> str:
    """Return plain values as YAML that `parse_file` reads back the same."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False)


def written(value: Any) -> str:
    """Return a value as YAML, in one line; a text is always quoted."""
    plain = list(value) if isinstance(value, tuple) else value
    quotes = '"' if isinstance(value, str) else None
    line = yaml.dump(
        plain, Dumper=_Dumper, default_flow_style=True, default_style=quotes, width=math.inf
    )
    return line.removesuffix("...\n").strip()


def _plain(text: str) -> Any:
    loader = _Loader("")
    tag = loader.resolve(ScalarNode, text, (True, False))
    return loader.construct_object(ScalarNode(tag, text))


def _constructed(construct: Callable[[], Any]) -> Any:
    try:
        return construct()
    except RecursionError:
        raise ValueError("it is nested too deeply; write fewer levels") from None
    except OverflowError as error:  # PyYAML's, of an escape such as \UFFFFFFFF
        raise ValueError(f"an escape names no character ({error})") from error


def _cause(error: Exception) -> str:
    """Return why a text is refused, with its line and column where they are known."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8 text; give a text file"
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split()).rstrip(".")
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    context = f" ({error.context})" if error.context else ""
    return f"{place}{error.problem}{context}"
