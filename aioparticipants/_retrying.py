"""Which outcomes are worth another attempt, how long to wait for it, and until when.

1. Transient errors alone are retried: 408, 429, every 5xx but 501 and 505, everything that is no
   usable reply (a refused certificate excepted, and a proxy's 4xx but 408 and 429), a 200 that is
   cut off or no JSON, and the page of another conference.
2. The wait is full jitter, U(0, min(max_delay, base_delay * 2^(n-1))) after the n-th attempt:
   https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
   `Retry-After` is a floor under it. One longer than `max_retry_after` is raised at once, so that
   a worker can put the job back instead of holding it.
3. A page ends after `max_attempts`, or before the wait that would pass its `budget`. Attempts and
   waits count; queueing for a slot does not, or a large fan-out would time itself out.
4. A session's retries draw on one quota, so that an outage cannot multiply the load: a retry takes
   one from it, a success earns one, up to the number it began with. AWS's SDKs have the like of it:
   https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
   So a server that is down gets one request a call, and the quota once; one that fails at times
   gets two a call at most, and the quota.
   A call that begins after 30 s without a fault finds the quota full again. Only such quiet time
   counts: a quota that filled steadily would feed a server that stays down while calls go on.
   A 429 takes nothing: it is the limiter's business, and a sign of life.
5. A `deadline` is the caller's, for a whole list, and all counts: queueing, attempts, waits, pages.
   A wait that would pass it is not begun, and an attempt gets no more than what is left.
6. tenacity drives it from the first failure on: a fresh controller for the page (its state is not
   task-safe), with synchronous callbacks, a positive `isinstance` predicate (so that a cancellation
   is never swallowed), and the sleep, clock and randomness handed in.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
import tenacity

from ._arguments import checked_seconds, checked_whole_number
from .errors import (
    APIStatusError,
    Attempt,
    DeadlineExceededError,
    InsightsError,
    RateLimitError,
    ResponseError,
    TransportError,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

__all__ = ["Deadline", "RetryPolicy", "RetryQuota", "RetryRun"]

T = TypeVar("T")

# 2.0 to this power is past every max_delay that makes sense, and far from overflow.
_LARGEST_EXPONENT: Final = 64

# Chosen by `python tests/benchmarks/limiter.py quota`.

#: Retries that a success earns. Five attempts alone fail 1.0 % of the calls where 40 % of the
#: attempts fail, and 3.0 % where half do. Of 10,000 calls at once 0.2 (as AWS has it), 0.5, 0.7 and
#: 1 fail 31, 13, 1.1 and 1.1 %, and 44, 32, 22 and 3.2 %.
_EARNED: Final = 1.0
#: Seconds without a fault that fill the quota. A minute after an outage a call has to have all its
#: attempts, and the outage's last fault may come 30 s after its end, as an attempt takes so long at
#: most by default. A server that is dead for an hour, while a call comes every 1, 10 or 20 s, gets
#: 100 requests more than calls; with a quota that fills by ten a minute, quiet or not, 700.
_QUIET_SECONDS: Final = 30.0

_USED_UP: Final = (
    "Not retried, as the session's retry quota is used up: none of its {} retries is left. Up to "
    "that number, each success earns one, and 30 s without a fault restore all; "
    "RetryPolicy(quota=...) sets it, None for no quota."
)


def _count(_instance: object, attribute: attrs.Attribute[int], value: object) -> None:
    checked_whole_number(value, attribute.name, least=1)


def _count_or_none(_instance: object, attribute: attrs.Attribute[int], value: object) -> None:
    checked_whole_number(value, attribute.name, least=0, optional=True)


def _seconds(_instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    checked_seconds(value, attribute.name)


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When a failed request is tried again. The defaults suit a service and a nightly job alike.

    Raises:
        InvalidRequestError: a value is negative, not finite, or of the wrong type.
    """

    max_attempts: int = attrs.field(default=5, validator=_count)
    """Attempts at one page, the first included; 1 turns retrying off."""
    base_delay: float = attrs.field(default=0.5, validator=_seconds)
    """Seconds: the upper bound of the first wait; it doubles with each attempt."""
    max_delay: float = attrs.field(default=20.0, validator=_seconds)
    """Seconds: the bound that doubling stops at."""
    max_retry_after: float = attrs.field(default=60.0, validator=_seconds)
    """Seconds: the longest `Retry-After` that is waited for; a longer one is raised at once."""
    budget: float = attrs.field(default=120.0, validator=_seconds)
    """Seconds that the attempts at one page and the waits between them may take together."""
    quota: int | None = attrs.field(default=100, validator=_count_or_none)
    """Retries that all lists of the session share, so that an outage cannot multiply the load.

    Each success earns one, up to this number, and 30 seconds without a fault restore all. 0 retries
    nothing but a 429, which is no fault and never draws on the quota; None sets no quota.
    """


