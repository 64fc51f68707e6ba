"""How participants are decoded: picked here, once, at import.

None is for the standard library; with the extra `speed`, it is msgspec.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._decoding import ChunkDecoder

__all__ = ["decode_participants"]

decode_participants: ChunkDecoder | None = None
with suppress(ImportError):
    from ._shapes import decode_participants
