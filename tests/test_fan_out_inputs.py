"""What a fan-out is given: SIDs, conferences and pairs, a list of conferences, a limit."""

from __future__ import annotations

import asyncio
import gc
import weakref
from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from aioparticipants import (
    Conference,
    ConferenceResult,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    Participant,
    RetryPolicy,
    ServerError,
    SessionClosedError,
)
from aioparticipants._sources import as_wanted

from .conferences import Scripted, add, drained, ids, is_over, served_ids, sid
from .sweeps import (
    STYLES,
    Canceller,
    cancelled_by,
    held,
    on_loops,
    own_tasks,
    swept_on,
    turns,
    used,
)
from .telemetry import until

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
QUICK = RetryPolicy(base_delay=0.001)


class Awkward:
    """An object that can be neither compared, nor hashed, nor shown, nor copied."""

    def _refuse(self, *_):
        raise AssertionError

    __eq__ = __hash__ = __repr__ = __copy__ = __deepcopy__ = __bool__ = __iter__ = _refuse


class Row(NamedTuple):
    """A pair with names, such as a row of a database."""

    sid: object
    context: object


# --- Items ---


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_items(fake, session, asynchronous, merged):
    """A result has the conference and the context of its item, whether it failed or not."""
    sids = [fake.add_conference(2) for _ in range(3)] + [sid(98), sid(99)]
    record = await session.conference(sids[1])
    contexts = [Awkward() for _ in range(3)]
    items = [
        sids[0],
        record,
        (sids[2], contexts[0]),
        (Conference(conference_sid=sids[3]), contexts[1]),
        Row(sids[4], contexts[2]),
    ]

    async def later():
        for each in items:
            yield each

    fan_out = session.fan_out(later() if asynchronous else items)
    assert fan_out.total == (None if asynchronous else 5)
    if merged:
        records = await drained(fan_out.participants())
        assert {each.conference_sid for each in records} == {*sids[:3]}
        results = fan_out.failures
    else:
        results = await fan_out
    found = {each.conference_sid: each for each in results}

    assert fan_out.total == 5
    assert {*found} == {*sids[3:]} if merged else {*sids}
    assert isinstance(found[sids[3]].error, NotFoundError)
    assert found[sids[3]].conference is items[3][0]
    assert found[sids[3]].context is contexts[1]
    assert found[sids[4]].conference is None
    assert found[sids[4]].context is contexts[2]
    if not merged:
        assert [found[each].error for each in sids[:3]] == [None] * 3
        assert (found[sids[0]].conference, found[sids[0]].context) == (None, None)
        assert found[sids[1]].conference is record
        assert (found[sids[2]].conference, found[sids[2]].context is contexts[0]) == (None, True)


WRONG = [
    ("", "an empty str, or a Conference without a conference_sid"),
    ("ab", "32 hexadecimal digits"),  # not a pair of two letters
    (Conference(friendly_name="secret"), "a Conference without"),
    (Conference(conference_sid="CFsecret"), "32 hexadecimal digits"),
    (Participant(conference_sid=sid(1), label="secret"), "of the type _?Participant"),
    ([sid(1), "secret"], "of the type list"),
    ((sid(1), "secret", 3), "of the type tuple"),
    ((), "of the type tuple"),
    ((sid(1),), "of the type tuple"),
    (7, "of the type int"),
    (None, "of the type NoneType"),
    ({"conference_sid": "secret"}, "of the type dict"),
]


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(("item", "message"), WRONG)
async def test_wrong_items(fake, session, item, message, paired):
    """Anything else is a result with an error that says what it is, and repeats no value."""
    (good,) = add(fake, 1)
    for wait in (None, 60):
        given = (item, "context") if paired else item
        results = await session.fan_out([given, good], wait=wait, poll=wait)
        (result,) = [each for each in results if each.error]
        assert isinstance(result.error, InvalidRequestError)
        with pytest.raises(InvalidRequestError, match=message):
            raise result.error
        assert "secret" not in str(result.error)
        assert result.context == ("context" if paired else None)
        assert result.conference is (item if isinstance(item, Conference) else None)
        expected = item.conference_sid or "" if isinstance(item, Conference) else item
        assert result.conference_sid == expected
    assert session.stats.conferences_failed == 2
    assert len(fake.requests) == 3


def test_a_pair_of_pairs():
    """Only the outer pair is unpacked."""
    wanted = as_wanted(((sid(1), "inner"), "outer"))
    assert (wanted.sid, wanted.record, wanted.context) == ((sid(1), "inner"), None, "outer")


async def test_contexts_are_left_alone(fake, session):
    """Results are compared, hashed and shown without their contexts, and keep them."""
    add(fake, 1)
    results = [
        attrs_without_time(each)
        for context in (Awkward(), Awkward())
        for each in await session.fan_out([(sid(0), context)])
    ]
    assert results[0] == results[1]
    assert hash(results[0]) == hash(results[1])
    assert "Awkward" not in repr(results[0])
    assert results[0].context is not results[1].context


