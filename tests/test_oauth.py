"""OAuth tokens and credentials providers: where a request's `Authorization` header comes from."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import logging
import pickle
import traceback
from collections import Counter

import aiohttp
import pytest
from aiohttp import web

from aioparticipants import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ClientCredentials,
    Credentials,
    CredentialsProvider,
    DeadlineExceededError,
    InsightsError,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ResponseError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    TransportError,
)
from aioparticipants._authorization import Constant, Tokens
from aioparticipants._messages import Response
from aioparticipants._oauth import access_token
from aioparticipants._retrying import Deadline, RetryQuota, RetryRun
from aioparticipants.instrumentation import RetryScheduled

from .servers import http, last_page, raw
from .sweeps import STYLES, Canceller, held, turns

SID = "CF" + "a" * 32
SECRET = "cl13nt/s3cret-of-an-app"
TOKEN = "eyJ0.t0ken-that-nobody-may/see.c2ln"
ONCE = RetryPolicy(max_attempts=1)
FAST = RetryPolicy(max_attempts=3, base_delay=0.0)
PAGE = http(last_page())
REFUSED = http(b'{"code": 20003, "message": "Authenticate"}', "401 Unauthorized")
GRANT = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600, "refresh_token": None}


def grants(*lifetimes):
    return [
        {**GRANT, "access_token": f"token-{number}", "expires_in": each}
        for number, each in enumerate(lifetimes)
    ]


class TokenServer:
    """Answers the n-th token request with the n-th of its replies, and all later with the last.

    A reply is a value for a 200, or a (status, body) pair; bytes are sent as they are. Nothing is
    answered before `released` is set.
    """

    def __init__(self, *replies):
        self.replies = replies
        self.released = asyncio.Event()
        self.released.set()
        self.requested = asyncio.Event()
        self.seen: list[dict[str, object]] = []
        self.base_url = ""

    @property
    def credentials(self):
        return ClientCredentials("OQ1", SECRET, token_url=f"{self.base_url}/v2/token")

    async def answer(self, request):
        self.seen.append(
            {
                "method": request.method,
                "query": dict(request.query),
                "headers": request.headers,
                "body": await request.text(),
            }
        )
        self.requested.set()
        reply = self.replies[min(len(self.seen), len(self.replies)) - 1]
        await self.released.wait()
        status, body, headers = 200, reply, {}
        if isinstance(reply, tuple):
            status, body, *rest = reply
            headers = rest[0] if rest else {}
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=body, headers=headers)


@contextlib.asynccontextmanager
async def tokens_from(*replies):
    """Run a `TokenServer` on a free port of 127.0.0.1."""
    server = TokenServer(*replies or (GRANT,))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server.released.set()
        await runner.cleanup()


@contextlib.asynccontextmanager
async def both(*replies, insights=(PAGE,), **options):
    """Open a session with a token server, and a server for Insights that takes any header."""
    options.setdefault("retry", FAST)
    async with tokens_from(*replies) as tokens, raw(*insights) as server:
        async with InsightsSession(
            tokens.credentials, base_url=server.base_url, **options
        ) as session:
            yield session, tokens, server


def requests_of(fake):
    return Counter(f"{each.method} {each.status}" for each in fake.requests)


def app_session(fake, **options):
    options.setdefault("retry", FAST)
    return InsightsSession(fake.client_credentials, base_url=fake.base_url, **options)


def showing(error):
    """Return all that can be seen of an error and of what is chained to it."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), repr(vars(error))]
        texts += [*traceback.TracebackException.from_exception(error, capture_locals=True).format()]
        if isinstance(error, InsightsError):
            texts.append(pickle.dumps(error, protocol=0).decode("latin-1"))
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


async def failure_of(session, **options):
    with pytest.raises(InsightsError) as caught:
        await session.participants(SID, **options)
    return caught.value


# --- One token, for all ---


async def test_one_token_for_many_calls(fake):
    """A hundred calls at once make one token request."""
    sid = fake.add_conference(participants=3)
    async with app_session(fake) as session:
        lists = await asyncio.gather(*(session.participants(sid) for _ in range(100)))

    assert {len(each) for each in lists} == {3}
    assert requests_of(fake) == {"POST 200": 1, "GET 200": 100}
    assert all(request.authorized for request in fake.requests)


async def test_one_token_for_every_resource(fake):
    """Lists of conferences, conferences and participants share a token, and each renews it."""
    sid = fake.add_conference(participants=2)
    async with app_session(fake) as session:
        assert len(await session.participants(sid)) == 2
        assert [each.conference_sid for each in await session.conferences(created_after=None)] == [
            sid
        ]
        [first, _] = await session.participants(sid)
        fake.revoke_tokens()
        assert (await session.conference(sid)).conference_sid == sid
        fake.revoke_tokens()
        found = await session.participant(sid, first.participant_sid)
        assert found.participant_sid == first.participant_sid

    assert requests_of(fake) == {"POST 200": 3, "GET 401": 2, "GET 200": 5}


async def test_sessions_of_with_options_share_the_token(fake):
    """A session with other options uses the token of the first one."""
    sid = fake.add_conference(participants=1)
    async with app_session(fake) as session:
        for each in (session.with_options(deadline=9), session, session.with_options(retry=ONCE)):
            assert len(await each.participants(sid)) == 1
        assert fake.client_credentials.client_secret not in repr(session.options)

    assert requests_of(fake) == {"POST 200": 1, "GET 200": 3}


