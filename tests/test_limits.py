"""What bounds a session's load, over real sockets: its limit, a shared budget, the retry quota."""

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

QUICK = RetryPolicy(base_delay=0.002, max_delay=0.02)


class Budget:
    """A semaphore whose most used is remembered, as an async `acquire` and a `release`."""

    def __init__(self, size):
        self.semaphore = asyncio.Semaphore(size)
        self.taken = self.most = self.times = 0

    async def acquire(self):
        await self.semaphore.acquire()
        self.times += 1
        self.taken += 1
        self.most = max(self.most, self.taken)

    def release(self):
        self.taken -= 1
        self.semaphore.release()


@asynccontextmanager
async def behind(ceiling, **options):
    """Run a server with a ceiling, and a session on it."""
    async with FakeInsights(concurrency=ceiling, latency=0.002) as fake:
        async with InsightsSession(
            fake.credentials, base_url=fake.base_url, **{"retry": QUICK} | options
        ) as session:
            yield fake, session


async def test_a_ceiling_is_found():
    """Behind a ceiling that it does not know, a session loses nothing, and is seldom refused."""
    async with behind(3, max_concurrency=64) as (fake, session):
        sids = [fake.add_conference(participants=3) for _ in range(150)]

        results = [each async for each in session.fan_out(sids, page_size=2)]

    assert [each.error for each in results] == [None] * len(sids)
    assert session.stats.rate_limited < session.stats.requests / 4
    assert session.stats.limit <= 4


async def test_a_ceiling_that_rises_is_found():
    """Where the account has room again, the limit grows beyond what it was refused at."""
    async with behind(3, max_concurrency=64) as (fake, session):
        sids = [fake.add_conference(participants=1) for _ in range(600)]

        async for _ in session.fan_out(sids):
            if len(fake.requests) > 150:
                fake.concurrency = 24

    assert session.stats.limit > 6


async def test_refused_for_good():
    """A conference that is refused at each attempt is a RateLimitError, and so is a fan-out's."""
    async with behind(0) as (fake, session):
        [result] = [each async for each in session.fan_out([fake.add_conference(1)])]

    assert isinstance(result.error, RateLimitError)
    assert result.error.code == 20429
    assert [each.outcome for each in result.error.attempts] == ["HTTP 429"] * 5


async def test_the_limit_never_passes_its_ceiling():
    """However well it goes, no more than max_concurrency attempts are in flight."""
    told = []
    async with behind(None, max_concurrency=6, on_event=told.append) as (fake, session):
        sids = [fake.add_conference(participants=1) for _ in range(100)]
        fake.concurrency = 6

        async for result in session.fan_out(sids, concurrency=30):
            assert result.error is None

    limits = [each.limit for each in told if isinstance(each, LimitChanged)]
    assert limits == sorted(limits)
    assert limits[-1] == 6
    assert session.stats.rate_limited == 0


@pytest.mark.parametrize("kind", [Budget, asyncio.Semaphore])
async def test_a_budget_of_several_sessions(kind):
    """A limiter that two sessions share bounds both together, within each one's own limit."""
    budget = kind(2)
    async with behind(2, limiter=budget) as (fake, session):
        sids = [fake.add_conference(participants=1) for _ in range(20)]
        async with InsightsSession(
            fake.credentials, base_url=fake.base_url, limiter=budget
        ) as other:

            async def read(reader):
                return [each.error async for each in reader.fan_out(sids)]

            assert await asyncio.gather(read(session), read(other)) == [[None] * 20] * 2

        assert [seen.status for seen in fake.requests] == [200] * 40
    if kind is Budget:
        assert (budget.taken, budget.most, budget.times) == (0, 2, 40)


async def test_a_budget_is_free_between_attempts(fake):
    """Nothing is held of a shared limiter while an attempt's wait goes on, or a page is read."""
    budget = Budget(1)
    held = []
    sid = fake.add_conference(participants=4)
    fake.fail_next(503, times=2)
    async with InsightsSession(
        fake.credentials,
        base_url=fake.base_url,
        retry=QUICK,
        limiter=budget,
        on_event=lambda _: held.append(budget.taken),
    ) as session:
        stream = session.participants(sid, page_size=2)
        rival = session.participants(sid)
        await anext(stream)
        assert len(await rival) == 4
        await stream.aclose()

    assert budget.taken == 0
    assert max(held) == 1
    assert min(held) == 0


async def test_a_budget_is_given_back_when_cancelled(fake):
    """A cancelled attempt gives its share back, be it in flight or in the queue for it."""
    budget = Budget(1)
    sid = fake.add_conference(participants=1)
    fake.latency = 60
    async with InsightsSession(fake.credentials, base_url=fake.base_url, limiter=budget) as session:
        streams = [session.participants(sid) for _ in range(2)]
        waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
        while not session.stats.in_flight:  # noqa: ASYNC110 - turns of the loop, not time
            await asyncio.sleep(0)
        assert session.stats.requests == 1
        for stream in reversed(streams):
            await stream.aclose()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [*map(type, ended)] == [InvalidRequestError] * 2

    assert budget.taken == 0
    assert not budget.semaphore.locked()
    assert session.stats.cancelled == 1


@pytest.mark.parametrize("limiter", [5, "twelve", object(), asyncio.Lock, lambda: None])
def test_what_is_no_limiter(limiter):
    """What cannot be acquired and released is refused as the session is made."""
    with pytest.raises(InvalidRequestError, match="limiter must be"):
        InsightsSession(("AC1", "x"), limiter=limiter)


async def test_a_dead_server_is_not_flooded(fake):
    """A thousand calls to a server that is down cost a thousand requests, and the quota."""
    fake.fail_next(503, times=2000)
    sid = fake.add_conference(participants=1)
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, retry=RetryPolicy(base_delay=0)
    ) as session:
        errors = [each.error async for each in session.fan_out([sid] * 1000, concurrency=20)]
        stats = session.stats

    assert {type(error) for error in errors} == {ServerError}
    assert len(fake.requests) == stats.requests == 1100
    assert (stats.retries, stats.failed, stats.conferences_failed) == (100, 1100, 1000)
    denied = [error for error in errors if "the session's retry quota is used up" in str(error)]
    assert len(denied) == stats.retries_denied > 900
