"""Many conferences at once, over real sockets: each once, isolated, and in bounded memory."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import weakref
from contextlib import aclosing
from types import NoneType

import pytest

from aioparticipants import (
    DeadlineExceededError,
    FanOut,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    Participant,
    ResponseError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    TransportError,
)
from aioparticipants.instrumentation import PageDelivered

from .conferences import Scripted, add, drained, ids, is_over, served_ids, sid
from .servers import raw
from .sweeps import (
    held,
    own_tasks,
    turns,
)
from .telemetry import until

VARIABLE = contextvars.ContextVar("VARIABLE", default="outside")


@pytest.fixture
async def fake():
    """Return a running server that the test can script."""
    async with Scripted() as server:
        yield server


async def collect(items, found):
    """Append everything that an async iterable gives."""
    async for each in items:
        found.append(each)


async def stillness():
    """Wait until the tasks in the background have nothing more to do."""
    await asyncio.sleep(0.05)


# --- Results ---


@pytest.mark.parametrize("concurrency", [None, 1, 3, 100])
async def test_each_conference_once(fake, session, concurrency):
    """Each conference is delivered once, its records in the server's order, its pages counted."""
    sids = add(fake, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
    async with session.fan_out(sids, concurrency=concurrency, page_size=4) as fan_out:
        results = await drained(fan_out)
        with pytest.raises(StopAsyncIteration):
            await anext(fan_out)
        assert await is_over(fan_out) == "used up"

    assert isinstance(fan_out, FanOut)
    assert sorted(each.conference_sid for each in results) == sids
    for result in results:
        assert ids(result.participants) == served_ids(fake, result.conference_sid)
        assert result.pages == max(1, -(-len(result.participants) // 4))
        assert result.error is None
        assert result.seconds > 0
    assert repr(fan_out) == "<FanOut: 12 of 12 done, 0 failed, 0 in flight>"


async def test_a_slow_conference_holds_up_no_other(fake, session):
    """Results are delivered as they complete, not in the order of their SIDs."""
    sids = add(fake, *[3] * 10)
    gate = fake.hold(sids[0])
    async with session.fan_out(sids, concurrency=2) as fan_out:
        others = [(await anext(fan_out)).conference_sid for _ in sids[1:]]
        gate.set()
        last = await anext(fan_out)

    assert others == sids[1:]
    assert last.conference_sid == sids[0]


async def test_filters_and_page_size(fake, session):
    """Filters and page size reach every request."""
    sids = add(fake, 9, 9)
    results = await drained(session.fan_out(sids, label="agent", events="mute", page_size=2))

    assert len(results) == 2
    assert all(each.label == "agent" for result in results for each in result.participants)
    assert {tuple(seen.query.items())[:3] for seen in fake.requests} == {
        (("Label", "agent"), ("Events", "mute"), ("PageSize", "2"))
    }


async def test_two_at_once_in_one_session(fake, session):
    """Two fan-outs of one session do not mix."""
    sids = add(fake, *range(12))
    halves = await asyncio.gather(
        *(drained(session.fan_out(each, concurrency=2)) for each in (sids[:6], sids[6:]))
    )

    assert [sorted(each.conference_sid for each in half) for half in halves] == [
        sids[:6],
        sids[6:],
    ]


BAD = [{"participant_sid": f"CP{number}"} for number in range(5)]
BAD[3] = {"participant_sid": "CP3", "duration_seconds": "3"}

#: How a conference can fail: its SID, the error, and the number of records and pages before it.
FAILURES = {
    "no SID": ("nonsense", InvalidRequestError, 0, 0),
    "no str": (7, InvalidRequestError, 0, 0),
    "None": (None, InvalidRequestError, 0, 0),
    "unknown": (sid(99), NotFoundError, 0, 0),
    "first page refused": (sid(2), ServerError, 0, 0),
    "second page refused": (sid(3), ServerError, 2, 1),
    "wrong type": (sid(4), ResponseError, 3, 2),
}


def break_some(fake):
    """Add five conferences, three of them broken; return a function that repairs those."""
    sids = add(fake, 5, 5, 5, 5)
    fake.add_conference(BAD, conference_sid=sid(4))
    fake.statuses |= {(sids[2], 0): 500, (sids[3], 1): 503}

    def repair():
        fake.statuses.clear()
        whole = [{**each, "duration_seconds": 3} for each in BAD]
        fake.add_conference(whole, conference_sid=sid(4))

    return repair


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("failing", FAILURES)
async def test_a_failing_conference_is_a_result(fake, session, failing, merged):
    """The result has the error and the records before it, and can be resumed; others go on."""
    repair = break_some(fake)
    bad, error, records, pages = FAILURES[failing]
    async with session.fan_out([sid(0), bad, sid(1)], concurrency=1, page_size=2) as fan_out:
        if merged:
            found = await drained(fan_out.participants())
            (result,) = fan_out.failures
            assert result.participants == ()
            before = [each for each in found if each.conference_sid not in {sid(0), sid(1)}]
        else:
            results = {each.conference_sid: each for each in await drained(fan_out)}
            result = results.pop(bad)
            found = [each for result in results.values() for each in result.participants]
            assert fan_out.failures == ()
            before = [*result.participants]
        assert (fan_out.done, fan_out.failed, fan_out.total) == (3, 1, 3)

    whole = served_ids(fake, sid(0)) + served_ids(fake, sid(1))
    assert [each for each in ids(found) if each in whole] == whole
    assert type(result.error) is error
    assert (result.conference_sid, result.pages, len(before)) == (bad, pages, records)
    assert result.error.__traceback__ is None
    repair()
    if pages:
        rest = await session.participants(bad, page_size=2, resume=result.error.cursor)
        assert ids(before) + ids(rest) == served_ids(fake, bad)


@pytest.mark.parametrize("merged", [False, True])
async def test_raise(fake, session, merged):
    """The first failure ends all: what is complete is delivered, then the error, each time."""
    sids = add(fake, 2, 2, 6, 6, 2)
    fake.hold(sids[2], 1)
    gate = fake.hold(sids[3], 1)
    fake.statuses[sids[3], 1] = 404
    async with session.fan_out(sids, concurrency=4, page_size=2, on_error="raise") as fan_out:
        items = fan_out.participants() if merged else fan_out
        # Merged: a page of each of the four, after which two of them are over.
        found = [await anext(items) for _ in range(8 if merged else 1)]
        await until(lambda: fan_out.done == 2)
        gate.set()
        await until(lambda: fan_out.failed)
        with pytest.raises(NotFoundError) as caught:
            async for each in items:
                found.append(each)
        assert held(session) == (0, 0, 0)
        with pytest.raises(NotFoundError) as again:
            await anext(items)
        assert again.value is not caught.value
        assert again.value.cursor == caught.value.cursor
        assert (fan_out.failed, fan_out.in_flight, fan_out.total) == (1, 0, 5)

    assert await is_over(items) == "closed before its end"
    assert caught.value.conference_sid == sids[3]
    fake.statuses.clear()
    rest = await session.participants(sids[3], page_size=2, resume=caught.value.cursor)
    if merged:
        assert {each.conference_sid for each in found} >= {*sids[:4]}
        before = [each for each in found if each.conference_sid == sids[3]]
        assert ids(before) + ids(rest) == served_ids(fake, sids[3])
    else:
        assert {each.conference_sid for each in found} >= {*sids[:2]}
        assert (
            caught.value.cursor is None
        )  # none of its records was delivered, so it starts from the beginning
        assert ids(rest) == served_ids(fake, sids[3])


async def test_the_first_failure_stays(fake, session):
    """An exception of the source while it is cancelled does not replace the first failure."""

    async def source():
        try:
            yield "nonsense"
            await asyncio.Event().wait()
        finally:
            message = "cleaning up failed"
            raise LookupError(message)

    with pytest.raises(InvalidRequestError, match="conference_sid"):
        await drained(session.fan_out(source(), on_error="raise"))


async def test_a_defect_is_raised_unchanged(fake):
    """An exception that is not an InsightsError ends all, and is raised unchanged."""

    class Broken:
        def start_span(self, *_args, **_options):
            raise ZeroDivisionError

    sids = add(fake, 2, 2, 2)
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, tracer=Broken()
    ) as session:
        fan_out = session.fan_out(sids)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await anext(fan_out)
        assert held(session) == (0, 0, 0)


async def test_a_shared_limiter_that_fails(fake):
    """An exception of a shared limiter fails the conference of that attempt, and no other."""

    class Fickle:
        calls = 0

        async def acquire(self):
            self.calls += 1
            if self.calls <= 2:
                raise TimeoutError

        def release(self):
            """Do nothing."""

    sids = add(fake, 2, 2, 2)
    async with InsightsSession(
        fake.credentials,
        base_url=fake.base_url,
        limiter=Fickle(),
        retry=RetryPolicy(max_attempts=1),
    ) as session:
        results = await session.fan_out(sids, concurrency=1)

    assert [type(each.error) for each in results] == [TransportError, TransportError, NoneType]
    assert "TimeoutError" in str(results[0].error)
    assert isinstance(results[0].error.__cause__, TimeoutError)
    assert [each.outcome for each in results[0].error.attempts] == ["TransportError"]


# --- Where the SIDs come from ---


class Queue:
    """An async iterator that is not a generator, as the consumers of queues are."""

    def __init__(self, sids):
        self.sids = asyncio.Queue()
        for each in sids:
            self.sids.put_nowait(each)
        self.sids.put_nowait(None)

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        found = await self.sids.get()
        if found is None:
            raise StopAsyncIteration
        return found


async def later(sids):
    for each in sids:
        await asyncio.sleep(0)
        yield each


SOURCES = {
    "list": list,
    "set": set,
    "keys": dict.fromkeys,
    "generator": lambda sids: (each for each in sids),
    "async generator": later,
    "queue": Queue,
}


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("source", SOURCES)
async def test_sources(fake, session, source, count, merged):
    """Any iterable or async iterable is a source; without SIDs nothing is sent."""
    sids = add(fake, *[2] * count)
    given = SOURCES[source](sids)
    fan_out = session.fan_out(given, concurrency=3)
    assert fan_out.total == (count if hasattr(given, "__len__") else None)
    assert "of ? done" in repr(fan_out) or fan_out.total == count
    found = await drained(fan_out.participants() if merged else fan_out)

    assert {each.conference_sid for each in found} == {*sids}
    assert len(found) == count * (2 if merged else 1)
    assert (fan_out.done, fan_out.total, fan_out.in_flight) == (count, count, 0)
    assert len(fake.asked) == count


@pytest.mark.parametrize("source", ["CF", b"CF", None, 7, object(), sid])
async def test_no_source(session, source):
    """Anything that is not a source of SIDs is refused at the call."""
    with pytest.raises(InvalidRequestError, match="iterable"):
        session.fan_out(source)


class Lost(Exception):  # noqa: N818 - it is what a source raises
    """The source's own exception."""


def failing(sids):
    yield from sids
    raise Lost


async def failing_later(sids):
    for each in sids:
        yield each
    raise Lost


@pytest.mark.parametrize("source", [failing, failing_later])
@pytest.mark.parametrize("merged", [False, True])
async def test_a_source_that_fails(fake, session, source, merged):
    """The conferences before it are delivered first, then the source's exception, each time."""
    sids = add(fake, 2, 2, 2)
    fan_out = session.fan_out(source(sids), concurrency=2)
    items = fan_out.participants() if merged else fan_out
    found = []
    with pytest.raises(Lost) as caught:
        async for each in items:
            found.append(each)

    assert {each.conference_sid for each in found} == {*sids}
    assert len(found) == 3 * (2 if merged else 1)
    assert (fan_out.done, fan_out.total) == (3, None)
    with pytest.raises(Lost) as again:
        await anext(items)
    assert again.value is caught.value
    assert any(each.name.startswith("failing") for each in again.traceback)
    length = len(again.traceback)
    with pytest.raises(Lost) as again:
        await anext(items)
    assert len(again.traceback) == length
    await fan_out.aclose()
    assert await is_over(items) == "closed before its end"


async def test_a_failed_fan_out_can_be_forgotten(fake, session):
    """The exception that is kept to be raised again does not keep the fan-out alive."""
    fan_out = session.fan_out(failing([]))
    with pytest.raises(Lost):
        await anext(fan_out)
    gone = weakref.ref(fan_out)
    del fan_out
    gc.collect()

    assert gone() is None


class Counted:
    """Counts the SIDs that were taken."""

    def __init__(self, sids):
        self.sids = iter(sids)
        self.taken = 0

    def __iter__(self):
        return self

    def __next__(self):
        found = next(self.sids)
        self.taken += 1
        return found


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_slow_consumer_stops_the_source(fake, session, asynchronous):
    """No SID is taken before the first `anext`, and never more than `concurrency` ahead."""
    sids = add(fake, *[1] * 20)
    source = Counted(sids)
    fan_out = session.fan_out(later(source) if asynchronous else source, concurrency=3)
    await stillness()
    assert (source.taken, fake.asked) == (0, [])

    for delivered in range(1, 21):
        await anext(fan_out)
        assert source.taken <= min(delivered - 1 + 3, 20)
        await stillness()
        assert source.taken == min(delivered + 3, 20)
        await until(lambda: len(fake.asked) == source.taken)
    with pytest.raises(StopAsyncIteration):
        await anext(fan_out)


async def test_few_are_decoded_ahead(fake, session):
    """Up to `concurrency` conferences are fetched whole, and two of them are decoded ahead."""
    sids = add(fake, *[6] * 9)
    fan_out = session.fan_out(sids, concurrency=5, page_size=2)
    for delivered in range(1, 10):
        await anext(fan_out)
        asked, done = 3 * min(delivered + 5, 9), min(delivered + 2, 9)
        while len(fake.asked) < asked or fan_out.done < done:
            await stillness()
        await stillness()
        assert (len(fake.asked), fan_out.done) == (asked, done)
    with pytest.raises(StopAsyncIteration):
        await anext(fan_out)
    assert fan_out.in_flight == 0


@pytest.mark.parametrize("failure", ["refused", "bad record"])
async def test_failures_while_others_wait_for_a_slot(fake, session, failure):
    """If conferences fail while they hold a slot, those that wait for one still get it."""
    sids = add(fake, *[2] * 7)
    failing, late = sids[3:5], sids[5:]
    gates = [fake.hold(each) for each in (*failing, *late)]
    for each in failing:
        if failure == "refused":
            fake.statuses[each, 1] = 404
        else:
            records = fake.records(each)
            records[1]["duration_seconds"] = "wrong"
            fake.add_conference(records, conference_sid=each)
    async with session.fan_out(sids, concurrency=9, page_size=1, on_error="raise") as fan_out:
        found = [await anext(fan_out)]
        # In this order: two hold a slot, two will fail with theirs, and two wait behind those.
        for gate in gates:
            await stillness()
            gate.set()
        await stillness()
        with pytest.raises(NotFoundError if failure == "refused" else ResponseError):
            async for result in fan_out:
                found.append(result)

    assert sorted(each.conference_sid for each in found) == [*sids[:3], *late]
    assert all(len(each.participants) == 2 for each in found)


async def test_what_waits_for_its_slot_is_complete(fake, session):
    """What was fetched whole before the first failure is delivered before the error."""
    sids = add(fake, *[4] * 9)
    gate = fake.hold(sids[-1])
    fake.statuses[sids[-1], 0] = 404
    async with session.fan_out(sids, concurrency=9, page_size=2, on_error="raise") as fan_out:
        found = [await anext(fan_out)]
        await until(lambda: len(fake.asked) == 17)
        await stillness()
        gate.set()
        await until(lambda: fan_out.failed)
        with pytest.raises(NotFoundError):
            async for each in fan_out:
                found.append(each)

    assert sorted(each.conference_sid for each in found) == sids[:-1]
    assert all(len(each.participants) == 4 for each in found)


async def test_a_long_conference_is_not_fetched_whole_for_a_bad_record(fake, session):
    """Only a few pages of a long conference are fetched before its first record is decoded."""
    records = fake.records(fake.add_conference(40))
    records[1]["duration_seconds"] = "wrong"
    records = [{**each, "conference_sid": sid(1)} for each in records]
    long = fake.add_conference(records, conference_sid=sid(1))
    (result,) = await drained(session.fan_out([long], page_size=2))
    assert isinstance(result.error, ResponseError)
    assert len(result.participants) == 1
    assert len(fake.asked) <= 5


async def test_a_long_conference_is_decoded_while_its_next_page_is_fetched(fake):
    """After its first pages, a long conference is fetched one page ahead of the decoding."""
    long = fake.add_conference(16)
    gate, events = fake.hold(long, 5), []
    async with (
        InsightsSession(
            fake.credentials, base_url=fake.base_url, on_event=events.append
        ) as session,
        session.fan_out([long], page_size=2) as fan_out,
    ):
        waiting = asyncio.create_task(anext(fan_out))
        await until(lambda: (long, 5) in fake.asked)
        await stillness()
        left = [each.page for each in events if isinstance(each, PageDelivered)]
        assert left == [0, 1, 2, 3]  # the fifth is decoded, and reported with the next page
        gate.set()
        assert len((await waiting).participants) == 16


async def test_a_conference_that_waits_for_a_page_lets_others_be_decoded(fake, session):
    """While long conferences wait for further pages, the others are decoded and delivered."""
    sids = add(fake, 12, 12, 1, 1, 1)
    long, short = sids[:2], sids[2:]
    late = [fake.hold(each, 5) for each in long]
    first = [fake.hold(each) for each in short]
    found = []
    async with session.fan_out(sids, page_size=2) as fan_out:
        taking = asyncio.create_task(collect(fan_out, found))
        await until(lambda: all((each, 5) in fake.asked for each in long))
        await stillness()
        for gate in first:
            gate.set()
        await until(lambda: len(found) == 3)
        for gate in late:
            gate.set()
        await taking

    assert {each.conference_sid for each in found[:3]} == {*short}
    assert [len(each.participants) for each in found[3:]] == [12, 12]


async def test_a_slow_consumer_of_records_stops_the_source(fake, session):
    """A slow consumer of merged records stops the source as well."""
    sids = add(fake, *[2] * 12)
    source = Counted(sids)
    async with session.fan_out(source, concurrency=3).participants() as records:
        for delivered in range(1, 25):
            await anext(records)
            await stillness()
            # Of each page taken, one record may be left; its conference has ended.
            assert source.taken <= min(3 + (delivered + 1) // 2, 12)
    assert source.taken == 12


# --- Merged ---


async def test_merged(fake, session):
    """Each record is delivered once, in its conference's order; pages of several alternate."""
    sids = add(fake, 0, 1, 9, 20, 7)
    records = await drained(session.fan_out(sids, page_size=3).participants())

    for each in sids:
        mine = [record for record in records if record.conference_sid == each]
        assert ids(mine) == served_ids(fake, each)
    assert len(records) == 37
    assert isinstance(records[0], Participant)
    switches = sum(a.conference_sid != b.conference_sid for a, b in itertools.pairwise(records))
    assert switches > 4


async def test_a_huge_conference_does_not_fill_the_memory(fake, session):
    """At most two pages of a conference wait for a slow consumer."""
    (big, other) = add(fake, 60, 2)
    async with session.fan_out([big, other], page_size=2).participants() as records:
        for count in range(1, 61):
            await anext(records)
            if count % 20 == 1:
                await stillness()
                pages = [page for where, page in fake.asked if where == big]
                assert len(pages) <= (count + 1) // 2 + 2
                assert max(pages) == len(pages) - 1
        assert len(await drained(records)) == 2


async def test_participants_called_again(fake, session):
    """A second `participants()` continues where the first one is."""
    sids = add(fake, 5, 5)
    async with session.fan_out(sids) as fan_out:
        found = [await anext(fan_out.participants()) for _ in range(3)]
        found += await drained(fan_out.participants())

    assert sorted(ids(found)) == sorted(served_ids(fake, sids[0]) + served_ids(fake, sids[1]))


async def test_results_and_records_exclude_each_other(fake, session):
    """A fan-out is iterated by results or by records: to ask for both is an error."""
    sids = add(fake, 1, 1)
    async with session.fan_out(sids) as fan_out:
        await anext(fan_out)
        with pytest.raises(InvalidRequestError, match="being iterated"):
            fan_out.participants()
        assert len(await drained(fan_out)) == 1
    async with session.fan_out(sids) as fan_out:
        records = fan_out.participants()
        with pytest.raises(InvalidRequestError, match="merged"):
            await anext(fan_out)
        assert len(await drained(records)) == 2


# --- Arguments, time, progress ---


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"concurrency": True},
        {"concurrency": "2"},
        {"on_error": "ignore"},
        {"on_error": None},
        {"on_error": ["raise"]},
        {"participant_sid": "CP1"},
        {"label": ""},
        {"label": 7},
        {"events": ""},
        {"page_size": 0},
        {"page_size": 1001},
        {"deadline": 0},
        {"deadline": "1"},
        {"deadline": float("nan")},
    ],
)
async def test_bad_arguments(fake, session, options):
    """An invalid argument is refused at the call, and no SID is taken."""
    source = Counted([sid(0)])
    with pytest.raises(InvalidRequestError):
        session.fan_out(source, **options)

    assert source.taken == 0


