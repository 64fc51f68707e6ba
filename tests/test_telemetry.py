"""The events, statistics and log lines of a session."""

from __future__ import annotations

import asyncio
import functools
import gc
import gzip
import json
import logging
import pickle
import subprocess
import sys
from collections import Counter

import aiohttp
import attrs
import pytest

from aioparticipants import (
    DeadlineExceededError,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    ResponseError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    SessionStats,
    TransportError,
    instrumentation,
)
from aioparticipants._telemetry import SessionTelemetry
from aioparticipants.instrumentation import (
    ConferenceFinished,
    LimitChanged,
    ListFinished,
    PageDelivered,
    RequestFinished,
    RequestStarted,
    RetryDenied,
    RetryScheduled,
)

from .servers import http, last_page, raw, resetting
from .telemetry import observed, of_type, until, with_sid
from .test_security import CREDENTIALS, LABEL, OF_CREDENTIALS, PERSONAL, RECORD, logged

SID = "CF" + "a" * 32
BAD = "CF" + "b" * 32
ONCE = RetryPolicy(max_attempts=1)
THRICE = RetryPolicy(max_attempts=3, base_delay=0.001)
ALL_TYPES = set(instrumentation.Event.__args__)


def types_of(events):
    return [type(each) for each in events]


def without_measures(event):
    """Return an event with its seconds and bytes set to 0."""
    return attrs.evolve(event, **{n: 0 for n in ("seconds", "bytes") if hasattr(event, n)})


# --- Events ---


async def test_events_of_a_list(fake):
    """A list of two pages emits its events in order, with every field, from start to end."""
    sid, events = fake.add_conference(participants=3), []
    async with observed(fake, events) as session, session.participants(sid, page_size=2) as stream:
        pages = [page async for page in stream.pages()]

    first, second = (page.request_id for page in pages)
    # The second request may finish before the first page is delivered, or after it.
    order = {RequestStarted: 0, RequestFinished: 1}
    events.sort(key=lambda each: order.get(type(each), 2))
    finished = RequestFinished(
        conference_sid=sid,
        attempt=1,
        outcome="HTTP 200",
        status=200,
        seconds=0,
        request_id=first,
        concurrent_requests=1,
    )
    assert [without_measures(each) for each in events] == [
        RequestStarted(conference_sid=sid, attempt=1),
        RequestStarted(conference_sid=sid, attempt=1),
        finished,
        attrs.evolve(finished, request_id=second),
        PageDelivered(conference_sid=sid, page=0, records=2, request_id=first),
        PageDelivered(conference_sid=sid, page=1, records=1, request_id=second),
        ConferenceFinished(conference_sid=sid, pages=2, records=3, seconds=0, error=None),
    ]
    assert first.startswith("RQ")
    assert all(each.seconds > 0 for each in events if hasattr(each, "seconds"))


@pytest.mark.parametrize("compressed", [False, True])
async def test_bytes_are_those_of_the_decompressed_body(compressed):
    """An event and the statistics have the size of the body, after decompression."""
    page, events = last_page(RECORD), []
    reply = (
        http(gzip.compress(page), "200 OK", "Content-Encoding: gzip") if compressed else http(page)
    )
    async with raw(reply) as server, observed(server, events) as session:
        await session.participants(SID)

    assert [each.bytes for each in of_type(RequestFinished, events)] == [len(page)]
    assert session.stats.bytes == len(page)


async def test_a_page_is_delivered_once(fake):
    """A page has one event, with the records delivered of it, when the consumer leaves it."""
    sid, events = fake.add_conference(participants=7), []
    async with observed(fake, events) as session:
        async with session.participants(sid, page_size=4) as stream:
            for _ in range(3):
                await anext(stream)
            cursor = stream.cursor
            assert of_type(PageDelivered, events) == []
        async for _ in (stream := session.participants(sid, resume=cursor)):
            pass
        await stream.aclose()

    assert [each.records for each in of_type(PageDelivered, events)] == [3, 1, 3]
    assert [(e.pages, e.records) for e in of_type(ConferenceFinished, events)] == [(2, 4)]


