"""Bodies of pages, good and broken, and what is read from them."""

from __future__ import annotations

import json
from typing import Any

from aioparticipants._decoding import envelope
from aioparticipants._msgspec import chunk_decoder, decode_conferences, decode_participants

#: Decodes any records by msgspec, to the values that `json` would give.
decode_records = chunk_decoder(Any)

#: The decoders of any records: the standard library, and the extra `speed`.
WAYS = {"json": None, "msgspec": decode_records}
#: The decoders of participants.
PARTICIPANTS = {"json": None, "msgspec": decode_participants}
#: The decoders of conferences.
CONFERENCES = {"json": None, "msgspec": decode_conferences}


def steps(reading):
    """Run a generator to its end, and return its result."""
    try:
        while True:
            next(reading)
    except StopIteration as end:
        return end.value


def read(body, key="participants", decode=decode_records, **sizes):
    """Return the envelope of a body, given as bytes, text or JSON values."""
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    return steps(envelope(body if isinstance(body, bytes) else body.encode(), key, decode, **sizes))


def page_of(records, meta=None, *, bad_at=None, key="participants", meta_first=True):
    """Return the body of a page, with invalid JSON before its record `bad_at`, or at its end."""
    texts = [json.dumps(record) for record in records]
    array = ", ".join(texts)
    if bad_at is not None:
        before, after = ", ".join(texts[:bad_at]), ", ".join(texts[bad_at:])
        array = f"{before}{', ' if before and after else ''}!{after}"
    members = [f'"meta": {json.dumps(meta)}', f'"{key}": [{array}]']
    return "{" + ", ".join(members if meta_first else reversed(members)) + "}"


def all_of(records):
    """Return all records, in order."""
    found = []
    while len(found) != records.count:
        found.append(records.at(len(found)))
    return found
