"""How many attempts may be in flight at once: the session finds out, and holds to it.

Twilio refuses by concurrency (20429: too many requests of the account in flight), names the ceiling
nowhere, and lets others of the account use it up. So the limit is learnt from what is refused:

1. One slot an attempt, given first come first served, and given back as its answer is there: it is
   not held while a call waits for its next attempt, nor across a hand-over to the consumer.
2. The limit starts low and grows by one with each success until the first refusal, as TCP's slow
   start does (RFC 5681 section 3.1).
3. A refusal takes the limit down by a factor, once a round trip: an attempt that was admitted
   before the last decrease was counted in it already (RFC 5681 section 3.2, RFC 6582).
4. Then it grows along a cubic (RFC 9438), counted in successes rather than in seconds, so that it
   needs no clock and does as well at 20 ms an answer as at 2 s: back to where it was refused,
   slowly across that place, and ever faster beyond it, where a raised ceiling is.
5. Only a success with all slots in use makes it grow: an idle limit proves nothing (RFC 7661).
6. The window may fall below 1, for there can be more processes than the ceiling has room for. One
   attempt is then in flight at most, and a pause follows each, refused or not: what is left of the
   time is another process's.
7. An attempt that fails otherwise, or is cancelled, says nothing about the ceiling.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol, Self, cast

from .errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

__all__ = ["AdaptiveLimit", "Limiter", "Slot", "shared"]

_START: Final = 4
_DECREASE: Final = 0.3
_QUIET: Final = 24
_ROUNDS: Final = 3
_PACE: Final = 0.15
_FLOOR: Final = 1 / 16


class AdaptiveLimit:
    """The limit and how it learns: arithmetic alone, shared with the simulator."""

    __slots__ = ("_ceiling", "_length", "_plateau", "_quiet", "epoch", "limit", "window")

    def __init__(self, ceiling: int) -> None:
        """Never go above `ceiling`."""
        self._ceiling = ceiling
        #: What the limit is the whole part of; below 1 it is the share of the time.
        self.window = float(min(_START, ceiling))
        self.limit = int(self.window)
        #: How often it was decreased. An attempt carries the number that it was admitted under.
        self.epoch = 0
        self._plateau = 0.0  # where the cubic is flat; 0 before the first refusal
        self._length = 0.0  # successes from a decrease to there
        self._quiet = 0  # successes since the decrease

    def succeeded(self, epoch: int, in_flight: int) -> None:
        """Learn that an attempt of `epoch` was not refused; `in_flight` counts it."""
        if epoch != self.epoch or in_flight < self.limit or self.window >= self._ceiling:
            return
        if not self.epoch:
            self._move(self.window + 1.0)
            return
        self._quiet += 1
        self._move(self._plateau * (1.0 + _DECREASE * (self._quiet / self._length - 1.0) ** 3))

    def refused(self, epoch: int, in_flight: int) -> None:
        """Learn that an attempt of `epoch` was refused for concurrency; `in_flight` counts it."""
        if epoch != self.epoch:
            return
        self.epoch += 1
        top = min(self.window, float(in_flight))
        self._plateau = max(top - 1.0, 0.9 * top)
        self._length = _QUIET * min(1.0, self._plateau) ** 0.5 + _ROUNDS * self._plateau
        self._quiet = 0
        self._move(self._plateau * (1.0 - _DECREASE))

    def pause(self, rng: random.Random) -> float:
        """Return the seconds without an attempt that have to follow the one that ended."""
        if self.window >= 1.0:
            return 0.0
        return rng.uniform(0.0, 2.0 * _PACE * (1.0 / self.window - 1.0))

    def _move(self, window: float) -> None:
        self.window = min(max(window, _FLOOR), float(self._ceiling))
        self.limit = max(1, int(self.window))


class _Later(Protocol):
    """Calls back after some seconds, as `loop.call_later` does."""

    def __call__(self, delay: float, callback: Callable[[], None], /) -> object: ...


def _unheard(_limit: int, _reason: str) -> None:
    """Tell nobody."""


class Limiter:
    """The slots of one session. It can be built outside an event loop, and has no task of its own.

    It needs no closing: whoever waits for a slot is cancelled by its owner.
    """

    def __init__(
        self,
        ceiling: int,
        *,
        changed: Callable[[int, str], None] = _unheard,
        rng: random.Random | None = None,
        later: _Later | None = None,
    ) -> None:
        """Give out `ceiling` slots at most.

        Args:
            ceiling: what the limit never goes above, from 1.
            changed: told the new limit, and `"refused"` or `"succeeded"` as the reason.
            rng: for the pauses.
            later: what pauses; the running loop's `call_later` by default.
        """
        self._adaptive = AdaptiveLimit(ceiling)
        self._changed = changed
        self._rng = random.Random() if rng is None else rng  # noqa: S311 - jitter, not a secret
        self._later = later
        self._loop: asyncio.AbstractEventLoop | None = None
        self._in_flight = 0
        self._queue: OrderedDict[asyncio.Future[int], None] = OrderedDict()
        self._pausing = False

    @property
    def limit(self) -> int:
        """Return how many attempts may be in flight now."""
        return self._adaptive.limit

    @property
    def in_flight(self) -> int:
        """Return how many slots are taken."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Return how many wait for a slot."""
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Return whether one more would have to wait."""
        return self._pausing or bool(self._queue) or self._in_flight >= self._adaptive.limit

    def slot(self) -> Slot:
        """Return a slot, to be taken and given back by `async with`."""
        return Slot(self)

    def __repr__(self) -> str:
        """Show how busy it is."""
        return f"<Limiter: {self._in_flight} of {self.limit} in flight, {self.waiting} waiting>"

    async def take(self) -> int:
        """Wait for a slot, in turn; return the epoch of its admission. `Slot` calls it."""
        self._loop = asyncio.get_running_loop()
        if not self.full:
            self._in_flight += 1
            return self._adaptive.epoch
        turn: asyncio.Future[int] = self._loop.create_future()
        self._queue[turn] = None
        try:
            return await turn
        except BaseException:
            self._queue.pop(turn, None)
            if turn.done() and not turn.cancelled():
                # Granted and cancelled in one turn of the loop: it is the next one's.
                self._in_flight -= 1
                self._admit()
            raise

    def give_back(self) -> None:
        """Let the next one have the slot, after a pause where one is due."""
        self._in_flight -= 1
        pause = 0.0 if self._pausing else self._adaptive.pause(self._rng)
        if pause and self._loop is not None and not self._loop.is_closed():
            self._pausing = True
            (self._later or self._loop.call_later)(pause, self._go_on)
        self._admit()

    def learn(self, lesson: Callable[[AdaptiveLimit, int, int], None], epoch: int) -> None:
        """Apply what an attempt of `epoch` showed: `AdaptiveLimit.succeeded` or `.refused`."""
        before = self._adaptive.limit
        lesson(self._adaptive, epoch, self._in_flight)
        if self._adaptive.limit != before:
            self._changed(self._adaptive.limit, lesson.__name__)

    def _go_on(self) -> None:
        self._pausing = False
        self._admit()

    def _admit(self) -> None:
        while self._queue and not self._pausing and self._in_flight < self._adaptive.limit:
            turn, _ = self._queue.popitem(last=False)
            if not turn.done():  # else it was cancelled in this turn of the loop
                self._in_flight += 1
                turn.set_result(self._adaptive.epoch)


class Slot:
    """Leave for one attempt: `async with limiter.slot() as slot`.

    An attempt that is neither `succeeded` nor `refused` (a transport fault, a 5xx, a cancellation)
    says nothing about the ceiling.
    """

    __slots__ = ("_epoch", "_limiter")

    def __init__(self, limiter: Limiter) -> None:
        """Made by `Limiter.slot`."""
        self._limiter = limiter
        self._epoch = -1

    def succeeded(self) -> None:
        """Note that the attempt was answered, and not refused for concurrency."""
        self._limiter.learn(AdaptiveLimit.succeeded, self._epoch)

    def refused(self) -> None:
        """Note that the attempt was refused for concurrency: 429."""
        self._limiter.learn(AdaptiveLimit.refused, self._epoch)

    async def __aenter__(self) -> Self:
        """Wait for its turn."""
        self._epoch = await self._limiter.take()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Give it back."""
        self._limiter.give_back()


