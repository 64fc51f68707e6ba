"""`list`: the participants of a conference, read with the user's credentials."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import attrs

from .._resources import PARTICIPANTS
from .._session import InsightsSession
from .._settings import base_url_from, base_url_from_env
from ..errors import ResponseError
from ._output import say
from ._proxy import proxy_for
from ._table import participants_table, terminal_width

if TYPE_CHECKING:
    import argparse

    from .._session import SessionOptions
    from .._stream import RecordStream
    from ..models import Page, Participant
    from ._output import Output

__all__ = ["list_participants"]

_FILTERS = tuple(each.argument for each in PARTICIPANTS.filters)
_ARGUMENTS = (*_FILTERS, "page_size", "limit", "deadline", "resume", "on_invalid")


@attrs.define
class _Totals:
    pages: int = 0
    problems: list[str] = attrs.field(factory=list[str])
    """The first problem of each record that has one."""

    def add(self, page: Page[Participant]) -> None:
        self.pages += 1
        self.problems += [record.problems[0] for record in page.records if record.problems]


async def list_participants(options: argparse.Namespace, output: Output) -> None:
    """List what the arguments ask for: data to stdout, totals to stderr."""
    began, totals = time.monotonic(), _Totals()
    output.limit = options.limit
    async with InsightsSession.from_env(**_session_options(options)) as session:
        stream = session.participants(
            options.conference_sid, **{name: getattr(options, name) for name in _ARGUMENTS}
        )
        try:
            await (_write_ndjson if options.format == "ndjson" else _write_table)(
                stream, output, totals
            )
        except ResponseError as error:
            output.cursor_after_bad_record = error.cursor_after
            raise
    output.finished()
    seconds = time.monotonic() - began
    say(f"{output.records} participants, {totals.pages} pages, {seconds:.2f} seconds")
    if kept := totals.problems:
        say(f"{len(kept)} of them have values of the wrong type, such as {kept[0]}")
    if unreadable := stream.problems:
        say(f"{len(unreadable)} more could not be read, such as: {unreadable[0].fault}")


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


async def _write_ndjson(stream: RecordStream[Participant], output: Output, totals: _Totals) -> None:
    """Write one JSON object per line, page by page."""
    async for page in stream.pages():
        totals.add(page)
        # ASCII, because stdout can have any encoding; and UTF-8 cannot encode a lone surrogate.
        lines = [
            json.dumps(record.to_dict(), separators=(",", ":")) + "\n" for record in page.records
        ]
        output.write("".join(lines))
        output.records_written(len(lines), stream.cursor)


async def _write_table(stream: RecordStream[Participant], output: Output, totals: _Totals) -> None:
    """Write a table of all records; after a failure, of the records before it."""
    records: list[Participant] = []
    failed = True
    try:
        async for page in stream.pages():
            totals.add(page)
            records += page.records
        failed = False
    finally:
        if records or not failed:
            output.write(participants_table(records, width=terminal_width()))
            output.records_written(len(records), stream.cursor)
