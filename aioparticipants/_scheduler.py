"""`Scheduler`: reads many conferences at once for a `FanOut`. Uses asyncio, and no HTTP.

1. One task takes the conferences from their source. It acquires a place before it takes one, and
   there are `concurrency` places. A conference keeps its place until its result is delivered. So a
   slow consumer stops the source, and memory holds at most so many results, however long the source
   is. The task closes a source of this package as it ends, whatever ends it.
2. One more task for each conference reads its `RecordStream`, and adds what it reads to the
   `Delivery`. The consumer takes it from there: a cancelled or timed-out wait loses nothing.
3. No task refers to the `FanOut`. So dropping its last reference runs its finaliser at once, which
   closes the scheduler.
4. Decoded records take several times the memory of a body. So a conference is decoded in a
   `DecodingSlot`, and there are few of these; the bodies of the others stay as they are. First a
   few pages are fetched without a slot. A conference that has to wait for a further page releases
   its slot meanwhile. It keeps the slot until its result is delivered, or its task has ended.
5. The first failure that ends all is kept, and each further call raises it, after everything that
   is ready was delivered. With `on_error="raise"` it stops the conferences of which pages are
   missing. Those that are fetched whole are still decoded and delivered.
6. A conference whose summary is waited for holds up no other: while it waits, it holds one of the
   `_WAITING_PLACES` instead of its place, and then acquires a place again. If none of them is free,
   it keeps its place. So memory is bounded here, too, however many conferences wait.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
)

from ._paging import RawPage
from ._sources import as_wanted
from ._tasks import ClosedAtEnd, cancel_threadsafe, running_loop
from ._tracebacks import stripped
from ._waiting import is_final
from .errors import (
    InsightsError,
    InvalidRequestError,
    SessionClosedError,
    TransportError,
    copied,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
    from types import TracebackType

    from ._prefetching import PagesAhead
    from ._retrying import Deadline
    from ._sources import Wanted
    from ._stream import RecordStream
    from ._tasks import SessionTasks
    from ._waiting import NewWait
    from .models import Conference, Page, Participant, RecordProblem

__all__ = [
    "ConferenceJob",
    "Delivery",
    "OnError",
    "OpenList",
    "Scheduler",
    "two_at_once",
]

T = TypeVar("T")

#: What a failing conference does to the others.
OnError: TypeAlias = Literal["isolate", "raise"]

#: Conferences that are decoded at once: the one to deliver next, and the one after it.
_DECODING_SLOTS: Final = 2
#: Conferences that wait for their summaries without a place. Each takes some kilobytes.
_WAITING_PLACES: Final = 1000


class OpenList(Protocol):
    """Opens the list of a conference; raises InvalidRequestError if its SID is not one."""

    def __call__(self, conference_sid: str, /) -> tuple[RecordStream[Participant], PagesAhead]: ...


class DecodingSlot:
    """A conference's permission to decode records; it is acquired and released any number of times.

    Attributes:
        held: whether it is acquired.
        seconds_waited: for it, in all.
    """

    def __init__(self, slots: asyncio.Semaphore) -> None:
        """Be one of these slots. It is not acquired yet."""
        self.held: bool = False
        self.seconds_waited: float = 0.0
        self._slots = slots

    async def acquire(self) -> None:
        """Wait until a slot is free; return at once if this one is held."""
        if not self.held:
            began = time.monotonic()
            try:
                await self._slots.acquire()
            finally:
                self.seconds_waited += time.monotonic() - began
            self.held = True

    def release(self) -> None:
        """Let another conference have it; do nothing if it is not held."""
        if self.held:
            self.held = False
            self._slots.release()


class Places:
    """The places of a fan-out, one of which each of its conferences holds; see rules 1 and 6."""

    def __init__(self, concurrency: int) -> None:
        """Let `concurrency` conferences be read at once."""
        self.reading: asyncio.Semaphore = asyncio.Semaphore(concurrency)
        self.waiting: asyncio.Semaphore = asyncio.Semaphore(_WAITING_PLACES)
        self._reserved = False

    async def reserve(self) -> None:
        """Acquire a place for what the source gives next."""
        await self.reading.acquire()
        self._reserved = True

    async def acquire(self) -> None:
        """Acquire a place; it can be the reserved one.

        The source can take any time to give something. So a conference that has waited takes the
        place that is reserved for it, and the source's next one waits for another place.
        """
        if self._reserved:
            self._reserved = False
        else:
            await self.reading.acquire()

    def release_reserved(self) -> None:
        """Release the reserved place, if there is one: the source gives nothing more."""
        if self._reserved:
            self._reserved = False
            self.reading.release()


class ConferenceJob:
    """One conference of a fan-out, from its source to its delivery.

    Attributes:
        wanted: what came from the source.
        record: the conference itself, as far as it is known.
        is_waiting: whether its summary is waited for, and is not finished.
        slot: to decode its records.
        records: those that a `Delivery` keeps here.
        pages: the number of pages that were read.
        page_delivered: set when the consumer has taken the latest page.
    """

    def __init__(self, wanted: Wanted, *, places: Places, slots: asyncio.Semaphore) -> None:
        """Begin with a conference. A place is acquired for it."""
        self.wanted: Wanted = wanted
        self.record: Conference | None = wanted.record
        self.is_waiting: bool = False
        self.slot: DecodingSlot = DecodingSlot(slots)
        self.records: list[Participant] = []
        self.pages: int = 0
        self.page_delivered: asyncio.Event = asyncio.Event()
        self._all_places = places
        #: Those that its place is one of.
        self._places = places.reading
        self._began = time.monotonic()
        self._stream: RecordStream[Participant] | None = None
        self._ahead: PagesAhead | None = None

    @property
    def is_fetched(self) -> bool:
        """Whether no further page of it is to be fetched."""
        return self._ahead is not None and self._ahead.all_fetched

    @property
    def seconds(self) -> float:
        """How long it took up to now, without the time that it waited for its slot."""
        return time.monotonic() - self._began - self.slot.seconds_waited

    @property
    def cursor(self) -> str | None:
        """Where to continue; None if its list was not opened."""
        return None if self._stream is None else self._stream.cursor

    @property
    def problems(self) -> tuple[RecordProblem, ...]:
        """The records that could not be read."""
        return () if self._stream is None else self._stream.problems

    async def read(
        self,
        open_list: OpenList,
        delivery: Delivery[Any],
        new_wait: NewWait | None,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        """Read all pages; raise the error that ends the list early.

        Args:
            open_list: opens the list.
            delivery: takes the pages.
            new_wait: makes the wait for the summary, before anything is read; None for no wait.
            pause: waits for so many seconds, or until the session is closed.
        """
        self._stream, self._ahead = stream, ahead = open_list(self.wanted.sid)
        async with stream:
            if new_wait is not None and not is_final(self.record):
                await self._wait_for_summary(new_wait, pause)
            await ahead.gather(delivery.PAGES_AHEAD)
            pages = stream.pages()
            while (page := await self._next_page(pages, ahead)) is not None:
                self.pages += 1
                await delivery.on_page(self, page)

    async def _wait_for_summary(
        self, new_wait: NewWait, pause: Callable[[float], Awaitable[None]]
    ) -> None:
        """Wait until the summary is finished; hold up no other conference meanwhile."""
        places = self._all_places

        async def sleep(seconds: float) -> None:
            self.is_waiting = True
            if self._places is places.reading and not places.waiting.locked():
                await places.waiting.acquire()  # at once
                self._move(places.waiting)
            await pause(seconds)

        wait = new_wait(self.wanted.sid, sleep=sleep)
        try:
            await wait.run()
        finally:
            self.is_waiting = False
            self.record = wait.latest or self.record
        if self._places is places.waiting:
            await places.acquire()
            self._move(places.reading)

    def _move(self, places: asyncio.Semaphore) -> None:
        """Release the place, as one of these is acquired."""
        self._places.release()
        self._places = places

    async def _next_page(
        self, pages: AsyncIterator[Page[Participant]], ahead: PagesAhead
    ) -> Page[Participant] | None:
        """Return the next page, decoded in the slot; None at the end."""
        if not ahead.is_ready:
            self.slot.release()
        if isinstance(await ahead.next(), RawPage):
            await self.slot.acquire()
        return await anext(pages, None)

    def release(self) -> None:
        """Release its slot and its place, once, when it is over."""
        self.slot.release()
        self._places.release()


class Delivery(ABC, Generic[T]):
    """What a fan-out delivers: the tasks of its conferences add it, and the consumer takes it.

    Attributes:
        PAGES_AHEAD: pages of a conference to fetch before its first page is decoded.
        changed: set when there is something new to deliver or to raise.
    """

    PAGES_AHEAD: ClassVar[int]

    def __init__(self) -> None:
        """Begin with nothing to deliver."""
        self.changed: asyncio.Event = asyncio.Event()
        self._ready: deque[tuple[T, ConferenceJob]] = deque()

    @property
    def is_ready(self) -> bool:
        """Whether there is something to take."""
        return bool(self._ready)

    def take(self) -> T:
        """Return the next item to deliver."""
        item, conference = self._ready.popleft()
        self.on_delivered(conference)
        return item

    def clear(self) -> None:
        """Forget what was not taken."""
        self._ready.clear()

    def _add(self, item: T, conference: ConferenceJob) -> None:
        """Add an item of a conference, to be delivered."""
        self._ready.append((item, conference))
        self.changed.set()

    @abstractmethod
    async def on_page(self, conference: ConferenceJob, page: Page[Participant]) -> None:
        """Handle a page that a conference's task has read; return when it may read the next one."""

    @abstractmethod
    def on_conference_done(self, conference: ConferenceJob, error: InsightsError | None) -> None:
        """Handle the end of a conference: it is complete, or has failed."""

    @abstractmethod
    def on_delivered(self, conference: ConferenceJob) -> None:
        """Handle that the consumer takes an item of a conference."""

    @abstractmethod
    def error_to_raise(self, error: InsightsError) -> InsightsError:
        """Return what `on_error="raise"` raises for a conference's error."""


