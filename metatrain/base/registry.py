"""Registries of the parts that a configuration names: built-in, and from other packages."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple, TypeVar

from metatrain.base.errors import UserError
from metatrain.base.section import Section

Part = TypeVar("Part")


class BuiltIn(NamedTuple):
    """A part of ours: its section, and the place of its class, which is imported when it is used.

    A configuration is read with the sections alone, and so without torch.
    """

    section: type[Section]
    place: str


class Registry(Mapping[str, Part]):
    """Parts by the name under which a configuration picks them.

    Other packages add theirs by entry points, which are loaded when the registry is first read:
    `[project.entry-points."metatrain.learners"]` with `mine = "package.module:Class"`.

    Args:
        built_in: our own, with places as `package.module:Class`; the first is the default.
        group: the entry points' group, such as `metatrain.learners`; None takes no others.
        base: the class of their sections.

    Attributes:
        built_in: our own.
    """

    def __init__(
        self,
        built_in: Mapping[str, BuiltIn],
        group: str | None = None,
        base: type[Section] = Section,
    ) -> None:
        self.built_in, self._group, self._base = dict(built_in), group, base
        self._loaded: dict[str, Part] = {}

    @cached_property
    def sections(self) -> Mapping[str, type[Any]]:
        """The class of each part's section, by name."""
        ours = {name: part.section for name, part in self.built_in.items()}
        return ours | {name: part.Config for name, part in self._others.items()}

    @cached_property
    def _others(self) -> dict[str, Any]:
        entries = entry_points(group=self._group) if self._group else ()
        for entry in entries:
            if entry.name in self.built_in:
                raise UserError(
                    f"{_package(entry)} registers '{entry.name}' in {self._group}, and that name "
                    f"is taken; rename its entry point."
                )
        return {entry.name: _load(entry, self._base) for entry in entries}

    def __getitem__(self, name: str) -> Part:
        if name not in self._loaded:
            ours = self.built_in.get(name)
            part = EntryPoint(name, ours.place, "").load() if ours else self._others[name]
            self._loaded[name] = part
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self.sections

    def __iter__(self) -> Iterator[str]:
        return iter(self.sections)

    def __len__(self) -> int:
        return len(self.sections)


def _load(entry: EntryPoint, base: type[Section]) -> Any:
    try:
        part = entry.load()
    except Exception as error:  # another package's import may raise anything
        raise UserError(
            f"{_package(entry)} registers '{entry.name}' as {entry.value}, which cannot be loaded "
            f"({type(error).__name__}: {error}); mend or uninstall that package."
        ) from error
    section = getattr(part, "Config", None)
    if not (isinstance(section, type) and issubclass(section, base)):
        raise UserError(
            f"{_package(entry)} registers '{entry.name}' as {entry.value}, whose Config is no "
            f"{base.__name__}; derive it from {base.__module__}.{base.__name__}, or uninstall that "
            f"package."
        )
    return part


def _package(entry: EntryPoint) -> str:
    return f"package {entry.dist.name}" if entry.dist else "a package"
