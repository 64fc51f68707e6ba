"""The retry policy, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
import random

import pytest

from aioparticipants import (
    Attempt,
    DeadlineExceededError,
    InsightsError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    ResponseError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    TransportError,
)
from aioparticipants._retrying import Deadline, RetryQuota, RetryRun

from .benchmarks.retry_quota import World


class Largest(random.Random):
    """Jitter that always takes the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        """Return the upper bound."""
        return b


class Call:
    """A request whose attempts end as scripted, each after one second."""

    def __init__(self, *outcomes, policy=None, rng=None, deadline=None, quota=None, at=1000.0):
        policy = policy or RetryPolicy()
        self.time = at
        self.left: list[float] = []
        self.slept: list[float] = []
        self.waits: list[Attempt] = []
        self.outcomes = list(outcomes)
        self.deadline = Deadline(deadline, clock=self.clock)
        self.deadline.start()
        self.run = RetryRun(
            policy,
            self.deadline,
            quota or RetryQuota(policy.quota),
            clock=self.clock,
            rng=rng or Largest(),
        )

    def clock(self):
        return self.time

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.time += seconds

    async def attempt(self):
        self.time += 100.0  # in the queue for a slot
        self.left.append(self.run.attempt_started())
        self.time += 1.0
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def before_sleep(self, _state):
        self.run.record_retry()
        self.waits.append(self.run.attempts[-1])

    async def result(self):
        try:
            async for attempt in self.run.controller(
                sleep=self.sleep, before_sleep=self.before_sleep
            ):
                with attempt, self.run.recorded():
                    return await self.attempt()
        except InsightsError as error:
            failure = self.run.final_error(error)
        raise failure

    async def failure(self, kind):
        with pytest.raises(kind) as caught:
            await self.result()
        return caught.value


def cut_off():
    return ResponseError("cut off", transient=True)


def unavailable(status=503, **fields):
    return ServerError("unavailable", status=status, **fields)


def limited(retry_after=None):
    return RateLimitError("slow down", status=429, retry_after=retry_after)


async def test_success_at_once():
    """A success is returned, and nothing is slept."""
    call = Call("page")

    assert await call.result() == "page"
    assert call.slept == []
    assert call.run.attempts == []


@pytest.mark.parametrize(
    "error",
    [
        unavailable(500),
        unavailable(502),
        unavailable(),
        unavailable(504),
        limited(),
        TransportError("reset"),
        RequestTimeoutError("slow"),
        ResponseError("cut off", transient=True),
    ],
)
async def test_transient_faults_are_retried(error):
    """A transient error is retried, and its wait is reported before it."""
    call = Call(error, "page")

    assert await call.result() == "page"
    assert [(wait.delay, wait.seconds) for wait in call.waits] == [(call.slept[0], 1.0)]


@pytest.mark.parametrize(
    "error",
    [
        unavailable(501),
        NotFoundError("gone", status=404),
        ResponseError("wrong shape"),
        TransportError("certificate", transient=False),
        InvalidRequestError("ours"),
        SessionClosedError("closed"),
        KeyError("a defect"),
        asyncio.CancelledError(),
    ],
)
async def test_other_errors_are_not_retried(error):
    """What retrying cannot fix is raised at once and unchanged; a cancellation above all."""
    call = Call(error, "page")

    assert await call.failure(type(error)) is error
    assert call.slept == []


async def test_backoff_doubles_up_to_its_bound():
    """Waits are bounded by base, 2 base, 4 base … and never more than max_delay."""
    call = Call(*[unavailable()] * 6, policy=RetryPolicy(max_attempts=6, max_delay=3.0))

    error = await call.failure(ServerError)

    assert call.slept == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert error.attempts == (
        *(Attempt("HTTP 503", 1.0, delay) for delay in call.slept),
        Attempt("HTTP 503", 1.0),
    )


async def test_jitter_is_full():
    """A wait is drawn between nothing and its bound, so that callers do not come back together."""
    rng = random.Random(7)
    firsts = []
    for _ in range(200):
        call = Call(unavailable(), "page", rng=rng)
        await call.result()
        firsts += call.slept

    assert 0.0 <= min(firsts) < 0.05
    assert 0.45 < max(firsts) <= 0.5


async def test_retry_after_is_a_floor():
    """The server's wait comes first, and the jitter on top of it."""
    call = Call(limited(7.0), limited(0.0), "page")

    await call.result()

    assert call.slept == [7.5, 1.0]


async def test_long_retry_after_is_raised():
    """A wait longer than max_retry_after is the caller's to decide, and is on the error."""
    call = Call(limited(60.5), "page")

    error = await call.failure(RateLimitError)

    assert error.retry_after == 60.5
    assert error.attempts == (Attempt("HTTP 429", 1.0),)
    assert call.slept == []


