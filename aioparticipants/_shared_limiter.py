"""A limiter of the user's, such as a budget that several processes share; each attempt acquires it.

1. An async context manager is entered and exited, even if it has `acquire` and `release` as well:
   aiolimiter's has no `release`, and what a context manager does is complete in any case.
2. The attempt's own task calls `acquire` and `release`, as anyio's limiter demands. If `release`
   returns an awaitable, that is awaited in a task of the session, so that cancelling the attempt
   does not interrupt it.
3. A release that takes too long is logged, and not waited for: else a deadline, a cancellation or
   the closing of the session would have to wait. Closing the session cancels it.
4. An exception of the limiter is a transient failure of the attempt. The error names its class, and
   has it as the `__cause__`. Its text is left out, as it can contain anything.
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Final, Self, TypeAlias, cast

from ._tasks import wait_ignoring_cancellation
from .errors import InvalidRequestError, TransportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from ._limiter_protocols import AcquireReleaseLimiter, ContextLimiter, SharedLimiter
    from ._tasks import SessionTasks

__all__ = ["Permit", "PermitFactory", "shared_limiter"]

_LOGGER: Final = logging.getLogger("aioparticipants")

#: Seconds that a release may take: many round trips to a Redis, and a small part of a deadline.
_RELEASE_SECONDS: Final = 2.0

_ADVICE: Final = (
    "limiter must be an async context manager that can be entered many times at once, as "
    "asyncio.Semaphore and aiolimiter.AsyncLimiter are, or have `async def acquire` and `release`."
)


PermitFactory: TypeAlias = "Callable[[], AbstractAsyncContextManager[object]]"
"""Returns the context manager of one attempt."""


def shared_limiter(limiter: SharedLimiter, tasks: SessionTasks) -> PermitFactory:
    """Return a function that returns the context manager of one attempt.

    Raises:
        InvalidRequestError: `limiter` is no async context manager, nor has it both methods.
    """
    kind = type(limiter)
    if hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__"):
        context = cast("ContextLimiter", limiter)
        return lambda: Permit(context)
    acquire, release = getattr(limiter, "acquire", None), getattr(limiter, "release", None)
    instance = not isinstance(limiter, type)
    if instance and inspect.iscoroutinefunction(acquire) and callable(release):
        pair = _Pair(cast("AcquireReleaseLimiter", limiter), tasks)
        return lambda: Permit(pair)
    raise InvalidRequestError(_ADVICE)


class Permit:
    """Acquires a shared limiter for one attempt; its exceptions become failures of that attempt."""

    __slots__ = ("_context",)

    def __init__(self, context: ContextLimiter) -> None:
        """Enter and leave `context`."""
        self._context = context

    async def __aenter__(self) -> Self:
        """Acquire; raise TransportError if that fails."""
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
        """Release; raise TransportError if that fails and the attempt has succeeded."""
        try:
            await self._context.__aexit__(kind, error, traceback)
        except Exception as failure:
            if error is None:
                raise _failure(failure, "release") from failure
            _LOGGER.warning("The shared limiter failed to release: %s", type(failure).__name__)


class _Pair:
    """A limiter's `acquire` and `release` as a context manager."""

    __slots__ = ("_limiter", "_tasks")

    def __init__(self, limiter: AcquireReleaseLimiter, tasks: SessionTasks) -> None:
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
        "and whether the limiter's own server can be reached."
    )
    return TransportError(message)
