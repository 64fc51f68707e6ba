"""The fault matrix: whatever goes wrong on the wire ends in the right error, or in every record.

1. A list is delivered whole and once, or ends in one error of ours: it never ends early.
2. `heads` counts the requests that a server has read. aiohttp itself sends a GET again when the
   connection is lost without a reply, so such an attempt makes two requests; any other makes one.
3. Every session here has one slot: an attempt that kept it would hang the next one.
4. tests/conftest.py finds tasks, sockets and lost exceptions that are left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import ssl
import sys
import zlib
from datetime import UTC, datetime, timedelta

import aiohttp
import attrs
import pytest
import trustme
from aiohttp.abc import AbstractResolver

from aioparticipants import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    InsightsError,
    InsightsSession,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ResponseError,
    RetryPolicy,
    ServerError,
    TransportError,
    _session,
)
from aioparticipants._resources import PARTICIPANTS
from aioparticipants._transport import LARGEST_BODY

from .bodies import PARTICIPANTS as DECODERS
from .bodies import page_of
from .servers import (
    closing,
    dripping,
    endless,
    following,
    http,
    last_page,
    never_accepting,
    raw,
    resetting,
    stalling,
)

SID = "CF" + "a" * 32
CREDENTIALS = ("AC" + "0" * 32, "s3cret-t0ken")
ONCE = RetryPolicy(max_attempts=1)
TWICE = RetryPolicy(max_attempts=2, base_delay=0)

#: Two pages: "a" on the first; "b" and "c" on the second, which has most of the faults.
LINK = f"https://insights.twilio.com/v1/Conferences/{SID}/Participants?Page=1"
FIRST = http(last_page({"label": "a"}).replace(b"null", f'"{LINK}"'.encode()))
SECOND = last_page({"label": "b"}, {"label": "c"})
OK = b"HTTP/1.1 200 OK\r\n"


def client(base_url, **options):
    return InsightsSession(
        CREDENTIALS, base_url=base_url, **{"retry": TWICE, "max_concurrency": 1} | options
    )


async def listed(session):
    """Return the labels that were delivered, and the error that ended the list, if one did.

    An error outside the family is raised, and fails the test.
    """
    labels, ended = [], None
    stream = session.participants(SID)
    while ended is None:
        try:
            labels.append((await anext(stream)).label)
        except StopAsyncIteration:
            return labels, None
        except InsightsError as error:
            ended = error
    assert ended.__cause__ is None
    assert ended.__context__ is None
    assert ended.conference_sid == SID
    return labels, ended


async def listed_from(*replies, keep_alive=True, ssl=None, **options):
    """Return the labels that were delivered, the error of the list, and the server that replied."""
    async with raw(*replies, keep_alive=keep_alive, ssl=ssl) as server:
        async with client(server.base_url, **options) as session:
            return *await listed(session), server


def outcomes(error):
    return [attempt.outcome for attempt in error.attempts]


def chunked(*pieces, last=b"0\r\n\r\n"):
    """Return pieces as the chunks of a reply."""
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + last


def headed(*lines, body=SECOND):
    """Return a reply with these header lines, and nothing that is right by itself."""
    return OK + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


# --- Connections that are not made, or do not last ---


async def test_refused():
    """A refused connection is retried as the policy allows, and the error is transient."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        async with client(f"http://127.0.0.1:{silent.getsockname()[1]}") as session:
            labels, error = await listed(session)

    assert labels == []
    assert type(error) is TransportError
    assert error.transient
    assert outcomes(error) == ["TransportError"] * 2


async def test_host_name_that_does_not_resolve():
    """A name without an address is a transient error that says so."""

    class Nowhere(AbstractResolver):  # the system's own may take its time over it
        asked = 0

        async def resolve(self, host, port=0, family=socket.AF_INET):
            self.asked += 1
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        async def close(self):
            pass

    resolver = Nowhere()
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=resolver)
    ) as http_session:
        async with client("https://nowhere.invalid", http=http_session) as session:
            labels, error = await listed(session)

    assert labels == []
    assert type(error) is TransportError
    assert "could not be resolved" in str(error)
    assert error.transient
    assert resolver.asked == 2


#: Ways to lose a connection: what comes first, and the requests on the wire that an attempt makes.
LOST = {
    "closed before the answer": (None, 2),
    "reset before the answer": (resetting(), 2),
    "reset in the head": (resetting(OK), 2),
    "reset in the body": (resetting(headed(b"Content-Length: 99", body=b'{"par')), 1),
    "reset in a chunk": (resetting(chunked(SECOND, last=b"9\r\nabc")), 1),
    "reset without a length": (resetting(headed(body=SECOND[:-9])), 1),
}


@pytest.mark.parametrize("name", LOST)
async def test_connection_lost(name):
    """A connection lost at any point is transient, and the page is requested again."""
    reply, sent = LOST[name]
    labels, error, server = await listed_from(reply)

    assert labels == []
    assert isinstance(error, (TransportError, ResponseError))
    assert error.transient
    assert len(error.attempts) == 2
    assert len(server.heads) == server.connections == 2 * sent


@pytest.mark.parametrize("name", LOST)
async def test_connection_lost_for_once(name):
    """A connection lost on the second page loses no record, and repeats none."""
    reply, _ = LOST[name]
    labels, error, server = await listed_from(FIRST, reply, http(SECOND))

    assert (labels, error) == (["a", "b", "c"], None)
    assert len(server.heads) == 3


@pytest.mark.parametrize("reply", [None, resetting()], ids=["closed", "reset"])
async def test_kept_connection_that_the_server_gives_up(reply):
    """A kept connection that is lost as the request arrives costs no attempt."""
    labels, error, server = await listed_from(FIRST, reply, http(SECOND), retry=ONCE)

    assert (labels, error) == (["a", "b", "c"], None)
    assert (len(server.heads), server.connections) == (3, 2)


