"""Which attempts are retried, how long to wait before a retry, and when to stop.

1. Only transient errors are retried: 408, 429, every 5xx but 501 and 505, every failure to get a
   usable reply (but for a refused certificate, and a proxy's 4xx other than 408 and 429), a 200
   whose body is cut off or no JSON, and a reply about another conference, list or participant.
2. The wait after the n-th attempt has full jitter: U(0, min(max_delay, base_delay * 2^(n-1))).
   https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
   `Retry-After` is added to it. If that is longer than `max_retry_after`, the error is raised at
   once, so that a worker can put the job back into its queue.
3. No retry follows `max_attempts`, or where the wait would pass the `budget` of the page. Attempts
   and waits count towards the budget. Queueing for a slot does not: a large fan-out would otherwise
   use up its own budget.
4. All retries of a session draw on one quota, so that an outage cannot multiply the load. A retry
   takes one from it, a success earns one, up to the size of the quota. AWS's SDKs do the same:
   https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
   So a server that is down gets one request a call, plus the quota once. A server that fails
   at times gets at most two requests a call, plus the quota.
   A call that begins after 30 s without a fault finds the quota full again. Only such quiet time
   counts: a quota that filled steadily would send retries to a server that stays down.
   A 429 takes nothing: the limiter deals with it, and it shows that the server works.
5. The `deadline` is the caller's, for a whole list, and includes everything: queueing, attempts,
   waits, pages. A wait that would pass it is not begun, and an attempt is cut off by it.
6. tenacity drives the retries. Each page that needs one has a controller of its own, as the state
   of a controller is not task-safe. Its callbacks are synchronous. The predicate names the errors
   that are retried, so that a cancellation never is. Sleep, clock and randomness are passed in.
7. A page whose credentials are refused is requested once more with new ones, if there are any. The
   policy counts no retry for that. A request for a token has attempts of its own, by the same
   policy and quota. If they fail, the pages that wait for the token fail with that error, and do
   not retry it: else a token endpoint that is down would get the attempts of each page.
8. What tenacity asks (`retry`, `wait`, `stop`) changes nothing. Whatever is recorded, counted or
   spent changes where an attempt ends (`recorded`) and where a retry is certain (`record_retry`).
"""

from __future__ import annotations

import contextlib
import enum
import math
from typing import TYPE_CHECKING, Final

import attrs
import tenacity

from ._arguments import checked_seconds, checked_whole_number
from ._field_docs import documented
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
    from collections.abc import Awaitable, Callable, Generator

__all__ = ["Deadline", "RetryPolicy", "RetryQuota", "RetryRun"]

# 2.0 to this power is more than any useful max_delay, and far from an overflow.
_LARGEST_EXPONENT: Final = 64

# `python tests/benchmarks/limiter.py quota` has the figures behind these two.

#: Retries that a success earns: enough that faults at random hardly ever use the quota up.
_EARNED: Final = 1.0
#: Seconds without a fault that fill the quota. A minute after an outage a call has to have all its
#: attempts again, and the last fault of the outage may come 30 s after its end, as by default an
#: attempt can take that long.
_QUIET_SECONDS: Final = 30.0

_USED_UP: Final = (
    "Not retried, as the session's retry quota is used up: none of its {} retries is left. Each "
    "success earns one, up to that number, and 30 s without a fault restore all; "
    "RetryPolicy(quota=...) sets it, None for no quota."
)


def _count(_instance: object, attribute: attrs.Attribute[int], value: object) -> None:
    checked_whole_number(value, attribute.name, least=1)


def _count_or_none(_instance: object, attribute: attrs.Attribute[int], value: object) -> None:
    checked_whole_number(value, attribute.name, least=0, optional=True)


