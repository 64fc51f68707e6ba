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
    ResponseError,
    RetryPolicy,
    instrumentation,
)
from aioparticipants.testing import FakeInsights

from .telemetry import until

ROOT = Path(__file__).parent.parent
ONCE = RetryPolicy(max_attempts=1)
README = (ROOT / "README.md").read_text(encoding="utf-8")


def example(name):
    """Return the module of an example."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_up(fake, count):
    """Return that many participants of no conference in particular."""
    records = fake.records(fake.add_conference(participants=count))
    return [{**each, "conference_sid": None} for each in records]


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

    def times_taken(self, sid):
        return self.taken.count(sid)

    async def acknowledge(self, sid):
        self.acknowledged.append(sid)

    async def put_back(self, sid, *, seconds):
        self.back.append((sid, seconds))
        self.waiting.put_nowait(sid)


class Stored:
    """A store that tells what it was given, and stops the worker when it has so many."""

    def __init__(self, jobs, count):
        self.jobs, self.count, self.stop = jobs, count, asyncio.Event()
        self.results = {}

    async def __call__(self, result):
        sid = result.conference_sid
        assert sid not in self.jobs.acknowledged
        assert sid not in self.results
        self.results[sid] = result
        if len(self.results) == self.count:
            self.stop.set()

    def sids_of(self, sid):
        return [each.participant_sid for each in self.results[sid].participants]


async def test_queue_worker(fake, session):
    """Each SID is acknowledged after its result was stored; a failure that may pass is put back."""
    sids = [fake.add_conference(participants=3) for _ in range(6)]
    jobs = Jobs(*sids, "none")
    store = Stored(jobs, 7)
    fake.fail_next(429, retry_after=3600)
    fake.fail_next(429, retry_after=0)  # waited for by the session itself

    await example("queue_worker").work(session, jobs, store, store.stop)

    assert sorted(jobs.acknowledged) == sorted(store.results) == sorted([*sids, "none"])
    assert [seconds for _, seconds in jobs.back] == [3600]
    assert {sid: store.sids_of(sid) for sid in sids} == {
        sid: sids_of(fake.records(sid)) for sid in sids
    }
    assert isinstance(store.results["none"].error, InvalidRequestError)
    assert jobs.waiting.empty()


async def test_queue_worker_that_comes_too_early(fake, session):
    """A conference that is not there, empty or in progress is put back until it is settled."""
    records = made_up(fake, 4)
    late, empty, early = "CF" + "0" * 32, fake.add_conference([]), "CF" + "1" * 32
    fake.add_conference([*records[:3], in_progress(records[3])], conference_sid=early)
    jobs = Jobs(late, empty, early)
    store = Stored(jobs, 3)
    put_back = jobs.put_back

    async def settle(sid, *, seconds):
        assert seconds == 1800
        if jobs.taken.count(sid) == 2:
            given_up = {**records[3], "processing_state": "timeout"}
            fake.add_conference([*records[:3], given_up], conference_sid=sid)
        await put_back(sid, seconds=seconds)

    jobs.put_back = settle
    await example("queue_worker").work(session, jobs, store, store.stop)

    assert sorted(jobs.taken) == sorted([late, empty, early] * 3)
    assert sorted(jobs.acknowledged) == sorted([late, empty, early])
    assert all(result.settled for result in store.results.values())
    assert store.sids_of(late) == store.sids_of(empty) == store.sids_of(early) == sids_of(records)


async def test_queue_worker_that_has_waited_for_a_day(fake, session):
    """What Twilio never finishes is stored as it is, in the end, and taken no more."""
    records = [*map(in_progress, made_up(fake, 2))]
    lost, empty, stuck = "CF" + "0" * 32, fake.add_conference([]), fake.add_conference(records)
    jobs = Jobs(lost, empty, stuck)
    store = Stored(jobs, 3)

    await example("queue_worker").work(session, jobs, store, store.stop)

    assert sorted(jobs.taken) == sorted([lost, empty, stuck] * 48)
    assert sum(seconds for _, seconds in jobs.back) == 3 * 47 * 1800
    assert isinstance(store.results[lost].error, NotFoundError)
    assert store.results[empty].participants == ()
    assert store.sids_of(stuck) == sids_of(records)


async def test_queue_worker_with_bad_records(fake, session):
    """A record with a wrong value is kept or noted, as is one that is none; none hides others."""
    records = made_up(fake, 7)
    sid = fake.add_conference([])
    served = [*records[:3], {**records[3], "label": 7}, "no record", *records[4:], None]
    fake.fail_next(200, body={"participants": served, "meta": {"next_page_url": None}})
    jobs = Jobs(sid)
    store = Stored(jobs, 1)

    await example("queue_worker").work(session, jobs, store, store.stop)

    result = store.results[sid]
    assert result.error is None
    assert [
        each for each in store.sids_of(sid) if each != records[3]["participant_sid"]
    ] == sids_of([*records[:3], *records[4:]])
    assert len(result.participants) + len(result.problems) == len(served)
    assert jobs.acknowledged == [sid]


@pytest.mark.parametrize("killed_after", range(5))
async def test_queue_worker_that_is_killed(fake, session, killed_after):
    """A worker that is killed anywhere leaves to the next one what it has not acknowledged."""
    sids = [fake.add_conference(participants=3) for _ in range(5)]
    jobs = Jobs(*sids)
    store = Stored(jobs, killed_after + 1)

    async def die(sid):
        jobs.acknowledged.append(sid)
        if len(jobs.acknowledged) > killed_after:
            working.cancel()
            await asyncio.Event().wait()

    jobs.acknowledge = die
    working = asyncio.create_task(
        example("queue_worker").work(session, jobs, store, asyncio.Event())
    )
    await asyncio.wait([working])
    assert working.cancelled()
    assert sorted(store.results) == sorted(jobs.acknowledged)

    left = [sid for sid in sids if sid not in jobs.acknowledged]
    others = Stored(again := Jobs(*left), len(left))
    others.stop.set() if not left else None
    await example("queue_worker").work(session, again, others, others.stop)
    assert sorted([*store.results, *others.results]) == sorted(sids)


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


def lines_of(output):
    """Return what a file of the job says of each conference, and that it names none twice."""
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    found = {each["conference_sid"]: each for each in lines}
    assert len(found) == len(lines)
    return found


def sids_of(records):
    return [each["participant_sid"] for each in records]


def in_progress(record):
    return {**record, "processing_state": "in_progress"}


class SmallPages(InsightsSession):
    """A session whose lists come in pages of four."""

    def participants(self, *args, **options):
        return super().participants(*args, page_size=4, **options)

    def fan_out(self, *args, **options):
        return super().fan_out(*args, page_size=4, **options)


class Job:
    """The nightly job on the fake, and what it has written."""

    def __init__(self, fake, folder, *wanted):
        self.fake, self.wanted, self.output = fake, [*wanted], folder / "out.ndjson"
        self.module = example("nightly_job")

    async def run(self):
        """Run it for a night, and return its exit code."""
        self.fake.requests.clear()
        options = {"base_url": self.fake.base_url, "retry": ONCE}
        session = SmallPages(self.fake.credentials, **options)
        return await self.module.main(session, self.wanted, self.output)

    async def run_until_failing(self, status, after):
        """Run it for a night in which the request after so many fails."""
        running = asyncio.ensure_future(self.run())
        await until(lambda: len(self.fake.requests) == after)
        self.fake.fail_next(status)
        assert await running == 1

    @property
    def stored(self):
        """Return the SIDs of the participants of each conference that is whole."""
        return {sid: sids_of(each["participants"]) for sid, each in lines_of(self.output).items()}

    @property
    def unfinished(self):
        """Return what is known of each of the others."""
        return lines_of(self.output.with_name(self.output.name + ".unfinished"))


async def test_nightly_job(fake, tmp_path, capsys):
    """A job that failed in part is completed by the next run: nothing is lost, nothing repeated."""
    records = made_up(fake, 9)
    sids = [fake.add_conference(participants=3) for _ in range(6)]
    later = "CF" + "0" * 32
    job = Job(fake, tmp_path, *sids, later, sids[0], "none")

    fake.fail_next(503, times=2)
    assert await job.run() == 1
    assert len(job.stored) == 4
    assert len(job.unfinished) == 4
    assert job.unfinished.keys() > {later, "none"}
    assert "4 of 8 conferences done, 4 unfinished; 7 requests" in capsys.readouterr().err

    with job.output.open("ab") as file:  # as if it had been killed while it wrote
        file.write(b'{"conference_sid": "' + later.encode())
    assert await job.run() == 1  # one is still not there, and one never will be
    assert job.unfinished.keys() == {later, "none"}
    assert len(fake.requests) == 3

    fake.add_conference(records, conference_sid=later)
    job.wanted.remove("none")
    assert await job.run() == 0
    assert job.unfinished == {}
    assert job.stored == {sid: sids_of(fake.records(sid)) for sid in job.wanted}

    capsys.readouterr()
    assert await job.run() == 0
    assert fake.requests == []
    assert capsys.readouterr().err == (
        "0 of 0 conferences done, 0 unfinished; 0 requests, 0 of them again, 0 refused\n"
    )


async def test_nightly_job_that_is_killed(fake, tmp_path):
    """A job that is ended anywhere is completed by the next run, and asks for nothing twice."""
    wanted = [fake.add_conference(participants=2) for _ in range(40)]
    job = Job(fake, tmp_path, *wanted)

    running = asyncio.create_task(job.run())
    await until(lambda: job.output.exists() and job.output.read_bytes().count(b"\n") >= 5)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    done = job.stored
    assert 5 <= len(done) < 40
    assert job.unfinished.keys() == set(wanted) - set(done)
    assert await job.run() == 0

    assert job.stored == {sid: sids_of(fake.records(sid)) for sid in wanted}
    assert len(fake.requests) == 40 - len(done)


async def begun(fake, folder, records):
    """Return a job that failed in the middle of its only conference, and the conference's SID."""
    sid = fake.add_conference(records)
    job = Job(fake, folder, sid)
    fake.latency = 0.05
    await job.run_until_failing(503, after=2)
    fake.latency = 0
    assert job.stored == {}
    return job, sid


