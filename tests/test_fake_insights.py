"""FakeInsights, called by a plain HTTP client: it behaves as the API's description says."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from array import array
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from aioparticipants import InsightsSession, NotFoundError, models
from aioparticipants.testing import FakeInsights, SeenRequest
from aioparticipants.testing.__main__ import main

SID = "CF" + "0" * 32


def path_of(sid, query=""):
    return f"/v1/Conferences/{sid}/Participants{query}"


async def test_pages(fake, get):
    """Absolute links lead through all pages and back, with 50 records per page by default."""
    sid = fake.add_conference(participants=120)
    link, pages = path_of(sid), []
    while link:
        status, body, headers = await get(link)
        assert status == 200
        assert headers["Twilio-Request-Id"].startswith("RQ")
        pages.append(body)
        link = body["meta"]["next_page_url"]

    assert [len(each["participants"]) for each in pages] == [50, 50, 20]
    assert [each["meta"]["page"] for each in pages] == [0, 1, 2]
    assert [record for each in pages for record in each["participants"]] == fake.records(sid)
    assert pages[0]["meta"]["previous_page_url"] is None
    _, back, _ = await get(pages[2]["meta"]["previous_page_url"])
    assert back == pages[1]
    _, first, _ = await get(pages[2]["meta"]["first_page_url"])
    assert first["participants"] == pages[0]["participants"]
    assert list(pages[0]["meta"]) == [
        "page", "page_size", "first_page_url", "previous_page_url", "url", "next_page_url", "key",
    ]  # fmt: skip


async def test_filters_stay_in_the_links(fake, get):
    """Filters select records, and the next link contains them."""
    sid = fake.add_conference([{"label": "a b", "events": {"mute": []}}, {"label": "a b"}, {}])

    _, body, _ = await get(path_of(sid, "?Label=a%20b&PageSize=1"))
    assert "Label=a%20b" in body["meta"]["next_page_url"]
    _, body, _ = await get(body["meta"]["next_page_url"])
    assert body["participants"] == [{"label": "a b"}]
    assert body["meta"]["next_page_url"] is None
    _, body, _ = await get(path_of(sid, "?Events=mute"))
    assert len(body["participants"]) == 1


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/v1/Conferences/CF0/Participants", "GET", 404, 20404),
        ("/v1/Rooms", "GET", 404, 20404),
        ("{}", "POST", 405, 20004),
        ("{}?PageSize=0", "GET", 400, 20001),
        ("{}?PageSize=1001", "GET", 400, 20001),
        ("{}?PageSize=ten", "GET", 400, 20001),
        ("{}?PageToken=PTx", "GET", 400, 21481),
        ("{}?PageToken=PT", "GET", 400, 21481),
        ("{}?PageToken=PTZnJvbSA5OTk=", "GET", 400, 21481),
        ("{}?PageToken=PTdG8gOTk5", "GET", 400, 21481),
    ],
)
async def test_invalid_requests(fake, get, path, method, status, code):
    """An invalid request gets Twilio's status, error code and message."""
    sid = fake.add_conference(participants=1)

    answered, body, _ = await get(path.format(path_of(sid)), method)

    assert (answered, body["status"], body["code"]) == (status, status, code)
    assert body["more_info"].endswith(str(code))


async def test_authentication(fake):
    """Without the right credentials, every reply is 401."""
    sid = fake.add_conference(participants=1)
    async with aiohttp.ClientSession() as client:
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic AAAA"}):
            async with client.get(fake.base_url + path_of(sid), headers=headers) as reply:
                assert (reply.status, (await reply.json())["code"]) == (401, 20003)

    assert [seen.authorized for seen in fake.requests] == [False] * 3


