"""Whose fault a failed attempt is: aiohttp's, a user's own part of the session, or this package's.

1. Every fault comes over a real socket, with an aiohttp session that is owned and one that is lent.
2. `SECRET` stands for what the text of a user's exception may hold: our errors never repeat it.
3. A user's exception is kept as `__cause__`; no error of aiohttp's is, as those hold the headers.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import threading
import traceback

import aiohttp
import pytest
import trustme
from aiohttp.abc import AbstractResolver

from aioparticipants import (
    APIStatusError,
    Credentials,
    DeadlineExceededError,
    InsightsSession,
    RateLimitError,
    RequestTimeoutError,
    RetryPolicy,
    SessionClosedError,
    TransportError,
)
from aioparticipants._credentials import Authorization
from aioparticipants._messages import Request, Response
from aioparticipants._settings import client_timeout
from aioparticipants._transport import Sent, Transport

from .servers import handshaking, http, last_page, never_accepting, raw, resetting, stalling

SID, OTHER = "CF" + "a" * 32, "CF" + "b" * 32
CREDENTIALS = ("AC" + "0" * 32, "s3cret-t0ken")
AUTHORIZED = Authorization(Credentials(*CREDENTIALS).authorization())
SECRET = "redis://:hunter2@10.0.0.7"
ONCE = RetryPolicy(max_attempts=1)
TWICE = RetryPolicy(max_attempts=2, base_delay=0)
PAGE = http(last_page({"label": "a"}))
PATH = f"/v1/Conferences/{SID}/Participants"
REQUEST = Request(path=PATH, query="PageSize=1000", conference_sid=SID)


def client(base_url, **options):
    return InsightsSession(CREDENTIALS, base_url=base_url, **{"retry": TWICE} | options)


@contextlib.asynccontextmanager
async def lending(base_url, *, options=None, **lender):
    """Open an aiohttp session, and a session that borrows it."""
    async with aiohttp.ClientSession(**lender) as lent:
        async with client(base_url, http=lent, **(options or {})) as session:
            yield session, lent


async def failure_of(session, **arguments):
    """Return the error that a list ends with."""
    with pytest.raises(TransportError) as caught:
        await session.participants(SID, **arguments)
    return caught.value


def chain(error):
    """Return an error and all that it refers to as its cause or context."""
    found, queue = [], [error]
    while queue:
        each = queue.pop()
        if each is not None and all(each is not one for one in found):
            found.append(each)
            queue += [each.__cause__, each.__context__]
    return found


def modules_of(error):
    return [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]


def assert_hides_aiohttp(error):
    """Fail where the chain of an error leads to anything that holds the headers."""
    for each in chain(error)[1:]:
        assert not isinstance(each, aiohttp.ClientError)
        assert not any(module.startswith("aiohttp") for module in modules_of(each))


class OwnError(Exception):
    """An exception of the user's own, of no class that aiohttp knows."""


# --- Trace hooks ---

#: What each hook needs to be called: the replies of the server, and how the connection is kept.
HOOKS = {
    "on_request_start": ([PAGE], True),
    "on_connection_create_start": ([PAGE], True),
    "on_connection_create_end": ([PAGE], True),
    "on_dns_cache_miss": ([PAGE], True),
    "on_dns_resolvehost_start": ([PAGE], True),
    "on_dns_resolvehost_end": ([PAGE], True),
    "on_request_headers_sent": ([PAGE], True),
    "on_request_end": ([PAGE], True),
    "on_request_exception": ([None], True),
}
RAISED = [
    OwnError(SECRET),
    RuntimeError(SECRET),
    ValueError(SECRET),
    KeyError(SECRET),
    OSError(5, SECRET),
    TimeoutError(SECRET),
    ssl.SSLError(1, SECRET),
    ExceptionGroup(SECRET, [ValueError(SECRET)]),
]


