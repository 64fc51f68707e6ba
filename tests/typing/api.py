"""Uses of the public API for both type checkers. This module is never run."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import assert_type

import aiohttp
import anyio
import pyarrow as pa
from opentelemetry import trace

from aioparticipants import (
    ClientCredentials,
    Column,
    Conference,
    ConferenceResult,
    ConferenceStatus,
    ConferenceTag,
    Credentials,
    CredentialsProvider,
    FanOut,
    InsightsError,
    InsightsSession,
    Page,
    Participant,
    RecordStream,
    Region,
    RetryPolicy,
    SessionOptions,
    SessionStats,
    SharedLimiter,
    arrow,
    instrumentation,
)
from aioparticipants.event_streams import EventType, StreamEvent, parse
from aioparticipants.testing import FakeInsights


def on_push(body: bytes, decoded: list[dict[str, object]]) -> None:
    """Read events from each form of a body."""
    parse(bytearray(body), on_invalid="raise")
    parse(body.decode())
    parse(decoded)
    parse(decoded[0])
    for event in parse(body):
        assert_type(event, StreamEvent)
        assert_type(event.id, str | None)
        assert_type(event.type, EventType | str | None)
        assert_type(event.time, datetime | None)
        assert_type(event.record, Participant | Conference | None)
        assert_type(event.participant, Participant | None)
        assert_type(event.conference, Conference | None)
        match event:
            case StreamEvent(type=EventType.CONFERENCE_SUMMARY_PARTIAL, conference=conference):
                assert_type(conference, Conference | None)
            case StreamEvent(record=Participant() as participant):
                assert_type(participant, Participant)
            case _:
                pass


async def conferences(session: InsightsSession) -> None:
    """Read conferences and single records, and make one."""
    window = session.conferences(
        created_after=datetime.now(UTC) - timedelta(days=1),
        created_before=None,
        status=ConferenceStatus.COMPLETED,
        tags=ConferenceTag.LOW_MOS,
        mixer_region=Region.IE1,
        end_reason="last_participant_left",
    )
    same: RecordStream[Conference] = window
    async for conference in same:
        assert_type(conference, Conference)
        assert_type(conference.create_time, datetime | None)
        assert_type(conference.status, ConferenceStatus | str | None)
        assert_type(conference.tags, tuple[ConferenceTag | str, ...] | None)
        assert_type(conference.detected_issues, Mapping[str, int] | None)
        assert_type(conference.tag_info, Mapping[str, object] | None)
        assert_type(conference.links, Mapping[str, str] | None)
    assert_type(await session.conferences(created_after=None), list[Conference])
    assert_type(await session.conferences(conference_sid="CF"), list[Conference])
    async for page in session.conferences(created_after=None).pages():
        assert_type(page, Page[Conference])
    assert_type(await session.conference("CF", deadline=5, on_invalid="keep"), Conference)
    assert_type(await session.participant("CF", "CP", events="hold"), Participant)
    await session.conferences(created_after="2026")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await session.participant("CF")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    Participant(extra={"a": 1})
    Conference(
        tags=("low_mos",),
        detected_issues={"call_quality": 1},
        tag_info={"low_mos": {"severity": 2}},
        links={"conference_participants": "https://a.example"},
        extra={"a": [1]},
    )


class Rate:
    """A limiter as aiolimiter's: an async context manager with `acquire` and no `release`."""

    async def acquire(self, amount: float = 1) -> None:
        """Wait."""

    async def __aenter__(self) -> None:
        """Wait."""

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Release nothing."""


class Slots:
    """A limiter as one of Redis: an async `acquire` and an async `release`."""

    async def acquire(self) -> bool:
        """Wait."""
        return True

    async def release(self) -> None:
        """Give it back."""


class NoLimiter:
    """A limiter whose `acquire` would block the loop, and that has no `release`."""

    def acquire(self) -> None:
        """Block."""


def limiters() -> list[SharedLimiter]:
    """Return limiters of each kind."""
    InsightsSession(("AC", "token"), limiter=NoLimiter())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    return [
        asyncio.Semaphore(4),
        asyncio.BoundedSemaphore(4),
        anyio.CapacityLimiter(4),
        anyio.Semaphore(4),
        Rate(),
        Slots(),
    ]


async def options(session: InsightsSession) -> None:
    """Make sessions with other options, and of other sessions' options."""
    assert_type(session.options, SessionOptions)
    InsightsSession(("AC", "token"), **session.options)
    assert_type(InsightsSession.from_env(**session.options), InsightsSession)
    assert_type(session.with_options(deadline=2, timeout=1), InsightsSession)
    again = session.with_options(deadline=None, timeout=None, retry=None)
    assert_type(await again.participants("CF"), list[Participant])
    for limiter in limiters():
        InsightsSession(
            ("AC", "token"),
            limiter=limiter,
            ssl=ssl.create_default_context(),
            user_agent="reports/1",
            deadline=60,
        )


def on_event(event: instrumentation.Event) -> None:
    """Match events by their class."""
    match event:
        case instrumentation.RequestFinished(status=status, seconds=seconds):
            assert_type(status, int | None)
            assert_type(seconds, float)
        case instrumentation.LimitChanged(limit=limit):
            assert_type(limit, int)
        case _:
            pass


