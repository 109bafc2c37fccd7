"""`metatrain recipe`: the recipes that ship, each a configuration and commands."""

import argparse
from pathlib import Path

from metatrain.base.errors import UserError, did_you_mean
from metatrain.base.text import counted, listed, printable
from metatrain.cli.command import Command, show

# A folder for each recipe: its configuration NAME.yaml, and `_SCRIPT`.
RECIPES = Path(__file__).parents[1] / "recipes"
# Its first line is a comment with what the recipe makes.
_SCRIPT = "commands.sh"


def recipes() -> dict[str, str]:
    """Return the recipes' names, each with the sentence of what it makes."""
    return {path.parent.name: _about(path) for path in sorted(RECIPES.glob(f"*/{_SCRIPT}"))}


def _about(script: Path) -> str:
    return script.read_text().partition("\n")[0].removeprefix("# ")


def write_recipe(name: str, dest: Path) -> list[Path]:
    """Write the files of a recipe into `dest`, and return their paths.

    Raises:
        UserError: when there is no such recipe, or a file of that name is there.
    """
    known = recipes()
    if name not in known:
        raise UserError(
            f"there is no recipe '{printable(name)}', only {listed([*known])}"
            f"{did_you_mean(name, [*known]) or '.'}"
        )
    files = {dest / file.name: file.read_bytes() for file in sorted((RECIPES / name).iterdir())}
    if there := [str(path) for path in files if path.exists() or path.is_symlink()]:
        raise UserError(f"{listed(there)} is there already; name another folder.")
    try:
        dest.mkdir(parents=True, exist_ok=True)
        for path, data in files.items():
            with path.open("xb") as file:
                file.write(data)
    except OSError as error:
        raise UserError(
            f"{dest} cannot be written ({error.strerror}); name another folder."
        ) from error
    return list(files)


def _recipe(arguments: argparse.Namespace) -> None:
    from metatrain.base.tables import aligned

    if arguments.name is None:
        show(aligned([*recipes().items()], justify="left"))
        return
    dest = Path(arguments.dest or arguments.name)
    files = write_recipe(arguments.name, dest)
    show(f"{counted(len(files), 'file')} in {dest}; to run it all: cd {dest} && sh {_SCRIPT}")


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="write this recipe (none: list them)")
    add("dest", nargs="?", metavar="DEST", help="folder to write (NAME); no file is replaced")


RECIPE = Command("List recipes, or write one's configuration and commands.", _arguments, _recipe)