async def test_budget_ends_before_the_wait_that_would_pass_it():
    """Attempts and waits fit the budget, and queueing for a slot does not count."""
    call = Call(
        *[limited(10.0)] * 9, policy=RetryPolicy(max_attempts=9, base_delay=0.0, budget=30.0)
    )

    await call.failure(RateLimitError)

    assert call.slept == [10.0, 10.0]
    assert call.left == [30.0, 19.0, 8.0]


@pytest.mark.parametrize("retry_after", [2.0, 50.0])
async def test_a_wait_that_would_pass_the_deadline_is_not_begun(retry_after):
    """The call fails at once, with a DeadlineExceededError that lists the attempts."""
    call = Call(limited(retry_after), deadline=103.0)

    late = await call.failure(DeadlineExceededError)

    assert call.slept == []
    assert late.attempts == (Attempt("HTTP 429", 1.0),)
    assert "103.0 s" in str(late)


@pytest.mark.parametrize(
    ("deadline", "kind"), [(101.2, ServerError), (101.0, DeadlineExceededError)]
)
async def test_the_last_attempt_and_the_deadline(deadline, kind):
    """The last attempt's error is raised, unless the deadline has passed when it fails."""
    await Call(unavailable(), policy=RetryPolicy(max_attempts=1), deadline=deadline).failure(kind)


async def test_an_attempt_that_is_cut_off():
    """An attempt that the deadline cuts off is listed, and one that still queued is not."""
    call = Call(asyncio.CancelledError(), deadline=1.0)
    with pytest.raises(asyncio.CancelledError):
        await call.result()
    queued = Call(deadline=1.0)
    with pytest.raises(asyncio.CancelledError), queued.run.recorded():
        raise asyncio.CancelledError

    assert call.run.deadline_exceeded().attempts == (Attempt("DeadlineExceededError", 1.0),)
    assert queued.run.deadline_exceeded().attempts == ()


def test_deadline_runs_from_its_start():
    """A deadline counts from when it is started, which is done once, and never below nothing."""
    time = [5.0]
    deadline = Deadline(2.0, clock=lambda: time[0])
    time[0] = 100.0

    assert deadline.left() == 2.0
    deadline.start()
    time[0] = 101.5
    deadline.start()
    assert deadline.left() == 0.5
    time[0] = 200.0
    assert deadline.left() == 0.0
    assert Deadline(None, clock=lambda: 0.0).left() == math.inf


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, True, "5", b"5", []])
def test_bad_deadlines(seconds):
    """A deadline that is no positive, finite number is refused."""
    with pytest.raises(InvalidRequestError, match="deadline must be"):
        Deadline(seconds, clock=lambda: 0.0)


async def test_one_attempt_turns_retrying_off():
    """max_attempts=1 makes one attempt."""
    call = Call(unavailable(), "page", policy=RetryPolicy(max_attempts=1))

    await call.failure(ServerError)

    assert call.slept == []


async def test_runs_do_not_share_state():
    """Each of many calls at once makes its own number of attempts."""
    calls = [Call(*[unavailable()] * 4, index) for index in range(30)]

    results = await asyncio.gather(*(call.result() for call in calls))

    assert results == [*range(30)]
    assert {len(call.run.attempts) for call in calls} == {4}


@pytest.mark.parametrize(
    "fields",
    [
        {"max_attempts": 0},
        {"max_attempts": 1.5},
        {"max_attempts": True},
        {"base_delay": -1},
        {"base_delay": float("nan")},
        {"max_delay": float("inf")},
        {"max_retry_after": "60"},
        {"budget": True},
        {"quota": -1},
        {"quota": 10.0},
        {"quota": True},
        {"quota": "100"},
        {"base_delay": 10**400},
        {"max_delay": 10**400},
        {"max_retry_after": 10**400},
        {"budget": 10**400},
        {"max_attempts": 10**400},
        {"quota": 10**400},
    ],
)
def test_bad_policies(fields):
    """A policy that cannot be meant is refused by the name of its field."""
    with pytest.raises(InvalidRequestError, match=next(iter(fields))):
        RetryPolicy(**fields)


# --- The quota ---


def used_up(quota, at=1000.0):
    """Note a fault that took the last retry."""
    quota.failed(at, at)
    while not quota.is_used_up:
        quota.take()


async def test_an_outage_does_not_multiply_the_load():
    """1000 calls to a dead server make 1000 attempts, and a hundred more: the quota of all."""
    quota = RetryQuota(100)
    calls = [Call(*[unavailable()] * 5, quota=quota) for _ in range(1000)]

    for call in calls:
        await call.failure(ServerError)

    assert sum(len(call.run.attempts) for call in calls) == 1100
    assert quota.left == 0


