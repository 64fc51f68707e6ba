"""The examples and the README's words, run."""

from __future__ import annotations

import ast
import asyncio
import functools
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import uvicorn
from aiohttp import web

from aioparticipants import (
    InsightsError,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    RetryPolicy,
    events,
)
from aioparticipants.testing import FakeInsights

from .watching import until

ROOT = Path(__file__).parent.parent
ONCE = RetryPolicy(max_attempts=1)
README = (ROOT / "README.md").read_text(encoding="utf-8")


def example(name):
    """Return the module of an example."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_one_conference(fake, capsys):
    """The README's first example prints a line a participant."""
    sid = fake.add_conference([{"participant_sid": "CP1"}, *fake.records(fake.add_conference(2))])

    await example("one_conference").main(
        InsightsSession(fake.credentials, base_url=fake.base_url), sid
    )

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "CP1 None None"
    assert all(re.fullmatch(r"CP[0-9a-f]{32} [a-z]{2}1 [0-9.]+", line) for line in lines[1:])
    assert len(lines) == 3


async def test_by_page(fake, capsys):
    """The example by page counts each page's bad lines, and tells of failures."""
    sid = fake.add_conference(participants=70)
    main = example("by_page").main
    options = {"base_url": fake.base_url, "retry": RetryPolicy(max_attempts=2, base_delay=0)}

    await main(InsightsSession(fake.credentials, **options), sid)
    out = capsys.readouterr().out
    assert re.fullmatch(r"page 0: \d+ of 50 bad lines\npage 1: \d+ of 20 bad lines\n", out)
    fake.fail_next(503, times=2)
    await main(InsightsSession(fake.credentials, **options), sid)
    assert capsys.readouterr().err.startswith("failed after 2 attempts: HTTP 503")


# --- The web services ---


