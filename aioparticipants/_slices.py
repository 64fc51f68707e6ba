"""A list in slices: a window of time that is cut, and which slice delivers which record.

1. A window is cut at whole seconds into slices of the same length, and the newest slice is
   delivered first, as the newest records are the first in a list. Twilio documents no order; within
   a slice it is the server's. If the window has no end, the time of the first call stands for it
   where the window is cut, and the newest slice has no end either.
2. Each record is delivered by one slice: that whose interval holds its creation time. An interval
   includes its start and excludes its end. The oldest slice has no start, and the newest no end:
   there only the server's filter counts, as it does for a list without slices.
3. A slice asks for two seconds more than its interval on both sides of a seam. Twilio does not say
   whether its filters include a time that is equal, and they may compare times that are finer than
   the ones in the records. Each of the two can be cut off or rounded, which is less than a second.
   So no record is missing at a seam, and by rule 2 none is repeated.
4. A record without a creation time, or with one that cannot be read, has no interval. The server
   may list it in any slices. It is delivered by the first slice that lists it: a hash of its SID is
   remembered. A cursor holds these hashes, so that a list that is resumed drops the same records.
   They are few: the list fails if they are more than a cursor can hold.
5. What has no SID either, or cannot be decoded, is delivered by each slice that lists it: better
   twice than not at all.
6. Rules 2 and 4 depend only on the records and the cursor. So the index of a record among those
   that its slice delivers of a page is the same when the list is resumed: a cursor can name it.
7. The cursor also holds how many slices there are, which one the page belongs to, and the end of
   the window: so a list that is resumed later is cut at the same times.
"""

from __future__ import annotations

import re
import struct
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import parse_qsl, quote, urlencode

import attrs

from . import _structuring
from ._arguments import time_after, time_before
from ._json_values import MismatchError, time_from_json
from ._messages import Request
from ._paging import End
from ._tracebacks import stripped
from .errors import InvalidRequestError, PaginationError, ResponseError, copied

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ._decoding import PageRecords
    from ._paging import Failed, RawPage
    from ._resources import Resource, Window

__all__ = ["LONGEST_STATE", "MOST_SLICES", "Place", "SlicePage", "Slices", "page_of_slice"]

