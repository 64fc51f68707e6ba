"""Sessions with other options (`with_options`), and options that leave the process (`options`)."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import pickle
import ssl
import subprocess
import sys
import warnings

import aiohttp
import pytest

from aioparticipants import (
    DeadlineExceededError,
    InsightsSession,
    InvalidRequestError,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    SessionOptions,
)

from .conftest import alive
from .servers import http, last_page, raw
from .telemetry import until

SID, PARTICIPANT_SID = "CF" + "a" * 32, "CP" + "b" * 32
SECRET = "s3cret-t0ken"
CREDENTIALS = ("AC" + "0" * 32, SECRET)
ONCE = RetryPolicy(max_attempts=1)
QUICK = RetryPolicy(base_delay=0.001)
PAGE = http(last_page({"label": "a"}))
BUSY = http(b"", "503 Busy")


def after(event):
    """Return a reply that sends a page once the event is set, and closes the connection."""

    async def reply(_reader, writer):
        await event.wait()
        writer.write(http(last_page({"label": "a"}), "200 OK", "Connection: close"))
        await writer.drain()

    return reply


def client(base_url, **options):
    return InsightsSession(CREDENTIALS, base_url=base_url, **{"retry": QUICK} | options)


# --- with_options: the options ---


async def test_another_retry_policy():
    """A session with another policy retries by it; the first one still by its own."""
    async with raw(BUSY, BUSY, PAGE) as server, client(server.base_url) as session:
        with pytest.raises(ServerError) as caught:
            await session.with_options(retry=ONCE).participants(SID)
        assert len(caught.value.attempts) == len(server.heads) == 1
        assert len(await session.participants(SID)) == 1

    assert len(server.heads) == 3


async def test_another_timeout():
    """A session with another timeout ends its attempts by it; those of the first one go on."""
    answer = asyncio.Event()
    async with (
        raw(after(answer)) as server,
        client(server.base_url, retry=ONCE) as session,
    ):
        patient = asyncio.ensure_future(session.participants(SID))
        await until(lambda: server.heads)
        with pytest.raises(RequestTimeoutError):
            await session.with_options(timeout=0.01).participants(SID)
        assert not patient.done()
        answer.set()
        assert len(await patient) == 1


async def test_a_longer_timeout():
    """A timeout can be longer than that of the first session, too."""
    answer = asyncio.Event()
    async with (
        raw(after(answer)) as server,
        client(server.base_url, retry=ONCE, timeout=0.01) as session,
    ):
        patient = asyncio.ensure_future(session.with_options(timeout=30).participants(SID))
        await until(lambda: server.heads)
        with pytest.raises(RequestTimeoutError):
            await session.participants(SID)
        assert not patient.done()
        answer.set()
        assert len(await patient) == 1


async def use_list(session):
    await session.participants(SID)


async def use_record(session):
    await session.participant(SID, PARTICIPANT_SID)


async def use_conferences(session):
    await session.conferences(created_after=None)


async def use_conference(session):
    await session.conference(SID)


async def use_fan_out(session):
    [result] = await session.fan_out([SID])
    raise result.error


@pytest.mark.parametrize(
    "use", [use_list, use_record, use_conferences, use_conference, use_fan_out]
)
@pytest.mark.parametrize("place", ["constructor", "with_options"])
async def test_a_default_deadline(use, place):
    """The deadline of a session is that of each list, record and fan-out made from it."""
    given = {"deadline": 0.01}
    async with raw(...) as server:
        async with client(server.base_url, **given if place == "constructor" else {}) as session:
            with pytest.raises(DeadlineExceededError, match=r"0\.01 s"):
                await use(session if place == "constructor" else session.with_options(**given))


async def test_the_deadline_of_a_call():
    """A deadline of the call itself wins over that of the session."""
    answer = asyncio.Event()
    async with (
        raw(after(answer)) as server,
        client(server.base_url, deadline=3600) as session,
    ):
        with pytest.raises(DeadlineExceededError, match=r"0\.01 s"):
            await session.participants(SID, deadline=0.01)
        hurried = session.with_options(deadline=0.01)
        patient = asyncio.ensure_future(hurried.participants(SID, deadline=60))
        with pytest.raises(DeadlineExceededError):
            await hurried.participants(SID)
        answer.set()
        assert len(await patient) == 1


async def test_options_compose():
    """An option that is not given stays; None is the default of the class."""
    first = InsightsSession(CREDENTIALS, retry=RetryPolicy(quota=7), timeout=5, deadline=60)
    second = first.with_options(retry=RetryPolicy(max_attempts=2), deadline=2)
    third = second.with_options(timeout=1)
    reset = third.with_options(retry=None, timeout=None, deadline=None)

    assert options_of(first) == (RetryPolicy(quota=7), 5.0, 60)
    assert options_of(second) == (RetryPolicy(max_attempts=2, quota=7), 5.0, 2)
    assert options_of(third) == (RetryPolicy(max_attempts=2, quota=7), 1.0, 2)
    assert options_of(reset) == (RetryPolicy(quota=7), 30.0, None)
    assert options_of(third.with_options()) == options_of(third)


def options_of(session):
    options = session.options
    return options["retry"], options["timeout"].total, options["deadline"]


@pytest.mark.parametrize(
    "option",
    [
        *({"retry": each} for each in (5, "once", RetryPolicy)),
        *({"timeout": each} for each in (0, -1, "1", float("nan"))),
        {"timeout": aiohttp.ClientTimeout(total=None)},
        *({"deadline": each} for each in (0, -1, "1", float("inf"), True)),
    ],
    ids=repr,
)
async def test_bad_options(option):
    """An option that cannot be used is refused by its name, here as in the constructor."""
    (name,) = option
    session = InsightsSession(CREDENTIALS)
    with pytest.raises(InvalidRequestError, match=name):
        session.with_options(**option)
    with pytest.raises(InvalidRequestError, match=name):
        InsightsSession(CREDENTIALS, **option)


# --- with_options: what is shared ---


async def test_connections_and_statistics_are_shared():
    """Both sessions use one connection pool, and count together."""
    async with raw(PAGE) as server, client(server.base_url) as session:
        for each in (session, session.with_options(deadline=60), session):
            assert len(await each.participants(SID)) == 1
        assert session.with_options(timeout=1).stats == session.stats
        assert session.stats.succeeded == 3

    assert (len(server.heads), server.connections) == (3, 1)


async def test_the_limit_is_shared():
    """The attempts of both count towards one limit."""
    answer = asyncio.Event()
    async with (
        raw(after(answer)) as server,
        client(server.base_url, max_concurrency=1) as session,
    ):
        first = asyncio.ensure_future(session.participants(SID))
        await until(lambda: server.heads)
        with pytest.raises(DeadlineExceededError) as caught:
            await session.with_options(deadline=0.01).participants(SID)
        assert caught.value.attempts == ()  # it had to queue
        answer.set()
        await first

    assert len(server.heads) == 1


async def test_the_retry_quota_is_the_first_sessions():
    """Retries are taken from the first session's quota, whatever quota another policy has."""
    async with (
        raw(BUSY) as server,
        client(server.base_url, retry=RetryPolicy(base_delay=0.001, quota=1)) as session,
    ):
        other = session.with_options(retry=RetryPolicy(base_delay=0.001, quota=50))
        with pytest.raises(ServerError, match="none of its 1 retries is left"):
            await other.participants(SID)
        with pytest.raises(ServerError, match="none of its 1 retries is left"):
            await session.participants(SID)

    assert len(server.heads) == 3