async def test_idle_connection_that_the_server_closed():
    """A connection that the server closed while it was idle is not used again."""
    async with raw(http(SECOND), keep_alive=False) as server:
        async with client(server.base_url, retry=ONCE) as session:
            results = [await listed(session) for _ in range(3)]

    assert results == [(["b", "c"], None)] * 3
    assert (len(server.heads), server.connections) == (3, 3)


# --- Replies that are cut off ---


ZIPPED = gzip.compress(SECOND, mtime=0)
HALF = len(SECOND) // 2

WHOLE = {
    "length": http(SECOND),
    "chunks": chunked(SECOND[:20], SECOND[20:]),
    "close": headed(b"Connection: close"),
    "gzip": http(ZIPPED, "200 OK", "Content-Encoding: gzip"),
    "gzip in chunks": chunked(ZIPPED).replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1),
    "deflate": http(zlib.compress(SECOND), "200 OK", "Content-Encoding: deflate"),
}


@pytest.mark.repeats
@pytest.mark.parametrize("name", WHOLE)
async def test_cut_after_any_byte(name):
    """A reply cut after any of its bytes is fetched again, and no record is lost or comes twice."""
    whole = WHOLE[name]
    most = 99  # a session's quota is a hundred retries
    patient = RetryPolicy(max_attempts=most + 1, base_delay=0)
    for first in range(0, len(whole), most):
        cuts = [whole[:size] for size in range(first, min(first + most, len(whole)))]
        labels, error, server = await listed_from(
            FIRST, *cuts, whole, keep_alive=False, retry=patient
        )

        assert (labels, error) == (["a", "b", "c"], None)
        # Of gzip and deflate the last bytes are a checksum: without them the JSON is all there.
        assert len(server.heads) == 1 + len(cuts) + 1 or name.startswith(("gzip", "deflate"))


# --- Conferences, and single records ---

CP = "CP" + "1" * 32
ONE_RECORD = {"participant_sid": CP, "conference_sid": SID, "friendly_name": "b"}
OTHERS_LINK = "https://insights.twilio.com/v1/Conferences?Page=1"


def conferences_page(*names, link=None):
    """Return the body of a page of conferences."""
    records = [{"friendly_name": name} for name in names]
    meta = {"key": "conferences", "next_page_url": link}
    return json.dumps({"meta": meta, "conferences": records}).encode()


async def conferences(session):
    return [each.friendly_name for each in await session.conferences(created_after=None)]


async def conference(session):
    return [(await session.conference(SID)).friendly_name]


async def participant(session):
    return [(await session.participant(SID, CP)).extra["friendly_name"]]


#: How to ask; the replies that come before the faults; the body that is right; what is found.
OTHERS = {
    "conferences": (
        conferences,
        [http(conferences_page("a", link=OTHERS_LINK))],
        conferences_page("b", "c"),
        ["a", "b", "c"],
    ),
    "conference": (conference, [], json.dumps(ONE_RECORD).encode(), ["b"]),
    "participant": (participant, [], json.dumps(ONE_RECORD).encode(), ["b"]),
}
others = pytest.mark.parametrize("kind", OTHERS)


@pytest.mark.repeats
@others
@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
async def test_other_replies_cut_after_any_byte(kind, framing):
    """A single record, or page of conferences, that is cut after any byte is fetched again."""
    ask, before, body, expected = OTHERS[kind]
    whole = {
        "length": http(body),
        "chunks": chunked(body[:20], body[20:]),
        "close": headed(b"Connection: close", body=body),
    }[framing]
    most = 99  # a session's quota is a hundred retries
    for first in range(0, len(whole), most):
        cuts = [whole[:size] for size in range(first, min(first + most, len(whole)))]
        async with raw(*before, *cuts, whole, keep_alive=False) as server:
            patient = RetryPolicy(max_attempts=most + 1, base_delay=0)
            async with client(server.base_url, retry=patient) as session:
                assert await ask(session) == expected
        assert len(server.heads) == len(before) + len(cuts) + 1


@others
@pytest.mark.parametrize("name", LOST)
async def test_other_connections_lost(kind, name):
    """A connection that is lost, once or each time, is transient for every kind of request."""
    ask, before, body, expected = OTHERS[kind]
    reply, sent = LOST[name]
    async with raw(*before, reply, http(body)) as server, client(server.base_url) as session:
        assert await ask(session) == expected
    assert len(server.heads) == len(before) + 2

    async with raw(reply) as server, client(server.base_url) as session:
        with pytest.raises((TransportError, ResponseError)) as caught:
            await ask(session)
    assert caught.value.transient
    assert len(caught.value.attempts) == 2
    assert len(server.heads) == 2 * sent


@others
@pytest.mark.parametrize(
    ("status", "error", "requests"),
    [
        (301, APIStatusError, 1),
        (400, BadRequestError, 1),
        (401, AuthenticationError, 1),
        (403, PermissionDeniedError, 1),
        (404, NotFoundError, 1),
        (408, APIStatusError, 2),
        (429, RateLimitError, 2),
        (500, ServerError, 2),
        (501, ServerError, 1),
        (503, ServerError, 2),
    ],
)
async def test_other_statuses(kind, status, error, requests):
    """Every kind of request is retried after the same statuses."""
    ask, *_ = OTHERS[kind]
    async with raw(http(b"", f"{status} x")) as server, client(server.base_url) as session:
        with pytest.raises(error) as caught:
            await ask(session)
    assert caught.value.status == status
    assert len(caught.value.attempts) == len(server.heads) == requests


@others
async def test_other_bodies_too_large(kind):
    """A body of any kind is read up to the limit, and no further."""
    ask, *_ = OTHERS[kind]
    async with (
        raw(endless(OK + b"\r\n", b" " * 2**18)) as server,
        client(server.base_url) as session,
    ):
        with pytest.raises(ResponseError, match="larger than"):
            await ask(session)
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(ZIPPED[: len(ZIPPED) // 2], id="half of it"),
        pytest.param(ZIPPED[:-12], id="without the end of the data"),
        pytest.param(ZIPPED[:10], id="the head alone"),
        pytest.param(b"", id="nothing"),
    ],
)
async def test_gzip_that_is_cut_but_has_its_length(body):
    """Half a gzip stream of the right length is no page, though aiohttp takes it for a success."""
    reply = http(body, "200 OK", "Content-Encoding: gzip")
    labels, error, server = await listed_from(FIRST, reply)

    assert labels == ["a"]
    assert error.transient
    assert len(server.heads) == 3


