"""`FanOut`: many conferences at once, each isolated from the others. Knows asyncio, and no HTTP.

What it promises, and how:

1. At most `concurrency` conferences are under way or waiting to be handed out. The next SID is
   taken from its source when there is room for it, and not before: a slow consumer holds up the
   source, and memory holds so many results, however long the list is.
2. A conference that fails is a result with an error, and the records that came before it; the
   others go on. With `on_error="raise"` it ends all: what was complete is handed out, and then the
   error is raised.
3. Each conference is a `RecordStream`, read by a task of its own, and one more task feeds them.
   None of these refers to the `FanOut`: dropping its last reference runs its finaliser at once, and
   that cancels them.
4. A cancelled or timed-out wait loses nothing: results are kept until they are handed out. The end
   comes only when the source has ended and every conference of it was handed out; whatever else
   ends it is raised, again by each further call, until `aclose()`.
5. Merged, the records go page by page through the same place: a conference's next page is not
   asked for a hand-over before its last one was taken, so that a huge one does not pile up.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import time
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sized
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, TypeVar, cast

import attrs

from ._stream import abandon, settle
from .errors import InsightsError, InvalidRequestError, SessionClosedError, TransportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from ._stream import RecordStream, SessionTasks
    from .models import Participant

__all__ = ["ConferenceResult", "FanOut", "MergedParticipants", "OnError"]

T = TypeVar("T")

#: What a failing conference does to the others.
OnError: TypeAlias = Literal["isolate", "raise"]
_Open: TypeAlias = "Callable[[str], RecordStream[Participant]]"
_Sids: TypeAlias = "Iterable[str] | AsyncIterable[str]"

_END: Final = object()


@attrs.frozen(kw_only=True)
class ConferenceResult:
    """What became of one conference of a fan-out."""

    conference_sid: str
    """As it was given, also where it is no SID."""
    participants: tuple[Participant, ...] = ()
    """In the server's order; after a failure those that came before it."""
    error: InsightsError | None = None
    """Why the list is not complete; None where it is. Its `cursor` says where to go on."""
    pages: int = 0
    """Pages that were fetched for it."""
    seconds: float = 0.0
    """How long it was under way."""


class _Crew:
    """The tasks of one fan-out, and what they have brought: all but the `FanOut` itself."""

    def __init__(
        self,
        sids: _Sids,
        open_list: _Open,
        *,
        concurrency: int,
        on_error: OnError,
        tasks: SessionTasks,
    ) -> None:
        self.pull = _pull_from(sids)
        self.open_list = open_list
        self.merging = False
        self.tasks = tasks
        self.loop: asyncio.AbstractEventLoop | None = None
        self.ready: deque[tuple[object, Callable[[], None]]] = deque()
        """What can be handed out, and what to do as it is."""
        self.changed = asyncio.Event()
        """There is something new: to hand out, or to raise."""
        self.begun = self.done = self.failed = 0
        self.exhausted = False
        self.failures: list[ConferenceResult] = []
        self.closed = False
        self._stopping = False
        self._raising = on_error == "raise"
        self._room = concurrency
        self._has_room = asyncio.Event()
        # Tasks run in the context the fan-out was made in, whichever task asks for a result.
        self._context = contextvars.copy_context()
        self._feeder: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[ConferenceResult]] = set()
        self._failure: BaseException | None = None

    # --- What the tasks do ---

    def start(self) -> None:
        """Begin to feed, if that was not done yet."""
        if self._feeder is None:
            self._feeder = self._task(lambda: _feed(self), "aioparticipants fan-out")
            self._feeder.add_done_callback(self._fed)
            self.loop = self._feeder.get_loop()

    def begin(self, sid: str) -> None:
        """Begin with a conference."""
        self.begun += 1
        self._room -= 1
        read = _merged if self.merging else _collected
        task = self._task(lambda: read(self, sid), "aioparticipants conference")
        self._running.add(task)
        task.add_done_callback(functools.partial(self._landed, sid))

    async def has_room(self) -> None:
        """Wait until another conference may begin."""
        while self._room == 0:
            self._has_room.clear()
            await self._has_room.wait()

    async def offer(self, records: tuple[Participant, ...]) -> None:
        """Offer the records of a page, and wait until they are taken."""
        taken = asyncio.get_running_loop().create_future()
        self._add(records, lambda: None if taken.done() else taken.set_result(None))
        await taken

    def _task(self, work: Callable[[], Coroutine[object, object, T]], name: str) -> asyncio.Task[T]:
        # A copy each: an eager task cannot enter a context that another one is in.
        return self.tasks.start(work, self._context.copy(), name)

    def _fed(self, feeder: asyncio.Task[None]) -> None:
        self.exhausted = True
        if self.closed:
            self._cancel_all()  # cancelled from another thread, it may have begun one more
        if feeder.cancelled():
            if not self._is_ending():
                self._failure = _cancelled()
        elif feeder.exception() is not None:
            # The source's own: it is raised after what is under way has been handed out.
            self._failure = feeder.exception()
        self.changed.set()

    def _landed(self, sid: str, task: asyncio.Task[ConferenceResult]) -> None:
        self._running.discard(task)
        self.done += 1
        if not task.cancelled():
            failure = task.exception()
            result = None if failure else task.result()
        elif self._is_ending():
            failure, result = None, None
        else:
            failure, result = None, ConferenceResult(conference_sid=sid, error=_cancelled())
        if result is not None and result.error is not None:
            self.failed += 1
            failure = result.error if self._raising else None
        if failure is not None:
            self._stop(failure)
        elif result is not None:
            self._bring(result)
        self.changed.set()

    def _bring(self, result: ConferenceResult) -> None:
        if not self.merging:
            self._add(result, self._free)
            return
        if result.error is not None:
            self.failures.append(result)
        self._free()

    def _add(self, item: object, taken: Callable[[], None]) -> None:
        self.ready.append((item, taken))
        self.changed.set()

    def _free(self) -> None:
        self._room += 1
        self._has_room.set()

    # --- How it ends ---

    def _is_ending(self) -> bool:
        return self.closed or self._stopping or self.tasks.closed

    def _stop(self, failure: BaseException) -> None:
        """End all that is under way; what is ready stays, and the failure follows it."""
        if not self._is_ending():
            self._stopping = True
            self._failure = failure
            self._cancel_all()

    def close(self) -> None:
        """End all that is under way, and forget the rest."""
        self.closed = True
        self.ready.clear()
        self.changed.set()
        self._cancel_all()

    def _cancel_all(self) -> None:
        for task in self.alive():
            task.cancel()

    def alive(self) -> list[asyncio.Task[object]]:
        """Return the tasks that have not ended."""
        every = [self._feeder, *self._running]
        return [cast("asyncio.Task[object]", task) for task in every if task and not task.done()]

    def raise_if_over(self) -> None:
        """Raise what there is to raise when nothing is ready, once nothing is under way."""
        if self.closed:
            raise StopAsyncIteration
        if self._feeder is None or not self.exhausted or self._running:
            return
        if self._failure is not None:
            # A copy of ours, as a raised exception refers to the frames that it came through.
            ours = isinstance(self._failure, InsightsError)
            raise copy.copy(self._failure) if ours else self._failure
        if self.tasks.closed:
            message = "The session was closed meanwhile: begin the rest with another one."
            raise SessionClosedError(message)
        raise StopAsyncIteration