async def test_the_token_request():
    """It is a form with the grant type, the id and the secret, and has no other credentials."""
    async with tokens_from() as tokens, raw(PAGE) as server:
        account = "AC" + "0" * 32
        credentials = ClientCredentials(
            "OQ1", SECRET, account_sid=account, token_url=f"{tokens.base_url}/v2/token"
        )
        async with InsightsSession(credentials, base_url=server.base_url) as session:
            await session.participants(SID)

    [seen] = tokens.seen
    assert (seen["method"], seen["query"]) == ("POST", {"account_sid": account})
    assert seen["body"] == (
        "grant_type=client_credentials&client_id=OQ1&client_secret=cl13nt%2Fs3cret-of-an-app"
    )
    assert seen["headers"]["Content-Type"] == "application/x-www-form-urlencoded"
    assert "aioparticipants" in seen["headers"]["User-Agent"]
    assert "Authorization" not in seen["headers"]
    assert f"Authorization: Bearer {TOKEN}\r\n" in server.heads[0]


async def test_no_account_in_the_query():
    """Without an account the token request has no query."""
    async with both() as (session, tokens, _):
        await session.participants(SID)

    assert tokens.seen[0]["query"] == {}


async def test_waiting_for_a_token_holds_no_slot():
    """Calls that wait for a token are no attempts in flight, and do not stop the event loop."""
    async with both(max_concurrency=2) as (session, tokens, server):
        tokens.released.clear()
        lists = [asyncio.ensure_future(session.participants(SID).all()) for _ in range(5)]
        await tokens.requested.wait()
        turns = [await asyncio.sleep(0, turn) for turn in range(50)]

        assert (turns[-1], session.stats.in_flight, session.stats.requests) == (49, 0, 0)
        tokens.released.set()
        assert await asyncio.gather(*lists) == [[]] * 5

    assert (len(tokens.seen), len(server.heads)) == (1, 5)


async def test_a_cancelled_waiter_harms_no_other():
    """If the call that started the token request is cancelled, the others get the token."""
    async with both() as (session, tokens, _):
        tokens.released.clear()
        first, second = (asyncio.ensure_future(session.participants(SID).all()) for _ in range(2))
        await tokens.requested.wait()
        first.cancel()
        await asyncio.wait([first])
        tokens.released.set()

        assert (first.cancelled(), await second, len(tokens.seen)) == (True, [], 1)


async def test_the_session_is_closed_while_a_token_is_requested():
    """Whoever waits for a token gets SessionClosedError, and the token request is gone."""
    async with both() as (session, tokens, _):
        tokens.released.clear()
        lists = [asyncio.ensure_future(session.participants(SID).all()) for _ in range(3)]
        await tokens.requested.wait()
        await session.aclose()
        outcomes = await asyncio.gather(*lists, return_exceptions=True)
        names = {task.get_name() for task in asyncio.all_tasks()}

    assert [type(each) for each in outcomes] == [SessionClosedError] * 3
    assert "aioparticipants token" not in names


@pytest.mark.parametrize("style", ["closed", *STYLES])
async def test_closing_the_session_in_each_turn_of_the_loop(fake, style):
    """Whenever the session is closed, nothing is left, and a waiter gets all or an error."""
    sid = fake.add_conference(participants=3)
    for k in itertools.count():
        session = app_session(fake)
        reading = asyncio.ensure_future(session.participants(sid, page_size=2).all())
        await turns(k, task=reading)
        closing = asyncio.ensure_future(session.aclose())
        await asyncio.sleep(0)
        if style != "closed":
            await Canceller(closing).end(style)
        await asyncio.wait([reading, closing])
        assert held(session) == (0, 0, 0)
        if reading.exception() is None:
            break
        assert isinstance(reading.exception(), SessionClosedError)

    assert len(reading.result()) == 3
    assert requests_of(fake)["POST 200"] > 0
    assert k > 10


async def test_closing_a_stream_in_each_turn_of_the_loop(fake):
    """Whenever a stream is closed that waits for a token, the next one gets that token."""
    sid = fake.add_conference(participants=3)
    for k in itertools.count():
        async with app_session(fake) as session:
            stream = session.participants(sid)
            reading = asyncio.ensure_future(stream.all())
            done = await turns(k, task=reading)
            await stream.aclose()
            await asyncio.gather(reading, return_exceptions=True)
            assert len(await session.participants(sid)) == 3
            requested = requests_of(fake)["POST 200"]
        if done:
            break
        fake.requests.clear()
        assert requested == 1

    assert k > 10


async def test_the_deadline_includes_the_wait_for_a_token():
    """A token that comes too late is a DeadlineExceededError, and no attempt."""
    async with both() as (session, tokens, server):
        tokens.released.clear()
        failure = await failure_of(session, deadline=0.05)

    assert isinstance(failure, DeadlineExceededError)
    assert (failure.attempts, server.heads) == ((), [])


async def test_the_timeout_applies_to_the_token_request():
    """A token endpoint that does not answer is a timeout, which names the token request."""
    async with both(timeout=0.05, retry=ONCE) as (session, tokens, _):
        tokens.released.clear()
        failure = await failure_of(session)

    assert isinstance(failure, RequestTimeoutError)
    assert str(failure).startswith("The OAuth token request failed. The attempt timed out")
    assert "page_size" not in str(failure)
    assert (failure.transient, failure.conference_sid) == (True, SID)
    assert [each.outcome for each in failure.attempts] == ["RequestTimeoutError"]


async def test_the_task_of_a_token_request_is_cancelled_from_outside():
    """Somebody who cancels all tasks makes the waiting calls fail, and not hang."""
    async with both(retry=ONCE) as (session, tokens, _):
        tokens.released.clear()
        call = asyncio.ensure_future(session.participants(SID).all())
        await tokens.requested.wait()
        [task] = [each for each in asyncio.all_tasks() if each.get_name().endswith(" token")]
        task.cancel()
        with pytest.raises(TransportError, match="cancelled from outside"):
            await call