async def test_faults_are_queued(fake, get):
    """Faults are sent in order, with their bodies and headers; later requests succeed."""
    sid = fake.add_conference(participants=1)
    fake.fail_next(429, retry_after=7)
    fake.fail_next(502, body=b'"gateway"', headers={"X-Cache": "x"}, times=2)
    fake.fail_next(418, body={"a": 1})
    fake.fail_next(599)

    answers = [await get(path_of(sid)) for _ in range(6)]

    assert [status for status, _, _ in answers] == [429, 502, 502, 418, 599, 200]
    assert answers[0][2]["Retry-After"] == "7"
    assert (answers[1][1], answers[1][2]["X-Cache"]) == ("gateway", "x")
    assert answers[3][1] == {"a": 1}
    assert answers[4][1]["code"] == 20599


async def test_dropped_connections(fake, get):
    """A fault can drop the connection; the log then has status 0."""
    sid = fake.add_conference(participants=1)
    fake.fail_next(disconnect=True, times=2)  # aiohttp sends the GET twice

    with pytest.raises(aiohttp.ClientConnectionError):
        await get(path_of(sid))
    assert (await get(path_of(sid)))[0] == 200
    assert [seen.status for seen in fake.requests] == [0, 0, 200]


async def test_maximum_concurrency(fake, get):
    """Requests beyond the maximum concurrency get 429 with Twilio's error code 20429."""
    fake.concurrency, fake.latency = 2, 1  # all five must arrive before the first reply
    sid = fake.add_conference(participants=1)

    answers = await asyncio.gather(*(get(path_of(sid)) for _ in range(5)))

    assert sorted(status for status, _, _ in answers) == [200, 200, 429, 429, 429]
    assert {body["code"] for status, body, _ in answers if status == 429} == {20429}


async def test_seeds():
    """The same seed gives the same data, and another seed other data."""
    found = []
    for seed in (1, 1, 2):
        async with FakeInsights(seed=seed) as fake:
            sid = fake.add_conference(participants=5)
            records = [{**each, "url": None} for each in fake.records(sid)]  # it contains the port
            found.append((fake.credentials, sid, records))

    assert found[0] == found[1]
    assert found[0] != found[2]


async def test_records_are_complete_and_varied(fake, session):
    """Made-up records have all 27 fields, as varied as real ones; all are valid."""
    sid = fake.add_conference(participants=300)
    records = fake.records(sid)

    assert {len(each) for each in records} == {27}
    assert fake.records(fake.add_conference(await session.participants(sid))) == records
    assert {each["events"] is None for each in records} == {True, False}
    assert {name for each in records for name in each["properties"]} >= {
        "early_media",
        "play_early_media",
    }
    assert any("tags" in each["metrics"]["inbound"] for each in records)
    assert fake.add_conference([], conference_sid="CF" + "0" * 32) == "CF" + "0" * 32
    records[0].clear()
    assert fake.records(sid)[0]


async def test_given_participants(fake, session, get):
    """Participants and mappings are copied when they are given, from any iterable."""
    own = fake.add_conference(participants=2)
    records = fake.records(own)
    given = [*await session.participants(own), types.MappingProxyType(records[0]), records[1]]
    records[1]["label"] = "given"
    sid = fake.add_conference(each for each in given)
    wanted = [*fake.records(own), fake.records(own)[0], {**fake.records(own)[1], "label": "given"}]

    records[1]["label"] = "changed"
    records[1]["metrics"]["inbound"].clear()

    _, body, _ = await get(path_of(sid))
    assert body["participants"] == wanted == fake.records(sid)
    nested = fake.add_conference([{"metrics": models.FrozenMapping({"inbound": None})}])
    assert fake.records(nested) == [{"metrics": {"inbound": None}}]


INVALID_PARTICIPANTS = [
    (True, TypeError, "participants must be the number"),
    (1.5, TypeError, "participants must be the number .* not float"),
    (None, TypeError, "participants must be the number .* not NoneType"),
    ("CP1", TypeError, "participants must be the number .* not str"),
    ({"label": "a"}, TypeError, "participants must be the number .* not dict"),
    (models.Participant(), TypeError, "participants must be the number .* not Participant"),
    ([{}, "CP1"], TypeError, r"participants\[1\] must be a Participant or a mapping, not str"),
    (
        [{"join_time": datetime.now(UTC)}],
        TypeError,
        r"participants\[0\] cannot be encoded as JSON: .* datetime",
    ),
    (
        [{}, {("a", 1): 2}],
        TypeError,
        r"participants\[1\] cannot be encoded as JSON: keys must be str",
    ),
    ([CYCLE := {}], ValueError, r"participants\[0\] cannot be encoded as JSON: Circular"),
    (-1, ValueError, "must be a whole number from 0"),
]
CYCLE["metrics"] = CYCLE


