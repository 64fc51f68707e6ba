"""Credentials go to nobody else, and nothing that is shown contains a secret.

A `Guard` watches every session of this file. A second server plays the thief wherever a reply or an
argument tries to redirect the session, and must not see a single connection.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import json
import logging
import pickle
import re
import socket
import ssl
import traceback
import warnings
from datetime import UTC, datetime

import aiohttp
import pytest
import trustme
from aiohttp.abc import AbstractResolver
from yarl import URL

from aioparticipants import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    Credentials,
    CursorExpiredError,
    DeadlineExceededError,
    InsightsError,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    PaginationError,
    PermissionDeniedError,
    RateLimitError,
    RecordStream,
    RequestTimeoutError,
    ResponseError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    TransportError,
)
from aioparticipants._credentials import Authorization
from aioparticipants._messages import Request, Response
from aioparticipants._settings import client_timeout
from aioparticipants._transport import LARGEST_BODY, Sent, Transport

from .servers import Raw, forward_proxy, http, last_page, raw
from .test_errors import CLASSES
from .test_paging import HOSTILE, PATH, SID

# Each is a word that percent-encoding leaves as it is, so that one search finds every form of it.
USERNAME = "SK" + "7" * 32
PASSWORD = "Tr0ub4dorAndThree"
PROXY_PASSWORD = "Pr0xyPassw0rdOfTheHouse"
PHONE = "15005550006"
LABEL = "LabelOfMsPrivate"
CREDENTIALS = (USERNAME, PASSWORD)
AUTHORIZATION = Credentials(*CREDENTIALS).authorization()
AUTHORIZED = Authorization(AUTHORIZATION)

ONCE = RetryPolicy(max_attempts=1)
QUICK = RetryPolicy(max_attempts=3, base_delay=0.001)
RECORD = {"label": LABEL, "from": f"+{PHONE}", "to": f"client:{LABEL}"}
CP = "CP" + "1" * 32
DAY = datetime(2026, 3, 2, tzinfo=UTC)


# --- The guard: no request leaves with Authorization except to the session's own origin ---


class Guard:
    """Makes sessions, and watches every request that aiohttp sends for them."""

    def __init__(self):
        self.requests: list[tuple[URL, dict[str, str]]] = []
        self.trespasses: list[str] = []

    def trace(self, base_url):
        """Return a TraceConfig for an aiohttp session that may only send to `base_url`."""
        own = URL(base_url).origin()
        trace = aiohttp.TraceConfig()

        def look(event, url, headers):
            if "Authorization" in headers and URL(url).origin() != own:
                self.trespasses.append(f"{event}: Authorization for {URL(url).origin()}")
            if URL(url).origin() != own:
                self.trespasses.append(f"{event}: a request to {URL(url).origin()}")
            if "Cookie" in headers:
                self.trespasses.append(f"{event}: a cookie")

        async def started(_session, _context, params):
            look("start", params.url, params.headers)

        async def sent(_session, _context, params):
            self.requests.append((params.url, dict(params.headers)))
            look("sent", params.url, params.headers)

        async def redirected(_session, _context, params):
            self.trespasses.append(f"a redirect of {params.url} was followed")

        trace.on_request_start.append(started)
        trace.on_request_headers_sent.append(sent)
        trace.on_request_redirect.append(redirected)
        return trace

    def session(self, base_url, **options):
        """Return a watched session; a borrowed aiohttp session has to be watched already."""
        options = {"retry": ONCE} | options
        if options.get("http") is None:
            options["trace_configs"] = [self.trace(base_url)]
        return InsightsSession(CREDENTIALS, base_url=base_url, **options)


@pytest.fixture
def guard():
    """Return a guard, and fail a test whose request went to another host."""
    watching = Guard()
    yield watching
    assert watching.trespasses == []


@pytest.fixture
async def thief():
    """Return a server that must see no connection at all."""
    async with raw(http(last_page(RECORD))) as server:
        yield server
        await asyncio.sleep(0)
        assert (server.connections, server.heads) == (0, [])


@contextlib.asynccontextmanager
async def listening(handler, tls=None):
    """Serve connections with `handler`, a `Raw` or a function, and give the port."""
    running: set[asyncio.Task] = set()

    async def serve(reader, writer):
        running.add(asyncio.current_task())
        with contextlib.suppress(asyncio.CancelledError):  # Python 3.11 would tell of it
            await handler(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()


async def test_guard_is_no_blind_one():
    """The guard sees a header that goes to another host, a redirect that is followed, a cookie."""
    guard = Guard()
    async with raw(http(b"")) as other:
        redirect = http(b"", "302 Found", f"Location: {other.base_url}/", "Set-Cookie: a=b")
        async with (
            raw(redirect) as own,
            aiohttp.ClientSession(
                trace_configs=[guard.trace(own.base_url)],
                cookie_jar=aiohttp.CookieJar(unsafe=True),
            ) as session,
        ):
            await session.get(own.base_url, headers={"Authorization": AUTHORIZATION})
            await session.get(other.base_url, headers={"Authorization": AUTHORIZATION})

    told = " ".join(guard.trespasses)
    assert f"Authorization for {other.base_url}" in told
    assert "was followed" in told
    assert "a cookie" in told


# --- Next links ---

MORE_HOSTILE = [
    "?Page=1",
    f"\\\\evil.example{PATH}?Page=1",
    f"/\\evil.example{PATH}?Page=1",
    f"///evil.example{PATH}?Page=1",
    f"https:/evil.example{PATH}?Page=1",
    f"https:evil.example{PATH}?Page=1",
    f"https:///evil.example{PATH}?Page=1",
    f"https://@evil.example{PATH}?Page=1",
    f"https://evil.example#@insights.twilio.com{PATH}?Page=1",
    f"https://evil.example?@insights.twilio.com{PATH}?Page=1",
    f"https://evil.example/@insights.twilio.com{PATH}?Page=1",
    f"https://evil.example/{PATH}?Page=1",
    f"https://insights.twilio.com%2f@evil.example{PATH}?Page=1",
    f"https://insights.twilio.com%5c@evil.example{PATH}?Page=1",
    f"https://insights.twilio.com:443@evil.example{PATH}?Page=1",
    f"https://[evil.example]{PATH}?Page=1",
    f"https://:443{PATH}?Page=1",
    f"https://evil.example:-1{PATH}?Page=1",
    f"https://evil.example:\u0661{PATH}?Page=1",
    f"https://evil.example/.{PATH}?Page=1",
    f"https://evil.example/v1/./Conferences/{SID}/Participants?Page=1",
    f"https://evil.example/v1/%2e%2e{PATH}?Page=1",
    f"https://evil.example{PATH}%3FPage=1",
    f"https://evil.example{PATH}%00?Page=1",
    f"https://evil.example{PATH}\x00?Page=1",
    f"https://evil.example{PATH}?Page=1\x00",
    f"https://evil.example{PATH}?Page=1 HTTP/1.1",
    f"https://evil.example{PATH}?Page=1\x7f",
    f"https://evil.example{PATH}?Page=1\n",
    f"ws://evil.example{PATH}?Page=1",
    f"blob:https://evil.example{PATH}?Page=1",
    f"view-source:https://evil.example{PATH}?Page=1",
    f"data:text/html,https://evil.example{PATH}?Page=1",
    f"\u200bhttps://evil.example{PATH}?Page=1",
    f"https\uff1a//evil.example{PATH}?Page=1",
    f"https://evil.example\uff0f{PATH}?Page=1",
]


def turned_to(link, server):
    """Return a link with each of its hosts replaced by that of a server, dots of any kind kept."""
    host, port = URL(server.base_url).host, URL(server.base_url).port
    link = link.replace("insights\u3002twilio.com", host.replace(".", "\u3002") + f":{port}")
    for name in ("insights.twilio.com", "evil.example"):
        link = link.replace(name, f"{host}:{port}")
    return link


def linked(link, *records):
    """Return the body of a page that goes on at `link`."""
    page = {"participants": records, "meta": {"next_page_url": link}}
    return json.dumps(page).encode()


@pytest.mark.parametrize("link", HOSTILE + MORE_HOSTILE)
async def test_hostile_next_links(guard, thief, link):
    """A hostile next link loses no record of its page, and no credential leaves."""
    body = linked(turned_to(link, thief), {"label": "a"}, {"label": "b"})
    async with raw(http(body)) as own, guard.session(own.base_url, retry=QUICK) as session:
        stream = session.participants(SID)
        got = [(await anext(stream)).label, (await anext(stream)).label]
        for _ in range(2):
            with pytest.raises(PaginationError, match="was not followed"):
                await anext(stream)

    assert got == ["a", "b"]
    assert len(own.heads) == len(guard.requests) == 1


@pytest.mark.parametrize("link", [7, True, ["https://evil.example"], {"href": "evil.example"}, 1.5])
async def test_next_links_that_are_no_text(guard, thief, link):
    """A page whose next link is no string is refused."""
    async with raw(http(linked(link))) as own, guard.session(own.base_url) as session:
        with pytest.raises(ResponseError) as caught:
            await session.participants(SID)

    assert caught.value.path == "meta.next_page_url"
    assert len(own.heads) == 1


# The path and the query are this list's: wherever they are said to be, they are asked for here.
ELSEWHERE = [
    ("https://{thief}", "PageSize=2&Page=1&PageToken=PT%2Fa%2bb=="),
    ("http://{thief}", "Page=1&X=%0d%0aX-Evil:%201%0d%0a%0d%0aGET%20/evil"),
    ("HTTP://{thief}", "Page=1&Next=https://evil.example/?a=b"),
    ("http://localhost:{port}", "Page=1&<>\"'`{{|}}^~"),
    ("http://[::ffff:127.0.0.1]:{port}", "Page=1"),
    ("http://0x7f000001:{port}", "Page=1"),
    ("https://evil.example", "Page=1"),
    ("https://EVIL.example:443", "Page=1"),
    ("https://evil%2eexample", "Page=1"),
    ("https://insights.twilio.com.evil.example", "Page=1"),
    ("https://169.254.169.254", "Page=1"),
]


@pytest.mark.parametrize(("origin", "query"), ELSEWHERE)
@pytest.mark.parametrize("path", [PATH, PATH.lower()])
async def test_next_links_to_another_host_are_asked_for_here(guard, thief, origin, query, path):
    """The query of a link to another host is sent, byte for byte, to the session's own origin."""
    place = URL(thief.base_url)
    origin = origin.format(thief=place.authority, port=place.port)
    query = query.format()
    first = http(linked(f"{origin}{path}?{query}", {"label": "a"}))
    async with raw(first, http(last_page({"label": "b"}))) as own:
        async with guard.session(own.base_url) as session:
            found = await session.participants(SID)

    assert [each.label for each in found] == ["a", "b"]
    request_line, *headers = own.heads[1].rstrip().split("\r\n")
    assert request_line == f"GET {PATH}?{query} HTTP/1.1"
    assert {line.partition(":")[0] for line in headers} == {
        "Host",
        "Accept",
        "Accept-Encoding",
        "Authorization",
        "User-Agent",
    }
    assert f"Host: {URL(own.base_url).authority}" in headers
    assert len(own.heads) == 2


