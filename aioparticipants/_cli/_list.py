"""`list`: a conference's participants, with the user's credentials."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import attrs

from .._session import InsightsSession
from .._settings import base_url_from, base_url_from_env
from .._structuring import unstructure_participant
from ..errors import ResponseError
from ._proxies import proxy_for
from ._streams import say
from ._table import participants_table, terminal_width

if TYPE_CHECKING:
    import argparse

    from .._session import SessionOptions
    from .._stream import RecordStream
    from ..models import Page, Participant
    from ._streams import Output

__all__ = ["list_participants"]


@attrs.define
class _Totals:
    """What a listing adds up to, besides its records."""

    pages: int = 0
    problems: list[str] = attrs.field(factory=list[str])
    """The first problem of each record that has one."""

    def add(self, page: Page[Participant]) -> None:
        """Take a page into account."""
        self.pages += 1
        self.problems += [record.problems[0] for record in page.records if record.problems]


async def list_participants(options: argparse.Namespace, output: Output) -> None:
    """List what the arguments ask for: data to stdout, totals to stderr."""
    began, totals = time.monotonic(), _Totals()
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
            on_invalid=options.on_invalid,
        )
        output.limit = options.limit
        try:
            await (_lines if options.format == "ndjson" else _table)(stream, output, totals)
        except ResponseError as error:
            output.cursor_behind = error.cursor_after
            raise
    output.finished()
    seconds = time.monotonic() - began
    say(f"{output.records} participants, {totals.pages} pages, {seconds:.2f} seconds")
    _say_problems(totals.problems, [each.fault for each in stream.problems])


def _say_problems(kept: list[str], unreadable: list[str]) -> None:
    if kept:
        say(f"{len(kept)} of them have values of the wrong type, such as {kept[0]}")
    if unreadable:
        say(f"{len(unreadable)} more records could not be read, such as: {unreadable[0]}")


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


async def _lines(stream: RecordStream[Participant], output: Output, totals: _Totals) -> None:
    """Write a line a record, page by page."""
    async for page in stream.pages():
        totals.add(page)
        # ASCII, as any stdout can hold that; and no UTF-8 can hold half of a surrogate pair.
        lines = [
            json.dumps(unstructure_participant(record), separators=(",", ":")) + "\n"
            for record in page.records
        ]
        output.write("".join(lines))
        output.written(len(lines), stream.cursor)


async def _table(stream: RecordStream[Participant], output: Output, totals: _Totals) -> None:
    """Write a table of all records, or of those before a failure."""
    found: list[Participant] = []
    try:
        async for page in stream.pages():
            totals.add(page)
            found += page.records
    except BaseException:
        if found:  # what came before an error is worth seeing, too
            _write_table(found, stream, output)
        raise
    _write_table(found, stream, output)


def _write_table(
    records: list[Participant], stream: RecordStream[Participant], output: Output
) -> None:
    output.write(participants_table(records, width=terminal_width()))
    output.written(len(records), stream.cursor)
