"""What a session tells while it works: events, statistics, log lines and spans."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import logging
import pickle
import subprocess
import sys
import threading
import types
from collections import Counter

import attrs
import pytest
from opentelemetry import trace as otel
from opentelemetry.instrumentation.aiohttp_client import (
    AioHttpClientInstrumentor,
    create_trace_config,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

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
from aioparticipants._messages import Request
from aioparticipants._telemetry import SessionTelemetry
from aioparticipants.instrumentation import (
    ConferenceFinished,
    LimitChanged,
    PageDelivered,
    RequestFinished,
    RequestStarted,
    RetryDenied,
    RetryScheduled,
)

from .servers import http, last_page, raw, resetting
from .telemetry import until
from .test_security import CREDENTIALS, LABEL, OF_CREDENTIALS, PERSONAL, RECORD, logged

SID = "CF" + "a" * 32
BAD = "CF" + "b" * 32
ONCE = RetryPolicy(max_attempts=1)
THRICE = RetryPolicy(max_attempts=3, base_delay=0.001)
# One page survives all faults of a storm but the last, which the quota denies a retry.
QUICK = RetryPolicy(max_attempts=4, base_delay=0.001, quota=2)
ALL_KINDS = set(instrumentation.Event.__args__)


def watched(server, told, **options):
    """Return a session that appends what it tells to `told`."""
    options = {"retry": QUICK, "on_event": told.append} | options
    credentials = getattr(server, "credentials", CREDENTIALS)
    return InsightsSession(credentials, base_url=server.base_url, **options)


def copied(records):
    """Return records of a conference as those of the one with bad records."""
    return [{**each, "conference_sid": BAD} for each in records]


def of(kind, told):
    return [each for each in told if type(each) is kind]


# --- Events ---


async def test_events_of_a_list(fake):
    """A list of two pages is told from the first request to the end, in order, every field."""
    sid, told = fake.add_conference(participants=3), []
    async with watched(fake, told) as session, session.participants(sid, page_size=2) as stream:
        pages = [page async for page in stream.pages()]

    first, second = (page.request_id for page in pages)
    sizes = [each.bytes for each in of(RequestFinished, told)]
    # The second request is answered before the first page has been handed out, or after it.
    order = {RequestStarted: 0, RequestFinished: 1}
    told.sort(key=lambda each: order.get(type(each), 2))
    assert [attrs.evolve(e, seconds=0) if hasattr(e, "seconds") else e for e in told] == [
        RequestStarted(conference_sid=sid, attempt=1),
        RequestStarted(conference_sid=sid, attempt=1),
        finished := RequestFinished(
            conference_sid=sid,
            attempt=1,
            outcome="HTTP 200",
            status=200,
            seconds=0,
            bytes=sizes[0],
            request_id=first,
        ),
        attrs.evolve(finished, bytes=sizes[1], request_id=second),
        PageDelivered(conference_sid=sid, page=0, records=2, request_id=first),
        PageDelivered(conference_sid=sid, page=1, records=1, request_id=second),
        ConferenceFinished(conference_sid=sid, pages=2, records=3, seconds=0, error=None),
    ]
    assert sizes == [len(fake._pages[sid, query]) for _, query in fake._pages]
    assert first.startswith("RQ")
    assert all(each.seconds > 0 for each in told if hasattr(each, "seconds"))


async def test_a_page_is_told_as_it_is_left(fake):
    """A page is told once, with what was handed out of it, as no more of it will be."""
    sid, told = fake.add_conference(participants=7), []
    async with watched(fake, told) as session:
        async with session.participants(sid, page_size=4) as stream:
            for _ in range(3):
                await anext(stream)
            cursor = stream.cursor
            assert of(PageDelivered, told) == []
        async for _ in (stream := session.participants(sid, resume=cursor)):
            pass
        await stream.aclose()

    assert [each.records for each in of(PageDelivered, told)] == [3, 1, 3]
    assert [(e.pages, e.records) for e in of(ConferenceFinished, told)] == [(2, 4)]


@pytest.mark.parametrize("by_page", [False, True])
async def test_a_body_that_proves_bad_is_told_once(fake, by_page):
    """A body that breaks behind some records is one attempt, and one page with those records."""
    sid, told = fake.add_conference(participants=3), []
    whole = {"participants": fake.records(sid), "meta": {"next_page_url": None}}
    before, last = json.dumps(whole).rsplit('{"participant_sid"', 1)
    fake.fail_next(200, body=f'{before}!{{"participant_sid"{last}'.encode())
    async with watched(fake, told) as session:
        stream = session.participants(sid)
        with pytest.raises(ResponseError, match="JSON"):
            [_ async for _ in (stream.pages() if by_page else stream)]
        await stream.aclose()

    assert [type(each) for each in told] == [
        *(RequestStarted, RequestFinished, PageDelivered, ConferenceFinished)
    ]
    finished = told[-1]
    assert (told[2].records, finished.records, finished.error) == (2, 2, "ResponseError")


async def test_retries_are_told(fake):
    """Each retry is told with the attempt, the reason and the delay that the error lists, too."""
    sid, told = fake.add_conference(), []
    fake.fail_next(503)
    fake.fail_next(disconnect=True, times=2)  # aiohttp repeats a GET once
    fake.fail_next(500)
    async with watched(fake, told, retry=THRICE) as session:
        with pytest.raises(ServerError) as caught:
            await session.participants(sid)

    attempts = caught.value.attempts
    assert of(RetryScheduled, told) == [
        RetryScheduled(conference_sid=sid, attempt=n, reason=each.outcome, delay=each.delay)
        for n, each in enumerate(attempts[:-1], 1)
    ]
    assert [each.reason for each in of(RetryScheduled, told)] == ["HTTP 503", "TransportError"]
    assert [type(each) for each in told] == [
        *[RequestStarted, RequestFinished, RetryScheduled] * 2,
        *[RequestStarted, RequestFinished, ConferenceFinished],
    ]
    finished = of(RequestFinished, told)
    assert [each.attempt for each in finished] == [1, 2, 3]
    assert [each.outcome for each in finished] == [each.outcome for each in attempts]
    assert [each.status for each in finished] == [503, None, 500]
    assert [bool(each.request_id) for each in finished] == [True, False, True]


async def hung_up(session, _server):
    """Leave the list to what the server does."""
    with pytest.raises(TransportError):
        await session.participants(SID)


async def cut_off(session, server):
    """Close the list while its request is on the way."""
    stream = session.participants(SID)
    waiting = asyncio.ensure_future(anext(stream))
    await until(lambda: server.heads)
    await stream.aclose()
    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await waiting


async def dropped(session, server):
    """Drop the list while its request is on the way."""
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
        (resetting(), hung_up, "TransportError"),
        (http(b'{"participants": [', length=999), hung_up, "TransportError"),
        (..., hung_up, "RequestTimeoutError"),
        (..., cut_off, "cancelled"),
        (..., dropped, "cancelled"),
    ],
    ids=["reset", "cut off by the server", "timed out", "closed", "dropped"],
)
async def test_each_attempt_is_finished_once(reply, act, outcome):
    """Each attempt that began is told once as finished, whatever ends it."""
    told = []
    async with raw(reply, keep_alive=False) as server:
        timeout = 0.05 if outcome == "RequestTimeoutError" else 30
        async with watched(server, told, retry=ONCE, timeout=timeout) as session:
            await act(session, server)
            stats = session.stats

    assert [type(each) for each in told[:2]] == [RequestStarted, RequestFinished]
    assert (told[1].outcome, told[1].status, told[1].bytes) == (outcome, None, 0)
    assert told[1].seconds >= 0
    assert (stats.requests, stats.in_flight) == (1, 0)
    assert (stats.failed, stats.cancelled) == ((0, 1) if outcome == "cancelled" else (1, 0))


@types.coroutine
def thrown_away(attempt, sent):
    """Run an attempt until its request was sent, and throw it away as a collected task is."""
    waiting = attempt.send(None)
    while not sent:
        yield waiting
        waiting = attempt.send(None)
    attempt.close()
    waiting.cancel()  # aiohttp's own, which nobody waits for any more


async def test_an_attempt_that_nothing_will_run_again_is_cancelled():
    """An attempt that is thrown away with its loop is told as cancelled, not as a failure."""
    told = []
    async with raw(...) as server, watched(server, told) as session:
        request = Request(path="/v1", query="", conference_sid=SID)
        sent = []
        await thrown_away(session._fetcher.send(request, 1, 5.0, lambda: sent.append(True)), sent)

    assert [type(each) for each in told] == [RequestStarted, RequestFinished]
    assert told[1].outcome == "cancelled"


async def test_limit_changes_are_told(fake):
    """The limit is told as it grows, and as a refusal takes it down; the statistics follow it."""
    sid, told = fake.add_conference(participants=1), []
    patient = RetryPolicy(max_attempts=50, base_delay=0.001, max_delay=0.01)
    fake.latency = 0.001
    async with watched(fake, told, retry=patient) as session:
        assert session.stats.limit == session._limiter.limit == 4
        await asyncio.gather(*(session.participants(sid) for _ in range(20)))
        grown = of(LimitChanged, told)
        assert session.stats.limit == session._limiter.limit == grown[-1].limit
        fake.concurrency = 2
        await asyncio.gather(*(session.participants(sid) for _ in range(20)))
        changes = of(LimitChanged, told)
        assert session.stats.limit == session._limiter.limit == changes[-1].limit

    assert [each.limit for each in grown] == [*range(5, 5 + len(grown))]
    assert {each.reason for each in grown} == {"succeeded"}
    fallen = changes[len(grown)]
    assert (fallen.reason, fallen.limit < grown[-1].limit) == ("refused", True)


async def test_the_end_of_a_list_is_told(fake):
    """A complete, a limited, an empty and a failed list are told once each, with what they gave."""
    sid, told = fake.add_conference(participants=5), []
    bad = fake.add_conference(
        [*copied(fake.records(sid)[:3]), {"label": 7}, {}], conference_sid=BAD
    )
    empty = fake.add_conference(participants=0)
    async with watched(fake, told) as session:
        whole = session.participants(sid, page_size=2)
        assert len([each async for each in whole]) == 5
        with pytest.raises(StopAsyncIteration):  # the end again is not told again
            await anext(whole)
        assert len(await session.participants(sid, page_size=2, limit=3)) == 3
        assert await session.participants(sid, limit=0) == []
        assert await session.participants(empty) == []
        rest = await session.participants(sid, resume=whole.cursor)
        assert rest == []
        for _ in range(2):  # an error repeats, and is told once
            failing = session.participants(bad)
            for _ in range(2):
                with pytest.raises(ResponseError):
                    async for page in failing.pages():
                        assert len(page.records) == 3
        with pytest.raises(NotFoundError):
            await session.participants(SID)

    assert [
        (each.conference_sid, each.pages, each.records, each.error)
        for each in of(ConferenceFinished, told)
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


async def test_a_list_that_is_left_early_is_not_told(fake):
    """A list that is closed or dropped before its end did not end, and did not fail."""
    sid, told = fake.add_conference(participants=5), []
    async with watched(fake, told) as session:
        async for _ in session.participants(sid, page_size=2):
            break
        async with session.participants(sid, page_size=2) as stream:
            await anext(stream)
        with pytest.raises(InvalidRequestError, match="closed before its end"):
            await anext(stream)
        async with session.fan_out([sid, sid], page_size=2).participants() as merged:
            await anext(merged)
        assert session.stats.conferences == 0

    assert of(ConferenceFinished, told) == []
    assert of(PageDelivered, told) != []


@pytest.mark.parametrize("records", [0, 2, 3], ids=["before", "between pages", "within a page"])
async def test_a_list_whose_session_is_closed_has_failed(fake, records):
    """A list that its session was closed under is told as failed, wherever it stood."""
    sid, told = fake.add_conference(participants=5), []
    session = watched(fake, told)
    stream = session.participants(sid, page_size=2)
    for _ in range(records):
        await anext(stream)
    await session.aclose()
    for _ in range(2):
        with pytest.raises(SessionClosedError):
            [_ async for _ in stream]

    (finished,) = of(ConferenceFinished, told)
    assert finished.error == "SessionClosedError"
    assert finished.records >= records
    assert told[-1] is finished


async def test_a_retry_that_the_quota_denies_is_told(fake):
    """A retry that the quota denies is told, after its attempt and before the end, and counted."""
    sid, told = fake.add_conference(participants=1), []
    fake.fail_next(503, times=5)
    once = RetryPolicy(quota=1, base_delay=0.001)
    async with watched(fake, told, retry=once) as session:
        with pytest.raises(ServerError, match="the session's retry quota is used up: ") as caught:
            await session.participants(sid)
        stats = session.stats

    assert told[-2] == RetryDenied(conference_sid=sid, attempt=2, reason="HTTP 503")
    assert [type(each) for each in told] == [
        *(RequestStarted, RequestFinished, RetryScheduled),
        *(RequestStarted, RequestFinished, RetryDenied),
        ConferenceFinished,
    ]
    assert [each.outcome for each in caught.value.attempts] == ["HTTP 503"] * 2
    assert (stats.retries, stats.retries_denied) == (1, 1)


async def test_a_retry_that_the_deadline_denies_is_not(fake):
    """A retry that there is no time for is not told as one that the quota denied."""
    sid, told = fake.add_conference(participants=1), []
    fake.fail_next(503, retry_after=50)
    none = RetryPolicy(quota=0)
    async with watched(fake, told, retry=none) as session:
        with pytest.raises(DeadlineExceededError):
            await session.participants(sid, deadline=40)

    assert of(RetryDenied, told) == []


async def test_events_of_a_fan_out(fake):
    """Each conference of a fan-out is told once as finished; what is no SID is told without one."""
    good, told = [fake.add_conference(participants=3) for _ in range(3)], []
    async with watched(fake, told) as session:
        results = [each async for each in session.fan_out([*good, SID, "+15005550006", 5])]
        stats = session.stats

    assert len(results) == 6
    assert Counter(
        (e.conference_sid, e.records, e.error) for e in of(ConferenceFinished, told)
    ) == {
        **{(sid, 3, None): 1 for sid in good},
        (SID, 0, "NotFoundError"): 1,
        (None, 0, "InvalidRequestError"): 2,
    }
    assert (stats.conferences, stats.conferences_failed) == (6, 3)
    assert "15005550006" not in repr(told)


async def test_a_fan_out_of_a_closed_session(fake):
    """A fan-out that its closed session never began raises that, and tells of no conference."""
    told = []
    session = watched(fake, told)
    results = session.fan_out([SID])
    await session.aclose()
    with pytest.raises(SessionClosedError):
        await anext(results)

    assert told == []


async def storm(fake, session):
    """Have a bit of everything happen."""
    sids = [fake.add_conference(participants=4) for _ in range(12)]
    fake.latency = 0.001
    fake.fail_next(503, times=2)
    fake.fail_next(429)
    async for _ in session.fan_out([*sids, SID, "none"], page_size=2):
        pass
    fake.fail_next(503, times=3)
    with pytest.raises(ServerError):
        await session.participants(sids[0])
    fake.latency = 3600
    async with session.participants(sids[0]) as stream:
        waiting = asyncio.ensure_future(anext(stream))
        await until(lambda: session.stats.in_flight)
        waiting.cancel()
        await asyncio.wait([waiting])
    fake.latency = 0


def counted(told, limit):
    """Return the statistics that the events add up to, counted in another way."""
    finished = of(RequestFinished, told)
    statuses = Counter(each.status for each in finished)
    cancelled = sum(each.outcome == "cancelled" for each in finished)
    ended = of(ConferenceFinished, told)
    return SessionStats(
        limit=[limit, *(each.limit for each in of(LimitChanged, told))][-1],
        in_flight=len(of(RequestStarted, told)) - len(finished),
        requests=len(of(RequestStarted, told)),
        succeeded=statuses[200],
        rate_limited=statuses[429],
        failed=len(finished) - statuses[200] - statuses[429] - cancelled,
        cancelled=cancelled,
        retries=len(of(RetryScheduled, told)),
        retries_denied=len(of(RetryDenied, told)),
        bytes=sum(each.bytes for each in finished),
        pages=len(of(PageDelivered, told)),
        conferences=len(ended),
        conferences_failed=sum(each.error is not None for each in ended),
    )


async def test_statistics_are_what_the_events_add_up_to(fake):
    """At every event, and after all of them, the statistics are what one counts oneself."""
    told = []

    def check(event):
        told.append(event)
        assert session.stats == counted(told, 4)

    async with watched(fake, [], on_event=check) as session:
        before = session.stats
        await storm(fake, session)
        after = session.stats

    assert {type(each) for each in told} == ALL_KINDS
    assert before == SessionStats(limit=4)
    assert after == counted(told, 4)
    assert after.requests == len(fake.requests)
    assert (after.succeeded, after.cancelled) == (24, 1)
    assert (after.retries, after.retries_denied) == (5, 1)
    assert (after.rate_limited, after.failed) == (1, 6)
    assert (after.conferences, after.conferences_failed) == (15, 3)


async def test_statistics_need_no_callback(fake):
    """The statistics are there with no callback, and the same."""
    async with watched(fake, [], on_event=None) as session:
        await storm(fake, session)
        stats = session.stats

    assert (stats.succeeded, stats.cancelled, stats.retries, stats.conferences) == (24, 1, 5, 15)


async def test_events_are_values(fake):
    """Events and statistics are frozen, hashable, and survive pickle; equal ones are equal."""
    told = []
    async with watched(fake, told) as session:
        await storm(fake, session)
        told.append(session.stats)

    assert {type(each) for each in told} == {*ALL_KINDS, SessionStats}
    for each in told:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(each, protocol=protocol))
            assert again == each
            assert hash(again) == hash(each)
        for field in attrs.fields(type(each)):
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                setattr(each, field.name, 0)
        with pytest.raises((AttributeError, TypeError)):
            each.more = 0


async def test_nothing_that_is_told_holds_a_secret(caplog):
    """No event, log line or span holds a credential, a label, a number or a query."""
    caplog.set_level(logging.DEBUG, "aioparticipants")
    link = f"https://insights.twilio.com/v1/Conferences/{SID}/Participants?Label={LABEL}&Page=1"
    page = last_page(RECORD, RECORD).replace(b"null", f'"{link}"'.encode())
    busy = http(b"{}", "503 Busy")
    replies = [busy, http(page), http(last_page(RECORD, {"label": 7})), *[busy] * 3]
    told, (provider, exported) = [], tracing()
    tracer = provider.get_tracer("tests")
    async with raw(*replies) as server, watched(server, told, tracer=tracer) as session:
        with pytest.raises(ResponseError):
            await session.participants(SID, label=LABEL)
        async for _ in session.fan_out([SID, f"+{LABEL}"], label=LABEL):
            pass
        with pytest.raises(ServerError):
            await session.participants(SID, label=LABEL)

    assert any(LABEL in head for head in server.heads)
    assert {type(each) for each in told} == ALL_KINDS - {LimitChanged}
    spans = [each.to_json() for each in exported.get_finished_spans()]
    assert len(spans) == 3
    texts = [repr(told), *spans, *(pickle.dumps(e, protocol=0).decode("latin-1") for e in told)]
    for secret in (*OF_CREDENTIALS, *PERSONAL, "PageSize", "Label=", "Page="):
        assert not any(secret in text for text in texts)
        assert secret not in caplog.text
    assert logged(caplog) == []


# --- The callback ---


async def test_a_callback_that_raises_changes_nothing(fake, caplog):
    """What a callback raises is logged once an event, and changes nothing else."""
    told = []

    def broken(event):
        told.append(event)
        raise ValueError(type(event))

    async with watched(fake, [], on_event=broken) as session:
        await storm(fake, session)
        sid = fake.add_conference(participants=5)
        assert len(await session.participants(sid, page_size=2)) == 5
        assert session.stats == counted(told, 4)

    assert {type(each) for each in told} == ALL_KINDS
    assert [(r.name, r.levelname, r.args) for r in caplog.records if r.levelno > logging.INFO] == [
        ("aioparticipants", "ERROR", (type(each).__name__,)) for each in told
    ]
    assert caplog.text.count("ValueError: <class 'aioparticipants.instrumentation.") == len(told)


def test_what_ends_the_program_is_not_the_callbacks():
    """An interrupt that happens to meet the callback goes on."""

    def interrupted(_event):
        raise KeyboardInterrupt

    tell = SessionTelemetry(interrupted, limit=1)
    with pytest.raises(KeyboardInterrupt):
        tell(LimitChanged(limit=2, reason="succeeded"))
    assert tell.stats == SessionStats(limit=2)


async def test_a_callback_may_look_at_the_session(fake):
    """The callback sees statistics that count the event that it is given."""
    seen = []
    async with watched(fake, [], on_event=lambda _: seen.append(session.stats)) as session:
        await session.participants(fake.add_conference(participants=1))

    assert [(each.requests, each.in_flight, each.pages, each.conferences) for each in seen] == [
        (1, 1, 0, 0),
        (1, 0, 0, 0),
        (1, 0, 1, 0),
        (1, 0, 1, 1),
    ]


async def later(_event):
    """Stand for a callback that would have to be awaited."""


async def generator(_event):
    """Stand for a callback that would have to be iterated."""
    yield


class Later:
    """Stand for an object whose call would have to be awaited."""

    async def __call__(self, _event): ...

    async def method(self, _event): ...


@pytest.mark.parametrize(
    "on_event",
    [5, "print", later, generator, functools.partial(later), Later(), Later().method],
    ids=["number", "text", "async", "async generator", "partial", "object", "method"],
)
async def test_callbacks_that_cannot_be_called(on_event):
    """A callback that cannot be called, or would have to be awaited, is refused at once."""
    with pytest.raises(InvalidRequestError, match="plain function"):
        InsightsSession(CREDENTIALS, on_event=on_event)


async def test_callbacks_that_can(fake):
    """Functions, methods, classes and objects will do as callbacks."""
    told, queue = [], asyncio.Queue()

    class Calls:
        def __call__(self, event):
            told.append(event)

    sid = fake.add_conference(participants=1)
    for on_event in (told.append, Calls(), queue.put_nowait, functools.partial(str), type, print):
        async with watched(fake, [], on_event=on_event) as session:
            await session.participants(sid)

    assert len(told) == 8
    assert queue.qsize() == 4


# --- Logging ---


async def test_log_lines(fake, caplog):
    """A line holds the path's template, SID and request id; waits are INFO, the rest is DEBUG."""
    caplog.set_level(logging.DEBUG, "aioparticipants")
    sid, told = fake.add_conference(participants=1), []
    fake.fail_next(503)
    async with watched(fake, told) as session:
        await session.participants(sid, label="agent")

    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        (
            "aioparticipants",
            "INFO" if type(each) is RetryScheduled else "DEBUG",
            f"GET /v1/Conferences/{{ConferenceSid}}/Participants: {each!r}",
        )
        for each in told
    ]
    assert of(RequestFinished, told)[-1].request_id in caplog.text
    assert not any("?" in line or "agent" in line for line in caplog.messages)