# --- Redirects ---


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["{thief}{path}", "//{host}/", "http://{user}@{host}/"])
async def test_redirects_are_not_followed(guard, thief, status, location):
    """A redirect is an error after one request, and the credentials go nowhere."""
    target = location.format(
        thief=thief.base_url,
        path=PATH,
        user=f"{USERNAME}:{PASSWORD}",
        host=URL(thief.base_url).authority,
    )
    reply = http(b"", f"{status} Over There", f"Location: {target}", "Refresh: 0; url=" + target)
    async with raw(reply) as own, guard.session(own.base_url, retry=QUICK) as session:
        with pytest.raises(APIStatusError, match="Redirects are not followed") as caught:
            await session.participants(SID)

    assert caught.value.status == status
    assert len(own.heads) == len(guard.requests) == 1
    assert leaks(caught.value) == []


# --- Bad input: refused with nothing sent ---

BAD_SESSIONS = [
    {"base_url": url}
    for url in (
        "http://{thief}.evil.example",
        "http://evil.example",
        "http://insights.twilio.com",
        "http://localhost@{thief}",
        "http://localhost:80@{thief}",
        "http://user:pw@{thief}",
        "http://@{thief}",
        "http://localhost.",
        "http://localhost.evil.example",
        "http://0.0.0.0:{port}",
        "http://127.1:{port}",
        "http://2130706433:{port}",
        "http://0x7f.1:{port}",
        "http://[::ffff:127.0.0.1]:{port}",
        "http://[::]:{port}",
        "http://\uff4cocalhost:{port}",
        "http://127\u30020\u30020\u30021:{port}",
        "http:{thief}",
        "http:/{thief}",
        "//{thief}",
        "ws://{thief}",
        "ftp://{thief}",
        "file:///etc/passwd",
        "http://{thief}/v1",
        "http://{thief}//",
        "http://{thief}/..",
        "http://{thief}\\",
        "http://{thief}?",
        "http://{thief}?a=b",
        "http://{thief}#",
        "http://{thief}/#a",
        "http://{thief}\n",
        "http://{thief}\r\nX-Evil: 1",
        " http://{thief}",
        "http://{thief}\t",
        "http://{thief}0000",
        "http://{thief}:80",
        "http://[{thief}",
        "https://evil.example%0d%0aX-Evil:1",
        "https://evil.example%00.twilio.com",
        "https://evil%2eexample",
        "https://evil.example;.twilio.com",
        "https://evil,example",
        "https://<evil>",
        "https://*.twilio.com",
        "https://.",
    )
] + [
    {"base_url": b"http://127.0.0.1"},
    {"base_url": 7},
    {"base_url": ["https://insights.twilio.com"]},
    {"base_url": "http://127.0.0.1:{port}", "region": "ie1", "edge": "dublin"},
    {"region": "jp1"},
    *(
        {"region": word, "edge": "dublin"}
        for word in (
            "", "ie1\n", "IE1", "x@{thief}/", "{thief}", "evil.example/", "evil.example#", "a.b",
            "ie1:80", "-ie1", "ie1-", "ie_1", "\u0131e1", "\u0661", "ie1%2e", "ie1\x00", "a" * 33,
            7, b"ie1",
        )
    ),
    *(
        {"edge": word}
        for word in ("", "dublin\n", "x@{thief}/", "evil.example/", "..", "a b", "d\u00fcblin", 7)
    ),
]  # fmt: skip


async def accepted(candidates, use):
    """Return the candidates that `use` does not refuse, or with an error that repeats them."""
    found = []
    for each in candidates:
        error = None
        try:
            await use(each)
        except Exception as raised:  # noqa: BLE001 - told with the candidate
            error = raised
        refused = isinstance(error, InvalidRequestError) and "evil" not in repr(error).lower()
        if not refused or leaks(error):
            found.append((each, error))
    return found


async def test_places_that_are_not_safe(thief):
    """A base URL that the credentials must not go to is refused by the constructor."""
    place = URL(thief.base_url)

    async def use(options):
        filled = {
            name: value.format(thief=place.authority, port=place.port)
            if isinstance(value, str)
            else value
            for name, value in options.items()
        }
        async with InsightsSession(CREDENTIALS, retry=ONCE, **filled) as session:
            await session.participants(SID)

    assert await accepted(BAD_SESSIONS, use) == []


async def test_places_of_the_environment_that_are_not_safe():
    """Region and edge from the environment are checked like those of the caller."""
    environ = {
        "TWILIO_API_KEY": USERNAME,
        "TWILIO_API_SECRET": PASSWORD,
        "TWILIO_REGION": "ie1",
        "TWILIO_EDGE": "dublin",
    }

    async def use(changed):
        InsightsSession.from_env(environ | changed)

    words = ("ie1\n", "evil.example/", "x@evil.example/", "IE1", "\u0661")
    changes = [{name: word} for name in ("TWILIO_REGION", "TWILIO_EDGE") for word in words]
    assert await accepted(changes, use) == []


