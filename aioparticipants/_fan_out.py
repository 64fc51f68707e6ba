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
   ends it is raised, again by each further call, until `aclose()`. The first of these stays. As
   with a `RecordStream`, what begins anew when it is used up or closed is an InvalidRequestError,
   and so is to go on with one that was closed before its end.
5. Merged, the records go page by page through the same place: a conference's next page is not
   asked for a hand-over before its last one was taken, so that a huge one does not pile up.
6. What is fetched stays as it came until it is about to be handed out, and few conferences have
   their turn to be decoded at once: decoded records take four times the memory, and fifty
   conferences of them cost more in cache misses than in structuring. Of a long one, a few pages
   come before its turn. Who has to wait for a page meanwhile, as there are more, gives its turn up,
   and decodes that page without one. However a conference ends, its turn and its room are free
   again at once, unless they travel with a result that is ready: then as that is taken.
7. A conference that only waits for its turn is complete: where the first failure ends all, it is
   handed out. Where the session is closed, it is given up with the rest.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sized
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, TypeVar, cast

import attrs

from ._paging import RawPage
from ._tasks import (
    ClosedAtEnd,
    cancel_threadsafe,
    running_loop,
    wait_ignoring_cancellation,
)
from .errors import (
    InsightsError,
    InvalidRequestError,
    ResponseError,
    SessionClosedError,
    TransportError,
    copied,
)
from .models import ProcessingState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Iterator

    from ._prefetching import PagesAhead
    from ._stream import RecordStream
    from ._tasks import SessionTasks
    from .models import Page, Participant, RecordProblem

__all__ = ["ConferenceResult", "FanOut", "MergedParticipants", "OnError"]

T = TypeVar("T")

#: What a failing conference does to the others.
OnError: TypeAlias = Literal["isolate", "raise"]
_Open: TypeAlias = "Callable[[str], tuple[RecordStream[Participant], PagesAhead]]"
_Sids: TypeAlias = "Iterable[str] | AsyncIterable[str]"

#: Conferences that have their turn at once: the one to hand out next, and the one after it.
_TURNS: Final = 2
#: Pages of a conference that are fetched before its turn: all that most have, and not so many that
#: much was asked for in vain where the first proves wrong.
_PAGES: Final = 4

_END: Final = object()
_FINAL: Final = (ProcessingState.COMPLETE, ProcessingState.TIMEOUT)