def raising(hook, error):
    """Return a TraceConfig one of whose hooks raises such an error, with a context of its own."""
    trace = aiohttp.TraceConfig()

    async def raise_it(_session, _context, _params):
        try:
            {}[SECRET]
        except KeyError:
            raise type(error)(*error.args)  # noqa: B904 - its context is the point

    getattr(trace, hook).append(raise_it)
    return trace


@pytest.fixture(params=["owned", "lent"])
def opened(request):
    """Return what opens a session with trace configs, on its own or a lent aiohttp session."""

    @contextlib.asynccontextmanager
    async def owned(base_url, trace_configs, **options):
        async with client(base_url, trace_configs=trace_configs, **options) as session:
            yield session

    @contextlib.asynccontextmanager
    async def lent(base_url, trace_configs, **options):
        async with lending(base_url, options=options, trace_configs=trace_configs) as (session, _):
            yield session

    return {"owned": owned, "lent": lent}[request.param]


@pytest.mark.parametrize("error", RAISED, ids=repr)
@pytest.mark.parametrize("hook", HOOKS)
async def test_what_a_trace_hook_raises(opened, hook, error):
    """What a trace hook raises, of whatever class, is a transient error that names it."""
    replies, keep_alive = HOOKS[hook]
    async with raw(*replies, keep_alive=keep_alive) as server:
        base_url = server.base_url.replace("127.0.0.1", "localhost")
        async with opened(base_url, [raising(hook, error)]) as session:
            failure = await failure_of(session)

    assert type(failure) is TransportError
    assert failure.transient
    assert f"a trace hook raised {type(error).__name__}." in str(failure)
    assert SECRET not in f"{failure} {failure!r}"
    assert type(failure.__cause__) is type(error)
    assert SECRET in str(failure.__cause__)
    assert isinstance(failure.__cause__.__context__, KeyError)
    assert modules_of(failure.__cause__) == [__name__]
    assert_hides_aiohttp(failure)
    assert [each.outcome for each in failure.attempts] == ["TransportError"] * 2


@pytest.mark.parametrize("hook", ["on_connection_reuseconn", "on_dns_cache_hit"])
async def test_what_a_later_trace_hook_raises(opened, hook):
    """What a trace hook raises at the second request loses no record of the first."""
    link = f"https://insights.twilio.com{PATH}?Page=1"
    first = http(last_page({"label": "a"}).replace(b"null", f'"{link}"'.encode()))
    async with raw(first, PAGE, keep_alive=hook == "on_connection_reuseconn") as server:
        base_url = server.base_url.replace("127.0.0.1", "localhost")
        async with opened(base_url, [raising(hook, OSError(SECRET))], retry=ONCE) as session:
            stream = session.participants(SID)
            assert (await anext(stream)).label == "a"
            with pytest.raises(TransportError, match="a trace hook raised OSError") as caught:
                await anext(stream)

    assert isinstance(caught.value.__cause__, OSError)


async def test_what_a_trace_hook_raises_of_aiohttps_errors(opened):
    """An aiohttp error that a trace hook raises is named, but not chained: it may hold headers."""
    trace = aiohttp.TraceConfig()

    async def raise_again(_session, _context, params):
        raise params.exception

    trace.on_request_exception.append(raise_again)
    async with raw(None) as server, opened(server.base_url, [trace]) as session:
        failure = await failure_of(session)

    assert "a trace hook raised ServerDisconnectedError" in str(failure)
    assert chain(failure) == [failure]


async def test_what_a_trace_hook_raises_from_aiohttps_errors(opened):
    """What a trace hook raises from an aiohttp error is chained without that error."""
    trace = aiohttp.TraceConfig()

    async def raise_from(_session, _context, params):
        raise OwnError(SECRET) from params.exception

    trace.on_request_exception.append(raise_from)
    async with raw(None) as server, opened(server.base_url, [trace]) as session:
        failure = await failure_of(session)

    assert [type(each) for each in chain(failure)] == [TransportError, OwnError]