NO_SIDS = [
    "", "{}", "{}\n", "\n{}", "{}/", "{}/..", "{}?x=1", "{}#", "{}%0a", "{}\x00", "{}\r\nX-Evil: 1",
    "../{}", "..%2f{}", "../../2010-04-01/Accounts", "//evil.example/{}", "@evil.example/{}",
    " {}", "{} ", "\u200b{}", "\uff23\uff26{}",
]  # fmt: skip
DIGITS = ["a" * 31, "a" * 33, "g" * 32, "\u0663" * 32, "\uff11" * 32, "\u00b2" * 32]
NO_CONFERENCES = [
    *(form.format(SID) for form in NO_SIDS if form != "{}"),
    *("CF" + digits for digits in DIGITS),
    *(prefix + "a" * 32 for prefix in ("CA", "AC", "cf", "Cf", "FC", "")),
    *(7, True, SID.encode(), [SID], {SID}, URL(SID), bytearray(SID.encode())),
]


async def test_sids_that_are_none(guard, fake):
    """What is no SID is refused, and nothing is sent."""
    async with guard.session(fake.base_url) as session:

        async def use(arguments):
            await session.participants(**arguments)

        calls = [
            *({"conference_sid": sid} for sid in [*NO_CONFERENCES, None, "CP" + "a" * 32]),
            *({"conference_sid": SID, "participant_sid": sid} for sid in [*NO_CONFERENCES, SID]),
        ]
        assert await accepted(calls, use) == []

    assert (fake.requests, guard.requests) == ([], [])


CONTROLS = ["\r\nX-Evil: 1", "\r", "\n", "\x00", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\ud800"]


async def test_credentials_that_would_break_the_header():
    """No line ending, control character or colon of a credential comes near a header."""

    async def use(pair):
        InsightsSession(pair)

    pairs = [
        (USERNAME + ":", PASSWORD),  # RFC 7617: a password, though, may hold colons
        *((USERNAME + control, PASSWORD) for control in CONTROLS),
        *((USERNAME, PASSWORD + control) for control in CONTROLS),
        *((USERNAME, control + PASSWORD) for control in CONTROLS),
    ]
    assert await accepted(pairs, use) == []


@pytest.mark.parametrize("password", ["pa:ss", "pässwörd", "пароль", "密码", "p🔑", "p a s s"])
async def test_credentials_beyond_latin_are_one_plain_line(guard, password):
    """Whatever characters a password has, its header is base64 on one line (RFC 7617, UTF-8)."""
    async with raw(http(last_page())) as own:
        async with InsightsSession(
            (USERNAME, password),
            base_url=own.base_url,
            retry=ONCE,
            trace_configs=[guard.trace(own.base_url)],
        ) as session:
            await session.participants(SID)

    (line,) = [each for each in own.heads[0].split("\r\n") if each.startswith("Authorization")]
    sent = base64.b64decode(line.removeprefix("Authorization: Basic "), validate=True)
    assert sent.decode() == f"{USERNAME}:{password}"


FILTERS = [f"a{control}b" for control in CONTROLS[:-1]] + ["a&PageSize=1", "a#", "a?b/../c", "a+b%"]


@pytest.mark.parametrize("name", ["label", "events"])
async def test_filters_stay_values(guard, fake, name):
    """A filter's characters stay in its value, and add no parameter, path or header."""
    sid = fake.add_conference(participants=1)
    async with guard.session(fake.base_url) as session:
        for value in FILTERS:
            with pytest.raises(AuthenticationError):  # the fake's own credentials are others
                await session.participants(sid, **{name: value})

    assert [seen.query for seen in fake.requests] == [
        {name.capitalize(): value, "PageSize": "1000"} for value in FILTERS
    ]
    assert {seen.path for seen in fake.requests} == {f"/v1/Conferences/{sid}/Participants"}


# --- Secrets and personal data: searched for in all that an error shows ---


def forms(secret):
    """Return a secret as text and inside base64, wherever in a group of three bytes it begins."""
    found = [secret]
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + secret.encode())
        # The first and the last group share bits with what stands around the secret.
        found.append(whole[4 if before else 0 : -4].decode())
    return found


OF_CREDENTIALS = [
    *(form for secret in (PASSWORD, PROXY_PASSWORD) for form in forms(secret)),
    AUTHORIZATION.removeprefix("Basic "),
]
PERSONAL = [form for secret in (PHONE, LABEL) for form in forms(secret)]


def chain(error):
    """Return an error and all that it refers to as its cause or context."""
    found, queue = [], [error]
    while queue:
        each = queue.pop()
        if each is not None and all(each is not one for one in found):
            found.append(each)
            queue += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    return found


#: Their functions are called with the caller's own arguments, and refuse some of them: these are
#: variables of the caller's frames anyhow.
CALLED_WITH_ARGUMENTS = {
    "_arguments",
    "_credentials",
    "_cursors",
    "_lists",
    "_resources",
    "_session",
    "_settings",
}


def variables(error):
    """Yield what tools such as Sentry add to a traceback: the variables of our own frames."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package, _, room = frame.f_globals.get("__name__", "").partition(".")
        if package == "aioparticipants" and room not in CALLED_WITH_ARGUMENTS:
            for name, value in frame.f_locals.items():
                yield f"variable {name} of {frame.f_code.co_qualname}", repr(value)


def shown(error):
    """Yield what can be seen of one error: where, and the text."""
    yield "str", str(error)
    yield "repr", repr(error)
    yield "args", repr(error.args)
    yield "attributes", repr(vars(error))
    yield "notes", repr(getattr(error, "__notes__", ()))
    yield "traceback", "".join(traceback.format_exception(error, chain=True))
    yield from variables(error)
    if isinstance(error, InsightsError):
        yield "pickle", pickle.dumps(error).decode("latin-1")
        yield "protocol 0", pickle.dumps(error, protocol=0).decode("latin-1")
        yield "copy", repr(vars(copy.deepcopy(error)))


def leaks(error):
    """Return where an error shows a secret or personal data, its chain included.

    What the server said can echo the caller's input: it is personal where it is documented to be,
    in `message` and `details`, but it is no place for credentials either.
    """
    found = []
    for each in chain(error):
        found += [(w, s) for w, text in shown(each) for s in OF_CREDENTIALS if s in text]
        if isinstance(each, APIStatusError):
            message, details = each.message, each.details
            each.message, each.details = None, {}
            found += [(w, s) for w, text in shown(each) for s in PERSONAL if s in text]
            each.message, each.details = message, details
        else:
            found += [(w, s) for w, text in shown(each) for s in PERSONAL if s in text]
    return found


def logged(caplog):
    """Return the secrets and the personal data in what was logged, at whatever level."""
    texts = [caplog.text]
    for record in caplog.records:
        texts += [record.getMessage(), repr(vars(record))]
    return [secret for secret in OF_CREDENTIALS + PERSONAL if any(secret in t for t in texts)]


def test_search_finds(caplog):
    """The search finds each secret, in each of its forms, in each place."""
    for secret in (PASSWORD, PROXY_PASSWORD, PHONE, LABEL):
        encoded = [base64.b64encode(f"{before}{secret}!".encode()) for before in ("", "a", "ab")]
        for text in (secret, *(each.decode() for each in encoded)):
            error = InvalidRequestError("fine")
            error.__context__ = KeyError(text)
            assert leaks(error)
    error = TransportError("fine")
    error.path = f"x{AUTHORIZATION}"
    assert {where for where, _ in leaks(error)} >= {"attributes", "pickle", "protocol 0", "copy"}
    assert leaks(TransportError("fine")) == []
    caplog.set_level(logging.DEBUG)
    logging.getLogger("aiohttp.client").debug("sent %s", AUTHORIZATION)
    assert logged(caplog)


# --- Every error of the family, provoked with secrets all around ---


async def participants(session, **options):
    await session.participants(SID, label=LABEL, **options)


async def conferences(session, **options):
    await session.conferences(created_after=DAY, friendly_name=LABEL, **options)


async def conference(session, **options):
    await session.conference(SID, **options)


async def participant(session, **options):
    await session.participant(SID, CP, events=LABEL, **options)


def wire(*replies, ask=participants, **options):
    """Return what asks a server that answers with these bytes."""

    async def provoke(guard):
        async with raw(*replies, keep_alive=False) as own:
            async with guard.session(own.base_url, **options) as session:
                await ask(session)

    return provoke


def status(code, ask=participants):
    """Return what asks a server that refuses, and repeats the request."""
    said = f"no {LABEL} at +{PHONE}"
    body = json.dumps({"code": 20001, "message": said, "label": LABEL, "from": f"+{PHONE}"})
    return wire(http(body.encode(), f"{code} {LABEL} {PHONE}", f"X-Asked: {LABEL}"), ask=ask)


def page(*records, **members):
    """Return what gets these records, or a body that has other members."""
    return wire(http(json.dumps(json.loads(last_page(*records)) | members).encode()))


def next_link(link):
    """Return what gets a page that goes on at a link."""
    return wire(http(linked(link, RECORD)))


async def expired_cursor(guard):
    first = http(linked(f"https://a.example{PATH}?PageToken={LABEL}&Page=1", {}))
    refusal = http(json.dumps({"code": 21481, "message": LABEL}).encode(), f"400 {LABEL}")
    async with raw(first, refusal) as own, guard.session(own.base_url) as session:
        async with session.participants(SID, label=LABEL) as stream:
            await anext(stream)
            with pytest.raises(BadRequestError):
                await anext(stream)
        await session.participants(SID, label=LABEL, resume=stream.cursor)


def closed_port():
    """Return a socket whose port nobody listens on."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound, f"127.0.0.1:{bound.getsockname()[1]}"


