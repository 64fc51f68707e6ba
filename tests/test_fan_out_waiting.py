"""A fan-out that waits for the summary of each conference: it holds up no other."""

from __future__ import annotations

import asyncio

import pytest

from aioparticipants import (
    Conference,
    DeadlineExceededError,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    ProcessingState,
    ServerError,
    SessionClosedError,
)
from aioparticipants._scheduler import _WAITING_PLACES

from .conferences import drained, ids, served_ids, sid
from .sweeps import STYLES, Canceller, cancelled_by, held, on_loops, swept_on, turns, used
from .telemetry import until

SLOW = [404, "in_progress", "complete"]
NEVER = ["in_progress"]


def paths(fake):
    return [each.path.removeprefix("/v1/Conferences/") for each in fake.requests]


async def stillness():
    """Wait until the tasks in the background have nothing more to do."""
    await asyncio.sleep(0.05)


@pytest.mark.parametrize("merged", [False, True])
async def test_waits_for_each(fake, session, merged):
    """Each conference is read once its summary is complete, and its result has the summary."""
    sids = [fake.add_conference(4, summary=SLOW) for _ in range(5)]
    fan_out = session.fan_out(sids, concurrency=2, wait=60, poll=0.001)
    if merged:
        records = await drained(fan_out.participants())
        assert fan_out.failures == ()
    else:
        results = await fan_out
        assert {each.conference.processing_state for each in results} == {"complete"}
        assert all(each.conference.conference_sid == each.conference_sid for each in results)
        assert all(each.settled for each in results)
        records = [record for each in results for record in each.participants]

    for each in sids:
        mine = [record for record in records if record.conference_sid == each]
        assert ids(mine) == served_ids(fake, each)
        assert sorted(paths(fake)).count(each) == 3
    assert session.stats.conferences == 5


async def test_nothing_is_asked_about_a_complete_conference(fake, session):
    """A conference that was given and is complete is read at once; any other one is waited for."""
    complete = fake.add_conference(1)
    gave_up = fake.add_conference(1, summary=["timeout"])
    slow = fake.add_conference(2, summary=["in_progress", "in_progress", "complete"])
    records = [await session.conference(each) for each in (complete, gave_up, slow)]
    fake.requests.clear()
    results = await session.fan_out(records, wait=60, poll=0.001)

    assert [each.error for each in results] == [None] * 3
    assert sorted(path for path in paths(fake) if "/" not in path) == [slow] * 2
    found = {each.conference_sid: each.conference for each in results}
    assert found[complete] is records[0]
    assert found[slow].processing_state == ProcessingState.COMPLETE


async def test_not_complete_in_time(fake, session):
    """After `wait` the result has the error and the latest summary, and nothing is read."""
    slow = fake.add_conference(2, summary=NEVER)
    context = object()
    given = Conference(conference_sid=slow)
    (result,) = await session.fan_out([(given, context)], wait=0.1)

    assert isinstance(result.error, DeadlineExceededError)
    assert "within 0.1 s: its processing_state was in_progress" in str(result.error)
    assert (result.error.conference_sid, result.error.__traceback__) == (slow, None)
    assert (result.participants, result.pages) == ((), 0)
    assert result.conference.processing_state == ProcessingState.IN_PROGRESS
    assert result.context is context
    assert result.seconds >= 0.09
    assert {*paths(fake)} == {slow}
    assert session.stats.conferences_failed == session.stats.conferences == 1


async def test_no_summary_in_time(fake, session):
    """Without any summary the result is a 404 after the grace period, or what the wait says."""
    (result,) = await session.fan_out([sid(9)], wait=60, poll=0.001, grace=0.05)
    assert isinstance(result.error, NotFoundError)
    given = Conference(conference_sid=sid(9), friendly_name="given")
    (result,) = await session.fan_out([given], wait=0.1)
    assert isinstance(result.error, DeadlineExceededError)
    assert "Twilio has none yet" in str(result.error)
    assert result.conference is given


async def test_the_deadline_of_all(fake, session):
    """The deadline of the fan-out also ends the waits, and is named."""
    slow = fake.add_conference(2, summary=NEVER)
    results = await session.fan_out([slow, slow], concurrency=1, wait=60, poll=30, deadline=0.1)
    for each in results:
        assert isinstance(each.error, DeadlineExceededError)
        assert "0.1 s" in str(each.error)


@pytest.mark.parametrize("merged", [False, True])
async def test_the_first_failure_ends_the_waits(fake, session, merged):
    """With `on_error="raise"` a wait that fails ends all other waits as well."""
    slow = [fake.add_conference(2, summary=NEVER) for _ in range(3)]
    fan_out = session.fan_out(
        [*slow, sid(9)], wait=60, poll=30, grace=0, on_error="raise", concurrency=1
    )
    with pytest.raises(NotFoundError):
        await drained(fan_out.participants() if merged else fan_out)
    assert held(session) == (0, 0, 0)
    assert (fan_out.in_flight, fan_out.waiting) == (0, 0)


async def test_a_failure_after_the_wait(fake, session):
    """A conference that fails after its wait is a result like any other."""
    slow = fake.add_conference(2, summary=SLOW)
    fake.fail_next(500, times=50, path=f"/v1/Conferences/{slow}/Participants")
    (result,) = await session.fan_out([slow], wait=60, poll=0.001)
    assert isinstance(result.error, ServerError)
    assert result.conference.processing_state == ProcessingState.COMPLETE


# --- Places ---


