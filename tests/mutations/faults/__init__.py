"""All deliberate faults, in one file for each part of the package."""

from __future__ import annotations

from . import cli, cursors, decoding, limiter, structuring, tasks, telemetry, transport

FAULTS = [
    each
    for part in (cursors, decoding, structuring, limiter, tasks, transport, telemetry, cli)
    for each in part.FAULTS
]