async def test_log_levels(fake, caplog):
    """At INFO there are only waits, denied retries and changes of the limit; above it, nothing."""
    for level, expected in (
        (logging.INFO, {"RetryScheduled", "RetryDenied", "LimitChanged"}),
        (30, set()),
    ):
        caplog.clear()
        caplog.set_level(level, "aioparticipants")
        async with watched(fake, []) as session:
            await storm(fake, session)
            lists = (session.participants(fake.add_conference(1)) for _ in range(12))
            await asyncio.gather(*lists)
        assert {type(each.args[1]).__name__ for each in caplog.records} == expected


def test_logging_is_left_alone():
    """Importing and using the package configures no logging, and prints nothing by itself."""
    script = """
import asyncio, logging
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
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


# --- Spans ---


def tracing():
    """Return a provider of tracers, and the exporter that keeps their spans."""
    provider, exported = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    return provider, exported


@pytest.fixture
def spans():
    """Yield a tracer, and what returns the spans that ended; aiohttp is instrumented meanwhile."""
    provider, exported = tracing()
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        yield provider.get_tracer("tests"), exported.get_finished_spans
    finally:
        instrumentor.uninstrument()


def lists(ended):
    return [each for each in ended if each.name == "list conference participants"]


def attempts(ended):
    return [each for each in ended if each.name == "GET"]


async def test_instrumented_with_no_code_of_ours(fake, spans):
    """OpenTelemetry's own instrumentation of aiohttp makes one span an attempt."""
    _, ended = spans
    sid = fake.add_conference(participants=3)
    fake.fail_next(503)
    async with watched(fake, []) as session:
        await session.participants(sid, page_size=2)

    assert [each.attributes["http.status_code"] for each in ended()] == [503, 200, 200]
    assert [each.parent for each in ended()] == [None] * 3
    assert ended()[0].status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("kept_out", [False, True])
