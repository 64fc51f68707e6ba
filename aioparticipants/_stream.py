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
6. The stream's position is the page and the place of the next record not handed out. It moves as a
   record is handed out, and by nothing else; the cursor names it, also after an error or the end.
7. Records are structured as they are taken, and decoded a few at a time before; and every so often
   the loop gets a turn. Meanwhile the stream counts as asked: a second asker is refused as ever.
8. So a page's body can prove bad with some of its records handed out. It is then fetched again, as
   a further attempt at it, and the stream goes on at its position, as a resumed one does.
9. A list that is awaited is handed out whole or not at all: where that fails, the position is what
   it was, and whoever asks again is told so, and not that there is no more.
"""

from __future__ import annotations

import asyncio
import copy
import sys
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

from ._messages import Request
from .errors import InsightsError, InvalidRequestError, PaginationError, ResponseError
from .models import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from types import TracebackType

    from ._observing import ListWatch
    from ._paging import RawPage
    from ._prefetching import PagesAhead

__all__ = ["RecordStream"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: Records between two turns of the loop: about half a millisecond. A turn costs as much as half a
#: record.
_STRIDE: Final = 32
#: Stands for no limit: no page is that long.
_ALL: Final = sys.maxsize


class RecordStream(AsyncGenerator[T_co, None], Generic[T_co]):
    """The records of one list, in the server's order, each once, fetched one page ahead.

    Iterate it (`async for`), open it (`async with`, after which nothing of it is alive), await it
    (a list of all), or go by `pages()`. Nothing is requested before the first record is asked for.

    An error comes after every good record before it, and is raised again by each further call until
    `aclose()`: only the end of the data looks like the end. A cancelled or timed-out wait loses
    nothing; ask again. Each error's `cursor`, and the stream's own at any time, names the next
    record not handed out: `participants(…, resume=cursor)` goes on exactly there.

    Raises, while iterating:
        APIStatusError: Twilio refused, for good or until the retries were used up.
        TransportError: no usable reply came, until the retries were used up.
        ResponseError: a reply is not what the API promises.
        PaginationError: a next link leads elsewhere, or round in a circle; or the page to resume on
            has become shorter.
        DeadlineExceededError: the list's `deadline` came before its next page.
        SessionClosedError: the session was closed meanwhile.
        InvalidRequestError: two tasks asked at once (the stream stays usable), or another loop did.
    """

    def __init__(
        self,
        place: Request,
        offset: int,
        *,
        pages: PagesAhead,
        structure: Callable[[object, str, int], T_co],
        cursor: Callable[[Request, int], str],
        key: str,
        limit: int | None,
        watch: ListWatch,
    ) -> None:
        """Made by `InsightsSession`, not by hand."""
        self._pages = pages
        self._structure = structure
        self._cursor = cursor
        self._key = key
        self._watch = watch
        # The position: `_index` on `_page`, or on the page of `_place` where none is at hand.
        self._place = place
        self._page: RawPage | None = None
        self._index = offset
        self._end = _ALL if limit is None else offset + limit  # where `limit` ends, on that page
        self._pause = offset  # the place at which the loop gets a turn, or the page is turned
        self._unshown = False  # an empty page that `pages()` has still to hand out
        self._untold: RawPage | None = None  # the page that was not told of, and where it began
        self._since = offset
        self._error: InsightsError | None = None
        self._closed = False
        self._busy = False
        weakref.finalize(self, pages.abandon).atexit = False

    def __repr__(self) -> str:
        """Show where it stands, and none of what it holds."""
        state = "closed" if self._closed else "failed" if self._error else "open"
        return f"<RecordStream of {self._key}: {state}, at record {self._index} of its page>"

    @property
    def cursor(self) -> str:
        """Where to go on: names the next record not handed out, also after an error or the end.

        It holds no credential, and no label. Give it to `participants(…, resume=cursor)`, with the
        same conference and filters.
        """
        return self._cursor(*self._position())

    def __aiter__(self) -> RecordStream[T_co]:
        """Return itself: a stream is iterated once."""
        return self

    async def __anext__(self) -> T_co:
        """Return the next record; raise what the class promises."""
        while True:
            while self._busy or self._index >= self._pause or self._page is None:
                await self._go_on()
            page, index = self._page, self._index
            if index == page.records.count:
                self._pause = index
                continue
            try:
                record = self._structure(page.records.at(index), self._key, index)
            except InsightsError as error:
                failure = error.with_traceback(None)
            else:
                self._index = index + 1
                return record
            self._spoiled(failure, page)

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

        Whoever waits for a record meanwhile gets the end. Closing twice does nothing.
        """
        self._tell_page()
        self._place, self._index = self._position()
        self._closed = True
        self._error = None
        self._page, self._pause, self._unshown = None, 0, False
        await self._pages.aclose()

    async def __aenter__(self) -> RecordStream[T_co]:
        """Return itself; `aclose()` follows at the end of the block."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close it."""
        await self.aclose()

    def __await__(self) -> Generator[object, None, list[T_co]]:
        """Return the records not yet handed out, as a list, and close the stream.

        It is all of them or none: after an error or a cancellation `cursor` is what it was before.
        """
        return self._collect().__await__()

    def pages(self) -> AsyncIterator[Page[T_co]]:
        """Return an iterator over whole pages.

        It shares the stream's position: a page holds those of its records that were not handed out
        one by one. `limit` cuts the last one. A page with no records is handed out, too. One whose
        body proves bad half-way comes in two pieces, as the rest of it is fetched again.
        """
        return _Pages(self._take_page)

    async def _collect(self) -> list[T_co]:
        if self._busy:  # before it is closed under the other
            raise self._told(_two_at_once())
        beginning, records = self._position(), list[T_co]()
        try:
            async with self:
                async for page in self.pages():
                    records += page.records
        except BaseException as error:
            self._back_to(beginning, error)
            raise
        return records

    def _back_to(self, beginning: tuple[Request, int], error: BaseException) -> None:
        """Take back what an await had read when it failed, as none of it was handed out."""
        self._place, self._index = beginning
        failure = error if isinstance(error, InsightsError) else _given_up()
        failure.cursor = self.cursor
        self._closed, self._error = False, copy.copy(failure)

    async def _take_page(self) -> Page[T_co]:
        """Return what is left of the current page, or the next page."""
        while True:
            while self._busy or (self._over() and not self._unshown):
                await self._go_on()
            page = cast("RawPage", self._page)
            self._busy = True
            try:
                records, failure = await self._structured(page)
            finally:
                self._busy = False
            if records or self._unshown:
                self._index += len(records)
                self._unshown = False
                return Page(records=tuple(records), meta=page.meta, request_id=page.request_id)
            # After a failure the next call begins at the bad record, and finds no good one before.
            self._spoiled(cast("InsightsError", failure), page)

    async def _structured(self, page: RawPage) -> tuple[list[T_co], InsightsError | None]:
        """Return the records that are left of a page, and why there are no more."""
        # Nothing is taken before all is done, so that a cancellation here loses nothing.
        records = list[T_co]()
        index = self._index
        while index < self._end and index != page.records.count:
            try:
                records.append(self._structure(page.records.at(index), self._key, index))
            except InsightsError as error:
                return records, error.with_traceback(None)
            index += 1
            if index % _STRIDE == 0:
                await asyncio.sleep(0)
                if self._closed:
                    raise StopAsyncIteration
        return records, None

    def _over(self) -> bool:
        """Tell whether there is nothing more to hand out of the current page."""
        page, index = self._page, self._index
        over = page is None or index >= self._end or index == page.records.count
        return over or self._error is not None

    def _position(self) -> tuple[Request, int]:
        """Return the page and the place of the next record not handed out."""
        page = self._page
        if page is None:
            return self._place, self._index
        if self._index == page.records.count and isinstance(page.following, Request):
            return page.following, 0
        return page.request, self._index

    def _failed(self, error: InsightsError) -> InsightsError:
        """Keep an error, to be raised until the stream is closed."""
        self._tell_page()
        self._watch.ended(error)
        self._error = error.with_traceback(None)
        self._pause = self._index
        return error

    def _tell_page(self) -> None:
        """Tell, once, what was handed out of the page at hand, before it is left for good."""
        page, self._untold = self._untold, None
        if page is not None:
            self._watch.page(page.meta.page, self._index - self._since, page.request_id)

    def _finished(self) -> StopAsyncIteration:
        """Tell that the list is complete, and return what says so to the consumer."""
        self._watch.ended()
        return StopAsyncIteration()

    def _told(self, error: InsightsError) -> InsightsError:
        """Return a copy of an error to raise, which says where the list stopped."""
        told = copy.copy(error)
        told.cursor = self.cursor
        told.conference_sid = self._place.conference_sid
        return told

    def _spoiled(self, error: InsightsError, page: RawPage) -> None:
        """Have a page fetched again whose body is bad from here on; or raise that a record is."""
        error.request_id = page.request_id
        if not (isinstance(error, ResponseError) and error.transient):
            raise self._told(self._failed(error))
        self._tell_page()
        self._place, self._page = page.request, None
        self._pages.again(page, error)

    async def _go_on(self) -> None:
        """Give the loop a turn, or turn to the next page, or raise why there is none."""
        failure: InsightsError | None = None
        try:
            await self._step()
        except InsightsError as error:
            failure = error.with_traceback(None)
        if failure is not None:
            raise self._told(failure)

    async def _step(self) -> None:
        if self._busy:
            raise _two_at_once()
        self._busy = True
        try:
            if self._over():
                await self._turn_page()
            else:
                self._pause = min(self._index + _STRIDE, self._end)
                await asyncio.sleep(0)
        finally:
            self._busy = False

    async def _turn_page(self) -> None:
        self._unshown = False  # who asks for a record goes past an empty page
        self._tell_page()
        page = await self._next_page()
        # Where a list is resumed, the first page begins at an offset.
        start = self._index if self._page is None else 0
        end = start + self._end - self._index
        enough = _worth_reaching(page, start, end)
        for _ in page.records.walk(enough):
            await asyncio.sleep(0)
        if self._closed:
            raise StopAsyncIteration
        # From here to the hand-over nothing waits: a cancelled consumer finds the page here.
        records = page.records
        # The limit is reached on this page, or may be as it is fetched again.
        last = records.known >= end or (records.known < enough and records.count is None)
        self._pages.take(last=last)
        if records.count is not None and start > records.count:
            raise self._failed(_shorter())
        self._page, self._index, self._end = page, start, end
        self._untold, self._since = page, start
        self._pause = min(start + _STRIDE, end)
        self._unshown = records.count == 0
        await self._pages.look_ahead()

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
        if self._closed:
            raise StopAsyncIteration
        if self._error is not None:
            raise self._error
        if self._index >= self._end:
            raise self._finished()


def _two_at_once() -> InvalidRequestError:
    message = "Two tasks asked the stream for a record at once; let one wait for the other."
    return InvalidRequestError(message)


def _given_up() -> InvalidRequestError:
    message = (
        "The stream was awaited, and that was cancelled before all records were there: "
        "give its cursor to another one."
    )
    return InvalidRequestError(message)


def _worth_reaching(page: RawPage, start: int, end: int) -> int:
    """Return how many records are to be known before a page is handed out.

    Those that are skipped; and where a limit may end on the page, it tells whether to ask for more.
    """
    longest = page.meta.page_size or _ALL  # Twilio's own word for what a page can hold
    ends = end <= longest and end < _ALL // 2 and isinstance(page.following, Request)
    return end if ends else start


def _shorter() -> PaginationError:
    message = "The page to resume on is shorter than it was: the list changed, so begin it anew."
    return PaginationError(message)


class _Pages(AsyncIterator[Page[T]]):
    """The pages of a stream; a class for the stream's own reason."""

    def __init__(self, take: Callable[[], Coroutine[object, object, Page[T]]]) -> None:
        self._take = take

    async def __anext__(self) -> Page[T]:
        return await self._take()
