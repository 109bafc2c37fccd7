"""Tables in a terminal: columns as wide as their cells, and never wider than the terminal."""

import shutil
import sys
from collections.abc import Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

# The width of what is no terminal, such as a log: rows are never folded there.
_UNLIMITED = 100_000


def aligned(rows: Sequence[Sequence[str]], *, justify: Literal["left", "right"]) -> str:
    """Align cells in columns: the first column to the left, the others as `justify` says.

    Where standard output is a terminal that is too narrow, cells continue on further lines of their
    columns. Elsewhere each row is one line.
    """
    table = Table.grid(padding=(0, 2, 0, 0))
    for column in range(max(len(row) for row in rows)):
        table.add_column(justify=justify if column else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNLIMITED
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