# Close-delimited: nothing but the JSON itself can tell that something is missing.
@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"participants": [{"label": "b"}]}', "meta"),
        (b'{"participants": [{"label": "b"}], "meta": {}}', "meta.next_page_url"),
        (b'{"participants": [{"label": "b"}], "meta": null}', "meta"),
        (b'{"participants": [{"label": "b"}], "meta": {"next_page_url": false}}', "meta.next_page"),
        (b'{"meta": {"next_page_url": null}}', "participants"),
        (b'{"participants": {}, "meta": {"next_page_url": null}}', "participants"),
        (b'{"conferences": [], "meta": {"next_page_url": null}}', "participants"),
        (b"{}", "participants"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"20", "not an object"),
    ],
)
async def test_cut_but_still_json(body, path):
    """A 200 that has lost a part and is still JSON is an error, not the end of the list."""
    labels, error, server = await listed_from(FIRST, headed(body=body), keep_alive=False)

    assert labels == ["a"]
    assert type(error) is ResponseError
    assert path in str(error)
    assert not error.transient
    assert len(server.heads) == 2


EMPTY = b'{"participants": null, "meta": {"next_page_url": null}}'


async def test_empty_next_link():
    """An empty next link is the end, as null is; so is null in a page without an array."""
    for last in (SECOND.replace(b"null", b'""'), EMPTY):
        labels, error, server = await listed_from(FIRST, http(last))

        assert labels == (["a"] if last is EMPTY else ["a", "b", "c"])
        assert error is None
        assert len(server.heads) == 2


# --- Replies that take their time ---


STALLS = {
    "in the head": stalling(OK + b"Content-Le"),
    "in the body": stalling(http(SECOND[:HALF], length=len(SECOND))),
    "between chunks": stalling(chunked(SECOND[:HALF], last=b"")),
    "before the end of the last chunk": stalling(chunked(SECOND, last=b"0\r\n")),
    "in a body without length": stalling(headed(body=SECOND)),
}
#: Seconds. The page before the fault has to come within them, on a slow machine as well.
SHORT = 0.5
LIMITS = {
    "in all": SHORT,
    "between bytes": aiohttp.ClientTimeout(total=60, sock_read=SHORT),
}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("name", STALLS)
async def test_stalled(name, limit):
    """A server that stops sending costs one timeout, wherever it stops."""
    labels, error, server = await listed_from(
        FIRST, STALLS[name], timeout=LIMITS[limit], retry=ONCE
    )

    assert labels == ["a"]
    assert type(error) is RequestTimeoutError
    assert "while waiting for the reply" in str(error)
    assert "Set a smaller page_size" in str(error)
    assert error.transient
    assert len(server.heads) == 2


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(dripping(OK + b"X: ", b"a"), id="a header"),
        pytest.param(dripping(headed(b"Content-Length: 9999", body=b""), b" "), id="a body"),
        pytest.param(dripping(chunked(last=b""), b"1\r\n \r\n"), id="chunks"),
        pytest.param(dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="interim replies"),
    ],
)
async def test_dripping(reply):
    """An attempt times out even if bytes keep coming, each well within the read timeout."""
    limit = aiohttp.ClientTimeout(total=SHORT, sock_read=60)
    labels, error, server = await listed_from(FIRST, reply, timeout=limit, retry=ONCE)

    assert labels == ["a"]
    assert type(error) is RequestTimeoutError
    assert len(server.heads) == 2


@contextlib.asynccontextmanager
async def silent_in_the_handshake():
    async with raw(...) as server:
        yield server.base_url.replace("http:", "https:")
        assert (server.heads, server.connections) == ([], 2)


@contextlib.asynccontextmanager
async def accepting_no_connection():
    with never_accepting() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("host", [accepting_no_connection, silent_in_the_handshake])
async def test_stalled_connect(host):
    """A host that cannot be connected to costs one connect timeout an attempt."""
    limit = aiohttp.ClientTimeout(total=60, sock_connect=0.25)
    async with host() as base_url, client(base_url, timeout=limit) as session:
        labels, error = await listed(session)

    assert labels == []
    assert type(error) is RequestTimeoutError
    assert "while connecting" in str(error)
    assert outcomes(error) == ["RequestTimeoutError"] * 2


async def test_timeout_of_one_attempt_is_not_the_end():
    """A page that comes after a timeout comes whole."""
    labels, error, server = await listed_from(
        FIRST, STALLS["in the body"], http(SECOND), timeout=SHORT
    )

    assert (labels, error) == (["a", "b", "c"], None)
    assert len(server.heads) == 3


# --- Garbage on the wire ---


LENGTH = b"Content-Length: %d" % len(SECOND)
CHUNKED = b"Transfer-Encoding: chunked"

