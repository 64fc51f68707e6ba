"""A list that is cancelled, dropped or closed at any moment loses nothing and leaves nothing."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress

import pytest

from aioparticipants import (
    DeadlineExceededError,
    InsightsError,
    InsightsSession,
    RetryPolicy,
    SessionClosedError,
    TransportError,
)
from aioparticipants.testing import FakeInsights

from . import watchdog
from .servers import http as reply_of
from .servers import last_page, raw
from .sweeps import (
    COUNT,
    FAULTS,
    LOOPS,
    SID,
    SIZE,
    STYLES,
    Canceller,
    cancelled_at,
    cancelled_by,
    held,
    on_loops,
    on_loops_and_lists,
    own_tasks,
    served,
    serving,
    styles_and_faults,
    swept,
    swept_on,
    turns,
    warned_of,
)
from .telemetry import until


def sid_of(record):
    return getattr(record, "participant_sid", None) or record.conference_sid


async def iterated(stream, found):
    async for record in stream:
        found.append(sid_of(record))


async def opened(stream, found):
    async with stream:
        await iterated(stream, found)


async def broken_off(stream, found):
    async with stream:
        async for record in stream:
            found.append(sid_of(record))
            if len(found) == SIZE + 1:
                break


async def by_page(stream, found):
    async with stream:
        async for page in stream.pages():
            found.extend(map(sid_of, page.records))


async def listed(stream, found):
    found.extend(map(sid_of, await stream))


CONSUMERS = [opened, broken_off, by_page, listed, iterated]


@on_loops_and_lists("consume", CONSUMERS)
@styles_and_faults
def test_cancelled_at_every_await(new_loop, consume, listing, style, faults):
    """Wherever and however a consumer is cancelled, it leaves no task, slot or connection."""

    async def once(session, everyone, k):
        found = []
        consumer = consume(listing.open(session, page_size=SIZE), found)
        _, was_hit = await cancelled_by(style, consumer, k)
        if consume is iterated:
            await turns(3)  # the task of a dropped stream ends within three turns of the loop
            gc.collect()
            await turns(1)
        assert held(session) == (0, 0, 0), k
        assert found == listing.expected(everyone)[: len(found)]
        # The session can still be used.
        assert len(await listing.open(session)) == COUNT
        return was_hit

    assert swept(new_loop, once, listing=listing, **faults) > 4


def cancel(style):
    async def end(task, stream, session):
        await Canceller(task).end(style)

    end.__name__ = style
    return end


async def close(task, stream, session):
    await stream.aclose()
    await asyncio.wait([task])


async def close_session(task, stream, session):
    await session.aclose()
    await asyncio.wait([task])


@on_loops_and_lists("end", [*map(cancel, STYLES), close, close_session])
@pytest.mark.parametrize("faults", FAULTS)
def test_ended_at_every_turn_of_the_loop(new_loop, end, listing, faults):
    """Ending a stream in any turn of the loop leaves nothing, whatever its page waits for."""

    async def once(session, everyone, k):
        stream = listing.open(session, page_size=SIZE)
        found = []
        task = asyncio.create_task(opened(stream, found))
        done = await turns(k, task=task)
        await end(task, stream, session)
        assert held(session) == (0, 0, 0), k
        assert found == listing.expected(everyone)[: len(found)]
        if end is close_session and not done:
            assert task.done()
            assert isinstance(task.exception(), SessionClosedError | None)
        elif end is close and not done:
            assert isinstance(task.exception(), InsightsError | None)
        return not done

    assert swept(new_loop, once, first=0, listing=listing, **faults) > 10


@on_loops_and_lists("by", ["record", "page"])
@pytest.mark.parametrize("faults", FAULTS)
def test_goes_on_after_every_cancellation(new_loop, by, listing, faults):
    """Wherever a wait is cancelled, the next one continues: each record once, each page once."""

    async def once(session, everyone, k):
        async with listing.open(session, page_size=SIZE) as stream:
            found, ended = [], False
            source = stream if by == "record" else stream.pages()

            async def read():
                nonlocal ended
                async for each in source:
                    found.extend([each] if by == "record" else each.records)
                ended = True

            cancelled, was_hit = await cancelled_at(read(), k)
            assert cancelled or ended
            if not ended:
                await read()
        assert [listing.sid_of(each) for each in found] == listing.expected(everyone)
        return was_hit

    assert swept(new_loop, once, listing=listing, **faults) > 3


SINGLE = [
    lambda session, _: session.conference(SID),
    lambda session, everyone: session.participant(SID, everyone[SID][1]),
]


@pytest.mark.parametrize("get", SINGLE, ids=["conference", "participant"])
@styles_and_faults
def test_a_single_record_cancelled_at_every_await(get, style, faults):
    """Wherever and however the wait for a single record is cancelled, nothing is left."""

    async def once(session, everyone, k):
        _, was_hit = await cancelled_by(style, get(session, everyone), k)
        assert held(session) == (0, 0, 0), k
        assert (await get(session, everyone)).conference_sid == SID
        return was_hit

    assert swept(asyncio.new_event_loop, once, **faults) > 1


@pytest.mark.parametrize("new_loop", LOOPS)
def test_polling(new_loop):
    """A consumer with a timeout for each wait gets every record once, and then the end."""

    async def poll(session, everyone):
        found = []
        async with session.participants(SID, page_size=SIZE) as stream:
            while True:
                try:
                    async with asyncio.timeout(0):
                        found.append((await anext(stream)).participant_sid)
                except TimeoutError:
                    await asyncio.sleep(0)
                except StopAsyncIteration:
                    break
        assert found == everyone[SID]

    watchdog.run(served(poll), new_loop)


@on_loops_and_lists("what", ["stream", "session"])
@pytest.mark.parametrize("style", STYLES)
def test_closing_cancelled_at_every_await(new_loop, what, listing, style):
    """Closing that is itself cancelled, at any await and however often, still leaves nothing."""

    async def once(session, everyone, k):
        stream = listing.open(session, page_size=SIZE)
        await anext(stream)
        closed = stream if what == "stream" else session
        cancelled, was_hit = await cancelled_by(style, closed.aclose(), k)
        assert held(session) == (0, 0, 0)
        assert cancelled == was_hit
        if what == "session":
            assert session._transport._http.closed
            with pytest.raises(SessionClosedError):
                while True:
                    await anext(stream)
        return was_hit

    assert swept(new_loop, once, listing=listing) > 1


# --- The block of a session, the limiter, and a shared one ---


OTHER, UNKNOWN = "CF" + "b" * 32, "CF" + "c" * 32
CONFERENCES = ((SID, COUNT), (OTHER, 1))


async def session_listed(session):
    async with session:
        return await session.participants(SID, page_size=SIZE)


async def session_iterated(session):
    async with session:
        return [each async for each in session.participants(SID, page_size=SIZE)]


async def session_fanned(session):
    sids = [SID, "nonsense", OTHER, UNKNOWN]
    async with session:
        fan_out = session.fan_out(sids, concurrency=2, page_size=SIZE)
        return [each async for each in fan_out.participants()]


async def session_closed(session):
    try:
        return await session.participants(SID, page_size=SIZE)
    finally:
        await session.aclose()


SESSIONS = [session_listed, session_iterated, session_fanned, session_closed]


@on_loops("consume", SESSIONS)
@pytest.mark.parametrize("style", STYLES)
def test_the_block_of_a_session(new_loop, consume, style):
    """Wherever and however the block of a session is cancelled, the session is closed after it."""

    async def once(fake, k):
        session = InsightsSession(fake.credentials, base_url=fake.base_url)
        own_finally = consume is session_closed
        _, was_hit = await cancelled_by(style, consume(session), k, own_finally=own_finally)
        assert repr(session).endswith("closed>")
        assert held(session) == (0, 0, 0), k
        http = session._transport._http
        assert http is None or http.closed
        return was_hit

    assert swept_on(new_loop, once, conferences=CONFERENCES) > 3


@on_loops("style", STYLES)
def test_waiting_for_a_slot(new_loop, style):
    """If a list that waits for a slot is cancelled in any turn, the next one gets the slot."""

    async def once(session, everyone, k):
        found = [], []
        rivals = [asyncio.create_task(listed(session.participants(SID), each)) for each in found]
        task = asyncio.create_task(listed(session.participants(SID, page_size=SIZE), []))
        done = await turns(k, task=task)
        await Canceller(task).end(style)
        await asyncio.wait(rivals)
        assert [*map(len, found)] == [COUNT] * 2
        assert held(session) == (0, 0, 0), k
        return not done

    assert swept(new_loop, once, first=0, new_options=lambda: {"max_concurrency": 1}) > 5


class Budget:
    """A shared limiter with an async `release` that takes some turns of the loop."""

    def __init__(self):
        self.free = asyncio.Semaphore(1)
        self.taken = 0

    async def acquire(self):
        await self.free.acquire()
        self.taken += 1

    async def release(self):
        for _ in range(3):
            await asyncio.sleep(0)
        self.taken -= 1
        self.free.release()


@on_loops("by", ["consumer", "other code"])
@pytest.mark.parametrize("style", STYLES)
def test_release_of_a_shared_limiter(new_loop, style, by):
    """An async release completes, however often its attempt's tasks are cancelled."""
    budgets = []

    def new_options():
        budgets.append(Budget())
        return {"limiter": budgets[-1]}

    async def once(session, everyone, k):
        budget = budgets[-1]
        task = asyncio.create_task(listed(session.participants(SID, page_size=SIZE), []))
        done = await turns(k, task=task)
        pages = [each for each in own_tasks() if each.get_name() == "aioparticipants page"]
        for each in [task] if by == "consumer" else pages:
            await Canceller(each).end(style)
        if not task.done():
            await asyncio.wait([task])
        if not task.cancelled():
            assert isinstance(task.exception(), TransportError | None)
        assert held(session) == (0, 0, 0), k
        assert budget.taken == 0
        assert not budget.free.locked()
        return not done

    assert swept(new_loop, once, first=0, new_options=new_options) > 5


