"""Print the page of the Python interface, made from its docstrings: python docs/make_api.py."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import metatrain

_INTRODUCTION = """# Python interface

Everything in `import metatrain`, made from its docstrings by `python docs/make_api.py`. Nothing is
imported before it is used. A mistake is a `metatrain.UserError` (a `ValueError`) whose sentence
says what to do. Progress goes to the logger `metatrain`; `logging.basicConfig(level=logging.INFO)`
shows it.
"""
_FIRST = ("load", "Model", "pack", "load_config", "train", "evaluate", "evaluation_table")
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):$", re.MULTILINE)
_TITLES = {"Args": "", "Attributes": "", "Returns": "Returns: ", "Raises": "Raises "}
_WIDTH = 100


def page() -> str:
    """Render the page as Markdown."""
    names = [*_FIRST, *(name for name in metatrain.__all__ if name not in _FIRST)]
    return "\n".join([_INTRODUCTION, *(_entry(name, getattr(metatrain, name)) for name in names)])


def _entry(name: str, value: Any) -> str:
    if not inspect.isclass(value):
        return f"## metatrain.{name}\n\n{_function(value)}\n"
    methods = [
        method
        for attribute, method in vars(value).items()
        if not attribute.startswith("_") and isinstance(method, property | type(_entry))
    ]
    return "\n".join(
        [f"## metatrain.{name}\n\n{_prose(value)}\n", *(_method(name, m) for m in methods)]
    )


def _method(name: str, method: Any) -> str:
    if isinstance(method, property):
        assert method.fget is not None
        return f"### {name}.{method.fget.__name__}\n\n{_prose(method)}\n"
    return f"### {name}.{method.__name__}\n\n{_function(method)}\n"


def _function(function: Any) -> str:
    return f"```python\n{_signature(function)}\n```\n\n{_prose(function)}"


def _signature(function: Any) -> str:
    """Return the head of a function as its source has it, on one line or an argument a line."""
    [node] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef)
    arguments = [*_arguments(node.args)]
    result = f" -> {ast.unparse(node.returns)}".replace("'", "") if node.returns else ""
    line = f"{node.name}({', '.join(arguments)}){result}"
    if len(line) <= _WIDTH:
        return line
    return f"{node.name}(\n    {f',{chr(10)}    '.join(arguments)},\n){result}"


def _arguments(arguments: ast.arguments) -> Iterator[str]:
    for argument, default in _with_defaults(arguments.args, arguments.defaults):
        if argument.arg != "self":
            yield _argument(argument, default)
    if arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _argument(argument, default)


def _with_defaults(
    arguments: Sequence[ast.arg], defaults: Sequence[ast.expr]
) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    return zip(arguments, [None] * (len(arguments) - len(defaults)) + [*defaults], strict=True)


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(argument.annotation)}" if argument.annotation else ""
    return argument.arg + kind + (f" = {ast.unparse(default)}" if default else "")


def _prose(documented: Any) -> str:
    """Render a docstring in Google's style as Markdown."""
    text, *sections = _SECTION.split(inspect.getdoc(documented) or "")
    bodies = zip(sections[::2], sections[1::2], strict=True)
    items = [_items(_TITLES[title], inspect.cleandoc(body)) for title, body in bodies]
    return "\n\n".join([text.strip(), "\n".join(items)]).strip()


def _items(title: str, body: str) -> str:
    """Render a section's entries as a list; an entry's further lines are indented."""
    entries = re.split(r"\n(?! )", body) if not title.startswith("Returns") else [body]
    lines = [" ".join(entry.split()) for entry in entries]
    if title.startswith("Returns"):
        return f"- {title}{lines[0]}"
    return "\n".join(re.sub(r"^(\w+): ", rf"- {title}`\1`: ", line) for line in lines)


if __name__ == "__main__":
    print(page(), end="")