GARBAGE = {
    # the status line
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "HTTP/2 frames": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18),
    "HTTP/0.9": SECOND,
    "zeros": bytes(99),
    "status of letters": headed(LENGTH).replace(b"200", b"abc"),
    "status of two digits": headed(LENGTH).replace(b"200", b"20"),
    "status of five digits": headed(LENGTH).replace(b"200", b"20000"),
    "negative status": headed(LENGTH).replace(b"200", b"-200"),
    "Arabic status": headed(LENGTH).replace(b"200", "٢٠٠".encode()),
    "no status": headed(LENGTH).replace(b" 200 OK", b""),
    "unknown version": headed(LENGTH).replace(b"1.1", b"9.9"),
    # lengths
    "length of letters": headed(b"Content-Length: abc"),
    "negative length": headed(b"Content-Length: -1"),
    "signed length": headed(b"Content-Length: +%d" % len(SECOND)),
    "length with an exponent": headed(b"Content-Length: 1e2"),
    "length in hexadecimal": headed(b"Content-Length: 0x10"),
    "length with an underscore": headed(b"Content-Length: 1_0"),
    "Arabic length": headed("Content-Length: ٣".encode()),
    "empty length": headed(b"Content-Length:"),
    "length past 64 bits": headed(b"Content-Length: %d" % 2**70),
    "length of a terabyte": headed(b"Content-Length: %d" % 2**40),
    "length too short": headed(b"Content-Length: 5"),
    "two lengths": headed(LENGTH, b"Content-Length: 5"),
    "list of lengths": headed(LENGTH + b", 5"),
    "length and chunks": headed(LENGTH, CHUNKED, body=b"0\r\n\r\n"),
    # chunks
    "chunk size of letters": headed(CHUNKED, body=b"zz\r\n" + SECOND),
    "negative chunk size": headed(CHUNKED, body=b"-5\r\n" + SECOND),
    "prefixed chunk size": headed(CHUNKED, body=b"0x10\r\n" + SECOND),
    "empty chunk size": headed(CHUNKED, body=b"\r\n" + SECOND),
    "chunk size past 64 bits": headed(CHUNKED, body=b"F" * 17 + b"\r\n" + SECOND),
    "chunk larger than its size": headed(CHUNKED, body=b"5\r\n" + SECOND + b"\r\n0\r\n\r\n"),
    "chunked twice": headed(b"Transfer-Encoding: chunked, chunked"),
    # headers
    "header without a colon": headed(LENGTH, b"nonsense"),
    "header without a name": headed(LENGTH, b": nonsense"),
    "space before the colon": headed(LENGTH, b"X : y"),
    "NUL in a header": headed(LENGTH, b"X: \0"),
    "lone CR in a header": headed(LENGTH, b"X: a\rb"),
    "no ASCII in a name": headed(LENGTH, "é: x".encode()),
    # floods
    "long header": headed(LENGTH, b"X: " + b"x" * 100_000),
    "long header name": headed(LENGTH, b"X" * 100_000 + b": x"),
    "many headers": headed(LENGTH, *(b"X%d: x" % n for n in range(10_000))),
    "long reason": headed(LENGTH).replace(b"OK", b"x" * 100_000),
    "many trailers": chunked(SECOND, last=b"0\r\n" + b"X: x\r\n" * 10_000 + b"\r\n"),
    "endless header": endless(OK + b"X: ", b"x" * 65_536),
    "endless headers": endless(OK, b"X: x\r\n" * 1000),
    "endless trailers": endless(chunked(SECOND, last=b"0\r\n"), b"X: x\r\n" * 1000),
    # encodings
    "gzip that is none": headed(LENGTH, b"Content-Encoding: gzip"),
    "deflate that is none": headed(LENGTH, b"Content-Encoding: deflate"),
    "brotli that is none": headed(LENGTH, b"Content-Encoding: br"),
    "zstd that is none": headed(LENGTH, b"Content-Encoding: zstd"),
    "gzip with a wrong checksum": http(ZIPPED[:-8] + bytes(8), "200 OK", "Content-Encoding: gzip"),
    "gzip and then garbage": http(ZIPPED + b"garbage", "200 OK", "Content-Encoding: gzip"),
}


@pytest.mark.repeats
@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage(name):
    """What is no HTTP is a transient fault, and none of its bytes is delivered."""
    async with raw(FIRST, GARBAGE[name], GARBAGE[name], http(SECOND), keep_alive=False) as server:
        async with client(server.base_url) as session:
            labels, error = await listed(session)
            again = await listed(session)

    assert labels == ["a"]
    assert type(error) is TransportError
    assert error.transient
    assert outcomes(error) == ["TransportError"] * 2
    assert again == (["b", "c"], None)
    assert len(server.heads) == 4


@pytest.mark.repeats
@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 99), id="interim replies"),
        pytest.param(endless(b"", b"\r\n" * 999), id="blank lines"),
        pytest.param(endless(headed(CHUNKED, body=b""), b"0" * 999), id="digits of a chunk size"),
        pytest.param(endless(headed(CHUNKED, body=b"5;"), b"x" * 999), id="a chunk's extension"),
    ],
)
async def test_flood_that_is_never_wrong(reply):
    """A flood that the grammar of HTTP allows ends with the attempt's timeout."""
    labels, error, server = await listed_from(FIRST, reply, timeout=SHORT, retry=ONCE)

    assert labels == ["a"]
    assert type(error) is RequestTimeoutError
    assert len(server.heads) == 2


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" + http(SECOND), id="early hints"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + SECOND, id="HTTP/1.0"),
        pytest.param(headed(b"content-LENGTH: %d" % len(SECOND)), id="header case"),
        pytest.param(headed(LENGTH, b"X: \xff\xfe"), id="no UTF-8 in a header"),
        pytest.param(chunked(*(SECOND[n : n + 1] for n in range(len(SECOND)))), id="tiny chunks"),
        pytest.param(http(b" \r\n\t" + SECOND + b"\n"), id="space around the JSON"),
        pytest.param(WHOLE["gzip"], id="gzip"),
        pytest.param(WHOLE["deflate"], id="deflate"),
        pytest.param(
            http(zlib.compress(SECOND)[2:-4], "200 OK", "Content-Encoding: deflate"),
            id="raw deflate",
        ),
        pytest.param(
            http(
                gzip.compress(SECOND[:HALF]) + gzip.compress(SECOND[HALF:]),
                "200 OK",
                "Content-Encoding: gzip",
            ),
            id="gzip in two members",
        ),
    ],
)
async def test_unusual_but_right(reply):
    """What HTTP allows is read, however unusual it is."""
    labels, error, server = await listed_from(FIRST, reply, keep_alive=False)

    assert (labels, error) == (["a", "b", "c"], None)
    assert len(server.heads) == 2


