"""`list`: a conference's participants, with the user's credentials."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from .._requests import base_url_from, base_url_from_env
from .._session import InsightsSession
from .._structuring import unstructure_participant
from ._proxies import proxy_for
from ._streams import say
from ._table import participants_table, terminal_width

if TYPE_CHECKING:
    import argparse

    from .._session import SessionOptions
    from .._stream import RecordStream
    from ..models import Participant
    from ._streams import Output

__all__ = ["list_participants"]


async def list_participants(options: argparse.Namespace, output: Output) -> None:
    """List what the arguments ask for: data to stdout, totals to stderr."""
    began = time.monotonic()
    async with InsightsSession.from_env(**_session_options(options)) as session:
        stream = session.participants(
            options.conference_sid,
            participant_sid=options.participant_sid,
            label=options.label,
            events=options.events,
            page_size=options.page_size,
            limit=options.limit,
            deadline=options.deadline,
            resume=options.resume,
            **_on_invalid(options),
        )
        output.limit = options.limit
        pages = await (_lines if options.format == "ndjson" else _table)(stream, output)
    output.finished()
    seconds = time.monotonic() - began
    say(f"{output.records} participants, {pages} pages, {seconds:.2f} seconds")


def _session_options(options: argparse.Namespace) -> SessionOptions:
    place = {"base_url": options.base_url, "region": options.region, "edge": options.edge}
    if any(each is not None for each in place.values()):
        base_url = base_url_from(**place)
    else:
        base_url = base_url_from_env(os.environ)
    chosen: SessionOptions = {
        "base_url": base_url,
        "proxy": proxy_for(base_url, options.proxy),
        "timeout": options.timeout,
    }
    if options.max_concurrency is not None:
        chosen["max_concurrency"] = options.max_concurrency
    return chosen


def _on_invalid(options: argparse.Namespace) -> dict[str, Any]:
    return {} if options.on_invalid == "raise" else {"on_invalid": options.on_invalid}


async def _lines(stream: RecordStream[Participant], output: Output) -> int:
    """Write a line a record, page by page, and return the number of pages."""
    pages = 0
    async for page in stream.pages():
        # ASCII, as any stdout can hold that; and no UTF-8 can hold half of a surrogate pair.
        lines = [
            json.dumps(unstructure_participant(record), separators=(",", ":")) + "\n"
            for record in page.records
        ]
        output.write("".join(lines))
        output.written(len(lines), stream.cursor)
        pages += 1
    return pages


async def _table(stream: RecordStream[Participant], output: Output) -> int:
    """Write a table of all records, or of those before a failure; return the number of pages."""
    records: list[Participant] = []
    pages = 0
    try:
        async for page in stream.pages():
            records += page.records
            pages += 1
    except BaseException:
        if records:  # what came before an error is worth seeing, too
            _write_table(records, stream, output)
        raise
    _write_table(records, stream, output)
    return pages


def _write_table(
    records: list[Participant], stream: RecordStream[Participant], output: Output
) -> None:
    output.write(participants_table(records, width=terminal_width()))
    output.written(len(records), stream.cursor)
