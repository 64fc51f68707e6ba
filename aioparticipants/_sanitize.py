"""Text that somebody else wrote, made safe for a terminal or a log."""

from __future__ import annotations

from typing import Final

__all__ = ["printable"]

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """Return a text with nothing in it that a terminal obeys, and no line break.

    Escape sequences begin with a control character. Those are replaced, as are line separators,
    marks that change the direction of writing, lone surrogates, and whatever else
    `str.isprintable` says no to; a space is fine.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _REPLACEMENT for each in text)