async def _feed(crew: _Crew) -> None:
    """Begin with each conference as there is room for it."""
    while True:
        await crew.has_room()
        sid = await crew.pull()
        if sid is _END:
            return
        crew.begin(cast("str", sid))


async def _collected(crew: _Crew, sid: str) -> ConferenceResult:
    """Return all of a conference's participants."""
    records: list[Participant] = []

    async def keep(page: tuple[Participant, ...]) -> None:
        records.extend(page)

    result = await _read(crew, sid, keep)
    return attrs.evolve(result, participants=tuple(records))


async def _merged(crew: _Crew, sid: str) -> ConferenceResult:
    """Offer all of a conference's participants, page by page."""
    return await _read(crew, sid, crew.offer)


async def _read(
    crew: _Crew, sid: str, take: Callable[[tuple[Participant, ...]], Awaitable[None]]
) -> ConferenceResult:
    """Give each page's records to `take`, and return how it went."""
    began, pages, error = time.monotonic(), 0, None
    try:
        async with crew.open_list(sid) as stream:
            async for page in stream.pages():
                pages += 1
                await take(page.records)
    except InsightsError as failure:
        # Without its frames, which hold the records.
        error = failure.with_traceback(None)
    seconds = time.monotonic() - began
    return ConferenceResult(conference_sid=sid, error=error, pages=pages, seconds=seconds)


def _cancelled() -> TransportError:
    return TransportError("The conference was cancelled from outside; see what cancels all tasks.")


def _pull_from(sids: _Sids) -> Callable[[], Awaitable[object]]:
    """Return a function that awaits the next SID, or `_END`.

    Raises:
        InvalidRequestError: it is no iterable of SIDs.
    """
    if isinstance(sids, AsyncIterable):
        later = aiter(sids)
        return lambda: anext(later, _END)
    if not isinstance(cast("object", sids), Iterable) or isinstance(sids, (str, bytes)):
        message = "conference_sids must be an iterable or async iterable of SIDs."
        raise InvalidRequestError(message)
    each = iter(sids)

    async def pull() -> object:
        return next(each, _END)

    return pull


def _abandon(crew: _Crew) -> None:
    """Cancel what is under way for a fan-out that was dropped, from whatever thread dropped it."""
    crew.closed = True
    for task in crew.alive():
        abandon(task, task.get_loop())