async def test_an_error_that_is_its_own_cause(opened):
    """A chain of exceptions that forms a loop is followed once."""
    trace = aiohttp.TraceConfig()

    async def raise_loop(_session, _context, _params):
        error, other = OwnError(SECRET), OwnError(SECRET)
        other.__cause__ = error
        raise error from other

    trace.on_request_start.append(raise_loop)
    async with raw(PAGE) as server, opened(server.base_url, [trace]) as session:
        failure = await failure_of(session)

    assert [type(each) for each in chain(failure)] == [TransportError, OwnError, OwnError]


async def test_a_trace_hook_that_cannot_be_called(opened):
    """A trace hook that cannot be called is reported as one that raised."""
    trace = aiohttp.TraceConfig()

    async def takes_nothing():
        """Never called."""

    trace.on_request_start.append(takes_nothing)
    async with raw(PAGE) as server, opened(server.base_url, [trace]) as session:
        failure = await failure_of(session)

    assert "a trace hook raised TypeError" in str(failure)
    assert failure.__cause__.__traceback__ is None


async def test_a_trace_hook_that_fails_in_aiohttp(opened):
    """The frames of a request that a trace hook makes itself are the user's, and are kept."""
    trace = aiohttp.TraceConfig()

    async def ask(_session, _context, _params):
        async with aiohttp.ClientSession() as own, own.get("http://127.0.0.1:9", timeout=1, auth=1):
            """Never reached: no such auth."""

    trace.on_request_start.append(ask)
    async with raw(PAGE) as server, opened(server.base_url, [trace]) as session:
        failure = await failure_of(session)

    assert "a trace hook raised" in str(failure)
    assert modules_of(failure.__cause__)[0] == __name__


async def test_a_trace_hook_that_asks_this_package(fake, opened):
    """An error of this package that a hook of the user's let through is the hook's."""
    trace = aiohttp.TraceConfig()

    async def ask(_session, _context, _params):
        async with client("http://127.0.0.1:9", retry=ONCE) as other:
            await other.participants(OTHER)

    trace.on_request_start.append(ask)
    async with opened(fake.base_url, [trace]) as session:
        failure = await failure_of(session)

    assert "a trace hook raised TransportError" in str(failure)
    assert failure.conference_sid == SID
    assert failure.__cause__.conference_sid == OTHER


async def test_a_trace_hook_that_fails_once(fake, opened):
    """A page is complete even if a trace hook failed at the first attempt."""
    sid, calls = fake.add_conference(participants=3), []
    trace = aiohttp.TraceConfig()

    async def raise_once(_session, _context, _params):
        calls.append(1)
        if len(calls) == 1:
            raise OwnError(SECRET)

    trace.on_request_start.append(raise_once)
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, retry=TWICE, trace_configs=[trace]
    ) as session:
        assert len(await session.participants(sid)) == 3


async def test_a_trace_hook_that_fails_for_one_conference(fake, opened):
    """A fan-out goes on even if a trace hook fails for one conference."""
    sids = [fake.add_conference(participants=2) for _ in range(5)]
    trace = aiohttp.TraceConfig()

    async def raise_for_one(_session, _context, params):
        if sids[2] in params.url.path:
            raise OwnError(SECRET)

    trace.on_request_start.append(raise_for_one)
    async with opened(fake.base_url, [trace]) as session:
        session._context.authorization._authorization = Authorization(
            Credentials(*fake.credentials).authorization()
        )
        results = {each.conference_sid: each async for each in session.fan_out(sids)}

    assert {sid for sid in sids if results[sid].error is not None} == {sids[2]}
    assert isinstance(results[sids[2]].error, TransportError)
    assert isinstance(results[sids[2]].error.__cause__, OwnError)


