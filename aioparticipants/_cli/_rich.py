"""Colours by rich: the extra `cli`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["coloured"]


def coloured(lines: Iterable[tuple[str, str]]) -> str:
    """Return lines, each given with its style, as the terminal that stdout is shows them."""
    console = Console(highlight=False)
    with console.capture() as captured:
        for line, style in lines:
            # Text, as a label may hold what rich takes for markup.
            console.print(Text(line, style=style), soft_wrap=True)
    return captured.get()