async def test_deadline(fake, session):
    """After the deadline each conference is a result with an error; later SIDs send nothing."""
    sids = add(fake, 1, 4, 1, 1, 1)
    fake.hold(sids[1], 1)
    async with session.fan_out(sids, concurrency=1, page_size=2, deadline=1) as fan_out:
        first, *late = await drained(fan_out)

    assert (first.conference_sid, first.error) == (sids[0], None)
    assert [each.conference_sid for each in late] == sids[1:]
    assert {type(each.error) for each in late} == {DeadlineExceededError}
    assert [len(each.participants) for each in late] == [2, 0, 0, 0]
    assert {where for where, _ in fake.asked} == {*sids[:2]}
    assert (fan_out.done, fan_out.failed) == (5, 4)


async def test_the_deadline_starts_with_the_first_anext(fake, session):
    """The time that the source takes counts, even before its first SID."""
    sids = add(fake, 1, 1)

    async def slow():
        await asyncio.sleep(0.1)
        for each in sids:
            yield each

    results = await drained(session.fan_out(slow(), deadline=0.01))

    assert [type(each.error) for each in results] == [DeadlineExceededError] * 2
    assert fake.asked == []


async def test_progress(fake, session):
    """The numbers done, failed, in flight and in total are right at any time."""
    sids = [*add(fake, 1, 1, 1), "nonsense", sid(98)]
    gates = [fake.hold(each) for each in sids[:3]]
    fan_out = session.fan_out(sids, concurrency=2)

    def progress():
        return fan_out.done, fan_out.failed, fan_out.in_flight, fan_out.total

    assert progress() == (0, 0, 0, 5)
    waiting = asyncio.create_task(drained(fan_out))
    await until(lambda: fan_out.in_flight)
    assert progress() == (0, 0, 2, 5)
    gates[0].set()
    await until(lambda: fan_out.done)
    gates[1].set()
    await until(lambda: fan_out.done == 4)
    assert progress() == (4, 2, 1, 5)
    gates[2].set()
    assert len(await waiting) == 5
    assert progress() == (5, 2, 0, 5)