async def test_a_cancellation_that_a_trace_hook_answers_by_an_error(opened):
    """A cancelled attempt ends as cancelled, whatever a trace hook raises because of it."""
    async with raw(...) as server:
        hook = raising("on_request_exception", OwnError(SECRET))
        async with opened(server.base_url, [hook]) as session:
            sending = session._transport.send(REQUEST, AUTHORIZED, seconds=30, sent=Sent())
            task = asyncio.create_task(sending)
            while not server.heads:  # noqa: ASYNC110 - turns of the loop
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

    assert task.cancelled()


async def test_a_deadline_that_a_trace_hook_answers_by_an_error(opened):
    """A deadline is a DeadlineExceededError, whatever a trace hook raises as it passes."""
    async with raw(...) as server:
        hook = raising("on_request_exception", OwnError(SECRET))
        async with opened(server.base_url, [hook]) as session:
            with pytest.raises(DeadlineExceededError):
                await session.participants(SID, deadline=0.2)


async def test_a_timeout_that_a_trace_hook_answers_by_an_error(opened):
    """An attempt that timed out is retried even if a trace hook failed because of it."""
    async with raw(...) as server:
        hook = raising("on_request_exception", OwnError(SECRET))
        async with opened(server.base_url, [hook], timeout=0.1) as session:
            failure = await failure_of(session)

    assert "a trace hook raised OwnError" in str(failure)
    assert len(failure.attempts) == 2


# --- Connectors, and the other parts of a lent session ---


class Socks(aiohttp.TCPConnector):
    """A connector that raises an error of its own, as those of SOCKS proxies do."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    async def _create_connection(self, req, traces, timeout):  # noqa: ASYNC109 - aiohttp's
        raise type(self.error)(*self.error.args)


class ProxyError(Exception):
    """As in python_socks."""


class ProxyConnectionError(OSError):
    """As in python_socks."""


class ProxyTimeoutError(TimeoutError):
    """As in python_socks."""


@pytest.mark.parametrize(
    "error",
    [
        ProxyError(SECRET),
        ProxyConnectionError(SECRET),
        ProxyConnectionError(111, SECRET),
        ProxyTimeoutError(SECRET),
        ValueError(SECRET),
        RuntimeError(SECRET),
    ],
    ids=repr,
)
async def test_what_a_connector_raises(error):
    """What a borrowed session's connector raises is a transient error that names and chains it."""
    async with lending("http://127.0.0.1:9", connector=Socks(error)) as (session, _):
        failure = await failure_of(session)

    assert type(failure) is TransportError
    assert failure.transient
    assert f"raised {type(error).__name__}." in str(failure)
    assert "a connector or another part of the aiohttp session" in str(failure)
    assert SECRET not in f"{failure} {failure!r}"
    assert type(failure.__cause__) is type(error)
    assert modules_of(failure.__cause__) == [__name__]
    assert_hides_aiohttp(failure)
    assert len(failure.attempts) == 2


async def test_what_a_middleware_raises():
    """What a borrowed session's middleware raises is a transient error that names and chains it."""

    async def middleware(_request, _handler):
        raise OwnError(SECRET)

    async with lending("http://127.0.0.1:9", middlewares=[middleware]) as (session, _):
        failure = await failure_of(session)

    assert "raised OwnError." in str(failure)
    assert isinstance(failure.__cause__, OwnError)


async def test_what_comes_through_a_middleware():
    """A fault of the connection keeps its message if it passes a middleware."""

    async def middleware(request, handler):
        return await handler(request)

    async with raw(None) as server:
        async with lending(server.base_url, middlewares=[middleware]) as (session, _):
            failure = await failure_of(session)

    assert "the server closed the connection without a reply" in str(failure)
    assert chain(failure) == [failure]