async def test_reply_that_nobody_asked_for():
    """A second reply behind the first never answers the next request."""
    forged = http(last_page({"label": "forged"}))
    labels, error, server = await listed_from(FIRST + forged, http(SECOND))

    assert "forged" not in labels
    assert (labels, error) == (["a", "b", "c"], None)
    assert len(server.heads) == 2


async def test_reply_that_comes_before_the_request():
    """What a server sends on an idle connection never answers the next request on it."""
    forged = http(last_page({"label": "forged"}))
    event = asyncio.Event()
    first = following(http(SECOND), event, forged)
    async with raw(first, http(SECOND)) as server, client(server.base_url) as session:
        before = await listed(session)
        event.set()
        for _ in range(20):  # turns of the loop, until the client has read it
            await asyncio.sleep(0)
        after = await listed(session)

    assert before == after == (["b", "c"], None)
    assert (len(server.heads), server.connections) == (2, 2)


# --- Statuses ---


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (408, APIStatusError),
        (429, RateLimitError),
        (500, ServerError),
        (502, ServerError),
        (503, ServerError),
        (504, ServerError),
        *((status, ServerError) for status in (506, 509, *range(520, 531), 599, 600, 999)),
    ],
)
async def test_transient_statuses(status, kind):
    """A transient status is retried as the policy allows, and then raised."""
    replies = [http(b"", f"{status} x", f"Twilio-Request-Id: RQ{n}") for n in range(4)]
    thrice = RetryPolicy(max_attempts=3, base_delay=0)
    labels, error, server = await listed_from(FIRST, *replies, retry=thrice)

    assert labels == ["a"]
    assert type(error) is kind
    assert (error.status, error.transient, error.request_id) == (status, True, "RQ2")
    assert outcomes(error) == [f"HTTP {status}"] * 3
    assert [attempt.delay for attempt in error.attempts] == [0.0, 0.0, None]
    assert len(server.heads) == 4
    assert server.connections == 1  # each refusal was read to its end


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, ResponseError) for status in (201, 204, 206)),
        *((status, APIStatusError) for status in (300, 301, 302, 303, 304, 307, 308)),
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        *((status, APIStatusError) for status in (405, 407, 409, 410, 421, 422, 425)),
        *((status, ServerError) for status in (501, 505)),
    ],
)
async def test_final_statuses(status, kind):
    """Any other status is not retried, not followed, and has its own class."""
    body = b"" if status in {204, 304} else SECOND  # as if it were a success
    labels, error, server = await listed_from(
        FIRST, http(body, f"{status} x", "Location: /elsewhere")
    )

    assert labels == ["a"]
    assert type(error) is kind
    assert str(status) in str(error)
    assert not error.transient
    assert len(error.attempts) == 1
    assert len(server.heads) == 2


async def test_protocol_switch():
    """A reply that switches protocols is a final error, though the connection stays open."""
    reply = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    labels, error, server = await listed_from(stalling(reply))

    assert labels == []
    assert type(error) is APIStatusError
    assert len(server.heads) == 1


# --- Retry-After ---


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DATE = f"Date: {NOW:%a, %d %b %Y %H:%M:%S GMT}"
LATER, EARLIER = NOW + timedelta(minutes=2), NOW - timedelta(days=400)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("0.02", 0.02),
        ("00.05", 0.05),
        (f"{NOW:%a, %d %b %Y %H:%M:%S GMT}", 0.0),
        (f"{EARLIER:%a, %d %b %Y %H:%M:%S GMT}", 0.0),
        (f"{EARLIER:%A, %d-%b-%y %H:%M:%S GMT}", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0.0),
    ],
)
async def test_retry_after_is_waited_for(value, seconds):
    """A Retry-After that is short enough is the wait before the next attempt."""
    refusal = http(b"", "429 x", f"Retry-After: {value}", DATE)
    _, error, server = await listed_from(refusal)

    assert type(error) is RateLimitError
    assert error.retry_after == seconds
    assert [attempt.delay for attempt in error.attempts] == [seconds, None]
    assert len(server.heads) == 2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("61", 61.0),
        ("60.5", 60.5),
        ("999999999", 999_999_999.0),
        (f"{LATER:%a, %d %b %Y %H:%M:%S GMT}", 120.0),
        (f"{LATER:%A, %d-%b-%y %H:%M:%S GMT}", 120.0),
        (f"{LATER:%a %b %e %H:%M:%S %Y}", 120.0),
        (f"{LATER:%a, %d %b %Y %H:%M:%S +0000}", 120.0),
        (
            "Fri, 31 Dec 9999 23:59:59 GMT",
            (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - NOW).total_seconds(),
        ),
    ],
)
async def test_retry_after_too_long(value, seconds):
    """A Retry-After that is too long is raised at once, with its seconds."""
    refusal = http(b"", "503 x", f"Retry-After: {value}", DATE)
    _, error, server = await listed_from(refusal)

    assert type(error) is ServerError
    assert error.retry_after == seconds
    assert error.transient
    assert len(error.attempts) == len(server.heads) == 1


NO_DATE = ["", "soon", "-1", "Sun, 06 Nov 99999999999 08:50:37 GMT", "9" * 5000]
NO_RETRY_AFTER = [
    *("", "-1", "+5", "nan", "NaN", "inf", "-inf", "Infinity", "1e9", "1_000", "0x10"),
    *("1, 2", "1;2", "٣", "\xff", "soon", "9" * 10, "9" * 5000, "0" * 65, "0" + " " * 63 + "0"),
    "Sun, 99 Nov 2026 08:50:37 GMT",
    "Sun, 06 Nov 10000 08:50:37 GMT",
    # Numbers that fit no C integer are an OverflowError, which is no ValueError.
    "Sun, 06 Nov 99999999999 08:50:37 GMT",
    "Sun, 06 Nov 2026 99999999999:50:37 GMT",
    "Sun, 06 Nov 2026 08:50:37 +99999999999999999999",
    "Sun, 06 Nov 2026 08:50:37 GMT" + " " * 60 + "x",
]


