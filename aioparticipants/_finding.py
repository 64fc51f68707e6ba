"""The records of a page, decoded by msgspec: the extra `speed`.

1. A chunk of records is decoded at once: to the shape of the records, and where one of them is of
   no such shape, to what `json` makes of them.
2. msgspec refuses some of what `json` takes: lone surrogates, numbers out of range. Of what it
   accepts it makes the same. So `json` decides on what it refuses.
"""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, Any, Final

from msgspec import MsgspecError
from msgspec.json import Decoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._decoding import Finder

__all__ = ["find_records", "finder"]

#: What msgspec raises: its own errors, and UnicodeDecodeError.
_REFUSALS: Final = (MsgspecError, ValueError, RecursionError)


def finder(*kinds: Any) -> Finder:
    """Return what finds records of the first of these kinds that they all are of."""
    arrays: list[Any] = [GenericAlias(list, kind) for kind in kinds]
    decoders: list[Callable[[bytes], list[object]]] = [Decoder(array).decode for array in arrays]

    def find(array: bytes, /) -> list[object] | None:
        for decode in decoders:
            try:
                return decode(array)
            except _REFUSALS:
                pass
        return None

    return find


#: Decodes records to what `json` makes of them.
find_records: Finder = finder(Any)
