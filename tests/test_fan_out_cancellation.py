"""A fan-out that is cancelled, closed or dropped at any moment loses nothing and leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from aioparticipants import (
    ConferenceResult,
    InsightsSession,
    InvalidRequestError,
    Participant,
    SessionClosedError,
    TransportError,
)
from aioparticipants.instrumentation import PageDelivered

from .conferences import Scripted, add, drained, ids, is_over, sid
from .sweeps import (
    LOOPS,
    SIZE,
    STYLES,
    Canceller,
    cancelled_at,
    cancelled_by,
    held,
    on_loops,
    own_tasks,
    served,
    swept,
    turns,
    warned_of,
)
from .telemetry import until

SIDS = [sid(0), "nonsense", sid(98), sid(1)]
CONFERENCES = {"conferences": ((sid(0), 3), (sid(1), 1))}  # of two pages, and of one

each_style = pytest.mark.parametrize("style", STYLES)


def fanned(session, **options):
    return session.fan_out(SIDS, concurrency=2, page_size=SIZE, **options)


def check(found, everyone, *, failures=None):
    """Check results or records; if the failures are given, they have to be complete, too."""
    results = [each for each in found if isinstance(each, ConferenceResult)]
    for result in results:
        assert ids(result.participants) == everyone.get(result.conference_sid, [])
        assert (result.error is None) == (result.conference_sid in everyone)
    sids = [each.conference_sid for each in results]
    assert len({*sids}) == len(sids)
    records = [each for each in found if isinstance(each, Participant)]
    for each, expected in everyone.items():
        mine = ids(record for record in records if record.conference_sid == each)
        assert mine == expected[: len(mine)]
    if failures is not None and records:
        assert len(records) == sum(map(len, everyone.values()))
        assert {each.conference_sid for each in failures} == {*SIDS} - {*everyone}
    elif failures is not None:
        assert {*sids} == {*SIDS}


# --- Consumers ---


async def iterated(items, found):
    async for each in items:
        found.append(each)


async def opened(fan_out, found):
    async with fan_out:
        await iterated(fan_out, found)


async def broken_off(fan_out, found):
    async with fan_out:
        async for result in fan_out:
            found.append(result)
            if len(found) == 2:
                break


async def merged(fan_out, found):
    async with fan_out.participants() as records:
        await iterated(records, found)


async def merged_bare(fan_out, found):
    await iterated(fan_out.participants(), found)


async def grouped(items, found):
    """Give each result to a task of a group."""

    async def keep(each):
        await asyncio.sleep(0)
        found.append(each)

    async with items, asyncio.TaskGroup() as group:
        async for each in items:
            group.create_task(keep(each))


async def merged_in_a_group(fan_out, found):
    async with asyncio.TaskGroup() as group:
        async with fan_out.participants() as records:
            async for record in records:
                found.append(record)
                group.create_task(asyncio.sleep(0))


CONSUMERS = [opened, merged, merged_in_a_group, grouped, broken_off, iterated, merged_bare]


# --- Cancelled ---


@on_loops("consume", CONSUMERS)
@each_style
def test_cancelled_at_every_await(new_loop, consume, style):
    """Wherever and however a consumer is cancelled, it leaves no task, slot or connection."""

    async def once(session, everyone, k):
        found = []
        _, was_hit = await cancelled_by(style, consume(fanned(session), found), k)
        if consume in {iterated, merged_bare}:
            await turns(10)  # the tasks of a dropped fan-out end within ten turns of the loop
        assert held(session) == (0, 0, 0), k
        check(found, everyone)
        # The session can still be used.
        assert len(await session.participants(sid(1))) == 1
        return was_hit

    assert swept(new_loop, once, **CONFERENCES) > 3


@on_loops("by", ["result", "record"])
def test_goes_on_after_every_cancellation(new_loop, by):
    """Wherever a wait is cancelled, the next one continues: each conference once, none is lost."""

    async def once(session, everyone, k):
        async with fanned(session) as fan_out:
            found = []
            items = fan_out if by == "result" else fan_out.participants()
            cancelled, was_hit = await cancelled_at(iterated(items, found), k)
            if cancelled:
                await iterated(items, found)
            check(found, everyone, failures=fan_out.failures)
        return was_hit

    assert swept(new_loop, once, **CONFERENCES) > 3


async def close(task, fan_out, session):
    await fan_out.aclose()
    await asyncio.wait([task])


async def close_session(task, fan_out, session):
    await session.aclose()
    await asyncio.wait([task])


def cancel(style):
    async def cancel_in_style(task, fan_out, session):
        await Canceller(task).end(style)

    return pytest.param(cancel_in_style, id=style)


#: What the consumer gets, unless it was through before.
ERRORS = {close: InvalidRequestError, close_session: SessionClosedError}


@on_loops("consume", [opened, merged])
@pytest.mark.parametrize("end", [*map(cancel, STYLES), *ERRORS])
def test_ended_at_every_turn_of_the_loop(new_loop, consume, end):
    """Whatever its conferences are at, ending a fan-out leaves nothing."""

    async def once(session, everyone, k):
        fan_out, found = fanned(session), []
        task = asyncio.create_task(consume(fan_out, found))
        done = await turns(k, task=task)
        await end(task, fan_out, session)
        assert held(session) == (0, 0, 0), k
        assert fan_out.in_flight == 0
        whole = not task.cancelled() and task.exception() is None
        check(found, everyone, failures=fan_out.failures if whole else None)
        if task.cancelled():
            assert end not in ERRORS
        elif not whole:
            assert isinstance(task.exception(), ERRORS[end])
        return not done

    assert swept(new_loop, once, first=0, **CONFERENCES) > 5


@on_loops("consume", [opened, merged])
def test_cancelled_from_outside_at_every_turn(new_loop, consume):
    """Where other code cancels all tasks, what they read is an error, and nothing is lost."""

    async def once(session, everyone, k):
        fan_out = fanned(session)
        found = []
        task = asyncio.create_task(consume(fan_out, found))
        done = await turns(k, task=task)
        for each in own_tasks():
            each.cancel()
        await asyncio.wait([task])
        cut = task.exception() is not None
        if cut:
            assert isinstance(task.exception(), TransportError)
        failures = [*fan_out.failures, *(each for each in found if getattr(each, "error", None))]
        for each, expected in everyone.items():
            records = [
                record
                for item in found
                for record in getattr(item, "participants", [item])
                if record.conference_sid == each
            ]
            mine = ids(records)
            cursors = [
                failure.error.cursor for failure in failures if failure.conference_sid == each
            ]
            if cursors:
                mine += ids(await session.participants(each, page_size=SIZE, resume=cursors[0]))
            assert mine == expected or (cut and not mine)
        if not cut and consume is opened:
            assert sorted(each.conference_sid for each in found) == sorted(SIDS)
        return not done

    assert swept(new_loop, once, first=0, **CONFERENCES) > 5


@on_loops("what", ["results", "records", "session"])
@each_style
def test_closing_cancelled_at_every_await(new_loop, what, style):
    """Closing that is itself cancelled, at any await and however often, still leaves nothing."""

    async def once(session, everyone, k):
        fan_out = fanned(session)
        items = fan_out.participants() if what == "records" else fan_out
        await anext(items)
        closed = session if what == "session" else items
        cancelled, was_hit = await cancelled_by(style, closed.aclose(), k)
        assert held(session) == (0, 0, 0), k
        assert cancelled == was_hit
        if what == "session":
            with pytest.raises(SessionClosedError):
                await drained(items)
        else:
            assert await is_over(items) == "closed before its end"
        return was_hit

    assert swept(new_loop, once, **CONFERENCES) > 1


# --- Dropped ---


@on_loops("consume", [iterated, merged_bare])
def test_dropped_at_every_turn(new_loop, consume):
    """Dropping the last reference ends its tasks within ten turns, without the collector."""

    async def once(session, everyone, k):
        gc.disable()
        try:
            task = asyncio.create_task(consume(fanned(session), []))
            done = await turns(k, task=task)
            task.cancel()
            await asyncio.wait([task])
            del task
            await turns(10)
            assert held(session) == (0, 0, 0)
        finally:
            gc.enable()
        return not done

    assert swept(new_loop, once, first=0, **CONFERENCES) > 5


@pytest.mark.parametrize("new_loop", LOOPS)
def test_dropped_in_another_thread(new_loop):
    """Dropping it in another thread cancels its tasks on their own loop."""

    async def dropped(session, everyone):
        asyncio.get_running_loop().set_debug(True)  # it then notices calls from the wrong thread
        holder = [fanned(session)]
        await anext(holder[0])
        gc.disable()
        try:
            thread = threading.Thread(target=holder.clear)
            thread.start()
            thread.join()
            await turns(12)
            assert held(session) == (0, 0, 0)
        finally:
            gc.enable()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(served(dropped, **CONFERENCES))


@pytest.mark.parametrize("consume", [iterated, opened])
def test_dropped_after_the_loop_closed(recwarn, caplog, consume):
    """Dropping it after its loop was closed warns of nothing, even where somebody waits for it."""
    loop = asyncio.new_event_loop()

    async def begin():
        # No attempt is ever permitted: so there are no sockets, which would warn themselves.
        session = InsightsSession(("AC1", "x"), limiter=asyncio.Semaphore(0))
        fan_out = session.fan_out([sid(0), sid(1), sid(2)], concurrency=2)
        consumer = consume(fan_out, [])
        consumer.send(None)  # by hand, as asyncio logs tasks that do not end
        await until(lambda: session._limiter.in_flight == 2)
        assert len(own_tasks()) == 5
        return consumer

    consumer = loop.run_until_complete(begin())
    loop.close()
    del consumer
    gc.collect()

    assert warned_of(recwarn) == []
    assert caplog.records == []


async def test_dropped_by_its_own_conference(fake):
    """An event callback in a conference's task may drop the fan-out: that task ends, too."""
    holder = []

    def drop(event):
        if isinstance(event, PageDelivered) and asyncio.current_task() in own_tasks():
            holder.clear()

    conference = fake.add_conference(9)
    async with InsightsSession(fake.credentials, base_url=fake.base_url, on_event=drop) as session:
        records = session.fan_out([conference], page_size=2).participants()
        await anext(records)
        await anext(records)
        holder.append(records)
        del records
        await anext(holder[0])
        await until(lambda: not holder and own_tasks() == [])