@attrs.frozen(kw_only=True)
class ConferenceResult:
    """What became of one conference of a fan-out."""

    conference_sid: str
    """As it was given, also where it is no SID."""
    participants: tuple[Participant, ...] = ()
    """In the server's order; after a failure those that came before it."""
    error: InsightsError | None = None
    """Why the list is not complete; None where it is. Its `cursor` says where to go on."""
    problems: tuple[RecordProblem, ...] = ()
    """With `on_invalid="keep"`: the records that could not be read at all."""
    pages: int = 0
    """Pages that were fetched for it."""
    seconds: float = 0.0
    """How long it was under way; what it waited to be decoded, once fetched, is left out."""

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be expected: complete, with records, each of them final.

        A summary can take 30 minutes to be complete, and until then a list can be empty or short,
        its records `in_progress`. `timeout` is final, too: Twilio gave up after 24 hours.
        https://www.twilio.com/docs/voice/voice-insights/api/conference/participant-summary-resource
        """
        return (
            self.error is None
            and bool(self.participants)
            and all(each.processing_state in _FINAL for each in self.participants)
        )


class _Turn:
    """A conference's turn to have its records decoded, until they are handed out."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self.waited: float = 0.0
        """Seconds, in all."""
        self.waiting: bool = False
        """Whether it is all that the conference waits for."""
        self.come: bool = False
        """Whether it has come, and was not given up."""
        self._turns = turns

    async def take(self) -> None:
        """Wait for it; do nothing where it has come."""
        if not self.come:
            began = time.monotonic()
            self.waiting = True
            try:
                await self._turns.acquire()
            finally:
                self.waiting = False
                self.waited += time.monotonic() - began
            self.come = True

    def give_up(self) -> None:
        """Let another one have it; do nothing where it has not come."""
        if self.come:
            self.come = False
            self._turns.release()


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
        starting: Callable[[], object],
    ) -> None:
        self.pull: Callable[[], Awaitable[object]] = _pull_from(sids)
        self.open_list = open_list
        self.merging: bool = False
        self.loop: asyncio.AbstractEventLoop | None = None
        """The one that it was started on."""
        self.begun: int = 0
        self.done: int = 0
        self.failed: int = 0
        self.drained: bool = False
        """The source has come to its end."""
        self.used_up: bool = False
        """So has the consumer."""
        self.failures: list[ConferenceResult] = []
        self.problems: list[RecordProblem] = []
        self.rest: Iterator[Participant] = iter(())
        """What was not handed out yet of the page at hand, where records are merged."""
        self.forget: Callable[[], object] = _nothing
        """Takes back the finaliser's hold on this."""
        self._tasks = tasks
        self._starting = starting
        self._ready: deque[tuple[object, Callable[[], object]]] = deque()
        """What can be handed out, and what to do as it is."""
        self._changed = asyncio.Event()
        """There is something new: to hand out, or to raise."""
        self.is_asked: bool = False
        """Whether a consumer waits for something."""
        self._closed = False
        self._stopping = False
        self._raising = on_error == "raise"
        self._turns = asyncio.Semaphore(_TURNS)
        self._room = concurrency
        self._has_room = asyncio.Event()
        # Tasks run in the context the fan-out was made in, whichever task asks for a result.
        self._context = contextvars.copy_context()
        self._feeder: asyncio.Task[None] | None = None
        self._running: dict[asyncio.Task[ConferenceResult], _Turn] = {}
        self._failure: Callable[[], BaseException] | None = None

    @property
    def in_flight(self) -> int:
        return len(self._running)

    # --- What the consumer asks for ---

    async def take(self) -> object:
        """Return what is ready next, and make room for more."""
        if self.is_asked:
            raise _two_at_once()
        self.is_asked = True
        try:
            await self._something()
            item, taken = self._ready.popleft()
        finally:
            self.is_asked = False
        taken()
        return item

    def check_unused(self) -> None:
        """Raise InvalidRequestError where it is used up, or was closed."""
        if self.used_up:
            message = "The fan-out is used up: all was handed out. Make another one."
            raise InvalidRequestError(message)
        if self._closed:
            raise _closed()

    async def _something(self) -> None:
        """Wait until something is ready, or raise why nothing will be."""
        if not self._closed and self.loop not in {None, asyncio.get_running_loop()}:
            message = "The fan-out is in use on another event loop."
            raise InvalidRequestError(message)
        while not self._ready:
            self._raise_if_over()
            self._changed.clear()
            self._start()
            await self._changed.wait()

    def _raise_if_over(self) -> None:
        """Raise what there is to raise when nothing is ready, once nothing is under way."""
        if self.used_up:
            raise StopAsyncIteration
        if self._closed:
            raise _closed()
        if self.loop is None or self._feeder is not None or self._running:
            return
        if self._failure is None:
            self.used_up = True
            raise StopAsyncIteration
        self.forget()  # else what is raised, kept here with its frames, would keep the fan-out
        raise self._failure()

    def _start(self) -> None:
        """Begin to feed, if that was not done yet."""
        if self.loop is None:
            self._starting()
            self._feeder = self._task(lambda: _feed(self), "aioparticipants fan-out")
            self._feeder.add_done_callback(self._fed)
            self.loop = self._feeder.get_loop()

    # --- What the tasks do ---

    def begin(self, sid: str) -> None:
        """Begin with a conference."""
        turn = _Turn(self._turns)
        task = self._task(lambda: _read(self, sid, turn), "aioparticipants conference")
        self.begun += 1
        self._room -= 1
        self._running[task] = turn
        task.add_done_callback(functools.partial(self._landed, sid))

    async def has_room(self) -> None:
        """Wait until another conference may begin."""
        while self._room == 0:
            self._has_room.clear()
            await self._has_room.wait()

    async def offer(self, records: tuple[Participant, ...]) -> None:
        """Offer the records of a page, and wait until they are taken."""
        taken = asyncio.Event()
        self._add(records, taken.set)
        await taken.wait()

    def _task(self, work: Callable[[], Coroutine[object, object, T]], name: str) -> asyncio.Task[T]:
        # A copy each: an eager task cannot enter a context that another one is in.
        return self._tasks.start(work, self._context.copy(), name)

    def _fed(self, feeder: asyncio.Task[None]) -> None:
        self._feeder = None
        if self._closed:
            self._cancel_all()  # dropped in another thread, it may have begun one more
        if feeder.cancelled():
            self._fail(self._interrupted(None))
        elif (failure := feeder.exception()) is not None:
            # The source's own: it is raised after what is under way has been handed out.
            self._fail(failure)
        self._changed.set()

    def _landed(self, sid: str, task: asyncio.Task[ConferenceResult]) -> None:
        turn = self._running.pop(task)
        result = self._result_of(sid, task)
        if result is None or not self._is_ready(result, turn):
            self._free(turn)
        self._changed.set()

    def _result_of(self, sid: str, task: asyncio.Task[ConferenceResult]) -> ConferenceResult | None:
        """Return what became of a conference; None where all ends with it."""
        if task.cancelled():
            if not self.is_ending():  # before its first step
                return ConferenceResult(conference_sid=sid, error=_cancelled(sid, None))
            self._fail(self._interrupted(sid))
            return None
        failure = task.exception()
        if failure is not None:  # a defect, which is not hidden
            self._stop(failure)
            return None
        return task.result()

    def _is_ready(self, result: ConferenceResult, turn: _Turn) -> bool:
        """Hand on what became of a conference, its turn with it; tell whether it waits there."""
        self.done += 1
        self.failed += result.error is not None
        if result.error is not None and self._raising:
            self._stop(result.error if self.merging else _from_the_start(result.error))
            return False
        if not self.merging:
            return self._add(result, functools.partial(self._free, turn))
        self.problems += result.problems
        if result.error is not None:
            self.failures.append(result)
        return False

    def _add(self, item: object, taken: Callable[[], object]) -> bool:
        """Have something handed out next; tell whether it will be."""
        if self._closed:
            return False
        self._ready.append((item, taken))
        self._changed.set()
        return True

    def _free(self, turn: _Turn) -> None:
        turn.give_up()
        self._room += 1
        self._has_room.set()

    # --- How it ends ---

    def is_ending(self) -> bool:
        """Tell whether tasks are cancelled because all is to end."""
        return self._closed or self._stopping or self._tasks.closed

    def _interrupted(self, sid: str | None) -> InsightsError:
        """Return why a task was cancelled; where it was closed or stopped, that does not matter."""
        if self._tasks.closed:
            message = "The session was closed meanwhile: begin the rest with another one."
            return SessionClosedError(message)
        return _cancelled(sid, None)

    def _fail(self, failure: BaseException) -> None:
        """Keep what is to be raised in the end, if it is the first."""
        if self._failure is None:
            # A copy of ours, as a raised exception refers to the frames that it came through.
            again = functools.partial(copied, failure)
            own = functools.partial(failure.with_traceback, failure.__traceback__)
            self._failure = again if isinstance(failure, InsightsError) else own

    def _stop(self, failure: BaseException) -> None:
        """End all that is under way; what is complete stays, and the failure follows it."""
        if not self.is_ending():
            self._stopping = True
            self._fail(failure)
            whole = () if self.merging else self._complete()
            self._cancel_all(sparing=whole)

    def close(self) -> None:
        """End all that is under way, and forget the rest; from whatever thread."""
        self._closed = True
        self._ready.clear()
        self.rest = iter(())
        self._cancel_all()
        if self.loop is not None and self.loop is running_loop():
            self._changed.set()  # whoever waits is told at once

    def _complete(self) -> list[asyncio.Task[Any]]:
        """Return the tasks of conferences that were fetched, and are being decoded or about to."""
        return [task for task, turn in self._running.items() if turn.waiting or turn.come]

    def _cancel_all(self, *, sparing: Collection[asyncio.Task[Any]] = ()) -> None:
        # A source that closes its own fan-out goes on to the end of its step.
        caller = None if running_loop() is None else asyncio.current_task()
        for task in self.alive():
            if task not in sparing and task is not caller:
                cancel_threadsafe(task)

    def alive(self) -> list[asyncio.Task[object]]:
        """Return the tasks that have not ended."""
        every = [self._feeder, *self._running]
        return [cast("asyncio.Task[object]", task) for task in every if task and not task.done()]