@pytest.mark.parametrize(
    ("error", "cost"),
    [
        (unavailable(), 1),
        (TransportError("reset"), 1),
        (cut_off(), 1),
        (RequestTimeoutError("slow"), 1),
        (limited(), 0),
    ],
)
async def test_what_a_retry_costs(error, cost):
    """A retry draws one from the quota, whatever its reason; after a 429 it draws none."""
    quota = RetryQuota(100)

    await Call(error, NotFoundError("gone", status=404), quota=quota).failure(NotFoundError)

    assert quota.left == 100 - cost


async def test_successes_fill_the_quota():
    """A success earns one retry, up to as many as there can be."""
    quota = RetryQuota(2)
    assert quota.left == 2
    used_up(quota)
    await Call("page", quota=quota).result()
    assert quota.left == 1

    await Call(unavailable(), "page", quota=quota).result()
    assert quota.left == 1
    await Call("page", quota=quota).result()
    await Call("page", quota=quota).result()
    assert quota.left == 2


@pytest.mark.parametrize(("quiet", "attempts"), [(0.0, 1), (29.0, 1), (30.0, 5), (3600.0, 5)])
async def test_quiet_time_fills_the_quota(quiet, attempts):
    """A call that begins after half a minute without a fault has all of its attempts again."""
    quota = RetryQuota(100)
    used_up(quota, at=1000.0)
    call = Call(*[unavailable()] * 5, quota=quota, at=1000.0 + quiet)

    error = await call.failure(ServerError)

    assert len(error.attempts) == attempts


@pytest.mark.parametrize("error", [unavailable(), unavailable(retry_after=55.0)])
async def test_time_does_not_feed_a_dead_server(error):
    """However long a server is dead, its calls get one attempt each, and the quota once."""
    quota, now, attempts = RetryQuota(100), 1000.0, 0
    for _ in range(500):
        call = Call(*[error] * 5, quota=quota, at=now)
        await call.failure(ServerError)
        attempts += len(call.run.attempts)
        now = call.time + 20.0

    assert attempts == 500 + 100


async def test_refusals_are_no_faults():
    """A 429 is a sign of life: it does not put off that the quota is full again."""
    quota = RetryQuota(100)
    used_up(quota, at=1000.0)
    await Call(*[limited()] * 5, quota=quota, at=1010.0).failure(RateLimitError)
    call = Call(*[unavailable()] * 5, quota=quota, at=1030.0)

    await call.failure(ServerError)

    assert len(call.run.attempts) == 5


@pytest.mark.parametrize(
    "error",
    [
        unavailable(request_id="RQ1", retry_after=0.0),
        TransportError("reset", conference_sid="CF1"),
        cut_off(),
        RequestTimeoutError("slow"),
    ],
)
async def test_an_error_tells_that_the_quota_was_used_up(error):
    """What the quota denies a retry ends with its own error, which says so, also when copied."""
    quota = RetryQuota(100)
    used_up(quota)
    was, fields = str(error), error.__dict__.copy()
    call = Call(error, "page", quota=quota)

    assert await call.failure(type(error)) is error
    assert call.run.denied
    for each in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(each) is type(error)
        assert str(each).startswith(f"{was} Not retried, as the session's retry quota is used up: ")
        assert "none of its 100 retries" in str(each)
        assert each.__dict__ == fields | {"attempts": (call.run.attempts[0],)}
        assert each.transient


async def test_errors_that_were_retried_do_not_blame_the_quota():
    """An error after the last attempt says nothing of the quota, used up or not."""
    quota = RetryQuota(4)
    call = Call(*[unavailable()] * 5, quota=quota)

    error = await call.failure(ServerError)

    assert str(error) == "unavailable"
    assert (quota.left, call.run.denied) == (0, False)


async def test_no_retries_in_an_outage():
    """quota=0 retries no fault, however well it goes; a 429 is retried as ever."""
    quota = RetryQuota(0)
    for _ in range(3):
        await Call("page", quota=quota).result()
    call = Call(limited(), unavailable(), "page", quota=quota, policy=RetryPolicy(quota=0))

    with pytest.raises(ServerError, match="none of its 0 retries is left"):
        await call.result()

    assert len(call.run.attempts) == 2


async def test_no_quota():
    """quota=None gives each call its five attempts, however long the outage."""
    quota = RetryQuota(None)
    for _ in range(300):
        call = Call(*[unavailable()] * 5, quota=quota)
        assert len((await call.failure(ServerError)).attempts) == 5


@pytest.mark.repeats
def test_random_faults_do_not_use_the_quota_up():
    """Where 40 % of the attempts fail, hardly more calls fail than five attempts alone fail."""
    world = World(0.4, RetryQuota(100)).begin(0.0, 3000).run()

    assert world.calls == 3000
    assert world.failed <= 2 * 0.4**5 * world.calls


@pytest.mark.repeats
@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_random_faults_are_retried_twice_a_call_at_most(share):
    """Where most attempts fail, the quota keeps the load to twice that of no retries at all."""
    world = World(share, RetryQuota(100)).begin(0.0, 1000).run()

    assert world.requests <= 2 * world.calls + 100
