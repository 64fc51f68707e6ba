"""All deliberate faults, in one file for each part of the package."""

from __future__ import annotations

from . import (
    cli,
    cursors,
    decoding,
    limiter,
    prefetching,
    session,
    stream,
    structuring,
    tasks,
    telemetry,
    transport,
)

FAULTS = [
    each
    for part in (
        stream,
        prefetching,
        session,
        cursors,
        decoding,
        structuring,
        limiter,
        tasks,
        transport,
        telemetry,
        cli,
    )
    for each in part.FAULTS
]