async def test_fan_out_with_tokens_that_expire(fake):
    """A fan-out gets all records while its tokens expire all the time."""
    fake.token_lifetime = 0.3
    fake.latency = 0.02
    sids = [fake.add_conference(participants=5) for _ in range(40)]
    async with app_session(fake, max_concurrency=4) as session:
        results = await session.fan_out(sids, page_size=2)

    assert [result.error for result in results] == [None] * 40
    assert sum(len(result.participants) for result in results) == 200
    assert requests_of(fake)["POST 200"] > 1


async def test_the_headers_go_through_a_proxy_as_all_else(fake):
    """The token request and the requests with the token go through the session's proxy."""
    sid = fake.add_conference(participants=1)
    made = fake.client_credentials
    credentials = ClientCredentials(
        made.client_id, made.client_secret, token_url="http://localhost:1/v2/token"
    )
    async with InsightsSession(
        credentials, base_url="http://localhost:1", proxy=fake.base_url
    ) as session:
        assert len(await session.participants(sid)) == 1

    assert requests_of(fake) == {"POST 200": 1, "GET 200": 1}


def test_a_proxy_that_would_see_the_secret():
    """A proxy elsewhere is refused for a token URL of plain http."""
    credentials = ClientCredentials("OQ1", SECRET, token_url="http://localhost/v2/token")
    with pytest.raises(InvalidRequestError, match="token_url"):
        InsightsSession(credentials, proxy="http://proxy.example:3128")
    InsightsSession(ClientCredentials("OQ1", SECRET), proxy="http://proxy.example:3128")


async def test_a_borrowed_session(fake):
    """A borrowed session requests the token, too, and stays open."""
    sid = fake.add_conference(participants=1)
    async with aiohttp.ClientSession() as lent:
        async with app_session(fake, http=lent) as session:
            assert len(await session.participants(sid)) == 1
        assert not lent.closed


async def test_a_borrowed_session_with_credentials_of_its_own():
    """The Authorization header of a borrowed session is not sent to the token endpoint."""
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer theirs"}) as lent:
        async with both(http=lent) as (session, tokens, _):
            failure = await failure_of(session)

    assert isinstance(failure, InvalidRequestError)
    assert tokens.seen == []
    assert "theirs" not in showing(failure)


# --- Tokens that are refused ---


async def test_a_revoked_token(fake):
    """After a 401 a new token is requested, and the request is made again: even without retries."""
    sid, events = fake.add_conference(participants=3), []
    async with app_session(fake, retry=ONCE, on_event=events.append) as session:
        await session.participants(sid)
        fake.revoke_tokens()
        assert len(await session.participants(sid)) == 3
        stats = session.stats

    assert requests_of(fake) == {"POST 200": 2, "GET 200": 2, "GET 401": 1}
    assert (stats.requests, stats.failed, stats.retries, stats.in_flight) == (3, 1, 1, 0)
    [retry] = [each for each in events if isinstance(each, RetryScheduled)]
    assert (retry.attempt, retry.reason, retry.delay) == (1, "HTTP 401", 0.0)


async def test_a_token_that_is_revoked_under_many_calls(fake):
    """All calls whose token is refused use one new token."""
    sid = fake.add_conference(participants=1)
    fake.latency = 0.01
    async with app_session(fake, max_concurrency=8) as session:
        await session.participants(sid)
        fake.revoke_tokens()
        lists = await asyncio.gather(*(session.participants(sid) for _ in range(40)))

    assert {len(each) for each in lists} == {1}
    assert requests_of(fake)["POST 200"] == 2


async def test_a_token_that_expires_in_the_queue():
    """If a token expires while its request waits for a slot, the request is sent with another."""
    released = asyncio.Event()

    async def late(_reader, writer):
        await released.wait()
        writer.write(PAGE)

    async with both(*grants(0.05, 3600), insights=(late, PAGE), max_concurrency=1) as everything:
        session, tokens, server = everything
        lists = [asyncio.ensure_future(session.participants(SID).all()) for _ in range(2)]
        await tokens.requested.wait()
        await asyncio.sleep(0.1)
        released.set()
        assert await asyncio.gather(*lists) == [[], []]

    assert "Bearer token-1" in server.heads[1]
    assert len(tokens.seen) == 2


async def test_tokens_that_insights_does_not_accept():
    """If the new token is refused as well, the 401 stands, and later calls request no further."""
    replies = [{**GRANT, "access_token": f"token-{number}"} for number in range(9)]
    async with both(*replies, insights=(REFUSED,)) as (session, tokens, server):
        failures = [await failure_of(session) for _ in range(3)]

    assert [type(each) for each in failures] == [AuthenticationError] * 3
    assert [len(each.attempts) for each in failures] == [2, 1, 1]
    assert "No page of Twilio's says that Voice Insights accepts one" in str(failures[0])
    assert (len(tokens.seen), len(server.heads)) == (2, 4)


async def test_a_token_without_the_right_scope():
    """A 403 is not asked again, and names the scopes of the OAuth app."""
    async with both(insights=(http(b"", "403 Forbidden"),)) as (session, tokens, server):
        failure = await failure_of(session)

    assert isinstance(failure, PermissionDeniedError)
    assert "check the scopes and the account of the OAuth app" in str(failure)
    assert (len(tokens.seen), len(server.heads)) == (1, 1)


async def test_a_new_token_that_is_the_same():
    """If the endpoint issues the refused token again, the 401 stands, for later calls as well."""
    async with both(insights=(REFUSED,)) as (session, tokens, server):
        failures = [await failure_of(session) for _ in range(2)]

    assert [type(each) for each in failures] == [AuthenticationError] * 2
    assert [len(each.attempts) for each in failures] == [1, 1]
    assert (len(tokens.seen), len(server.heads)) == (2, 2)