class RetryQuota:
    """The retries that a session has left."""

    def __init__(self, size: int | None) -> None:
        """Begin with `size` retries; None for any number."""
        self._size = self.left = math.inf if size is None else float(size)
        self._last_fault = -math.inf

    def failed(self, began: float, now: float) -> None:
        """Note a fault at `now`, of a call that began at `began`; both of one clock, in seconds.

        Not from fault to fault: attempts that take long, and waits for a retry, are no quiet time.
        """
        if began - self._last_fault >= _QUIET_SECONDS:
            self.left = self._size
        self._last_fault = now

    def take(self) -> bool:
        """Take a retry; return whether there was one left."""
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True

    def succeeded(self) -> None:
        """Note a success."""
        self.left = min(self._size, self.left + _EARNED)


class Deadline:
    """The end of the time for a whole list. It runs from `start()` on."""

    def __init__(self, seconds: float | None, *, clock: Callable[[], float]) -> None:
        """Allow so many seconds, None for any number; `clock` gives seconds that only go forward.

        Raises:
            InvalidRequestError: the number is not positive and finite.
        """
        self.seconds = checked_seconds(seconds, "deadline", positive=True, optional=True)
        self._clock = clock
        self._end: float | None = None

    def start(self) -> None:
        """Start the clock, if it does not run yet."""
        if self.seconds is not None and self._end is None:
            self._end = self._clock() + self.seconds

    def left(self) -> float:
        """Return the seconds that are left: 0 where it has passed, infinity where there is none."""
        if self.seconds is None:
            return math.inf
        if self._end is None:
            return self.seconds
        return max(0.0, self._end - self._clock())


