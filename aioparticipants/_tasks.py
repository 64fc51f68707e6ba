"""The tasks of a session: each is known to it, and none outlives it. Knows asyncio, and no HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import InvalidRequestError, SessionClosedError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Coroutine, Sequence

__all__ = ["SessionTasks", "abandon", "running_loop", "session_closed", "settle"]

T = TypeVar("T")


async def settle(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Wait until all of them are done, however often the caller is cancelled meanwhile.

    A cancellation is raised again at the end. What the tasks raised is not: see `asyncio.wait`.
    """
    cancelled = False
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            cancelled = True
    # A cancelled request closes its socket on the loop's next turn.
    while True:
        try:
            await asyncio.sleep(0)
            break
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


class SessionTasks:
    """The tasks of one session, so that it can end them all."""

    def __init__(self) -> None:
        """Start with none, bound to no loop yet."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
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
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # Looking at the exception tells asyncio that it is not lost: where the stream was
        # dropped nobody is left to ask for it.
        if not task.cancelled():
            task.exception()

    async def aclose(self) -> None:
        """Start no more, cancel what runs, and wait until it is gone."""
        self.closed = True
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await settle(tasks)


def session_closed() -> SessionClosedError:
    """Return what is raised where a closed session is asked for more."""
    return SessionClosedError("The session is closed: make another one.")


def abandon(task: asyncio.Task[Any]) -> None:
    """Cancel a task that nobody waits for, from whatever thread."""
    if task.done():
        return
    loop = task.get_loop()
    if running_loop() is loop:
        task.cancel()
        return
    try:
        loop.call_soon_threadsafe(task.cancel)
    except RuntimeError:
        # The loop is closed, and nothing can run the task any more. asyncio marks its own helper
        # tasks the same way where it knows that they cannot finish.
        task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - no public way


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