async def test_progress_of_what_was_given_up(fake, session):
    """A conference that was given up is neither done nor in flight; the total stays."""
    sids = add(fake, *[1] * 6)
    fake.hold(sids[1])
    async with session.fan_out(sids, concurrency=2) as fan_out:
        for _ in range(3):
            await anext(fan_out)
    assert fan_out.done in {3, 4}
    assert (fan_out.failed, fan_out.in_flight, fan_out.total) == (0, 0, 6)
    async with session.fan_out(iter(sids), concurrency=2) as fan_out:
        await anext(fan_out)
    assert (fan_out.failed, fan_out.in_flight, fan_out.total) == (0, 0, None)


@pytest.mark.parametrize("merged", [False, True])
async def test_two_ask_at_once(fake, session, merged):
    """A second consumer at the same time gets an error, and the first one its result."""
    sids = add(fake, 1, 1)
    gate = fake.hold(sids[0])
    fan_out = session.fan_out(sids, concurrency=1)
    items = fan_out.participants() if merged else fan_out
    first = asyncio.create_task(anext(items))
    await turns()
    with pytest.raises(InvalidRequestError, match="Two tasks"):
        await anext(items)
    gate.set()

    assert (await first).conference_sid == sids[0]
    assert len(await drained(items)) == 1


