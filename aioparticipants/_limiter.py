"""A session's limit on the attempts in flight, which adapts to Twilio's ceiling.

Twilio limits concurrency: it answers 429 (error 20429) when too many requests of the account are in
flight. It documents no ceiling, and other programs of the account use part of it. So the limiter
learns the limit by congestion control, as TCP learns its window: a success is an acknowledged
packet, a 429 is a lost one, and the window counts attempts instead of bytes.

1. Slots. Each attempt acquires a slot, first come, first served, and releases it when its reply is
   read. No slot is held while a call waits to retry, or while the consumer has control.
2. Slow start. The window starts small and grows by one with each success until the first 429
   (RFC 5681, 3.1).
3. Multiplicative decrease. A 429 multiplies the window by `_BETA`, at most once a round trip: an
   attempt that was admitted before the last decrease does not decrease it again (RFC 6582).
4. CUBIC. Then the window grows along a cubic (RFC 9438): fast up to the plateau (W_max, just below
   the window that got the 429), slowly around it, and ever faster beyond it, to find a ceiling that
   rose. Unlike CUBIC it counts successes, not seconds: it needs no clock, and behaves the same
   whether a reply takes 20 ms or 2 s.
5. Plateau decay. Further 429s with no success between them lower the window but not the plateau,
   so that the window is soon back after an outage. Each success before a 429 lowers the plateau by
   a factor, but not below the window that got the 429: it adapts to a ceiling that fell. A
   long outage that lets some attempts through looks like such a ceiling, and recovery is slow.
6. A 429 while fewer than half of the slots are used counts as one at half. It proves that the
   account is full, not that the window is too large; if it is, the next 429s show it.
7. Only a success with all slots in use makes the window grow: an unused window was not tested
   (RFC 7661).
8. Pacing. There can be more processes than the ceiling allows attempts, so the window may fall
   below 1. The limit is then 1, and a pause follows each attempt, in which other processes send
   theirs. Without the pause each attempt would be sent as soon as the previous one got its 429, and
   the load would never fall.
9. An attempt that fails otherwise or is cancelled says nothing about the ceiling.

Processes that share an account converge to about equal shares, because a larger window gets more
429s. `tests/benchmarks/limiter.py` simulates all of this; the constants were chosen by it.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol, Self

from .instrumentation import LimitChanged

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AdaptiveLimit", "CallLater", "Limiter", "Slot"]

# `python tests/benchmarks/limiter.py constants recovery` compares these with other values.

#: The window at the start. A larger one gets more 429s when many processes start together.
_INITIAL_WINDOW: Final = 4
#: What a 429 multiplies the window by (beta_cubic in RFC 9438). A larger one gets more 429s when
#: the ceiling falls; a smaller one leaves more of the ceiling unused.
_BETA: Final = 0.8
#: The plateau as a factor of the window that got the 429, or one less than that window, whichever
#: is more. At the window itself the next 429 would come too soon.
_PLATEAU_FACTOR: Final = 0.8
#: The factor by which each success before a 429 lowers the plateau. A smaller one forgets the
#: window too fast in an outage that lets some attempts through; a larger one finds a ceiling that
#: fell too slowly, and gets more 429s.
_PLATEAU_DECAY: Final = 0.95
#: The share of the window that counts as used, at least. A smaller one lets a single 429 with few
#: attempts in flight cost most of the window; a larger one gets more 429s when the account is full.
_MIN_USE: Final = 0.5
#: The successes from a decrease to the plateau (K in RFC 9438): a number, plus some round trips.
#: The number matters where many processes share a ceiling, the round trips where there is one
#: process. Fewer get more 429s; more take longer to find a ceiling that rose. For a plateau below 1
#: the number shrinks with its root, so that a small share grows sooner than a large one.
_GROWTH_SUCCESSES: Final = 24
_GROWTH_ROUND_TRIPS: Final = 3
#: Seconds: the mean pause for a window of 1/2. A window of 1/n pauses n - 1 times as long. Shorter
#: pauses let calls run out of attempts; longer ones leave more of the ceiling unused.
_MEAN_PAUSE: Final = 0.25
#: The smallest window, which bounds the pause. A larger one lets calls run out of attempts.
_MIN_WINDOW: Final = 1 / 16


class AdaptiveLimit:
    """The congestion window: arithmetic without I/O, which the simulator uses, too."""

    __slots__ = (
        *("_ceiling", "_growth_length", "_plateau", "_rise", "_successes"),
        *("epoch", "limit", "window"),
    )

    def __init__(self, ceiling: int) -> None:
        """Start small, and never exceed `ceiling`."""
        self._ceiling = float(ceiling)
        #: Attempts that may be in flight; below 1 it is a share of the time.
        self.window: float = float(min(_INITIAL_WINDOW, ceiling))
        #: The window as a whole number, at least 1.
        self.limit: int = int(self.window)
        #: The number of decreases so far. An attempt belongs to the epoch in which it was admitted.
        self.epoch: int = 0
        self._successes = 0  # of this epoch, with all slots in use
        # The cubic: it rises by `_rise` to `_plateau` (W_max) in `_growth_length` successes (K).
        self._plateau = self._rise = self._growth_length = 0.0

    def succeeded(self, epoch: int, in_flight: int) -> bool:
        """Learn from an attempt of `epoch` that got no 429. Return whether the limit changed.

        Args:
            epoch: in which the attempt was admitted.
            in_flight: the number of attempts in flight, this one included.
        """
        if epoch != self.epoch or in_flight < self.limit or self.window >= self._ceiling:
            return False
        self._successes += 1
        if self.epoch:
            progress = self._successes / self._growth_length - 1.0
            return self._set_window(self._plateau + self._rise * progress**3)
        return self._set_window(self.window + 1.0)

    def rate_limited(self, epoch: int, in_flight: int) -> bool:
        """Learn from an attempt of `epoch` that got a 429. Return whether the limit changed.

        Args:
            epoch: in which the attempt was admitted.
            in_flight: the number of attempts in flight, this one included.
        """
        if epoch != self.epoch:
            return False
        used = max(min(self.window, float(in_flight)), _MIN_USE * self.window)
        if self._successes or not self.epoch:
            used = max(used - 1.0, _PLATEAU_FACTOR * used)
            self._plateau = max(used, self._plateau * _PLATEAU_DECAY**self._successes)
            number = _GROWTH_SUCCESSES * min(1.0, self._plateau) ** 0.5
            self._growth_length = number + _GROWTH_ROUND_TRIPS * self._plateau
        decreased = min(self._plateau, used) * _BETA
        self._rise = self._plateau - decreased
        self._successes = 0
        self.epoch += 1
        return self._set_window(decreased)

    def pause(self, rng: random.Random) -> float:
        """Return the seconds to pause after an attempt: 0 unless the window is below 1."""
        if self.window >= 1.0:
            return 0.0
        return rng.uniform(0.0, 2.0 * _MEAN_PAUSE * (1.0 / self.window - 1.0))

    def _set_window(self, window: float) -> bool:
        before = self.limit
        self.window = min(max(window, _MIN_WINDOW), self._ceiling)
        self.limit = max(1, int(self.window))
        return self.limit != before


class CallLater(Protocol):
    """Calls a function after some seconds, as `loop.call_later` does."""

    def __call__(self, delay: float, callback: Callable[[], None], /) -> object: ...


class Limiter:
    """The slots of one session: a semaphore whose size adapts.

    It can be built outside an event loop, has no task and needs no closing.
    """

    _loop: asyncio.AbstractEventLoop  # of the latest attempt

    def __init__(
        self,
        adaptive: AdaptiveLimit,
        *,
        emit: Callable[[LimitChanged], None],
        rng: random.Random | None = None,
        call_later: CallLater | None = None,
    ) -> None:
        """Allow as many slots at once as `adaptive` says.

        Args:
            adaptive: the limit, which learns from the attempts.
            emit: called when the limit has changed.
            rng: draws the pauses.
            call_later: ends the pauses; by default the running loop's `call_later`.
        """
        self._adaptive = adaptive
        self._emit = emit
        self._rng = random.SystemRandom() if rng is None else rng
        self._call_later = call_later
        self._in_flight = 0
        self._waiters: OrderedDict[asyncio.Future[int], None] = OrderedDict()
        self._pausing = False

    @property
    def limit(self) -> int:
        """Return how many attempts may be in flight now."""
        return self._adaptive.limit

    @property
    def in_flight(self) -> int:
        """Return how many slots are acquired."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Return how many attempts wait for a slot."""
        return len(self._waiters)

    @property
    def full(self) -> bool:
        """Return whether another attempt would have to wait."""
        return self._pausing or bool(self._waiters) or self._in_flight >= self._adaptive.limit

    def slot(self) -> Slot:
        """Return a slot for one attempt, an async context manager."""
        return Slot(self)

    def __repr__(self) -> str:
        """Show how many slots are acquired and waited for."""
        return f"<Limiter: {self._in_flight} of {self.limit} in flight, {self.waiting} waiting>"

    async def acquire(self) -> int:
        """Wait for a slot, first come, first served. Return the epoch of the attempt."""
        self._loop = asyncio.get_running_loop()
        if not self.full:
            self._in_flight += 1
            return self._adaptive.epoch
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._waiters[waiter] = None
        try:
            return await waiter
        except BaseException:
            self._waiters.pop(waiter, None)
            if waiter.done() and not waiter.cancelled():
                # It got the slot and was cancelled in the same cycle of the loop.
                self.release(used=False)
            raise

    def release(self, *, used: bool = True) -> None:
        """Release a slot; if an attempt used it, pause where the window is below 1."""
        self._in_flight -= 1
        if self._loop.is_closed():  # the attempt was dropped with its loop
            return
        if used and not self._pausing and (pause := self._adaptive.pause(self._rng)):
            self._pausing = True
            (self._call_later or self._loop.call_later)(pause, self._end_pause)
        self._wake_waiters()

    def succeeded(self, epoch: int) -> None:
        """Learn from an attempt of `epoch` that got no 429; see `Slot.succeeded`."""
        if self._adaptive.succeeded(epoch, self._in_flight):
            self._emit(LimitChanged(limit=self.limit, reason="succeeded"))

    def rate_limited(self, epoch: int) -> None:
        """Learn from an attempt of `epoch` that got a 429; see `Slot.rate_limited`."""
        if self._adaptive.rate_limited(epoch, self._in_flight):
            self._emit(LimitChanged(limit=self.limit, reason="rate_limited"))

    def _end_pause(self) -> None:
        self._pausing = False
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        while self._waiters and not self._pausing and self._in_flight < self._adaptive.limit:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():  # else it was cancelled in this cycle of the loop
                self._in_flight += 1
                waiter.set_result(self._adaptive.epoch)


class Slot:
    """The slot of one attempt: `async with limiter.slot() as slot`.

    An attempt that calls neither `succeeded` nor `rate_limited` (it got no reply or a 5xx, or was
    cancelled) leaves the limit as it is.
    """

    __slots__ = ("_epoch", "_limiter")

    def __init__(self, limiter: Limiter) -> None:
        """See `Limiter.slot`."""
        self._limiter = limiter
        self._epoch = -1

    def succeeded(self) -> None:
        """Report that the attempt got an answer that is neither a 429 nor a 5xx."""
        self._limiter.succeeded(self._epoch)

    def rate_limited(self) -> None:
        """Report that the attempt got a 429."""
        self._limiter.rate_limited(self._epoch)

    async def __aenter__(self) -> Self:
        """Acquire the slot."""
        self._epoch = await self._limiter.acquire()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Release the slot."""
        self._limiter.release()
