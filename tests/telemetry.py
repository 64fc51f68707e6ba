"""Telemetry for lists that are made without a session, and waiting for what a test expects."""

from __future__ import annotations

import asyncio
import time

from aioparticipants._telemetry import ListTelemetry


def list_telemetry(events=None, *, clock=time.monotonic, tracer=None):
    """Return the telemetry of a list, which appends its events to `events` if that is given."""
    emit = (lambda _: None) if events is None else events.append
    return ListTelemetry(emit, "CF", clock=clock, tracer=tracer)


async def until(condition):
    """Give the loop its turns until something is so."""
    while not condition():  # noqa: ASYNC110 - turns of the loop, not time
        await asyncio.sleep(0)