async def refused(guard):
    bound, place = closed_port()
    with bound:
        async with guard.session(f"http://{place}") as session:
            await session.participants(SID, label=LABEL)


class NoNames(AbstractResolver):
    """A resolver that knows no name; the system's own would ask other machines."""

    async def resolve(self, host, port=0, family=socket.AF_INET):
        raise OSError(socket.EAI_NONAME, f"no {host}")

    async def close(self):
        pass


@contextlib.asynccontextmanager
async def lent(guard, origin, connector=None, **options):
    """Make a watched aiohttp session, as its owner would, and a session that borrows it."""
    async with aiohttp.ClientSession(
        connector=connector, trace_configs=[guard.trace(origin)], **options
    ) as lender:
        async with guard.session(origin, http=lender) as session:
            yield session, lender


async def unresolved(guard):
    base_url = "https://insights.nowhere.example"
    connector = aiohttp.TCPConnector(resolver=NoNames())
    async with lent(guard, base_url, connector) as (session, _):
        await session.participants(SID, label=LABEL)


def tls_contexts(*names):
    """Return the contexts of a server with a certificate for these names, and of its clients."""
    authority = trustme.CA()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(serving)
    asking = ssl.create_default_context()
    authority.configure_trust(asking)
    return serving, asking


async def unknown_authority(guard):
    serving, _ = tls_contexts("127.0.0.1")
    own = Raw(http(last_page()))
    async with listening(own, serving) as port:
        async with guard.session(f"https://127.0.0.1:{port}", retry=QUICK) as session:
            try:
                await session.participants(SID, label=LABEL)
            finally:
                assert own.heads == []


async def another_hosts_certificate(guard):
    serving, asking = tls_contexts("other.example")
    async with listening(Raw(http(last_page())), serving) as port:
        connector = aiohttp.TCPConnector(ssl=asking)
        async with lent(guard, f"https://127.0.0.1:{port}", connector) as (session, _):
            await session.participants(SID, label=LABEL)


async def no_tls_at_all(guard):
    async def speaks_plainly(reader, writer):
        await reader.read(1)
        writer.write(http(b""))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async with listening(speaks_plainly) as port:
        async with guard.session(f"https://127.0.0.1:{port}") as session:
            await session.participants(SID, label=LABEL)


async def handshake_that_stalls(guard):
    async with raw(...) as own:
        base_url = own.base_url.replace("http:", "https:")
        timeout = aiohttp.ClientTimeout(total=30, sock_connect=0.02)
        async with guard.session(base_url, timeout=timeout) as session:
            await session.participants(SID, label=LABEL)


def past_the_deadline(ask):
    async def provoke(guard):
        async with raw(...) as own, guard.session(own.base_url) as session:
            await ask(session, deadline=0.02)

    return provoke


def closed_before(ask):
    async def provoke(guard):
        session = guard.session("http://127.0.0.1:9")
        await session.aclose()
        await ask(session)

    return provoke


def closed_while_it_waits(ask):
    async def provoke(guard):
        async with raw(...) as own, guard.session(own.base_url) as session:
            waiting = asyncio.ensure_future(ask(session))
            while not own.heads:  # noqa: ASYNC110 - turns of the loop
                await asyncio.sleep(0)
            await session.aclose()
            await waiting

    return provoke


async def borrowed_closed(guard):
    async with lent(guard, "http://127.0.0.1:9") as (session, lender):
        await lender.close()
        await session.participants(SID, label=LABEL)


async def borrowed_with_auth(guard):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # aiohttp's, for the auth under test
        auth = aiohttp.BasicAuth("user", PROXY_PASSWORD)
        async with raw(http(last_page())) as own:
            async with lent(guard, own.base_url, auth=auth) as (session, _):
                try:
                    await session.participants(SID, label=LABEL)
                finally:
                    assert own.heads == []


def behind_proxy(place):
    """Return what asks by way of a proxy whose URL holds a password."""

    async def provoke(guard):
        bound, closed = closed_port()
        with bound:
            proxy = place.format(user=f"user:{PROXY_PASSWORD}", closed=closed)
            async with guard.session("https://127.0.0.1:9", proxy=proxy) as session:
                await session.participants(SID, label=LABEL)

    return provoke


def proxy_that_answers(reply):
    """Return what asks by way of a proxy that refuses, and repeats what it received."""

    async def provoke(guard):
        async with raw(reply, keep_alive=False) as proxy:
            given = proxy.base_url.replace("//", f"//user:{PROXY_PASSWORD}@")
            async with guard.session("https://127.0.0.1:9", proxy=given) as session:
                try:
                    await session.participants(SID, label=LABEL)
                finally:
                    assert all(LABEL not in head for head in proxy.heads)
                    assert all(each not in "".join(proxy.heads) for each in forms(PASSWORD))

    return provoke


async def two_at_once(guard):
    async with raw(...) as own, guard.session(own.base_url) as session:
        async with session.participants(SID, label=LABEL) as stream:
            first = asyncio.ensure_future(anext(stream))
            while not own.heads:  # noqa: ASYNC110 - turns of the loop
                await asyncio.sleep(0)
            try:
                await anext(stream)
            finally:
                first.cancel()
                await asyncio.wait([first])


def asked_after(*replies, end):
    """Return what takes a record of a stream, does something to it, and asks it for a list."""

    async def provoke(guard):
        async with raw(*replies) as own, guard.session(own.base_url) as session:
            stream = session.participants(SID, label=LABEL)
            await anext(stream)
            await end(stream)
            await stream

    return provoke


async def read_to_its_end(stream):
    assert [each async for each in stream] == []


def resumed_on(reply):
    """Return what resumes on the second page of a list, behind its first record."""

    async def provoke(guard):
        link = f"https://a.example{PATH}?Label={LABEL}&PageToken=PT1"
        second = http(last_page({"participant_sid": "CP1"} | RECORD, RECORD))
        replies = [http(linked(link, RECORD)), second, reply]
        async with raw(*replies) as own, guard.session(own.base_url) as session:
            async with session.participants(SID, label=LABEL, limit=2) as stream:
                assert len([each async for each in stream]) == 2
            await session.participants(SID, label=LABEL, resume=stream.cursor)

    return provoke


def refused_call(**arguments):
    """Return what calls with an argument that cannot be used."""

    async def provoke(guard):
        async with guard.session("http://127.0.0.1:9") as session:
            await session.participants(**{"conference_sid": SID, "label": LABEL} | arguments)

    return provoke


