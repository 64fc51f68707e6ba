"""The transport by itself: where it sends requests, and how it reads bodies."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from aioparticipants import InvalidRequestError
from aioparticipants._credentials import Authorization
from aioparticipants._messages import Request
from aioparticipants._settings import client_timeout
from aioparticipants._transport import LARGEST_BODY, Sent, Transport, _room_for


@pytest.mark.parametrize(
    "path", ["@evil.example/", ":1/", ".evil.example/", "9/v1", ":x@localhost/"]
)
async def test_no_request_leaves_the_origin(path):
    """Even a request with another host in its path is not sent there."""
    transport = Transport(
        "http://localhost",
        timeout=client_timeout(None),
        connections=1,
        http=None,
        proxy=None,
        trace_configs=(),
    )
    astray = Request(path=path, query="PageSize=1", conference_sid="CF" + "a" * 32)
    with pytest.raises(InvalidRequestError, match="own origin"):
        transport.check(astray)
    with pytest.raises(InvalidRequestError, match="own origin"):
        await transport.send(astray, Authorization("Basic eA=="), seconds=5, sent=Sent())
    await transport.aclose()


@pytest.mark.parametrize(
    ("announced", "room"),
    [(None, 0), (70_000, 70_000), (1_400_000, 6 * 2**18), (LARGEST_BODY, 2 * 2**20)],
)
def test_room_for_a_body(announced, room):
    """The buffer of a long body is rounded up, and at most 2 MiB because of a header alone."""
    assert _room_for(SimpleNamespace(content_length=announced)) == room
