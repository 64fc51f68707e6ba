"""What bounds a session's load on a real server: its limit, a shared limiter, the retry quota."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from aioparticipants import (
    InsightsSession,
    InvalidRequestError,
    RateLimitError,
    RetryPolicy,
    ServerError,
)
from aioparticipants.instrumentation import LimitChanged
from aioparticipants.testing import FakeInsights

from .telemetry import observed, of_type, until

QUICK = RetryPolicy(base_delay=0.002, max_delay=0.02)


class CountingLimiter:
    """A shared limiter with `acquire` and `release`, which counts its permits."""

    def __init__(self, size):
        self.semaphore = asyncio.Semaphore(size)
        self.acquired = self.most = self.times = 0

    async def acquire(self):
        await self.semaphore.acquire()
        self.times += 1
        self.acquired += 1
        self.most = max(self.most, self.acquired)

    def release(self):
        self.acquired -= 1
        self.semaphore.release()


@asynccontextmanager
async def behind(ceiling, **options):
    """Run a server with a ceiling, and a session on it."""
    async with (
        FakeInsights(concurrency=ceiling, latency=0.002) as fake,
        observed(fake, [], **{"retry": QUICK} | options) as session,
    ):
        yield fake, session


@pytest.mark.repeats
async def test_a_ceiling_is_found():
    """Behind an unknown ceiling no conference fails, and few attempts get a 429."""
    async with behind(3, max_concurrency=64) as (fake, session):
        sids = [fake.add_conference(participants=3) for _ in range(150)]

        results = [each async for each in session.fan_out(sids, page_size=2)]

    assert [each.error for each in results] == [None] * len(sids)
    assert session.stats.rate_limited < session.stats.requests / 4
    assert session.stats.limit <= 4


@pytest.mark.repeats
async def test_a_ceiling_that_rises_is_found():
    """When the ceiling rises, the limit grows beyond the former one."""
    async with behind(3, max_concurrency=64) as (fake, session):
        sids = [fake.add_conference(participants=1) for _ in range(600)]

        async for _ in session.fan_out(sids):
            if len(fake.requests) > 150:
                fake.concurrency = 24

    assert session.stats.limit > 6


async def test_a_429_at_each_attempt():
    """A conference that gets a 429 at each attempt fails with RateLimitError."""
    async with behind(0) as (fake, session):
        [result] = [each async for each in session.fan_out([fake.add_conference(1)])]

    assert isinstance(result.error, RateLimitError)
    assert result.error.code == 20429
    assert [each.outcome for each in result.error.attempts] == ["HTTP 429"] * 5


async def test_max_concurrency_is_never_exceeded():
    """However many attempts succeed, no more than `max_concurrency` are in flight."""
    events = []
    async with behind(6, max_concurrency=6, on_event=events.append) as (fake, session):
        sids = [fake.add_conference(participants=1) for _ in range(100)]

        async for result in session.fan_out(sids, concurrency=30):
            assert result.error is None

    limits = [each.limit for each in of_type(LimitChanged, events)]
    assert limits == sorted(limits)
    assert limits[-1] == 6
    assert session.stats.rate_limited == 0


@pytest.mark.parametrize("kind", [CountingLimiter, asyncio.Semaphore])
async def test_a_limiter_of_two_sessions(kind):
    """A limiter that two sessions share bounds both together."""
    limiter = kind(2)
    async with behind(2, limiter=limiter) as (fake, session):
        sids = [fake.add_conference(participants=1) for _ in range(20)]
        async with observed(fake, [], limiter=limiter) as other:

            async def read(reader):
                return [each.error async for each in reader.fan_out(sids)]

            assert await asyncio.gather(read(session), read(other)) == [[None] * 20] * 2

        assert [seen.status for seen in fake.requests] == [200] * 40
    if kind is CountingLimiter:
        assert (limiter.acquired, limiter.most, limiter.times) == (0, 2, 40)


async def test_a_shared_limiter_is_free_between_attempts(fake):
    """No permit is held while an attempt waits for its retry, or a page is read."""
    limiter, acquired = CountingLimiter(1), []
    sid = fake.add_conference(participants=4)
    fake.fail_next(503, times=2)
    watch = {"on_event": lambda _: acquired.append(limiter.acquired)}
    async with observed(fake, [], retry=QUICK, limiter=limiter, **watch) as session:
        stream = session.participants(sid, page_size=2)
        rival = session.participants(sid)
        await anext(stream)
        assert len(await rival) == 4
        await stream.aclose()

    assert limiter.acquired == 0
    assert (min(acquired), max(acquired)) == (0, 1)


async def test_a_cancelled_attempt_releases_the_shared_limiter(fake):
    """A cancelled attempt releases its permit, or leaves the queue for one."""
    limiter = CountingLimiter(1)
    sid = fake.add_conference(participants=1)
    fake.latency = 60
    async with observed(fake, [], limiter=limiter) as session:
        streams = [session.participants(sid) for _ in range(2)]
        waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
        await until(lambda: session.stats.in_flight)
        assert session.stats.requests == 1
        for stream in reversed(streams):
            await stream.aclose()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [*map(type, ended)] == [InvalidRequestError] * 2

    assert limiter.acquired == 0
    assert not limiter.semaphore.locked()
    assert session.stats.cancelled == 1


@pytest.mark.parametrize("limiter", [5, "twelve", object(), asyncio.Lock, lambda: None])
def test_invalid_shared_limiters(limiter):
    """What cannot be acquired and released is rejected when the session is built."""
    with pytest.raises(InvalidRequestError, match="limiter must be"):
        InsightsSession(("AC1", "x"), limiter=limiter)


@pytest.mark.repeats
async def test_a_dead_server_is_not_flooded(fake):
    """A thousand calls to a dead server send a thousand requests, plus the retry quota."""
    fake.fail_next(503, times=2000)
    sid = fake.add_conference(participants=1)
    async with observed(fake, [], retry=RetryPolicy(base_delay=0)) as session:
        errors = [each.error async for each in session.fan_out([sid] * 1000, concurrency=20)]
        stats = session.stats

    assert {type(error) for error in errors} == {ServerError}
    assert len(fake.requests) == stats.requests == 1100
    assert (stats.retries, stats.failed, stats.conferences_failed) == (100, 1100, 1000)
    denied = [error for error in errors if "the session's retry quota is used up" in str(error)]
    assert len(denied) == stats.retries_denied > 900