class _Releasable(Protocol):
    async def acquire(self) -> object: ...
    def release(self) -> object: ...


class _Permit:
    """A limiter's `acquire` and `release` as a context."""

    __slots__ = ("_limiter",)

    def __init__(self, limiter: _Releasable) -> None:
        self._limiter = limiter

    async def __aenter__(self) -> None:
        await self._limiter.acquire()

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        releasing = self._limiter.release()
        if inspect.isawaitable(releasing):
            await _finished(cast("Awaitable[object]", releasing))


async def _finished(work: Awaitable[object]) -> None:
    """Await `work` to its end, however often the caller is cancelled meanwhile."""

    async def run() -> None:
        await work

    task = asyncio.get_running_loop().create_task(run(), name="aioparticipants release")
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


_SHARED_ADVICE: Final = (
    "limiter must be an async context manager that can be entered many times at once, as "
    "asyncio.Semaphore and aiolimiter.AsyncLimiter are, or have `async def acquire` and `release`."
)


def shared(limiter: object) -> Callable[[], AbstractAsyncContextManager[object]]:
    """Return what gives a context for each attempt, out of a limiter that is not ours.

    An async context manager is used as one, also where it has `acquire` and `release` besides: it
    knows best what belongs together, and aiolimiter's has no `release`. `acquire` and `release` are
    called by the attempt's own task, as anyio's limiter demands; an async `release` runs to its
    end, however often the attempt is cancelled.

    Raises:
        InvalidRequestError: it is neither.
    """
    kind = type(limiter)
    if hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__"):
        context = cast("AbstractAsyncContextManager[object]", limiter)
        return lambda: context
    acquire, release = getattr(limiter, "acquire", None), getattr(limiter, "release", None)
    instance = not isinstance(limiter, type)
    if instance and inspect.iscoroutinefunction(acquire) and callable(release):
        permit = _Permit(cast("_Releasable", limiter))
        return lambda: permit
    raise InvalidRequestError(_SHARED_ADVICE)