#: The most slices of a list: each takes at least one request.
MOST_SLICES: Final = 1000
#: By how much a slice asks for more than its interval, at a seam.
_OVERLAP: Final = timedelta(seconds=2)
#: The most records without a creation time before a page: a cursor holds a hash of each.
_MOST_UNTIMED: Final = 1000
#: The number of slices, the index of one, and the end of the window in seconds since the epoch. The
#: hashes of the records without a creation time follow.
_STATE: Final = struct.Struct(">HHq")
_HASH_SIZE: Final = 8
#: A page can have 1000 more, so a cursor at its end has them too.
LONGEST_STATE: Final = _STATE.size + 2 * _MOST_UNTIMED * _HASH_SIZE
_PAGE_SIZE: Final = re.compile(r"(?:^|&)PageSize=([1-9][0-9]{0,2}|1000)(?:&|$)")
#: Records that are decoded between two pauses.
_STRIDE: Final = 32
_SECOND: Final = timedelta(seconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: The last second of the year 9999, since the epoch.
_LATEST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _SECOND


@attrs.frozen
class Place:
    """Where a list in slices is, between two pages."""

    index: int
    """The slice, counted from the newest."""
    untimed: tuple[bytes, ...] = ()
    """The hashes of the records without a creation time that are delivered."""

    def check(self) -> None:
        """Raise PaginationError if there are too many of them."""
        if len(self.untimed) > _MOST_UNTIMED:
            message = (
                f"More than {_MOST_UNTIMED} records have no creation time that can be read, so it "
                "is unknown which slice they belong to: list the window without slices."
            )
            raise PaginationError(message)


@attrs.frozen(kw_only=True)
class Slices:
    """A window of time, cut into slices; slice 0 is the newest."""

    first: Request
    """The request for the first page of the list without slices."""
    window: Window
    number: int
    """How many slices the caller asked for. A shorter window than that many seconds has fewer."""
    edges: tuple[datetime, ...]
    """The end of each slice, and the start of the oldest."""

    @classmethod
    def of(cls, first: Request, window: Window, number: int, end: datetime) -> Self:
        """Cut the window of a list.

        Args:
            first: the request for the list without slices. It has the start of the window.
            window: the filters that are the window.
            number: how many slices.
            end: what stands for the end of the window, if `first` has none.
        """
        query = dict(parse_qsl(first.query))
        start = datetime.fromisoformat(query[window.after])
        if window.before in query:
            end = datetime.fromisoformat(query[window.before])
        end = max(start, end.replace(microsecond=0))
        seconds = (end - start) // _SECOND
        count = max(1, min(number, seconds))
        edges = tuple(
            start + timedelta(seconds=seconds * index // count) for index in range(count, -1, -1)
        )
        return cls(first=first, window=window, number=number, edges=edges)

    @classmethod
    def resumed(
        cls, first: Request, window: Window, number: int, request: Request
    ) -> tuple[Self, Place]:
        """Cut the window of a list as it was cut before; return this, and the place to resume at.

        Args:
            first: as above. Pages not begun have the size of the page to resume on.
            window: as above.
            number: as above.
            request: that for the page to resume on, with the state from the cursor.

        Raises:
            InvalidRequestError: there were more slices, or fewer; or the state is none.
        """
        state = request.state
        if len(state) < _STATE.size or (len(state) - _STATE.size) % _HASH_SIZE:
            raise _not_a_cursor()
        cut_into, index, seconds = _STATE.unpack_from(state)
        if cut_into != number:
            message = f"resume is a cursor of a list in {cut_into} slices: give that many."
            raise InvalidRequestError(message)
        if not 0 <= seconds <= _LATEST:
            raise _not_a_cursor()
        found = _PAGE_SIZE.search(request.query)
        if found is not None:
            first = attrs.evolve(first, query=_with(first.query, {"PageSize": found[1]}))
        slices = cls.of(first, window, number, _EPOCH + timedelta(seconds=seconds))
        if index > slices.last:
            raise _not_a_cursor()
        hashes = range(_STATE.size, len(state), _HASH_SIZE)
        return slices, Place(index, tuple(state[at : at + _HASH_SIZE] for at in hashes))

    @property
    def last(self) -> int:
        """The index of the oldest slice."""
        return len(self.edges) - 2

    @property
    def page_size(self) -> int:
        """How many records a page has, if it is full."""
        return int(dict(parse_qsl(self.first.query))["PageSize"])

    def start(self, place: Place) -> Request:
        """Return the request for the first page of a slice. It asks for nothing off the window."""
        (end, start), asked = self.edges[place.index : place.index + 2], dict[str, str]()
        if self.edges[0] - end > _OVERLAP:
            asked[self.window.before] = time_before(end + _OVERLAP, "end")
        if start - self.edges[-1] > _OVERLAP:
            asked[self.window.after] = time_after(start - _OVERLAP, "start")
        return self.tagged(attrs.evolve(self.first, query=_with(self.first.query, asked)), place)

    def tagged(self, request: Request, place: Place) -> Request:
        """Return a request for a page with the state that a cursor on the page has to hold."""
        seconds = (self.edges[0] - _EPOCH) // _SECOND
        head = _STATE.pack(self.number, place.index, seconds)
        return attrs.evolve(request, state=head + b"".join(place.untimed))

    def has(self, index: int, time: datetime) -> bool:
        """Return whether a slice delivers the records that were created at a time."""
        end, start = self.edges[index : index + 2]
        return (index == 0 or time < end) and (index == self.last or time >= start)


@attrs.frozen
class SlicePage:
    """A page with those of its records that its slice delivers."""

    page: RawPage
    after: Place
    """The place after the page."""
    ends_slice: bool
    """Whether it is the last page of its slice."""


def page_of_slice(
    page: RawPage, slices: Slices, place: Place, resource: Resource[object]
) -> Generator[None, None, SlicePage]:
    """Return a page with the records that its slice delivers; yields as a pause.

    Args:
        page: the page with all of its records, none of them read yet.
        slices: all slices.
        place: the slice of the page, and what was delivered before it.
        resource: the kind of the list.
    """
    found, untimed = SliceRecords(), list(place.untimed)

    def is_delivered_here(record: object) -> bool:
        if (time := _time_of(record, slices.window)) is not None:
            return slices.has(place.index, time)
        if (sid := resource.sid_of(record)) is None:
            return True
        seen = _hash_of(sid)
        if seen in untimed:
            return False
        if place.index < slices.last:
            untimed.append(seen)
        return True

    yield from found.read(page.records, is_delivered_here)
    after, ends_slice = Place(place.index, tuple(untimed)), isinstance(page.following, End)
    following: Request | Failed | End = page.following
    if isinstance(following, Request):
        following = slices.tagged(following, after)
    elif ends_slice and place.index < slices.last:
        after = attrs.evolve(after, index=place.index + 1)
        following = slices.start(after)
    request = slices.tagged(page.request, place)
    page = attrs.evolve(page, request=request, records=found, following=following)
    return SlicePage(page, after, ends_slice)


class SliceRecords:
    """The records that a slice delivers of a page; decoded, as each of them had to be looked at.

    Attributes:
        known: the number of records.
        count: the same; None if the page is malformed after them, and cannot be read on.
        indexes: the index of each in the body.
    """

    def __init__(self) -> None:
        """Begin without records."""
        self.known: int = 0
        self.count: int | None = None
        self.indexes: list[int] = []
        self._records: list[object] = []  # for a malformed one, its error

    def read(
        self, records: PageRecords, is_wanted: Callable[[object], bool]
    ) -> Generator[None, None, None]:
        """Read a page, and keep what is wanted, and what is malformed; yields as a pause."""
        index = 0
        while index != records.count:
            try:
                record = records.at(index)
            except ResponseError as error:
                self.indexes.append(index)
                self._records.append(stripped(error))
                if not records.skip(index):
                    self.known = len(self.indexes) - 1
                    return
            else:
                if is_wanted(record):
                    self.indexes.append(index)
                    self._records.append(record)
            index += 1
            if index % _STRIDE == 0:
                yield
        self.known = self.count = len(self.indexes)

    def at(self, index: int, /) -> object:
        """Return a record; raise its error, or IndexError if there is none."""
        record = self._records[index]
        if isinstance(record, ResponseError):
            raise copied(record)
        return record

    def skip(self, index: int, /) -> bool:
        """Return whether what comes after a malformed record could be read."""
        return index < self.known

    def scan(self, _count: int, /) -> Iterator[None]:
        """Do nothing: all are decoded."""
        return iter(())

    scan_ahead = scan


def _time_of(record: object, window: Window) -> datetime | None:
    """Return when a record was created; None if that is absent or cannot be read."""
    try:
        return time_from_json(_structuring.text_member(record, window.member))
    except MismatchError:
        return None


def _hash_of(sid: str) -> bytes:
    return blake2b(sid.lower().encode("utf-8", "surrogatepass"), digest_size=_HASH_SIZE).digest()


def _with(query: str, changes: dict[str, str]) -> str:
    """Return a query with some parameters changed or added."""
    parameters = dict(parse_qsl(query)) | changes
    return urlencode(parameters, quote_via=quote, safe="")


def _not_a_cursor() -> InvalidRequestError:
    return InvalidRequestError("resume is not a cursor, or part of it was lost or changed.")