@pytest.mark.parametrize("merging", [False, True])
def test_a_run_that_ends_around_a_fan_out(recwarn, caplog, merging):
    """asyncio.run ends without warnings around a waiting fan-out; another loop is refused."""

    async def main():
        async with Scripted() as fake:
            sids = add(fake, 3, 3, 3)
            fake.hold(sids[1])
            session = InsightsSession(fake.credentials, base_url=fake.base_url)
            fan_out = session.fan_out(sids)
            items = fan_out.participants() if merging else fan_out
            consumer = asyncio.create_task(drained(items))
            await until(lambda: (sids[1], 0) in fake.asked)
            return session, items, consumer

    session, items, consumer = asyncio.run(main())

    async def on_another_loop():
        with pytest.raises(InvalidRequestError, match="another event loop"):
            await anext(items)
        await items.aclose()
        assert await is_over(items) == "closed before its end"
        await session.aclose()

    asyncio.run(on_another_loop())
    assert consumer.cancelled()
    gc.collect()
    assert warned_of(recwarn) == []
    assert caplog.records == []


def test_closed_on_another_loop_while_the_first_stands():
    """aclose() on another loop cancels the tasks of the first loop, and waits for none of them."""
    with asyncio.Runner() as runner:

        async def begin():
            fake = Scripted()
            await fake.start()
            (only,) = add(fake, 3)
            fake.hold(only)
            session = InsightsSession(fake.credentials, base_url=fake.base_url)
            fan_out = session.fan_out([only])
            waiting = asyncio.create_task(drained(fan_out))
            await until(lambda: fake.asked)
            return fake, session, fan_out, waiting

        fake, session, fan_out, waiting = runner.run(begin())
        thread = threading.Thread(target=lambda: asyncio.run(fan_out.aclose()))
        thread.start()
        thread.join()

        async def end():
            with pytest.raises(InvalidRequestError, match="closed before its end"):
                await waiting
            await turns(10)
            assert held(session) == (0, 0, 0)
            await session.aclose()
            await fake.aclose()

        runner.run(end())