def _nothing() -> None:
    """Do nothing."""


async def _feed(crew: _Crew) -> None:
    """Begin with each conference as there is room for it."""
    feeder = cast("asyncio.Task[None]", asyncio.current_task())
    while True:
        await crew.has_room()
        sid = await crew.pull()
        # The source has swallowed the cancellation, or closed the fan-out itself.
        if feeder.cancelling() or crew.is_ending():
            raise asyncio.CancelledError
        if sid is _END:
            crew.drained = True
            return
        crew.begin(cast("str", sid))


async def _read(crew: _Crew, sid: str, turn: _Turn) -> ConferenceResult:
    """Read a conference: offer each page where they are merged, else keep all; tell how it went."""
    began, pages, records = time.monotonic(), 0, list["Participant"]()
    stream: RecordStream[Participant] | None = None
    error: InsightsError | None = None
    problems: tuple[RecordProblem, ...] = ()
    try:
        stream, ahead = crew.open_list(sid)
        async with stream:
            ahead.before_waiting = turn.give_up
            if not crew.merging:
                await ahead.gather(_PAGES)
            source = stream.pages()
            while (page := await _next_in_turn(source, ahead, turn)) is not None:
                pages += 1
                if crew.merging:
                    await crew.offer(page.records)
                    turn.give_up()
                else:
                    records += page.records
    except InsightsError as failure:
        # Without its frames, which hold the records.
        error = failure.with_traceback(None)
    except asyncio.CancelledError:
        if stream is None or crew.is_ending():
            raise
        error = _cancelled(sid, stream.cursor)
    if stream is not None:
        problems = stream.problems
    return ConferenceResult(
        conference_sid=sid,
        participants=tuple(records),
        error=error,
        problems=problems,
        pages=pages,
        seconds=time.monotonic() - began - turn.waited,
    )