async def test_those_that_wait_hold_up_no_other(fake, session):
    """While any number of conferences wait, all others are read, with a single place."""
    slow = [fake.add_conference(2, summary=NEVER) for _ in range(10)]
    quick = [fake.add_conference(2) for _ in range(10)]
    fan_out = session.fan_out([*slow, *quick], concurrency=1, wait=3600, poll=3600)
    async with fan_out:
        found = [(await anext(fan_out)).conference_sid for _ in quick]
        assert found == quick
        assert (fan_out.done, fan_out.in_flight, fan_out.waiting) == (10, 10, 10)
        assert repr(fan_out) == (
            "<FanOut: 10 of 20 done, 0 failed, 10 in flight, 10 of these waiting>"
        )
    assert held(session) == (0, 0, 0)
    assert fan_out.waiting == 0


async def test_after_the_wait_it_takes_a_place(fake, session):
    """A conference whose summary is complete is read once there is a place for it."""
    slow = [fake.add_conference(1, summary=["in_progress", "complete"]) for _ in range(4)]
    quick = [fake.add_conference(1) for _ in range(4)]
    fan_out = session.fan_out([*slow, *quick], concurrency=2, wait=60, poll=0.02)
    async with fan_out:
        results = [await anext(fan_out)]
        await asyncio.sleep(0.3)  # the slow ones are complete, and the consumer takes nothing
        assert fan_out.waiting == 0
        assert sum("/" in path for path in paths(fake)) <= 3
        results += [each async for each in fan_out]

    assert {each.conference_sid for each in results} == {*slow, *quick}
    assert [each.error for each in results] == [None] * 8


async def test_a_slow_source_holds_up_no_summary(fake, session):
    """A conference that has waited is read while the source has not given the next one yet."""
    slow = [fake.add_conference(1, summary=SLOW) for _ in range(3)]
    more = asyncio.Event()

    async def source():
        yield slow[0]
        yield slow[1]
        await more.wait()
        yield slow[2]

    async with session.fan_out(source(), concurrency=1, wait=60, poll=0.001) as fan_out:
        found = [await anext(fan_out), await anext(fan_out)]
        assert (fan_out.done, fan_out.total) == (2, None)
        more.set()
        found += [each async for each in fan_out]

    assert {each.conference_sid for each in found} == {*slow}
    assert [each.error for each in found] == [None] * 3


async def test_so_many_wait(fake, session):
    """If very many conferences wait, the source has to wait, too: memory stays bounded."""
    slow = fake.add_conference(0, summary=NEVER)
    taken = 0

    def source():
        nonlocal taken
        while True:
            taken += 1
            yield slow

    async with session.fan_out(source(), concurrency=3, wait=3600, poll=3600) as fan_out:
        waiting = asyncio.create_task(anext(fan_out))
        await until(lambda: fan_out.waiting == _WAITING_PLACES + 3)
        await stillness()
        assert taken == fan_out.in_flight == fan_out.waiting == _WAITING_PLACES + 3
    assert held(session) == (0, 0, 0)
    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await waiting


# --- Its end ---


async def test_session_closed_while_it_waits(fake):
    """A consumer of a fan-out whose conferences wait gets SessionClosedError at once."""
    slow = fake.add_conference(2, summary=NEVER)
    session = InsightsSession(fake.credentials, base_url=fake.base_url)
    fan_out = session.fan_out([slow], wait=3600, poll=3600)
    waiting = asyncio.create_task(anext(fan_out))
    await until(lambda: fan_out.waiting)
    await session.aclose()
    with pytest.raises(SessionClosedError):
        await waiting


def fanned(fake, session):
    fake.reset()
    sids = [fake.add_conference(2, summary=SLOW), "nonsense", fake.add_conference(1)]
    return sids, session.fan_out(sids, concurrency=1, page_size=1, wait=60, poll=0.001)


async def opened(fan_out, found):
    async with fan_out:
        async for each in fan_out:
            found.append(each)


async def merged_records(fan_out, found):
    async with fan_out.participants() as records:
        async for each in records:
            found.append(each)


@on_loops("style", STYLES)
@pytest.mark.parametrize("consume", [opened, merged_records])
def test_cancelled_at_every_await(new_loop, consume, style):
    """Wherever and however a consumer is cancelled, no task, slot or connection is left."""

    async def once(fake, k):
        async def work(session, _):
            _, fan_out = fanned(fake, session)
            _, was_hit = await cancelled_by(style, consume(fan_out, []), k)
            assert held(session) == (0, 0, 0), k
            assert (fan_out.in_flight, fan_out.waiting) == (0, 0)
            return was_hit

        return await used(fake, work)

    assert swept_on(new_loop, once) > 3


async def close(task, fan_out, session):
    await fan_out.aclose()


async def close_session(task, fan_out, session):
    await session.aclose()


def cancel(style):
    async def cancel_in_style(task, fan_out, session):
        await Canceller(task).end(style)

    return pytest.param(cancel_in_style, id=style)


@on_loops("consume", [opened])
@pytest.mark.parametrize("end", [*map(cancel, STYLES), close, close_session])
def test_ended_at_every_turn(new_loop, consume, end):
    """Whatever its waits are at, ending a fan-out leaves nothing; else each result comes once."""

    async def once(fake, k):
        async def work(session, _):
            sids, fan_out = fanned(fake, session)
            found = []
            task = asyncio.create_task(consume(fan_out, found))
            done = await turns(k, task=task)
            await end(task, fan_out, session)
            assert held(session) == (0, 0, 0), k
            await asyncio.wait([task])
            if done:
                assert sorted(each.conference_sid for each in found) == sorted(sids)
            elif not task.cancelled() and task.exception() is not None:
                expected = {close: InvalidRequestError, close_session: SessionClosedError}[end]
                assert isinstance(task.exception(), expected)
            return not done

        return await used(fake, work)

    assert swept_on(new_loop, once, first=0) > 5