def _seconds(_instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    checked_seconds(value, attribute.name)


@documented
@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When a failed request is retried. The defaults suit a service and a nightly job alike.

    Raises:
        InvalidRequestError: a value is negative, not finite, or of the wrong type.
    """

    max_attempts: int = attrs.field(default=5, validator=_count)
    """Attempts at one page, the first included; 1 turns retrying off."""
    base_delay: float = attrs.field(default=0.5, validator=_seconds)
    """Seconds: the upper bound of the first wait. It doubles with each attempt."""
    max_delay: float = attrs.field(default=20.0, validator=_seconds)
    """Seconds: the upper bound of every wait, without `Retry-After`."""
    max_retry_after: float = attrs.field(default=60.0, validator=_seconds)
    """Seconds: the longest `Retry-After` to wait for. With a longer one the error is raised."""
    budget: float = attrs.field(default=120.0, validator=_seconds)
    """Seconds that the attempts at one page and the waits between them may take together."""
    quota: int | None = attrs.field(default=100, validator=_count_or_none)
    """Retries that all lists of the session share, so that an outage cannot multiply the load.

    Each success earns one, up to this number, and 30 seconds without a fault restore all. With 0
    only a 429 is retried, as it never takes from the quota. None means no quota.
    """


class RetryQuota:
    """The retries that a session has left."""

    def __init__(self, size: int | None) -> None:
        """Begin with `size` retries; None for any number."""
        self._size = math.inf if size is None else float(size)
        self.left: float = self._size
        self._last_fault = -math.inf

    @property
    def is_used_up(self) -> bool:
        """Whether no retry is left."""
        return self.left < 1.0

    def failed(self, began: float, now: float) -> None:
        """Count a fault at `now`, of a call that began at `began`; both in seconds of one clock.

        The quiet time ends where the call began, not where it failed: long attempts, and waits
        before a retry, are not quiet.
        """
        if began - self._last_fault >= _QUIET_SECONDS:
            self.left = self._size
        self._last_fault = now

    def take(self) -> None:
        """Take a retry from it."""
        self.left -= 1.0

    def succeeded(self) -> None:
        """Count a success."""
        self.left = min(self._size, self.left + _EARNED)


class Deadline:
    """When a whole list has to be complete. It counts from `start()` on."""

    def __init__(self, seconds: float | None, *, clock: Callable[[], float]) -> None:
        """Allow that many seconds, None for any number; `clock` gives seconds that never go back.

        Raises:
            InvalidRequestError: the number is not positive and finite.
        """
        self.seconds: float | None = checked_seconds(
            seconds, "deadline", positive=True, optional=True
        )
        self._clock = clock
        self._end: float | None = None

    def start(self) -> None:
        """Start the clock, unless it runs already."""
        if self.seconds is not None and self._end is None:
            self._end = self._clock() + self.seconds

    def left(self) -> float:
        """Return the seconds that are left: 0 once it has passed, infinity if there is none."""
        if self.seconds is None:
            return math.inf
        if self._end is None:
            return self.seconds
        return max(0.0, self._end - self._clock())

    def at_most(self, seconds: float) -> Deadline:
        """Return a deadline that many seconds from now, or this one if that is sooner."""
        if self.left() <= seconds:
            return self
        deadline = Deadline(seconds, clock=self._clock)
        deadline.start()
        return deadline


class RetryRun:
    """The attempts at one page: records them, and judges the latest one by the policy."""

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
        self._rng = rng
        self._created = clock()
        self._attempt_began: float | None = None
        #: Seconds to wait after the latest attempt, if another one follows.
        self._delay = 0.0
        #: Whether a retry of the latest attempt takes one from the quota.
        self._takes_quota = False
        #: Why no other attempt may follow the latest one; None if one may.
        self._stopped_by: _StopReason | None = None
        self.attempts: list[Attempt] = []
        #: Whether the quota had no retry left for the latest attempt.
        self.denied: bool = False
        #: Attempts whose credentials were refused, and that are made again with new ones.
        self._refused = 0
        #: Whether the latest attempt failed with an error of another run, which has retried it.
        self.stopped: bool = False

    def controller(
        self,
        *,
        sleep: Callable[[float], Awaitable[None]],
        before_sleep: Callable[[tenacity.RetryCallState], None],
    ) -> tenacity.AsyncRetrying:
        """Return a new tenacity controller, for `async for attempt in …: with attempt:`.

        Args:
            sleep: waits for that many seconds.
            before_sleep: called once another attempt is certain; it has to call `record_retry`.
        """
        return tenacity.AsyncRetrying(
            sleep=sleep,
            retry=self._should_retry,
            wait=self._next_delay,
            stop=self._should_stop,
            before_sleep=before_sleep,
            reraise=True,
        )

    # --- What is recorded, counted and spent ---

    @contextlib.contextmanager
    def recorded(self) -> Generator[None]:
        """Record how the attempt in the `with` block ends."""
        try:
            yield
        except BaseException as error:
            self._record_failure(error)
            raise
        self._quota.succeeded()

    def attempt_started(self) -> float:
        """Note that the attempt has its slot; return the seconds that it may take."""
        self._attempt_began = self._clock()
        return self._policy.budget - self._spent()

    def record_retry(self) -> None:
        """Note that another attempt follows, and take it from the quota."""
        self.attempts[-1] = attrs.evolve(self.attempts[-1], delay=self._delay)
        if self._takes_quota:
            self._quota.take()

    def record_refusal(self, outcome: str) -> None:
        """Note that the attempt is made again at once, as there are new credentials for it.

        The policy does not count it: neither as an attempt nor as a retry.
        """
        began = self._clock() if self._attempt_began is None else self._attempt_began
        self.attempts.append(Attempt(outcome, self._clock() - began, delay=0.0))
        self._attempt_began = None
        self._refused += 1

    def stop(self) -> None:
        """Note that the attempt fails with an error of another run, which has retried it."""
        self.stopped = True

    def _record_failure(self, error: BaseException) -> None:
        if self.stopped and isinstance(error, InsightsError):
            error.attempts = (*self.attempts, *error.attempts)
            return
        # An attempt that is cancelled in the queue for a slot never began. One that fails there, as
        # a shared limiter can, counts as an attempt of no time.
        if self._attempt_began is not None or isinstance(error, InsightsError):
            seconds = 0.0 if self._attempt_began is None else self._clock() - self._attempt_began
            self.attempts.append(Attempt(_outcome_of(error), seconds))
            self._attempt_began = None
        if isinstance(error, InsightsError):
            error.attempts = tuple(self.attempts)
            self._delay = _retry_after(error) + self._backoff()
            self._takes_quota = error.transient and not isinstance(error, RateLimitError)
            if self._takes_quota:
                self._quota.failed(self._created, self._clock())
            self._stopped_by = self._stop_reason()

    def _backoff(self) -> float:
        failed = min(self._counted - 1, _LARGEST_EXPONENT)
        doubled = self._policy.base_delay * 2.0**failed
        return self._rng.uniform(0.0, min(self._policy.max_delay, doubled))

    # --- What tenacity asks; these change nothing ---

    def _should_retry(self, state: tenacity.RetryCallState) -> bool:
        return self._is_retryable(state.outcome.exception() if state.outcome else None)

    def _next_delay(self, _state: tenacity.RetryCallState) -> float:
        return self._delay

    def _should_stop(self, _state: tenacity.RetryCallState) -> bool:
        return self._stopped_by is not None

    def _is_retryable(self, error: BaseException | None) -> bool:
        """Return whether an error can be retried; a cancellation, misuse or defect cannot."""
        if self.stopped:
            return False
        if not isinstance(error, (TransportError, APIStatusError, ResponseError)):
            return False
        return error.transient and _retry_after(error) <= self._policy.max_retry_after

    def _stop_reason(self) -> _StopReason | None:
        """Return why no attempt may follow the latest one, None if one may."""
        last, left = self._counted >= self._policy.max_attempts, self._deadline.left()
        if left == 0 or (not last and self._delay >= left):
            return _StopReason.DEADLINE
        if last or self._spent() + self._delay >= self._policy.budget:
            return _StopReason.POLICY
        if self._takes_quota and self._quota.is_used_up:
            return _StopReason.QUOTA
        return None

    @property
    def _counted(self) -> int:
        """The attempts that count towards the policy's `max_attempts`."""
        return len(self.attempts) - self._refused

    def _spent(self) -> float:
        return math.fsum(attempt.seconds + (attempt.delay or 0.0) for attempt in self.attempts)

    # --- What the page fails with ---

    def final_error(self, error: InsightsError) -> InsightsError:
        """Return what the page fails with, where its last attempt failed with `error`."""
        reason = self._stopped_by if self._is_retryable(error) else None
        if reason is _StopReason.DEADLINE:
            return self.deadline_exceeded()
        if reason is _StopReason.QUOTA:
            self.denied = True
            # Not an attribute: the text has to survive pickle and copy.
            error.args = (f"{error} {_USED_UP.format(self._policy.quota)}",)
        return error

    def deadline_exceeded(self) -> DeadlineExceededError:
        """Return the error that says that the deadline has passed."""
        message = (
            f"The deadline of {self._deadline.seconds} s passed before the next page was there; "
            "the error's cursor says where to go on, with more time."
        )
        return DeadlineExceededError(message, attempts=self.attempts)


class _StopReason(enum.Enum):
    """Why no other attempt follows one that could be retried."""

    DEADLINE = enum.auto()
    POLICY = enum.auto()
    """The attempts or the budget of the page are used up."""
    QUOTA = enum.auto()


def _retry_after(error: BaseException) -> float:
    """Return the seconds that the server asked to wait, 0 where it did not."""
    return (error.retry_after or 0.0) if isinstance(error, APIStatusError) else 0.0


def _outcome_of(error: BaseException) -> str:
    if isinstance(error, APIStatusError):
        return f"HTTP {error.status}"
    if isinstance(error, InsightsError):
        return type(error).__name__
    return DeadlineExceededError.__name__  # only then can a user see a cancelled attempt
