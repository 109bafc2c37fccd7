"""Registries of the parts that a configuration names: built-in, and from other packages."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from metatrain.base.errors import UserError

Part = TypeVar("Part")


class Registry(Mapping[str, Part]):
    """Parts by the name under which a configuration picks them.

    Other packages add theirs by entry points, which are loaded when the registry is first read:
    `[project.entry-points."metatrain.learners"]` with `mine = "package.module:Class"`.

    Args:
        group: the entry points' group, such as `metatrain.learners`.
        parts: the built-in ones; the first is the default.
    """

    def __init__(self, group: str, parts: Mapping[str, Part]) -> None:
        self.group, self._built_in = group, dict(parts)

    @cached_property
    def _parts(self) -> dict[str, Part]:
        parts = dict(self._built_in)
        for entry in entry_points(group=self.group):
            if entry.name in parts:
                raise UserError(
                    f"{_package(entry)} registers '{entry.name}' in {self.group}, and that name is "
                    f"taken; rename its entry point."
                )
            parts[entry.name] = _load(entry)
        return parts

    def __getitem__(self, name: str) -> Part:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def _load(entry: EntryPoint) -> Part:  # pyright: ignore[reportInvalidTypeVarUse]
    try:
        return entry.load()
    except Exception as error:  # another package's import may raise anything
        raise UserError(
            f"{_package(entry)} registers '{entry.name}' as {entry.value}, which cannot be loaded "
            f"({type(error).__name__}: {error}); mend or uninstall that package."
        ) from error


def _package(entry: EntryPoint) -> str:
    return f"package {entry.dist.name}" if entry.dist else "a package"
