"""FakeInsights, asked by a plain HTTP client: it behaves as the API's description says."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import types
from array import array
from datetime import UTC, datetime

import aiohttp
import pytest

from aioparticipants import InsightsSession, NotFoundError, models
from aioparticipants._credentials import credentials_from_env
from aioparticipants._structuring import participant, unstructure_participant
from aioparticipants.testing import FakeInsights
from aioparticipants.testing.__main__ import main

SID = "CF" + "0" * 32


@pytest.fixture
async def ask(fake):
    """Return a function that asks the fake for a path, and gives status, JSON and headers."""
    pair = base64.b64encode(":".join(fake.credentials).encode()).decode()
    async with aiohttp.ClientSession(headers={"Authorization": f"Basic {pair}"}) as client:

        async def get(path, method="GET", **options):
            url = path if path.startswith("http") else fake.base_url + path
            async with client.request(method, url, **options) as reply:
                return reply.status, json.loads(await reply.read()), reply.headers

        yield get


def collection(sid, query=""):
    return f"/v1/Conferences/{sid}/Participants{query}"


async def test_pages(fake, ask):
    """Absolute links lead through all pages and back, 50 records a page by default."""
    sid = fake.add_conference(participants=120)
    link, pages = collection(sid), []
    while link:
        status, body, headers = await ask(link)
        assert status == 200
        assert headers["Twilio-Request-Id"].startswith("RQ")
        pages.append(body)
        link = body["meta"]["next_page_url"]

    assert [len(each["participants"]) for each in pages] == [50, 50, 20]
    assert [each["meta"]["page"] for each in pages] == [0, 1, 2]
    assert [record for each in pages for record in each["participants"]] == fake.records(sid)
    assert pages[0]["meta"]["previous_page_url"] is None
    _, back, _ = await ask(pages[2]["meta"]["previous_page_url"])
    assert back == pages[1]
    _, first, _ = await ask(pages[2]["meta"]["first_page_url"])
    assert first["participants"] == pages[0]["participants"]
    assert list(pages[0]["meta"]) == [
        "page", "page_size", "first_page_url", "previous_page_url", "url", "next_page_url", "key",
    ]  # fmt: skip


async def test_filters_stay_in_the_links(fake, ask):
    """Filters select, and the next link carries them on."""
    sid = fake.add_conference([{"label": "a b", "events": {"mute": []}}, {"label": "a b"}, {}])

    _, body, _ = await ask(collection(sid, "?Label=a%20b&PageSize=1"))
    assert "Label=a%20b" in body["meta"]["next_page_url"]
    _, body, _ = await ask(body["meta"]["next_page_url"])
    assert body["participants"] == [{"label": "a b"}]
    assert body["meta"]["next_page_url"] is None
    _, body, _ = await ask(collection(sid, "?Events=mute"))
    assert len(body["participants"]) == 1


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/v1/Conferences/CF0/Participants", "GET", 404, 20404),
        ("/v1/Conferences", "GET", 404, 20404),
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
async def test_refusals(fake, ask, path, method, status, code):
    """What the API would not accept is refused in Twilio's words."""
    sid = fake.add_conference(participants=1)

    answered, body, _ = await ask(path.format(collection(sid)), method)

    assert (answered, body["status"], body["code"]) == (status, status, code)
    assert body["more_info"].endswith(str(code))


async def test_authentication(fake):
    """Without the right credentials there is nothing but a 401, whatever is asked for."""
    sid = fake.add_conference(participants=1)
    async with aiohttp.ClientSession() as client:
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic AAAA"}):
            async with client.get(fake.base_url + collection(sid), headers=headers) as reply:
                assert (reply.status, (await reply.json())["code"]) == (401, 20003)

    assert [seen.authorized for seen in fake.requests] == [False] * 3


async def test_faults_wait_in_line(fake, ask):
    """Faults are answered in order, with their bodies and headers, and then all is well."""
    sid = fake.add_conference(participants=1)
    fake.fail_next(429, retry_after=7)
    fake.fail_next(502, body=b'"gateway"', headers={"X-Cache": "x"}, times=2)
    fake.fail_next(418, body={"a": 1})
    fake.fail_next(599)

    answers = [await ask(collection(sid)) for _ in range(6)]

    assert [status for status, _, _ in answers] == [429, 502, 502, 418, 599, 200]
    assert answers[0][2]["Retry-After"] == "7"
    assert (answers[1][1], answers[1][2]["X-Cache"]) == ("gateway", "x")
    assert answers[3][1] == {"a": 1}
    assert answers[4][1]["code"] == 20599


