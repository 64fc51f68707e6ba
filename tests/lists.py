"""Lists with what is usual in them, for tests that fetch their pages themselves."""

from __future__ import annotations

import attrs

from aioparticipants._cursors import Position
from aioparticipants._prefetching import PagesAhead
from aioparticipants._resources import PARTICIPANTS
from aioparticipants._stream import RecordStream

from .telemetry import list_telemetry


def list_of(
    place,
    offset=0,
    *,
    fetch,
    tasks,
    structure,
    cursor,
    key="participants",
    record_sid="participant_sid",
    limit=None,
    keep_invalid=False,
    before=None,
):
    """Return a stream, and the pages that it takes its records from."""
    telemetry = list_telemetry()
    resource = attrs.evolve(
        PARTICIPANTS,
        key=key,
        record_sid=record_sid,
        structure=structure,
        structure_keeping=structure,
    )
    pages = PagesAhead(place, fetch=fetch, tasks=tasks, telemetry=telemetry)
    stream = RecordStream(
        Position(place, offset, before),
        pages=pages,
        cursor=cursor,
        resource=resource,
        limit=limit,
        keep_invalid=keep_invalid,
        telemetry=telemetry,
    )
    return stream, pages