async def test_trace_configs_of_opentelemetry(fake, kept_out):
    """A trace config with a url_filter makes the same spans, and keeps the label out of them."""
    provider, exported = tracing()
    url_filter = (lambda url: str(url.with_query(None))) if kept_out else None
    config = create_trace_config(tracer_provider=provider, url_filter=url_filter)
    async with watched(fake, [], trace_configs=[config]) as session:
        await session.participants(fake.add_conference(participants=1), label=LABEL)

    (span,) = exported.get_finished_spans()
    assert (LABEL in span.to_json()) is not kept_out


async def test_a_span_a_list(fake, spans):
    """With a tracer each list has one span, and its attempts' spans are the children of it."""
    tracer, ended = spans
    sid = fake.add_conference(participants=3)
    fake.fail_next(503)
    async with watched(fake, [], tracer=tracer) as session:
        with tracer.start_as_current_span("caller") as caller:
            stream = session.participants(sid, page_size=2)
            assert ended() == ()
            await anext(stream)
            assert otel.get_current_span() is caller
            assert lists(ended()) == []
        assert len([each async for each in stream]) == 2
        await stream.aclose()

    (span,) = lists(ended())
    assert span.parent.span_id == caller.get_span_context().span_id
    assert [each.parent.span_id for each in attempts(ended())] == [span.context.span_id] * 3
    assert span.attributes == {
        "aioparticipants.conference_sid": sid,
        "aioparticipants.pages": 2,
        "aioparticipants.records": 3,
    }
    assert span.status.status_code is StatusCode.UNSET
    assert all(span.start_time <= each.start_time for each in attempts(ended()))
    assert all(span.end_time >= each.end_time for each in attempts(ended()))