@pytest.mark.parametrize("by_page", [False, True])
async def test_a_malformed_body(fake, by_page):
    """A body that is malformed after some records is one attempt, and one page of those records."""
    sid, events = fake.add_conference(participants=3), []
    whole = {"participants": fake.records(sid), "meta": {"next_page_url": None}}
    before, last = json.dumps(whole).rsplit('{"participant_sid"', 1)
    fake.fail_next(200, body=f'{before}!{{"participant_sid"{last}'.encode())
    async with observed(fake, events) as session:
        stream = session.participants(sid)
        with pytest.raises(ResponseError, match="JSON"):
            [_ async for _ in (stream.pages() if by_page else stream)]
        await stream.aclose()

    assert types_of(events) == [RequestStarted, RequestFinished, PageDelivered, ConferenceFinished]
    finished = events[-1]
    assert (events[2].records, finished.records, finished.error) == (2, 2, "ResponseError")


async def test_retries(fake):
    """Each retry has an event with the attempt, reason and delay that the error lists, too."""
    sid, events = fake.add_conference(), []
    fake.fail_next(503)
    fake.fail_next(disconnect=True, times=2)  # aiohttp sends a GET once more
    fake.fail_next(500)
    async with observed(fake, events, retry=THRICE) as session:
        with pytest.raises(ServerError) as caught:
            await session.participants(sid)

    attempts = caught.value.attempts
    assert of_type(RetryScheduled, events) == [
        RetryScheduled(conference_sid=sid, attempt=n, reason=each.outcome, delay=each.delay)
        for n, each in enumerate(attempts[:-1], 1)
    ]
    assert [e.reason for e in of_type(RetryScheduled, events)] == ["HTTP 503", "TransportError"]
    assert types_of(events) == [
        *[RequestStarted, RequestFinished, RetryScheduled] * 2,
        *[RequestStarted, RequestFinished, ConferenceFinished],
    ]
    finished = of_type(RequestFinished, events)
    assert [each.attempt for each in finished] == [1, 2, 3]
    assert [each.outcome for each in finished] == [each.outcome for each in attempts]
    assert [each.status for each in finished] == [503, None, 500]
    assert [bool(each.request_id) for each in finished] == [True, False, True]


async def fail(session, _server):
    """Wait until the server fails the list."""
    with pytest.raises(TransportError):
        await session.participants(SID)


async def close(session, server):
    """Close the list while its request is in flight."""
    stream = session.participants(SID)
    waiting = asyncio.ensure_future(anext(stream))
    await until(lambda: server.heads)
    await stream.aclose()
    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await waiting


async def drop(session, server):
    """Drop the list while its request is in flight."""
    stream = session.participants(SID)
    waiting = asyncio.ensure_future(anext(stream))
    await until(lambda: server.heads)
    waiting.cancel()
    await asyncio.wait([waiting])
    del stream, waiting
    gc.collect()
    await until(lambda: session.stats.in_flight == 0)


@pytest.mark.parametrize(
    ("reply", "act", "outcome"),
    [
        (resetting(), fail, "TransportError"),
        (http(b'{"participants": [', length=999), fail, "TransportError"),
        (..., fail, "RequestTimeoutError"),
        (..., close, "cancelled"),
        (..., drop, "cancelled"),
    ],
    ids=["reset", "cut off", "timed out", "closed", "dropped"],
)
async def test_each_attempt_finishes_once(reply, act, outcome):
    """Each attempt that started has one event that it finished, whatever ended it."""
    events = []
    async with raw(reply, keep_alive=False) as server:
        timeout = 0.05 if outcome == "RequestTimeoutError" else 30
        async with observed(server, events, retry=ONCE, timeout=timeout) as session:
            await act(session, server)
            stats = session.stats

    assert types_of(events[:2]) == [RequestStarted, RequestFinished]
    assert (events[1].outcome, events[1].status, events[1].bytes) == (outcome, None, 0)
    assert events[1].seconds >= 0
    assert (stats.requests, stats.in_flight) == (1, 0)
    assert (stats.failed, stats.cancelled) == ((0, 1) if outcome == "cancelled" else (1, 0))


async def hang(*_args):
    await asyncio.Event().wait()


def test_an_attempt_dropped_with_its_loop(recwarn, caplog):
    """An attempt that is dropped after its loop was closed is cancelled, without a sound."""
    events, loop = [], asyncio.new_event_loop()

    async def start():
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(hang)
        async with aiohttp.ClientSession(trace_configs=[trace]) as borrowed:
            session = InsightsSession(CREDENTIALS, http=borrowed, on_event=events.append)
            waiting = session.participants(SID).__anext__()
            waiting.send(None)  # no task of the test's, which asyncio would complain of
            await until(lambda: events)
            return waiting

    waiting = loop.run_until_complete(start())
    loop.close()
    assert types_of(events) == [RequestStarted]
    del waiting
    gc.collect()

    assert types_of(events) == [RequestStarted, RequestFinished]
    assert events[1].outcome == "cancelled"
    assert (recwarn.list, caplog.records) == ([], [])


