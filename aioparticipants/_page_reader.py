"""`PageReader`: structures the records of one page, a few at a time, and knows the position there.

1. The position is that of the next record not delivered. It moves when a record is delivered, and
   at no other time.
2. Good records come before the error of a bad one. The error's `cursor_after` names the record
   after the bad one, if the rest of the page can be read.
3. With `on_invalid="keep"`, a record that cannot be read is noted as a `RecordProblem` and passed.
4. `limit` counts all records, also those that cannot be read.
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import attrs

from ._cursors import Position
from ._messages import Request
from .errors import PaginationError, ResponseError
from .models import Page, RecordProblem

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._paging import RawPage
    from ._resources import Resource

__all__ = ["NO_LIMIT", "PageReader", "checked_start"]

T = TypeVar("T")

#: Stands for no limit: no page is that long.
NO_LIMIT: Final = sys.maxsize
#: Records to structure between two turns of the event loop. A turn costs as much as half a record.
_STRIDE: Final = 32


@attrs.define(kw_only=True, eq=False, repr=False)
class PageReader(Generic[T]):
    """Reads one page from a position on, up to the limit."""

    page: RawPage
    start: Position
    """The position of the first record to deliver."""
    limit: int
    """How many records to read at most from there on."""
    resource: Resource[T]
    keep_invalid: bool
    """Whether to pass a record that cannot be read."""
    cursor: Callable[[Position], str]
    """Returns the cursor of a position."""
    buffer: deque[T] = attrs.field(init=False, factory=deque[T])
    """The records that are structured and not delivered."""
    latest: T | None = attrs.field(init=False, default=None)
    """The record delivered last; None if none was."""
    problems: list[RecordProblem] = attrs.field(init=False, factory=list[RecordProblem])
    """The records that cannot be read, as far as the page is structured."""
    reported: bool = attrs.field(init=False, default=False)
    """Whether the delivery of the page was reported."""
    _taken: bool = attrs.field(init=False, default=False)  # as a page, which may have no records
    _blocked: bool = attrs.field(init=False, default=False)  # by a bad record after the buffer
    _next: int = attrs.field(init=False)  # the index of the record to structure next

    def __attrs_post_init__(self) -> None:
        """Start at the position."""
        self._next = self.start.offset

    @property
    def _stop(self) -> int:
        """The index where the limit ends."""
        return self.start.offset + self.limit

    @property
    def is_structured(self) -> bool:
        """Whether all records of the page, up to the limit, are structured."""
        return self._next >= self._stop or self._next == self.page.records.count

    @property
    def left(self) -> int:
        """How many records the limit allows after those that are structured."""
        return self._stop - self._next

    @property
    def delivered(self) -> int:
        """How many records of the page were delivered."""
        return self._next - self.start.offset - len(self.problems) - len(self.buffer)

    @property
    def position(self) -> Position:
        """The position of the next record not delivered."""
        before = self.start.before if self.latest is None else self.resource.sid_of(self.latest)
        return self._position_at(self._offset(), before)

    @property
    def passed(self) -> list[RecordProblem]:
        """The records before the position that cannot be read."""
        offset = self._offset()
        return [each for each in self.problems if each.index < offset]

    # --- Whether the next page is needed ---

    @property
    def records_to_count(self) -> int:
        """How many records to count before delivery, to know whether the limit ends the list here.

        If the limit can end on this page: all up to the limit. Else: those before the position.
        """
        longest = self.page.meta.page_size or NO_LIMIT  # the server says how long a page can be
        may_end = self._stop <= longest and self._stop < NO_LIMIT // 2
        more = isinstance(self.page.following, Request)
        return self._stop if may_end and more else self.start.offset

    @property
    def is_last(self) -> bool:
        """Whether the list ends here, at the limit or at records that cannot be read.

        As far as the records are counted.
        """
        records = self.page.records
        cut_off = records.known < self.records_to_count and records.count is None
        return cut_off or records.known >= self._stop

    # --- Delivering ---

    @property
    def has_whole_page(self) -> bool:
        """Whether the buffer holds all that can be delivered of the page now."""
        if self.page.records.count == 0:
            return not self._taken and not self.reported
        return bool(self.buffer) and (self._blocked or self.is_structured)

    def take_page(self) -> Page[T]:
        """Deliver what is in the buffer."""
        records = (*self.buffer,)
        self._taken = True
        self.buffer.clear()
        self.latest = records[-1] if records else self.latest
        return Page(records=records, meta=self.page.meta, request_id=self.page.request_id)

    def fill(self) -> None:
        """Structure the next few records into the buffer, up to a bad one.

        Raises:
            ResponseError: what is wrong with that record, if the buffer is empty.
        """
        resource, records, buffer = self.resource, self.page.records, self.buffer
        structure = resource.structure_keeping if self.keep_invalid else resource.structure
        key, record_at, is_list = resource.key, records.at, not resource.is_single
        indexes = records.indexes
        for index in range(self._next, min(self._next + _STRIDE, self._stop)):
            if index == records.count:
                break
            try:
                buffer.append(structure(record_at(index), key, indexes[index] if is_list else None))
            except ResponseError as error:
                if not self._passes(error, index):
                    self._blocked = True
                    if buffer:
                        break
                    raise
            self._next = index + 1

    def _passes(self, error: ResponseError, index: int) -> bool:
        """Note a bad record if it is to be passed; else complete its error. Return which it was."""
        if self.buffer and not self.keep_invalid:
            return False  # its error is made when the records before it are delivered
        records, sid, readable = self.page.records, None, True
        try:
            sid = self.resource.sid_of(records.at(index))
        except ResponseError:
            readable = records.skip(index)
        error.request_id = self.page.request_id
        if not readable:
            return False
        if self.keep_invalid:
            self._note(error, index)
        else:
            error.cursor_after = self.cursor(self._position_at(index + 1, sid))
        return self.keep_invalid

    def _note(self, error: ResponseError, index: int) -> None:
        """Note a record that cannot be read."""
        previous = self.buffer[-1] if self.buffer else self.latest
        before = self.start.before if previous is None else self.resource.sid_of(previous)
        self.problems.append(
            RecordProblem(
                conference_sid=self.page.request.conference_sid,
                index=index,
                cursor=self.cursor(self._position_at(index, before)),
                fault=str(error),
            )
        )

    def _offset(self) -> int:
        """Return the index of the next record not delivered."""
        offset = self.start.offset + self.delivered
        for each in self.problems:
            offset += each.index <= offset
        return offset

    def _position_at(self, offset: int, before: str | bytes | None) -> Position:
        """Return the position at an index, or the start of the next page if this one ends there.

        Args:
            offset: the index.
            before: the SID of the latest record before it that could be read.
        """
        page = self.page
        if offset == page.records.count and isinstance(page.following, Request):
            return Position(page.following)
        adjacent = not any(each.index == offset - 1 for each in self.problems)
        return Position(page.request, offset, before if adjacent else None)


def checked_start(page: RawPage, start: Position, resource: Resource[T]) -> Position:
    """Return the position to resume at on a page, with the SID of the record before it.

    Raises:
        PaginationError: that record is not the one that the cursor knows.
    """
    records, index, sid = page.records, start.offset - 1, None
    with suppress(IndexError):  # there is none, or it cannot be read and was passed
        try:
            sid = resource.sid_of(records.at(index))
        except ResponseError:  # perhaps the cursor was made after a record that cannot be read
            records.skip(index)
    if records.count is not None and start.offset > records.count:
        change = "the page to resume on is shorter than it was"
    elif not start.matches(sid):
        change = "another record is before the one to resume at"
    else:
        return attrs.evolve(start, before=sid)
    message = f"The list changed ({change}): start it over, without resume."
    raise PaginationError(message)