class RetryRun:
    """The attempts at one page: remembers them, and judges each by the policy."""

    def __init__(
        self,
        policy: RetryPolicy,
        deadline: Deadline,
        quota: RetryQuota,
        *,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        """Judge by `policy`; `clock` gives seconds that only go forward, `rng` the jitter."""
        self._policy = policy
        self._deadline = deadline
        self._quota = quota
        self._clock = clock
        self._made = clock()
        self._rng = rng
        self._began: float | None = None
        self._first_failure: InsightsError | None = None
        self._too_late = False
        self.attempts: list[Attempt] = []
        #: What the attempt failed with that the quota had no retry left for; None where it had.
        self.denied: str | None = None

    async def result_of(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        sleep: Callable[[float], Awaitable[None]],
        before_sleep: Callable[[Attempt], None],
    ) -> T:
        """Return what an attempt leads to, after as many as it takes; or raise what it fails with.

        The first one is made without a controller, as most pages need none. (Measured: one takes
        0.1 ms of the 1.3 that a page of 50 takes in all.)

        Args:
            attempt: makes one; it calls `begin` as it has its slot.
            sleep: waits for so many seconds.
            before_sleep: is told the attempt before a wait.
        """
        try:
            result = await attempt()
        except InsightsError as error:
            self._first_failure = error.with_traceback(None)
        except BaseException as error:
            self._note(error)
            raise
        else:
            self._quota.succeeded()
            return result
        return await self._controller(sleep, before_sleep)(self._next_attempt, attempt)

    async def _next_attempt(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make an attempt; the first time, raise what the one before tenacity failed with."""
        failure, self._first_failure = self._first_failure, None
        if failure is not None:
            raise failure
        return await attempt()

    def _controller(
        self, sleep: Callable[[float], Awaitable[None]], before_sleep: Callable[[Attempt], None]
    ) -> tenacity.AsyncRetrying:
        """Return a fresh tenacity controller."""

        def note_delay(state: tenacity.RetryCallState) -> None:
            self.attempts[-1] = attrs.evolve(self.attempts[-1], delay=state.upcoming_sleep)
            before_sleep(self.attempts[-1])

        return tenacity.AsyncRetrying(
            sleep=sleep,
            retry=self._again,
            wait=self._delay,
            stop=self._over,
            before_sleep=note_delay,
            reraise=True,
        )

    def begin(self) -> float:
        """Note that an attempt begins now; return the seconds that are left for it."""
        self._began = self._clock()
        return self._policy.budget - self._spent()

    def final_error(self, failure: InsightsError | None) -> InsightsError:
        """Return the error that the run ends with: `failure`, unless the deadline ended it."""
        if failure is not None and not self._too_late:
            return failure
        message = (
            f"The deadline of {self._deadline.seconds} s passed before the next page was there; "
            "the error's cursor says where to go on, with more time."
        )
        return DeadlineExceededError(message, attempts=self.attempts)

    def _spent(self) -> float:
        return math.fsum(attempt.seconds + (attempt.delay or 0.0) for attempt in self.attempts)

    def _again(self, state: tenacity.RetryCallState) -> bool:
        error = _error_of(state)
        if error is None:
            self._quota.succeeded()
        else:
            self._note(error)
        if not isinstance(error, (TransportError, APIStatusError, ResponseError)):
            return False  # a success, a cancellation, a misuse, a defect
        return error.transient and _floor(error) <= self._policy.max_retry_after

    def _note(self, error: BaseException) -> None:
        # What is cancelled while it queues is no attempt; what fails then, as a shared limiter can,
        # is one.
        if self._began is not None or isinstance(error, InsightsError):
            seconds = 0.0 if self._began is None else self._clock() - self._began
            self.attempts.append(Attempt(_name(error), seconds))
            self._began = None
        if isinstance(error, InsightsError):
            error.attempts = tuple(self.attempts)
            if error.transient and not isinstance(error, RateLimitError):
                self._quota.failed(self._made, self._clock())

    def _delay(self, state: tenacity.RetryCallState) -> float:
        failed = min(len(self.attempts) - 1, _LARGEST_EXPONENT)
        doubled = self._policy.base_delay * 2.0**failed
        backoff = self._rng.uniform(0.0, min(self._policy.max_delay, doubled))
        return _floor(_error_of(state)) + backoff

    def _over(self, state: tenacity.RetryCallState) -> bool:
        last, left = len(self.attempts) >= self._policy.max_attempts, self._deadline.left()
        self._too_late = left == 0 or (not last and state.upcoming_sleep >= left)
        too_long = self._spent() + state.upcoming_sleep >= self._policy.budget
        if last or too_long or self._too_late:
            return True
        return not self._may_retry(_error_of(state))  # the last question, as asking it costs

    def _may_retry(self, error: BaseException | None) -> bool:
        """Take a retry from the quota; where none is left, say so in the error."""
        if error is None or isinstance(error, RateLimitError) or self._quota.take():
            return True
        self.denied = _name(error)
        error.args = (f"{error} {_USED_UP.format(self._policy.quota)}",)  # survives pickle and copy
        return False


def _error_of(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _floor(error: BaseException | None) -> float:
    return (error.retry_after or 0.0) if isinstance(error, APIStatusError) else 0.0


def _name(error: BaseException) -> str:
    if isinstance(error, InsightsError):
        return f"HTTP {error.status}" if isinstance(error, APIStatusError) else type(error).__name__
    return (
        DeadlineExceededError.__name__
    )  # nobody sees the attempts of what was cancelled otherwise
