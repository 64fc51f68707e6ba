"""`PagesAhead`: the pages of a list, fetched before they are asked for. Knows asyncio, and no HTTP.

1. Each page is fetched by a task of its own, one after another, as each names the next. Whoever
   waits for it leaves the task alone: a cancelled consumer can go on, and the page in flight is
   kept. A page that has come stays here until it is taken.
2. The task of page N+1 is started, and given a bounded time to send its request, before page N is
   delivered: then it makes progress even under a consumer that never awaits.
3. What stands in a page's place (an error, the end) comes when it is asked for, and each time.
4. A page that was taken is never fetched again: its records may have been delivered.
5. Nothing here refers to the consumer, so that its end can be noticed, and ends this.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from ._messages import Request
from ._tasks import (
    cancel_threadsafe,
    running_loop,
    session_closed,
    wait_ignoring_cancellation,
)
from .errors import InsightsError, InvalidRequestError, SessionClosedError, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ._paging import RawPage
    from ._tasks import SessionTasks
    from ._telemetry import ListTelemetry

__all__ = ["Fetch", "PagesAhead"]

#: The name of the tasks that fetch pages, for whoever looks at a loop's tasks.
_TASK: Final = "aioparticipants page"

#: Seconds that the delivery of a page waits for the next request to be sent: long enough for a new
#: TLS connection, short enough for a host that does not answer. A kept-alive connection needs none.
_DEPARTURE: Final = 0.25


class Fetch(Protocol):
    """Fetches a page; calls `departed` once its request is on the wire, or cannot be yet."""

    def __call__(
        self, request: Request, departed: Callable[[], None]
    ) -> Coroutine[object, object, RawPage]: ...


class PagesAhead:
    """The pages that are left of one list, for one consumer."""

    def __init__(
        self, place: Request, *, fetch: Fetch, tasks: SessionTasks, telemetry: ListTelemetry
    ) -> None:
        """Begin with what `place` asks for. Nothing is asked for yet."""
        self._fetch = fetch
        self._tasks = tasks
        self._telemetry = telemetry
        # Page tasks run in the context this was made in, whichever task asks for a page.
        self._context = contextvars.copy_context()
        self._upcoming: Request | InsightsError | None = place
        self._here: deque[RawPage] = deque()
        self._task: asyncio.Task[RawPage] | None = None
        #: Where the consumer waits for the task. All that the task knows of this: else it, what it
        #: failed of and the frames of that would refer to each other, and wait for the collector.
        self._arrival: list[asyncio.Future[None]] = []
        self._closed = False

    @property
    def is_ready(self) -> bool:
        """Whether `next` returns without waiting."""
        if self._here or not isinstance(self._upcoming, Request):
            return True
        return self._task is not None and self._task.done()

    @property
    def all_fetched(self) -> bool:
        """Whether no further page will be fetched."""
        return not isinstance(self._upcoming, Request)

    def check_loop(self) -> None:
        """Raise InvalidRequestError where a page is on its way on another loop than this one."""
        if self._task is not None and self._task.get_loop() is not asyncio.get_running_loop():
            message = (
                "The stream is in use on another event loop: "
                "give its cursor to a session of this one."
            )
            raise InvalidRequestError(message)

    async def next(self) -> RawPage | InsightsError | None:
        """Return the next page, and leave it here; or why there is none; or None at the end.

        A cancelled wait loses nothing. None comes, too, once this is closed.
        """
        return self._here[0] if self._here else await self._fetch_next()

    def take(self, *, last: bool) -> None:
        """Take the next page away; with `last`, no other one is wanted."""
        self._here.popleft()
        if last:
            self._upcoming = None

    async def look_ahead(self) -> None:
        """Start the next page, and give its request the time to be sent."""
        if self._here or self._task is not None or not isinstance(self._upcoming, Request):
            return
        if self._tasks.closed:
            return
        left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._start(self._upcoming, functools.partial(_wake, left))
        await asyncio.sleep(0)  # all that a kept-alive connection needs
        if not left.done():
            await asyncio.wait([left], timeout=_DEPARTURE)

    async def gather(self, count: int) -> None:
        """Fetch pages until there are `count`, or no further one; `next` returns why not."""
        going_on = True
        while going_on and len(self._here) < count:
            outcome = await self._fetch_next()
            going_on = outcome is not None and not isinstance(outcome, InsightsError)

    def abandon(self) -> None:
        """Cancel what is on its way, as nobody will take it; from whatever thread."""
        self._telemetry.abandoned()
        if self._task is not None:
            cancel_threadsafe(self._task)

    async def aclose(self) -> None:
        """End it; when it returns, no task or socket of it is alive.

        A page task that closes it itself, by a hook of the user's, goes on and is not waited for.
        """
        self._closed = True
        self._here.clear()
        for waiter in self._arrival:
            if waiter.get_loop() is running_loop():
                _wake(waiter)
        if self._task is None or self._task is _current_task():
            self._telemetry.abandoned()
            return
        self.abandon()
        # Elsewhere it cannot be waited for; with no loop at all, it was the caller that ended.
        if self._task.get_loop() is running_loop():
            await wait_ignoring_cancellation([self._task])

    async def _fetch_next(self) -> RawPage | InsightsError | None:
        """Return one more page as it has come here; or why none will come, or None at the end."""
        if self._closed:
            return None
        if self._task is None:
            if not isinstance(self._upcoming, Request):
                return self._upcoming
            if self._tasks.closed:
                return self._failed(session_closed())
            self._start(self._upcoming, _nothing)
        await self._arrived()
        return self._outcome()

    async def _arrived(self) -> None:
        """Wait until the task has ended, and leave it alone where the wait is cancelled."""
        while self._task is not None and not self._task.done() and not self._closed:
            arrival = asyncio.get_running_loop().create_future()
            self._arrival[:] = [arrival]
            await arrival

    def _outcome(self) -> RawPage | InsightsError | None:
        """Return what the task has brought, and forget the task."""
        if self._closed or self._task is None:  # meanwhile; who closed it waits for the task
            return None
        task, self._task = self._task, None
        if task.cancelled():
            return self._failed(self._cancelled())
        failure = task.exception()
        if isinstance(failure, InsightsError):
            return self._failed(failure)
        page = task.result()  # raises what is a defect
        self._here.append(page)
        self._upcoming = page.following
        return page

    def _failed(self, error: InsightsError) -> InsightsError:
        """Keep an error as what stands in the next page's place."""
        self._upcoming = error.with_traceback(None)
        return error

    def _cancelled(self) -> InsightsError:
        if self._tasks.closed:
            message = "The session was closed meanwhile: give the cursor to another one."
            return SessionClosedError(message)
        message = "The page on its way was cancelled from outside; see what cancels all tasks."
        return TransportError(message)

    def _start(self, request: Request, departed: Callable[[], None]) -> None:
        self._telemetry.started(self._context)
        arrival, fetch = self._arrival, self._fetch

        def on_end(_: object = None) -> None:
            departed()
            for waiter in arrival:
                _wake(waiter)

        async def work() -> RawPage:
            try:
                return await fetch(request, departed)
            finally:
                on_end()  # a turn of the loop earlier than the callback

        self._task = self._tasks.start(work, self._context, _TASK)
        self._task.add_done_callback(on_end)  # where it is cancelled before its first step


def _current_task() -> asyncio.Task[object] | None:
    """Return the task that runs in this thread, if one does."""
    return None if running_loop() is None else asyncio.current_task()


def _wake(waiter: asyncio.Future[None]) -> None:
    """Wake whoever waits, unless the loop was closed under both."""
    if not waiter.done() and not waiter.get_loop().is_closed():
        waiter.set_result(None)


def _nothing() -> None:
    """Do nothing."""
