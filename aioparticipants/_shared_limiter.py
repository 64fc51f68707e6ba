"""A limiter that is not ours, such as a budget that several processes share: taken by each attempt.

1. An async context manager is used as one, also where it has `acquire` and `release` besides: it
   knows best what belongs together, and aiolimiter's has no `release`.
2. `acquire` and `release` are called by the attempt's own task, as anyio's limiter demands. What an
   async `release` returns is awaited in a task of the session, so that no cancellation of the
   attempt stops it half-way.
3. A release that takes too long is logged and left behind, or it would defeat the deadline, a
   cancellation and the closing of the session; the session ends it as it is closed.
4. What the limiter raises is a transient failure of that attempt: it names the class and has the
   error as its `__cause__`; the text stays out, as it can hold anything.
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeAlias, cast

from ._tasks import wait_ignoring_cancellation
from .errors import InvalidRequestError, TransportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from ._tasks import SessionTasks

__all__ = ["Permit", "SharedLimiter", "shared_limiter"]

_LOGGER: Final = logging.getLogger("aioparticipants")

#: Seconds that a release may take: many round trips to a Redis, and not much of a deadline.
_RELEASE_SECONDS: Final = 2.0

_ADVICE: Final = (
    "limiter must be an async context manager that can be entered many times at once, as "
    "asyncio.Semaphore and aiolimiter.AsyncLimiter are, or have `async def acquire` and `release`."
)


class _AcquireRelease(Protocol):
    async def acquire(self) -> object: ...
    def release(self) -> object: ...


SharedLimiter: TypeAlias = "Callable[[], AbstractAsyncContextManager[object]]"
"""Gives a context for each attempt."""


def shared_limiter(limiter: object, tasks: SessionTasks) -> SharedLimiter:
    """Return what gives a context for each attempt, out of a limiter that is not ours.

    Raises:
        InvalidRequestError: it is neither a context manager nor has what acquires and releases.
    """
    kind = type(limiter)
    if hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__"):
        context = cast("AbstractAsyncContextManager[object]", limiter)
        return lambda: Permit(context)
    acquire, release = getattr(limiter, "acquire", None), getattr(limiter, "release", None)
    instance = not isinstance(limiter, type)
    if instance and inspect.iscoroutinefunction(acquire) and callable(release):
        pair = _Pair(cast("_AcquireRelease", limiter), tasks)
        return lambda: Permit(pair)
    raise InvalidRequestError(_ADVICE)


class Permit:
    """A context of a shared limiter, whose errors are failures of the attempt that it is for."""

    __slots__ = ("_context",)

    def __init__(self, context: AbstractAsyncContextManager[object]) -> None:
        """Enter and leave `context`."""
        self._context = context

    async def __aenter__(self) -> Self:
        """Acquire; raise TransportError where that fails."""
        try:
            await self._context.__aenter__()
        except Exception as error:
            raise _failure(error, "acquire") from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release; raise TransportError where that fails, unless the attempt itself has failed."""
        try:
            await self._context.__aexit__(kind, error, traceback)
        except Exception as failure:
            if error is None:
                raise _failure(failure, "release") from failure
            _LOGGER.warning("The shared limiter failed to release: %s", type(failure).__name__)


class _Pair:
    """A limiter's `acquire` and `release` as a context."""

    __slots__ = ("_limiter", "_tasks")

    def __init__(self, limiter: _AcquireRelease, tasks: SessionTasks) -> None:
        self._limiter = limiter
        self._tasks = tasks

    async def __aenter__(self) -> None:
        await self._limiter.acquire()

    async def __aexit__(self, *_exc: object) -> None:
        releasing = self._limiter.release()
        if inspect.isawaitable(releasing):
            task = self._tasks.start_release(cast("Awaitable[object]", releasing))
            await wait_ignoring_cancellation([task], seconds=_RELEASE_SECONDS)
            if task.done() and not task.cancelled():
                task.result()


def _failure(error: Exception, verb: str) -> TransportError:
    message = (
        f"The shared limiter failed to {verb} ({type(error).__name__}): see the error's __cause__, "
        "and whether what the limiter itself needs can be reached."
    )
    return TransportError(message)
