"""Starting over with a stream or fan-out that is used up or closed is an error."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from aioparticipants import InsightsSession, InvalidRequestError, SessionClosedError
from aioparticipants.testing import FakeInsights

from .telemetry import until

ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
USED_UP, CLOSED = "used up", "closed before its end"


async def awaited(items):
    await items


async def listed(items):
    await items.all()


async def iterated(items):
    async for _ in items:
        pass


async def opened(items):
    async with items:
        pass


async def by_page(stream):
    async for _ in stream.pages():
        pass


async def merged(fan_out):
    async for _ in fan_out.participants():
        pass


COMMON = [awaited, listed, iterated, opened]
WAYS = [
    *(
        pytest.param(kind, each, id=f"{kind}-{each.__name__}")
        for kind in ("stream", "conferences")
        for each in [*COMMON, by_page]
    ),
    *(pytest.param("fan-out", each, id=f"fan-out-{each.__name__}") for each in [*COMMON, merged]),
]


@pytest.fixture
def make(fake, session):
    """Return a function that makes a stream or fan-out of ten records, two a page."""
    sid = fake.add_conference(10)
    for _ in range(9):
        fake.add_conference(0)

    def new(kind):
        if kind == "stream":
            return session.participants(sid, page_size=2)
        if kind == "conferences":
            return session.conferences(created_after=ANY_TIME, page_size=2)
        return session.fan_out([sid, fake.add_conference(4)], page_size=2)

    return new


@pytest.mark.parametrize("first", [awaited, listed, iterated])
@pytest.mark.parametrize(("kind", "way"), WAYS)
async def test_used_up(fake, make, kind, way, first):
    """A list that was delivered is not delivered again as an empty list: that is an error."""
    items = make(kind)
    await first(items)
    requests = len(fake.requests)
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match=USED_UP):
            await way(items)
        with pytest.raises(StopAsyncIteration):  # as the protocol demands at the end
            await anext(items)
    await items.aclose()
    with pytest.raises(InvalidRequestError, match=USED_UP):
        await way(items)
    assert len(fake.requests) == requests


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(("kind", "way"), WAYS)
async def test_closed(fake, make, kind, way, begun):
    """A list that was closed before its end is never a short list, whatever is called."""
    items = make(kind)
    if begun:
        await anext(items)
    await items.aclose()
    requests = len(fake.requests)
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match=CLOSED):
            await way(items)
        with pytest.raises(InvalidRequestError, match=CLOSED):
            await anext(items)
    assert len(fake.requests) == requests


async def test_closed_after_the_last_record(fake, session):
    """A stream that is closed after its last record has ended, and requests nothing more."""
    stream = session.participants(fake.add_conference(3), limit=2)
    assert len([await anext(stream), await anext(stream)]) == 2
    async with stream:
        assert [each async for each in stream] == []
    assert "used up" in repr(stream)


@pytest.mark.parametrize("kind", ["participants", "conferences"])
@pytest.mark.parametrize("reader", [awaited, listed, iterated, by_page])
async def test_closed_by_another_task(fake, session, reader, kind):
    """If another task closes the stream, its reader gets an error with the cursor."""
    sid = fake.add_conference(100)
    for _ in range(99 if kind == "conferences" else 0):
        fake.add_conference(0)

    def new(**options):
        if kind == "participants":
            return session.participants(sid, **options)
        return session.conferences(created_after=ANY_TIME, **options)

    fake.latency = 0.01
    stream = new(page_size=20)
    reading = asyncio.create_task(reader(stream))
    await until(lambda: len(fake.requests) == 2)
    await stream.aclose()
    with pytest.raises(InvalidRequestError, match=CLOSED) as caught:
        await reading

    assert caught.value.conference_sid == (sid if kind == "participants" else None)
    assert caught.value.cursor == stream.cursor
    rest = await new(resume=caught.value.cursor)
    # An awaited list delivers all or nothing.
    assert len(rest) == 100 if reader in {awaited, listed} else len(rest) in {80, 60, 40}
    with pytest.raises(InvalidRequestError, match=CLOSED):
        await anext(stream)


async def test_closed_between_two_records(fake, session):
    """A reader that is not waiting when the stream is closed gets the error when it goes on."""
    sid = fake.add_conference(10)
    stream = session.participants(sid, page_size=5)
    found = []

    async def read():
        async for participant in stream:
            found.append(participant)
            await asyncio.sleep(0)

    reading = asyncio.create_task(read())
    await until(lambda: len(found) == 3)
    await stream.aclose()
    with pytest.raises(InvalidRequestError, match=CLOSED) as caught:
        await reading

    rest = await session.participants(sid, resume=caught.value.cursor)
    assert len(found) + len(rest) == 10


@pytest.mark.parametrize("merging", [False, True])
async def test_a_fan_out_closed_by_another_task(fake, session, merging):
    """The reader of a fan-out gets the error too."""
    sids = [fake.add_conference(2) for _ in range(8)]
    fake.latency = 0.01
    fan_out = session.fan_out(sids, concurrency=2)
    reading = asyncio.create_task((merged if merging else iterated)(fan_out))
    await until(lambda: fan_out.done == 2)
    await fan_out.aclose()
    with pytest.raises(InvalidRequestError, match=CLOSED):
        await reading


async def test_awaited_while_the_session_closes(fake):
    """A list that is awaited while the session closes is an error, not a short list."""
    sid = fake.add_conference(100)
    fake.latency = 0.01
    session = InsightsSession(fake.credentials, base_url=fake.base_url)
    reading = asyncio.create_task(session.participants(sid, page_size=20).all())
    await until(lambda: len(fake.requests) == 2)
    await session.aclose()
    with pytest.raises(SessionClosedError):
        await reading


async def test_a_list_is_a_coroutine(fake, session):
    """TaskGroup.create_task takes `all()` of a stream and of a fan-out, side by side."""
    sids = [fake.add_conference(size) for size in (3, 4)]
    async with asyncio.TaskGroup() as group:
        everyone = [group.create_task(session.participants(sid).all()) for sid in sids]
        results = group.create_task(session.fan_out(sids).all())

    assert [len(task.result()) for task in everyone] == [3, 4]
    assert sorted(len(each.participants) for each in results.result()) == [3, 4]


def test_asyncio_run_takes_a_list():
    """asyncio.run takes `all()`, as it takes any coroutine."""

    async def main():
        async with FakeInsights() as fake:
            sid = fake.add_conference(3)
            async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
                first = session.participants(sid).all()
                return await asyncio.create_task(first), await session.fan_out([sid])

    everyone, [result] = asyncio.run(main())
    assert (*everyone,) == result.participants


async def test_a_fan_out_awaited_twice_at_once(fake, session):
    """A second task that awaits a fan-out is refused, and does not close it."""
    sids = [fake.add_conference(2) for _ in range(4)]
    fake.latency = 0.01
    fan_out = session.fan_out(sids)
    first = asyncio.create_task(fan_out.all())
    await until(lambda: fan_out.in_flight)
    with pytest.raises(InvalidRequestError, match="Two tasks"):
        await fan_out

    assert len(await first) == 4


async def test_results_of_a_fan_out_that_is_merged(fake, session):
    """Awaiting a fan-out whose records are merged is refused, and does not close it."""
    fan_out = session.fan_out([fake.add_conference(2)])
    records = fan_out.participants()
    with pytest.raises(InvalidRequestError, match="being merged"):
        await fan_out

    assert len([each async for each in records]) == 2


async def test_settled(fake, session):
    """A result is settled if it is complete, has records, and Twilio will change none of them."""
    [record] = fake.records(fake.add_conference(1))

    def with_states(*states):
        sid = fake.add_conference(0)
        return fake.add_conference(
            [{**record, "conference_sid": sid, "processing_state": each} for each in states],
            conference_sid=sid,
        )

    sids = {
        with_states("complete", "complete"): True,
        with_states("complete", "timeout"): True,
        with_states("complete", "in_progress"): False,
        with_states("complete", None): False,
        with_states(): False,
        "CF" + "0" * 32: False,
    }
    async for result in session.fan_out(sids):
        assert result.settled is sids[result.conference_sid]