async def test_nightly_job_in_the_middle_of_a_conference(fake, tmp_path):
    """A conference that failed half-way goes on there in the next run, even one that is killed."""
    records = made_up(fake, 10)
    job, sid = await begun(fake, tmp_path, records)
    assert sids_of(job.unfinished[sid]["participants"]) == sids_of(records[:8])

    fake.latency = 3600
    running = asyncio.create_task(job.run())
    await until(job.output.exists)
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    fake.latency = 0
    assert sids_of(job.unfinished[sid]["participants"]) == sids_of(records[:8])
    assert await job.run() == 0

    assert job.stored == {sid: sids_of(records)}
    assert job.unfinished == {}
    assert len(fake.requests) == 1


async def test_nightly_job_whose_cursor_has_expired(fake, tmp_path):
    """A conference whose page token is refused is asked for anew, and no record is there twice."""
    records = made_up(fake, 10)
    job, sid = await begun(fake, tmp_path, records)

    fake.fail_next(400)
    assert await job.run() == 0
    assert [seen.status for seen in fake.requests] == [400, 200, 200, 200]
    assert job.stored == {sid: sids_of(records)}


async def test_nightly_job_whose_cursor_cannot_be_read(fake, tmp_path):
    """A conference whose cursor is of no use to this package is asked for anew."""
    records = made_up(fake, 10)
    job, sid = await begun(fake, tmp_path, records)
    path = job.output.with_name("out.ndjson.unfinished")
    path.write_text(json.dumps({**job.unfinished[sid], "cursor": "of another age"}) + "\n")

    assert await job.run() == 0
    assert job.stored == {sid: sids_of(records)}


