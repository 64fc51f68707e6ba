"""A list in slices has exactly the records of the list without slices, and all that it promises."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import re
import weakref
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from aioparticipants import (
    CursorExpiredError,
    DeadlineExceededError,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    PaginationError,
    ResponseError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
)
from aioparticipants._messages import Request
from aioparticipants._paging import End
from aioparticipants._resources import CREATION
from aioparticipants._slices import LONGEST_STATE, Place, Slices
from aioparticipants.instrumentation import ListFinished, PageDelivered

from . import watchdog
from .profiles import examples
from .stamps import BASE, FORMS, StampingServer, at, sid
from .sweeps import LOOPS, Canceller, held, turns
from .telemetry import observed, of_type, until

RETRY = RetryPolicy(max_attempts=2, base_delay=0.001)
#: The window of most tests, with conferences on its seams, and several in one second.
WINDOW = {"created_after": at(0), "created_before": at(24)}
DAY = {"created_after": at(0), "created_before": at(24 * 3600)}
SECONDS = [1, 2.5, 5.75, 6, 6, 6.25, 11.5, 12, 12.75, 13, 17.9, 18, 18, 23.5]


@asynccontextmanager
async def opened(seconds=SECONDS, untimed=(), *, options=None, **rules):
    """Yield a server with conferences, and a session on it."""
    async with StampingServer() as server:
        server.begin(seconds, untimed, **rules)
        async with session_on(server, **(options or {})) as session:
            yield server, session


def session_on(server, **options):
    return InsightsSession(
        server.credentials, base_url=server.base_url, **{"retry": RETRY, **options}
    )


def sids(records):
    return [each.conference_sid for each in records]


async def listed(session, **arguments):
    """Return the SIDs of a list."""
    return sids(await session.conferences(**{**WINDOW, **arguments}))


async def some(stream, count):
    """Return the SIDs of the next records of a stream."""
    return sids([await anext(stream) for _ in range(count)])


# --- Each record once, in the order of the list without slices ---


TIMES = st.lists(st.integers(0, 24 * 4).map(lambda quarter: quarter / 4), max_size=30)


@pytest.mark.parametrize("shown", ["down", "up", "nearest"])
@pytest.mark.parametrize("compared", [*FORMS])
@pytest.mark.parametrize("inclusive", ["neither", "left", "right", "both"])
async def test_seams(server_and_session, inclusive, compared, shown):
    """However the server filters, each conference comes once, on a seam or beside it."""
    server, session = server_and_session
    rules = {"inclusive": inclusive, "compared": compared, "shown": shown}
    server.begin([each / 4 for each in range(24 * 4 + 1)], **rules)
    assert await listed(session, slices=4) == await listed(session)


@given(
    seconds=TIMES,
    number=st.integers(2, 30),
    page_size=st.one_of(st.integers(1, 6), st.none()),
    limit=st.one_of(st.integers(0, 31), st.none()),
    inclusive=st.sampled_from(["neither", "left", "right", "both"]),
    compared=st.sampled_from([*FORMS]),
    shown=st.sampled_from(["down", "up", "nearest"]),
    read=st.floats(0, 1),
)
@examples(180)
async def test_same_as_without_slices(server_and_session, read, **case):
    """All records come once, in the same order, also if the list is resumed anywhere."""
    server, session = server_and_session
    rules = {name: case[name] for name in ("inclusive", "compared", "shown")}
    server.begin(case["seconds"], **rules)
    paging = {"page_size": case["page_size"], "limit": case["limit"]}
    expected = await listed(session, **paging)

    assert await listed(session, slices=case["number"], **paging) == expected

    before = round(read * len(expected))
    async with session.conferences(**WINDOW, slices=case["number"], **paging) as stream:
        found = await some(stream, before)
        cursor = stream.cursor
    limit = None if case["limit"] is None else case["limit"] - before
    rest = await listed(session, slices=case["number"], limit=limit, resume=cursor)
    assert found + rest == expected


@pytest.fixture
async def server_and_session():
    async with opened() as both:
        yield both


UNTIMED = [
    {"conference_sid": sid(1001), "create_time": None},
    {"conference_sid": sid(1002)},
    {"conference_sid": sid(1003), "create_time": 12},
    {"conference_sid": sid(1004), "create_time": "2026-03-02 09:00"},
]


@pytest.mark.measured
@given(
    seconds=TIMES,
    number=st.integers(2, 12),
    page_size=st.integers(1, 6),
    untimed=st.lists(st.sampled_from(UNTIMED), unique_by=lambda each: each["conference_sid"]),
    read=st.floats(0, 1),
)
@examples(90)
async def test_records_without_a_creation_time(
    server_and_session, seconds, number, page_size, untimed, read
):
    """A record whose creation time is absent or unreadable comes once, also after resuming."""
    server, session = server_and_session
    server.begin(seconds, untimed)
    keeping = {"on_invalid": "keep", "page_size": page_size}
    expected = await listed(session, **keeping)
    whole = await listed(session, slices=number, **keeping)
    timed = [each for each in whole if each < sid(1000)]
    assert sorted(whole) == sorted(expected)
    assert timed == expected[: len(timed)]

    before = round(read * len(expected))
    async with session.conferences(**WINDOW, slices=number, **keeping) as stream:
        found = await some(stream, before)
        cursor = stream.cursor
    rest = await listed(session, slices=number, on_invalid="keep", resume=cursor)
    assert found + rest == whole


@pytest.mark.parametrize("page_size", [1, 2, 1000])
@pytest.mark.parametrize("untimed", [[], UNTIMED[:2]])
async def test_resumed_after_every_record(page_size, untimed):
    """The cursor after any record of any slice leads to exactly the rest."""
    async with opened(untimed=untimed) as (_, session):
        slices = {"slices": 4, "page_size": page_size}
        whole = await listed(session, **slices)
        assert len(whole) == len(SECONDS) + len(untimed)
        stream = session.conferences(**WINDOW, **slices)
        for index in range(len(whole)):
            assert await listed(session, slices=4, resume=stream.cursor) == whole[index:]
            assert (await anext(stream)).conference_sid == whole[index]
        assert await listed(session, slices=4, resume=stream.cursor) == []
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert await listed(session, slices=4, resume=stream.cursor) == []


async def test_pages():
    """A page has those of its records that its slice delivers, and the cursor is after them."""
    async with opened() as (_, session):
        whole = await listed(session)
        found = []
        async with session.conferences(**WINDOW, slices=4, page_size=3) as stream:
            async for page in stream.pages():
                found += sids(page.records)
                assert page.meta.page_size == 3
                assert await listed(session, slices=4, resume=stream.cursor) == whole[len(found) :]
        assert found == whole


async def test_an_end_that_is_open():
    """Without created_before, the newest slice has no end, and the others are cut before now."""
    recent = (datetime.now(UTC) - BASE).total_seconds()
    seconds = [recent - 7, recent - 5.5, recent - 4, recent - 2, recent - 1, recent + 3600]
    async with opened(seconds) as (server, session):
        window = {"created_after": at(recent - 8), "created_before": None}
        whole = await listed(session, **window)
        server.requests.clear()
        assert (
            await listed(session, **window, slices=3) == whole == [sid(each) for each in range(6)]
        )
        asked = [each.query.get("CreatedBefore") for each in server.requests]
        assert asked.count(None) >= 1
        assert len(asked) == 3


async def test_a_window_of_few_seconds():
    """A window is not cut finer than into seconds; one that has not begun is not cut."""
    async with opened() as (server, session):
        arguments = {"created_after": at(11.5), "created_before": at(13)}
        expected = await listed(session, **arguments)
        server.requests.clear()
        assert await listed(session, **arguments, slices=1000) == expected
        assert len(server.requests) == 2
        server.requests.clear()
        to_come = datetime.now(UTC) + timedelta(days=1)
        assert await listed(session, created_after=to_come, created_before=None, slices=9) == []
        assert [each.query.get("CreatedBefore") for each in server.requests] == [None]


# --- What is sent ---


async def test_what_the_slices_ask_for():
    """Neighbours overlap by two seconds on each side of a seam, and none asks beyond the window."""
    async with opened() as (server, session):
        await listed(session, slices=3, status="completed", friendly_name="a b+c")
    asked = sorted((each.query for each in server.requests), key=lambda each: each["CreatedAfter"])
    assert [(each["CreatedAfter"][-3:], each["CreatedBefore"][-3:]) for each in asked] == [
        ("00Z", "10Z"),
        ("06Z", "18Z"),
        ("14Z", "24Z"),
    ]
    assert {each["FriendlyName"] for each in asked} == {"a b+c"}
    assert {each["Status"] for each in asked} == {"completed"}


async def test_slices_are_fetched_side_by_side():
    """The first request of every slice is sent before the first one is answered."""
    async with opened(options={"max_concurrency": 4}) as (server, session):
        server.latency = 3600
        task = asyncio.create_task(listed(session, slices=4))
        await until(lambda: server._in_flight == 4)
        await Canceller(task).end("once")


async def test_one_slice_is_the_plain_list():
    """With one slice, the requests and the cursors are those of the list without slices."""
    async with opened() as (server, session):
        one = session.conferences(**WINDOW, slices=1)
        assert one.cursor == session.conferences(**WINDOW).cursor
        assert await one == await session.conferences(**WINDOW, slices=None)
        assert len({str(each.query) for each in server.requests}) == 1


@pytest.mark.parametrize("number", [2, 8, 24])
async def test_a_limit_needs_no_further_slices(number):
    """Nothing is asked of older slices if a page of the newest one can have all of the limit."""
    async with opened([23.5] * 5 + [1] * 5) as (server, session):
        assert len(await listed(session, slices=number, limit=4)) == 4
        assert len(server.requests) == 1
        server.requests.clear()
        assert len(await listed(session, slices=number, limit=7)) == 7
        assert len(server.requests) <= number
        server.requests.clear()
        assert await listed(session, slices=number, limit=0) == []
        assert server.requests == []


async def test_a_limit_across_empty_slices():
    """If the first slices are empty, the others are asked side by side for what a limit needs."""
    async with opened([1, 2]) as (server, session):
        found = []
        server.latency = 0.001
        async with session.conferences(**WINDOW, slices=12, limit=2) as stream:
            await anext(stream)
            assert len(server.requests) <= 12
            found += [each async for each in stream]
        assert len(found) == 1
        assert len(server.requests) <= 12


async def test_a_limit_cancels_what_is_not_needed():
    """Once the limit is reached, no further page is fetched, and what is in flight is cancelled."""
    second, never = asyncio.Event(), asyncio.Event()

    def gate(query):
        return {"20Z": second, "08Z": never}.get(query["CreatedBefore"][-3:])

    # The newest slice is empty, so all of the others are asked.
    async with opened([13, 12.5], gate=gate) as (server, session):
        stream = session.conferences(**WINDOW, slices=4, limit=1)
        task = asyncio.create_task(some(stream, 1))
        await until(lambda: len(server.requests) == 2 and server._in_flight == 2)
        second.set()
        assert await task == [sid(0)]
        await until(lambda: server._in_flight == 0)
        assert held(session) == (0, 0, 0)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_memory():
    """At most 32 pages are held beside the one that is delivered, however many there are."""
    async with opened(range(450, 24 * 3600, 900)) as (server, session):
        async with session.conferences(**DAY, slices=24, page_size=1) as stream:
            for read in range(1, 97):
                await anext(stream)
                await until(lambda: held(session) == (0, 0, 0))
                assert len(server.requests) == min(read + 32, 96)
            with pytest.raises(StopAsyncIteration):
                await anext(stream)


async def test_the_delivered_slice_goes_on():
    """A slice whose pages are needed next fetches them although later slices hold many."""
    early, late = [each / 100 for each in range(1, 40)], [each + 13 for each in range(9)]
    async with opened([*early, *late]) as (_, session):
        whole = await listed(session)
        assert await listed(session, slices=2, page_size=1) == whole


# --- Errors ---


async def test_a_slice_that_fails():
    """The records before a slice that fails come first, and the cursor leads to the slice."""
    async with opened() as (server, session):
        whole = await listed(session)
        server.rules.fault = lambda query: 404 if query["CreatedBefore"].endswith("14Z") else None
        found = []
        stream = session.conferences(**WINDOW, slices=4, page_size=2)
        with pytest.raises(NotFoundError) as caught:
            async for each in stream:
                found.append(each.conference_sid)
        assert found == whole[:7]
        with pytest.raises(NotFoundError) as again:
            await anext(stream)
        assert again.value.cursor == caught.value.cursor == stream.cursor
        await stream.aclose()
        server.rules.fault = lambda query: None
        rest = await listed(session, slices=4, resume=caught.value.cursor)
        assert found + rest == whole


async def test_no_slice_is_begun_after_one_that_failed():
    """Once a slice has failed, no slice after it is fetched, as it will not be delivered."""
    async with opened(range(450, 24 * 3600, 900)) as (server, session):
        second = f"{at(95 * 900 + 2):%H:%M:%SZ}"
        server.rules.fault = lambda query: 404 if query["CreatedBefore"].endswith(second) else None
        async with session.conferences(**DAY, slices=96) as stream:
            await anext(stream)
            await until(lambda: held(session) == (0, 0, 0))
            assert len(server.requests) == 32
            with pytest.raises(NotFoundError):
                await anext(stream)
        assert len(server.requests) == 32


async def test_retries_of_a_slice():
    """A slice is retried as any list is, and the others go on meanwhile."""
    async with opened() as (server, session):
        whole = await listed(session)
        server.fail_next(503, times=1)
        assert await listed(session, slices=4) == whole
        server.fail_next(503, times=9)
        with pytest.raises(ServerError):
            await listed(session, slices=4)


async def test_a_deadline_is_that_of_all_slices():
    """One deadline covers all slices, from when the first record is asked for."""
    async with opened() as (server, session):
        server.latency = 3600
        with pytest.raises(DeadlineExceededError) as caught:
            await listed(session, slices=4, deadline=0.05)
        server.latency = 0
        assert len(await listed(session, slices=4, resume=caught.value.cursor)) == len(SECONDS)


async def test_a_page_token_that_has_expired():
    """A page token of a slice that is not accepted any more is the error for that."""
    async with opened() as (server, session):
        stream = session.conferences(**WINDOW, slices=2, page_size=2)
        await some(stream, 3)
        cursor = stream.cursor
        await stream.aclose()
        server.rules.fault = lambda query: 400 if "PageToken" in query else None
        with pytest.raises(CursorExpiredError):
            await listed(session, slices=2, resume=cursor)


async def test_a_list_that_has_changed():
    """If another record is before the one to resume at, that is an error."""
    async with opened() as (server, session):
        stream = session.conferences(**WINDOW, slices=2)
        await some(stream, 3)
        server.begin([1, 2, 23])
        with pytest.raises(PaginationError, match="changed"):
            await listed(session, slices=2, resume=stream.cursor)
        await stream.aclose()


# --- Records that cannot be read ---


@pytest.mark.parametrize("keep", [False, True])
async def test_a_bad_record(keep):
    """A record that cannot be read is named by its path in the body, and the rest can follow."""

    def altered(body):
        page = json.loads(body)
        for each in page["conferences"]:
            if each["conference_sid"] == sid(8):
                each["friendly_name"] = ["NaN"]
        return json.dumps(page).replace('["NaN"]', "NaN").encode()

    async with opened(altered=altered) as (_, session):
        arguments = {**WINDOW, "slices": 3, "on_invalid": "keep" if keep else "raise"}
        stream = session.conferences(**arguments)
        found, rest = [], []
        if keep:
            found = sids(await stream)
            # It is in a seam's overlap, and its time is unknown: so both slices report it.
            assert [each.index for each in stream.problems] == [4, 0]
            assert "conferences[5]" in stream.problems[0].fault
        else:
            with pytest.raises(ResponseError, match=re.escape("conferences[5]")) as caught:
                async for each in stream:
                    found.append(each.conference_sid)
            rest = session.conferences(**arguments, resume=caught.value.cursor_after)
            with pytest.raises(ResponseError, match=re.escape("conferences[0]")) as caught:
                async for each in rest:
                    found.append(each.conference_sid)
            found += await listed(session, slices=3, resume=caught.value.cursor_after)
        assert found == [sid(each) for each in range(len(SECONDS)) if each != 8]


async def test_a_page_that_cannot_be_read_to_its_end():
    """If the rest of a page is lost, the records before it come, then the error, and no more."""

    def altered(body):
        return body.replace(b'}, {"conference_sid": "%s"' % sid(8).encode(), b'}, {"x" "y"')

    async with opened(altered=altered) as (_, session):
        found = []
        stream = session.conferences(**WINDOW, slices=3)
        with pytest.raises(ResponseError) as caught:
            async for each in stream:
                found.append(each.conference_sid)
        assert found == [sid(each) for each in range(8)]
        assert caught.value.cursor_after is None
        await stream.aclose()


async def test_a_page_is_filtered_in_steps():
    """Other tasks run while a long page is filtered, and a cancelled consumer goes on with it."""
    async with opened([each / 50 for each in range(1, 400)]) as (_, session):
        whole = await listed(session)
        found, cancellations = [], 0
        async with session.conferences(**WINDOW, slices=2) as stream:
            while True:
                try:
                    async with asyncio.timeout(0):
                        found.append((await anext(stream)).conference_sid)
                except TimeoutError:
                    cancellations += 1
                    await asyncio.sleep(0)
                except StopAsyncIteration:
                    break
        assert found == whole
        assert cancellations > len(whole) // 32


async def test_records_without_a_sid():
    """A record with neither time nor SID comes from each slice that lists it, and is never lost."""
    async with opened([12], [{"friendly_name": "x"}]) as (_, session):
        assert await listed(session, slices=3) == [None, sid(0), None, None]


async def test_too_many_without_a_creation_time():
    """If a cursor cannot hold what was delivered without a time, that is an error after it."""
    untimed = [{"conference_sid": sid(each)} for each in range(5000, 7100)]
    async with opened([1, 13], untimed) as (server, session):
        found = []
        stream = session.conferences(**WINDOW, slices=2, page_size=1000)
        with pytest.raises(PaginationError, match="list the window without slices") as caught:
            async for each in stream:
                found.append(each.conference_sid)
        assert len(found) == len({*found}) == 2000
        await stream.aclose()
        with pytest.raises(PaginationError, match="list the window without slices"):
            await listed(session, slices=2, resume=caught.value.cursor)
        # In the oldest slice, here the only one, nothing has to be remembered.
        server.begin([0.5], untimed)
        assert len(await listed(session, slices=2, created_before=at(1))) == 2101


# --- Cursors ---


async def test_cursors_of_other_lists():
    """A cursor is refused by a list with other slices, window or filters, or without slices."""
    async with opened() as (server, session):
        stream = session.conferences(**WINDOW, slices=4, page_size=2)
        await some(stream, 3)
        sliced, plain = stream.cursor, session.conferences(**WINDOW).cursor
        await stream.aclose()
        server.requests.clear()
        for arguments, words in [
            ({"resume": sliced}, "cursor of a list in slices"),
            ({"resume": plain, "slices": 4}, "cursor of a list without slices"),
            ({"resume": sliced, "slices": 5}, "a list in 4 slices: give that many"),
            ({"resume": sliced, "slices": 4, "created_after": at(1)}, "other filters"),
            ({"resume": sliced, "slices": 4, "created_before": None}, "other filters"),
            ({"resume": sliced, "slices": 4, "status": "completed"}, "other filters"),
            ({"resume": sliced, "slices": 4, "page_size": 3}, "page_size cannot change"),
            ({"resume": sliced[:-4], "slices": 4}, "not a cursor"),
        ]:
            with pytest.raises(InvalidRequestError, match=words):
                session.conferences(**{**WINDOW, **arguments})
        assert server.requests == []
        assert len(await listed(session, slices=4, resume=sliced, page_size=2)) == 11
        assert {each.query["PageSize"] for each in server.requests} == {"2"}
        server.requests.clear()
        assert len(await listed(session, slices=4, resume=sliced)) == 11
        assert {each.query["PageSize"] for each in server.requests} == {"2"}


async def test_a_name_stays_out_of_the_cursor():
    """Personal data is not in the cursor of a slice either, and is asked for again."""
    async with opened() as (server, session):
        stream = session.conferences(**WINDOW, slices=4, page_size=2, friendly_name="Mr. Jones")
        await some(stream, 3)
        cursor = stream.cursor
        await stream.aclose()
        server.requests.clear()
        assert len(await listed(session, slices=4, friendly_name="Mr. Jones", resume=cursor)) == 11
        assert {each.query["FriendlyName"] for each in server.requests} == {"Mr. Jones"}
        with pytest.raises(InvalidRequestError, match="give the friendly_name"):
            await listed(session, slices=4, friendly_name="Mr. Smith", resume=cursor)


FIRST = Request(
    path="/v1/Conferences",
    query="CreatedAfter=2026-03-02T09%3A00%3A00Z&PageSize=1000",
    conference_sid=None,
)


def resumed(state, number=4, query="Page=1"):
    request = Request(path=FIRST.path, query=query, conference_sid=None, state=state)
    return Slices.resumed(FIRST, CREATION, number, request)


def test_a_window_that_is_resumed_later_is_cut_as_before():
    """A cursor holds the end of a window that has none, so its cuts stay where they were."""
    slices = Slices.of(FIRST, CREATION, 4, at(40.5))
    assert slices.edges == (at(40), at(30), at(20), at(10), at(0))
    place = Place(2, (b"a" * 8, b"b" * 8))
    again, where = resumed(slices.tagged(FIRST, place).state)
    assert (again.edges, where) == (slices.edges, place)
    assert again.page_size == 1000
    assert resumed(slices.tagged(FIRST, place).state, query="PageSize=7&Page=2")[0].page_size == 7
    for strange in ("PageSize=0", "PageSize=1001", "PageSize=x", "APageSize=7"):
        assert resumed(slices.tagged(FIRST, place).state, query=strange)[0].page_size == 1000


GOOD = Slices.of(FIRST, CREATION, 4, at(40)).tagged(FIRST, Place(3)).state


@pytest.mark.parametrize(
    "state",
    [
        b"",
        GOOD[:-1],
        GOOD + b"a",
        GOOD[:2] + bytes([0, 4]) + GOOD[4:],
        GOOD[:4] + bytes([255] * 8),
        GOOD[:4] + bytes([127] + [255] * 7),
    ],
)
def test_a_state_that_is_none(state):
    """What cannot be the state of these slices is refused as no cursor."""
    assert resumed(GOOD)[1] == Place(3)
    with pytest.raises(InvalidRequestError, match="not a cursor"):
        resumed(state)


def test_slices_at_the_end_of_time():
    """A window up to the last second of the year 9999 is cut, too, and so is that of a cursor."""
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    slices = Slices.of(FIRST, CREATION, 1000, last)
    assert slices.last == 999
    newest = slices.start(Place(0))
    assert "CreatedBefore" not in newest.query
    assert resumed(newest.state, 1000)[0].edges == slices.edges
    assert len(newest.state) < LONGEST_STATE


@given(seconds=st.integers(0, 5000), number=st.integers(2, 1000))
@examples(300)
def test_cuts(seconds, number):
    """A window is cut into so many intervals of whole seconds, none of them empty, without gaps."""
    slices = Slices.of(FIRST, CREATION, number, at(seconds))
    edges = slices.edges
    assert (edges[0], edges[-1]) == (at(seconds), at(0))
    assert slices.last + 1 == max(1, min(number, seconds))
    lengths = {(end - start) / timedelta(seconds=1) for end, start in itertools.pairwise(edges)}
    assert max(lengths) - min(lengths) <= 1
    assert seconds == 0 or min(lengths) >= 1
    for time in (at(-5), *edges[:: max(1, len(edges) // 5)], at(seconds + 5)):
        assert sum(slices.has(index, time) for index in range(slices.last + 1)) == 1


# --- Bad arguments ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"slices": 0}, "slices must be a whole number from 1 to 1000, or None"),
        ({"slices": 1001}, "slices must be a whole number"),
        ({"slices": 2.0}, "slices must be a whole number"),
        ({"slices": True}, "slices must be a whole number"),
        ({"slices": 2, "created_after": None}, "slices needs created_after"),
        ({"slices": 2, "created_after": ..., "conference_sid": sid(1)}, "slices needs"),
        ({"slices": 2, "created_before": at(0)}, "the window is empty"),
        ({"slices": 2, "resume": "x"}, "not a cursor"),
        ({"slices": 2, "page_size": 0}, "page_size must be"),
        ({"slices": 2, "limit": -1}, "limit must be"),
    ],
)
async def test_bad_arguments(arguments, words):
    """What cannot be listed in slices is refused before anything is sent."""
    async with opened() as (server, session):
        with pytest.raises(InvalidRequestError, match=words):
            session.conferences(**{**WINDOW, **arguments})
        assert server.requests == []


# --- Telemetry, and the pages themselves ---


async def test_all_slices_have_one_span():
    """A list in slices is one span, above those of the attempts of all slices."""
    provider, exported = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    tracer = provider.get_tracer("tests")
    options = {"tracer": tracer, "trace_configs": [create_trace_config(tracer_provider=provider)]}
    async with opened(options=options) as (server, session):
        await listed(session, slices=4, page_size=3)
    *attempts, whole = exported.get_finished_spans()
    assert whole.name == "list conferences"
    assert whole.attributes["aioparticipants.records"] == len(SECONDS)
    assert len(attempts) == len(server.requests)
    assert {each.parent.span_id for each in attempts} == {whole.context.span_id}


async def test_a_page_stays_until_it_is_taken():
    """The next page is the same until it is taken; after the last one that is wanted is none."""
    async with opened() as (_, session):
        async with session.conferences(**WINDOW, slices=4) as stream:
            pages = stream._pages
            page = await pages.next()
            assert page is await pages.next()
            pages.take(last=True)
            assert isinstance(await pages.next(), End)
            await pages.look_ahead()


async def test_all_slices_are_one_list():
    """The events are those of one list, with a page delivered for each page of a slice."""
    events = []
    async with StampingServer() as server:
        server.begin(SECONDS)
        async with observed(server, events) as session:
            await listed(session, slices=4)
            [finished] = of_type(ListFinished, events)
            assert (finished.records, finished.pages, finished.error) == (14, 4, None)
            assert [each.records for each in of_type(PageDelivered, events)] == [3, 4, 4, 3]
            events.clear()
            server.rules.fault = lambda query: 404
            with pytest.raises(NotFoundError):
                await listed(session, slices=4)
            [finished] = of_type(ListFinished, events)
            assert (finished.records, finished.error) == (0, "NotFoundError")


# --- Cancelled, closed or dropped at any moment ---


SIZE = 2


def swept(new_loop, once, *, first=1, **faults):
    """Run `once(session, whole, k)` for rising k until it returns False; return that k."""
    k = first

    async def sweep():
        nonlocal k
        lost = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
        async with StampingServer() as server:
            for k in itertools.count(first):
                server.begin(SECONDS[::2])
                server.reset_faults(**faults)
                # Both faults may meet the same page.
                async with session_on(server, retry=RetryPolicy(base_delay=0.001)) as session:
                    whole = [sid(each) for each in range(7)]
                    hit = await once(session, whole, k)
                    assert held(session) == (0, 0, 0), k
                if not hit:
                    break
        gc.collect()
        assert lost == []

    watchdog.run(sweep(), new_loop, describe=lambda: f"k = {k};")
    return k


def in_slices(session):
    return session.conferences(**WINDOW, slices=3, page_size=SIZE)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_dropped_with_all_slices_in_flight(new_loop):
    """Dropping the last reference cancels the page tasks of all slices, without a collection."""

    async def once(session, whole, k):
        stream = in_slices(session)
        task = asyncio.create_task(anext(stream))
        done = await turns(k, task=task)
        await Canceller(task).end("once")
        pages = weakref.ref(stream._pages)
        gc.disable()
        try:
            del stream, task
            await turns(4)
            assert held(session) == (0, 0, 0)
            assert pages() is None
        finally:
            gc.enable()
        return not done

    assert swept(new_loop, once, first=0) > 10


async def test_dropped_in_another_thread():
    """The last reference can be dropped in any thread: the requests of all slices are cancelled."""
    async with opened() as (server, session):
        server.latency = 3600
        streams = [session.conferences(**WINDOW, slices=4)]
        task = asyncio.create_task(anext(streams[0]))
        await until(lambda: server._in_flight == 4)
        await Canceller(task).end("once")
        del task
        await asyncio.to_thread(streams.clear)
        await until(lambda: held(session) == (0, 0, 0))


async def test_closed_session():
    """A session that is closed gives no slices, and the cursor works with another one."""
    async with opened() as (server, session):
        whole = await listed(session)
        stream = session.conferences(**WINDOW, slices=4)
        found = await some(stream, 1)
        await session.aclose()
        with pytest.raises(SessionClosedError) as caught:
            while True:
                found += await some(stream, 1)
        with pytest.raises(SessionClosedError):
            await listed(session, slices=4)
        async with session_on(server) as other:
            rest = await listed(other, slices=4, resume=caught.value.cursor)
        assert found + rest == whole


async def test_closed_by_a_page_of_its_own():
    """A trace hook of one request may close the list: it goes on, and the others are cancelled."""
    streams, closed = [], []

    async def close_stream(*_):
        if streams:
            await streams.pop().aclose()
            closed.append(asyncio.current_task().get_name())

    tracing = aiohttp.TraceConfig()
    tracing.on_request_end.append(close_stream)
    async with opened(options={"trace_configs": [tracing]}) as (server, session):
        server.latency = 0.01
        stream = session.conferences(**WINDOW, slices=4)
        streams.append(stream)
        with pytest.raises(InvalidRequestError, match="closed"):
            await anext(stream)
        await until(lambda: held(session) == (0, 0, 0))
        assert closed == ["aioparticipants page"]


def test_a_session_of_another_loop():
    """A list in slices of a session that is in use on another event loop is refused, each time."""
    session = None

    async def begin():
        nonlocal session
        async with StampingServer() as server:
            session = session_on(server)
            await listed(session, slices=4)

    async def misuse():
        stream = session.conferences(**WINDOW, slices=4)
        for _ in range(2):
            with pytest.raises(InvalidRequestError, match="another event loop"):
                await anext(stream)
        await stream.aclose()

    async def everything():
        await begin()
        await asyncio.to_thread(asyncio.run, misuse())
        await session.aclose()

    asyncio.run(everything())


def test_another_loop():
    """A list in slices that is used on two event loops is refused by the second."""
    streams = []

    async def begin():
        async with opened() as (server, session):
            server.latency = 3600
            stream = session.conferences(**WINDOW, slices=4)
            streams.append(stream)
            task = asyncio.create_task(anext(stream))
            await until(lambda: server._in_flight == 4)

            def elsewhere():
                with pytest.raises(InvalidRequestError, match="another event loop"):
                    asyncio.run(some(stream, 1))

            await Canceller(task).end("once")  # the pages stay in flight
            await asyncio.to_thread(elsewhere)
            await stream.aclose()

    asyncio.run(begin())
