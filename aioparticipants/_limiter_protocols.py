"""What can be given as `limiter=`: the two protocols, for type checkers and for readers.

An attempt acquires the limiter before its request is sent, and releases it after its reply was
read. `_shared_limiter` does that, and says in which order and by which task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import TracebackType

__all__ = ["AcquireReleaseLimiter", "ContextLimiter", "SharedLimiter"]


@runtime_checkable
class ContextLimiter(Protocol):
    """A limiter that is an async context manager, entered once by each attempt.

    It has to allow that many attempts are inside at once. `asyncio.Semaphore`,
    `anyio.CapacityLimiter` and `aiolimiter.AsyncLimiter` are such limiters.
    """

    def __aenter__(self) -> Awaitable[object]:
        """Wait until an attempt may start."""
        ...

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Awaitable[object]:
        """Note that the attempt has ended."""
        ...


class AcquireReleaseLimiter(Protocol):
    """A limiter with an async `acquire`, and a `release` that may be async or not.

    `isinstance` cannot tell whether `acquire` is async, so this protocol does not support it.
    """

    async def acquire(self) -> object:
        """Wait until an attempt may start."""
        ...

    def release(self) -> object:
        """Note that the attempt has ended; an awaitable that it returns is awaited."""
        ...


#: What `InsightsSession(limiter=...)` takes.
SharedLimiter: TypeAlias = ContextLimiter | AcquireReleaseLimiter
