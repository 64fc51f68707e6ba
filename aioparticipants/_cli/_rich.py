"""A table by rich: the extra `cli`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["print_rows"]


def print_rows(rows: Sequence[Sequence[str]], headings: Sequence[str], first_number: int) -> None:
    """Print rows to stdout; from the column `first_number` on they are numbers."""
    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < first_number else "right", no_wrap=True)
    for row in rows:
        # Text, as a label may hold what rich takes for markup.
        table.add_row(*map(Text, row))
    # Piped, there is no width to fit into, and no reason to cut a value short.
    width = None if sys.stdout.isatty() else 1000
    Console(highlight=False, width=width).print(table)