async def test_a_list_that_was_never_asked_has_no_span(fake, spans):
    """What sends nothing makes no span: a list that is not iterated, or has a limit of none."""
    tracer, ended = spans
    sid = fake.add_conference(participants=3)
    async with watched(fake, [], tracer=tracer) as session:
        await session.participants(sid).aclose()
        assert await session.participants(sid, limit=0) == []

    assert ended() == ()


async def test_the_span_of_a_list_that_failed(fake, spans):
    """A failure ends the span, with the error's name and message, and the status ERROR."""
    tracer, ended = spans
    records = copied(fake.records(fake.add_conference(1)))
    sid = fake.add_conference([*records, {"label": 7}, {}], conference_sid=BAD)
    async with watched(fake, [], tracer=tracer) as session:
        with pytest.raises(ResponseError) as caught:
            [_ async for _ in session.participants(sid)]
        assert len(lists(ended())) == 1
        with pytest.raises(NotFoundError):
            await session.participants(SID)

    misfit, missing = lists(ended())
    assert misfit.attributes == {
        "aioparticipants.conference_sid": sid,
        "aioparticipants.pages": 1,
        "aioparticipants.records": 1,
        "error.type": "ResponseError",
    }
    assert misfit.status.status_code is missing.status.status_code is StatusCode.ERROR
    assert misfit.status.description == str(caught.value)
    assert missing.attributes["error.type"] == "NotFoundError"
    assert missing.attributes["aioparticipants.records"] == 0