async def test_limit_changes(fake):
    """Each change of the limit has an event with its reason, and the statistics follow it."""
    sid, events = fake.add_conference(participants=1), []
    patient = RetryPolicy(max_attempts=50, base_delay=0.001, max_delay=0.01)
    fake.latency = 0.001
    async with observed(fake, events, retry=patient) as session:
        assert session.stats.limit == 4
        await asyncio.gather(*(session.participants(sid) for _ in range(20)))
        grown = of_type(LimitChanged, events)
        assert session.stats.limit == grown[-1].limit
        fake.concurrency = 2
        await asyncio.gather(*(session.participants(sid) for _ in range(20)))
        changes = of_type(LimitChanged, events)
        assert session.stats.limit == changes[-1].limit

    assert [each.limit for each in grown] == [*range(5, 5 + len(grown))]
    assert {each.reason for each in grown} == {"succeeded"}
    fallen = changes[len(grown)]
    assert (fallen.reason, fallen.limit < grown[-1].limit) == ("rate_limited", True)


async def test_finished_lists(fake):
    """A complete, limited, empty or failed list has one event, with what was delivered of it."""
    sid, events = fake.add_conference(participants=5), []
    records = with_sid(BAD, fake.records(sid)[:3])
    bad = fake.add_conference([*records, {"label": 7}, {}], conference_sid=BAD)
    empty = fake.add_conference(participants=0)
    async with observed(fake, events) as session:
        whole = session.participants(sid, page_size=2)
        assert len([each async for each in whole]) == 5
        with pytest.raises(StopAsyncIteration):  # a second end has no event
            await anext(whole)
        assert len(await session.participants(sid, page_size=2, limit=3)) == 3
        assert await session.participants(sid, limit=0) == []
        assert await session.participants(empty) == []
        assert await session.participants(sid, resume=whole.cursor) == []
        for _ in range(2):
            failing = session.participants(bad)
            for _ in range(2):  # the same error again has no event
                with pytest.raises(ResponseError):
                    async for page in failing.pages():
                        assert len(page.records) == 3
        with pytest.raises(NotFoundError):
            await session.participants(SID)

    assert [
        (each.conference_sid, each.pages, each.records, each.error)
        for each in of_type(ConferenceFinished, events)
    ] == [
        (sid, 3, 5, None),
        (sid, 2, 3, None),
        (sid, 0, 0, None),
        (empty, 1, 0, None),
        (sid, 1, 0, None),
        (bad, 1, 3, "ResponseError"),
        (bad, 1, 3, "ResponseError"),
        (SID, 0, 0, "NotFoundError"),
    ]


async def test_a_list_that_is_left_early(fake):
    """A list that is closed or dropped before its end neither finished nor failed."""
    sid, events = fake.add_conference(participants=5), []
    async with observed(fake, events) as session:
        async for _ in session.participants(sid, page_size=2):
            break
        async with session.participants(sid, page_size=2) as stream:
            await anext(stream)
        with pytest.raises(InvalidRequestError, match="closed before its end"):
            await anext(stream)
        async with session.fan_out([sid, sid], page_size=2).participants() as merged:
            await anext(merged)
        assert session.stats.conferences == 0

    assert of_type(ConferenceFinished, events) == []
    assert of_type(PageDelivered, events) != []


@pytest.mark.parametrize("records", [0, 2, 3], ids=["before", "between pages", "within a page"])
async def test_a_list_whose_session_is_closed(fake, records):
    """A list whose session was closed has failed, wherever it was."""
    sid, events = fake.add_conference(participants=5), []
    session = observed(fake, events)
    stream = session.participants(sid, page_size=2)
    for _ in range(records):
        await anext(stream)
    await session.aclose()
    for _ in range(2):
        with pytest.raises(SessionClosedError):
            [_ async for _ in stream]

    (finished,) = of_type(ConferenceFinished, events)
    assert finished.error == "SessionClosedError"
    assert finished.records >= records
    assert events[-1] is finished