async def test_context(fake):
    """Source and pages run in the context in which the fan-out was made."""
    seen = []

    class Watching:
        async def __aenter__(self):
            seen.append(VARIABLE.get())

        async def __aexit__(self, *_):
            pass

    async def source():
        seen.append(VARIABLE.get())
        yield sid(0)

    add(fake, 1)
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, limiter=Watching()
    ) as session:
        VARIABLE.set("maker")
        fan_out = session.fan_out(source())
        VARIABLE.set("reader")
        await drained(fan_out)

    assert seen == ["maker", "maker"]


# --- Closing ---


async def test_closed_before_it_began(fake, session):
    """Closing a fan-out before its first use sends nothing, and later use is refused."""
    source = Counted(add(fake, 1, 1))
    fan_out = session.fan_out(source)
    await fan_out.aclose()

    assert await is_over(fan_out) == "closed before its end"
    assert (source.taken, fake.asked) == (0, [])


@pytest.mark.parametrize("merged", [False, True])
async def test_closed_while_a_consumer_waits(fake, session, merged):
    """A waiting consumer gets an error; nothing is left, and closing again does nothing."""
    sids = add(fake, *[3] * 4)
    for each in sids[2:]:
        fake.hold(each)
    fan_out = session.fan_out(sids, concurrency=2)
    items = fan_out.participants() if merged else fan_out
    found = []
    waiting = asyncio.create_task(collect(items, found))
    await until(lambda: fan_out.done == 2)
    await until(lambda: {(each, 0) for each in sids[2:]} <= {*fake.asked})
    await items.aclose()
    assert held(session) == (0, 0, 0)

    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await waiting
    assert len(found) == (6 if merged else 2)
    await items.aclose()
    await fan_out.aclose()
    assert await is_over(items) == "closed before its end"