async def test_a_token_that_was_accepted_before_is_renewed_again(fake):
    """Each revocation is followed by a new token, as long as Insights accepts that."""
    sid = fake.add_conference(participants=1)
    async with app_session(fake) as session:
        for _ in range(4):
            assert len(await session.participants(sid)) == 1
            fake.revoke_tokens()

    assert requests_of(fake) == {"POST 200": 4, "GET 200": 4, "GET 401": 3}


async def test_a_401_while_no_token_can_be_had():
    """If the token endpoint fails after a 401, that failure is raised: it may be transient."""
    async with both(GRANT, (503, b""), insights=(REFUSED,)) as (session, tokens, _):
        failure = await failure_of(session)

    assert isinstance(failure, ServerError)
    assert failure.transient
    assert [each.outcome for each in failure.attempts] == ["HTTP 401", *["HTTP 503"] * 3]
    assert len(tokens.seen) == 4


# --- Failures of the token endpoint ---


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, {"error": "invalid_client"}, AuthenticationError, "client_id, client_secret"),
        (400, {"error": "unauthorized_client"}, AuthenticationError, "client_id, client_secret"),
        (400, {"error": "invalid_request"}, BadRequestError, "see .code and .message"),
        (401, {"code": 20003}, AuthenticationError, "Twilio error 20003. Check client_id"),
        (403, b"<html>", AuthenticationError, "HTTP 403. Check client_id, client_secret"),
        (404, b"", NotFoundError, "Check token_url"),
        (302, b"", APIStatusError, "Check token_url"),
    ],
)
async def test_refusals(status, body, kind, words):
    """A refusal by the token endpoint is a typed error that is not retried, and says what to do."""
    async with both((status, body)) as (session, tokens, server):
        failure = await failure_of(session)

    assert type(failure) is kind
    assert (failure.status, failure.conference_sid, failure.transient) == (status, SID, False)
    assert str(failure).startswith("The OAuth token request failed: HTTP ")
    assert words in str(failure)
    assert "No page of Twilio's" not in str(failure)
    assert (len(tokens.seen), server.heads) == (1, [])


async def test_what_a_refusal_says():
    """The error has what RFC 6749 and Twilio put into the body of a refusal."""
    body = {"error": "invalid_client", "error_description": "no", "error_uri": "https://a.example"}
    async with both((400, body, {"Twilio-Request-Id": "RQ1"})) as (session, _, _):
        failure = await failure_of(session)

    assert (failure.message, failure.more_info) == ("no", "https://a.example")
    assert (failure.details, failure.request_id) == (body, "RQ1")


@pytest.mark.parametrize("fault", [(503, b""), (429, b""), (200, b"{"), (200, [1]), (408, b"")])
async def test_transient_faults_are_retried(fault):
    """A transient fault of the token endpoint costs another token request, and no call."""
    async with both(fault, GRANT) as (session, tokens, server):
        lists = await asyncio.gather(*(session.participants(SID) for _ in range(3)))

    assert lists == [[]] * 3
    assert (len(tokens.seen), len(server.heads)) == (2, 3)


async def test_waiting_calls_do_not_retry_the_token_request():
    """If the attempts at the token are used up, all waiting calls fail with that, at once."""
    sids = [f"CF{number:032x}" for number in range(5)]
    async with both((503, b"")) as (session, tokens, server):
        outcomes = await asyncio.gather(*map(session.participants, sids), return_exceptions=True)
        stats = session.stats

    assert [type(each) for each in outcomes] == [ServerError] * 5
    assert [each.conference_sid for each in outcomes] == sids
    assert [[one.outcome for one in each.attempts] for each in outcomes] == [["HTTP 503"] * 3] * 5
    assert (len(tokens.seen), server.heads, stats.requests) == (3, [], 0)
    assert all("Try again later" in str(each) and each.transient for each in outcomes)


async def test_the_token_request_draws_on_the_quota():
    """A retry quota that is used up stops the token request as well, and the error says so."""
    policy = RetryPolicy(max_attempts=5, base_delay=0.0, quota=1)
    async with both((503, b""), retry=policy) as (session, tokens, _):
        failure = await failure_of(session)

    assert len(tokens.seen) == 2
    assert "retry quota is used up" in str(failure)


async def test_a_long_retry_after_of_the_token_endpoint():
    """A Retry-After longer than the policy allows is raised at once, for a worker to reschedule."""
    async with both((429, b"", {"Retry-After": "999"})) as (session, tokens, _):
        failure = await failure_of(session)

    assert isinstance(failure, RateLimitError)
    assert (failure.retry_after, len(tokens.seen)) == (999, 1)


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"access_token": None}, "access_token"),
        ({"access_token": 7}, "access_token"),
        ({"access_token": ""}, "access_token"),
        ({"access_token": "a b"}, "access_token"),
        ({"access_token": "a\r\nX: y"}, "access_token"),
        ({"access_token": "a" * 16385}, "access_token"),
        ({"token_type": "mac"}, "token_type"),
        ({"token_type": 7}, "token_type"),
    ],
)
async def test_replies_without_a_usable_token(changed, path):
    """What is no Bearer token is not sent; the error says where it is, and repeats no token."""
    async with both({**GRANT, **changed}) as (session, tokens, server):
        failure = await failure_of(session)

    assert isinstance(failure, ResponseError)
    assert (failure.path, failure.transient) == (path, False)
    assert str(failure).startswith("The OAuth token request failed. The reply has")
    assert "base_url" not in str(failure)
    assert TOKEN not in showing(failure)
    assert (len(tokens.seen), server.heads) == (1, [])


