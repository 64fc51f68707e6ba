"""TLS with a CA of one's own, and real forward proxies, over real sockets."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import aiohttp
import pytest
import trustme

from aioparticipants import (
    APIStatusError,
    Credentials,
    InsightsSession,
    InvalidRequestError,
    RetryPolicy,
    TransportError,
)
from aioparticipants._settings import checked_ssl

from .servers import forward_proxy, http, last_page, raw

SID = "CF" + "a" * 32
CREDENTIALS = ("AC" + "0" * 32, "s3cret-t0ken")
AUTHORIZATION = Credentials(*CREDENTIALS).authorization()
PASSWORD = "user:Pr0xyPassw0rd"
LINK = f"https://insights.twilio.com/v1/Conferences/{SID}/Participants?Page=1"
FIRST = http(last_page({"label": "a"}).replace(b"null", f'"{LINK}"'.encode()))
SECOND = http(last_page({"label": "b"}))
AUTHORITY = trustme.CA()


def client(base_url, **options):
    """Return a session that makes at most two attempts at a page."""
    retry = RetryPolicy(max_attempts=2, base_delay=0.001)
    return InsightsSession(CREDENTIALS, base_url=base_url, **{"retry": retry} | options)


def served(*names, authority=AUTHORITY, **options):
    """Return the TLS settings of a server that is certified as `names`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


def trusting():
    """Return the TLS settings of a client that trusts the authority."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def with_password(proxy, password=PASSWORD):
    return proxy.url.replace("//", f"//{password}@")


async def labels(session):
    return [each.label for each in await session.participants(SID)]


# --- ssl= ---


async def test_a_ca_of_ones_own():
    """With an SSLContext that trusts its CA, a server is read, over one connection."""
    async with raw(FIRST, SECOND, ssl=served("127.0.0.1")) as server:
        async with client(server.base_url, ssl=trusting()) as session:
            assert await labels(session) == ["a", "b"]

    assert f"Authorization: {AUTHORIZATION}\r\n" in server.heads[0]
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
    """A certificate that the SSLContext refuses costs one handshake: no request, no retry."""
    handshakes = []
    # It has to return None, which lets the handshake go on.
    context.sni_callback = lambda _socket, name, _context: handshakes.append(name)
    async with raw(SECOND, ssl=context) as server:
        async with client(server.base_url, ssl=trusting()) as session:
            with pytest.raises(TransportError, match=r"certificate was refused.* ssl=") as caught:
                await session.participants(SID)

    assert not caught.value.transient
    assert [each.outcome for each in caught.value.attempts] == ["TransportError"]
    assert (server.heads, len(handshakes)) == ([], 1)


def unchecked():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def optional():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def nameless():
    context = ssl.create_default_context()
    context.check_hostname = False
    return context


@pytest.mark.parametrize(
    ("given", "words"),
    [
        *((each, "ssl must be an ssl.SSLContext") for each in (False, True, "ca.pem", ssl)),
        (ssl.SSLContext, "ssl must be an ssl.SSLContext"),
        (aiohttp.Fingerprint(b"\0" * 32), "ssl must be an ssl.SSLContext"),
        *((each(), "must check .* certificate and host name") for each in (unchecked, optional)),
        (nameless(), "must check .* certificate and host name"),
        (served("127.0.0.1"), "must check .* certificate and host name"),
    ],
)
def test_checking_cannot_be_turned_off(given, words):
    """Only an SSLContext that checks certificates and host names is accepted."""
    with pytest.raises(InvalidRequestError, match=words):
        checked_ssl(given)
    with pytest.raises(InvalidRequestError, match=words):
        InsightsSession(CREDENTIALS, ssl=given)


async def test_ssl_of_a_borrowed_session():
    """An SSLContext beside a borrowed session would be ignored, so it is refused."""
    async with aiohttp.ClientSession() as lent:
        with pytest.raises(InvalidRequestError, match=r"aiohttp.TCPConnector\(ssl="):
            InsightsSession(CREDENTIALS, http=lent, ssl=trusting())


# --- proxy= ---


@pytest.mark.parametrize("secure", [False, True], ids=["http proxy", "https proxy"])
async def test_a_tunnel(secure):
    """A list of https comes through one tunnel of a proxy, which sees no credentials of Twilio."""
    tls = served("127.0.0.1") if secure else None
    async with (
        raw(FIRST, SECOND, ssl=served("127.0.0.1")) as server,
        forward_proxy(PASSWORD, ssl=tls) as proxy,
        client(server.base_url, ssl=trusting(), proxy=with_password(proxy)) as session,
    ):
        assert await labels(session) == ["a", "b"]

    [head] = proxy.heads
    assert head.startswith(f"CONNECT {server.base_url.removeprefix('https://')} HTTP/1.1\r\n")
    seen = head + proxy.through.decode("latin-1")
    assert not any(each in seen for each in (AUTHORIZATION, "\r\nAuthorization", SID))
    assert f"Authorization: {AUTHORIZATION}\r\n" in server.heads[0]
    assert not any("Proxy-" in each for each in server.heads)


async def test_a_forwarding_proxy(fake):
    """A list of plain http comes through a proxy that is asked for absolute URLs."""
    sid = fake.add_conference(participants=7)
    async with forward_proxy(PASSWORD) as proxy:
        async with InsightsSession(
            fake.credentials, base_url=fake.base_url, proxy=with_password(proxy)
        ) as session:
            assert len(await session.participants(sid, page_size=3)) == 7

    url = f"{fake.base_url}/v1/Conferences/{sid}/Participants"
    assert [each.split("?")[0] for each in proxy.heads] == [f"GET {url}"] * 3
    assert [each.status for each in fake.requests] == [200] * 3


@pytest.mark.parametrize("password", [None, "user:another"])
async def test_a_proxy_that_refuses_its_password(password):
    """A 407 says what to give, and is not retried; the server sees nothing."""
    async with (
        raw(SECOND, ssl=served("127.0.0.1")) as server,
        raw(SECOND) as plain,
        forward_proxy(PASSWORD) as proxy,
    ):
        url = proxy.url if password is None else with_password(proxy, password)
        async with client(server.base_url, ssl=trusting(), proxy=url) as session:
            with pytest.raises(TransportError, match=r"HTTP 407.*user:password@host") as tunnelled:
                await session.participants(SID)
        async with client(plain.base_url, proxy=url) as session:
            with pytest.raises(APIStatusError, match=r"HTTP 407.*user:password@host") as forwarded:
                await session.participants(SID)

    for error in (tunnelled.value, forwarded.value):
        assert len(error.attempts) == 1
        assert "another" not in repr(error)
    assert (len(proxy.heads), server.connections, plain.connections) == (2, 0, 0)


async def test_a_proxy_with_another_hosts_certificate():
    """The certificate of an https proxy is checked as the server's is; a bad one is not retried."""
    async with (
        raw(SECOND, ssl=served("127.0.0.1")) as server,
        forward_proxy(ssl=served("proxy.example")) as proxy,
        client(server.base_url, ssl=trusting(), proxy=proxy.url) as session,
    ):
        with pytest.raises(TransportError, match="certificate was refused") as caught:
            await session.participants(SID)

    assert not caught.value.transient
    assert len(caught.value.attempts) == 1
    assert (proxy.heads, server.connections) == ([], 0)