def refused_session(*credentials, **options):
    """Return what makes a session that cannot be made."""

    async def provoke(_guard):
        InsightsSession(credentials or CREDENTIALS, **options)

    return provoke


ECHO = f"{LABEL} +{PHONE}"
CUT = json.dumps({"participants": [RECORD]}).encode()[:-3]

#: What provokes it, the class, and words of its message: the cause.
PROVOKED = {
    **{
        f"status {code}": (status(code), kind, words)
        for code, kind, words in [
            (301, APIStatusError, "Redirects are not followed"),
            (400, BadRequestError, "did not accept a parameter"),
            (401, AuthenticationError, "key and its secret.*region.*Advanced Features.*/20003"),
            (403, PermissionDeniedError, "key is restricted.*account suspended.*/20403"),
            (404, NotFoundError, "conference SID.*30 days.*/20404"),
            (405, APIStatusError, "HTTP 405, Twilio error 20001"),
            (407, APIStatusError, "HTTP 407"),
            (408, APIStatusError, "HTTP 408"),
            (410, APIStatusError, "HTTP 410"),
            (422, APIStatusError, "HTTP 422"),
            (429, RateLimitError, "in flight at once; lower max_concurrency.*/20429"),
            (451, APIStatusError, "HTTP 451"),
            (500, ServerError, "Twilio's; try again later .https://status.twilio.com"),
            (501, ServerError, "does not offer this"),
            (502, ServerError, "Twilio's"),
            (503, ServerError, "Twilio's"),
            (504, ServerError, "smaller page_size.*Twilio's"),
            (599, ServerError, "Twilio's"),
            (600, ServerError, "HTTP 600"),
        ]
    },
    "204": (wire(http(b"", f"204 {ECHO}")), ResponseError, "with a body, and answered 204"),
    "206": (wire(http(CUT, f"206 {ECHO}")), ResponseError, "with a body, and answered 206"),
    "no reply": (wire(None), TransportError, "closed the connection without a reply"),
    "no HTTP": (wire(f"SSH-2.0 {ECHO} {AUTHORIZATION}\r\n".encode()), TransportError, "not HTTP"),
    "bad header": (
        wire(f"HTTP/1.1 200 OK\r\n{ECHO}\x01\r\n\r\n".encode()), TransportError, "not HTTP",
    ),
    "long header": (
        wire(http(b"", "200 OK", f"X-Asked: {ECHO * 1000}")), TransportError, "not HTTP",
    ),
    "bad length": (wire(http(b"", length=ECHO)), TransportError, "not HTTP"),
    "cut by length": (wire(http(CUT, length=999)), TransportError, "cut off or garbled"),
    "bad chunk": (
        wire(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{ECHO}\r\n".encode()),
        TransportError, "No usable reply",
    ),
    "bad gzip": (
        wire(http(ECHO.encode(), "200 OK", "Content-Encoding: gzip")), TransportError, "garbled",
    ),
    "cut JSON": (wire(http(CUT)), ResponseError, "cut off, or is not JSON"),
    "no JSON": (wire(http(f"<p>{ECHO}".encode())), ResponseError, "cut off, or is not JSON"),
    "no UTF-8": (wire(http(f'"{ECHO}\xe9"'.encode("latin-1"))), ResponseError, "JSON in UTF-8"),
    "deep JSON": (wire(http(b"[" * 100_000)), ResponseError, "nested too deeply"),
    "no object": (wire(http(json.dumps([RECORD]).encode())), ResponseError, "not an object"),
    "too large": (
        wire(http(LABEL.encode() + b" " * LARGEST_BODY)), ResponseError, "larger than 16777216 by",
    ),
    "no array": (page(participants=RECORD), ResponseError, "participants: an array is missing"),
    "no meta": (page(RECORD, meta=ECHO), ResponseError, "meta: an object is missing"),
    "no link": (page(RECORD, meta={ECHO: ECHO}), ResponseError, "nothing says where the list ends"),
    "bad link": (
        page(RECORD, meta={"next_page_url": [ECHO]}), ResponseError, "next_page_url: expected a",
    ),
    **{
        f"bad {name}": (page(RECORD, RECORD | {name: value}), ResponseError, words)
        for name, value, words in [
            ("label", 7, r"participants\[1\].label: expected a string, found an integer"),
            ("label", [LABEL], "expected a string, found an array"),
            ("from", {"phone": PHONE}, "expected a string, found an object"),
            ("to", [PHONE], "expected a string, found an array"),
            ("join_time", f"+{PHONE}", "expected an ISO 8601 time"),
            ("leave_time", f"9999-12-31T23:59:59-23:59 {LABEL}", "expected an ISO 8601 time"),
            ("duration_seconds", PHONE, "expected an integer"),
            ("is_coach", LABEL, "expected a boolean"),
            ("events", {"hold": [PHONE]}, r"events.hold\[0\]: expected an integer"),
            ("events", {"hold": [int(PHONE * 3)]}, "expected milliseconds"),
            ("coached_participants", [LABEL, 7], "expected a string"),
            ("metrics", {"inbound": {"mos": PHONE}}, "metrics.inbound.mos: expected a number"),
            ("properties", LABEL, "expected an object"),
        ]
    },
    "no record": (page(f"+{PHONE}"), ResponseError, "expected an object, found a string"),
    "hostile link": (
        next_link(f"https://evil.example/?Label={LABEL}"), PaginationError, "was not followed",
    ),
    "hostile link, all of it": (
        next_link(f"https://{LABEL}:{PHONE}@{LABEL}/{LABEL}#Label={LABEL}"),
        PaginationError, "its host was not contacted",
    ),
    "loop": (
        wire(
            http(linked(f"https://insights.twilio.com{PATH}?Label={LABEL}&PageSize=1000", RECORD)),
            None,
        ),
        PaginationError, "page already seen: the pagination is in a loop",
    ),
    "loop of two": (
        wire(
            http(linked(f"https://a.example{PATH}?Label={LABEL}", RECORD)),
            http(linked(f"https://a.example{PATH}?Label={LABEL}", RECORD, RECORD)),
            None,
        ),
        PaginationError, "page already seen: the pagination is in a loop",
    ),
    "repeated page": (
        wire(
            http(linked(f"https://a.example{PATH}?Label={LABEL}&Page=1", RECORD)),
            http(linked(f"https://a.example{PATH}?Label={LABEL}&Page=2", RECORD)),
            None,
        ),
        PaginationError, "repeats the one before it",
    ),
    "empty pages": (
        wire(*(http(linked(f"https://a.example{PATH}?Page={each}")) for each in range(251))),
        PaginationError, "250 pages in a row were empty",
    ),
    "another conference": (
        page(RECORD | {"conference_sid": "CF" + "b" * 32}), ResponseError, "another conference",
    ),
    "page token refused": (
        resumed_on(http(json.dumps({"message": ECHO}).encode(), f"400 {ECHO}")),
        CursorExpiredError, "does not accept the page token of the cursor",
    ),
    "changed list": (
        resumed_on(http(last_page({"participant_sid": "CP2"} | RECORD, RECORD))),
        PaginationError, "another record is before the one",
    ),
    "shorter list": (
        resumed_on(http(last_page())), PaginationError, "the page to resume on is shorter",
    ),
    "closed by another": (
        asked_after(http(last_page(RECORD, RECORD)), end=RecordStream.aclose),
        InvalidRequestError, "closed before its end",
    ),
    "used up": (
        asked_after(http(last_page(RECORD)), end=read_to_its_end),
        InvalidRequestError, "used up",
    ),
    "expired cursor": (expired_cursor, CursorExpiredError, "Start the list again"),
    "refused": (refused, TransportError, "refused or could not be made"),
    "no such name": (unresolved, TransportError, "could not be resolved"),
    "unknown authority": (unknown_authority, TransportError, "certificate was refused"),
    "other host": (another_hosts_certificate, TransportError, "certificate was refused"),
    "no TLS": (no_tls_at_all, TransportError, "does not speak TLS"),
    "silence": (wire(..., timeout=0.02), RequestTimeoutError, "session's `timeout` sets"),
    "no byte": (
        wire(..., timeout=aiohttp.ClientTimeout(total=30, sock_read=0.02)),
        RequestTimeoutError, "session's `timeout` sets",
    ),
    "stalled handshake": (handshake_that_stalls, RequestTimeoutError, "while connecting"),
    **{
        f"{ask.__name__}, {name}": (provoked_by(ask), kind, words)
        for ask in (participants, conferences, conference, participant)
        for name, provoked_by, kind, words in (
            ("past the deadline", past_the_deadline, DeadlineExceededError, "of 0.02 s passed"),
            ("closed before", closed_before, SessionClosedError, "session is closed"),
            ("closed meanwhile", closed_while_it_waits, SessionClosedError, "closed meanwhile"),
        )
    },
    "borrowed closed": (borrowed_closed, SessionClosedError, "aiohttp session was closed"),
    "borrowed with auth": (borrowed_with_auth, InvalidRequestError, "no auth of its own"),
    "proxy refused": (
        behind_proxy("http://{user}@{closed}"), TransportError, "proxy could not be reached",
    ),
    **{
        f"proxy answers {reply[:12]!r}": (proxy_that_answers(reply), TransportError, words)
        for reply, words in (
            (http(b"", f"407 {ECHO}", f"Proxy-Authenticate: {ECHO}"), "the proxy answered HTTP 4"),
            (http(ECHO.encode(), f"502 {ECHO}"), "the proxy answered HTTP 502"),
            (f"SSH-2.0 {ECHO}\r\n".encode(), "No usable reply"),
        )
    },
    **{
        f"proxy {form}": (behind_proxy(form), InvalidRequestError, "proxy must be")
        for form in (
            "http://{user}@[::1", "http://{user}@127.0.0.1:port", "{user}", "http://{user}@",
            "socks5://{user}@{closed}", "http://{user}@{closed}\r\nX-Evil: 1",
        )
    },
    "two at once": (two_at_once, InvalidRequestError, "Two tasks asked"),
    "bad sid": (refused_call(conference_sid=ECHO), InvalidRequestError, "must be CF"),
    "bad label": (refused_call(label=f"{LABEL}\ud800"), InvalidRequestError, "UTF-8 can encode"),
    "label of bytes": (refused_call(label=LABEL.encode()), InvalidRequestError, "non-empty str"),
    "bad size": (refused_call(page_size=PHONE), InvalidRequestError, "from 1 to 1000"),
    "bad limit": (refused_call(limit=PHONE), InvalidRequestError, "from 0"),
    "bad password": (refused_session(USERNAME, f"{PASSWORD}\n"), InvalidRequestError, "password"),
    "one word": (refused_session(PASSWORD), InvalidRequestError, "pair"),
    "bad username": (refused_session(f"{PASSWORD}:", PASSWORD), InvalidRequestError, "username"),
    "password in base_url": (
        refused_session(base_url=f"https://{USERNAME}:{PASSWORD}@127.0.0.1"),
        InvalidRequestError, "or credentials",
    ),
    "password in port": (
        refused_session(base_url=f"https://a:{PASSWORD}"), InvalidRequestError, "base_url must be",
    ),
    "password in region": (
        refused_session(region=PASSWORD, edge="dublin"), InvalidRequestError, "region must be",
    ),
}  # fmt: skip

# --- Conferences, and single records: their errors, by the same tests ---

NAMED = {"conference_sid": SID, "friendly_name": LABEL, "tag_info": {"low_mos": 1}}
OF_PERSON = {"conference_sid": SID, "participant_sid": CP} | RECORD
#: The names of calls for a single record.
SINGLE = {"conference", "participant"}
CONFERENCES_URL = f"https://a.example/v1/Conferences?FriendlyName={LABEL}"


def named(*records, link=None, **meta):
    """Return the reply that is a page of conferences."""
    meta = {"next_page_url": link, "key": "conferences"} | meta
    return http(json.dumps({"meta": meta, "conferences": records}).encode())


def single(ask, **members):
    """Return what gets a single record with these members."""
    record = (NAMED if ask is conference else OF_PERSON) | members
    return wire(http(json.dumps(record).encode()), ask=ask)


def resumed_conferences(reply=None, **changed):
    """Return what resumes on the second page of a list of conferences, with other arguments."""

    async def provoke(guard):
        link = f"{CONFERENCES_URL}&PageToken=PT1"
        second = named(NAMED, NAMED | {"conference_sid": "CF" + "b" * 32})
        async with raw(named(NAMED, link=link), second, reply) as own:
            async with guard.session(own.base_url) as session:
                given = {"created_after": DAY, "friendly_name": LABEL}
                async with session.conferences(**given, limit=2) as stream:
                    assert len([each async for each in stream]) == 2
                assert not any(each in stream.cursor for each in PERSONAL)
                assert not any(each in repr(stream) for each in PERSONAL)
                await session.conferences(**given | changed, resume=stream.cursor)

    return provoke


def refused_window(**arguments):
    """Return what asks for conferences with an argument that cannot be used."""

    async def provoke(guard):
        async with guard.session("http://127.0.0.1:9") as session:
            await session.conferences(**{"created_after": DAY, "friendly_name": LABEL} | arguments)

    return provoke


PROVOKED |= {
    **{
        f"{ask.__name__}, {name}": (wire(reply, ask=ask), kind, words)
        for ask in (conferences, conference, participant)
        for name, reply, kind, words in (
            ("cut JSON", http(CUT), ResponseError, "cut off, or is not JSON"),
            ("no JSON", http(f"<p>{ECHO}".encode()), ResponseError, "cut off, or is not JSON"),
            ("no UTF-8", http(f'"{ECHO}\xe9"'.encode("latin-1")), ResponseError, "JSON in UTF-8"),
            ("deep JSON", http(b"[" * 100_000), ResponseError, "nested too deeply"),
            ("no object", http(json.dumps([NAMED]).encode()), ResponseError, "not an object"),
            ("204", http(b"", f"204 {ECHO}"), ResponseError, "with a body, and answered 204"),
            ("no reply", None, TransportError, "closed the connection without a reply"),
            ("too large", http(LABEL.encode() + b" " * LARGEST_BODY), ResponseError,
             "larger than 16777216 by"),
            ("bad length", http(b"", length=ECHO), TransportError, "not HTTP"),
            ("other JSON", http(json.dumps({LABEL: PHONE}).encode()), ResponseError,
             "an array is missing|no member (conference|participant)_sid"),
        )
    },
    **{
        f"{ask.__name__}, silence": (
            wire(..., ask=ask, timeout=0.02), RequestTimeoutError, "session's `timeout` sets",
        )
        for ask in (conferences, conference, participant)
    },
    **{
        f"{ask.__name__}, status {code}": (status(code, ask), kind, words)
        for ask in (conferences, conference, participant)
        for code, kind, words in (
            (400, BadRequestError, "did not accept a parameter"),
            (404, NotFoundError, "30 days.*/20404"),
            (429, RateLimitError, "in flight at once"),
            (500, ServerError, "Twilio's; try again later"),
            (504, ServerError, "took too long.*Twilio's"),
        )
    },
    **{
        f"conference{'s' * many}, bad {name}": (
            wire(named(NAMED, NAMED | {name: value}), ask=conferences)
            if many else single(conference, **{name: value}),
            ResponseError, (r"conferences\[1\]" if many else "conference") + f".{words}",
        )
        for many in (True, False)
        for name, value, words in [
            ("friendly_name", 7, "friendly_name: expected a string, found an integer"),
            ("friendly_name", [LABEL], "friendly_name: expected a string, found an array"),
            ("create_time", LABEL, "create_time: expected an ISO 8601 time"),
            ("duration_seconds", PHONE, "duration_seconds: expected an integer"),
            ("detected_issues", {"call_quality": PHONE}, "detected_issues.call_quality: expected"),
            ("tags", [LABEL, 7], r"tags\[1\]: expected a string"),
            ("tag_info", LABEL, "tag_info: expected an object"),
            ("links", {"participants": [LABEL]}, "links.participants: expected a string"),
        ]
    },
    "conferences, no record": (
        wire(named(LABEL), ask=conferences), ResponseError, "expected an object, found a string",
    ),
    "conferences, hostile link": (
        wire(named(NAMED, link=f"https://evil.example/?FriendlyName={LABEL}"), ask=conferences),
        PaginationError, "was not followed",
    ),
    "conferences, loop": (
        wire(named(NAMED, link=CONFERENCES_URL), named(link=CONFERENCES_URL), ask=conferences),
        PaginationError, "page already seen",
    ),
    "conferences, page of participants": (
        wire(http(last_page(RECORD).replace(b'{"next', b'{"key": "participants", "next')),
             ask=conferences),
        ResponseError, "about another list",
    ),
    "conference, a list": (
        wire(named(NAMED), ask=conference), ResponseError, "about a list",
    ),
    "conference, another": (
        single(conference, conference_sid="CF" + "b" * 32), ResponseError, "another conference",
    ),
    "participant, another": (
        single(participant, participant_sid="CP" + "9" * 32), ResponseError, "another participant",
    ),
    "participant, bad label": (
        single(participant, label=[LABEL]), ResponseError, "participant.label: expected a string",
    ),
    "conference, too long": (
        wire(http(json.dumps(NAMED).encode().ljust(2**20 + 1)), ask=conference),
        ResponseError, "too long for a single record",
    ),
    "conferences, page token refused": (
        resumed_conferences(http(json.dumps({"message": ECHO}).encode(), f"400 {ECHO}")),
        CursorExpiredError, "does not accept the page token of the cursor",
    ),
    "conferences, changed list": (
        resumed_conferences(named(NAMED | {"conference_sid": "CF" + "9" * 32}, NAMED)),
        PaginationError, "another record is before the one",
    ),
    "conferences, resumed with another name": (
        resumed_conferences(friendly_name=f"{LABEL}2"), InvalidRequestError,
        "give the friendly_name of the first call",
    ),
    "conferences, resumed with another window": (
        resumed_conferences(created_after=None), InvalidRequestError, "of another list",
    ),
    "conferences, bad name": (
        refused_window(friendly_name=f"{LABEL}\ud800"), InvalidRequestError, "UTF-8 can encode",
    ),
    "conferences, bad sid": (
        refused_window(conference_sid=ECHO), InvalidRequestError, "must be CF",
    ),
    "conferences, bad window": (
        refused_window(created_after=ECHO), InvalidRequestError, "must be an aware datetime",
    ),
    "conferences, empty window": (
        refused_window(created_before=DAY), InvalidRequestError, "the window is empty",
    ),
    "conferences, no window": (
        refused_window(created_after=...), InvalidRequestError, "give created_after=None",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROVOKED)
async def test_no_error_shows_a_secret(guard, caplog, name):
    """No error of the family, nor any log record, shows a credential or personal data."""
    provoke, kind, words = PROVOKED[name]
    caplog.set_level(logging.DEBUG)
    with pytest.raises(InsightsError, match=words) as caught:
        await provoke(guard)

    assert type(caught.value) is kind
    assert leaks(caught.value) == []
    assert logged(caplog) == []
    assert [each for each in chain(caught.value) if not isinstance(each, InsightsError)] == []
    for travel in (copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))):
        arrived = travel(caught.value)
        assert (type(arrived), str(arrived)) == (kind, str(caught.value))
        assert vars(arrived) == vars(caught.value)