@pytest.mark.parametrize("merged", [False, True])
async def test_closed_with_something_ready(fake, session, merged):
    """What was ready and not taken is lost, the rest of a page as well."""
    sids = add(fake, *[3] * 4)
    fan_out = session.fan_out(sids)
    items = fan_out.participants() if merged else fan_out
    await anext(items)
    await stillness()
    await items.aclose()

    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await anext(items)
    assert await is_over(items) == "closed before its end"
    assert (fan_out.in_flight, held(session)) == (0, (0, 0, 0))


async def test_closed_by_its_own_source(fake, session):
    """A source that closes its own fan-out is not cancelled until it gives its next SID."""
    went_on = []

    async def source():
        await fan_out.aclose()
        await turns(3)
        went_on.append(True)
        yield add(fake, 1)[0]

    async with aclosing(source()) as sids:
        fan_out = session.fan_out(sids)
        with pytest.raises(InvalidRequestError, match="closed before its end"):
            await anext(fan_out)
        await until(lambda: went_on)
        await turns(3)
    assert fake.asked == []


class Stubborn:
    """A source that swallows cancellations, as `asyncio.wait_for` at times does before 3.12."""

    def __init__(self, sids, *, then=None):
        self.sids = iter(sids)
        self.then = then
        self.waiting = False

    def __aiter__(self):
        return self

    async def __anext__(self):
        for each in self.sids:
            return each
        self.waiting = True
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            if self.then is not None:
                return self.then
        raise StopAsyncIteration


