"""`deadline=`: seconds for a whole list, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import time

import aiohttp
import attrs
import pytest

from aioparticipants import (
    DeadlineExceededError,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    RetryPolicy,
)

from .servers import http, last_page, raw
from .sweeps import LOOPS

SID = "CF" + "a" * 32
CUT_OFF = "DeadlineExceededError"


def outcomes(error):
    return [attempt.outcome for attempt in error.attempts]


async def participants(session, sid, **options):
    return len(await session.participants(sid, **options))


async def conferences(session, _sid, **options):
    return len(await session.conferences(created_after=None, **options))


async def conference(session, sid, **options):
    await session.conference(sid, **options)
    return 1


async def participant(session, sid, **options):
    with contextlib.suppress(NotFoundError):  # no participant has this SID
        await session.participant(sid, "CP" + "0" * 32, **options)
    return 1


calls = pytest.mark.parametrize("call", [participants, conferences, conference, participant])


@calls
async def test_attempt(fake, call):
    """The deadline cancels an attempt without a reply; it is listed, and not retried."""
    sid = fake.add_conference(participants=3)
    fake.latency = 3600
    async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
        with pytest.raises(DeadlineExceededError, match=r"0\.5 s") as caught:
            await call(session, sid, deadline=0.5)
        assert session.stats.in_flight == 0

    assert outcomes(caught.value) == [CUT_OFF]
    assert caught.value.conference_sid == (None if call is conferences else sid)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@calls
async def test_body(call):
    """The deadline ends the reading of a body without an end."""
    async with raw(http(b'{"meta": ', length=1000)) as server:
        async with InsightsSession(("AC1", "x"), base_url=server.base_url) as session:
            with pytest.raises(DeadlineExceededError):
                await call(session, SID, deadline=0.5)

    assert len(server.heads) == 1


async def test_queueing(fake):
    """Waiting for a slot counts; an attempt that was never made is not listed."""
    sid = fake.add_conference(participants=3)
    fake.latency = 0.6
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, max_concurrency=1
    ) as session:
        other = asyncio.create_task(session.participants(sid).all())
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceededError) as caught:
            await session.participants(sid, deadline=0.1)
        assert len(await other) == 3
        assert len(await session.participants(sid, deadline=30)) == 3

    assert caught.value.attempts == ()


@calls
async def test_waits(fake, call):
    """The list does not wait past the deadline for a retry; the failed attempt is listed."""
    sid = fake.add_conference(participants=3)
    fake.fail_next(503, retry_after=50)
    began = time.monotonic()
    async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
        with pytest.raises(DeadlineExceededError) as caught:
            await call(session, sid, deadline=40)

    assert time.monotonic() - began < 30  # it did not wait
    assert outcomes(caught.value) == ["HTTP 503"]
    assert caught.value.attempts[0].delay is None
    assert len(fake.requests) == 1


@calls
async def test_retries_within_it(fake, call):
    """Failures before the deadline are retried."""
    sid = fake.add_conference(participants=3)
    fake.fail_next(503, times=2)
    retry = RetryPolicy(base_delay=0.001)
    async with InsightsSession(fake.credentials, base_url=fake.base_url, retry=retry) as session:
        assert await call(session, sid, deadline=30) == (3 if call is participants else 1)
    assert len(fake.requests) == 3


async def test_pages(fake, session):
    """Pages that arrived in time are delivered after the deadline; then nothing is sent."""
    sid = fake.add_conference(participants=9)
    everyone = [each["participant_sid"] for each in fake.records(sid)]
    stream = session.participants(sid, page_size=3, deadline=1)
    found = [(await anext(stream)).participant_sid]
    await asyncio.sleep(1.1)  # page 1 has come, and page 2 is not requested
    with pytest.raises(DeadlineExceededError) as caught:
        async for participant in stream:
            found.append(participant.participant_sid)

    assert found == everyone[:6]
    assert caught.value.attempts == ()
    assert len(fake.requests) == 2
    rest = await session.participants(sid, resume=caught.value.cursor)
    assert found + [each.participant_sid for each in rest] == everyone
    await stream.aclose()


async def test_it_starts_with_the_first_record(fake, session):
    """The deadline starts when the first record is asked for, not when the stream is made."""
    sid = fake.add_conference(participants=3)
    stream = session.participants(sid, deadline=1)
    await asyncio.sleep(1.1)

    assert len(await stream) == 3


@pytest.mark.parametrize("deadline", [None, 30])
async def test_composes_with_a_timeout_around_it(fake, deadline):
    """A timeout of the caller ends only the wait: the list goes on, each record once."""
    sid = fake.add_conference(participants=4)
    fake.latency = 0.1
    found, timeouts = [], 0
    async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
        stream = session.participants(sid, page_size=2, deadline=deadline)
        while True:
            try:
                async with asyncio.timeout(0.03):
                    found.append(await anext(stream))
            except TimeoutError:
                timeouts += 1
            except StopAsyncIteration:
                break

    assert timeouts  # their number depends on the machine
    assert [each.participant_sid for each in found] == [
        each["participant_sid"] for each in fake.records(sid)
    ]
    assert len(fake.requests) == 2


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), float("inf"), "5", True])
async def test_bad_deadlines(fake, session, deadline):
    """A deadline that is not a positive, finite number is refused before anything is sent."""
    for call in (participants, conferences, conference, participant):
        with pytest.raises(InvalidRequestError, match="deadline must be"):
            await call(session, SID, deadline=deadline)

    assert fake.requests == []


async def test_a_timeout_that_is_a_defect(fake, session):
    """A TimeoutError of our own code is a defect: it is not hidden, nor taken for a deadline."""

    class Broken:
        """A transport with a defect."""

        async def send(self, *_, **__):
            raise TimeoutError

    sid = fake.add_conference(participants=1)
    # What a session makes its lists with, over another transport.
    session._context = attrs.evolve(session._context, transport=Broken())
    for deadline in (None, 30):
        with pytest.raises(TimeoutError) as caught:
            await session.participants(sid, deadline=deadline)
        assert type(caught.value) is TimeoutError


async def test_many_share_one_loop():
    """A deadline ends its own list only."""
    async with raw(...) as silent, raw(http(last_page({}))) as fast:
        async with (
            InsightsSession(("AC1", "x"), base_url=silent.base_url) as waiting,
            InsightsSession(("AC1", "x"), base_url=fast.base_url) as working,
        ):
            late, found = await asyncio.gather(
                waiting.participants(SID, deadline=0.1).all(),
                working.participants(SID, deadline=30).all(),
                return_exceptions=True,
            )

    assert isinstance(late, DeadlineExceededError)
    assert len(found) == 1


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_deadline_is_never_another_timeout(new_loop):
    """On every event loop, a passed deadline is a DeadlineExceededError, never a timeout."""

    async def main():
        async with (
            raw(...) as server,
            InsightsSession(("AC1", "x"), base_url=server.base_url) as session,
        ):
            for _ in range(20):  # one by one, as timers that are due together hide it
                with pytest.raises(DeadlineExceededError) as caught:
                    await session.participants(SID, deadline=0.02)
                assert outcomes(caught.value) == [CUT_OFF]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


class EarlyLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers are early. Those of uvloop can be, by part of a millisecond."""

    def call_at(self, when, *args, **options):
        return super().call_at(when - 1, *args, **options)


def test_an_early_timer():
    """What a deadline has cut off is a DeadlineExceededError, also if the timer was early."""
    trace = aiohttp.TraceConfig()

    async def fail(*_):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        raise OSError

    trace.on_request_start.append(fail)

    async def use():
        async with (
            raw(...) as server,
            InsightsSession(
                ("AC1", "x"),
                base_url=server.base_url,
                retry=RetryPolicy(max_attempts=1),
                trace_configs=[trace],
            ) as session,
        ):
            with pytest.raises(DeadlineExceededError):
                await session.participants(SID, deadline=1.2)

    with asyncio.Runner(loop_factory=EarlyLoop) as runner:
        runner.run(use())