async def test_a_huge_reply():
    """At most 64 KiB of the reply to a token request are read."""
    async with both({**GRANT, "padding": "x" * 2**17}) as (session, _, _):
        failure = await failure_of(session)

    assert isinstance(failure, ResponseError)
    assert "larger than 65536 bytes. Check token_url." in str(failure)
    assert TOKEN not in showing(failure)


async def test_a_redirect_is_not_followed():
    """A token endpoint that redirects gets no secret sent elsewhere."""
    async with raw(PAGE) as thief:
        reply = (307, b"", {"Location": f"{thief.base_url}/v2/token"})
        async with both(reply) as (session, _, server):
            failure = await failure_of(session)

    assert (failure.status, thief.heads, server.heads) == (307, [], [])


async def test_a_token_endpoint_that_cannot_be_reached():
    """A refused connection names the token URL as what to check."""
    credentials = ClientCredentials("OQ1", SECRET, token_url="http://localhost:1/v2/token")
    async with InsightsSession(credentials, base_url="http://localhost:1", retry=FAST) as session:
        failure = await failure_of(session)

    assert isinstance(failure, TransportError)
    assert "Check token_url" in str(failure)
    assert "base_url" not in str(failure)
    assert len(failure.attempts) == 3


async def test_a_trace_hook_that_fails_in_the_token_request():
    """What a trace hook raises is the cause of the error, without the request's secret."""
    trace = aiohttp.TraceConfig()

    async def fail(*_):
        raise KeyError

    trace.on_request_start.append(fail)
    async with both(trace_configs=[trace], retry=ONCE) as (session, _, _):
        failure = await failure_of(session)

    assert isinstance(failure.__cause__, KeyError)
    assert SECRET not in showing(failure)


async def test_a_defect_in_the_token_request_propagates():
    """A defect of this package in a token request is raised as it is, to each waiting call."""
    async with both() as (session, _, _):
        session._transport._timeout = None
        with pytest.raises(AttributeError):
            await session.participants(SID)


# --- How long a token is used ---


def jwt(claims):
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return f"e30.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.c2ln"


NOW = 1_800_000_000.0
DATE = {"Date": "Fri, 15 Jan 2027 08:00:10 GMT"}  # 10 s after NOW


@pytest.mark.parametrize(
    ("expires_in", "token", "headers", "lifetime"),
    [
        (3600, TOKEN, {}, 3600),
        (60.5, TOKEN, {}, 60.5),
        (31 * 86400, TOKEN, {}, 31 * 86400),
        (3600, jwt({"exp": NOW + 60}), {}, 3600),
        (1438315200000, jwt({"exp": NOW + 900}), {}, 900),
        (1438315200000, jwt({"exp": NOW + 900}), DATE, 890),
        (1438315200000, TOKEN, {}, 60),
        (0, TOKEN, {}, 60),
        (-1, jwt({"exp": NOW - 1}), {}, 60),
        ("3600", "opaque", {}, 60),
        (True, jwt({"exp": True}), {}, 60),
        (None, jwt({"exp": "soon"}), {}, 60),
        (None, jwt({"exp": 10**400}), {}, 60),
        (None, jwt({"exp": 1438315200000}), {}, 60),
        (None, jwt([1]), {}, 60),
        (None, jwt(b"\xff"), {}, 60),
        (None, jwt(b"[" * 6000), {}, 60),
        (None, "e30.a.c2ln", {}, 60),
    ],
)
def test_lifetime(expires_in, token, headers, lifetime):
    """It is expires_in if an app can set that, else the JWT's exp, else the shortest of an app."""
    body = json.dumps({"access_token": token, "expires_in": expires_in}).encode()
    reply = Response(status=201, headers=headers, body=body)

    found = access_token(reply, now=lambda: NOW)
    assert (found.lifetime, found.authorization.header) == (lifetime, f"Bearer {token}")
    assert token not in repr(found)


async def test_expired_tokens_are_not_sent():
    """Once a token has expired, the next call requests another one first."""
    async with both(*grants(*[0.02] * 99)) as (session, _, server):
        for _ in range(3):
            await session.participants(SID)
            await asyncio.sleep(0.03)

    headers = {line for head in server.heads for line in head.splitlines() if "Bearer" in line}
    assert len(headers) == len(server.heads) == 3


