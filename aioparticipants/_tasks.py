"""The tasks of a session: it knows each of them, and cancels them all as it is closed.

Uses asyncio, and no HTTP. Everything that closes something waits by `wait_ignoring_cancellation`:

1. The wait goes on, whoever cancels the caller and however often: anyio cancels again on every
   turn of the event loop. So it waits only for tasks that end without the caller (a task that was
   cancelled, a callback). At the end it raises the first `CancelledError` that it caught, the same
   object, as anyio recognises its own.
2. It never waits for the task that it runs in, nor for a task that waits for that one: a callback
   may close the session whose request it belongs to.
3. It ends within a time limit. A task that has not ended by then is left, and a warning is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .errors import InvalidRequestError, SessionClosedError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
    from types import TracebackType

__all__ = [
    "ClosedAtEnd",
    "SessionTasks",
    "cancel_threadsafe",
    "running_loop",
    "session_closed",
    "wait_ignoring_cancellation",
]

T = TypeVar("T")

_LOGGER: Final = logging.getLogger("aioparticipants")

#: Seconds that cleaning up may take. A cancelled request needs a few turns of the loop; only the
#: user's code (a source of SIDs, a trace hook) can take longer.
_CLEANUP_SECONDS: Final = 10.0

#: The tasks that wait in `wait_ignoring_cancellation`, and the tasks that each of them waits for.
_waits: Final[dict[asyncio.Task[Any] | None, list[asyncio.Task[Any]]]] = {}


async def wait_ignoring_cancellation(
    tasks: Iterable[asyncio.Task[Any]], *, seconds: float = _CLEANUP_SECONDS
) -> None:
    """Wait until all tasks have ended, however often the caller is cancelled meanwhile.

    Args:
        tasks: of the running loop. Their exceptions are not raised here: see `asyncio.wait`.
        seconds: the time limit. The tasks that are left then are logged, and not waited for.

    Raises:
        CancelledError: the first one that was caught meanwhile.
    """
    loop, caller = asyncio.get_running_loop(), asyncio.current_task()
    end = loop.time() + seconds
    unfinished = [task for task in tasks if not task.done()]
    first: asyncio.CancelledError | None = None
    _waits[caller] = unfinished
    try:
        while pending := [each for each in unfinished if not _waits_for(each, caller)]:
            left = end - loop.time()
            if left <= 0:
                names = ", ".join(sorted(each.get_name() for each in pending))
                _LOGGER.warning("Not ended after %s s, and left behind: %s", seconds, names)
                break
            first = await _wait(pending, first, seconds=left)
        # The transport of a cancelled request closes its socket in a callback, one turn later.
        next_turn: asyncio.Future[None] = loop.create_future()
        loop.call_soon(next_turn.set_result, None)
        while not next_turn.done():
            first = await _wait([next_turn], first)
        if first is not None:
            raise first
    finally:
        del _waits[caller]
        first = caller = None  # else this frame and the error that it raises refer to each other


async def _wait(
    futures: Collection[asyncio.Future[Any]],
    first: asyncio.CancelledError | None,
    *,
    seconds: float | None = None,
) -> asyncio.CancelledError | None:
    """Wait for futures, or until cancelled; return the first cancellation up to now, if any."""
    try:
        await asyncio.wait(futures, timeout=seconds)
    except asyncio.CancelledError as error:
        return first or error
    return first


class ClosedAtEnd(ABC):
    """Something that is closed at the end of an `async with` block, whatever ended the block.

    If a cancellation ended the block, a further one while it closes does not replace the first.
    """

    @abstractmethod
    async def aclose(self) -> None:
        """Close it."""

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        try:
            await self.aclose()
        except asyncio.CancelledError:
            if not isinstance(error, asyncio.CancelledError):
                raise


def _waits_for(task: asyncio.Task[Any], target: asyncio.Task[Any] | None) -> bool:
    """Tell whether a task has ended, or cannot end before `target`, so that `target` must not wait.

    Only asyncio knows which task another one awaits directly, in a private attribute. Without that
    attribute the time limit ends the wait.
    """
    if task.done():
        return True
    seen, unseen = set[asyncio.Task[Any]](), [task]
    while unseen:
        each = unseen.pop()
        if each is target:
            return True
        if each not in seen:
            seen.add(each)
            unseen += _waits.get(each, ())
            awaited: Any = getattr(each, "_fut_waiter", None)  # a task, or any other future
            unseen += () if awaited is None else (awaited,)
    return False


class SessionTasks:
    """The tasks of one session, all of which it can cancel.

    Attributes:
        closed: whether no more tasks can be started.
    """

    def __init__(self) -> None:
        """Begin without tasks, for the loop that starts the first one."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._releases: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Future[None] | None = None  # made for the first that sleeps
        self.closed: bool = False

    def start(
        self,
        work: Callable[[], Coroutine[object, object, T]],
        context: contextvars.Context,
        name: str,
    ) -> asyncio.Task[T]:
        """Run `work()` as a task of that name, in `context`.

        Raises:
            SessionClosedError: the session is closed.
            InvalidRequestError: the session is in use on another event loop.
        """
        if self.closed:
            raise session_closed()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            message = "The session is in use on another event loop: make one session per loop."
            raise InvalidRequestError(message)
        task = loop.create_task(work(), name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def start_release(self, releasing: Awaitable[T]) -> asyncio.Task[T]:
        """Await a release in a task of its own, even while the session is being closed."""

        async def release() -> T:
            return await releasing

        task = asyncio.get_running_loop().create_task(release(), name="aioparticipants release")
        self._releases.add(task)
        task.add_done_callback(self._on_done)
        return task

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds, in the caller's own task.

        Raises:
            SessionClosedError: the session is closed, or was closed meanwhile; raised at once.
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
        if not self.closed:
            await asyncio.wait([self._closing], timeout=seconds)
        if self.closed:
            raise session_closed()

    def _wake_sleepers(self) -> None:
        closing = self._closing
        if closing is None:
            return
        if closing.get_loop() is running_loop():
            _set(closing)
        else:
            with contextlib.suppress(RuntimeError):  # that loop is closed, so nobody sleeps
                closing.get_loop().call_soon_threadsafe(_set, closing)

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._releases.discard(task)
        # asyncio logs an exception that nobody has read. If the stream was dropped, nobody will.
        if not task.cancelled():
            task.exception()

    async def aclose(self, *, sparing: asyncio.Task[Any] | None = None) -> None:
        """Start no more tasks, cancel all but `sparing`, and wait until they have ended."""
        self.closed = True
        self._wake_sleepers()
        for running in (self._tasks, self._releases):  # the former start the latter as they end
            tasks = [*running]
            for task in tasks:
                if task is not sparing:
                    cancel_threadsafe(task)
            loop = asyncio.get_running_loop()
            await wait_ignoring_cancellation(each for each in tasks if each.get_loop() is loop)


def _set(future: asyncio.Future[None]) -> None:
    """Set a future, unless that was done."""
    if not future.done():
        future.set_result(None)


def session_closed() -> SessionClosedError:
    """Return the error for the use of a closed session."""
    return SessionClosedError("The session is closed: make another one.")


def cancel_threadsafe(task: asyncio.Task[Any]) -> None:
    """Cancel a task unless it has ended; callable in any thread."""
    if task.done():
        return
    loop = task.get_loop()
    if running_loop() is loop:
        task.cancel()
        return
    try:
        loop.call_soon_threadsafe(task.cancel)
    except RuntimeError:
        # The loop is closed, so the task cannot run again. asyncio marks its own helper tasks the
        # same way if it knows that they cannot finish.
        task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - no public way


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