@asynccontextmanager
async def aiohttp_app(app):
    """Serve an aiohttp application as its example does, and give its address."""
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def uvicorn_app(app):
    """Serve an ASGI application with uvicorn in this loop, and give its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="on"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started or serving.done())
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


SERVICES = {"web_aiohttp": aiohttp_app, "web_fastapi": uvicorn_app}


@asynccontextmanager
async def service(name, fake, *, deadline=30.0, **options):
    """Serve an example on the fake; give what asks it, and the list of its sessions."""
    module, sessions = example(name), []
    module.DEADLINE = deadline
    options = {"base_url": fake.base_url, "retry": RetryPolicy(base_delay=0.001)} | options

    def open_session():
        sessions.append(InsightsSession(options.pop("credentials", fake.credentials), **options))
        return sessions[-1]

    async with SERVICES[name](module.make_app(open_session)) as address:
        async with aiohttp.ClientSession() as client:

            async def ask(sid):
                async with client.get(f"{address}/conferences/{sid}") as reply:
                    return reply.status, reply.headers, await reply.json()

            yield ask, sessions
    assert [repr(each).endswith("closed>") for each in sessions] == [True]


@pytest.mark.parametrize("name", SERVICES)
async def test_web_service(fake, name):
    """A service answers with the participants, and each kind of failure with its status."""
    sid = fake.add_conference(participants=3)
    async with service(name, fake) as (ask, _):
        status, _, found = await ask(sid)
        assert status == 200
        assert [each["participant_sid"] for each in found] == [
            each["participant_sid"] for each in fake.records(sid)
        ]
        assert all(isinstance(each["region"], str) for each in found)
        assert {type(each["mos"]) for each in found} <= {float, int}

        status, _, body = await ask("CF123")
        assert (status, body["request_id"]) == (400, None)
        assert "CF" in body["error"]
        status, _, body = await ask("CF" + "0" * 32)
        assert status == 404
        assert body["request_id"].startswith("RQ")

        fake.fail_next(429, retry_after=3600)
        status, headers, _ = await ask(sid)
        assert (status, headers["Retry-After"]) == (503, "3600")
        fake.fail_next(503, times=5)
        status, headers, _ = await ask(sid)
        assert (status, headers["Retry-After"]) == (503, "5")
        assert (await ask(sid))[0] == 200


@pytest.mark.parametrize("name", SERVICES)
async def test_web_service_out_of_time(fake, name):
    """A service answers when its deadline has passed, whatever Twilio does."""
    sid = fake.add_conference(participants=3)
    fake.latency = 3600
    async with service(name, fake, deadline=0.05) as (ask, _):
        assert (await ask(sid))[0] == 504


@pytest.mark.parametrize("name", SERVICES)
async def test_web_service_misconfigured(fake, name):
    """Credentials that Twilio refuses are the service's own fault, and not its client's."""
    credentials = ("AC" + "0" * 32, "wrong")
    async with service(name, fake, credentials=credentials) as (ask, _):
        status, _, body = await ask(fake.add_conference(participants=3))

    assert status == 502
    assert "wrong" not in body["error"]


async def test_web_service_whose_client_leaves(fake):
    """A client that leaves a handler of aiohttp.web ends the request to Twilio with it."""
    sid = fake.add_conference(participants=3)
    fake.latency = 3600
    async with service("web_aiohttp", fake) as (ask, sessions):
        asking = asyncio.create_task(ask(sid))
        await until(lambda: sessions and sessions[0].stats.in_flight)
        asking.cancel()
        await asyncio.wait([asking])
        await until(lambda: not sessions[0].stats.in_flight)
        assert sessions[0].stats.cancelled == 1


# --- The worker ---


class Jobs:
    """A queue that tells what became of each SID."""

    def __init__(self, *sids):
        self.waiting = asyncio.Queue()
        self.taken, self.acknowledged, self.back = [], [], []
        for sid in sids:
            self.waiting.put_nowait(sid)

    async def take(self):
        self.taken.append(await self.waiting.get())
        return self.taken[-1]

    async def acknowledge(self, sid):
        self.acknowledged.append(sid)

    async def put_back(self, sid, *, seconds):
        self.back.append((sid, seconds))
        self.waiting.put_nowait(sid)


async def test_queue_worker(fake, session):
    """Each SID is acknowledged after its result was stored; a failure that may pass is put back."""
    sids = [fake.add_conference(participants=3) for _ in range(6)]
    lost = "CF" + "0" * 32
    jobs, stored, stop = Jobs(*sids, lost, "none"), {}, asyncio.Event()
    fake.fail_next(429, retry_after=3600)
    fake.fail_next(429, retry_after=0)  # waited for by the session itself

    async def store(result):
        assert result.conference_sid not in jobs.acknowledged
        assert result.conference_sid not in stored
        stored[result.conference_sid] = result
        if len(stored) == 8:
            stop.set()

    await example("queue_worker").work(session, jobs, store, stop)

    assert sorted(jobs.acknowledged) == sorted(stored) == sorted([*sids, lost, "none"])
    assert [seconds for _, seconds in jobs.back] == [3600]
    assert {sid: len(stored[sid].participants) for sid in sids} == dict.fromkeys(sids, 3)
    assert isinstance(stored[lost].error, NotFoundError)
    assert isinstance(stored["none"].error, InvalidRequestError)
    assert jobs.waiting.empty()


async def test_queue_worker_put_back_without_a_time(fake, session):
    """A failure that names no time is put back for a while, and nothing of it is stored."""
    jobs, stop = Jobs(fake.add_conference(participants=3)), asyncio.Event()
    fake.fail_next(503, times=5)

    async def put_back(sid, *, seconds):
        jobs.back.append((sid, seconds))
        stop.set()

    jobs.put_back = put_back
    await example("queue_worker").work(session, jobs, None, stop)

    assert jobs.back == [(jobs.taken[0], 30.0)]
    assert jobs.acknowledged == []


async def test_queue_worker_stops(fake, session):
    """When told to stop, the worker takes no more, and finishes what it took."""
    sids = [fake.add_conference(participants=1) for _ in range(100)]
    jobs, stop, stored = Jobs(*sids), asyncio.Event(), []

    async def store(result):
        stored.append(result.conference_sid)
        stop.set()

    await example("queue_worker").work(session, jobs, store, stop)

    assert 1 <= len(jobs.taken) < 100
    assert sorted(jobs.acknowledged) == sorted(stored) == sorted(jobs.taken)
    assert len(jobs.taken) + jobs.waiting.qsize() == 100


async def test_queue_worker_stops_while_there_is_nothing(session):
    """A worker that waits for its queue stops at once."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)

    await example("queue_worker").work(session, Jobs(), None, stop)


@pytest.mark.parametrize("broken", [True, False], ids=["store fails", "cancelled"])
async def test_queue_worker_that_breaks(fake, session, broken):
    """A worker that breaks or is cancelled acknowledges nothing that was not stored."""
    jobs = Jobs(*(fake.add_conference(participants=1) for _ in range(5)))
    storing = asyncio.Event()

    async def store(_result):
        storing.set()
        if broken:
            raise OSError
        await asyncio.Event().wait()

    working = asyncio.create_task(
        example("queue_worker").work(session, jobs, store, asyncio.Event())
    )
    await storing.wait()
    if not broken:
        working.cancel()
    await asyncio.wait([working])

    assert working.cancelled() is not broken
    assert working.cancelled() or isinstance(working.exception(), OSError)
    assert jobs.acknowledged == []