async def test_dropped_connections(fake, ask):
    """A connection can be dropped instead; the log says so."""
    sid = fake.add_conference(participants=1)
    fake.fail_next(disconnect=True, times=2)  # aiohttp itself asks twice

    with pytest.raises(aiohttp.ClientConnectionError):
        await ask(collection(sid))
    assert (await ask(collection(sid)))[0] == 200
    assert [seen.status for seen in fake.requests] == [0, 0, 200]


async def test_ceiling(fake, ask):
    """Beyond the ceiling requests are refused at once with Twilio's 20429; below it all pass."""
    fake.concurrency, fake.latency = 2, 1  # all five have to be there before the first is served
    sid = fake.add_conference(participants=1)

    answers = await asyncio.gather(*(ask(collection(sid)) for _ in range(5)))

    assert sorted(status for status, _, _ in answers) == [200, 200, 429, 429, 429]
    assert {body["code"] for status, body, _ in answers if status == 429} == {20429}


async def test_seeds():
    """The same seed gives the same, another seed gives another."""
    found = []
    for seed in (1, 1, 2):
        async with FakeInsights(seed=seed) as fake:
            sid = fake.add_conference(participants=5)
            records = [{**each, "url": None} for each in fake.records(sid)]  # it names the port
            found.append((fake.credentials, sid, records))

    assert found[0] == found[1]
    assert found[0] != found[2]


async def test_records_are_whole_and_varied(fake):
    """Made-up records have all 27 members, and the variety that real ones have."""
    sid = fake.add_conference(participants=300)
    records = fake.records(sid)

    assert {len(each) for each in records} == {27}
    assert all(unstructure_participant(participant(each, "")) == each for each in records)
    assert {each["events"] is None for each in records} == {True, False}
    assert {name for each in records for name in each["properties"]} >= {
        "early_media",
        "play_early_media",
    }
    assert any("tags" in each["metrics"]["inbound"] for each in records)
    assert fake.add_conference([], conference_sid="CF" + "0" * 32) == "CF" + "0" * 32
    records[0].clear()
    assert fake.records(sid)[0]


async def test_participants_of_a_test(fake, session, ask):
    """Participants and mappings are served as they were when they were given, by any iterable."""
    own = fake.add_conference(participants=2)
    records = fake.records(own)
    given = [*await session.participants(own), types.MappingProxyType(records[0]), records[1]]
    records[1]["label"] = "given"
    sid = fake.add_conference(each for each in given)
    wanted = [*fake.records(own), fake.records(own)[0], {**fake.records(own)[1], "label": "given"}]

    records[1]["label"] = "changed"
    records[1]["metrics"]["inbound"].clear()

    _, body, _ = await ask(collection(sid))
    assert body["participants"] == wanted == fake.records(sid)
    nested = fake.add_conference([{"metrics": models.FrozenMapping({"inbound": None})}])
    assert fake.records(nested) == [{"metrics": {"inbound": None}}]


NO_PARTICIPANTS = [
    (True, TypeError, "participants must be a number"),
    (1.5, TypeError, "participants must be a number .* not float"),
    (None, TypeError, "participants must be a number .* not NoneType"),
    ("CP1", TypeError, "participants must be a number .* not str"),
    ({"label": "a"}, TypeError, "participants must be a number .* not dict"),
    (models.Participant(), TypeError, "participants must be a number .* not Participant"),
    ([{}, "CP1"], TypeError, r"participants\[1\] must be a Participant or a mapping, not str"),
    ([{"join_time": datetime.now(UTC)}], TypeError, r"participants\[0\] cannot be JSON: datetime"),
    ([{}, {("a", 1): 2}], TypeError, r"participants\[1\] cannot be JSON: keys must be str"),
    ([RING := {}], ValueError, r"participants\[0\] cannot be JSON: Circular"),
    (-1, ValueError, "must be a whole number from 0"),
]
RING["metrics"] = RING


@pytest.mark.parametrize(("given", "error", "words"), NO_PARTICIPANTS)
async def test_participants_that_are_none(fake, session, given, error, words):
    """What cannot be served is refused where it is given, and nothing is added."""
    with pytest.raises(error, match=words):
        fake.add_conference(given, conference_sid=SID)

    with pytest.raises(NotFoundError):
        await session.participants(SID)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda each: array("B", each)])
async def test_bodies_of_bytes(fake, ask, kind):
    """A fault's body can be any object that holds bytes, and is sent as it was given."""
    sid = fake.add_conference(participants=1)
    body = kind(b'{"a": 1}')
    fake.fail_next(502, body=body)

    assert (await ask(collection(sid)))[:2] == (502, {"a": 1})