async def closed(stream):
    """Close it."""
    await stream.pop().aclose()


async def let_go(stream):
    """Drop its last reference."""
    stream.clear()


async def let_go_elsewhere(stream):
    """Drop its last reference, in another thread."""
    thread = threading.Thread(target=stream.clear)
    thread.start()
    thread.join()


@pytest.mark.parametrize("leave", [closed, let_go, let_go_elsewhere])
async def test_the_span_of_a_list_that_is_left(fake, spans, leave):
    """A list that is closed or dropped ends its span at once, in any thread, and is no failure."""
    tracer, ended = spans
    sid = fake.add_conference(participants=5)
    async with watched(fake, [], tracer=tracer) as session:
        stream = [session.participants(sid, page_size=2)]
        await anext(stream[0])
        assert lists(ended()) == []
        await leave(stream)
        (span,) = lists(ended())
    assert len(lists(ended())) == 1
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["aioparticipants.pages"] == (leave is closed)
    assert "error.type" not in span.attributes


async def test_the_span_of_a_list_whose_session_is_closed(fake, spans):
    """A list that its session was closed under ends its span as failed when it is asked again."""
    tracer, ended = spans
    session = watched(fake, [], tracer=tracer)
    stream = session.participants(fake.add_conference(participants=5), page_size=2)
    await anext(stream)
    await session.aclose()
    with pytest.raises(SessionClosedError):
        [_ async for _ in stream]

    (span,) = lists(ended())
    assert span.attributes["error.type"] == "SessionClosedError"