async def test_a_denied_retry(fake):
    """A retry that the quota denies has an event, before the list's, and is counted."""
    sid, events = fake.add_conference(participants=1), []
    fake.fail_next(503, times=5)
    policy = RetryPolicy(quota=1, base_delay=0.001)
    async with observed(fake, events, retry=policy) as session:
        with pytest.raises(ServerError, match="the session's retry quota is used up: ") as caught:
            await session.participants(sid)
        stats = session.stats

    assert events[-2] == RetryDenied(conference_sid=sid, attempt=2, reason="HTTP 503")
    assert types_of(events) == [
        *(RequestStarted, RequestFinished, RetryScheduled),
        *(RequestStarted, RequestFinished, RetryDenied),
        ConferenceFinished,
    ]
    assert [each.outcome for each in caught.value.attempts] == ["HTTP 503"] * 2
    assert (stats.retries, stats.retries_denied) == (1, 1)


async def test_a_retry_without_time(fake):
    """A retry that the deadline prevents is not one that the quota denied."""
    sid, events = fake.add_conference(participants=1), []
    fake.fail_next(503, retry_after=50)
    async with observed(fake, events, retry=RetryPolicy(quota=0)) as session:
        with pytest.raises(DeadlineExceededError):
            await session.participants(sid, deadline=40)

    assert of_type(RetryDenied, events) == []


async def test_events_of_a_fan_out(fake):
    """Each conference of a fan-out finishes once; the event of an invalid SID has None for it."""
    good, events = [fake.add_conference(participants=3) for _ in range(3)], []
    async with observed(fake, events) as session:
        results = [each async for each in session.fan_out([*good, SID, "+15005550006", 5])]
        stats = session.stats

    assert len(results) == 6
    finished = of_type(ConferenceFinished, events)
    assert Counter((each.conference_sid, each.records, each.error) for each in finished) == {
        **{(sid, 3, None): 1 for sid in good},
        (SID, 0, "NotFoundError"): 1,
        (None, 0, "InvalidRequestError"): 2,
    }
    assert (stats.conferences, stats.conferences_failed) == (6, 3)
    assert "15005550006" not in repr(events)


async def test_a_fan_out_of_a_closed_session(fake):
    """A fan-out that did not start before its session was closed emits nothing."""
    events = []
    session = observed(fake, events)
    results = session.fan_out([SID])
    await session.aclose()
    with pytest.raises(SessionClosedError):
        await anext(results)

    assert events == []


# --- Statistics ---


async def storm(fake, session):
    """Cause every type of event."""
    sids = [fake.add_conference(participants=4) for _ in range(12)]
    fake.latency = 0.001
    fake.fail_next(503, times=2)
    fake.fail_next(429)
    async for _ in session.fan_out([*sids, SID, "none"], page_size=2):
        pass
    fake.fail_next(503, times=3)
    with pytest.raises(ServerError):
        await session.participants(sids[0])
    with pytest.raises(NotFoundError):
        await session.conference(SID)
    fake.latency = 3600
    async with session.participants(sids[0]) as stream:
        waiting = asyncio.ensure_future(anext(stream))
        await until(lambda: session.stats.in_flight)
        waiting.cancel()
        await asyncio.wait([waiting])
    fake.latency = 0


def counted(events):
    """Return the statistics of a session with these events, counted in another way."""
    finished = of_type(RequestFinished, events)
    statuses = Counter(each.status for each in finished)
    cancelled = sum(each.outcome == "cancelled" for each in finished)
    lists = of_type(ConferenceFinished, events)
    concurrent = [
        each.concurrent_requests for each in finished if each.concurrent_requests is not None
    ]
    return SessionStats(
        limit=[4, *(each.limit for each in of_type(LimitChanged, events))][-1],
        in_flight=len(of_type(RequestStarted, events)) - len(finished),
        requests=len(of_type(RequestStarted, events)),
        succeeded=statuses[200],
        rate_limited=statuses[429],
        failed=len(finished) - statuses[200] - statuses[429] - cancelled,
        cancelled=cancelled,
        retries=len(of_type(RetryScheduled, events)),
        retries_denied=len(of_type(RetryDenied, events)),
        bytes=sum(each.bytes for each in finished),
        pages=len(of_type(PageDelivered, events)),
        conferences=len(lists),
        conferences_failed=sum(each.error is not None for each in lists),
        concurrent_requests=[None, *concurrent][-1],
        most_concurrent_requests=max(concurrent, default=None),
    )


