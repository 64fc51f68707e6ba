"""`RecordStream`: the records of a list, one page ahead. Knows asyncio, and no HTTP.

What it promises, and how:

1. It is a class, not an `async def … yield`: a bare generator is finished by its first exception,
   so that an error or a timed-out `anext` would look like the end of the data.
2. Its pages come from `_prefetching`, one ahead: a cancelled wait for one loses nothing.
3. Nothing there refers to the stream, so dropping the stream's last reference runs its finaliser at
   once, and that cancels the page in flight.
4. No lock, timeout scope, slot or connection is held while the consumer has control.
5. Errors are kept and raised anew, as a copy each time: a raised exception refers to the frames
   it came through, and those to the stream, which would then never be dropped.
6. The stream's position is the page and the place of the next record not delivered. It moves as a
   record is delivered, and by nothing else; the cursor names it, also after an error or the end.
7. Records are decoded and structured a few at a time, into a buffer that the consumer takes them
   from, and each time the loop gets a turn. Meanwhile the stream counts as asked: a second asker is
   refused as ever.
8. Only the true end looks like the end. `anext` there raises StopAsyncIteration, each time, as the
   protocol demands. What begins anew (`async for`, `async with`, `await`, `all()`, `pages()`) on a
   stream that is used up or closed raises InvalidRequestError; so does `anext` on one that was
   closed before its end, whoever closed it: a reader never takes that for the end.
9. A list that is awaited is delivered whole or not at all: where that fails, the position is what
   it was, and whoever asks again is told so, and not that there is no more.
10. A bad record is a final error at its place, after all good ones before it; the error's
   `cursor_after` leads past it. With `on_invalid="keep"` a value of the wrong type is kept by the
   record itself (`Participant.problems`), and a record that cannot be read is noted in `problems`.
   A page is never fetched again for its sake.
11. A list that is resumed checks that the record before its place is the one that the cursor knows.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar, cast

from ._messages import Request
from ._tasks import ClosedAtEnd
from .errors import InsightsError, InvalidRequestError, PaginationError, ResponseError, copied
from .models import Page, RecordProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from types import TracebackType

    from ._cursors import Resumed
    from ._paging import RawPage
    from ._prefetching import PagesAhead
    from ._resources import Resource
    from ._telemetry import ListTelemetry

__all__ = ["RecordStream"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: Records between two turns of the loop: about half a millisecond. A turn costs as much as half a
#: record.
_STRIDE: Final = 32
#: Stands for no limit: no page is that long.
_ALL: Final = sys.maxsize


class _Position(NamedTuple):
    """Where the next record is that was not delivered."""

    request: Request
    """For its page."""
    offset: int
    """Its place there."""
    before: str | bytes | None
    """The SID of the record before it on the page, or what stands for it in a cursor."""


class RecordStream(ClosedAtEnd, AsyncGenerator[T_co, None], Generic[T_co]):
    """The records of one list, in the server's order, each once, fetched one page ahead.

    Iterate it (`async for`), open it (`async with`, after which nothing of it is alive), await it
    or its `all()` (a list of all), or go by `pages()`. Nothing is requested before the first record
    is asked for.

    An error comes after every good record before it, and is raised again by each further call until
    `aclose()`: only the end of the data looks like the end. A cancelled or timed-out wait loses
    nothing; ask again. Each error's `cursor`, and the stream's own at any time, names the next
    record not delivered: `participants(…, resume=cursor)` goes on exactly there.

    Raises, while iterating:
        APIStatusError: Twilio refused, for good or until the retries were used up.
        CursorExpiredError: Twilio does not accept the page token of the cursor to resume any more.
        TransportError: no usable reply came, until the retries were used up.
        ResponseError: a reply is not what the API promises; where one record is not, its
            `cursor_after` goes on behind that.
        PaginationError: a next link leads elsewhere, or round in a loop; or the list to resume has
            changed.
        DeadlineExceededError: the list's `deadline` came before its next page.
        SessionClosedError: the session was closed meanwhile.
        InvalidRequestError: two tasks asked at once (the stream stays usable), or another loop did;
            the stream was closed, by whomever; or it is used up and was to begin anew.
    """

    def __init__(
        self,
        start: Resumed,
        *,
        pages: PagesAhead,
        cursor: Callable[[Request, int, str | bytes | None], str],
        resource: Resource[T_co],
        limit: int | None,
        keep_invalid: bool,
        telemetry: ListTelemetry,
    ) -> None:
        """Made by `InsightsSession`, not by hand."""
        self._pages = pages
        self._resource = resource
        self._cursor = cursor
        self._keep_invalid = keep_invalid
        self._telemetry = telemetry
        self._start: Resumed | None = start
        """What the first page is checked against; None once it was."""
        # The position. Where a page is at hand, it is the first of `_buffer`: `_index` counts what
        # was delivered of the page, and not what was passed over as it could not be read.
        self._place = start.request
        self._page: RawPage | None = None
        self._index = start.offset
        self._before: str | bytes | None = start.before  # see `_Position`, if none was delivered
        self._latest: T_co | None = None  # the latest record that was delivered of the page
        self._buffer: deque[T_co] = deque()
        self._next = start.offset  # the place of the record to structure next
        self._end = _ALL if limit is None else start.offset + limit  # where `limit` ends, likewise
        self._empty_page = False  # `pages()` has still to deliver it
        self._unreported: RawPage | None = None  # the page, until it was reported as delivered
        self._since = start.offset  # where it began
        self._problems: list[RecordProblem] = []  # of the pages before
        self._unreadable: list[RecordProblem] = []  # of the page at hand, if structured already
        self._error: InsightsError | None = None
        self._closed = False
        self._used_up = False
        self._busy = False
        weakref.finalize(self, pages.abandon).atexit = False

    def __repr__(self) -> str:
        """Show where it stands, and none of what it holds."""
        state = "failed" if self._error else "open"
        if self._used_up or self._closed:
            state = "used up" if self._used_up else "closed"
        index = self._position().offset
        return f"<RecordStream of {self._resource.key}: {state}, at record {index} of its page>"

    @property
    def cursor(self) -> str:
        """Where to go on: names the next record not delivered, also after an error or the end.

        It holds no credential, and no label. Give it to `participants(…, resume=cursor)`, with the
        same conference and filters.
        """
        return self._cursor(*self._position())

    @property
    def problems(self) -> tuple[RecordProblem, ...]:
        """With `on_invalid="keep"`: the records up to here that could not be read at all.

        A record of which single values are wrong is delivered, and has `problems` of its own.
        """
        return (*self._problems, *self._passed_over())

    def __aiter__(self) -> RecordStream[T_co]:
        """Return itself: a stream is iterated once."""
        self._check_unused()
        return self

    async def __anext__(self) -> T_co:
        """Return the next record; raise what the class promises."""
        while self._busy or not self._buffer:
            await self._step()
        record = self._buffer.popleft()
        self._index += 1
        self._latest = record
        return record

    async def asend(self, value: None) -> T_co:
        """Do as `__anext__`: there is nothing to send."""
        if value is not None:
            message = "a RecordStream takes no values"
            raise TypeError(message)
        return await self.__anext__()

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> T_co:
        """Close, and raise what was thrown, as a generator does that catches nothing."""
        await self.aclose()
        error = val if isinstance(val, BaseException) else typ
        if isinstance(error, type):
            error = error() if val is None else error(val)
        raise error if tb is None else error.with_traceback(tb)

    async def aclose(self) -> None:
        """End the stream; when it returns, no task or socket of the stream is alive.

        Whoever waits for a record meanwhile, or asks for one later, gets an InvalidRequestError.
        Closing twice does nothing. A callback of the stream's own request that calls it is not
        waited for, and can go on.
        """
        self._report_page()
        self._stay_at(self._position())
        self._closed = True
        self._error = None
        await self._pages.aclose()

    async def __aenter__(self) -> RecordStream[T_co]:
        """Return itself; `aclose()` follows at the end of the block."""
        self._check_unused()
        return self

    def __await__(self) -> Generator[object, None, list[T_co]]:
        """Do as `all()`."""
        return self.all().__await__()

    async def all(self) -> list[T_co]:
        """Return the records not yet delivered, as a list, and close the stream.

        It is all of them or none: after an error or a cancellation `cursor` is what it was before.
        A coroutine, so that `asyncio.run` and `TaskGroup.create_task` take it.
        """
        self._check_unused()
        if self._busy:  # before it is closed under the other
            raise self._with_position(_two_at_once())
        beginning, problems = self._position(), len(self.problems)
        records = list[T_co]()
        try:
            async with self:
                async for page in self.pages():
                    records += page.records
        except BaseException as error:
            self._stay_at(beginning)
            del self._problems[problems:]
            failure = error if isinstance(error, InsightsError) else _given_up()
            if isinstance(failure, ResponseError) and failure.cursor != self.cursor:
                failure.cursor_after = None  # it leads past good records that were not delivered
            failure.cursor = self.cursor
            self._closed, self._error = False, copied(failure)
            raise
        return records

    def pages(self) -> AsyncIterator[Page[T_co]]:
        """Return an iterator over whole pages.

        It shares the stream's position: a page holds those of its records that were not delivered
        one by one. `limit` cuts the last one. A page with no records is delivered, too.
        """
        self._check_unused()
        return _Pages(self._take_page)

    # --- What can begin, and how it fails ---

    def _check_unused(self) -> None:
        """Raise InvalidRequestError where the stream is used up, or was closed."""
        if self._used_up or self._closed:
            raise self._with_position(_used_up() if self._used_up else _closed())

    def _with_position(self, error: InsightsError) -> InsightsError:
        """Return a copy of an error to raise, which says where the list stopped."""
        error = copied(error)
        error.cursor = self.cursor
        error.conference_sid = self._place.conference_sid
        return error

    def _failed(self, error: InsightsError) -> InsightsError:
        """Keep an error, to be raised until the stream is closed."""
        self._report_page()
        self._error = error
        self._telemetry.finished(error)
        return error

    def _finished(self) -> StopAsyncIteration:
        """Note that the list is complete, and return what says so to the consumer."""
        self._used_up = True
        self._telemetry.finished()
        return StopAsyncIteration()

    # --- The position ---

    def _position(self) -> _Position:
        """Return where the next record not delivered is."""
        if self._page is None:
            return _Position(self._place, self._index, self._before)
        before = self._before if self._latest is None else self._resource.sid_of(self._latest)
        return self._behind(self._page, self._offset(), before)

    def _offset(self) -> int:
        """Return the place of the next record not delivered on the page at hand."""
        offset = self._index
        for each in self._unreadable:
            offset += each.index <= offset
        return offset

    def _behind(self, page: RawPage, index: int, sid: str | bytes | None) -> _Position:
        """Return a position on a page, or the next one's start where it ends there.

        Args:
            page: the page.
            index: the place on it.
            sid: of the latest record before that could be read, or what stands for it.
        """
        if index == page.records.count and isinstance(page.following, Request):
            return _Position(page.following, 0, None)
        adjacent = not any(each.index == index - 1 for each in self._unreadable)
        return _Position(page.request, index, sid if adjacent else None)

    def _passed_over(self) -> list[RecordProblem]:
        """Return the unreadable records of the page at hand that stand before the position."""
        offset = self._offset()
        return [each for each in self._unreadable if each.index < offset]

    def _stay_at(self, position: _Position) -> None:
        """Let go of the page at hand, and stay at a position."""
        self._problems += self._passed_over()
        self._place, self._index, self._before = position
        self._next = self._index
        self._page, self._latest, self._empty_page = None, None, False
        self._unreadable = []
        self._buffer.clear()

    def _report_page(self) -> None:
        """Report, once, what was delivered of the page at hand, before it is left for good."""
        page, self._unreported = self._unreported, None
        if page is not None:
            self._telemetry.page_delivered(
                page.meta.page, self._index - self._since, page.request_id
            )

    # --- One step: a few records more, or the next page ---

    async def _step(self) -> None:
        """Structure more records of the page, or turn to the next page; or raise why not."""
        failure: InsightsError | None = None
        if self._busy:
            failure = _two_at_once()
        else:
            self._busy = True
            try:
                if self._is_structured():
                    await self._turn_page()
                    self._raise_if_closed()
                    self._fill()
                else:
                    self._fill()
                    # Behind it, so that a consumer which is cancelled here each time gets on, too.
                    await asyncio.sleep(0)
                    self._raise_if_closed()
            except InsightsError as error:
                failure = error.with_traceback(None)
            finally:
                self._busy = False
        if failure is not None:
            raise self._with_position(failure)

    def _is_structured(self) -> bool:
        """Tell whether nothing is left to structure of the page at hand."""
        page, index = self._page, self._next
        return page is None or index >= self._end or index == page.records.count

    def _fill(self) -> None:
        """Structure the next few records of the page into the buffer, up to a bad one.

        Where that is the first one, raise what is wrong with it.
        """
        if self._error is not None:  # and the records have gone past what it is about
            raise self._error
        page, buffer = cast("RawPage", self._page), self._buffer
        records, key = page.records, self._resource.key
        structure = (
            self._resource.structure_keeping if self._keep_invalid else self._resource.structure
        )
        index = self._next
        stop = min(index + _STRIDE, self._end)
        try:
            while index < stop and index != records.count:
                try:
                    buffer.append(structure(records.at(index), key, index))
                except InsightsError as error:
                    if buffer and not self._keep_invalid:
                        break
                    if not self._passes_over(error, page, index):
                        if buffer:
                            break
                        self._failed(error)
                        raise
                index += 1
        finally:
            self._next = index

    def _passes_over(self, error: InsightsError, page: RawPage, index: int) -> bool:
        """Tell whether the list goes on behind a bad record, of which a note is made then.

        Else the error is what there is to raise; where the rest of the page can be read, it says
        where the list goes on behind the record.
        """
        sid, readable = None, True
        try:
            sid = self._resource.sid_of(page.records.at(index))
        except InsightsError:
            readable = page.records.skip(index)
        error.request_id = page.request_id
        if readable and self._keep_invalid:
            previous = self._buffer[-1] if self._buffer else self._latest
            before = self._before if previous is None else self._resource.sid_of(previous)
            problem = RecordProblem(
                conference_sid=page.request.conference_sid,
                index=index,
                cursor=self._cursor(*self._behind(page, index, before)),
                fault=str(error),
            )
            self._unreadable.append(problem)
            return True
        if readable and isinstance(error, ResponseError):
            error.cursor_after = self._cursor(*self._behind(page, index + 1, sid))
        return False

    async def _take_page(self) -> Page[T_co]:
        """Return what is left of the current page, or the next page."""
        blocked = False  # by a bad record, behind those that can be delivered
        while self._busy or not (
            self._empty_page or (self._buffer and (blocked or self._is_structured()))
        ):
            page, index = self._page, self._next
            await self._step()
            blocked = page is self._page and index == self._next
        records, page = tuple(self._buffer), cast("RawPage", self._page)
        self._buffer.clear()
        self._index += len(records)
        self._latest = records[-1] if records else self._latest
        self._empty_page = False
        return Page(records=records, meta=page.meta, request_id=page.request_id)

    async def _turn_page(self) -> None:
        self._empty_page = False  # who asks for a record goes past an empty page
        self._report_page()
        page = await self._next_page()
        # Where a list is resumed, the first page begins at an offset.
        start = self._next if self._page is None else 0
        end = start + self._end - self._next
        before = await self._checked_start(page, start)
        enough = _worth_knowing(page, start, end)
        for _ in page.records.scan_ahead(enough):
            await asyncio.sleep(0)
        self._raise_if_closed()
        # From here to the delivery nothing waits: a cancelled consumer finds the page here.
        records = page.records
        # The limit is reached on this page, or something that cannot be read is.
        unreadable = records.known < enough and records.count is None
        self._pages.take(last=unreadable or records.known >= end)
        self._problems += self._unreadable
        self._start, self._unreadable = None, []
        self._page, self._index, self._next, self._end = page, start, start, end
        self._latest, self._before = None, before
        self._unreported, self._since = page, start
        self._empty_page = records.count == 0
        await self._pages.look_ahead()

    async def _checked_start(self, page: RawPage, start: int) -> str | None:
        """Return the SID of the record before the start, which a list is resumed behind.

        Raises:
            PaginationError: it is not the one that the cursor was made behind.
        """
        if self._start is None or start == 0:
            return None
        records, sid = page.records, None
        for _ in records.scan(start - 1):
            await asyncio.sleep(0)
        self._raise_if_closed()
        with suppress(IndexError):  # there is none, or it was passed over already
            try:
                sid = self._resource.sid_of(records.at(start - 1))
            except InsightsError:  # perhaps the one that the cursor is behind could not be read
                records.skip(start - 1)
        if records.count is not None and start > records.count:
            raise self._failed(_changed("the page to resume on is shorter than it was"))
        if not self._start.verifies(sid):
            raise self._failed(_changed("another record stands before the place to resume at"))
        return sid

    async def _next_page(self) -> RawPage:
        """Return the next page, which stays where it is until it is taken."""
        self._raise_if_over()
        self._pages.check_loop()
        page = await self._pages.next()
        self._raise_if_over()
        if page is None:
            raise self._finished()
        if isinstance(page, InsightsError):
            raise self._failed(page)
        return page

    def _raise_if_over(self) -> None:
        """Raise what there is to raise without another page."""
        if self._used_up:
            raise StopAsyncIteration
        self._raise_if_closed()
        if self._error is not None:
            raise self._error
        if self._next >= self._end:
            raise self._finished()

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise _closed()


def _two_at_once() -> InvalidRequestError:
    message = "Two tasks asked the stream for a record at once; let one wait for the other."
    return InvalidRequestError(message)


def _closed() -> InvalidRequestError:
    message = "The stream was closed before its end: give its cursor to another one."
    return InvalidRequestError(message)


def _used_up() -> InvalidRequestError:
    message = "The stream is used up: all of its records were delivered. Make another one."
    return InvalidRequestError(message)


def _given_up() -> InvalidRequestError:
    message = (
        "The stream was awaited, and that was cancelled before all records were there: "
        "give its cursor to another one."
    )
    return InvalidRequestError(message)


def _changed(how: str) -> PaginationError:
    return PaginationError(f"The list changed ({how}): begin it anew, without resume.")


def _worth_knowing(page: RawPage, start: int, end: int) -> int:
    """Return how many records are to be known before a page is delivered.

    Where a limit may end on the page, that tells whether to ask for the next one.
    """
    longest = page.meta.page_size or _ALL  # Twilio's own word for what a page can hold
    ends = end <= longest and end < _ALL // 2 and isinstance(page.following, Request)
    return end if ends else start


class _Pages(AsyncIterator[Page[T]]):
    """The pages of a stream; a class for the stream's own reason."""

    def __init__(self, take: Callable[[], Coroutine[object, object, Page[T]]]) -> None:
        self._take = take

    async def __anext__(self) -> Page[T]:
        return await self._take()
