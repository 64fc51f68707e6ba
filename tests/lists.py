"""Lists whose pages a test fetches by a function of its own."""

from __future__ import annotations

import attrs

from aioparticipants._cursors import Position
from aioparticipants._prefetching import PagesAhead
from aioparticipants._resources import PARTICIPANTS
from aioparticipants._stream import RecordStream
from aioparticipants._transport import Sent

from .telemetry import list_telemetry


class ScriptedCalls:
    """Stands for a `ListContext`: its calls await `fetch(request, sent)` for their page."""

    def __init__(self, fetch):
        self.fetch = fetch

    def call(self, request):
        return ScriptedCall(request, self.fetch)


class ScriptedCall:
    def __init__(self, request, fetch):
        self.sent = Sent()
        self._request, self._fetch = request, fetch

    async def page(self):
        return await self._fetch(self._request, self.sent)


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
    """Return a stream, and its pages.

    Args:
        place: the first request.
        offset: the index of the first record on its page.
        fetch: awaited with a request and what to `set()` once it is sent; returns its page.
        tasks: those of the session.
        structure: builds a record.
        cursor: builds a cursor.
        key: the member of a page that holds its records.
        record_sid: the member of a record that identifies it.
        limit: the most records to deliver.
        keep_invalid: whether invalid records are kept.
        before: what identifies the record before the first one.
    """
    telemetry = list_telemetry()
    resource = attrs.evolve(
        PARTICIPANTS,
        key=key,
        record_sid=record_sid,
        structure=structure,
        structure_keeping=structure,
    )
    calls = ScriptedCalls(fetch)
    pages = PagesAhead(place, calls=calls, tasks=tasks, telemetry=telemetry)
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