async def test_it_costs_nothing(fake):
    """A session with other options starts no task and opens no connection of its own."""
    session = InsightsSession(fake.credentials, base_url=fake.base_url)
    sid, tasks = fake.add_conference(participants=1), alive()
    several = [session.with_options(deadline=60, timeout=each) for each in range(1, 100)]
    assert alive() == tasks
    for each in several[:3]:
        assert len(await each.participants(sid)) == 1
    await session.aclose()


async def test_a_subclass_stays_one(fake):
    """A session of a subclass stays one, with what the subclass has added."""

    class Named(InsightsSession):
        def __init__(self, *args, name, **options):
            super().__init__(*args, **options)
            self.name = name

    other = Named(fake.credentials, name="reports").with_options(deadline=2)

    assert (type(other), other.name) == (Named, "reports")


# --- with_options: closing ---


@pytest.mark.parametrize("style", ["async with", "aclose"])
async def test_closing_it_closes_nothing(style):
    """A handler that closes its session with other options leaves the application's one open."""
    answer = asyncio.Event()
    async with (
        raw(after(answer)) as server,
        client(server.base_url) as session,
    ):
        waiting = asyncio.ensure_future(session.participants(SID))
        await until(lambda: server.heads)
        other = session.with_options(deadline=60)
        if style == "async with":
            async with other as entered:
                assert entered is other
        else:
            await other.aclose()
        assert "open" in repr(session)
        answer.set()
        assert len(await waiting) == 1
        assert len(await other.participants(SID)) == 1
        assert len(await other.with_options(timeout=5).participants(SID)) == 1


async def test_it_is_closed_with_the_first_session():
    """Closing the first session closes all others: who waits there gets SessionClosedError."""
    async with raw(...) as server:
        session = client(server.base_url)
        other = session.with_options(deadline=60).with_options(timeout=20)
        waiting = asyncio.ensure_future(other.participants(SID))
        await until(lambda: server.heads)
        await session.aclose()
        [outcome] = await asyncio.gather(waiting, return_exceptions=True)
        for each in (other, other.with_options(deadline=1)):
            with pytest.raises(SessionClosedError):
                await each.participants(SID)

    assert type(outcome) is SessionClosedError
    assert "closed" in repr(other)