async def test_queue_worker_on_signals(fake, capsys):
    """The worker as it is run ends with SIGTERM, after a line for each conference."""
    module = example("queue_worker")
    sid = fake.add_conference(participants=3)
    fake.fail_next(429, retry_after=3600)
    options = {"base_url": fake.base_url, "retry": ONCE}
    queue = module.MemoryQueue([sid, sid])
    working = asyncio.create_task(module.main(InsightsSession(fake.credentials, **options), queue))
    await until(lambda: len(fake.requests) == 2)
    os.kill(os.getpid(), signal.SIGTERM)
    await working

    out, err = capsys.readouterr()
    assert out == f"{sid} 3 complete\n"
    assert sorted(err.splitlines()) == [f"{sid} again in 3600.0 s", f"{sid} is done"]


# --- The nightly job ---


def stored_in(output):
    """Return the SIDs of the participants of each conference, as the output has them."""
    found = {}
    for line in output.read_text(encoding="utf-8").splitlines():
        part = json.loads(line)
        sids = [each["participant_sid"] for each in part["participants"]]
        found.setdefault(part["conference_sid"], []).extend(sids)
    return found


def failed_in(output):
    text = output.with_name(output.name + ".failed").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def sids_of(records):
    return [each["participant_sid"] for each in records]


async def test_nightly_job(fake, tmp_path, capsys):
    """A job that failed in part is completed by the next run: nothing is lost, nothing repeated."""
    records = fake.records(fake.add_conference(participants=9))
    sids = [fake.add_conference(participants=3) for _ in range(6)]
    later, broken = "CF" + "0" * 32, "CF" + "1" * 32
    fake.add_conference(
        [*records[:4], {**records[4], "label": 7}, *records[5:]], conference_sid=broken
    )
    wanted, output = [*sids, later, broken, sids[0], "none"], tmp_path / "out.ndjson"

    def run():
        options = {"base_url": fake.base_url, "retry": ONCE}
        return example("nightly_job").main(
            InsightsSession(fake.credentials, **options), wanted, output
        )

    fake.fail_next(503, times=2)
    assert await run() == 1
    failed = {each["conference_sid"]: each for each in failed_in(output)}
    assert len(failed) == 5
    assert failed.keys() > {later, broken, "none"}
    assert stored_in(output)[broken] == sids_of(records[:4])
    assert "4 of 9 conferences done, 5 failed; 8 requests" in capsys.readouterr().err

    with output.open("ab") as file:  # as if it had been killed while it wrote
        file.write(b'{"conference_sid": "' + later.encode())
    fake.requests.clear()
    assert await run() == 1  # two are still not there, and one never will be
    assert {each["conference_sid"] for each in failed_in(output)} == {later, broken, "none"}
    assert stored_in(output)[broken] == sids_of(records[:4])
    assert len(fake.requests) == 4

    fake.add_conference(records, conference_sid=broken)  # mended
    fake.add_conference(records, conference_sid=later)
    wanted.remove("none")
    assert await run() == 0
    assert failed_in(output) == []
    expected = {sid: sids_of(fake.records(sid)) for sid in wanted}
    assert {sid: found for sid, found in stored_in(output).items() if found} == expected

    fake.requests.clear()
    assert await run() == 0
    assert fake.requests == []
    assert capsys.readouterr().err.endswith(
        "0 of 0 conferences done, 0 failed; 0 requests, 0 of them again, 0 refused\n"
    )


async def test_nightly_job_that_is_killed(fake, tmp_path):
    """A job that is ended anywhere is completed by the next run, and asks for nothing twice."""
    wanted = [fake.add_conference(participants=2) for _ in range(40)]
    output = tmp_path / "out.ndjson"

    def run():
        return example("nightly_job").main(
            InsightsSession(fake.credentials, base_url=fake.base_url), wanted, output
        )

    running = asyncio.create_task(run())
    await until(lambda: output.exists() and output.read_bytes().count(b"\n") >= 5)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    done = stored_in(output)
    assert 5 <= len(done) < 40
    fake.requests.clear()
    assert await run() == 0

    assert stored_in(output) == {sid: sids_of(fake.records(sid)) for sid in wanted}
    assert len(fake.requests) == 40 - len(done)


