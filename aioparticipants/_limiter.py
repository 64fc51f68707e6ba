"""How many attempts may be in flight at once: the session finds out, and holds to it.

Twilio refuses by concurrency (20429: too many requests of the account in flight), names the ceiling
nowhere, and lets others of the account use it up. So the limit is learnt from what is refused:

1. One slot an attempt, given first come first served, and given back as its answer is there: it is
   not held while a call waits for its next attempt, nor across a hand-over to the consumer.
2. The limit starts low and grows by one with each success until the first refusal, as TCP's slow
   start does (RFC 5681 section 3.1).
3. A refusal takes the limit down by a factor, once a round trip: an attempt that was admitted
   before the last decrease was counted in it already (RFC 6582 has this for TCP).
4. Then it grows along a cubic (RFC 9438), counted in successes rather than in seconds, so that it
   needs no clock and does as well at 20 ms an answer as at 2 s: fast back to the plateau, which is
   just below where it was refused, slowly across that place, and ever faster beyond it, where a
   raised ceiling is.
5. Refusals with no success between them lower the limit, not the plateau. Each success before a
   refusal is a sign that the plateau is too high, and takes a twentieth off it, down to just below
   where the refusal came. So a limit of 32 is back within some seconds after an outage, also one
   that let a few attempts through, and a ceiling that fell is found within some refusals. The
   longer an outage lasts and the more it lets through, the more it is taken for such a ceiling:
   after five minutes with 40 % let through, the way back to 32 takes up to a minute.
6. A refusal while fewer than half of the slots are in use counts as one at half: it proves that the
   account is full, not that the limit is too high. Where it is, the next refusals show that.
7. Only a success with all slots in use makes it grow: an idle limit proves nothing (RFC 7661).
8. The window may fall below 1, for there can be more processes than the ceiling has room for. The
   limit stays 1 then, and a pause follows each attempt, refused or not: what is left of the time is
   another process's. A floor of 1 without it would send the next call as soon as one is refused, so
   that the load would never fall.
9. An attempt that fails otherwise, or is cancelled, says nothing about the ceiling.

Processes that share an account find about equal shares in the long run (Jain's index 0.9 to 1.0
when a million calls are half done), by refusals alone: the larger window meets more of them.
tests/benchmarks/limiter.py has the figures behind this and the constants.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AdaptiveLimit", "Limiter", "Slot"]

# Chosen by `python tests/benchmarks/limiter.py constants`. "1.24" is a makespan over the ideal one.

#: Attempts at once in the beginning; the fifth round trip has 64. 16 would let 200 calls through in
#: 4.0 instead of 4.9 (ceiling 100), but has more refused where 50 processes begin together: 6.2 %
#: of 100,000 instead of 3.3 % (ceiling 40).
_START: Final = 4
#: How far a refusal takes it down. 0.1, 0.2, 0.3 and 0.5: 1.21, 1.24, 1.28, 1.38 (ceiling 12). A
#: smaller step has more refused where the ceiling falls or is gone: 2.0 % instead of 1.6 %.
_DECREASE: Final = 0.2
#: The plateau, where the cubic is flat, as a share of what was refused; one less than what was
#: refused, where that is more. At 0.9 and 1 a ceiling of 12 refuses 8.2 and 10.7 % of what 50
#: processes send, instead of 6.8 %; at 0.75 one process under a ceiling of 3 takes 1.40, not 1.24.
_JUST_BELOW: Final = 0.8
#: What a success between two refusals leaves of it. How many seconds after an outage the limit is
#: 32 again (median and longest of ten runs), by how many attempts the outage let through; and how
#: many attempts are refused where 50 processes share a ceiling:
#:
#:                 outage of 30 s        of 300 s         ceiling
#:             0 %     20 %     40 %       40 %        5     12     40
#:     0      5, 9   42, 72   54, 78     66, 75     11.3 %  5.6 %  2.9 %   (no memory)
#:     0.9    5, 9    4, 9    16, 18     62, 71     12.7 %  6.3 %  3.1 %
#:     0.95   5, 9    3, 6     5, 10     42, 64     13.6 %  6.8 %  3.3 %
#:     0.97   5, 9    3, 6     3, 5      25, 34     15.1 %  7.7 %  3.6 %
_KEEP: Final = 0.95
#: The share of the limit that counts as in use at least. After one refusal at 32 with one in flight
#: 0, 1/4, 1/2 and 1 take 19, 5.3, 4.0 and 3.1 s for 500 calls under a ceiling of 40; where 50
#: processes had such a refusal they have 2.5, 6.5, 13 and 25 % of such calls refused, and none of
#: them fails.
_IN_USE: Final = 0.5
#: Successes from a decrease to the plateau: so many, and so many round trips. A refusal comes about
#: every 1.7 times that. The former decides where there are many processes: 12, 24 and 48 have 21,
#: 13.6 and 9.1 % refused under a ceiling of 5, and take 1.48, 1.72 and 2.04. The latter, where
#: there is one: 1, 3 and 6 have 2.5, 1.4 and 0.8 % refused, and find 40 above 12 in 1.38, 1.42 and
#: 1.50. Below a window of 1 they become fewer with its root, so that a small share grows sooner:
#: that is what makes shares equal in the end.
_QUIET: Final = 24
_ROUNDS: Final = 3
#: Seconds that a window of 1/2 pauses on average; a window of 1/n, n - 1 times that. 0.05 has half
#: of all refused, and fails 2.9 % of the calls of 50 processes under a ceiling of 5; 0.5 makes
#: everybody slower (1.43 instead of 1.24 under 40).
_PACE: Final = 0.25
#: The smallest window: 3.75 s of pause on average. 1/4 fails as many as the shorter pause does.
_LEAST: Final = 1 / 16


class AdaptiveLimit:
    """The limit and how it learns: arithmetic alone, shared with the simulator."""

    __slots__ = ("_ceiling", "_drop", "_length", "_plateau", "_quiet", "epoch", "limit", "window")

    def __init__(self, ceiling: int) -> None:
        """Never go above `ceiling`."""
        self._ceiling = float(ceiling)
        #: Below 1 it is a share of the time; from 1 on the limit is its whole part.
        self.window = float(min(_START, ceiling))
        self.limit = int(self.window)
        #: How often it was decreased. An attempt carries the number that it was admitted under.
        self.epoch = 0
        self._quiet = 0  # successes since the decrease
        # The cubic: it climbs by `_drop` to `_plateau` in `_length` successes.
        self._plateau = self._drop = self._length = 0.0

    def succeeded(self, epoch: int, in_flight: int) -> None:
        """Learn that an attempt of `epoch` was not refused; `in_flight` counts it."""
        if epoch != self.epoch or in_flight < self.limit or self.window >= self._ceiling:
            return
        self._quiet += 1
        if self.epoch:
            self._move(self._plateau + self._drop * (self._quiet / self._length - 1.0) ** 3)
        else:
            self._move(self.window + 1.0)

    def refused(self, epoch: int, in_flight: int) -> None:
        """Learn that an attempt of `epoch` was refused for concurrency; `in_flight` counts it."""
        if epoch != self.epoch:
            return
        refused_at = max(min(self.window, float(in_flight)), _IN_USE * self.window)
        if self._quiet or not self.epoch:
            refused_at = max(refused_at - 1.0, _JUST_BELOW * refused_at)
            self._plateau = max(refused_at, self._plateau * _KEEP**self._quiet)
            self._length = _QUIET * min(1.0, self._plateau) ** 0.5 + _ROUNDS * self._plateau
        lower = min(self._plateau, refused_at) * (1.0 - _DECREASE)
        self._drop = self._plateau - lower
        self._quiet = 0
        self.epoch += 1
        self._move(lower)

    def pause(self, rng: random.Random) -> float:
        """Return the seconds without an attempt that have to follow the one that just ended."""
        if self.window >= 1.0:
            return 0.0
        return rng.uniform(0.0, 2.0 * _PACE * (1.0 / self.window - 1.0))

    def _move(self, window: float) -> None:
        self.window = min(max(window, _LEAST), self._ceiling)
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

    _loop: asyncio.AbstractEventLoop  # of the latest attempt

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
        self._rng = random.SystemRandom() if rng is None else rng
        self._later = later
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
                self.give_back(used=False)
            raise

    def give_back(self, *, used: bool = True) -> None:
        """Let the next one have the slot, after a pause where one is due for an attempt."""
        self._in_flight -= 1
        if self._loop.is_closed():  # what was left of its coroutines is dropped
            return
        if used and not self._pausing and (pause := self._adaptive.pause(self._rng)):
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