@pytest.mark.parametrize(("given", "error", "words"), INVALID_PARTICIPANTS)
async def test_invalid_participants(fake, session, given, error, words):
    """Participants that cannot be served raise an error, and no conference is added."""
    with pytest.raises(error, match=words):
        fake.add_conference(given, conference_sid=SID)

    with pytest.raises(NotFoundError):
        await session.participants(SID)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda each: array("B", each)])
async def test_bodies_of_bytes(fake, get, kind):
    """The body of a fault can be any object that holds bytes, and is sent unchanged."""
    sid = fake.add_conference(participants=1)
    body = kind(b'{"a": 1}')
    fake.fail_next(502, body=body)

    assert (await get(path_of(sid)))[:2] == (502, {"a": 1})


async def test_invalid_bodies(fake):
    """The body of a fault must be bytes, or a value that can be encoded as JSON."""
    with pytest.raises(TypeError, match="not JSON serializable"):
        fake.fail_next(502, body={1, 2})


async def test_restart():
    """After a restart all links and URLs lead to the new port, those of cached pages too."""
    fake = FakeInsights()
    async with fake:
        sid = fake.add_conference(participants=3)
        elsewhere = fake.add_conference([{"url": "https://a.example/x"}, {"url": 7}, {}])
        async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
            before = [page.meta async for page in session.participants(sid, page_size=2).pages()]
        old = fake.base_url
    with socket.create_server(("127.0.0.1", int(old.rpartition(":")[2]))):  # taken
        async with fake:
            async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
                stream = session.participants(sid, page_size=2)
                pages = [page async for page in stream.pages()]
            assert fake.base_url != old
            assert repr(fake.records(sid)).count(fake.base_url) == 3
            assert fake.records(elsewhere) == [{"url": "https://a.example/x"}, {"url": 7}, {}]
            links = [page.meta.next_page_url or page.meta.previous_page_url for page in pages]
            assert [link.replace(fake.base_url, old) for link in links] == [
                meta.next_page_url or meta.previous_page_url for meta in before
            ]
            found = [each for page in pages for each in page.records]
    assert all(not each.url.startswith(old) for each in found)


async def test_repr_of_a_seen_request(fake, get):
    """The repr of a logged request shows no label."""
    await get(path_of("CF0", "?Label=zebra"))

    assert fake.requests[0].query == {"Label": "zebra"}
    assert "zebra" not in repr(fake.requests[0])


async def test_not_running():
    """Without a running server `base_url` raises an error, and `aclose` does nothing."""
    fake = FakeInsights()
    with pytest.raises(RuntimeError, match="async with"):
        _ = fake.base_url
    await fake.aclose()


async def test_closing_does_not_wait():
    """Closing drops the requests in flight, and does not wait for them."""
    async with FakeInsights(latency=3600) as fake, aiohttp.ClientSession() as client:
        request = asyncio.create_task(client.get(fake.base_url))
        while not fake._in_flight:  # noqa: ASYNC110 - iterations of the loop
            await asyncio.sleep(0)
        await fake.aclose()
        with pytest.raises(aiohttp.ClientError):
            await request


async def run_example(thing, names):
    """Run the indented code of a docstring."""
    text = re.split(r"\n\n(?:Args|Raises):", inspect.getdoc(thing))[0]
    code = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    assert code
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    coroutine = eval(compile(code, thing.__name__, "exec", flags=flags), names)  # noqa: S307 - ours
    if coroutine is not None:
        await coroutine


