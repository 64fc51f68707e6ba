"""Lists with what is usual in them, for tests that fetch their pages themselves."""

from __future__ import annotations

from aioparticipants._cursors import Resumed
from aioparticipants._prefetching import PagesAhead
from aioparticipants._stream import RecordStream

from .watching import watch


def list_of(
    place,
    offset=0,
    *,
    fetch,
    tasks,
    structure,
    cursor,
    key="participants",
    sid_name="participant_sid",
    limit=None,
    keep_invalid=False,
    before=None,
):
    """Return a stream, and the pages that it takes its records from."""
    eyes = watch()
    pages = PagesAhead(place, fetch=fetch, tasks=tasks, watch=eyes)
    stream = RecordStream(
        Resumed(place, offset, before),
        pages=pages,
        structure=structure,
        cursor=cursor,
        key=key,
        sid_name=sid_name,
        limit=limit,
        keep_invalid=keep_invalid,
        watch=eyes,
    )
    return stream, pages
