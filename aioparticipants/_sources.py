"""What a fan-out is given: SIDs and conferences, each with or without a context. Does no I/O.

1. An item is a SID, a `Conference`, or a pair: a tuple of two, one of these and a context. A str is
   never unpacked, nor is anything else that is not a tuple of two.
2. Anything else is not refused at once. It becomes a result with an error, as a string that is no
   SID does, and the others go on.
3. A context is handed back as it is. It is never compared, hashed, copied or shown.
4. An iterator of this package, such as a `RecordStream`, belongs to the fan-out that it is given
   to, which closes it. Any other one is its owner's to close.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, Final, TypeAlias, cast

import attrs

from .errors import InvalidRequestError
from .models import Conference

__all__ = ["Source", "Wanted", "as_wanted", "async_items", "checked_item"]

_Item: TypeAlias = str | Conference | tuple[str | Conference, object]
Source: TypeAlias = Iterable[_Item] | AsyncIterable[_Item]

_PAIR: Final = 2


@attrs.frozen(eq=False, repr=False)
class Wanted:
    """A conference that the source has given."""

    sid: str
    """As it was given, even if it is not a SID; empty for a `Conference` that has none."""
    record: Conference | None = None
    """The conference itself, if it was given."""
    context: Any = None
    """What the source gave with it."""


def as_wanted(item: object) -> Wanted:
    """Return what an item of the source asks for."""
    context: object = None
    if isinstance(item, tuple) and len(cast("tuple[object, ...]", item)) == _PAIR:
        item, context = cast("tuple[object, object]", item)
    if isinstance(item, Conference):
        return Wanted(item.conference_sid or "", item, context)
    return Wanted(cast("str", item), None, context)


def checked_item(sid: object) -> str:
    """Return a SID that came from a source, as far as its type is right.

    Raises:
        InvalidRequestError: it is nothing that a source can give.
    """
    if isinstance(sid, str) and sid:
        return sid
    given = "an empty str, or a Conference without a conference_sid"
    if not isinstance(sid, str):
        given = f"of the type {type(sid).__name__}"
    message = (
        "A fan-out takes SIDs, Conference records, and tuples of two: one of these and a context. "
        f"This item is {given}."
    )
    raise InvalidRequestError(message)


class _AsyncItems(AsyncIterator[object]):
    """The items of an iterable as an async iterator."""

    def __init__(self, items: Iterable[object]) -> None:
        self._items = iter(items)

    async def __anext__(self) -> object:
        for item in self._items:
            return item
        raise StopAsyncIteration


def async_items(source: object) -> AsyncIterator[object]:
    """Return an async iterator over any source.

    Raises:
        InvalidRequestError: it cannot be iterated, or is a string; or it is a stream that is used
            up or closed.
    """
    if isinstance(source, AsyncIterable):
        return aiter(cast("AsyncIterable[object]", source))
    if not isinstance(source, Iterable) or isinstance(source, (str, bytes)):
        message = (
            "The source of a fan-out must be an iterable or async iterable, of conference SIDs, "
            "Conference records, or pairs of one of these and a context."
        )
        raise InvalidRequestError(message)
    return _AsyncItems(cast("Iterable[object]", source))