class Stuck:
    """A shared limiter whose async `release` never ends, unless it is cancelled."""

    def __init__(self):
        self.releasing = 0

    async def acquire(self):
        """Acquire at once."""

    async def release(self):
        self.releasing += 1
        await asyncio.Event().wait()


class StuckContext(Stuck):
    """The same as an async context manager."""

    async def __aenter__(self):
        await self.acquire()

    async def __aexit__(self, *_exc):
        await self.release()


async def past_its_deadline(session, limiter):
    with pytest.raises(DeadlineExceededError):
        await session.participants(SID, deadline=0.05)


async def cancelled_while_releasing(session, limiter):
    task = asyncio.ensure_future(session.participants(SID))
    await until(lambda: limiter.releasing)
    await Canceller(task).end("level")
    assert task.cancelled()


async def closed_while_releasing(session, limiter):
    task = asyncio.ensure_future(session.participants(SID))
    await until(lambda: limiter.releasing)
    await session.aclose()
    await asyncio.wait([task])
    assert isinstance(task.exception(), SessionClosedError)


@pytest.mark.parametrize("kind", [Stuck, StuckContext])
@pytest.mark.parametrize(
    "work", [past_its_deadline, cancelled_while_releasing, closed_while_releasing]
)
def test_a_release_that_hangs(work, kind, caplog):
    """A shared limiter that never releases defeats no deadline, no cancellation and no closing."""

    async def main():
        limiter = kind()
        async with serving([(SID, 1)]) as fake:
            async with InsightsSession(
                fake.credentials, base_url=fake.base_url, limiter=limiter
            ) as session:
                await work(session, limiter)
        assert own_tasks() == []
        assert limiter.releasing == 1

    watchdog.run(main())
    # In debug mode asyncio logs, too, if a step takes long.
    loggers = [each.name for each in caplog.records if each.levelname == "WARNING"]
    assert ("aioparticipants" in loggers) == (kind is Stuck)