async def test_what_a_middleware_raises_of_aiohttps_errors():
    """A bare ClientConnectionError of an open session is not reported as a closed session."""

    async def middleware(_request, _handler):
        raise aiohttp.ClientConnectionError(SECRET)

    async with lending("http://127.0.0.1:9", middlewares=[middleware]) as (session, _):
        failure = await failure_of(session)

    assert "the attempt failed (ClientConnectionError)" in str(failure)
    assert failure.transient
    assert chain(failure) == [failure]


def test_a_lent_session_of_another_loop():
    """A RuntimeError of an open session is not reported as a closed session."""

    async def open_elsewhere(base_url):
        lent = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))
        async with lent.get(f"{base_url}{PATH}") as reply:
            await reply.read()
        return lent

    async def use(lent):
        async with client("http://localhost:9", http=lent) as session:
            return await failure_of(session)

    def connected(loop):
        async def serve():
            async with raw(PAGE) as server:
                return await open_elsewhere(server.base_url)

        return loop.run_until_complete(serve())

    first = asyncio.new_event_loop()
    lent = connected(first)
    held = lent.connector._acquired
    held.add(object())  # the only connection is in use: whoever asks has to wait for it
    failure = asyncio.run(use(lent))
    held.clear()
    first.run_until_complete(lent.close())
    first.close()

    assert "the attempt failed (RuntimeError)" in str(failure)
    assert failure.transient


async def test_a_borrowed_session_closed_during_a_request():
    """An attempt fails with SessionClosedError, without a retry, if its session is closed."""
    async with raw(...) as server, lending(server.base_url) as (session, lent):
        waiting = asyncio.create_task(session.participants(SID).all())
        while not server.heads:  # noqa: ASYNC110 - turns of the loop
            await asyncio.sleep(0)
        await lent.close()
        with pytest.raises(SessionClosedError, match="aiohttp session was closed") as caught:
            await waiting

    assert len(caught.value.attempts) == 1


async def test_a_borrowed_session_closed_while_a_request_waits_for_a_connection():
    """So does one that waits for a connection: it is not cancelled."""
    connector = aiohttp.TCPConnector(limit=1)
    async with raw(...) as server, lending(server.base_url, connector=connector) as (session, lent):
        lists = [asyncio.create_task(session.participants(SID).all()) for _ in range(2)]
        while not (server.heads and connector._waiters):  # noqa: ASYNC110 - turns of the loop
            await asyncio.sleep(0)
        await lent.close()
        outcomes = await asyncio.gather(*lists, return_exceptions=True)

    assert [type(each) for each in outcomes] == [SessionClosedError] * 2


@contextlib.asynccontextmanager
async def transport(base_url, *, lent=None):
    """Open the transport alone."""
    sender = Transport(
        base_url,
        timeout=client_timeout(5),
        connections=1,
        http=lent,
        proxy=None,
        trace_configs=(),
    )
    async with contextlib.aclosing(sender):
        yield sender


async def test_our_own_defects_propagate():
    """A defect of this package in an attempt is raised as it is."""
    async with raw(PAGE) as server:
        async with transport(server.base_url) as sender:
            with pytest.raises(AttributeError):
                await sender.send(REQUEST, AUTHORIZED, seconds=5, sent=None)
        async with transport(server.base_url) as sender:
            with pytest.raises(AttributeError):
                await sender.send(REQUEST, CREDENTIALS, seconds=5, sent=Sent())


class _Lengthless(aiohttp.ClientResponse):
    """A reply whose header has another type than the package may rely on."""

    content_length = "7"


async def test_our_own_defects_propagate_while_a_body_is_read():
    """So is a defect in reading a body."""
    async with raw(PAGE) as server:
        async with aiohttp.ClientSession(response_class=_Lengthless) as lent:
            async with transport(server.base_url, lent=lent) as sender:
                with pytest.raises(TypeError):
                    await sender.send(REQUEST, AUTHORIZED, seconds=5, sent=Sent())


# --- TLS ---


AUTHORITY = trustme.CA()