def attrs_without_time(result):
    return ConferenceResult(
        conference_sid=result.conference_sid,
        participants=result.participants,
        conference=result.conference,
        context=result.context,
    )


async def test_nothing_of_a_delivered_conference_is_kept(fake, session):
    """The contexts, and with them the conferences, of results that were delivered are freed."""
    sids = add(fake, *[1] * 30)
    alive = weakref.WeakSet()

    def source():
        for each in sids:
            alive.add(context := Awkward.__new__(Context))
            yield Conference(conference_sid=each), context

    most = 0
    async with session.fan_out(source(), concurrency=3) as results:
        async for _ in results:
            gc.collect()
            most = max(most, len(alive))
    assert 1 <= most <= 3 + 3  # those in flight, and those in the hands of the loop above
    del _
    gc.collect()
    assert len(alive) <= 1  # the generator's own variable


class Context:
    """Something that can be referred to weakly."""


# --- A list of conferences as the source ---


async def listed(fake, count):
    """Add conferences, and return their SIDs as they are listed."""
    return [*reversed([fake.add_conference(2) for _ in range(count)])]


def conferences(session, **options):
    return session.conferences(created_after=LONG_AGO, page_size=2, **options)


async def sids_in(stream):
    return [each.conference_sid async for each in stream]


async def test_a_list_is_a_source(fake, session):
    """A list of conferences can be given as it is, and each result has its conference."""
    for _ in range(7):
        fake.add_conference(2)
    expected = await conferences(session)
    fan_out = session.fan_out(conferences(session), concurrency=2)
    results = await fan_out

    assert fan_out.total == len(expected) == 7
    assert {each.conference for each in results} == {*expected}
    for each in results:
        assert each.conference_sid == each.conference.conference_sid
        assert ids(each.participants) == served_ids(fake, each.conference_sid)


async def closed(fan_out, session):
    await fan_out.aclose()


async def left(fan_out, session):
    async with fan_out:
        await anext(fan_out)


async def failed(fan_out, session):
    with pytest.raises(InvalidRequestError):
        await fan_out.all()


async def session_closed(fan_out, session):
    await anext(fan_out)
    await session.aclose()
    with pytest.raises(SessionClosedError):
        await drained(fan_out)


def cancelled(style):
    async def cancel_it(fan_out, session):
        task = asyncio.create_task(fan_out.all())
        await turns(20)
        await Canceller(task).end(style)
        assert task.cancelled()

    return pytest.param(cancel_it, id=f"cancelled {style}")


@pytest.mark.parametrize(
    "end", [closed, left, failed, session_closed, *(cancelled(each) for each in STYLES)]
)
async def test_its_stream_is_closed_with_the_fan_out(fake, session, end):
    """However a fan-out ends, a stream that it was given is closed, and no task is left."""
    for number in range(9):
        fake.add_conference(2, conference_sid=sid(number))
    stream = conferences(session)
    first = (await anext(stream)).conference_sid
    on_error = "isolate"
    if end is failed:
        on_error = "raise"
        fake.add_conference(2, conference={**fake.conferences()[3], "conference_sid": "nonsense"})
    fan_out = session.fan_out(stream, concurrency=1, page_size=1, on_error=on_error)
    await end(fan_out, session)

    await turns(10)
    assert own_tasks() == []
    assert held(session) == (0, 0, 0)
    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await anext(stream)
    if end is not session_closed:
        rest = await sids_in(conferences(session, resume=stream.cursor))
        everyone = await sids_in(conferences(session))
        assert everyone[0] == first
        assert rest == everyone[len(everyone) - len(rest) :]
        assert 0 < len(rest) < 9


async def test_its_stream_is_closed_if_the_fan_out_is_dropped(fake, session):
    """A fan-out that is dropped closes its stream as well."""
    for _ in range(9):
        fake.add_conference(2)
    stream = conferences(session)
    fan_out = session.fan_out(stream, concurrency=1)
    await anext(fan_out)
    del fan_out
    gc.collect()
    await until(lambda: own_tasks() == [])
    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await anext(stream)


async def test_other_sources_stay_their_owners(fake, session):
    """A generator is not closed by the fan-out, even if it reads a stream of this package."""
    for _ in range(9):
        fake.add_conference(2)
    stream = conferences(session)

    async def filtered():
        async for each in stream:
            yield each, "context"

    source = filtered()
    async with session.fan_out(source, concurrency=1) as fan_out:
        assert (await anext(fan_out)).context == "context"
        await until(lambda: fan_out.done == 1)
        await turns(20)
    assert not source.ag_running
    assert source.ag_frame is not None
    await stream.aclose()
    await source.aclose()


async def test_a_fan_out_as_a_source_is_closed(fake, session):
    """Other iterators of this package are closed, too, and what they give is refused."""
    add(fake, 1, 1)
    inner = session.fan_out([sid(0), sid(1)])
    async with session.fan_out(inner, concurrency=1) as outer:
        assert isinstance((await anext(outer)).error, InvalidRequestError)
    assert await is_over(inner) == "closed before its end"
    assert own_tasks() == []


