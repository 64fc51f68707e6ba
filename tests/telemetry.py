"""Sessions and lists whose events are collected, and waiting for a condition."""

from __future__ import annotations

import asyncio
import time

from aioparticipants import InsightsSession, RetryPolicy
from aioparticipants._resources import PARTICIPANTS
from aioparticipants._telemetry import ListTelemetry

#: A page survives four attempts, but the session has two retries.
FEW_RETRIES = RetryPolicy(max_attempts=4, base_delay=0.001, quota=2)


def observed(server, events, *, credentials=("AC1", "token"), **options):
    """Return a session on a server, which appends its events to `events`."""
    options = {"retry": FEW_RETRIES, "on_event": events.append} | options
    credentials = getattr(server, "credentials", credentials)
    return InsightsSession(credentials, base_url=server.base_url, **options)


def of_type(kind, events):
    return [each for each in events if type(each) is kind]


def with_sid(sid, records):
    """Return records of one conference as those of another."""
    return [{**each, "conference_sid": sid} for each in records]


def list_telemetry(events=None, *, clock=time.monotonic, tracer=None):
    """Return the telemetry of a list without a session; it appends its events to `events`."""
    emit = (lambda _: None) if events is None else events.append
    return ListTelemetry(emit, PARTICIPANTS, "CF", clock=clock, tracer=tracer)


async def until(condition):
    """Give the loop cycles until a condition is true."""
    while not condition():  # noqa: ASYNC110 - cycles of the loop, not time
        await asyncio.sleep(0)
