"""The session and its transport, over real sockets."""

from __future__ import annotations

import asyncio
import platform
import re
import socket
import threading
import warnings

import aiohttp
import pytest

from aioparticipants import (
    AuthenticationError,
    Credentials,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    PaginationError,
    RateLimitError,
    RequestTimeoutError,
    ResponseError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    TransportError,
    __version__,
)
from aioparticipants._transport import LARGEST_BODY

from .servers import http, last_page, raw

SID = "CF" + "a" * 32
SECRET = "s3cret-t0ken"
CREDENTIALS = ("AC" + "0" * 32, SECRET)
ONCE = RetryPolicy(max_attempts=1)
QUICK = RetryPolicy(base_delay=0.001)


def client(base_url, **options):
    return InsightsSession(CREDENTIALS, base_url=base_url, **{"retry": ONCE} | options)


async def test_end_to_end(fake, session):
    """Every participant comes once, in the server's order, with every field."""
    sid = fake.add_conference(participants=130)

    found = await session.participants(sid, page_size=50)

    assert [each.to_dict() for each in found] == fake.records(sid)
    assert [seen.query["PageSize"] for seen in fake.requests] == ["50"] * 3
    assert all(seen.authorized and seen.status == 200 for seen in fake.requests)


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 100])
async def test_page_boundaries(fake, session, count):
    """After a full last page no other is requested; an empty conference is an empty list."""
    sid = fake.add_conference(participants=count)

    assert len(await session.participants(sid, page_size=50)) == count
    assert len(fake.requests) == max(1, -(-count // 50))


async def test_one_request_where_one_is_enough(fake, session):
    """A conference of 250 is one request, and `limit` requests no more records than needed."""
    sid = fake.add_conference(participants=250)

    assert len(await session.participants(sid)) == 250
    assert len(await session.participants(sid, limit=10)) == 10
    assert await session.participants(sid, limit=0) == []
    assert [seen.query["PageSize"] for seen in fake.requests] == ["1000", "10"]


async def test_filters(fake, session):
    """Filters are sent to the API and apply to every page."""
    sid = fake.add_conference(participants=60)
    records = fake.records(sid)
    agents = [each for each in records if each["label"] == "agent"]
    muted = [each for each in records if "mute" in (each["events"] or ())]
    wanted = records[7]["participant_sid"]

    assert [each.label for each in await session.participants(sid, label="agent", page_size=2)] == (
        ["agent"] * len(agents)
    )
    assert len(await session.participants(sid, events="mute", page_size=2)) == len(muted)
    (one,) = await session.participants(sid, participant_sid=wanted)
    assert one.participant_sid == wanted


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("borrowed", [False, True])
async def test_next_request_is_sent_before_the_delivery(borrowed, kept):
    """The next request is sent before the first record is delivered, on any connection."""
    link = f"https://insights.twilio.com/v1/Conferences/{SID}/Participants?Page=1"
    body = last_page({}).replace(b"null", f'"{link}"'.encode())
    first = http(body) if kept else http(body, "200 OK", "Connection: close")
    asked_again = threading.Event()

    def head_of(connection):
        with connection.makefile("rb") as head:
            while head.readline() not in {b"\r\n", b""}:
                pass

    def serve(listener):
        """Answer the first request and note the second, while the event loop is blocked."""
        connection, _ = listener.accept()
        head_of(connection)
        connection.sendall(first)
        if not kept:
            connection.close()
            connection, _ = listener.accept()
        with connection:
            head_of(connection)
            asked_again.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        async with aiohttp.ClientSession() as http_session:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with client(address, http=http_session if borrowed else None) as session:
                async with session.participants(SID) as stream:
                    await anext(stream)
                    assert asked_again.wait(10)  # which blocks the event loop
        thread.join()


async def test_no_slot_is_held_during_backoff(fake):
    """A list that waits for a retry does not block another list."""
    sid, other = fake.add_conference(participants=3), fake.add_conference(participants=2)
    patient = RetryPolicy(max_retry_after=3600, budget=9000)
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, max_concurrency=1, retry=patient
    ) as session:
        fake.fail_next(503, retry_after=3600)
        stream = session.participants(sid)
        waiting = asyncio.create_task(anext(stream))
        while not fake.requests:  # noqa: ASYNC110 - turns of the loop, not time
            await asyncio.sleep(0)
        assert len(await session.participants(other, deadline=30)) == 2
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
        await stream.aclose()


async def test_request_headers():
    """A request has Basic credentials, Accept and User-Agent, and no cookie of a reply before."""
    async with raw(http(last_page(), "200 OK", "Set-Cookie: a=b")) as server:
        async with client(server.base_url) as session:
            await session.participants(SID)
            await session.participants(SID)

    head = server.heads[1]
    assert f"Authorization: {Credentials(*CREDENTIALS).authorization()}\r\n" in head
    assert "Accept: application/json\r\n" in head
    assert "Cookie" not in head
    assert re.search(
        rf"User-Agent: aioparticipants/{__version__} \({platform.system()} [^)]+\) "
        rf"aiohttp/{re.escape(aiohttp.__version__)} Python/{platform.python_version()}\r\n",
        head,
    )


@pytest.mark.parametrize("fault", [408, 429, 500, 502, 503, 504, 0])
async def test_transient_faults_are_retried(fake, session, fault):
    """After a transient status, or a broken connection (0), the records still come once."""
    sid = fake.add_conference(participants=3)
    # aiohttp itself repeats a GET once on a broken connection, hence the count.
    fake.fail_next(fault or 503, disconnect=not fault, times=2)

    assert len(await session.participants(sid)) == 3
    assert [seen.status for seen in fake.requests] == [fault, fault, 200]


async def test_retry_after_too_long(fake, session):
    """A long Retry-After is an error at once, which has the seconds and Twilio's code."""
    sid = fake.add_conference()
    fake.fail_next(429, retry_after=3600)

    with pytest.raises(RateLimitError) as caught:
        await session.participants(sid)

    error = caught.value
    assert (error.status, error.code, error.retry_after) == (429, 20429, 3600.0)
    assert error.conference_sid == sid
    assert error.request_id.startswith("RQ")
    assert len(error.attempts) == len(fake.requests) == 1


async def test_exhausted(fake, session):
    """When the attempts are used up, the last error is raised, and lists them all."""
    sid = fake.add_conference()
    fake.fail_next(503, times=5)

    with pytest.raises(ServerError) as caught:
        await session.participants(sid)

    assert [each.outcome for each in caught.value.attempts] == ["HTTP 503"] * 5
    assert len(fake.requests) == 5


async def test_final_statuses(fake):
    """An error that retrying cannot fix is not retried."""
    async with InsightsSession(CREDENTIALS, base_url=fake.base_url, retry=QUICK) as session:
        with pytest.raises(AuthenticationError) as caught:
            await session.participants(SID)
    async with InsightsSession(fake.credentials, base_url=fake.base_url, retry=QUICK) as session:
        with pytest.raises(NotFoundError):
            await session.participants(SID)

    assert caught.value.code == 20003
    assert [seen.status for seen in fake.requests] == [401, 404]
    assert [seen.authorized for seen in fake.requests] == [False, True]


async def test_failure_in_the_middle(fake, session):
    """Each record of the pages before a failing page is delivered, then the error."""
    sid = fake.add_conference(participants=120)
    got = []
    with pytest.raises(NotFoundError):
        async for page in session.participants(sid, page_size=50).pages():
            got += page.records
            if len(got) == 50:
                fake.fail_next(404)

    assert [each.to_dict() for each in got] == fake.records(sid)[: len(got)]
    assert len(got) in {50, 100}


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (None, TransportError, "closed the connection"),
        (http(b'{"participants": [', length=999), TransportError, "cut off"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            TransportError,
            "No usable",
        ),
        (b"SSH-2.0-OpenSSH_9.9\r\n", TransportError, "not HTTP"),
        (http(b"<html>"), ResponseError, "cut off"),
        (http(b"", "204 No Content"), ResponseError, "204"),
        (http(b'{"participants": []}'), ResponseError, "meta"),
        (http(last_page(7)), ResponseError, r"participants\[0\]"),
        (http(b"", "302 Found", "Location: https://evil.example/"), Exception, "Redirects"),
        (http(b"", "200 OK", length=LARGEST_BODY + 1), TransportError, "cut off"),
        (http(b" " * (LARGEST_BODY + 1)), ResponseError, "larger than"),
    ],
)
async def test_bad_replies(reply, error, words):
    """Any bad reply is an error of this package that shows no secret."""
    async with raw(reply, keep_alive=False) as server, client(server.base_url) as session:
        with pytest.raises(error, match=words) as caught:
            await session.participants(SID, label="secret-label")

    chain = repr(caught.value) + repr(caught.value.__context__) + repr(caught.value.__cause__)
    assert caught.value.__cause__ is None
    for secret in (SECRET, "secret-label", "Basic", "evil"):
        assert secret not in chain