@pytest.mark.parametrize("then", [None, sid(0)])
async def test_a_source_that_cannot_be_cancelled(fake, then):
    """Closing ends even if the source swallows its cancellation; no consumer sees an end."""
    sids = add(fake, 1)
    async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
        source = Stubborn(sids, then=then)
        async with session.fan_out(source) as fan_out:
            await anext(fan_out)
            await until(lambda: source.waiting)
        assert held(session) == (0, 0, 0)
        assert fake.asked == [(sids[0], 0)]
        fan_out = session.fan_out(Stubborn(sids, then=then))
        await anext(fan_out)
        waiting = asyncio.create_task(anext(fan_out))
        await turns()
    with pytest.raises(SessionClosedError):
        await waiting
    with pytest.raises(SessionClosedError):
        await anext(fan_out)


async def test_session_closed_before(fake):
    """On a closed session each `anext` raises SessionClosedError, and no SID is taken."""
    session = InsightsSession(fake.credentials, base_url=fake.base_url)
    source = Counted([sid(0)])
    fan_out = session.fan_out(source)
    await session.aclose()
    for _ in range(2):
        with pytest.raises(SessionClosedError):
            await anext(fan_out)

    assert source.taken == 0


@pytest.mark.parametrize("on_error", ["isolate", "raise"])
@pytest.mark.parametrize("merged", [False, True])
async def test_session_closed_while_a_consumer_waits(merged, on_error):
    """A consumer that waits while the session closes gets SessionClosedError at once."""
    async with raw(...) as server:
        session = InsightsSession(("AC1", "x"), base_url=server.base_url)
        fan_out = session.fan_out([sid(0), sid(1)], on_error=on_error)
        items = fan_out.participants() if merged else fan_out
        waiting = asyncio.create_task(anext(items))
        await until(lambda: len(server.heads) == 2)
        await session.aclose()
        await turns(1)
        assert waiting.done()
        for _ in range(2):
            with pytest.raises(SessionClosedError):
                await anext(items)
        assert isinstance(waiting.exception(), SessionClosedError)
        assert (fan_out.done, fan_out.failed, fan_out.in_flight) == (0, 0, 0)