async def test_bodies_that_are_none(fake):
    """A fault's body that is neither bytes nor JSON is refused where it is given."""
    with pytest.raises(TypeError, match="not JSON serializable"):
        fake.fail_next(502, body={1, 2})


async def test_restart():
    """After a restart all links and addresses lead to the new port, those that were cached, too."""
    fake = FakeInsights()
    async with fake:
        sid = fake.add_conference(participants=3)
        elsewhere = fake.add_conference([{"url": "https://a.example/x"}, {"url": 7}, {}])
        async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
            before = [page.meta async for page in session.participants(sid, page_size=2).pages()]
        old = fake.base_url
    with socket.create_server(("127.0.0.1", int(old.rpartition(":")[2]))):  # not to be had again
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


async def test_the_log_keeps_labels_out_of_sight(fake, ask):
    """A request that was seen shows no label in its repr."""
    await ask(collection("CF0", "?Label=zebra"))

    assert fake.requests[0].query == {"Label": "zebra"}
    assert "zebra" not in repr(fake.requests[0])


async def test_not_running():
    """A fake that does not run says so, and closing it does nothing."""
    fake = FakeInsights()
    with pytest.raises(RuntimeError, match="async with"):
        _ = fake.base_url
    await fake.aclose()


async def test_closing_does_not_wait():
    """Closing drops what is in flight, however slow it would be."""
    async with FakeInsights(latency=3600) as fake, aiohttp.ClientSession() as client:
        asking = asyncio.create_task(client.get(fake.base_url))
        while not fake._in_flight:  # noqa: ASYNC110 - turns of the loop
            await asyncio.sleep(0)
        await fake.aclose()
        with pytest.raises(aiohttp.ClientError):
            await asking


def test_as_a_process():
    """As a process it says where it listens, in a line of JSON, and ends on a signal."""
    command = [sys.executable, "-m", "aioparticipants.testing", "--conferences", "2", "--seed", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        said = json.loads(process.stdout.readline())
        process.terminate()
        assert process.wait() == 0

    assert said["base_url"].startswith("http://127.0.0.1:")
    assert len(said["conference_sids"]) == 2
    assert said["account_sid"].startswith("AC")


def exported(lines):
    """Return the variables that lines for a shell set."""
    found = {}
    for line in lines:
        word, assignment = shlex.split(line)
        assert word == "export"
        name, _, found[name] = assignment.partition("=")
    return found


@pytest.mark.parametrize("conferences", [0, 1, 2])
def test_variables_for_a_shell(conferences):
    """With --env stdout is all that from_env() reads, and then ends, while the server goes on."""
    command = [sys.executable, "-m", "aioparticipants.testing", "--env"]
    command += ["--conferences", str(conferences)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        variables = exported(process.stdout.read().splitlines())  # to its end
        assert process.poll() is None
        os.kill(int(variables["FAKE_INSIGHTS_PID"]), signal.SIGTERM)
        assert process.wait() == 0

    sids = variables["CONFERENCE_SIDS"].split()
    assert len(sids) == conferences
    assert [variables["CONFERENCE_SID"]] == (sids or [""])[:1]
    session = InsightsSession.from_env({"TWILIO_API_SECRET": "real", **variables})
    assert f" of {variables['TWILIO_INSIGHTS_BASE_URL']}: " in repr(session)
    environ = {"TWILIO_API_KEY": "SK1", "TWILIO_API_SECRET": "real"} | variables
    assert credentials_from_env(environ).username == variables["TWILIO_ACCOUNT_SID"]


@pytest.mark.parametrize("ignored", [signal.SIG_DFL, signal.SIG_IGN])
def test_interrupts_of_a_process(ignored):
    """SIGINT ends the process, unless its parent has it ignored, as a shell does in `&`."""
    code = (
        "import os, signal, sys\n"
        f"signal.signal(signal.SIGINT, signal.{ignored.name})\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'aioparticipants.testing'])"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        if ignored is signal.SIG_IGN:
            process.terminate()
        assert process.wait() == 0


def test_help_of_the_process(capsys):
    """Its help shows how to use it from a shell."""
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])

    assert 'eval "$(python -m aioparticipants.testing --env &)"' in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--env"]], ids=str)
def test_main_in_process(capsys, arguments):
    """The process's main serves until it is told to stop; what is ignored it goes on to ignore."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    ready = threading.Event()

    def stop():
        while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            ready.wait(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Timer(0, stop)
    thread.start()

    assert main(["--participants", "1", *arguments]) == 0
    thread.join()
    assert signal.signal(signal.SIGINT, before) is signal.SIG_IGN
    out = capsys.readouterr().out
    assert exported(out.splitlines()) if arguments else json.loads(out)["auth_token"]
