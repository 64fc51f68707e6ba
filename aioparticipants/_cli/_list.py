"""`list`: a conference's participants, with the user's credentials."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from .._session import InsightsSession
from .._structuring import unstructure_participant
from ..errors import InsightsError
from ._table import print_table

if TYPE_CHECKING:
    import argparse

    from .._session import SessionOptions
    from .._stream import RecordStream
    from ..models import Participant

__all__ = ["list_participants", "totals"]


async def list_participants(options: argparse.Namespace) -> None:
    """List what the arguments ask for: data to stdout, totals to stderr."""
    session_options: SessionOptions = {}
    if options.base_url is not None:
        session_options["base_url"] = options.base_url
    began = time.monotonic()
    async with InsightsSession.from_env(**session_options) as session:
        stream = session.participants(
            options.conference_sid,
            label=options.label,
            events=options.events,
            page_size=options.page_size,
            limit=options.limit,
            deadline=options.deadline,
            resume=options.resume,
        )
        beginning = stream.cursor
        try:
            records, pages = await (_lines if options.format == "ndjson" else _table)(stream)
        except InsightsError as error:
            if stream.cursor != beginning:
                error.add_note(f"go on with --resume={stream.cursor}")
            raise
    print(totals(records, pages, time.monotonic() - began), file=sys.stderr)


def totals(records: int, pages: int, seconds: float, *, requests: int | None = None) -> str:
    """Return the line that closes a listing."""
    asked = "" if requests is None else f", {requests} requests"
    return f"{records} participants, {pages} pages{asked}, {seconds:.2f} seconds"


async def _lines(stream: RecordStream[Participant]) -> tuple[int, int]:
    records = pages = 0
    async for page in stream.pages():
        for record in page.records:
            # ASCII, as any stdout can hold that; and no UTF-8 can hold half of a surrogate pair.
            line = json.dumps(unstructure_participant(record), separators=(",", ":"))
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
        records, pages = records + len(page.records), pages + 1
    return records, pages


async def _table(stream: RecordStream[Participant]) -> tuple[int, int]:
    records: list[Participant] = []
    pages = 0
    try:
        async for page in stream.pages():
            records += page.records
            pages += 1
    except BaseException:
        if records:  # what came before an error is worth seeing, too
            print_table(records)
        raise
    print_table(records)
    return len(records), pages