#: What to do about it: an instruction, or what an argument must be.
REMEDY = re.compile(
    r"\b(begin|check|continue|give|go on|lower|make|try|see|start|let|set|sets|must)\b"
    r"|Redirects are not followed",
    re.IGNORECASE,
)


@pytest.mark.parametrize("name", PROVOKED)
async def test_every_message_names_a_remedy(guard, name):
    """Each error says in its message what to do about it, in one or more whole sentences."""
    provoke, _, _ = PROVOKED[name]
    with pytest.raises(InsightsError) as caught:
        await provoke(guard)

    message = str(caught.value)
    assert REMEDY.search(message), message
    assert message.endswith(".")
    assert "\n" not in message


@pytest.mark.parametrize("name", [each for each in PROVOKED if each.split(", ")[0] in SINGLE])
async def test_no_message_about_a_single_record_speaks_of_pages(guard, name):
    """The remedies for a list, such as its cursor or another page size, are not for a record."""
    provoke, _, _ = PROVOKED[name]
    with pytest.raises(InsightsError) as caught:
        await provoke(guard)

    assert not re.search("cursor|page|resume", str(caught.value))
    assert caught.value.cursor is None


def test_every_class_is_provoked():
    """The table above has each class of error that is raised."""
    raised = {kind for kind in CLASSES if kind is not InsightsError}

    assert {kind for _, kind, _ in PROVOKED.values()} == raised