def served(**options):
    """Return the TLS settings of a server that is certified as 127.0.0.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    for name, value in options.items():
        setattr(context, name, value)
    return context


def trusting(**options):
    """Return the TLS settings of a client that trusts the authority."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    for name, value in options.items():
        setattr(context, name, value)
    return context


#: A fatal alert (RFC 8446, 6): what it says, by its number.
ALERTS = {40: "HANDSHAKE_FAILURE", 70: "PROTOCOL_VERSION", 80: "INTERNAL_ERROR", 112: "NAME"}


@pytest.mark.parametrize("number", ALERTS)
async def test_tls_alerts(number):
    """An alert in the TLS handshake is a transient fault that names the alert."""
    greeting = stalling(b"\x15\x03\x03\x00\x02\x02" + bytes([number]))
    async with raw(greeting=greeting) as server:
        async with client(server.base_url.replace("http:", "https:")) as session:
            failure = await failure_of(session)

    assert "the other side ended TLS with an alert: " in str(failure)
    assert ALERTS[number] in str(failure)
    assert failure.transient
    assert (len(failure.attempts), server.connections) == (2, 2)


async def test_tls_versions_that_do_not_meet():
    """A server that speaks other versions of TLS is a transient fault that says so."""
    newer = served(minimum_version=ssl.TLSVersion.TLSv1_3)
    older = trusting(maximum_version=ssl.TLSVersion.TLSv1_2)
    with handshaking(newer) as port:
        connector = aiohttp.TCPConnector(ssl=older)
        async with lending(f"https://127.0.0.1:{port}", connector=connector) as (session, _):
            failure = await failure_of(session)

    assert "an alert: TLSV1_ALERT_PROTOCOL_VERSION" in str(failure)
    assert failure.transient


async def test_tls_alert_behind_the_handshake():
    """An alert that comes after the client's part of the handshake is named, too."""
    picky = served(verify_mode=ssl.CERT_REQUIRED)
    with handshaking(picky) as port:
        connector = aiohttp.TCPConnector(ssl=trusting())
        async with lending(f"https://127.0.0.1:{port}", connector=connector) as (session, _):
            failure = await failure_of(session)

    assert "an alert: TLSV13_ALERT_CERTIFICATE_REQUIRED" in str(failure)
    assert failure.transient


async def test_tls_that_is_garbled():
    """A TLS handshake that fails otherwise is a transient fault, with OpenSSL's reason."""
    greeting = stalling(b"\x16\x03\x03\x00\x04\x63\x00\x00\x00")
    async with raw(greeting=greeting) as server:
        async with client(server.base_url.replace("http:", "https:")) as session:
            failure = await failure_of(session)

    assert "TLS failed: " in str(failure)
    assert failure.transient


async def test_certificate_that_is_not_the_pinned_one():
    """A certificate with another fingerprint than the pinned one is refused without a retry."""
    connector = aiohttp.TCPConnector(ssl=aiohttp.Fingerprint(b"\0" * 32))
    async with raw(PAGE, ssl=served()) as server:
        async with lending(server.base_url, connector=connector) as (session, _):
            failure = await failure_of(session)

    assert "certificate was refused (ServerFingerprintMismatch)" in str(failure)
    assert not failure.transient
    assert (server.heads, len(failure.attempts)) == ([], 1)


# --- Proxies ---


@pytest.mark.parametrize(
    ("status", "transient", "remedy"),
    [
        (407, False, "give proxy='http://user:password@host:port'"),
        (403, False, "check what it allows"),
        (400, False, "Check proxy=, and what it allows"),
        (404, False, "Check proxy=, and what it allows"),
        (429, True, "Check proxy="),
        (501, False, "Check proxy="),
        *((status, True, "Check proxy=") for status in (500, 502, 503, 504, 522)),
    ],
)
async def test_answers_of_a_proxy(status, transient, remedy):
    """A proxy's status decides on the message, the remedy and the retry."""
    async with raw(http(b"", f"{status} {SECRET}"), keep_alive=False) as proxy:
        async with client("https://127.0.0.1:9", proxy=proxy.base_url) as session:
            failure = await failure_of(session)

    assert f"the proxy answered HTTP {status} (ClientHttpProxyError)." in str(failure)
    assert remedy in str(failure)
    assert SECRET not in str(failure)
    assert failure.transient is transient
    assert len(failure.attempts) == len(proxy.heads) == (2 if transient else 1)