async def test_cut_off_body_is_fetched_again():
    """A page whose body is cut off is fetched again, and no record comes twice."""
    whole = http(last_page({"label": "a"}, {"label": "b"}))
    async with raw(http(last_page()[:20]), whole) as server:
        async with client(server.base_url, retry=QUICK) as session:
            found = await session.participants(SID)

    assert [each.label for each in found] == ["a", "b"]
    assert len(server.heads) == 2


async def test_loop():
    """A loop in the pagination is an error after the records, not an endless list."""
    link = f"https://insights.twilio.com/v1/Conferences/{SID}/Participants?PageSize=1000"
    body = last_page({"label": "a"}).replace(b"null", f'"{link}"'.encode())
    async with raw(http(body)) as server, client(server.base_url) as session:
        stream = session.participants(SID)
        assert (await anext(stream)).label == "a"
        with pytest.raises(PaginationError):
            await anext(stream)

    assert len(server.heads) == 1


async def test_refused():
    """A refused connection is a transient error that says so."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with client(f"http://127.0.0.1:{closed.getsockname()[1]}") as session:
            with pytest.raises(TransportError, match="refused") as caught:
                await session.participants(SID)

    assert caught.value.transient
    assert [each.outcome for each in caught.value.attempts] == ["TransportError"]


async def test_silent_server():
    """A server that does not answer is a RequestTimeoutError."""
    async with raw(...) as server, client(server.base_url, timeout=0.5) as session:
        with pytest.raises(RequestTimeoutError, match="timed out while waiting"):
            await session.participants(SID)


async def test_attempts_end_with_the_budget():
    """An attempt gets no more seconds than the budget has left."""
    async with raw(...) as server:
        async with client(server.base_url, retry=RetryPolicy(budget=0.05)) as session:
            with pytest.raises(RequestTimeoutError) as caught:
                await session.participants(SID)

    assert len(caught.value.attempts) == 1


@pytest.mark.parametrize("page_tasks", [1, 3])
async def test_closing_ends_the_waits(page_tasks):
    """session.aclose() raises SessionClosedError in each waiting reader, and in later ones."""
    async with raw(...) as server:
        session = client(server.base_url, max_concurrency=2)
        readers = [asyncio.ensure_future(session.participants(SID)) for _ in range(page_tasks)]
        while len(server.heads) < min(2, page_tasks):  # noqa: ASYNC110 - turns of the loop
            await asyncio.sleep(0)
        await session.aclose()
        results = await asyncio.gather(*readers, return_exceptions=True)
        with pytest.raises(SessionClosedError):
            await session.participants(SID)
        await session.aclose()

    assert {type(result) for result in results} == {SessionClosedError}
    assert "closed" in repr(session)


async def test_slots_bound_the_attempts_in_flight(fake):
    """Many tasks share a session: each gets its own records, within max_concurrency attempts."""
    fake.concurrency = 3
    fake.latency = 0.001
    sids = [fake.add_conference(participants=20) for _ in range(20)]
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, max_concurrency=3, retry=ONCE
    ) as session:
        lists = await asyncio.gather(*(session.participants(sid, page_size=5) for sid in sids))

    assert [[each.conference_sid for each in found] for found in lists] == [[s] * 20 for s in sids]
    assert {seen.status for seen in fake.requests} == {200}


async def test_ceiling_is_survived(fake):
    """429s for concurrency are retried until all records came."""
    fake.concurrency = 4
    fake.latency = 0.01
    sid = fake.add_conference(participants=10)
    async with InsightsSession(
        fake.credentials,
        base_url=fake.base_url,
        max_concurrency=8,
        retry=RetryPolicy(max_attempts=50, base_delay=0.005, max_delay=0.05),
    ) as session:
        lists = await asyncio.gather(*(session.participants(sid) for _ in range(30)))

    assert [len(each) for each in lists] == [10] * 30
    assert 429 in {seen.status for seen in fake.requests}


async def test_borrowed_session(fake):
    """A borrowed aiohttp session is used, and never closed."""
    sid = fake.add_conference(participants=120)
    async with aiohttp.ClientSession(raise_for_status=True) as http_session:
        async with InsightsSession(
            fake.credentials, base_url=fake.base_url, http=http_session
        ) as session:
            assert len(await session.participants(sid, page_size=50)) == 120
        assert not http_session.closed
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, http=http_session
    ) as session:
        with pytest.raises(SessionClosedError, match="aiohttp session was closed"):
            await session.participants(sid)


async def test_borrowed_session_with_auth_of_its_own(fake):
    """A borrowed session with an `auth` of its own is refused before anything is sent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # aiohttp's, for the auth under test
        async with aiohttp.ClientSession(auth=aiohttp.BasicAuth("a", "b")) as http_session:
            async with InsightsSession(
                fake.credentials, base_url=fake.base_url, http=http_session
            ) as session:
                with pytest.raises(InvalidRequestError, match="no auth of its own"):
                    await session.participants(SID)

    assert fake.requests == []