def test_a_release_that_hangs_after_a_success(caplog):
    """The page of an attempt whose release hangs is delivered all the same."""

    async def main():
        async with serving([(SID, 1)]) as fake:
            async with InsightsSession(
                fake.credentials, base_url=fake.base_url, limiter=Stuck()
            ) as session:
                assert len(await session.participants(SID)) == 1
        assert own_tasks() == []

    watchdog.run(main())
    assert "aioparticipants" in {each.name for each in caplog.records}


# --- The session is closed while a consumer waits ---


async def waiting_for_the_head(found):
    return await errors_of_readers(found, ...)


async def waiting_for_the_body(found):
    return await errors_of_readers(found, reply_of(b'{"participants": [', length=1000))


async def waiting_for_the_next_attempt(found):
    retry = RetryPolicy(base_delay=60, max_delay=60)
    return await errors_of_readers(found, reply_of(b"", "503 Unavailable"), retry=retry)


async def waiting_for_a_slot(found):
    return await errors_of_readers(found, ..., max_concurrency=1, rivals=1)


async def errors_of_readers(found, reply, *, rivals=0, **options):
    """Wait for a page that never comes; close the session; return the readers' errors."""
    link = f"https://insights.twilio.com/v1/Conferences/{SID}/Participants?Page=1"
    first = reply_of(last_page({"participant_sid": "CP1"}).replace(b"null", f'"{link}"'.encode()))
    async with raw(first, reply) as server:
        session = InsightsSession(("AC1", "x"), base_url=server.base_url, **options)
        stream = session.participants(SID)
        found.append((await anext(stream)).participant_sid)
        others = [asyncio.ensure_future(session.participants(SID)) for _ in range(rivals)]
        readers = [asyncio.ensure_future(anext(stream)), *others]
        await until(lambda: len(server.heads) >= 2)
        await turns(200)
        assert not any(reader.done() for reader in readers)
        await session.aclose()
        await asyncio.sleep(0)
        assert all(reader.done() for reader in readers)
        assert held(session) == (0, 0, 0)
        errors = [reader.exception() for reader in readers]
        assert errors[0].cursor == stream.cursor
        await stream.aclose()
        return [type(error) for error in errors]