async def test_statistics_are_counted_from_the_events(fake):
    """At each event, also within the callback, the statistics agree with the events so far."""
    events = []

    def check(event):
        events.append(event)
        assert session.stats == counted(events)

    async with observed(fake, [], on_event=check) as session:
        assert session.stats == SessionStats(limit=4)
        await storm(fake, session)
        stats = session.stats

    assert set(types_of(events)) == ALL_TYPES
    assert stats == counted(events)
    assert stats.requests == len(fake.requests)
    assert (stats.succeeded, stats.cancelled) == (24, 1)
    assert (stats.retries, stats.retries_denied) == (5, 1)
    assert (stats.rate_limited, stats.failed) == (1, 7)
    assert (stats.conferences, stats.conferences_failed) == (15, 3)


async def test_twilios_count_of_requests_in_flight():
    """An event has the count of its reply; the statistics have the latest and the highest one."""
    header = "Twilio-Concurrent-Requests: {}".format
    replies = [
        http(b"", "503 Busy", header(9)),
        http(last_page(), "200 OK", header("many")),
        http(last_page(), "200 OK", header(4)),
        http(last_page()),
        http(last_page(), "200 OK", header(0)),
    ]
    events, stats = [], []
    async with raw(*replies) as server, observed(server, events) as session:
        for _ in range(4):
            await session.participants(SID)
            stats.append(session.stats)

    finished = of_type(RequestFinished, events)
    assert [each.concurrent_requests for each in finished] == [9, None, 4, None, 0]
    assert [each.concurrent_requests for each in stats] == [9, 4, 4, 0]
    assert [each.most_concurrent_requests for each in stats] == [9, 9, 9, 9]


async def test_events_are_values(fake):
    """Events and statistics are frozen, hashable, and survive pickle; equal ones are equal."""
    events = []
    async with observed(fake, events) as session:
        await storm(fake, session)
        events.append(session.stats)

    assert set(types_of(events)) == {*ALL_TYPES, SessionStats}
    for each in events:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            copy = pickle.loads(pickle.dumps(each, protocol=protocol))
            assert (copy, hash(copy)) == (each, hash(each))
        for field in attrs.fields(type(each)):
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                setattr(each, field.name, 0)
        with pytest.raises((AttributeError, TypeError)):
            each.more = 0


async def test_no_secrets(caplog):
    """No event or log line holds a credential, a label, a number or a query."""
    caplog.set_level(logging.DEBUG, "aioparticipants")
    link = f"https://insights.twilio.com/v1/Conferences/{SID}/Participants?Label={LABEL}&Page=1"
    page = last_page(RECORD, RECORD).replace(b"null", f'"{link}"'.encode())
    busy = http(b"{}", "503 Busy")
    replies = [busy, http(page), http(last_page(RECORD, {"label": 7})), *[busy] * 3]
    events = []
    async with (
        raw(*replies) as server,
        observed(server, events, credentials=CREDENTIALS) as session,
    ):
        with pytest.raises(ResponseError):
            await session.participants(SID, label=LABEL)
        async for _ in session.fan_out([SID, f"+{LABEL}"], label=LABEL):
            pass
        with pytest.raises(ServerError):
            await session.participants(SID, label=LABEL)

    assert any(LABEL in head for head in server.heads)
    assert set(types_of(events)) == ALL_TYPES - {LimitChanged, ListFinished}
    texts = [repr(events), *(pickle.dumps(e, protocol=0).decode("latin-1") for e in events)]
    for secret in (*OF_CREDENTIALS, *PERSONAL, "PageSize", "Label=", "Page="):
        assert not any(secret in text for text in texts)
        assert secret not in caplog.text
    assert logged(caplog) == []


def test_every_event_is_public():
    """`instrumentation` exports each event, their union and the statistics."""
    assert {getattr(instrumentation, name) for name in instrumentation.__all__} == {
        *ALL_TYPES,
        SessionStats,
        instrumentation.Event,
    }


# --- The callback ---