async def test_proxy():
    """An explicit proxy receives the request, in absolute form."""
    async with raw(http(last_page())) as server:
        async with client("http://127.0.0.1:9", proxy=server.base_url) as session:
            assert await session.participants(SID) == []

    assert server.heads[0].startswith(f"GET http://127.0.0.1:9/v1/Conferences/{SID}/Participants?")


async def test_trace_configs(fake):
    """The caller's trace configs are called for every attempt."""
    seen = []
    trace = aiohttp.TraceConfig()

    async def ended(_session, _context, params):
        seen.append(params.response.status)

    trace.on_request_end.append(ended)
    sid = fake.add_conference(participants=1)
    fake.fail_next(503)
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, retry=QUICK, trace_configs=[trace]
    ) as session:
        await session.participants(sid)

    assert seen == [503, 200]


def test_built_outside_a_loop():
    """A session can be made outside an event loop, and is used in one loop."""
    session = InsightsSession(CREDENTIALS, base_url="http://127.0.0.1:9", retry=ONCE)

    async def use():
        with pytest.raises(TransportError):
            await session.participants(SID)

    asyncio.run(use())

    async def use_elsewhere():
        with pytest.raises(InvalidRequestError, match="another event loop"):
            await session.participants(SID)
        await session.aclose()

    asyncio.run(use_elsewhere())


async def test_forgotten_session(fake):
    """A session that was used and not closed causes a ResourceWarning that names it."""
    sid = fake.add_conference(participants=1)
    session = InsightsSession(fake.credentials, base_url=fake.base_url)
    await session.participants(sid)
    transport = session._transport
    with pytest.warns(ResourceWarning, match="unclosed <InsightsSession of http"):
        del session
    await transport.aclose()


async def test_closing_ends_where_all_tasks_are_cancelled(fake):
    """Closing closes all and returns, even if other code cancels its task."""
    session = InsightsSession(fake.credentials, base_url=fake.base_url)
    assert len(await session.participants(fake.add_conference(1))) == 1
    closing = asyncio.create_task(session.aclose())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        if task.get_name() == "aioparticipants closing":
            task.cancel()
    await closing

    assert not session._transport.in_use