async def test_examples_in_the_docstrings(fake, session):
    """The examples in the docstrings run."""
    names = {"FakeInsights": FakeInsights, "InsightsSession": InsightsSession, "fake": fake}
    await run_example(FakeInsights.add_conference, names)
    await run_example(FakeInsights.records, names)
    assert names["expected"] == ["CP1"]
    fake.fail_next(503)
    await session.participants(names["sid"], page_size=50)
    await run_example(SeenRequest, names)
    await run_example(FakeInsights.fail_next, names)
    await run_example(FakeInsights.conferences, names)
    assert names["sid"] in names["expected"]
    await run_example(FakeInsights.reset, names)
    await run_example(FakeInsights.pending_faults.fget, names)
    await run_example(FakeInsights.inclusive.fget, names)
    assert fake.inclusive == "both"
    await run_example(FakeInsights.now.fget, names | {"timedelta": timedelta})
    await run_example(FakeInsights, names)


# --- As a process ---


def environment_in(lines):
    """Return the variables that lines of shell code export."""
    found = {}
    for line in lines:
        word, assignment = shlex.split(line)
        assert word == "export"
        name, _, found[name] = assignment.partition("=")
    return found


async def test_environment_for_a_shell():
    """With --env, stdout is the environment for from_env(), and ends while the server runs."""
    command = [sys.executable, "-m", "aioparticipants.testing", "--env", "--conferences", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        variables = environment_in(process.stdout.read().splitlines())  # until it is closed
        first, second = variables["CONFERENCE_SIDS"].split()
        assert first == variables["CONFERENCE_SID"]
        environ = {"TWILIO_API_KEY": "SK1", "TWILIO_API_SECRET": "real"} | variables
        async with InsightsSession.from_env(environ) as session:
            assert len(await session.participants(second)) == 130
            after = datetime.fromisoformat(variables["CREATED_AFTER"])
            found = await session.conferences(created_after=after)
        assert {each.conference_sid for each in found} == {first, second}
        assert all(each.create_time > datetime.now(UTC) - timedelta(days=1) for each in found)
        os.kill(int(variables["FAKE_INSIGHTS_PID"]), signal.SIGTERM)
        assert process.wait() == 0


@pytest.mark.parametrize("disposition", [signal.SIG_DFL, signal.SIG_IGN])
def test_signals_of_a_process(disposition):
    """SIGINT ends the process, unless its parent ignores SIGINT, as a shell does with `&`."""
    code = (
        "import os, signal, sys\n"
        f"signal.signal(signal.SIGINT, signal.{disposition.name})\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'aioparticipants.testing'])"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert json.loads(process.stdout.readline())["base_url"].startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        if disposition is signal.SIG_IGN:
            process.terminate()
        assert process.wait() == 0


def test_help_of_the_process(capsys):
    """Its help shows how to use it from a shell."""
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])

    assert 'eval "$(python -m aioparticipants.testing --env &)"' in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seed", "5", "--now", "2026-03-03T01:00:00+01:00"],
        ["--env", "--summary", "404,in_progress,complete"],
        ["--env", "--conferences", "0"],
    ],
    ids=str,
)
def test_main_in_process(capsys, arguments):
    """`main` serves until SIGTERM, and leaves an ignored signal ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)

    def stop():
        while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()

    assert main(["--participants", "1", *arguments]) == 0
    thread.join()
    assert signal.signal(signal.SIGINT, before) is signal.SIG_IGN
    out = capsys.readouterr().out
    if "--env" not in arguments:
        described = json.loads(out)
        assert described["account_sid"].startswith("AC")
        assert len(described["conference_sids"]) == 1
        assert described["created_after"] == "2026-03-02T00:00:00Z"
        return
    variables = environment_in(out.splitlines())
    assert [variables["CONFERENCE_SID"]] == (variables["CONFERENCE_SIDS"].split() or [""])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--now", "2026-03-03"], "must be ISO 8601 with a time zone"),
        (["--summary", "404,done"], "must be a list of 404, 'in_progress'"),
    ],
)
def test_wrong_arguments(capsys, arguments, words):
    """Arguments that cannot be used end it with an error that says what can."""
    with pytest.raises(SystemExit, match=r"^2$"):
        main(arguments)

    assert words in capsys.readouterr().err
