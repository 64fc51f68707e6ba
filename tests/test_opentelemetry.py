"""The spans of OpenTelemetry: one for each list, above those of its attempts."""

from __future__ import annotations

import sys
import threading
from collections import Counter

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
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    ResponseError,
    ServerError,
    SessionClosedError,
)

from .servers import http, last_page, raw
from .telemetry import observed, with_sid
from .test_security import CREDENTIALS, LABEL, OF_CREDENTIALS, PERSONAL, RECORD

SID = "CF" + "a" * 32
BAD = "CF" + "b" * 32


def tracing():
    """Return a tracer provider, and the exporter that keeps its spans."""
    provider, exported = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    return provider, exported


@pytest.fixture
def spans():
    """Yield a tracer, and a function that returns the ended spans; aiohttp is instrumented."""
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


async def test_without_a_tracer(fake, spans):
    """Without a tracer, OpenTelemetry's own instrumentation of aiohttp makes a span an attempt."""
    _, ended = spans
    sid = fake.add_conference(participants=3)
    fake.fail_next(503)
    async with observed(fake, []) as session:
        await session.participants(sid, page_size=2)

    assert [each.attributes["http.status_code"] for each in ended()] == [503, 200, 200]
    assert [each.parent for each in ended()] == [None] * 3
    assert ended()[0].status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("without_query", [False, True])
async def test_trace_configs_of_opentelemetry(fake, without_query):
    """A trace config makes the same spans; with a `url_filter` they do not show the label."""
    provider, exported = tracing()
    url_filter = (lambda url: str(url.with_query(None))) if without_query else None
    config = create_trace_config(tracer_provider=provider, url_filter=url_filter)
    async with observed(fake, [], trace_configs=[config]) as session:
        await session.participants(fake.add_conference(participants=1), label=LABEL)

    (span,) = exported.get_finished_spans()
    assert (LABEL in span.to_json()) is not without_query


async def test_the_span_of_a_list(fake, spans):
    """With a tracer each list has one span, whose children are the spans of its attempts."""
    tracer, ended = spans
    sid = fake.add_conference(participants=3)
    fake.fail_next(503)
    async with observed(fake, [], tracer=tracer) as session:
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


@pytest.mark.parametrize("fails", [False, True])
async def test_the_spans_of_conferences_and_single_records(fake, spans, fails):
    """A list of conferences and each single record have a span with a name of their own."""
    tracer, ended = spans
    sid = fake.add_conference(participants=2)
    cp = fake.records(sid)[0]["participant_sid"]
    async with observed(fake, [], tracer=tracer) as session:
        for call in (
            lambda: session.conferences(created_after=None, friendly_name=None),
            lambda: session.conference(sid),
            lambda: session.participant(sid, cp),
        ):
            if fails:
                fake.fail_next(404)
                with pytest.raises(NotFoundError):
                    await call()
            else:
                await call()

    of_calls = [each for each in ended() if each.name != "GET"]
    assert [each.name for each in of_calls] == [
        "list conferences",
        "get conference",
        "get conference participant",
    ]
    counts = {"aioparticipants.pages": 0 if fails else 1}
    counts["aioparticipants.records"] = counts["aioparticipants.pages"]
    failure = {"error.type": "NotFoundError"} if fails else {}
    assert [dict(each.attributes) for each in of_calls] == [
        {**counts, **failure},
        *[{"aioparticipants.conference_sid": sid, **counts, **failure}] * 2,
    ]
    assert [each.parent.span_id for each in attempts(ended())] == [
        each.context.span_id for each in of_calls
    ]


async def test_a_list_without_a_request_has_no_span(fake, spans):
    """A list that sends nothing has no span: it was not iterated, or its limit is 0."""
    tracer, ended = spans
    sid = fake.add_conference(participants=3)
    async with observed(fake, [], tracer=tracer) as session:
        await session.participants(sid).aclose()
        assert await session.participants(sid, limit=0) == []

    assert ended() == ()