@pytest.mark.parametrize("merged", [False, True])
async def test_spans_of_a_fan_out(fake, spans, merged):
    """Each conference of a fan-out has a span under the caller's, with its own attempts below."""
    tracer, ended = spans
    sids = [fake.add_conference(participants=3) for _ in range(4)]
    async with watched(fake, [], tracer=tracer) as session:
        with tracer.start_as_current_span("caller") as caller:
            async with session.fan_out([*sids, SID], page_size=2) as results:
                async for _ in results.participants() if merged else results:
                    pass

    found = {each.attributes["aioparticipants.conference_sid"]: each for each in lists(ended())}
    assert found.keys() == {*sids, SID}
    assert {each.parent.span_id for each in found.values()} == {caller.get_span_context().span_id}
    assert {each.attributes.get("error.type") for each in found.values()} == {None, "NotFoundError"}
    below = Counter(each.parent.span_id for each in attempts(ended()))
    assert below == {each.context.span_id: 1 if sid == SID else 2 for sid, each in found.items()}


@pytest.mark.parametrize("tracer", [5, otel, otel.Tracer, TracerProvider()])
async def test_tracers_that_are_none(tracer):
    """What cannot start spans is refused as a tracer when the session is built."""
    with pytest.raises(InvalidRequestError, match="Tracer"):
        InsightsSession(CREDENTIALS, tracer=tracer)


def test_opentelemetry_is_imported_for_a_tracer_alone():
    """Without a tracer OpenTelemetry is not imported, and need not be there."""
    script = """
import sys
from aioparticipants import InsightsSession

InsightsSession(("AC", "token"), on_event=print)
assert not any(name.startswith("opentelemetry") for name in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert (ran.returncode, ran.stderr) == (0, b"")


def test_a_tracer_without_opentelemetry(monkeypatch):
    """A tracer where OpenTelemetry is missing is refused at once, with the package's name."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(InvalidRequestError, match="opentelemetry-api"):
        InsightsSession(CREDENTIALS, tracer=otel.get_tracer("tests"))


def test_every_event_is_public():
    """`instrumentation` names each event, the statistics, and the union of the events."""
    assert {getattr(instrumentation, name) for name in instrumentation.__all__} == {
        *ALL_KINDS,
        SessionStats,
        instrumentation.Event,
    }