async def test_a_proxy_of_plain_http_that_wants_credentials():
    """A proxy's 407 to a plain http request names the proxy, and is not retried."""
    async with raw(http(b"", "407 x")) as proxy:
        async with client("http://127.0.0.1:9", proxy=proxy.base_url) as session:
            with pytest.raises(APIStatusError, match="A proxy in between asks for cred") as caught:
                await session.participants(SID)

    assert not caught.value.transient


# --- DNS, and the other phases of a timeout ---


@pytest.fixture
def hanging_lookups(monkeypatch):
    """Let the system's resolver hang until the test is over."""
    over, asked = threading.Event(), []

    def hang(host, *_args, **_options):
        asked.append(host)
        over.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield asked
    over.set()


async def test_dns_that_hangs(hanging_lookups):
    """A lookup that hangs ends with the connect timeout, and the message names DNS."""
    limit = aiohttp.ClientTimeout(total=60, sock_connect=0.1)
    async with client("https://hanging.invalid", timeout=limit) as session:
        failure = await failure_of(session)

    assert type(failure) is RequestTimeoutError
    assert "timed out while resolving the host name (DNS)" in str(failure)
    assert len(hanging_lookups) == len(failure.attempts) == 2
    assert chain(failure) == [failure]


async def test_dns_that_hangs_for_many(hanging_lookups):
    """All that wait for the same lookup fail with its timeout."""
    limit = aiohttp.ClientTimeout(total=60, sock_connect=0.1)
    async with client("https://hanging.invalid", timeout=limit, retry=ONCE) as session:
        lists = [failure_of(session) for _ in range(5)]
        failures = await asyncio.gather(*lists)

    assert all("resolving the host name (DNS)" in str(each) for each in failures)


async def test_dns_that_hangs_longer_than_an_attempt_may(hanging_lookups):
    """A lookup that hangs until the attempt times out is named as DNS, too."""
    async with client("https://hanging.invalid", timeout=0.1) as session:
        failure = await failure_of(session)

    assert "timed out while resolving the host name (DNS)" in str(failure)


class HangingResolver(AbstractResolver):
    """A resolver that never answers."""

    async def resolve(self, host, port=0, family=socket.AF_INET):
        await asyncio.Event().wait()

    async def close(self):
        pass


async def test_dns_that_hangs_in_a_lent_session():
    """In a borrowed session a lookup that hangs ends with the attempt, and is named as DNS."""
    connector = aiohttp.TCPConnector(resolver=HangingResolver())
    options = {"timeout": 0.1}
    async with lending("https://a.invalid", options=options, connector=connector) as (session, _):
        failure = await failure_of(session)

    assert type(failure) is RequestTimeoutError
    assert "timed out while resolving the host name (DNS)" in str(failure)


async def test_dns_that_answers(fake):
    """A host name is looked up as ever, and the resolver is closed with the session."""
    sid = fake.add_conference(participants=1)
    base_url = fake.base_url.replace("127.0.0.1", "localhost")
    async with InsightsSession(fake.credentials, base_url=base_url) as session:
        assert len(await session.participants(sid)) == 1


async def test_dns_that_finds_nothing(monkeypatch):
    """A name without an address is a transient error that names DNS."""

    def nothing(*_args, **_options):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    async with client("https://nowhere.invalid") as session:
        failure = await failure_of(session)

    assert "could not be resolved (ClientConnectorDNSError)" in str(failure)
    assert failure.transient