class NumberGoneError(NotFoundError):
    """An application's own subclass."""


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_subclasses_and_notes_travel(protocol):
    """An application's subclass arrives whole by every protocol, its notes and fields with it."""
    error = NumberGoneError("summary", status=404, code=20404, details={"a": [1]})
    error.add_note("asked by job 7")
    error.job = 7

    arrived = pickle.loads(pickle.dumps(error, protocol=protocol))

    assert type(arrived) is NumberGoneError
    assert (str(arrived), vars(arrived)) == (str(error), vars(error))
    assert arrived.__notes__ == ["asked by job 7"]


async def test_errors_of_a_task_group_show_no_secret(guard):
    """The group that a TaskGroup raises shows no more than its errors."""
    async with raw(http(b"", "404 Not Found")) as own, guard.session(own.base_url) as session:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(3):
                    tasks.create_task(anext(session.participants(SID, label=LABEL)))

    assert len(caught.value.exceptions) >= 1
    assert leaks(caught.value) == []


ECHOES = {
    "message": lambda said: {"code": 20003, "message": f"got {said}"},
    "more_info": lambda said: {"code": 20003, "more_info": f"https://a.example/?{said}"},
    "details": lambda said: {"headers": {"Authorization": [said]}},
    "key": lambda said: {said: 7},
}


@pytest.mark.parametrize("place", ECHOES)
@pytest.mark.parametrize("said", [AUTHORIZATION, PASSWORD])
async def test_echoed_credentials_are_not_kept(guard, place, said):
    """A server that repeats the request's headers in its error puts no credential into ours."""
    body = json.dumps(ECHOES[place](said)).encode()
    reply = http(body, "401 Unauthorized", f"Twilio-Request-Id: {said}")
    async with raw(reply) as own, guard.session(own.base_url) as session:
        with pytest.raises(AuthenticationError) as caught:
            await session.participants(SID)

    assert leaks(caught.value) == []


async def test_a_short_password_takes_nothing_out_of_an_error(guard):
    """A text too short for a secret is not removed from what the server said."""
    reply = http(b'{"code": 20003, "message": "Authenticate"}', "401 Unauthorized")
    async with raw(reply) as own:
        async with InsightsSession(
            (USERNAME, "e"),
            base_url=own.base_url,
            retry=ONCE,
            trace_configs=[guard.trace(own.base_url)],
        ) as session:
            with pytest.raises(AuthenticationError) as caught:
                await session.participants(SID)

    assert (caught.value.code, caught.value.message) == (20003, "Authenticate")


@contextlib.asynccontextmanager
async def transport(base_url):
    """Open the transport alone."""
    sender = Transport(
        base_url,
        timeout=client_timeout(5),
        connections=1,
        http=None,
        proxy=None,
        trace_configs=(),
    )
    async with contextlib.aclosing(sender):
        yield sender


async def test_transport_chains_nothing():
    """The transport itself chains none of aiohttp's errors."""
    request = Request(path=PATH, query=f"Label={LABEL}", conference_sid=SID)
    for reply in (None, b"SSH-2.0\r\n", http(CUT, length=999)):
        async with raw(reply, keep_alive=False) as own, transport(own.base_url) as sender:
            with pytest.raises(TransportError) as caught:
                await sender.send(request, AUTHORIZED, seconds=5, sent=Sent())

        assert chain(caught.value) == [caught.value]
        assert leaks(caught.value) == []