class Clock:
    """Seconds that only the test moves on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@contextlib.asynccontextmanager
async def source(*replies, policy=FAST):
    """Open a source of tokens with a clock of its own."""
    clock = Clock()
    async with both(*replies, retry=policy) as (session, tokens, _):
        own = Tokens(
            tokens.credentials,
            transport=session._transport,
            tasks=session._tasks,
            new_run=lambda: RetryRun(
                policy,
                Deadline(None, clock=clock),
                RetryQuota(None),
                clock=clock,
                rng=session._context.rng,
            ),
            clock=clock,
        )
        yield own, clock, tokens


async def ended(own):
    """Wait until no token is being requested."""
    await asyncio.wait([own._task])


async def test_a_token_is_renewed_ahead_in_the_background():
    """In the last fifth of its lifetime a token is still used while one request renews it."""
    async with source(*grants(100, 1000)) as (own, clock, tokens):
        assert own.current() is None
        first = await own.get()
        clock.now += 79.9
        assert own.current() is first
        tokens.released.clear()
        clock.now += 0.2
        assert [own.current(), await own.get(), own.current()] == [first] * 3
        tokens.released.set()
        await ended(own)
        second = own.current()
        clock.now += 799
        assert own.current() is second

    assert (first.header, second.header) == ("Bearer token-0", "Bearer token-1")
    assert len(tokens.seen) == 2


async def test_a_renewal_that_fails(caplog):
    """If the renewal fails, the token is used until it expires, and it is tried after a pause."""
    first_grant, last_grant = grants(100, 100)
    fault = (503, b"", {"Retry-After": "0"})
    async with source(first_grant, fault, last_grant, policy=ONCE) as (own, clock, tokens):
        first = await own.get()
        clock.now += 90
        assert own.current() is first
        await ended(own)
        clock.now += 1.9
        assert own.current() is first
        assert (len(tokens.seen), own._task.done()) == (2, True)
        clock.now += 0.2
        assert own.current() is first
        await ended(own)
        assert own.current().header == "Bearer token-1"

    [warning] = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "renewing the token failed (ServerError 503)" in warning.getMessage()
    assert SECRET not in caplog.text


async def test_a_renewal_that_fails_without_a_reply(caplog):
    """A renewal that got no reply is reported, too; the calls do not notice it."""
    async with source(*grants(100), b"{", policy=ONCE) as (own, clock, _):
        first = await own.get()
        clock.now += 90
        assert own.current() is first
        await ended(own)
        assert own.current() is first
        clock.now += 10
        assert own.current() is None
        with pytest.raises(ResponseError):
            await own.get()

    assert "renewing the token failed (ResponseError)" in caplog.text


async def test_a_token_is_not_renewed_in_a_closed_session():
    """A closed session starts no token request; who waits for one is told."""
    async with source(*grants(100)) as (own, clock, tokens):
        first = await own.get()
        await own._tasks.aclose()
        clock.now += 90
        assert own.current() is first
        clock.now += 10
        with pytest.raises(SessionClosedError):
            await own.get()

    assert len(tokens.seen) == 1


async def test_each_waiter_has_an_error_of_its_own():
    """Calls that fail with the same token request do not share one exception."""
    async with source((503, b""), policy=ONCE) as (own, _, tokens):
        first, second = await asyncio.gather(own.get(), own.get(), return_exceptions=True)

    assert (type(first), type(second), len(tokens.seen)) == (ServerError, ServerError, 1)
    assert first is not second


async def test_who_waits_for_a_token_as_the_session_is_closed():
    """A waiter outside the session's tasks gets SessionClosedError, not a bare cancellation."""
    async with source() as (own, _, tokens):
        tokens.released.clear()
        waiter = asyncio.ensure_future(own.get())
        await tokens.requested.wait()
        await own._tasks.aclose()
        with pytest.raises(SessionClosedError):
            await waiter


async def test_a_renewal_after_a_401():
    """After a 401 there is one new token for all, and another one only once that can help."""
    async with source(*grants(1000, 1000, 1000, 1000)) as (own, clock, tokens):
        first = await own.get()
        second = await own.renewed(first)
        assert await own.renewed(first) is second
        assert await own.renewed(second) is None
        clock.now += 31
        third = await own.renewed(second)
        third.accepted = True
        fourth = await own.renewed(third)

    headers = [each.header for each in (first, second, third, fourth)]
    assert headers == [f"Bearer token-{number}" for number in range(4)]
    assert len(tokens.seen) == 4


async def test_basic_credentials_are_at_hand():
    """The header of a username and password is made once, and there is no other to try."""
    own = Constant(Credentials("AC1", "t0ken"))

    assert own.current() is own.current() is await own.get()
    assert own.current().header == Credentials("AC1", "t0ken").authorization()
    assert await own.renewed(own.current()) is None


# --- Credentials providers ---


class Vault:
    """Returns the n-th of its values, and then always the last; an exception is raised."""

    def __init__(self, *values):
        self.values = values
        self.asked = 0

    async def authorization(self):
        self.asked += 1
        value = self.values[min(self.asked, len(self.values)) - 1]
        if isinstance(value, BaseException):
            raise value
        return value


def basic_of(fake):
    return Credentials(*fake.credentials).authorization()


@contextlib.asynccontextmanager
async def vault_session(fake, *values, **options):
    """Open a session for the fake with a vault."""
    vault = Vault(*values)
    options.setdefault("retry", FAST)
    async with InsightsSession(vault, base_url=fake.base_url, **options) as session:
        yield session, vault


def test_the_protocol():
    """A provider is recognised by its method."""
    assert isinstance(Vault(""), CredentialsProvider)
    assert not isinstance(object(), CredentialsProvider)


async def test_a_provider_is_asked_for_each_attempt(fake):
    """Each attempt has the header that the provider returns for it."""
    sid = fake.add_conference(participants=5)
    fake.fail_next(503)
    async with vault_session(fake, basic_of(fake)) as (session, vault):
        assert len(await session.participants(sid, page_size=2)) == 5

    assert vault.asked == 4
    assert requests_of(fake) == {"GET 503": 1, "GET 200": 3}


async def test_a_provider_is_asked_once_more_after_a_401(fake):
    """If the provider has another header after a 401, the request is made again with that."""
    sid = fake.add_conference(participants=1)
    async with vault_session(fake, "Bearer old", basic_of(fake), retry=ONCE) as (session, vault):
        assert len(await session.participants(sid)) == 1

    assert vault.asked == 2
    assert requests_of(fake) == {"GET 401": 1, "GET 200": 1}


@pytest.mark.parametrize(("values", "attempts"), [(["Bearer 1"], 1), (["Bearer 1", "Bearer 2"], 2)])
async def test_a_401_that_stands(fake, values, attempts):
    """The same header, or another one that is refused as well, leaves the 401."""
    sid = fake.add_conference(participants=1)
    async with vault_session(fake, *values) as (session, vault):
        with pytest.raises(AuthenticationError) as caught:
            await session.participants(sid)

    assert [each.outcome for each in caught.value.attempts] == ["HTTP 401"] * attempts
    assert vault.asked == 2
    assert "OAuth" not in str(caught.value)