async def test_attempt_that_is_over_while_it_connects():
    """An attempt that times out while connecting says so."""
    with never_accepting() as port:
        async with client(f"http://127.0.0.1:{port}", timeout=0.2) as session:
            failure = await failure_of(session)

    assert type(failure) is RequestTimeoutError
    assert "timed out while connecting" in str(failure)


async def test_attempt_that_is_over_while_a_hook_runs(opened):
    """An attempt that times out in a trace hook says so."""
    trace = aiohttp.TraceConfig()

    async def hang(_session, _context, _params):
        await asyncio.Event().wait()

    trace.on_connection_create_start.append(hang)
    async with raw(PAGE) as server, opened(server.base_url, [trace], timeout=0.2) as session:
        failure = await failure_of(session)

    assert type(failure) is RequestTimeoutError
    assert "timed out while a trace hook ran" in str(failure)


# --- The connection of a reply ---


@pytest.mark.parametrize("kind", ["owned", "lent"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_closing_the_connection_of_a_reply(kind, secure):
    """The connection of a reply can be closed after it went back to the pool; no other one is."""
    answers = [http(last_page({"label": label})) for label in "abc"]
    # Nothing else tells against this connection: without being closed it would be used again.
    async with raw(*answers, ssl=served() if secure else None) as server:
        # Our own connector trusts no such certificate: it is given one that does.
        connector = aiohttp.TCPConnector(ssl=trusting()) if secure or kind == "lent" else None
        async with contextlib.AsyncExitStack() as stack:
            lent = connector and await stack.enter_async_context(
                aiohttp.ClientSession(connector=connector)
            )
            sender = await stack.enter_async_context(transport(server.base_url, lent=lent))
            send = functools.partial(sender.send, REQUEST, AUTHORIZED, seconds=5, sent=Sent())
            first = await send()
            first.close_connection()
            first.close_connection()  # it is closed already
            second = await send()
            third = await send()

    assert [b'"%b"' % label in reply.body for label, reply in
            ((b"a", first), (b"b", second), (b"c", third))] == [True] * 3  # fmt: skip
    assert (len(server.heads), server.connections) == (3, 2)


async def test_closing_the_connection_of_a_refusal():
    """So can that of a refusal, and one that the server has closed."""
    async with raw(http(b"", "429 x"), closing_reply(), PAGE) as server:
        async with transport(server.base_url) as sender:
            send = functools.partial(sender.send, REQUEST, AUTHORIZED, seconds=5, sent=Sent())
            for _ in range(2):
                (await send()).close_connection()
            assert (await send()).status == 200

    assert server.connections == 3


def closing_reply():
    """Return a reply that closes its connection."""

    async def reply(_reader, writer):
        writer.write(PAGE)
        await writer.drain()

    return reply


def test_closing_a_reply_that_came_on_no_connection():
    """A reply that is made by hand has nothing to close, and equals one that has."""
    reply = Response(status=200, headers={}, body=b"")

    assert reply.close_connection() is None
    assert reply == Response(status=200, headers={}, body=b"", close_connection=print)
    assert "close" not in repr(reply)


# --- Statuses between the two ---


@pytest.mark.parametrize("status", [509, 520, 599, 600])
async def test_statuses_of_gateways(status):
    """A page is complete after one of a gateway's own 5xx."""
    async with raw(http(b"<html>", f"{status} x"), PAGE) as server:
        async with client(server.base_url) as session:
            assert len(await session.participants(SID)) == 1

    assert len(server.heads) == 2


async def test_connection_that_is_reset_keeps_no_cause():
    """A connection that is reset without any part of the user's is reported as reset."""
    async with raw(resetting()) as server, client(server.base_url) as session:
        failure = await failure_of(session)

    assert type(failure) is TransportError
    assert not isinstance(failure, RateLimitError)
    assert "was reset" in str(failure)
    assert chain(failure) == [failure]