@pytest.mark.parametrize("count", [3, 10, 11])
async def test_nightly_job_whose_list_has_changed(fake, tmp_path, count):
    """A conference whose list has changed since is asked for anew, and is there once and whole."""
    records = made_up(fake, 11)
    sid = fake.add_conference([*records[:6], {**records[6], "label": 7}, *records[7:]])
    job = Job(fake, tmp_path, sid)
    fake.latency = 0.05
    await job.run_until_failing(503, after=3)  # as it goes on behind the bad record
    fake.latency = 0
    unfinished = job.unfinished[sid]
    assert sids_of(unfinished["participants"]) == sids_of(records[:6])
    assert len(unfinished["bad_records"]) == 1

    changed = [*records[1:], records[0]][:count]
    fake.add_conference(changed, conference_sid=sid)
    assert await job.run() == 0
    assert job.stored == {sid: sids_of(changed)}
    assert lines_of(job.output)[sid]["bad_records"] == []


async def test_nightly_job_whose_list_changes_all_the_time(fake, tmp_path):
    """A list that changes as often as it is asked for is given up for the night."""
    records = made_up(fake, 4)
    sid = fake.add_conference(records)
    job = Job(fake, tmp_path, sid)
    bad = [*records[:2], {**records[2], "label": 7}, records[3]]
    for body in (bad, records[:1]) * 2:
        meta = {"next_page_url": None}
        fake.fail_next(200, body={"participants": body, "meta": meta})

    assert await job.run() == 1
    assert len(fake.requests) == 4
    assert "shorter" in job.unfinished[sid]["error"]
    fake.fail_next(200, body={"participants": [], "meta": {"next_page_url": None}})
    assert await job.run() == 0
    assert job.stored == {sid: sids_of(records)}