async def test_the_span_of_a_list_that_failed(fake, spans):
    """An error ends the span, with the error's name and message, and the status ERROR."""
    tracer, ended = spans
    records = with_sid(BAD, fake.records(fake.add_conference(1)))
    sid = fake.add_conference([*records, {"label": 7}, {}], conference_sid=BAD)
    async with observed(fake, [], tracer=tracer) as session:
        with pytest.raises(ResponseError) as caught:
            [_ async for _ in session.participants(sid)]
        assert len(lists(ended())) == 1
        with pytest.raises(NotFoundError):
            await session.participants(SID)
        await anext(stream := session.participants(fake.add_conference(5), page_size=2))
    with pytest.raises(SessionClosedError):
        [_ async for _ in stream]

    malformed, missing, closed = lists(ended())
    assert malformed.attributes == {
        "aioparticipants.conference_sid": sid,
        "aioparticipants.pages": 1,
        "aioparticipants.records": 1,
        "error.type": "ResponseError",
    }
    assert malformed.status.status_code is missing.status.status_code is StatusCode.ERROR
    assert malformed.status.description == str(caught.value)
    assert missing.attributes["error.type"] == "NotFoundError"
    assert closed.attributes["error.type"] == "SessionClosedError"
    assert missing.attributes["aioparticipants.records"] == 0


async def closed(streams):
    await streams.pop().aclose()


async def dropped(streams):
    streams.clear()


async def dropped_in_another_thread(streams):
    thread = threading.Thread(target=streams.clear)
    thread.start()
    thread.join()


@pytest.mark.parametrize("leave", [closed, dropped, dropped_in_another_thread])
async def test_the_span_of_a_list_that_is_left(fake, spans, leave):
    """A list that is closed or dropped, in any thread, ends its span at once, without an error."""
    tracer, ended = spans
    sid = fake.add_conference(participants=5)
    async with observed(fake, [], tracer=tracer) as session:
        streams = [session.participants(sid, page_size=2)]
        await anext(streams[0])
        assert lists(ended()) == []
        await leave(streams)
        (span,) = lists(ended())
    assert len(lists(ended())) == 1
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["aioparticipants.pages"] == (leave is closed)
    assert "error.type" not in span.attributes


@pytest.mark.parametrize("merged", [False, True])
async def test_spans_of_a_fan_out(fake, spans, merged):
    """Each conference of a fan-out has a span under the caller's, above those of its attempts."""
    tracer, ended = spans
    sids = [fake.add_conference(participants=3) for _ in range(4)]
    async with observed(fake, [], tracer=tracer) as session:
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


async def test_spans_hold_no_secret():
    """No span holds a credential, a label, a number or a query."""
    provider, exported = tracing()
    tracer = provider.get_tracer("tests")
    busy, page = http(b"{}", "503 Busy"), http(last_page(RECORD, {"label": 7}))
    async with (
        raw(page, *[busy] * 3) as server,
        observed(server, [], credentials=CREDENTIALS, tracer=tracer) as session,
    ):
        for kind in (ResponseError, ServerError):
            with pytest.raises(kind):
                await session.participants(SID, label=LABEL)

    assert any(LABEL in head for head in server.heads)
    ended = [each.to_json() for each in exported.get_finished_spans()]
    assert len(ended) == 2
    for secret in (*OF_CREDENTIALS, *PERSONAL, "PageSize", "Label=", "Page="):
        assert not any(secret in span for span in ended)


@pytest.mark.parametrize("tracer", [5, otel, otel.Tracer, TracerProvider()])
async def test_invalid_tracers(tracer):
    """An object that cannot start spans is rejected when the session is built."""
    with pytest.raises(InvalidRequestError, match="Tracer"):
        InsightsSession(CREDENTIALS, tracer=tracer)


def test_a_tracer_without_opentelemetry(monkeypatch):
    """Where OpenTelemetry is missing, a tracer is rejected with the name of the package."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(InvalidRequestError, match="opentelemetry-api"):
        InsightsSession(CREDENTIALS, tracer=otel.get_tracer("tests"))
