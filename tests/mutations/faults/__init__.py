"""All deliberate faults, in one file for each part of the package."""

from __future__ import annotations

from . import (
    call,
    cli,
    cursors,
    decoding,
    fan_out,
    limiter,
    paging,
    prefetching,
    resources,
    retrying,
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
        fan_out,
        paging,
        resources,
        call,
        retrying,
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
