"""Text of the server, on its way to a terminal or a log."""

from __future__ import annotations

import contextlib
import json
import logging

import pytest

from aioparticipants import InsightsError, InsightsSession, RetryPolicy
from aioparticipants._sanitize import printable

from .servers import http, last_page, raw

#: Changes a terminal's colours, title and cursor, the line, and the writing direction.
HOSTILE = "\x1b[31mred\x1b]0;title\x07\r\n\x9b2J\u202eback\u2028\x7f\ud800"


@pytest.mark.parametrize("text", ["", "plain text, to the end.", "Zoë 日本 \N{TELEPHONE RECEIVER}"])
def test_printable_text(text):
    """Printable text, in any script, is left as it is."""
    assert printable(text) is text


def test_unprintable_text():
    """Each unprintable character is replaced."""
    assert printable(HOSTILE) == "?[31mred?]0;title????2J?back???".replace(
        "?", "\N{REPLACEMENT CHARACTER}"
    )
    assert printable("a\tb\u00a0c") == "a?b?c".replace("?", "\N{REPLACEMENT CHARACTER}")


HOSTILE_LINE = HOSTILE.replace("\r\n", "").encode("utf-8", "replace").decode("latin-1")
NEXT = f"https://insights.twilio.com/v1/{HOSTILE}/Participants?PageToken={HOSTILE}"


def body(**members):
    return json.dumps(members).encode()


REPLIES = {
    "an error body": http(
        body(code=20404, message=HOSTILE, more_info=HOSTILE, **{HOSTILE: 1}), "404 Not Found"
    ),
    "a reason phrase": http(b"{}", f"503 {HOSTILE_LINE}", f"Twilio-Request-Id: RQ{HOSTILE_LINE}"),
    "a record": http(last_page({"participant_sid": HOSTILE, HOSTILE: HOSTILE})),
    "a member's name": http(last_page({"events": {HOSTILE: 1}})),
    "a next link": http(body(participants=[], meta={"next_page_url": NEXT})),
    "a page": http(body(participants=[], meta={"page": HOSTILE, HOSTILE: 1})),
    "not HTTP": HOSTILE_LINE.encode("latin-1"),
}


@pytest.mark.parametrize("reply", REPLIES)
async def test_log_lines_are_printable(caplog, reply):
    """Whatever text a server sends, no log line has a control character or a line break."""
    caplog.set_level(logging.DEBUG)
    async with raw(REPLIES[reply], keep_alive=False) as own:
        async with InsightsSession(
            ("AC1", "token"), base_url=own.base_url, retry=RetryPolicy(max_attempts=2, base_delay=0)
        ) as session:
            with contextlib.suppress(InsightsError):
                await session.participants("CF" + "a" * 32)

    ours = [each.getMessage() for each in caplog.records if each.name == "aioparticipants"]
    assert len(ours) >= 2
    assert [line for line in ours if not line.isprintable()] == []