async def test_nightly_job_that_comes_too_early(fake, tmp_path, capsys):
    """A conference that is not there, empty or in progress is asked for anew by the next run."""
    records = made_up(fake, 6)
    late, empty, early = "CF" + "0" * 32, fake.add_conference([]), "CF" + "1" * 32
    fake.add_conference([in_progress(records[0]), *records[1:]], conference_sid=early)
    job = Job(fake, tmp_path, late, empty, early)

    for _ in range(2):
        assert await job.run() == 1
        assert job.stored == {}
        assert job.unfinished.keys() == {late, empty, early}
        assert all(each["participants"] == [] for each in job.unfinished.values())
        assert f"{empty}: Twilio has not finished" in capsys.readouterr().err
    given_up = [{**records[0], "processing_state": "timeout"}, *records[1:]]
    for sid in job.wanted:
        fake.add_conference(given_up, conference_sid=sid)
    assert await job.run() == 0
    assert job.stored == dict.fromkeys(job.wanted, sids_of(records))


async def test_nightly_job_after_a_day(fake, tmp_path):
    """What Twilio has not finished for a day is taken as it is; what is not there is not done."""
    records = made_up(fake, 6)
    lost, empty, stuck = "CF" + "0" * 32, fake.add_conference([]), "CF" + "1" * 32
    fake.add_conference([in_progress(records[0]), *records[1:]], conference_sid=stuck)
    job = Job(fake, tmp_path, lost, empty, stuck)
    assert await job.run() == 1
    since = {sid: each["since"] for sid, each in job.unfinished.items()}

    job.module.PATIENCE = 0
    assert await job.run() == 1
    assert job.stored == {empty: [], stuck: sids_of(records)}
    assert lines_of(job.output)[stuck]["in_progress"]
    assert {sid: each["since"] for sid, each in job.unfinished.items()} == {lost: since[lost]}


