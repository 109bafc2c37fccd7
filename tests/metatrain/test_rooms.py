"""The order of rooms: each imports only from those above it, and nothing in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("metatrain", "cluster", "tuning", "k8s", "serving")
ROOMS = [
    *(
        "base",
        "storage",
        "data",
        "generators",
        "learning",
        "metrics",
        "grouping",
        "config",
        "model",
        "preferences",
    ),
    *("training", "plan", "evaluation", "report", "combine", "api", "cli"),
]


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for package in PACKAGES for file in (ROOT / package).rglob("*.py")}


def imports_of(module: str) -> set[str]:
    """Modules of ours that `module` imports, in functions and for type checking too."""
    nodes = list(ast.walk(ast.parse(MODULES[module].read_text())))
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{a.name}" for a in node.names} & MODULES.keys()
            names |= inside or {node.module}
    return (names & MODULES.keys()) - {module}


IMPORTS = {module: imports_of(module) for module in MODULES}


def test_a_room_imports_only_from_rooms_above_it():
    place = {f"metatrain.{room}": i for i, room in enumerate(ROOMS)}
    upward = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        for a, b in [(place.get(".".join(m.split(".")[:2])) for m in (module, other))]
        if a is not None and b is not None and b > a
    ]
    assert not upward
    loose = {m for m in MODULES if m.startswith("metatrain.")} - {
        m for m in MODULES if ".".join(m.split(".")[:2]) in place
    }
    assert not loose, f"in no room of the list: {loose}"


def test_no_folder_holds_a_circle():
    for package in (m for m, file in MODULES.items() if file.name == "__init__.py"):
        inside, depth = f"{package}.", package.count(".") + 2
        child = {m: ".".join(m.split(".")[:depth]) for m in MODULES if m.startswith(inside)}
        graph = {part: set() for part in child.values()}
        for module, part in child.items():
            graph[part] |= {child[o] for o in IMPORTS[module] if o in child} - {part}
        TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