class Vault:
    """A credentials provider, without a base class."""

    async def authorization(self) -> str:
        """Return the header."""
        return "Bearer token"


def provider() -> CredentialsProvider:
    """Return an object that has the protocol's method."""
    return Vault()


def row_count(stream: arrow.ArrowStream) -> int:
    """Consume a stream."""
    return pa.RecordBatchReader.from_stream(stream).read_all().num_rows


async def use(http: aiohttp.ClientSession) -> None:
    """Use each public signature once."""
    InsightsSession(Credentials("AC", "token"), region="ie1", edge="dublin", timeout=5)
    InsightsSession(ClientCredentials("OQ", "secret", account_sid=None))
    InsightsSession(provider())
    InsightsSession(Vault())
    InsightsSession(object())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    InsightsSession(("AC", "token"), http=http, retry=RetryPolicy(max_attempts=3))
    InsightsSession(("AC", "token"), tracer=trace.get_tracer("app"), on_event=print)
    async with InsightsSession.from_env(max_concurrency=4) as session:
        async for participant in session.participants("CF", label="agent", page_size=50, limit=10):
            assert_type(participant, Participant)
            assert_type(participant.join_time, datetime | None)
            assert_type(participant.participant_region, Region | str | None)
            if participant.metrics and participant.metrics.inbound:
                assert_type(participant.metrics.inbound.mos, float | None)
        assert_type(await session.participants("CF"), list[Participant])
        async with session.participants("CF") as opened:
            async for page in opened.pages():
                assert_type(page, Page[Participant])
                assert_type(page.records, tuple[Participant, ...])
    watched = InsightsSession(
        ("AC", "token"),
        limiter=asyncio.Semaphore(4),
        on_event=on_event,
        tracer=trace.get_tracer("tests"),
    )
    assert_type(watched.stats, SessionStats)

    async def sids() -> AsyncIterator[str]:
        yield "CF"

    async with watched.fan_out(sids(), concurrency=8, on_error="raise", deadline=5) as conferences:
        same: FanOut = conferences
        assert_type(same.done, int)
        async for result in conferences:
            assert_type(result, ConferenceResult)
            assert_type(result.participants, tuple[Participant, ...])
            assert_type(result.error, InsightsError | None)
        assert_type(conferences.total, int | None)
    async for participant in watched.fan_out({"CF"}, label="agent").participants():
        assert_type(participant, Participant)


async def use_records(session: InsightsSession) -> None:
    """Use what turns records into JSON, rows and Arrow data."""
    record = Participant.from_dict({"label": "agent"}, on_invalid="keep")
    assert_type(record, Participant)
    assert_type(record.to_dict(), dict[str, object])
    assert_type(record.to_json(), str)
    assert_type(ConferenceResult.from_dict({}), ConferenceResult)
    assert_type(record.to_row()["label"], str | int | float | bool | datetime | None)
    assert_type(Conference.columns(), tuple[Column, ...])
    async for batch in arrow.batches([record], on_error=print):
        assert_type(batch, pa.RecordBatch)
    assert_type(await arrow.table(session.conferences(created_after=None)), pa.Table)
    assert_type(await arrow.to_thread(row_count, session.participants("CF")), int)
    assert_type(await arrow.to_thread(row_count, session.fan_out(["CF"]).participants()), int)


async def use_fake() -> None:
    """Use the test server."""
    async with FakeInsights(seed=1, latency=0.5, concurrency=3) as fake:
        assert_type(fake.add_conference(participants=3), str)
        assert_type(fake.add_conference(3, mos=1.2, label=None, summary=[404, "complete"]), str)
        fake.add_conference(3, mos="bad")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        fake.add_conference(3, lable="")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
        fake.inclusive = "both"
        assert_type(fake.now, datetime)
        assert_type(fake.conferences(), list[Mapping[str, object]])
        assert_type(fake.base_url, str)


async def read_what_is_found(session: InsightsSession) -> None:
    """Give lists, records and pairs to a fan-out, and wait for summaries."""
    found = session.conferences(created_after=None)
    async for result in session.fan_out(found, limit=5, wait=1800, poll=60, grace=0):
        assert_type(result.conference, Conference | None)
    assert_type(await session.wait_until_complete("CF", deadline=60), Conference)

    async def pairs() -> AsyncIterator[tuple[Conference, datetime]]:
        yield Conference(conference_sid="CF"), datetime.now().astimezone()

    names: list[tuple[str, str]] = [("CF", "name")]
    mixed: list[str | Conference | tuple[Conference, int]] = ["CF", (Conference(), 1)]
    same: FanOut = session.fan_out(names)
    same = session.fan_out(mixed)
    same = session.fan_out(dict.fromkeys(["CF"]))
    same = session.fan_out([Conference()])
    assert_type(same.waiting, int)
    for result in await session.fan_out(pairs()):
        context: datetime = result.context
        assert_type(context, datetime)
        assert_type(result.conference_sid, str)