async def test_dropping_it_is_silent(fake):
    """A session with other options that was used and dropped causes no warning."""
    async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
        sid = fake.add_conference(participants=1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                await session.with_options(deadline=60).participants(sid)
            gc.collect()

    assert caught == []


async def test_the_first_session_is_not_forgotten(fake):
    """Where only the session with other options is kept, the warning comes when that is dropped."""
    sid, transports = fake.add_conference(participants=1), []

    class Watched(InsightsSession):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            transports.append(self._transport)

    other = Watched(fake.credentials, base_url=fake.base_url).with_options(deadline=60)
    await other.participants(sid)
    await other.participants(sid)
    with pytest.warns(ResourceWarning, match="unclosed <InsightsSession of http") as caught:
        del other
    await transports[0].aclose()

    assert len(caught) == 1


# --- options ---


#: What `options` leaves out: it cannot leave the process, or is in `base_url`.
LEFT_OUT = {"http", "ssl", "trace_configs", "limiter", "on_event", "tracer", "region", "edge"}


def test_session_options_are_the_arguments():
    """`SessionOptions` has each argument of the class but the credentials, and no other."""
    arguments = inspect.signature(InsightsSession).parameters.values()

    assert [each.name for each in arguments if each.kind is each.KEYWORD_ONLY] == [
        *SessionOptions.__annotations__
    ]


def test_options_survive_pickle():
    """A session made from pickled options has the same ones, and pickles them again."""
    session = InsightsSession(
        CREDENTIALS,
        region="ie1",
        retry=RetryPolicy(max_attempts=3, quota=None),
        timeout=aiohttp.ClientTimeout(total=7, sock_read=2),
        deadline=90,
        max_concurrency=5,
        user_agent="call-reports/1.4",
        proxy="http://proxy.example:3128",
    )
    environ = {"TWILIO_ACCOUNT_SID": CREDENTIALS[0], "TWILIO_AUTH_TOKEN": "another"}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        options = pickle.loads(pickle.dumps(session.options, protocol=protocol))
        assert InsightsSession.from_env(environ, **options).options == session.options

    assert session.options == {
        "base_url": "https://insights.dublin.ie1.twilio.com",
        "retry": RetryPolicy(max_attempts=3, quota=None),
        "timeout": aiohttp.ClientTimeout(total=7, sock_connect=10, sock_read=2),
        "deadline": 90,
        "max_concurrency": 5,
        "user_agent": "call-reports/1.4",
        "proxy": "http://proxy.example:3128",
    }
    assert set(session.options) == {*SessionOptions.__annotations__} - LEFT_OUT


async def test_options_hold_no_secret():
    """Credentials, and a proxy with any in its URL, are not in the options, nor is what is live."""
    proxies = [f"http://user:{SECRET}@p.example", f"http://{SECRET}@p.example"]
    async with aiohttp.ClientSession() as lent:
        sessions = [
            InsightsSession(CREDENTIALS, http=lent, on_event=print),
            InsightsSession(CREDENTIALS, ssl=ssl.create_default_context()),
            InsightsSession(
                CREDENTIALS, limiter=asyncio.Semaphore(2), trace_configs=[aiohttp.TraceConfig()]
            ),
            *(InsightsSession(CREDENTIALS, proxy=proxy) for proxy in proxies),
        ]
    for each in sessions:
        assert SECRET not in pickle.dumps(each.options, protocol=0).decode("latin-1")
        assert {*each.options} == {*SessionOptions.__annotations__} - LEFT_OUT - {"proxy"}


def test_changing_the_options_changes_no_session():
    """The options are a new dict each time."""
    session = InsightsSession(CREDENTIALS, max_concurrency=5)
    session.options["max_concurrency"] = 1

    assert session.options["max_concurrency"] == 5


WORKER = """
import asyncio, pickle, sys
from aioparticipants import InsightsSession

async def main():
    options = pickle.loads(sys.stdin.buffer.read())
    async with InsightsSession.from_env(**options) as session:
        print(len(await session.participants(sys.argv[1])))

asyncio.run(main())
"""


async def test_a_worker_process(fake):
    """Another process reads by the options of a session, with credentials of its environment."""
    sid = fake.add_conference(participants=3)
    username, password = fake.credentials
    session = InsightsSession(
        fake.credentials, base_url=fake.base_url, user_agent="call-reports/1.4"
    ).with_options(retry=ONCE)
    worker = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", WORKER, sid],
        input=pickle.dumps(session.options),
        env={
            **os.environ,
            "TWILIO_API_KEY": "",
            "TWILIO_ACCOUNT_SID": username,
            "TWILIO_AUTH_TOKEN": password,
        },
        stdout=subprocess.PIPE,
        check=True,
    )

    assert worker.stdout.split() == [b"3"]
    assert fake.requests[0].user_agent.endswith(" call-reports/1.4")
