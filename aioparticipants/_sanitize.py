"""Makes text of other people safe to print on a terminal or to log."""

from __future__ import annotations

from typing import Final

__all__ = ["printable"]

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """Return `text` with every unprintable character replaced.

    Unprintable is what `str.isprintable` says: control characters (which start a terminal's escape
    sequences), line breaks, marks that change the writing direction, lone surrogates, and more. The
    space is printable.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _REPLACEMENT for each in text)