@pytest.mark.repeats
@pytest.mark.parametrize(
    "headers",
    [
        *((f"Retry-After: {value}", DATE) for value in NO_RETRY_AFTER),
        *(("Retry-After: Thu, 01 Jan 1970 00:00:00 GMT", f"Date: {date}") for date in NO_DATE),
        ("Retry-After: 0", "Retry-After: 3600"),
    ],
)
async def test_headers_that_are_ignored(headers):
    """An invalid Retry-After is ignored, and so is an invalid Date, and any second Retry-After."""
    labels, error, server = await listed_from(http(b"", "429 x", *headers), http(SECOND))

    assert (labels, error) == (["b", "c"], None)
    assert len(server.heads) == 2


# --- Error bodies ---


LEGACY = {"code": 20404, "message": "gone", "more_info": "https://t/20404", "status": 404}
PROBLEM = {"type": "https://t/20404", "title": "T", "status": 404, "code": 20404, "detail": "gone"}
FOUND = (20404, "gone", "https://t/20404")
NOTHING = (None, None, None)


@pytest.mark.parametrize(
    ("body", "kind", "found"),
    [
        (LEGACY, "application/json", FOUND),
        (PROBLEM, "application/problem+json", FOUND),
        (
            {"errors": [{"code": 20404, "message": "gone", "infoUrl": "https://t/20404"}]},
            "application/json",
            FOUND,
        ),
        ({"errors": [{"detail": "x"}], **PROBLEM}, "application/problem+json", FOUND),
        (b"<html><h1>404 Not Found</h1>", "text/html", NOTHING),
        (b"<Response><Code>20404</Code></Response>", "application/xml", NOTHING),
        (b"", "application/json", NOTHING),
        (json.dumps(LEGACY)[:-9].encode(), "application/json", NOTHING),
        (json.dumps(LEGACY).encode("utf-16"), "application/json", NOTHING),
        (b'{"code": NaN}', "application/json", NOTHING),
        (b'{"code": ' + b"9" * 5000 + b"}", "application/json", NOTHING),
        (b"[" * 200_000, "application/json", NOTHING),
        (b"[]", "application/json", NOTHING),
        (b"null", "application/json", NOTHING),
        # lies
        ({"status": 200, "code": 200}, "application/json", (200, None, None)),
        ({"status": 503, "message": "gone"}, "application/json", (None, "gone", None)),
        ({"code": "20404", "message": ["gone"], "more_info": 1}, "application/json", NOTHING),
        ({"code": True, "message": None, "more_info": {}}, "application/json", NOTHING),
        ({"code": 2**70}, "application/json", (2**70, None, None)),
        ({"errors": {"code": 20404}}, "application/json", NOTHING),
        ({"errors": [[]]}, "application/json", NOTHING),
        ({"participants": [], "meta": {"next_page_url": None}}, "application/json", NOTHING),
    ],
)
async def test_error_bodies(body, kind, found):
    """An error body adds details to the error, and never changes its class."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = http(data, "404 Not Found", f"Content-Type: {kind}")
    labels, error, server = await listed_from(FIRST, reply)

    assert labels == ["a"]
    assert type(error) is NotFoundError
    assert (error.status, error.transient) == (404, False)
    assert (error.code, error.message, error.more_info) == found
    assert len(server.heads) == 2


async def test_zipped_error_body():
    """An error body is decompressed like any other."""
    data = gzip.compress(json.dumps(LEGACY).encode())
    _, error, _ = await listed_from(http(data, "404 x", "Content-Encoding: gzip"))

    assert type(error) is NotFoundError
    assert (error.code, error.message, error.more_info) == FOUND


def unreadable(status, *headers):
    """Return replies whose head is whole, and whose body cannot be read to its end."""
    cut = http(b'{"code": 2', status, *headers, length=99)
    return {
        "cut": closing(cut),
        "reset": resetting(cut),
        "garbled": http(b'{"code": 2}', status, *headers, "Content-Encoding: gzip"),
        "too large": http(b" " * (LARGEST_BODY + 1), status, *headers),
    }


UNREADABLE = [*unreadable("404 x")]


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize(
    ("status", "kind", "retry_after"),
    [("404 x", NotFoundError, None), ("429 x", RateLimitError, 3600.0), ("200 OK", None, None)],
)
async def test_body_that_cannot_be_read(name, status, kind, retry_after):
    """The head of a reply counts even if its body cannot be read: status, request id, headers."""
    headers = ("Twilio-Request-Id: RQ7", "Retry-After: 3600" if retry_after else "X: y")
    labels, error, server = await listed_from(FIRST, unreadable(status, *headers)[name])

    assert labels == ["a"]
    assert error.request_id == "RQ7"
    if kind is not None:  # a refusal, which is not retried
        assert type(error) is kind
        assert error.retry_after == retry_after
        assert len(server.heads) == 2


# --- Bodies that are too much ---


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(headed(CHUNKED, body=b""), id="chunks"),
        pytest.param(headed(b"Content-Length: %d" % 2**50, body=b""), id="length"),
        pytest.param(headed(body=b""), id="close"),
    ],
)
async def test_endless_body(data):
    """A body without end is refused after 16 MiB, and not requested again."""
    block = b" " * 2**18
    piece = b"%x\r\n%b\r\n" % (len(block), block) if CHUNKED in data else block
    labels, error, server = await listed_from(FIRST, endless(data, piece))

    assert labels == ["a"]
    assert type(error) is ResponseError
    assert "larger than" in str(error)
    assert not error.transient
    assert len(server.heads) == 2


async def test_largest_body():
    """A body of 16 MiB is read, and one byte more is refused."""
    largest = SECOND + b" " * (LARGEST_BODY - len(SECOND))
    async with raw(http(largest), http(largest + b" ")) as server:
        async with client(server.base_url) as session:
            assert await listed(session) == (["b", "c"], None)
            labels, error = await listed(session)

    assert labels == []
    assert type(error) is ResponseError
    assert "larger than" in str(error)
    assert len(server.heads) == 2


#: What a child process does: list one conference as a warm-up, then the one with the bomb; then
#: the same bomb without this package, which proves that the measure would have seen it.
MEASURED = """
import asyncio, json, resource, sys
import aiohttp
import attrs
from aioparticipants import InsightsError, InsightsSession, RetryPolicy