def test_nightly_job_as_a_script(tmp_path):
    """The job's exit code is 1 where something failed, and the records are whole JSON."""
    (tmp_path / "sids.txt").write_text("none\n", encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, ROOT / "examples/nightly_job.py", "sids.txt", "out.ndjson"],
        cwd=tmp_path,
        env={**os.environ, "TWILIO_ACCOUNT_SID": "AC" + "0" * 32, "TWILIO_AUTH_TOKEN": "x"},
        capture_output=True,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (1, b"")
    assert b"0 of 1 conferences done, 1 failed" in ran.stderr
    assert failed_in(tmp_path / "out.ndjson")[0]["conference_sid"] == "none"


async def test_nightly_job_writes_all_there_is(fake, tmp_path):
    """The output has every field of a record, those that the package does not know included."""
    (record,) = fake.records(fake.add_conference(participants=1))
    sid = fake.add_conference([{**record, "novel": {"a": [1]}}])
    output = tmp_path / "out.ndjson"
    session = InsightsSession(fake.credentials, base_url=fake.base_url)

    assert await example("nightly_job").main(session, [sid], output) == 0
    (found,) = json.loads(output.read_text(encoding="utf-8"))["participants"]
    assert found["extra"] == {"novel": {"a": [1]}}
    assert found["to"] == record["to"]
    assert found["metrics"]["inbound"]["mos"] == record["metrics"]["inbound"]["mos"]


# --- As they are, from a shell, beside the fake ---

#: Asks a service that is about to start, and prints what it answers.
ASK = """\
import sys, time, urllib.error, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
while True:
    try:
        sys.exit(print(opener.open(sys.argv[1]).read().decode()))
    except urllib.error.URLError:
        time.sleep(0.05)
"""
SERVICE = 'python $EXAMPLE & ID=$!; python ask.py "$URL/$CONFERENCE_SID"; kill $ID; wait $ID; true'
#: What to do with each example, as its first line has it.
SCRIPTS = {
    "one_conference": 'python $EXAMPLE "$CONFERENCE_SID"',
    "by_page": 'python $EXAMPLE "$CONFERENCE_SID"',
    "nightly_job": (
        'printf "%s\\n" $CONFERENCE_SIDS > sids.txt; python $EXAMPLE sids.txt out.ndjson'
        " && cat out.ndjson"
    ),
    "queue_worker": (
        "python $EXAMPLE $CONFERENCE_SIDS 2> log & ID=$!;"
        'until [ "$(grep -c done log)" = 2 ]; do sleep 0.05; done; kill $ID; wait $ID'
    ),
    "web_aiohttp": SERVICE,
    "web_fastapi": SERVICE,
}
#: What it then says, for two conferences of three participants.
SAID = {
    "one_conference": r"(CP[0-9a-f]{32} [a-z0-9]+ [0-9.]+\n){3}",
    "by_page": r"page 0: [0-3] of 3 bad lines\n",
    "nightly_job": r'(\{"conference_sid": "CF[0-9a-f]{32}", "error": null, .*\}\n){2}',
    "queue_worker": r"(CF[0-9a-f]{32} 3 complete\n){2}",
    **dict.fromkeys(SERVICES, r'(.*\n)*\[(\{"participant_sid": ?"CP[^}]*\},? ?){3}\]\n(.*\n)*'),
}


@pytest.mark.parametrize("path", [*(ROOT / "examples").glob("*.py")], ids=lambda path: path.stem)
def test_examples_beside_the_fake(path, tmp_path):
    """Each example runs as it is in a shell that has the variables of `--env`."""
    (tmp_path / "ask.py").write_text(ASK, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = (
        'eval "$(python -m aioparticipants.testing --env --conferences 2 --participants 3 &)"\n'
        f"trap 'kill \"$FAKE_INSIGHTS_PID\"' EXIT\n{SCRIPTS[path.stem]}"
    )
    ran = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "EXAMPLE": str(path),
            "PORT": str(port),
            "URL": f"http://127.0.0.1:{port}/conferences",
            # A key of the user's own would come first, and must not be sent to the fake.
            "TWILIO_API_KEY": "SK1",
            "TWILIO_API_SECRET": "real",
            "TWILIO_REGION": "ie1",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(SAID[path.stem], ran.stdout)


# --- The README ---


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_readme_shows_the_first_example():
    """The README's first example is the one in examples/, to the letter."""
    source = (ROOT / "examples" / "one_conference.py").read_text(encoding="utf-8")

    assert source.split('"""\n\n', 1)[1] == blocks("python")[0]
    assert README[: README.index("## Two commands")].count("\n") <= 40


async def run(words, names):
    """Run the README's one block of Python that holds these words."""
    [block] = [each for each in blocks("python") if words in each]
    for shown, real in names.pop("replace").items():
        assert shown in block
        block = block.replace(shown, real)
    code = compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, names)  # noqa: S307 - the README's own words