# --- trace_configs= and user_agent=, with the two above ---


async def test_traces_of_tunnelled_requests():
    """Trace hooks see each request and its connection through a tunnel, with its URL."""
    seen = []
    trace = aiohttp.TraceConfig()

    async def connected(_session, _context, _params):
        seen.append("connected")

    async def sent(_session, _context, params):
        seen.append(str(params.url).split("?")[0])

    trace.on_connection_create_end.append(connected)
    trace.on_request_headers_sent.append(sent)
    async with (
        raw(FIRST, SECOND, ssl=served("127.0.0.1")) as server,
        forward_proxy() as proxy,
        client(server.base_url, ssl=trusting(), proxy=proxy.url, trace_configs=[trace]) as session,
    ):
        assert await labels(session) == ["a", "b"]

    url = f"{server.base_url}/v1/Conferences/{SID}/Participants"
    assert [each for each in seen if each != "connected"] == [url, url]
    assert seen.count("connected") == 1


async def test_user_agent():
    """The name of the user's program is added to the User-Agent, which a tunnel does not show."""
    name = "call-reports/1.4 (+https://example.com)"
    async with (
        raw(SECOND, ssl=served("127.0.0.1")) as server,
        forward_proxy() as proxy,
        client(server.base_url, ssl=trusting(), proxy=proxy.url, user_agent=name) as session,
    ):
        await session.participants(SID)

    [line] = [each for each in server.heads[0].split("\r\n") if each.startswith("User-Agent: ")]
    assert line.startswith("User-Agent: aioparticipants/")
    assert line.endswith(f" {name}")
    assert "call-reports" not in proxy.heads[0]