class Scheduler:
    """The tasks of one fan-out, and how far they are: everything but the `FanOut` itself.

    Attributes:
        delivery: another one may be set until `started`.
        loop: the event loop of the tasks; None until they are started.
        begun, done, failed: numbers of conferences.
        is_drained: whether the source has ended.
        is_used_up: whether everything was delivered.
        is_awaited: whether a consumer waits for something.
    """

    def __init__(
        self,
        items: AsyncIterator[object],
        open_list: OpenList,
        delivery: Delivery[Any],
        *,
        new_wait: NewWait | None,
        concurrency: int,
        on_error: OnError,
        tasks: SessionTasks,
        deadline: Deadline,
    ) -> None:
        """Read the conferences of `items`. Nothing is started before something is waited for."""
        self.delivery = delivery
        self.loop: asyncio.AbstractEventLoop | None = None
        self.begun: int = 0
        self.done: int = 0
        self.failed: int = 0
        self.is_drained: bool = False
        self.is_used_up: bool = False
        self.is_awaited: bool = False
        self._items = items
        self._open_list = open_list
        self._new_wait = new_wait
        self._raises = on_error == "raise"
        self._tasks = tasks
        self._deadline = deadline
        self._places = Places(concurrency)
        self._slots = asyncio.Semaphore(_DECODING_SLOTS)
        # Tasks run in the context the fan-out was made in, whichever task asks for a result.
        self._context = contextvars.copy_context()
        self._source: asyncio.Task[None] | None = None
        self._running: dict[asyncio.Task[None], ConferenceJob] = {}
        self._closed = False
        self._stopping = False
        self._failure: BaseException | None = None
        self._failure_traceback: TracebackType | None = None

    @property
    def in_flight(self) -> int:
        """The number of conferences whose tasks run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """The number of those whose summaries are waited for."""
        return sum(conference.is_waiting for conference in self._running.values())

    # --- The consumer ---

    async def wait_until_ready(self) -> None:
        """Wait until something can be taken from `delivery`; raise why nothing will be.

        Raises:
            StopAsyncIteration: everything was delivered.
        """
        if self.is_awaited:
            raise two_at_once()
        self.is_awaited = True
        try:
            self._check_loop()
            while not self.delivery.is_ready:
                self._raise_if_over()
                self.delivery.changed.clear()
                self._start()
                await self.delivery.changed.wait()
        finally:
            self.is_awaited = False

    def check_unused(self) -> None:
        """Raise InvalidRequestError if everything was delivered, or this was closed."""
        if self.is_used_up:
            message = "The fan-out is used up: everything was delivered. Make another one."
            raise InvalidRequestError(message)
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            message = "The fan-out was closed before its end; what was not delivered is lost."
            raise InvalidRequestError(message)

    def _check_loop(self) -> None:
        if not self._closed and self.loop not in {None, asyncio.get_running_loop()}:
            message = "The fan-out is in use on another event loop."
            raise InvalidRequestError(message)

    def _raise_if_over(self) -> None:
        """Raise the end, or what ended all, once no task is left that could add something."""
        if self.is_used_up:
            raise StopAsyncIteration
        self._check_open()
        if self.loop is None or self._source is not None or self._running:
            return
        if self._failure is None:
            self.is_used_up = True
            raise StopAsyncIteration
        if isinstance(self._failure, InsightsError):
            # A copy, as a raised exception refers to the frames that it came through.
            raise copied(self._failure)
        raise self._failure.with_traceback(self._failure_traceback)

    # --- Its tasks ---

    def _start(self) -> None:
        """Start to take conferences, unless that was done."""
        if self.loop is None:
            self._deadline.start()
            self._source = self._new_task(self._read_source, "aioparticipants fan-out")
            self._source.add_done_callback(self._on_source_done)
            self.loop = self._source.get_loop()

    async def _read_source(self) -> None:
        """Take all conferences from the source, and close it in the end if it is ours to close."""
        try:
            await self._take_items()
        finally:
            self._places.release_reserved()
            await self.close_source()

    async def close_source(self) -> None:
        """Close the source if it belongs to this package."""
        if isinstance(self._items, ClosedAtEnd):
            await self._items.aclose()

    async def _take_items(self) -> None:
        """Take items from the source, each once there is a place for it, and begin with them."""
        while True:
            await self._places.reserve()
            try:
                item = await anext(self._items)
            except StopAsyncIteration:
                self._check_not_cancelled()
                self.is_drained = True
                return
            self._check_not_cancelled()
            await self._places.acquire()
            self._begin(item)

    def _check_not_cancelled(self) -> None:
        """Raise the cancellation that the source has swallowed, or that it has caused itself."""
        task = asyncio.current_task()
        if self._is_ending() or (task is not None and task.cancelling()):
            raise asyncio.CancelledError

    def _begin(self, item: object) -> None:
        """Start to read a conference."""
        conference = ConferenceJob(as_wanted(item), places=self._places, slots=self._slots)
        read = functools.partial(
            conference.read, self._open_list, self.delivery, self._new_wait, self._tasks.sleep
        )
        task = self._new_task(read, "aioparticipants conference")
        self.begun += 1
        self._running[task] = conference
        task.add_done_callback(self._on_conference_done)

    def _new_task(
        self, work: Callable[[], Coroutine[object, object, None]], name: str
    ) -> asyncio.Task[None]:
        # A copy each: an eager task cannot enter a context that another one is in.
        return self._tasks.start(work, self._context.copy(), name)

    def _on_source_done(self, task: asyncio.Task[None]) -> None:
        self._source = None
        if self._closed:
            self._cancel_all()  # if it was dropped in another thread, one more may have begun
        if task.cancelled():
            self._fail(self._cancelled(None))
        elif (failure := task.exception()) is not None:
            self._fail(failure)
        self.delivery.changed.set()

    def _on_conference_done(self, task: asyncio.Task[None]) -> None:
        conference = self._running.pop(task)
        failure = self._cancelled(conference) if task.cancelled() else task.exception()
        if failure is None:
            self._on_result(conference, None)
        elif task.cancelled() and self._is_ending():
            self._fail(failure)
            conference.release()
        elif isinstance(failure, InsightsError):
            # Without its frames, which refer to the records.
            self._on_result(conference, stripped(failure))
        else:  # a defect, which is not hidden
            self._stop(failure)
            conference.release()
        self.delivery.changed.set()

    def _on_result(self, conference: ConferenceJob, error: InsightsError | None) -> None:
        """Count a conference that is complete, or has failed, and hand it to the delivery."""
        self.done += 1
        self.failed += error is not None
        if error is not None and self._raises:
            self._stop(self.delivery.error_to_raise(error))
        elif not self._closed:
            self.delivery.on_conference_done(conference, error)
            return
        conference.release()

    # --- Its end ---

    def _is_ending(self) -> bool:
        """Tell whether tasks are cancelled because everything ends."""
        return self._closed or self._stopping or self._tasks.closed

    def _cancelled(self, conference: ConferenceJob | None) -> InsightsError:
        """Return the error for a task that was cancelled."""
        if self._tasks.closed:
            message = "The session was closed meanwhile: begin the rest with another one."
            return SessionClosedError(message)
        message = "A task of the fan-out was cancelled from outside; see what cancels all tasks."
        if conference is None:
            return TransportError(message)
        return TransportError(
            message, conference_sid=conference.wanted.sid, cursor=conference.cursor
        )

    def _fail(self, failure: BaseException) -> None:
        """Keep what to raise in the end, if it is the first failure."""
        if self._failure is None:
            self._failure = failure
            self._failure_traceback = failure.__traceback__

    def _stop(self, failure: BaseException) -> None:
        """Cancel what is not fetched whole; the failure is raised after the rest is delivered."""
        if not self._is_ending():
            self._stopping = True
            self._fail(failure)
            fetched = [task for task, each in self._running.items() if each.is_fetched]
            self._cancel_all(sparing=fetched)

    def close(self) -> None:
        """Cancel all tasks, and forget what was not delivered; callable in any thread."""
        self._closed = True
        self.delivery.clear()
        self._cancel_all()
        if self.loop is not None and self.loop is running_loop():
            self.delivery.changed.set()  # wakes the consumer at once

    def _cancel_all(self, *, sparing: Collection[asyncio.Task[None]] = ()) -> None:
        caller = None if running_loop() is None else asyncio.current_task()
        for task in self.unfinished():
            # A source that closes its own fan-out continues until it gives the next item.
            closes_itself = task is caller and task is self._source
            if task not in sparing and not closes_itself:
                cancel_threadsafe(task)

    def unfinished(self) -> list[asyncio.Task[None]]:
        """Return the tasks that have not ended."""
        tasks = [*self._running] if self._source is None else [self._source, *self._running]
        return [task for task in tasks if not task.done()]


def two_at_once() -> InvalidRequestError:
    """Return the error for a consumer that asks while another one waits."""
    message = "Two tasks asked the fan-out at once; let one wait for the other."
    return InvalidRequestError(message)
