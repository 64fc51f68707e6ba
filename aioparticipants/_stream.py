"""`RecordStream`: the records of a list, one page ahead. Knows asyncio, and no HTTP.

1. It is a class, not an `async def … yield`: the first exception finishes a bare generator, so an
   error or a timed-out `anext` would look like the end of the data.
2. Its pages come from `_prefetching`, one ahead, or from `_sliced_pages`, more of them: a cancelled
   wait for a page loses nothing.
3. Nothing there refers to the stream. So when its last reference is dropped, its finaliser runs at
   once, and cancels the page in flight.
4. No lock, timeout, slot or connection is held while the consumer has control.
5. An error is kept, and each time a copy of it is raised: a raised exception refers to the frames
   it came through, and these to the stream, which would then never be dropped.
6. The position is that of the next record not delivered; see `_page_reader`. The cursor names it,
   also after an error or the end.
7. Records are structured a few at a time, and the event loop runs other tasks in between. Meanwhile
   the stream is busy: a second task that asks gets an InvalidRequestError.
8. Only the end of the data looks like the end. There `anext` raises StopAsyncIteration, each time,
   as the protocol demands. To start over (`async for`, `async with`, `await`, `all()`, `pages()`)
   with a stream that is used up or closed is an InvalidRequestError. So is `anext` on a stream that
   was closed before its end, whoever closed it: a reader never takes that for the end.
9. An awaited list is delivered whole or not at all. If it fails, the position is the one before,
   and each further call raises the error again.
10. A bad record is a final error at its place, after all good ones before it; the error's
   `cursor_after` names the record after it. With `on_invalid="keep"` the record itself keeps a
   value of the wrong type (`Participant.problems`), and a record that cannot be read is in
   `problems`. A page is never fetched again because of a bad record.
11. A resumed list checks that the record before its position is the one that the cursor knows.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Generic, TypeVar

from ._cursors import Position
from ._page_reader import NO_LIMIT, PageReader, checked_start
from ._paging import End, Failed
from ._tasks import ClosedAtEnd
from ._tracebacks import stripped
from .errors import InsightsError, InvalidRequestError, PaginationError, ResponseError, copied
from .models import Page, RecordProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from types import TracebackType

    from ._paging import RawPage
    from ._prefetching import PageSource
    from ._resources import Resource
    from ._telemetry import ListTelemetry

__all__ = ["RecordStream"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class RecordStream(ClosedAtEnd, AsyncGenerator[T_co, None], Generic[T_co]):
    """The records of one list, in the server's order, each once, fetched one page ahead.

    A list in slices is several of them, delivered one after another and fetched side by side.

    Iterate it (`async for`), open it (`async with`, after which nothing of it is alive), await it
    or its `all()` (a list of all), or iterate its `pages()`. No request is sent before the first
    record is asked for.

    An error comes after every good record before it, and each further call raises it again until
    `aclose()`: only the end of the data looks like the end. A cancelled or timed-out wait loses
    nothing; ask again. Each error's `cursor`, and the stream's own at any time, names the next
    record not delivered: `participants(…, resume=cursor)`, or `conferences`, goes on exactly there.

    Raises, while iterating:
        APIStatusError: Twilio refused the request, and retrying cannot fix it, or the retries are
            used up.
        CursorExpiredError: Twilio no longer accepts the page token of the cursor to resume.
        TransportError: no usable reply came, and the retries are used up.
        ResponseError: a reply is not what the API promises. If that is one record, the error's
            `cursor_after` names the record after it.
        PaginationError: a next link leads to another place, or to a page already seen; or the list
            to resume has changed.
        DeadlineExceededError: the list's `deadline` passed before its next page came.
        SessionClosedError: the session was closed.
        InvalidRequestError: two tasks asked at once (the stream stays usable), or a task of another
            event loop did; or the stream was closed; or it is used up, and asked to start over.
    """

    def __init__(
        self,
        start: Position,
        *,
        pages: PageSource,
        cursor: Callable[[Position], str],
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
        # Either a page is being delivered, or the stream is at a position between pages: at its
        # start, and after it was closed.
        self._reader: PageReader[T_co] | None = None
        self._between = start
        self._left = NO_LIMIT if limit is None else limit  # of the limit, before the current page
        self._problems: list[RecordProblem] = []  # of the pages before the current one
        self._error: InsightsError | None = None
        self._closed = False
        self._used_up = False
        self._busy = False
        weakref.finalize(self, pages.abandon).atexit = False

    def __repr__(self) -> str:
        """Show its state and position, and nothing that it holds."""
        state = "failed" if self._error else "open"
        if self._used_up or self._closed:
            state = "used up" if self._used_up else "closed"
        index = self._position.offset
        return f"<RecordStream of {self._resource.key}: {state}, at record {index} of its page>"

    @property
    def record_class(self) -> type[T_co]:
        """The class of its records: `Participant` or `Conference`."""
        return self._resource.record_class

    @property
    def cursor(self) -> str:
        """Where to go on: names the next record not delivered, also after an error or the end.

        It holds no credential, no label and no name of a conference. Give it to the same method as
        `resume=`, with the same conference or window, and the same filters.
        """
        return self._cursor(self._position)

    @property
    def problems(self) -> tuple[RecordProblem, ...]:
        """With `on_invalid="keep"`: the records so far that cannot be read at all.

        A record with a few wrong values is delivered, and has `problems` of its own.
        """
        return (*self._problems, *(() if self._reader is None else self._reader.passed))

    def __aiter__(self) -> RecordStream[T_co]:
        """Return itself: a stream is iterated once."""
        self._check_unused()
        return self

    async def __anext__(self) -> T_co:
        """Return the next record, or raise an error that the class names."""
        while self._busy or (reader := self._reader) is None or not reader.buffer:
            await self._advance()
        reader.latest = record = reader.buffer.popleft()
        return record

    async def asend(self, value: None) -> T_co:
        """Do as `__anext__`: a stream takes no values."""
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
        """Close the stream; when it returns, no task or socket of the stream is alive.

        A task that waits for a record meanwhile, or asks for one later, gets an
        InvalidRequestError. Closing twice does nothing. If a callback of the stream's own request
        closes it, that callback is not waited for, and can go on.
        """
        self._report_page()
        self._leave_page(self._position)
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
        """Return the records not delivered yet, as a list, and close the stream.

        It is all of them or none: after an error or a cancellation `cursor` is what it was before.
        A coroutine, so `asyncio.run` and `TaskGroup.create_task` take it.
        """
        self._check_unused()
        if self._busy:  # checked before the stream is closed while the other task reads it
            raise self._with_position(_two_at_once())
        start, problems = self._position, len(self.problems)
        records = list[T_co]()
        try:
            async with self:
                async for page in self.pages():
                    records += page.records
        except BaseException as error:
            self._leave_page(start)
            del self._problems[problems:]
            failure = error if isinstance(error, InsightsError) else _cancelled()
            if isinstance(failure, ResponseError) and failure.cursor != self.cursor:
                failure.cursor_after = None  # good records before it were not delivered
            failure.cursor = self.cursor
            self._closed, self._error = False, copied(failure)
            raise
        return records

    def pages(self) -> AsyncIterator[Page[T_co]]:
        """Return an iterator over whole pages.

        It shares the stream's position: a page holds those of its records that were not delivered
        one by one. `limit` can shorten the last page. A page without records is delivered too.
        """
        self._check_unused()
        return _Pages(self._next_page)

    # --- The position, and errors that name it ---

    @property
    def _position(self) -> Position:
        """The position of the next record not delivered."""
        return self._between if self._reader is None else self._reader.position

    def _leave_page(self, position: Position) -> None:
        """Let go of the current page, and stay at a position."""
        self._problems[:] = self.problems
        self._reader, self._between = None, position

    def _check_unused(self) -> None:
        """Raise InvalidRequestError if the stream is used up or closed."""
        if self._used_up or self._closed:
            raise self._with_position(_used_up() if self._used_up else _closed())

    def _with_position(self, error: InsightsError) -> InsightsError:
        """Return a copy of an error to raise, with the cursor and the conference."""
        error = copied(error)
        error.cursor = self.cursor
        error.conference_sid = self._position.request.conference_sid
        return error

    # --- How it ends ---

    def _failed(self, error: InsightsError) -> InsightsError:
        """Keep an error, to raise it until the stream is closed."""
        self._report_page()
        self._error = error
        self._telemetry.finished(error)
        return error

    def _finished(self) -> StopAsyncIteration:
        """Note that the list is complete, and return the end to raise."""
        self._used_up = True
        self._telemetry.finished()
        return StopAsyncIteration()

    def _report_page(self) -> None:
        """Report, once, how much of the current page was delivered, before it is left for good."""
        reader = self._reader
        if reader is not None and not reader.reported:
            reader.reported = True
            page = reader.page
            self._telemetry.page_delivered(page.meta.page, reader.delivered, page.request_id)

    def _raise_if_over(self) -> None:
        """Raise the end or the error, if no further page is needed to know it."""
        if self._used_up:
            raise StopAsyncIteration
        self._raise_if_closed()
        if self._error is not None:
            raise self._error
        if (self._left if self._reader is None else self._reader.left) <= 0:
            raise self._finished()

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise _closed()

    # --- Going on ---

    async def _next_page(self) -> Page[T_co]:
        """Return the rest of the current page, or the next page."""
        while self._busy or (reader := self._reader) is None or not reader.has_whole_page:
            await self._advance()
        return reader.take_page()

    async def _advance(self) -> None:
        """Structure more records, or turn to the next page; raise the end or an error."""
        failure: InsightsError | None = None
        if self._busy:
            failure = _two_at_once()
        else:
            self._busy = True
            try:
                if self._reader is None or self._reader.is_structured:
                    self._fill(await self._turn_page())
                else:
                    self._fill(self._reader)
                    # After the fill: a consumer that is cancelled here each time still progresses.
                    await asyncio.sleep(0)
                    self._raise_if_closed()
            except InsightsError as error:
                failure = stripped(error)
            finally:
                self._busy = False
        if failure is not None:
            raise self._with_position(failure)

    def _fill(self, reader: PageReader[T_co]) -> None:
        """Structure the next few records of the current page."""
        if self._error is not None:
            raise self._error
        try:
            reader.fill()
        except InsightsError as error:
            self._failed(error)
            raise

    async def _turn_page(self) -> PageReader[T_co]:
        """Make the next page the current one, and start to fetch the one after it."""
        self._report_page()
        self._raise_if_over()
        self._pages.check_loop()
        page = await self._pages.next()  # which stays there until it is taken
        self._raise_if_over()
        if isinstance(page, End):
            raise self._finished()
        if isinstance(page, Failed):
            raise self._failed(page.error)
        reader = await self._reader_of(page)
        # A consumer that is cancelled in `look_ahead` finds this page as the current one: no await
        # is between taking the page and making it so.
        self._pages.take(last=reader.is_last)
        if self._reader is not None:
            self._problems += self._reader.problems
        self._reader = reader
        await self._pages.look_ahead()
        self._raise_if_closed()
        return reader

    async def _reader_of(self, page: RawPage) -> PageReader[T_co]:
        """Return a reader of the next page, positioned where its delivery starts."""
        previous = self._reader
        if previous is None:
            start, left = await self._checked_start(page), self._left
        else:
            start, left = Position(page.request), previous.left
        reader = PageReader(
            page=page,
            start=start,
            limit=left,
            resource=self._resource,
            keep_invalid=self._keep_invalid,
            cursor=self._cursor,
        )
        for _ in page.records.scan_ahead(reader.records_to_count):
            await asyncio.sleep(0)
        self._raise_if_closed()
        return reader

    async def _checked_start(self, page: RawPage) -> Position:
        """Return where the delivery of the first page starts, checked if the list is resumed.

        Raises:
            PaginationError: the list has changed.
        """
        start = self._between
        if start.offset == 0:
            return start
        for _ in page.records.scan(start.offset - 1):
            await asyncio.sleep(0)
        self._raise_if_closed()
        try:
            return checked_start(page, start, self._resource)
        except PaginationError as error:
            self._failed(error)
            raise


def _two_at_once() -> InvalidRequestError:
    message = "Two tasks asked the stream for a record at once; let one wait for the other."
    return InvalidRequestError(message)


def _closed() -> InvalidRequestError:
    message = "The stream was closed before its end: give its cursor to another one."
    return InvalidRequestError(message)


def _used_up() -> InvalidRequestError:
    message = "The stream is used up: all of its records were delivered. Make another one."
    return InvalidRequestError(message)


def _cancelled() -> InvalidRequestError:
    message = (
        "The stream was awaited, and that was cancelled before all records came: "
        "give its cursor to another one."
    )
    return InvalidRequestError(message)


class _Pages(AsyncIterator[Page[T]]):
    """The pages of a stream; a class for the same reason as the stream."""

    def __init__(self, take: Callable[[], Coroutine[object, object, Page[T]]]) -> None:
        self._take = take

    async def __anext__(self) -> Page[T]:
        return await self._take()