async def test_a_provider_that_raises(fake):
    """An exception of the provider is a failed attempt: retried, and at last the error's cause."""
    sid = fake.add_conference(participants=1)
    own = KeyError("no such secret")
    async with vault_session(fake, own, basic_of(fake)) as (session, _):
        assert len(await session.participants(sid)) == 1
        assert session.stats.retries == 1
    async with vault_session(fake, own) as (session, vault):
        failure = await failure_of(session)

    assert type(failure) is TransportError
    assert failure.__cause__ is own
    assert (failure.conference_sid, failure.transient, len(failure.attempts)) == (SID, True, 3)
    assert "KeyError" in str(failure)
    assert "no such secret" not in str(failure)
    assert vault.asked == 3


async def test_a_provider_that_raises_after_a_401(fake):
    """An exception of the provider after a 401 is a failed attempt, too."""
    values = ("Bearer old", OSError(), basic_of(fake))
    async with vault_session(fake, *values) as (session, vault):
        sid = fake.add_conference(participants=1)
        assert len(await session.participants(sid)) == 1

    assert vault.asked == 3


async def test_a_renewal_is_no_attempt_of_the_policy():
    """An attempt that is made again after a 401 leaves the policy all of its attempts."""
    unavailable = http(b"", "503 Service Unavailable")
    async with raw(REFUSED, unavailable, PAGE) as server:
        async with InsightsSession(
            Vault("Bearer 1", "Bearer 2"),
            base_url=server.base_url,
            retry=RetryPolicy(max_attempts=2, base_delay=0.0, quota=1),
        ) as session:
            assert await session.participants(SID) == []

    assert len(server.heads) == 3


async def test_errors_of_this_package_pass(fake):
    """An error of this package that a provider raises is raised as it is."""
    own = InvalidRequestError("The vault is sealed.")
    async with vault_session(fake, own) as (session, vault):
        failure = await failure_of(session)

    assert (type(failure), str(failure)) == (InvalidRequestError, "The vault is sealed.")
    assert (vault.asked, fake.requests) == (1, [])


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        b"Bearer s3cret-value",
        "",
        " ",
        "s3cret-value",
        "Bearer s3cret-value\n",
        "Bearer s3cret-value\r\nX: y",
        "Bearer s3cret-value\x00",
        "Bearer s3cret-välue",
        " Bearer s3cret-value",
        "Bearer  s3cret-value",
    ],
)
async def test_nonsense_of_a_provider(fake, value):
    """What cannot be a header is not sent, and the error does not repeat it."""
    async with vault_session(fake, value) as (session, vault):
        failure = await failure_of(session)

    assert isinstance(failure, InvalidRequestError)
    assert "must return the whole value" in str(failure)
    assert "s3cret" not in showing(failure)
    assert (vault.asked, fake.requests) == (1, [])


async def test_a_provider_that_is_not_async(fake):
    """A plain method is named as the mistake."""

    class Plain:
        def authorization(self):
            return "Bearer s3cret-value"

    async with InsightsSession(Plain(), base_url=fake.base_url) as session:
        failure = await failure_of(session)

    assert isinstance(failure, InvalidRequestError)
    assert "must be `async def`" in str(failure)
    assert "s3cret" not in showing(failure)


class Hanging:
    """Never answers."""

    def __init__(self):
        self.asked = asyncio.Event()
        self.answer = asyncio.get_running_loop().create_future()

    async def authorization(self):
        self.asked.set()
        return await self.answer


async def test_a_provider_that_hangs(fake):
    """The session's timeout and the deadline end the wait for a provider, and so does a cancel."""
    vault = Hanging()
    async with InsightsSession(vault, base_url=fake.base_url, timeout=0.02, retry=ONCE) as session:
        failure = await failure_of(session)
    assert type(failure) is RequestTimeoutError
    assert "credentials provider did not answer within 0.02 s" in str(failure)

    vault = Hanging()
    async with InsightsSession(vault, base_url=fake.base_url) as session:
        quick = session.with_options(timeout=0.03, retry=ONCE)
        assert "did not answer within 0.03 s" in str(await failure_of(quick))
        assert isinstance(await failure_of(session, deadline=0.02), DeadlineExceededError)
        assert session.stats.in_flight == 0

    vault = Hanging()
    async with InsightsSession(vault, base_url=fake.base_url) as session:
        call = asyncio.ensure_future(session.participants(SID).all())
        await vault.asked.wait()
        await session.aclose()
        with pytest.raises(SessionClosedError):
            await call


async def test_a_provider_that_answers_a_cancellation_by_an_error(fake):
    """Closing the session ends the wait for a provider even if that raises another error."""
    vault = Hanging()

    class Translating:
        async def authorization(self):
            try:
                return await vault.authorization()
            except asyncio.CancelledError:
                raise KeyError from None

    async with InsightsSession(Translating(), base_url=fake.base_url) as session:
        call = asyncio.ensure_future(session.participants(SID).all())
        await vault.asked.wait()
        vault.asked.clear()
        await session.aclose()
        with pytest.raises(SessionClosedError):
            await call

    assert not vault.asked.is_set()


async def test_a_provider_whose_own_task_is_cancelled(fake):
    """A cancellation of what the provider waits for is a failed attempt, not one of the call."""
    vault = Hanging()
    vault.answer.cancel()
    async with InsightsSession(vault, base_url=fake.base_url, retry=ONCE) as session:
        failure = await failure_of(session)

    assert type(failure) is TransportError
    assert "CancelledError" in str(failure)


async def test_a_provider_that_times_out_by_itself(fake):
    """A TimeoutError of the provider's own is its failure, not the session's timeout."""
    async with vault_session(fake, TimeoutError(), retry=ONCE) as (session, _):
        failure = await failure_of(session)

    assert type(failure) is TransportError