@pytest.mark.parametrize(
    "state",
    [
        waiting_for_the_head,
        waiting_for_the_body,
        waiting_for_the_next_attempt,
        waiting_for_a_slot,
    ],
)
async def test_closing_the_session_in_every_state(state):
    """Whatever a consumer waits for, closing the session gives it an error at once."""
    found = []

    assert {*await state(found)} == {SessionClosedError}
    assert found == ["CP1"]


async def test_closing_an_idle_session(fake):
    """An idle stream whose session was closed delivers what it has fetched, then the error."""
    sid = fake.add_conference(participants=COUNT)
    session = InsightsSession(fake.credentials, base_url=fake.base_url)
    stream = session.participants(sid, page_size=SIZE)
    fresh = session.participants(sid)
    await anext(stream)
    await session.aclose()

    found = 1
    with pytest.raises(SessionClosedError) as caught:
        async for _ in stream:
            found += 1
    assert found >= SIZE
    with pytest.raises(SessionClosedError):
        await fresh
    async with InsightsSession(fake.credentials, base_url=fake.base_url) as other:
        rest = await other.participants(sid, resume=caught.value.cursor)
        assert found + len(rest) == COUNT
    await stream.aclose()


async def test_closing_with_many_readers(fake):
    """Each of fifty readers of one session gets SessionClosedError; none hangs."""
    sid = fake.add_conference(participants=COUNT)
    fake.latency = 3600
    session = InsightsSession(fake.credentials, base_url=fake.base_url, max_concurrency=3)
    async with asyncio.TaskGroup() as group:

        async def read():
            with pytest.raises(SessionClosedError):
                await session.participants(sid)

        tasks = [group.create_task(read()) for _ in range(50)]
        await asyncio.sleep(0.01)
        await session.aclose()

    assert all(task.done() and not task.cancelled() for task in tasks)


async def test_read_by_one_task_after_another(fake):
    """A stream may be read by one task after another, even if one of them is cancelled."""
    sid = fake.add_conference(participants=COUNT)
    async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
        stream = session.participants(sid, page_size=SIZE)

        async def read(count):
            return [(await anext(stream)).participant_sid for _ in range(count)]

        first = await asyncio.create_task(read(2))
        fake.latency = 0.05
        second = asyncio.create_task(read(2))
        await asyncio.sleep(0)
        second.cancel()
        with suppress(asyncio.CancelledError):
            await second
        rest = await asyncio.create_task(read(3))
        assert first + rest == [each["participant_sid"] for each in fake.records(sid)]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        await stream.aclose()


def test_a_run_that_ends_around_a_stream(recwarn, caplog):
    """asyncio.run ends without warnings around streams in every state."""

    async def main():
        fake = FakeInsights()
        await fake.start()
        fake.add_conference(participants=COUNT, conference_sid=SID)
        session = InsightsSession(fake.credentials, base_url=fake.base_url)
        kept = [session.participants(SID, page_size=SIZE) for _ in range(3)]
        await anext(kept[0])
        async for _ in kept[1]:
            pass
        await session.aclose()
        await fake.aclose()
        return kept

    kept = asyncio.run(main())
    assert [type(each).__name__ for each in kept] == ["RecordStream"] * 3
    del kept
    gc.collect()
    assert warned_of(recwarn) == []
    assert caplog.records == []
