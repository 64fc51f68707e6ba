"""How participants are found in a page: picked here, once, at import.

None is for the standard library; with the extra `speed`, it is msgspec.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._decoding import Finder

__all__ = ["find_participants"]

find_participants: Finder | None = None
with suppress(ImportError):
    from ._shapes import find_participants