async def test_readme_on_testing():
    """The README's example of a test is true."""
    names = {"FakeInsights": FakeInsights, "InsightsSession": InsightsSession}

    await run("fail_next", {**names, "replace": {"retry_after=1": "retry_after=0"}})


async def test_readme_on_use(fake):
    """The README's first lines of use are true, to the end of the session."""
    sid = fake.add_conference(participants=3)
    account_sid, auth_token = fake.credentials
    names = {
        "InsightsSession": functools.partial(InsightsSession, base_url=fake.base_url),
        "account_sid": account_sid,
        "auth_token": auth_token,
    }

    await run("async for page", names := {**names, "replace": {"CF…": sid}})

    assert len(fake.requests) == 2
    assert repr(names["session"]).endswith("closed>")


async def test_readme_on_resuming(fake, session):
    """The README's lines on going on lose nothing, and store nothing twice."""
    records = fake.records(fake.add_conference(participants=5))
    sid = fake.add_conference([*records[:3], {**records[3], "label": 7}, records[4]])
    stored, cursors = [], []
    names = {"session": session, "InsightsError": InsightsError, "replace": {"CF…": sid}}

    async def store(participant, cursor):
        stored.append(participant.participant_sid)
        cursors.append(cursor)

    def put_back(conference_sid, cursor):
        assert conference_sid == sid
        assert cursor == cursors[-1]
        names["cursor"] = cursor
        fake.add_conference(records, conference_sid=sid)  # mended

    names |= {"store": store, "put_back": put_back}
    await run("resume=cursor", names)

    stored += [each.participant_sid for each in await names["rest"]]
    assert stored == [each["participant_sid"] for each in records]


async def test_readme_on_many(fake, session, capsys):
    """The README's lines on many conferences read all of them, and put back the one that failed."""
    sids = [fake.add_conference(participants=3) for _ in range(5)]
    stored, back = {}, []

    async def store(conference_sid, participants):
        stored[conference_sid] = participants

    async def put_back(conference_sid, cursor):
        back.append((conference_sid, cursor))

    names = {"session": session, "conference_sids": [*sids, "CF0"], "replace": {}}

    await run("fan_out", {**names, "store": store, "put_back": put_back})

    assert stored.keys() == set(sids)
    assert {*map(len, stored.values())} == {3}
    assert back == [("CF0", None)]
    assert capsys.readouterr().out.splitlines()[-1] == "6 of 6 1 failed"
    assert len([seen for seen in fake.requests if seen.query.get("Label") == "agent"]) == 5


async def test_readme_on_watching(fake, capsys):
    """The README's lines on events print each wait, and then the statistics."""
    account_sid, auth_token = fake.credentials
    options = {"base_url": fake.base_url, "retry": RetryPolicy(base_delay=0)}
    sid = fake.add_conference(participants=1)
    fake.fail_next(503)
    names = {
        "InsightsSession": functools.partial(InsightsSession, **options),
        "events": events,
        "account_sid": account_sid,
        "auth_token": auth_token,
        "sid": sid,
    }

    await run(
        "RetryScheduled", names := {**names, "replace": {"...": "await session.participants(sid)"}}
    )

    await names["session"].aclose()
    again, stats = capsys.readouterr().out.splitlines()
    assert again == f"{sid} HTTP 503 again in 0.0 s"
    assert stats.startswith("SessionStats(limit=")


def test_readme_names_the_commands():
    """The README gives one line that runs the demo, and the line that CI runs."""
    commands = [line for block in blocks("sh") for line in block.splitlines()]

    assert commands[0] == "python -m pip install '.[cli]' && python -m aioparticipants demo"
    assert commands[1] == "python -m pip install nox uv && python -m nox"


def test_readme_tells_the_defaults():
    """The README's retry policy is the default one."""
    shown = re.search(r"`(RetryPolicy\(.*?\))` are", README).group(1)

    assert shown == repr(RetryPolicy())


@pytest.mark.parametrize("path", [*(ROOT / "examples").glob("*.py")], ids=lambda path: path.stem)
def test_examples_say_how_to_run(path):
    """Each example begins with what it does and how to call it."""
    assert f"`python {path.name}" in example(path.stem).__doc__.splitlines()[0]