async def test_a_provider_that_uses_its_own_session(fake):
    """A provider that reads by the session that asks it gets an error, and not an endless loop."""
    sid, raised = fake.add_conference(participants=1), []

    class Circular:
        async def authorization(self):
            try:
                await session.participants(sid)
            except InsightsError as error:
                raised.append(error)
                raise
            return basic_of(fake)

    async with InsightsSession(Circular(), base_url=fake.base_url) as session:
        failure = await failure_of(session)

    assert isinstance(failure, InvalidRequestError)
    assert "uses the session itself" in str(failure)
    assert (len(raised), fake.requests) == (1, [])


async def test_a_provider_that_uses_another_session(fake):
    """A provider may read by another session; what it starts may use its own one later."""
    sid, later = fake.add_conference(participants=1), []
    inner = InsightsSession(Vault(basic_of(fake)), base_url=fake.base_url)

    class Nested:
        async def authorization(self):
            assert len(await inner.participants(sid)) == 1
            if not later:
                later.append(asyncio.ensure_future(self.read_later()))
            return basic_of(fake)

        async def read_later(self):
            await asyncio.sleep(0.01)
            return await outer.participants(sid)

    async with inner, InsightsSession(Nested(), base_url=fake.base_url) as outer:
        assert len(await outer.participants(sid)) == 1
        assert len(await later[0]) == 1


async def test_a_trace_hook_of_the_token_request_that_uses_the_session():
    """A hook that waits for the token that it belongs to gets an error, and does not hang."""
    trace, raised = aiohttp.TraceConfig(), []

    async def read(*_):
        if not raised:
            raised.append(await failure_of(session))

    trace.on_request_start.append(read)
    async with both(trace_configs=[trace]) as (session, tokens, _):
        assert await session.participants(SID) == []

    assert isinstance(raised[0], InvalidRequestError)
    assert len(tokens.seen) == 1


# --- What nobody may see ---


@pytest.mark.parametrize("status", ["401 Unauthorized", "404 Not Found"])
async def test_an_echoed_token_is_not_kept(status):
    """A server that repeats the header in its error puts no token into ours."""
    for said in (TOKEN, TOKEN.replace("/", "\\/"), f"Bearer {TOKEN}"):
        body = json.dumps({"code": 1, "message": said, "headers": [said]}).encode()
        reply = http(body.replace(b"\\\\", b"\\"), status)
        async with both(insights=(reply,)) as (session, _, _):
            failure = await failure_of(session)

        assert isinstance(failure, APIStatusError)
        assert "***" in failure.message
        assert "nobody-may" not in showing(failure)


async def test_an_echoed_secret_is_not_kept():
    """A token endpoint that repeats the request in its error puts no secret into ours."""
    said = "client_secret=cl13nt%2Fs3cret-of-an-app"
    for text in (said, SECRET):
        async with both((401, {"message": text, "form": {"client_secret": text}})) as all_three:
            failure = await failure_of(all_three[0])

        assert "***" in failure.message
        assert "s3cret-of-an-app" not in showing(failure)


async def test_nothing_shows_a_secret(caplog):
    """Reprs, events, statistics, logs and asyncio's own reports hold neither secret nor token."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    events = []
    async with both((503, b""), GRANT, on_event=events.append) as (session, tokens, _):
        await session.participants(SID)
        source = session._context.authorization
        held = [session, session.stats, tokens.credentials, source, vars(source)]
        held += [source.current(), asyncio.all_tasks(), *events]

    shown = "\n".join([*map(repr, held), caplog.text, *(repr(vars(r)) for r in caplog.records)])
    assert "a token for 3600 s was issued" in caplog.text
    assert SECRET not in shown
    assert TOKEN not in shown


# --- FakeInsights ---


async def test_the_fake_refuses_as_rfc_6749_says(fake):
    """The token endpoint of the fake refuses a wrong client, another grant, and a GET."""
    made = fake.client_credentials
    form = {
        "grant_type": "client_credentials",
        "client_id": made.client_id,
        "client_secret": made.client_secret,
    }
    found = []
    async with aiohttp.ClientSession() as client:
        for changed in ({}, {"client_secret": "x"}, {"grant_type": "password"}):
            async with client.post(made.token_url, data={**form, **changed}) as reply:
                found.append((reply.status, (await reply.json()).get("error")))
        async with client.get(made.token_url) as reply:
            found.append((reply.status, (await reply.json())["code"]))

    assert found == [
        (200, None),
        (401, "invalid_client"),
        (400, "unsupported_grant_type"),
        (405, 20004),
    ]
    assert [each.authorized for each in fake.requests] == [True, False, True, False]


async def test_a_reset_of_the_fake_keeps_the_tokens(fake):
    """A session that serves several tests goes on with its token after `reset`."""
    fake.token_lifetime = 900
    async with app_session(fake) as session:
        await session.participants(fake.add_conference(participants=1))
        made = fake.client_credentials
        fake.reset()
        await session.participants(fake.add_conference(participants=1))

    assert requests_of(fake) == {"GET 200": 1}
    assert (fake.token_lifetime, fake.client_credentials) == (3600, made)


async def test_wrong_credentials_at_the_fake(fake):
    """A session with a wrong secret gets an AuthenticationError that names the cause."""
    credentials = ClientCredentials(
        fake.client_credentials.client_id, SECRET, token_url=fake.client_credentials.token_url
    )
    async with InsightsSession(credentials, base_url=fake.base_url) as session:
        failure = await failure_of(session)

    assert isinstance(failure, AuthenticationError)
    assert failure.message == "The client id or secret is wrong."
    assert "client_secret" in str(failure)
    assert SECRET not in showing(failure)