def peak():
    try:  # of this program alone: getrusage keeps the peak of the process that it came from
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

async def main(base_url, sid):
    async with InsightsSession(
        ("AC" + "0" * 32, "secret"), base_url=base_url, retry=RetryPolicy(base_delay=0)
    ) as session:
        await session.participants(sid)
        before, outcome = peak(), None
        try:
            await session.participants(sid)
        except InsightsError as error:
            outcome = [type(error).__name__, str(error), error.transient, len(error.attempts)]
        growth = peak() - before
    async with aiohttp.ClientSession() as plain, plain.get(base_url) as reply:
        size = len(await reply.read())
    print(json.dumps([outcome, growth, size, peak() - before]))

asyncio.run(main(*sys.argv[1:]))
"""


def bomb(encoding):
    """Return 160 MiB of a page in some 160 KiB."""
    packer = zlib.compressobj(9, wbits={"gzip": 31, "deflate": 15}[encoding])
    block = b" " * 2**20
    packed = packer.compress(SECOND) + b"".join(packer.compress(block) for _ in range(160))
    return http(packed + packer.flush(), "200 OK", f"Content-Encoding: {encoding}")


@pytest.mark.repeats
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_bomb(encoding):
    """A body that unpacks to 160 MiB is refused after 16, and memory grows by less than 64."""
    async with raw(http(SECOND), bomb(encoding)) as server:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MEASURED, server.base_url, SID),
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await child.communicate()

    outcome, growth, size, unbounded = json.loads(printed)
    assert outcome is not None
    assert outcome[1].startswith(f"The body of the reply is larger than {LARGEST_BODY} bytes.")
    assert [outcome[0], *outcome[2:]] == ["ResponseError", False, 1]
    assert growth < 64 * 2**20
    assert size > 160 * 2**20
    assert unbounded > 150 * 2**20
    assert len(server.heads) == 3


# --- JSON that is too much ---


def record(member):
    return b'{"participants": [{%b}], "meta": {"next_page_url": null}}' % member


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (SECOND.decode().encode("utf-16"), "not JSON"),
        (b"<html>", "not JSON"),
        (SECOND[:-1], "not JSON"),
    ],
)
async def test_body_that_is_no_json(body, words):
    """A 200 that is no JSON as a whole is transient, and gives no record."""
    labels, error, server = await listed_from(FIRST, http(body))

    assert labels == ["a"]
    assert type(error) is ResponseError
    assert words in str(error)
    assert error.transient
    assert outcomes(error) == ["ResponseError"] * 2
    assert len(server.heads) == 3


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (record(b'"x": ' + b"[" * 200_000 + b"]" * 200_000), "nested too deeply"),
        (record(b'"duration_seconds": ' + b"9" * 4301), "not JSON"),
        (record(b'"x": ' + b"9" * 1_000_000), "not JSON"),
        (record(b'"x": NaN'), "not JSON"),
        (record(b'"x": Infinity'), "not JSON"),
        (record(b'"x": -Infinity'), "not JSON"),
        (record(b'"label": "\xff"'), "not JSON"),
        (record(b'"label": "\x01"'), "not JSON"),
    ],
)
async def test_record_that_is_no_json(body, words):
    """A record that is no JSON, or JSON beyond every limit, is an error that is not retried."""
    labels, error, server = await listed_from(FIRST, http(body))

    assert labels == ["a"]
    assert (type(error), error.path) == (ResponseError, "participants[0]")
    assert words in str(error)
    assert not error.transient
    assert outcomes(error) == []
    assert len(server.heads) == 2


async def test_byte_order_mark():
    """A body that begins with a byte order mark is read as one without (RFC 8259, 8.1)."""
    body = b"\xef\xbb\xbf" + SECOND
    labels, error, _ = await listed_from(FIRST, http(body))

    assert (labels, error) == (["a", "b", "c"], None)


# --- Bodies that prove bad half-way ---

RECORDS = [{"label": label} for label in "bcd"]
META = {"next_page_url": LINK.replace("Page=1", "Page=2")}
LAST = http(last_page({"label": "e"}))


@pytest.fixture(params=DECODERS.values(), ids=DECODERS)
def decoder(request, monkeypatch):
    """Decode records by the standard library, or by msgspec."""
    monkeypatch.setattr(_session, "PARTICIPANTS", attrs.evolve(PARTICIPANTS, decode=request.param))


orders = pytest.mark.parametrize("meta_first", [True, False], ids=["meta first", "meta last"])


def bad(at, **options):
    return http(page_of(RECORDS, META, bad_at=at, **options).encode())


def pages_of(server):
    """Return the pages that were asked for, in order."""
    return [int(head.split("Page=")[1][0]) if "Page=" in head else 0 for head in server.heads]


@pytest.mark.usefixtures("decoder")
@orders
@pytest.mark.parametrize(("at", "good"), [(0, 0), (1, 1), (2, 2), (3, 2)])
async def test_body_that_proves_bad_half_way(meta_first, at, good):
    """Malformed JSON is an error at its record, after all good ones, and is not retried."""
    labels, error, server = await listed_from(FIRST, bad(at, meta_first=meta_first), LAST)

    assert labels == ["a", *"bcd"[:good]]
    assert (type(error), error.transient) == (ResponseError, False)
    assert error.path == f"participants[{good}]"
    assert outcomes(error) == []
    assert pages_of(server) in ([0, 1], [0, 1, 2])


@pytest.mark.parametrize(("limit", "labels"), [(2, "ab"), (3, "abc")])
async def test_limit_on_a_body_that_proves_bad(limit, labels):
    """Malformed JSON after the limit does not matter."""
    async with raw(FIRST, bad(2), LAST) as server, client(server.base_url) as session:
        found = await session.participants(SID, limit=limit)

    assert [record.label for record in found] == [*labels]
    assert pages_of(server) == [0, 1]


@pytest.mark.usefixtures("decoder")
async def test_envelope_in_an_unusual_order():
    """A page whose `meta` is between other members is read as any other, with its next link."""
    body = json.dumps({"participants": RECORDS * 20, "meta": META, "links": []}).encode()
    labels, error, _ = await listed_from(FIRST, http(body), LAST)

    assert (labels, error) == ([*"a", *"bcd" * 20, *"e"], None)


async def test_doubled_body():
    """JSON followed by JSON is malformed: the good records come, and then the error."""
    labels, error, _ = await listed_from(FIRST, http(SECOND + SECOND))

    assert labels == ["a", "b", "c"]
    assert (type(error), error.transient, error.path) == (ResponseError, False, None)


@pytest.mark.parametrize(
    ("member", "path"),
    [
        (b'"x": ' + b"[" * 200 + b"]" * 200, "x"),
        (b'"x": 1e999', "x"),
        (b'"x": [{"y": -1e999}]', "x"),
        (b'"duration_seconds": 1e999', "duration_seconds"),
        (b'"duration_seconds": 12.0', "duration_seconds"),
        (b'"duration_seconds": "12"', "duration_seconds"),
        (b'"events": {"mute": [%d]}' % 2**70, "events.mute[0]"),
        (b'"join_time": "0001-01-01T00:00:00+23:59"', "join_time"),
    ],
)
async def test_value_out_of_bounds(member, path):
    """A value that no field can hold is an error that names its path, not the value."""
    labels, error, server = await listed_from(FIRST, http(record(member)))

    assert labels == ["a"]
    assert type(error) is ResponseError
    assert error.path == f"participants[0].{path}"
    assert not error.transient
    assert len(server.heads) == 2


@pytest.mark.parametrize("digits", [b"%d" % 2**70, b"-%d" % 2**70, b"9" * 4300])
async def test_huge_integer(digits):
    """An integer of any size that Python reads is delivered exactly."""
    reply = http(record(b'"duration_seconds": ' + digits))
    async with raw(reply) as server, client(server.base_url) as session:
        (found,) = await session.participants(SID)

    assert found.duration_seconds == int(digits)
    assert len(server.heads) == 1


# --- TLS ---


AUTHORITY = trustme.CA()


def served(*names, authority=AUTHORITY, **options):
    """Return the TLS settings of a server that is certified as `names`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