class FanOut(AsyncIterator[ConferenceResult]):
    """Many conferences at once: a `ConferenceResult` for each, as it completes.

    Iterate it (`async for`), best opened (`async with`, after which nothing of it is alive); or
    iterate `participants()` instead, the records of all. Nothing is requested, and no SID taken,
    before the first is asked for.

    Attributes:
        total: the number of conferences, where it is known: at once for a list or set, and for
            any other source at its end.

    Raises, while iterating:
        InsightsError: with `on_error="raise"`, what the first conference failed with.
        SessionClosedError: the session was closed meanwhile.
        InvalidRequestError: two tasks asked at once (it stays usable), or another loop did.
        Exception: whatever the source of the SIDs raised, after what was under way.
    """

    def __init__(
        self,
        sids: _Sids,
        open_list: _Open,
        *,
        concurrency: int,
        on_error: OnError,
        tasks: SessionTasks,
    ) -> None:
        """Made by `InsightsSession`, not by hand."""
        self._crew = _Crew(sids, open_list, concurrency=concurrency, on_error=on_error, tasks=tasks)
        self._length = len(sids) if isinstance(sids, Sized) else None
        self._busy = False
        weakref.finalize(self, _abandon, self._crew).atexit = False

    def __repr__(self) -> str:
        """Show how far it is."""
        total = "?" if self.total is None else self.total
        state = f"{self.done} of {total} done, {self.failed} failed, {self.in_flight} in flight"
        return f"<FanOut: {state}>"

    @property
    def done(self) -> int:
        """Return the number of conferences that are over, the failed ones included."""
        return self._crew.done

    @property
    def failed(self) -> int:
        """Return the number of conferences that failed."""
        return self._crew.failed

    @property
    def in_flight(self) -> int:
        """Return the number of conferences that are under way."""
        return self._crew.begun - self._crew.done

    @property
    def total(self) -> int | None:
        """Return the number of conferences; None while that is not known."""
        return self._crew.begun if self._crew.exhausted else self._length

    @property
    def failures(self) -> tuple[ConferenceResult, ...]:
        """Return the conferences of `participants()` that failed up to now, without records.

        Those of a plain iteration are handed out, and not kept.
        """
        return (*self._crew.failures,)

    def participants(self) -> MergedParticipants:
        """Return the records of all conferences as one stream, instead of a result for each.

        A conference's records keep their order; pages of different ones alternate as they come.
        Conferences that fail are told by `failures` (with `on_error="raise"`, by an error).

        Raises:
            InvalidRequestError: the results are being iterated already.
        """
        if self._crew.loop is not None and not self._crew.merging:
            message = "The results are being iterated: take their participants."
            raise InvalidRequestError(message)
        self._crew.merging = True
        return MergedParticipants(self)

    def __aiter__(self) -> Self:
        """Return itself: it is iterated once."""
        return self

    async def __anext__(self) -> ConferenceResult:
        """Return the next result; raise what the class promises."""
        if self._crew.merging:
            message = "The records are being merged: iterate participants()."
            raise InvalidRequestError(message)
        return cast("ConferenceResult", await self.take())

    async def take(self) -> object:
        """Return what is ready next, and make room for more."""
        if self._busy:
            message = "Two tasks asked the fan-out at once; let one wait for the other."
            raise InvalidRequestError(message)
        self._busy = True
        try:
            await self._something()
            item, taken = self._crew.ready.popleft()
        finally:
            self._busy = False
        taken()
        return item

    async def _something(self) -> None:
        """Wait until something is ready, or raise why nothing will be."""
        crew = self._crew
        if crew.loop not in {None, asyncio.get_running_loop()}:
            message = "The fan-out is in use on another event loop."
            raise InvalidRequestError(message)
        while not crew.ready:
            crew.raise_if_over()
            crew.start()
            crew.changed.clear()
            await crew.changed.wait()

    async def aclose(self) -> None:
        """End it; when it returns, no task or socket of it is alive. Closing twice does nothing.

        Conferences under way are given up; whoever waits for a result meanwhile gets the end.
        """
        crew = self._crew
        crew.close()
        if crew.loop is asyncio.get_running_loop():
            await settle(crew.alive())

    async def __aenter__(self) -> Self:
        """Return itself; `aclose()` follows at the end of the block."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close it."""
        await self.aclose()


class MergedParticipants(AsyncIterator["Participant"]):
    """The records of all conferences of a `FanOut`, as one stream; closing it closes that.

    Raises, while iterating, what `FanOut` does.
    """

    def __init__(self, fan_out: FanOut) -> None:
        """Made by `FanOut.participants()`, not by hand."""
        self._fan_out = fan_out
        self._page: tuple[Participant, ...] = ()
        self._index = 0

    def __aiter__(self) -> Self:
        """Return itself: it is iterated once."""
        return self

    async def __anext__(self) -> Participant:
        """Return the next record; raise what `FanOut` promises."""
        while self._index == len(self._page):
            self._page = cast("tuple[Participant, ...]", await self._fan_out.take())
            self._index = 0
        self._index += 1
        return self._page[self._index - 1]

    async def aclose(self) -> None:
        """End the fan-out, and this with it."""
        self._page, self._index = (), 0
        await self._fan_out.aclose()

    async def __aenter__(self) -> Self:
        """Return itself; `aclose()` follows at the end of the block."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close it."""
        await self.aclose()