async def test_transport_keeps_to_its_origin(thief):
    """The transport sends a request of any path only to its own origin."""
    path = f":{URL(thief.base_url).port}{PATH}"
    request = Request(path=path, query="Page=1", conference_sid=SID)
    async with transport("http://127.0.0.1") as sender:
        with pytest.raises(InvalidRequestError):
            await sender.send(request, AUTHORIZED, seconds=5, sent=Sent())


# --- What is no error: reprs, and everything that asyncio tells in debug mode ---


async def test_reprs_show_no_secret(guard):
    """Whatever a caller has can be printed, from the session down to a member of a record."""
    link = f"https://a.example{PATH}?Label={LABEL}&Page=1"
    meta = dict.fromkeys(("first_page_url", "previous_page_url", "url", "next_page_url"), link)
    sent = RECORD | {"caller_name": LABEL, "properties": {"number": PHONE}}
    body = json.dumps({"participants": [sent], "meta": meta | {"label": LABEL}}).encode()
    async with raw(http(body), http(last_page(sent | {"duration_seconds": 7}))) as own:
        async with guard.session(own.base_url) as session:
            stream = session.participants(SID, label=LABEL)
            held = [session, stream, session.participants, ONCE, Credentials(*CREDENTIALS)]
            held += [Request(path=PATH, query=f"Label={LABEL}", conference_sid=SID)]
            held += [Response(status=200, headers={"X": LABEL}, body=body)]
            async for page in stream.pages():
                (record,) = page.records
                held += [page, page.meta, record, [record], record.properties, stream, session]
    told = "".join(f"{each!r} {each}" for each in held)

    assert [secret for secret in OF_CREDENTIALS + PERSONAL if secret in told] == []
    assert "'***'" in told


async def test_debug_mode_tells_no_secret(guard, caplog):
    """In debug mode asyncio logs callbacks with their arguments: none of them is a secret."""
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    before = loop.get_debug(), loop.slow_callback_duration
    loop.set_debug(True)
    loop.slow_callback_duration = 0  # everything is slow, and so is told
    link = f"https://a.example{PATH}?Label={LABEL}&Page=1"
    replies = [
        http(linked(link, RECORD)),
        http(last_page(RECORD, RECORD)),
        http(b"", "404 Not Found"),
        None,
    ]
    try:
        async with raw(*replies) as own, guard.session(own.base_url) as session:
            assert len(await session.participants(SID, label=LABEL)) == 3
            for kind in (NotFoundError, TransportError):
                with pytest.raises(kind):
                    await session.participants(SID, label=LABEL)
    finally:
        loop.set_debug(before[0])
        loop.slow_callback_duration = before[1]

    assert "Executing" in caplog.text
    assert logged(caplog) == []


# --- What surrounds the session: cookies, netrc, proxies, a borrowed session ---


async def test_cookies_are_not_sent_back(guard):
    """No cookie is sent with a later page, attempt or list, whatever the server sets."""
    baked = ("Set-Cookie: a=b", "Set-Cookie: c=d; Path=/; Max-Age=99")
    link = f"https://insights.twilio.com{PATH}?Page=1"
    replies = [
        http(b"", "503 Busy", *baked),
        http(linked(link), "200 OK", *baked),
        http(last_page(), "200 OK", *baked),
    ]
    async with raw(*replies) as own:
        # By name: no cookie jar keeps what an address sets.
        base_url = own.base_url.replace("127.0.0.1", "localhost")
        async with guard.session(base_url, retry=QUICK) as session:
            for _ in range(2):
                assert await session.participants(SID) == []

    assert len(own.heads) == len(guard.requests) == 4
    assert all("cookie" not in head.lower() for head in own.heads)


@pytest.fixture
def netrc(tmp_path, monkeypatch):
    """Make a netrc that knows the hosts of these tests."""
    file = tmp_path / "netrc"
    file.write_text(
        "machine 127.0.0.1 login thief password thief\ndefault login thief password thief\n"
    )
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))


async def test_netrc_is_not_used(guard, netrc):
    """An entry of netrc neither replaces the credentials nor clashes with them."""
    async with raw(http(last_page())) as own, guard.session(own.base_url) as session:
        await session.participants(SID)

    assert f"Authorization: {AUTHORIZATION}\r\n" in own.heads[0]


async def test_netrc_of_a_borrowed_session(guard, netrc):
    """A borrowed session that would use netrc is refused before anything is sent."""
    async with raw(http(last_page())) as own:
        async with lent(guard, own.base_url, trust_env=True) as (session, _):
            with pytest.raises(InvalidRequestError, match="no netrc entry"):
                await session.participants(SID)

    assert (own.heads, guard.requests) == ([], [])


@pytest.fixture
def proxies_everywhere(thief, monkeypatch):
    """Let the environment name the thief as the proxy of everything."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY"):
        monkeypatch.setenv(name, thief.base_url)
        monkeypatch.setenv(name.lower(), thief.base_url)
    for name in ("NO_PROXY", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)


async def test_proxies_of_the_environment_are_not_used(guard, proxies_everywhere):
    """The environment's proxies see nothing, of http and of https."""
    async with raw(http(last_page())) as own, guard.session(own.base_url) as session:
        assert await session.participants(SID) == []
    bound, place = closed_port()
    with bound:
        async with guard.session(f"https://{place}") as session:
            with pytest.raises(TransportError, match="refused"):
                await session.participants(SID)

    assert len(own.heads) == 1


async def test_a_proxy_of_https_sees_no_credentials(guard):
    """A proxy of https sees a host, a port and its own password, which the server does not see."""
    serving, asking = tls_contexts("127.0.0.1")
    own = Raw(http(last_page(RECORD)))
    async with listening(own, serving) as port, forward_proxy(f"user:{PROXY_PASSWORD}") as tunnel:
        base_url = f"https://127.0.0.1:{port}"
        proxy = tunnel.url.replace("//", f"//user:{PROXY_PASSWORD}@")
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=asking), trace_configs=[guard.trace(base_url)]
        ) as lender:
            async with guard.session(base_url, http=lender, proxy=proxy) as session:
                (record,) = await session.participants(SID, label=LABEL)

    assert record.label == LABEL
    [head] = tunnel.heads
    assert head.startswith(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n")
    assert aiohttp.encode_basic_auth("user", PROXY_PASSWORD) in head
    seen = head + tunnel.through.decode("latin-1")
    for secret in (*forms(PASSWORD), AUTHORIZATION, LABEL, PHONE, SID, "\r\nAuthorization"):
        assert secret not in seen
    assert f"Authorization: {AUTHORIZATION}\r\n" in own.heads[0]
    assert "Proxy-" not in own.heads[0]
    assert all(form not in own.heads[0] for form in forms(PROXY_PASSWORD))


async def test_proxies_that_are_none():
    """What is no proxy is refused by the constructor, and is never taken for no proxy."""

    async def use(proxy):
        InsightsSession(CREDENTIALS, proxy=proxy)

    assert (
        await accepted(["", 7, b"http://127.0.0.1:9", "127.0.0.1:9", "ftp://a.example"], use) == []
    )


async def test_a_far_proxy_of_plain_http():
    """A proxy sees the headers of plain http, so one on another host is refused for it."""
    with pytest.raises(InvalidRequestError, match="proxy"):
        InsightsSession(CREDENTIALS, base_url="http://127.0.0.1:9", proxy="http://a.example:3128")


async def test_settings_of_a_borrowed_session(guard, thief):
    """Headers and base URL of a borrowed session do not replace or redirect the credentials."""
    async with raw(http(last_page())) as own:
        async with lent(
            guard,
            own.base_url,
            headers={"Authorization": "Basic dGhpZWY6dGhpZWY=", "Accept": "text/html"},
            base_url=f"{thief.base_url}/v2/",
            raise_for_status=True,
        ) as (session, lender):
            await session.participants(SID)
            assert not any(AUTHORIZATION in value for value in lender.headers.values())

    names = [line.partition(":")[0].lower() for line in own.heads[0].split("\r\n")]
    assert names.count("authorization") == 1
    assert f"Authorization: {AUTHORIZATION}\r\n" in own.heads[0]
    assert "Accept: application/json\r\n" in own.heads[0]