async def _next_in_turn(
    source: AsyncIterator[Page[Participant]], ahead: PagesAhead, turn: _Turn
) -> Page[Participant] | None:
    """Return the next page, decoded in its turn; None at the end."""
    if isinstance(await ahead.next(), RawPage):
        await turn.take()
    return await anext(source, None)


def _cancelled(sid: str | None, cursor: str | None) -> InsightsError:
    message = "A task of the fan-out was cancelled from outside; see what cancels all tasks."
    return TransportError(message, conference_sid=sid, cursor=cursor)


def _from_the_start(error: InsightsError) -> InsightsError:
    """Return the error of a conference of which nothing was handed out, and nothing will be."""
    error = copied(error)
    error.cursor = None
    if isinstance(error, ResponseError):
        error.cursor_after = None
    return error


def _two_at_once() -> InvalidRequestError:
    message = "Two tasks asked the fan-out at once; let one wait for the other."
    return InvalidRequestError(message)


def _closed() -> InvalidRequestError:
    message = "The fan-out was closed before its end; what it had not handed out is given up."
    return InvalidRequestError(message)


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


class FanOut(ClosedAtEnd, AsyncIterator[ConferenceResult]):
    """Many conferences at once: a `ConferenceResult` for each, as it completes.

    Iterate it (`async for`), best opened (`async with`, after which nothing of it is alive); await
    it or its `all()`, for a list of all results; or iterate `participants()` instead, the records
    of all. Nothing is requested, and no SID taken, before the first is asked for.

    Attributes:
        total: the number of conferences, where it is known: at once for a list or set, and for
            any other source at its end.

    Raises, while iterating:
        InsightsError: with `on_error="raise"`, what the first conference failed with.
        SessionClosedError: the session was closed meanwhile.
        InvalidRequestError: two tasks asked at once (it stays usable), or another loop did; it was
            closed, by whomever; or it is used up and was to begin anew.
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
        starting: Callable[[], object],
    ) -> None:
        """Made by `InsightsSession`, not by hand; `starting` is called once, at the first ask."""
        self._crew = _Crew(
            sids,
            open_list,
            concurrency=concurrency,
            on_error=on_error,
            tasks=tasks,
            starting=starting,
        )
        self._length = len(sids) if isinstance(sids, Sized) else None
        finaliser = weakref.finalize(self, self._crew.close)
        finaliser.atexit = False
        self._crew.forget = finaliser.detach

    def __repr__(self) -> str:
        """Show how far it is."""
        total = "?" if self.total is None else self.total
        state = f"{self.done} of {total} done, {self.failed} failed, {self.in_flight} in flight"
        return f"<FanOut: {state}>"

    @property
    def done(self) -> int:
        """Return the number of conferences that are over, the failed ones included.

        What was given up, as the fan-out or its session was closed, does not count.
        """
        return self._crew.done

    @property
    def failed(self) -> int:
        """Return the number of conferences that failed."""
        return self._crew.failed

    @property
    def in_flight(self) -> int:
        """Return the number of conferences that are under way.

        Those are among them that wait to be decoded, which is done as the ones before are taken.
        """
        return self._crew.in_flight

    @property
    def total(self) -> int | None:
        """Return the number of conferences; None while that is not known."""
        return self._crew.begun if self._crew.drained else self._length

    @property
    def failures(self) -> tuple[ConferenceResult, ...]:
        """Return the conferences of `participants()` that failed up to now, without records.

        Those of a plain iteration are handed out, and not kept.
        """
        return (*self._crew.failures,)

    @property
    def problems(self) -> tuple[RecordProblem, ...]:
        """Return, for `participants()` with `on_invalid="keep"`, the records that were unreadable.

        They are those of the conferences that are over. A plain iteration has them in its results.
        """
        return (*self._crew.problems,)

    def participants(self) -> MergedParticipants:
        """Return the records of all conferences as one stream, instead of a result for each.

        A conference's records keep their order; pages of different ones alternate as they come.
        Conferences that fail are told by `failures` (with `on_error="raise"`, by an error). Asked
        for again, it goes on where it is.

        Raises:
            InvalidRequestError: the results are being iterated already; it is used up, or closed.
        """
        self._crew.check_unused()
        if self._crew.loop is not None and not self._crew.merging:
            message = "The results are being iterated: take their participants."
            raise InvalidRequestError(message)
        self._crew.merging = True
        return MergedParticipants(self, self._crew)

    def __await__(self) -> Generator[object, None, list[ConferenceResult]]:
        """Do as `all()`."""
        return self.all().__await__()

    async def all(self) -> list[ConferenceResult]:
        """Return the results that were not handed out yet, as a list, and close the fan-out.

        It is all of them or none: after an error, or a cancellation, it is closed without them. A
        coroutine, so that `asyncio.run` and `TaskGroup.create_task` take it.
        """
        self._crew.check_unused()
        self._check_plain()
        if self._crew.is_asked:  # before it is closed under the other
            raise _two_at_once()
        async with self:
            return [result async for result in self]

    def __aiter__(self) -> Self:
        """Return itself: it is iterated once."""
        self._crew.check_unused()
        return self

    async def __anext__(self) -> ConferenceResult:
        """Return the next result; raise what the class promises."""
        self._check_plain()
        return cast("ConferenceResult", await self._crew.take())

    def _check_plain(self) -> None:
        """Raise InvalidRequestError where the records are merged."""
        if self._crew.merging:
            message = "The records are being merged: iterate participants()."
            raise InvalidRequestError(message)

    async def aclose(self) -> None:
        """End it; when it returns, no task or socket of it is alive. Closing twice does nothing.

        Conferences under way are given up. Whoever waits for a result meanwhile, or asks for one
        later, gets an InvalidRequestError. A source that closes it is not waited for.
        """
        crew = self._crew
        crew.close()
        # Elsewhere they cannot be waited for; with no loop at all, it was the caller that ended.
        if crew.loop is not None and crew.loop is running_loop():
            await wait_ignoring_cancellation(crew.alive())

    async def __aenter__(self) -> Self:
        """Return itself; `aclose()` follows at the end of the block."""
        self._crew.check_unused()
        return self


class MergedParticipants(ClosedAtEnd, AsyncIterator["Participant"]):
    """The records of all conferences of a `FanOut`, as one stream; closing it closes that.

    Raises, while iterating, what `FanOut` does.
    """

    def __init__(self, fan_out: FanOut, crew: _Crew) -> None:
        """Made by `FanOut.participants()`, not by hand."""
        self._fan_out = fan_out
        self._crew = crew

    def __aiter__(self) -> Self:
        """Return itself: it is iterated once."""
        self._crew.check_unused()
        return self

    async def __anext__(self) -> Participant:
        """Return the next record; raise what `FanOut` promises."""
        crew = self._crew
        while (record := next(crew.rest, None)) is None:
            crew.rest = iter(cast("tuple[Participant, ...]", await crew.take()))
        return record

    async def aclose(self) -> None:
        """End the fan-out, and this with it."""
        await self._fan_out.aclose()

    async def __aenter__(self) -> Self:
        """Return itself; `aclose()` follows at the end of the block."""
        self._crew.check_unused()
        return self