async def test_a_stream_that_is_used_up(session):
    """A stream that is used up or closed is refused at the call."""
    stream = conferences(session)
    assert await stream == []
    with pytest.raises(InvalidRequestError, match="used up"):
        session.fan_out(stream)


@pytest.mark.parametrize("merged", [False, True])
async def test_a_list_that_fails_part_way(fake, merged):
    """The conferences before the failure are delivered, and its cursor goes on after them."""
    for _ in range(7):
        fake.add_conference(2)
    async with InsightsSession(fake.credentials, base_url=fake.base_url, retry=QUICK) as session:
        everyone = await sids_in(conferences(session))
        stream = conferences(session)
        async with session.fan_out(stream, concurrency=2) as fan_out:
            items = fan_out.participants() if merged else fan_out
            found = [await anext(items)]
            fake.fail_next(500, times=20, path="/v1/Conferences")
            with pytest.raises(ServerError) as caught:
                async for each in items:
                    found.append(each)
            assert own_tasks() == []
            with pytest.raises(ServerError):
                await anext(items)
        fake._faults.__init__()
        rest = await sids_in(conferences(session, resume=caught.value.cursor))

    assert stream.cursor == caught.value.cursor
    before = dict.fromkeys(each.conference_sid for each in found)
    assert {*before} == {*everyone[: len(before)]}
    assert [*everyone[: len(before)], *rest] == everyone
    assert 0 < len(rest) < 7


CONSUMERS = ["results", "records"]


@on_loops("style", STYLES)
def test_cancelled_at_every_await(new_loop, style):
    """Wherever a fan-out over a list of conferences is cancelled, nothing of both is left."""

    async def once(fake, k):
        async def work(session, _):
            stream = conferences(session)

            async def consume():
                async with session.fan_out(stream, concurrency=2) as results:
                    async for each in results:
                        assert each.error is None

            _, was_hit = await cancelled_by(style, consume(), k)
            assert held(session) == (0, 0, 0), k
            if was_hit:
                with pytest.raises(InvalidRequestError, match=r"closed|used up"):
                    aiter(stream)
            return was_hit

        return await used(fake, work)

    assert swept_on(new_loop, once, conferences=[(sid(each), 1) for each in range(5)]) > 5


# --- A limit ---


@pytest.fixture
async def scripted():
    """Return a server that notes the pages of participants that it is asked for."""
    async with Scripted() as server:
        yield server


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("page_size", [None, 1, 2, 4])
@pytest.mark.parametrize("limit", [None, 0, 1, 4, 5, 100])
async def test_limit(scripted, limit, page_size, merged):
    """`limit` bounds the records of each conference, and no page is fetched in vain."""
    sids = add(scripted, 0, 1, 9)
    async with InsightsSession(scripted.credentials, base_url=scripted.base_url) as session:
        fan_out = session.fan_out(sids, limit=limit, page_size=page_size)
        if merged:
            records = await drained(fan_out.participants())
        else:
            records = [record for result in await fan_out for record in result.participants]
        assert (fan_out.done, fan_out.failed) == (3, 0)

    for each in sids:
        mine = ids(record for record in records if record.conference_sid == each)
        expected = served_ids(scripted, each)[:limit]
        assert mine == expected
        size = page_size or min(limit or 1000, 1000)
        pages = 0 if limit == 0 else max(1, -(-len(expected) // size))
        assert sum(where == each for where, _ in scripted.asked) == pages


async def test_what_is_fetched_up_to_the_limit_is_delivered(scripted):
    """What was fetched up to its limit before the first failure is delivered before the error."""
    sids = add(scripted, *[4] * 9)
    gate = scripted.hold(sids[-1])
    scripted.statuses[sids[-1], 0] = 404
    found = []
    async with (
        InsightsSession(scripted.credentials, base_url=scripted.base_url) as session,
        session.fan_out(sids, concurrency=9, limit=2, on_error="raise") as fan_out,
    ):
        found.append(await anext(fan_out))
        await until(lambda: len(scripted.asked) == 9)
        await asyncio.sleep(0.05)
        gate.set()
        with pytest.raises(NotFoundError):
            async for each in fan_out:
                found.append(each)

    assert sorted(each.conference_sid for each in found) == sids[:-1]
    assert all(len(each.participants) == 2 for each in found)


@pytest.mark.parametrize(
    "options",
    [
        {"limit": -1},
        {"limit": 1.0},
        {"limit": True},
        {"wait": 0},
        {"wait": "60"},
        {"wait": float("inf")},
        {"poll": 5},
        {"poll": 0, "wait": 5},
        {"grace": -1},
    ],
)
async def test_bad_arguments(fake, session, options):
    """An argument that cannot be used is refused at the call."""
    with pytest.raises(InvalidRequestError, match=next(iter(options))):
        session.fan_out([sid(0)], **options)