@pytest.mark.parametrize("merged", [False, True])
async def test_session_closed_with_results_ready(fake, merged):
    """What is complete is delivered first, then SessionClosedError is raised."""
    sids = add(fake, 1, 1, 1, 1)
    fake.hold(sids[3])
    session = InsightsSession(fake.credentials, base_url=fake.base_url)
    fan_out = session.fan_out(sids)
    items = fan_out.participants() if merged else fan_out
    found = [await anext(items)]
    await stillness()
    await session.aclose()
    with pytest.raises(SessionClosedError):
        async for each in items:
            found.append(each)

    assert sorted(each.conference_sid for each in found) == sids[:3]


async def test_session_closed_after_the_last(fake):
    """If everything was complete when the session closed, the iteration ends normally."""
    sids = add(fake, 1, 1)
    session = InsightsSession(fake.credentials, base_url=fake.base_url)
    fan_out = session.fan_out(sids)
    await anext(fan_out)
    await until(lambda: fan_out.done == 2)
    await stillness()
    await session.aclose()

    assert len(await drained(fan_out)) == 1
    assert await is_over(fan_out) == "used up"


# --- Cancelled from outside ---


async def test_cancelled_source_task(fake, session):
    """If other code cancels the source's task, the rest is delivered, and then an error."""
    sids = add(fake, 1, 1, 1)
    gate = fake.hold(sids[0])
    fan_out = session.fan_out(sids, concurrency=1)
    waiting = asyncio.create_task(anext(fan_out))
    await until(lambda: fake.asked)
    (task,) = [task for task in own_tasks() if task.get_name() == "aioparticipants fan-out"]
    task.cancel()
    gate.set()

    assert (await waiting).error is None
    for _ in range(2):
        with pytest.raises(TransportError, match="from outside"):
            await anext(fan_out)


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("name", ["page", "conference"])
async def test_cancelled_conference_task(fake, session, name, merged):
    """If other code cancels a task of a conference, its result can be resumed."""
    sids = add(fake, 6, 1, 1)
    fake.hold(sids[0], 1)
    fan_out = session.fan_out(sids, concurrency=1, page_size=2)
    items = fan_out.participants() if merged else fan_out
    waiting = asyncio.create_task(drained(items))
    await until(lambda: (sids[0], 1) in fake.asked)
    await turns(50)
    (task,) = [task for task in own_tasks() if task.get_name() == f"aioparticipants {name}"]
    task.cancel()
    fake.gates.clear()
    found = await waiting
    if merged:
        (result,) = fan_out.failures
        before = [each for each in found if each.conference_sid == sids[0]]
    else:
        (result,) = [each for each in found if each.error]
        before = result.participants

    assert isinstance(result.error, TransportError)
    # A page that was fetched when its conference's task was cancelled was not decoded yet.
    decoded = 0 if name == "conference" and not merged else 2
    assert (result.error.conference_sid, len(before)) == (sids[0], decoded)
    assert {each.conference_sid for each in found} == {*sids}
    rest = await session.participants(sids[0], page_size=2, resume=result.error.cursor)
    assert ids(before) + ids(rest) == served_ids(fake, sids[0])


async def test_cancelled_before_its_first_step(fake, session):
    """A conference whose task is cancelled before it runs is a result with an error."""
    sids = add(fake, 1, 1)

    def source():
        for each in sids:
            yield each
            if each == sids[0]:
                (task,) = [
                    task for task in own_tasks() if task.get_name() == "aioparticipants conference"
                ]
                task.cancel()

    results = {each.conference_sid: each for each in await drained(session.fan_out(source()))}

    assert isinstance(results[sids[0]].error, TransportError)
    assert results[sids[0]].error.cursor is None
    assert results[sids[1]].error is None