async def test_nightly_job_that_failed_too_early(fake, tmp_path):
    """Records that may still change are not kept for a conference that failed half-way."""
    records = made_up(fake, 10)
    job, sid = await begun(fake, tmp_path, [in_progress(records[0]), *records[1:]])
    assert job.unfinished[sid]["participants"] == []
    assert job.unfinished[sid]["cursor"] is None

    fake.add_conference(records, conference_sid=sid)
    assert await job.run() == 0
    assert [each["processing_state"] for each in lines_of(job.output)[sid]["participants"]] == (
        ["complete"] * 10
    )


async def test_nightly_job_with_bad_records(fake, tmp_path):
    """A record that cannot be read is noted, with a cursor that leads to it, and hides no other."""
    records = made_up(fake, 10)
    worse = [
        {**each, "label": 7} if index in {0, 5, 6, 9} else each
        for index, each in enumerate(records)
    ]
    sid = fake.add_conference(worse)
    job = Job(fake, tmp_path, sid)

    assert await job.run() == 0
    assert job.stored == {sid: sids_of([*records[1:5], *records[7:9]])}
    notes = lines_of(job.output)[sid]["bad_records"]
    places = [re.search(r"participants\[(\d)\]", note["error"])[1] for note in notes]
    assert places == [*"0121"]  # on pages of four
    nothing_but = fake.add_conference(worse[:1])
    job.wanted = [nothing_but]
    for _ in range(2):
        assert await job.run() == 1
        assert job.unfinished[nothing_but]["bad_records"] == []
    job.module.PATIENCE = 0
    assert await job.run() == 0
    assert len(lines_of(job.output)[nothing_but]["bad_records"]) == 1
    fake.add_conference(records, conference_sid=sid)
    async with SmallPages(fake.credentials, base_url=fake.base_url) as session:
        for note, index in zip(notes, (0, 5, 6, 9), strict=True):
            rest = await session.participants(sid, resume=note["cursor"])
            assert [each.participant_sid for each in rest] == sids_of(records[index:])


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
    assert b"0 of 1 conferences done, 1 unfinished" in ran.stderr
    assert lines_of(tmp_path / "out.ndjson.unfinished").keys() == {"none"}


async def test_nightly_job_writes_all_there_is(fake, tmp_path):
    """The output has every field of a record, those that the package does not know included."""
    (record,) = made_up(fake, 1)
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
    "nightly_job": r'(\{"conference_sid": "CF[0-9a-f]{32}", .*"error": null.*\}\n){2}',
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
    records = made_up(fake, 5)
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


async def test_readme_on_one_bad_value(fake, session):
    """The README's loop stores every record but the bad one, which it notes."""
    records = made_up(fake, 5)
    records = [{**each, "conference_sid": None} for each in records]
    sid = fake.add_conference([*records[:3], {**records[3], "label": 7}, records[4]])
    kept, noted = [], []

    async def keep(participant):
        kept.append(participant.participant_sid)

    async def note(error):
        noted.append(error.path)

    names = {"session": session, "ResponseError": ResponseError, "replace": {"CF…": sid}}
    await run("cursor_after", {**names, "keep": keep, "note": note})

    assert kept == [each["participant_sid"] for each in [*records[:3], records[4]]]
    assert noted == ["participants[3].label"]


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
        "instrumentation": instrumentation,
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
    shown = re.search(r"`(RetryPolicy\([^`]*?\))` are", README).group(1)

    assert " ".join(shown.split()) == repr(RetryPolicy())


@pytest.mark.parametrize("path", [*(ROOT / "examples").glob("*.py")], ids=lambda path: path.stem)
def test_examples_say_how_to_run(path):
    """Each example begins with what it does and how to call it."""
    assert f"`python {path.name}" in example(path.stem).__doc__.splitlines()[0]