async def test_a_callback_that_raises(fake, caplog):
    """What a callback raises is logged once for each event, and changes nothing else."""
    events = []

    def broken(event):
        events.append(event)
        raise ValueError(type(event))

    async with observed(fake, [], on_event=broken) as session:
        await storm(fake, session)
        sid = fake.add_conference(participants=5)
        assert len(await session.participants(sid, page_size=2)) == 5
        assert session.stats == counted(events)

    assert set(types_of(events)) == ALL_TYPES
    assert [(r.name, r.levelname, r.args) for r in caplog.records if r.levelno > logging.INFO] == [
        ("aioparticipants", "ERROR", (type(each).__name__,)) for each in events
    ]
    assert caplog.text.count("ValueError: <class 'aioparticipants.instrumentation.") == len(events)


def test_an_interrupt_in_the_callback():
    """What is not an `Exception`, such as an interrupt, goes through the callback's caller."""

    def interrupted(_event):
        raise KeyboardInterrupt

    telemetry = SessionTelemetry(interrupted, limit=1)
    with pytest.raises(KeyboardInterrupt):
        telemetry.emit(LimitChanged(limit=2, reason="succeeded"))
    assert telemetry.stats == SessionStats(limit=2)


async def coroutine(_event): ...


async def async_generator(_event):
    yield


class Awaitable:
    async def __call__(self, _event): ...

    async def method(self, _event): ...


@pytest.mark.parametrize(
    "on_event",
    [
        *(5, "print", coroutine, async_generator),
        *(functools.partial(coroutine), Awaitable(), Awaitable().method),
    ],
    ids=["number", "text", "async", "async generator", "partial", "object", "method"],
)
def test_invalid_callbacks(on_event):
    """A callback that cannot be called, or would have to be awaited, is rejected at once."""
    with pytest.raises(InvalidRequestError, match="plain function"):
        InsightsSession(CREDENTIALS, on_event=on_event)


async def test_valid_callbacks(fake):
    """Functions, methods, classes and callable objects are valid callbacks, and so is none."""
    events, queue = [], asyncio.Queue()

    class Appends:
        def __call__(self, event):
            events.append(event)

    sid = fake.add_conference(participants=1)
    methods = events.append, Appends(), queue.put_nowait
    for on_event in (*methods, functools.partial(str), type, None):
        async with observed(fake, [], on_event=on_event) as session:
            await session.participants(sid)
        assert (session.stats.succeeded, session.stats.conferences) == (1, 1)

    assert len(events) == 8
    assert queue.qsize() == 4


# --- Logging ---


async def test_log_lines(fake, caplog):
    """A line shows its event; waits, denied retries and new limits are INFO, the rest is DEBUG."""
    caplog.set_level(logging.DEBUG, "aioparticipants")
    events = []
    async with observed(fake, events) as session:
        await session.participants(fake.add_conference(participants=1), label="agent")
        await storm(fake, session)

    notable = (RetryScheduled, RetryDenied, LimitChanged)
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        (
            "aioparticipants",
            "INFO" if type(each) in notable else "DEBUG",
            f"GET {each.path}: {each!r}" if hasattr(each, "path") else repr(each),
        )
        for each in events
    ]
    assert set(types_of(events)) == ALL_TYPES
    assert of_type(PageDelivered, events)[0].request_id in caplog.text
    assert not any("?" in line or "agent" in line for line in caplog.messages)


async def test_log_level(fake, caplog):
    """Above INFO nothing is logged."""
    caplog.set_level(logging.WARNING, "aioparticipants")
    async with observed(fake, []) as session:
        await storm(fake, session)

    assert caplog.records == []


def test_importing_has_no_side_effects():
    """The package configures no logging, prints nothing, and imports no OpenTelemetry."""
    script = """
import asyncio, logging, sys
from aioparticipants import InsightsError, InsightsSession, RetryPolicy

async def main():
    retry = RetryPolicy(max_attempts=2, base_delay=0)
    options = {"base_url": "http://127.0.0.1:1", "retry": retry, "on_event": {}.__getitem__}
    async with InsightsSession(("AC", "token"), **options) as session:
        try:
            await session.participants("CF" + "a" * 32)
        except InsightsError as error:
            assert len(error.attempts) == 2

asyncio.run(main())
logger = logging.getLogger("aioparticipants")
assert [type(each) for each in logger.handlers] == [logging.NullHandler]
assert (logger.level, logger.propagate, logger.disabled) == (logging.NOTSET, True, False)
assert (logging.root.handlers, logging.root.level) == ([], logging.WARNING)
assert not any(name.startswith("opentelemetry") for name in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
