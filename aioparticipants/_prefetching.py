"""`PagesAhead`: the pages of a list, fetched before they are asked for. Knows asyncio, and no HTTP.

1. Each page is fetched by a task of its own, one after another, as each page names the next one.
   Whoever waits for a page does not cancel its task: a cancelled consumer can go on, and the page
   in flight is kept. A page that was fetched is kept here until it is taken.
2. The task of page N+1 is started before page N is delivered, and the delivery waits a bounded time
   for its request to be sent. So it makes progress even if the consumer never awaits anything.
3. An error or the end is returned in place of the page that would be next, each time it is asked.
4. A page that was taken is never fetched again: its records may have been delivered.
5. Nothing here refers to the consumer, so that dropping the consumer can end the page task.
6. A stream sees a `PageSource`: the pages of one list, or of a list in slices (`_sliced_pages`).
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, cast

from ._messages import Request, do_nothing
from ._paging import End, Failed, RawPage
from ._tasks import (
    cancel_threadsafe,
    running_loop,
    session_closed,
    wait_ignoring_cancellation,
)
from ._tracebacks import stripped
from .errors import InsightsError, InvalidRequestError, SessionClosedError, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._call import Call, ListContext
    from ._tasks import SessionTasks
    from ._telemetry import ListTelemetry

__all__ = ["PageSource", "PagesAhead"]

#: The name of the tasks that fetch pages, for whoever looks at a loop's tasks.
_TASK: Final = "aioparticipants page"

#: Seconds that the delivery of a page waits for the next request to be sent: long enough for a new
#: TLS connection, short enough for a host that does not answer. A kept connection needs none.
_SENDING_SECONDS: Final = 0.25


class PageSource(Protocol):
    """Where a stream gets its pages; see `PagesAhead` for what each method does."""

    def check_loop(self) -> None:
        """Raise InvalidRequestError if pages are being fetched on another event loop."""
        ...

    async def next(self) -> RawPage | Failed | End:
        """Return the next page, without taking it; or why there is none."""
        ...

    def take(self, *, last: bool) -> None:
        """Remove the next page; with `last`, no further page is wanted."""
        ...

    async def look_ahead(self) -> None:
        """Start to fetch what follows."""
        ...

    def abandon(self) -> None:
        """Cancel what is being fetched; callable in any thread."""
        ...

    async def aclose(self) -> None:
        """Close it; when this returns, nothing is being fetched."""
        ...


class PagesAhead:
    """The pages of one list that were not taken yet, for one consumer."""

    def __init__(
        self,
        start: Request,
        *,
        calls: ListContext,
        tasks: SessionTasks,
        telemetry: ListTelemetry,
        enough: int = sys.maxsize,
        on_fetched: Callable[[], object] = do_nothing,
    ) -> None:
        """Begin with the page that `start` asks for. Nothing is sent yet.

        Args:
            start: the request for the first page.
            calls: makes the call for each page.
            tasks: those of the session.
            telemetry: reports on the list.
            enough: the number of whole pages that hold all records that are wanted.
            on_fetched: called after each page task has ended, however it ended.
        """
        self._calls = calls
        self._tasks = tasks
        self._telemetry = telemetry
        # Page tasks run in the context of this constructor, whichever task asks for a page.
        self._context = contextvars.copy_context()
        self._following: Request | Failed | End = start if enough else End()
        self._enough = enough
        self._pages: deque[RawPage] = deque()
        self._task: asyncio.Task[RawPage] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._on_fetched = on_fetched

    @property
    def held(self) -> int:
        """The number of pages that are fetched and not taken, or being fetched."""
        return len(self._pages) + (self._task is not None)

    @property
    def has_failed(self) -> bool:
        """Whether the last page that can be taken has been fetched, and an error follows it."""
        return isinstance(self._following, Failed) or _has_failed(self._task)

    @property
    def is_ready(self) -> bool:
        """Whether `next` returns without waiting."""
        if self._pages or not isinstance(self._following, Request):
            return True
        return self._task is not None and self._task.done()

    @property
    def all_fetched(self) -> bool:
        """Whether the last page, or enough pages, have been fetched."""
        return isinstance(self._following, End) or len(self._pages) >= self._enough

    def check_loop(self) -> None:
        """Raise InvalidRequestError if a page is being fetched on another event loop."""
        if self._task is not None and self._task.get_loop() is not asyncio.get_running_loop():
            message = (
                "The stream is in use on another event loop: "
                "give its cursor to a session of this one."
            )
            raise InvalidRequestError(message)

    async def next(self) -> RawPage | Failed | End:
        """Return the next page, without taking it; or why there is none.

        A cancelled wait loses nothing. Once this is closed, there is none.
        """
        while not self._pages and self._must_wait():
            await self._new_waiter()
        return self._pages[0] if self._pages else self._outcome()

    def fetch(self) -> bool:
        """Start to fetch a further page if none is being fetched; return whether it was started."""
        if self._task is not None and self._task.done() and not _has_failed(self._task):
            self._outcome()
        if self._task is not None or self._closed or self._tasks.closed:
            return False
        if not isinstance(self._following, Request):
            return False
        self._start(self._following)
        return True

    def take(self, *, last: bool) -> None:
        """Remove the next page; with `last`, no further page is wanted."""
        self._pages.popleft()
        if last:
            self._following = End()

    async def look_ahead(self) -> None:
        """Start to fetch the next page, and give its request the time to be sent."""
        if self._pages or self._task is not None or self._tasks.closed:
            return
        if not isinstance(self._following, Request):
            return
        call = self._start(self._following)
        await asyncio.sleep(0)  # long enough for a kept connection
        if not call.sent.is_set and self._task is not None:
            await call.sent.wait(self._task, seconds=_SENDING_SECONDS)

    async def gather(self, count: int) -> None:
        """Fetch pages until there are `count`, or enough, or no further one.

        To be called before the first page is taken. `next` returns why there is no further one.
        """
        while len(self._pages) < min(count, self._enough):
            while self._must_wait():
                await self._new_waiter()
            if not isinstance(self._outcome(), RawPage):
                return

    def abandon(self) -> None:
        """Cancel the page task, as nobody will take its page; callable in any thread."""
        self._telemetry.abandoned()
        self.cancel()

    def cancel(self) -> None:
        """Cancel the page task; callable in any thread."""
        if self._task is not None:
            cancel_threadsafe(self._task)

    async def aclose(self) -> None:
        """Close it; when this returns, the page task has ended, and its socket is closed.

        A page task that calls this itself, in a hook of the user's, goes on, and is not awaited.
        """
        self._telemetry.abandoned()
        if (task := self.close()) is not None:
            await wait_ignoring_cancellation([task])

    def close(self) -> asyncio.Task[RawPage] | None:
        """Close it, and cancel the page task; return the task, if it is to be waited for."""
        self._closed = True
        self._pages.clear()
        if self._waiter is not None and self._waiter.get_loop() is running_loop():
            self._wake()
        if self._task is None or self._task is _current_task():
            return None
        self.cancel()
        # A task of another loop cannot be awaited. Without a running loop nothing can be.
        return self._task if self._task.get_loop() is running_loop() else None

    def _must_wait(self) -> bool:
        """Start to fetch a page unless one is being fetched; return whether to wait for it."""
        if self._closed:
            return False
        if self._task is None and isinstance(self._following, Request):
            if self._tasks.closed:
                self._following = Failed(session_closed())
            else:
                self._start(self._following)
        return self._task is not None and not self._task.done()

    def _new_waiter(self) -> asyncio.Future[None]:
        """Return what is done once the page task has ended, or this is closed."""
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def _on_done(self, _task: object) -> None:
        """Wake the consumer, and report that a page task has ended."""
        self._wake()
        self._on_fetched()

    def _wake(self) -> None:
        """Wake the consumer if it waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _outcome(self) -> RawPage | Failed | End:
        """Return the page that the task has fetched, and forget the task; or why there is none."""
        if self._closed:  # whoever has closed it waits for the task
            return End()
        task, self._task = self._task, None
        if task is None:
            return cast("Failed | End", self._following)
        if task.cancelled():
            failure: BaseException | None = self._cancelled()
        else:
            failure = task.exception()
        if isinstance(failure, InsightsError):
            self._following = Failed(stripped(failure))
            return self._following
        page = task.result()  # raises a defect
        self._pages.append(page)
        self._following = page.following
        return page

    def _cancelled(self) -> InsightsError:
        if self._tasks.closed:
            message = "The session was closed meanwhile: give the cursor to another one."
            return SessionClosedError(message)
        message = (
            "The task that fetched the page was cancelled from outside; see what cancels all tasks."
        )
        return TransportError(message)

    def _start(self, request: Request) -> Call:
        """Start the task that fetches a page."""
        self._telemetry.started(self._context)
        call = self._calls.call(request)
        self._task = self._tasks.start(call.page, self._context, _TASK)
        self._task.add_done_callback(self._on_done)
        return call


def _has_failed(task: asyncio.Task[RawPage] | None) -> bool:
    """Return whether a task has ended without a result."""
    if task is None or not task.done():
        return False
    return task.cancelled() or task.exception() is not None


def _current_task() -> asyncio.Task[object] | None:
    """Return the task that runs in this thread, if one does."""
    return None if running_loop() is None else asyncio.current_task()