def counted(context):
    """Return a list that grows with each handshake, as a server hears of none that fails."""
    handshakes = []
    # It has to return None, which lets the handshake go on.
    context.sni_callback = lambda _socket, name, _context: handshakes.append(name)
    return handshakes


def trusting():
    """Return an aiohttp session that trusts the authority."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))


async def test_trusted_certificate():
    """A certificate that the borrowed session trusts is accepted."""
    async with raw(FIRST, http(SECOND), ssl=served("127.0.0.1")) as server, trusting() as lent:
        async with client(server.base_url, http=lent) as session:
            assert await listed(session) == (["a", "b", "c"], None)

    assert (len(server.heads), server.connections) == (2, 1)


@pytest.mark.parametrize(
    "context",
    [
        pytest.param(served("127.0.0.1", authority=trustme.CA()), id="unknown authority"),
        pytest.param(served("insights.twilio.com"), id="wrong host name"),
        pytest.param(served("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC)), id="expired"),
    ],
)
async def test_certificate_that_is_refused(context):
    """A certificate that cannot be trusted costs one connection: no request, no retry."""
    handshakes = counted(context)
    async with raw(http(SECOND), ssl=context) as server, trusting() as lent:
        async with client(server.base_url, http=lent) as session:
            labels, error = await listed(session)

    assert labels == []
    assert type(error) is TransportError
    assert "certificate was refused" in str(error)
    assert not error.transient
    assert outcomes(error) == ["TransportError"]
    assert (server.heads, len(handshakes)) == ([], 1)


async def test_self_signed_certificate():
    """Our own aiohttp session only trusts the certificates that the system trusts."""
    context = served("127.0.0.1")
    handshakes = counted(context)
    labels, error, server = await listed_from(http(SECOND), ssl=context)

    assert labels == []
    assert type(error) is TransportError
    assert not error.transient
    assert (server.heads, len(handshakes)) == ([], 1)


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        pytest.param(closing(), "", id="closed"),
        pytest.param(resetting(), "", id="reset"),
        pytest.param(
            stalling(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            "does not speak TLS at that port: WRONG_VERSION_NUMBER",
            id="plain text",
        ),
    ],
)
async def test_handshake_that_fails(greeting, words):
    """A TLS handshake that fails is a transient fault, and no request is sent."""
    async with raw(greeting=greeting) as server:
        async with client(server.base_url.replace("http:", "https:")) as session:
            labels, error = await listed(session)

    assert labels == []
    assert type(error) is TransportError
    assert words in str(error)
    assert error.transient
    assert outcomes(error) == ["TransportError"] * 2
    assert (server.heads, server.connections) == ([], 2)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(closing(headed(body=SECOND[:-9])), id="closed"),
        pytest.param(resetting(headed(body=SECOND[:-9])), id="reset"),
    ],
)
async def test_cut_under_tls(reply):
    """A body cut off under TLS is fetched again, as one in plain text is."""
    async with raw(FIRST, reply, http(SECOND), ssl=served("127.0.0.1")) as server:
        async with trusting() as lent, client(server.base_url, http=lent) as session:
            assert await listed(session) == (["a", "b", "c"], None)

    assert len(server.heads) == 3
