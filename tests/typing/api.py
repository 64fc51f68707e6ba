"""Never run: the public signatures, used as users use them, for both type checkers."""

from __future__ import annotations

from datetime import datetime
from typing import assert_type

import aiohttp
from opentelemetry import trace

from aioparticipants import (
    Credentials,
    InsightsSession,
    Page,
    Participant,
    Region,
    RetryPolicy,
)
from aioparticipants.testing import FakeInsights


async def use(http: aiohttp.ClientSession) -> None:
    """Use everything once."""
    InsightsSession(Credentials("AC", "token"), region="ie1", edge="dublin", timeout=5)
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
    async with FakeInsights(seed=1, latency=0.5, concurrency=3) as fake:
        assert_type(fake.add_conference(participants=3), str)
        assert_type(fake.base_url, str)
