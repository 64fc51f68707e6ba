"""Bodies of pages, whole and damaged, and what is read of them."""

from __future__ import annotations

import json
from typing import Any

from aioparticipants._decoding import envelope
from aioparticipants._msgspec import chunk_decoder, decode_participants

#: By msgspec, to what `json` makes of them.
decode_records = chunk_decoder(Any)

#: How records are decoded: by the standard library, and with the extra `speed`.
WAYS = {"json": None, "msgspec": decode_records}
#: The same, where they are participants.
PARTICIPANTS = {"json": None, "msgspec": decode_participants}


def steps(reading):
    """Return what a reading leads to, without a loop."""
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
    """Return the body of a page; before its record `bad_at` (or its end) is what is no JSON."""
    texts = [json.dumps(record) for record in records]
    array = ", ".join(texts)
    if bad_at is not None:
        before, after = ", ".join(texts[:bad_at]), ", ".join(texts[bad_at:])
        array = f"{before}{', ' if before and after else ''}!{after}"
    members = [f'"meta": {json.dumps(meta)}', f'"{key}": [{array}]']
    return "{" + ", ".join(members if meta_first else reversed(members)) + "}"


def all_of(records):
    """Return the records that can be taken, in order."""
    found = []
    while len(found) != records.count:
        found.append(records.at(len(found)))
    return found
