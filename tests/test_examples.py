"""The examples do what they say: in this process, and as scripts beside the test server."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import signal
import socket
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from aioparticipants import InsightsSession, InvalidRequestError, NotFoundError, RetryPolicy

from .asgi import uvicorn_app
from .telemetry import until
from .users import bad, made_up, shell, sids_of

ROOT = Path(__file__).parents[1]
ONCE = RetryPolicy(max_attempts=1)
MISSING = "CF" + "0" * 32
EARLY = "CF" + "1" * 32


def example(name):
    """Return the module of an example."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def open_session(fake, **options):
    return InsightsSession(fake.credentials, base_url=fake.base_url, **options)


def in_progress(record):
    return {**record, "processing_state": "in_progress"}


def page(*records):
    """Return the body of a last page."""
    return {"participants": records, "meta": {"next_page_url": None}}


async def cancel(task):
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_one_conference(fake, capsys):
    """The first example prints a line for each participant."""
    sid = fake.add_conference([{"participant_sid": "CP1"}, *made_up(fake, 2)])

    await example("one_conference").main(open_session(fake), sid)

    first, *others = capsys.readouterr().out.splitlines()
    assert first == "CP1 None None"
    assert len(others) == 2
    assert all(re.fullmatch(r"CP[0-9a-f]{32} [a-z]{2}1 [0-9.]+", line) for line in others)


async def test_by_page(fake, capsys):
    """The example by page counts the bad lines of each page, and reports a failure."""
    sid = fake.add_conference(participants=70)
    main = example("by_page").main
    retry = RetryPolicy(max_attempts=2, base_delay=0)

    await main(open_session(fake, retry=retry), sid)
    out = capsys.readouterr().out
    assert re.fullmatch(r"page 0: \d+ of 50 bad lines\npage 1: \d+ of 20 bad lines\n", out)
    fake.fail_next(503, times=2)
    await main(open_session(fake, retry=retry), sid)
    assert capsys.readouterr().err.startswith("failed after 2 attempts: HTTP 503")


async def test_bad_audio(fake, capsys):
    """The example on the last day lists its bad conferences, and counts those that it cannot read.

    Conferences that are older, or whose audio is good, or unknown, are not listed.
    """
    main = example("bad_audio").main
    bad = fake.add_conference(3, inbound_mos=1.24, outbound_mos=4.2)
    fake.add_conference(3, mos=4.2)
    fake.add_conference(3, mos=1.2, create_time=fake.now - timedelta(days=2))
    fake.add_conference([{"participant_sid": "CP1", "metrics": None}])
    fake.add_conference([{"participant_sid": "CP1", "metrics": {"inbound": {"mos": None}}}])

    assert await main(open_session(fake), fake.now) == 0
    printed = capsys.readouterr()
    assert printed.out == (
        f"{bad}: 3 of 3 participants with bad audio, the worst with a MOS of 1.2\n"
    )
    assert printed.err == "4 conferences, 0 could not be read\n"
    fake.fail_next(404, conference_sid=bad)
    assert await main(open_session(fake, retry=ONCE), fake.now) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"{bad}: HTTP 404")
    assert printed.err.endswith("\n4 conferences, 1 could not be read\n")


# --- The web services ---


@asynccontextmanager
async def aiohttp_app(app):
    """Serve an aiohttp application as its example does, and yield its address."""
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


SERVICES = {"web_aiohttp": aiohttp_app, "web_fastapi": uvicorn_app}


@asynccontextmanager
async def service(name, fake, *, deadline=30.0, credentials=None):
    """Serve an example on the fake; yield a function that asks it, and its sessions."""
    module, sessions = example(name), []
    module.DEADLINE = deadline

    def new_session():
        retry = RetryPolicy(base_delay=0.001)
        given = credentials or fake.credentials
        sessions.append(InsightsSession(given, base_url=fake.base_url, retry=retry))
        return sessions[-1]

    async with SERVICES[name](module.make_app(new_session)) as address:
        async with aiohttp.ClientSession() as client:

            async def ask(sid):
                async with client.get(f"{address}/conferences/{sid}") as reply:
                    return reply.status, reply.headers, await reply.json()

            yield ask, sessions
    assert [repr(each).endswith("closed>") for each in sessions] == [True]


@pytest.mark.parametrize("name", SERVICES)
async def test_web_service(fake, name):
    """A service answers with the participants, and each kind of failure with its own status."""
    sid = fake.add_conference(participants=3)
    async with service(name, fake) as (ask, _):
        status, _, found = await ask(sid)
        assert status == 200
        assert found == fake.records(sid)

        status, _, body = await ask("CF123")
        assert (status, body["request_id"]) == (400, None)
        assert "CF" in body["error"]
        status, _, body = await ask(MISSING)
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
    """A service answers when its deadline has passed, however long Twilio takes."""
    sid = fake.add_conference(participants=3)
    fake.latency = 3600
    async with service(name, fake, deadline=0.05) as (ask, _):
        assert (await ask(sid))[0] == 504


@pytest.mark.parametrize("name", SERVICES)
async def test_web_service_misconfigured(fake, name):
    """Credentials that Twilio refuses are reported as the service's own fault."""
    credentials = ("AC" + "0" * 32, "f00ba4")
    async with service(name, fake, credentials=credentials) as (ask, _):
        status, _, body = await ask(fake.add_conference(participants=3))

    assert status == 502
    assert "f00ba4" not in body["error"]


async def test_web_service_whose_client_disconnects(fake):
    """A client that disconnects from aiohttp.web also ends the request to Twilio."""
    sid = fake.add_conference(participants=3)
    fake.latency = 3600
    async with service("web_aiohttp", fake) as (ask, sessions):
        asking = asyncio.create_task(ask(sid))
        await until(lambda: sessions and sessions[0].stats.in_flight)
        await cancel(asking)
        await until(lambda: not sessions[0].stats.in_flight)
        assert sessions[0].stats.cancelled == 1


# --- The queue worker ---


class Jobs:
    """A queue that records what happened to each SID."""

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


class Store:
    """A store that records its results, and stops the worker after so many."""

    def __init__(self, jobs, count):
        self.jobs, self.count, self.stop = jobs, count, asyncio.Event()
        self.results = {}
        if not count:
            self.stop.set()

    async def __call__(self, result):
        sid = result.conference_sid
        assert sid not in self.jobs.acknowledged
        assert sid not in self.results
        self.results[sid] = result
        if len(self.results) == self.count:
            self.stop.set()

    def sids_of(self, sid):
        return [each.participant_sid for each in self.results[sid].participants]


async def work(session, jobs, store, stop=None):
    await example("queue_worker").work(session, jobs, store, stop or store.stop)


async def test_queue_worker(fake, session):
    """Each SID is acknowledged after its result is stored; a temporary failure is put back."""
    sids = [fake.add_conference(participants=3) for _ in range(6)]
    jobs = Jobs(*sids, "none")
    store = Store(jobs, 7)
    fake.fail_next(429, retry_after=3600)
    fake.fail_next(429, retry_after=0)  # the session itself retries this one

    await work(session, jobs, store)

    assert sorted(jobs.acknowledged) == sorted(store.results) == sorted([*sids, "none"])
    assert [seconds for _, seconds in jobs.back] == [3600]
    assert all(store.sids_of(sid) == sids_of(fake.records(sid)) for sid in sids)
    assert isinstance(store.results["none"].error, InvalidRequestError)
    assert jobs.waiting.empty()


async def test_queue_worker_that_is_too_early(fake, session):
    """A conference that is missing, empty or in progress is put back until it is settled."""
    records = made_up(fake, 4)
    sids = [MISSING, fake.add_conference([]), EARLY]
    fake.add_conference([*records[:3], in_progress(records[3])], conference_sid=EARLY)
    jobs = Jobs(*sids)
    store = Store(jobs, 3)
    put_back = jobs.put_back

    async def settle(sid, *, seconds):
        assert seconds == 1800
        if jobs.taken.count(sid) == 2:
            timed_out = {**records[3], "processing_state": "timeout"}
            fake.add_conference([*records[:3], timed_out], conference_sid=sid)
        await put_back(sid, seconds=seconds)

    jobs.put_back = settle
    await work(session, jobs, store)

    assert sorted(jobs.taken) == sorted(sids * 3)
    assert sorted(jobs.acknowledged) == sorted(sids)
    assert all(result.settled for result in store.results.values())
    assert all(store.sids_of(sid) == sids_of(records) for sid in sids)


async def test_queue_worker_after_a_day(fake, session):
    """A conference that Twilio never finishes is stored as it is in the end, and taken no more."""
    records = [*map(in_progress, made_up(fake, 2))]
    empty, stuck = fake.add_conference([]), fake.add_conference(records)
    jobs = Jobs(MISSING, empty, stuck)
    store = Store(jobs, 3)

    await work(session, jobs, store)

    assert sorted(jobs.taken) == sorted([MISSING, empty, stuck] * 48)
    assert sum(seconds for _, seconds in jobs.back) == 3 * 47 * 1800
    assert isinstance(store.results[MISSING].error, NotFoundError)
    assert store.results[empty].participants == ()
    assert store.sids_of(stuck) == sids_of(records)


async def test_queue_worker_with_bad_records(fake, session):
    """A wrong value is kept with its record, a value that is no record is listed; others follow."""
    records = made_up(fake, 7)
    sid = fake.add_conference([])
    served = [*records[:3], bad(records[3]), "no record", *records[4:], None]
    fake.fail_next(200, body=page(*served))
    jobs = Jobs(sid)
    store = Store(jobs, 1)

    await work(session, jobs, store)

    result, kept = store.results[sid], store.sids_of(sid)
    assert result.error is None
    good = sids_of([*records[:3], *records[4:]])
    assert [each for each in kept if each != records[3]["participant_sid"]] == good
    assert len(kept) + len(result.problems) == len(served)
    assert jobs.acknowledged == [sid]


@pytest.mark.parametrize("killed_after", range(5))
async def test_queue_worker_that_is_killed(fake, session, killed_after):
    """A worker that is killed leaves to the next one what it has not acknowledged."""
    sids = [fake.add_conference(participants=3) for _ in range(5)]
    jobs = Jobs(*sids)
    store = Store(jobs, killed_after + 1)

    async def die(sid):
        jobs.acknowledged.append(sid)
        if len(jobs.acknowledged) > killed_after:
            working.cancel()
            await asyncio.Event().wait()

    jobs.acknowledge = die
    working = asyncio.create_task(work(session, jobs, store, asyncio.Event()))
    await asyncio.wait([working])
    assert working.cancelled()
    assert sorted(store.results) == sorted(jobs.acknowledged)

    left = [sid for sid in sids if sid not in jobs.acknowledged]
    others = Store(again := Jobs(*left), len(left))
    await work(session, again, others)
    assert sorted([*store.results, *others.results]) == sorted(sids)


async def test_queue_worker_puts_back_without_a_time(fake, session):
    """A failure that names no time is put back for half a minute, and nothing is stored."""
    jobs, stop = Jobs(fake.add_conference(participants=3)), asyncio.Event()
    fake.fail_next(503, times=5)

    async def put_back(sid, *, seconds):
        jobs.back.append((sid, seconds))
        stop.set()

    jobs.put_back = put_back
    await work(session, jobs, None, stop)

    assert jobs.back == [(jobs.taken[0], 30.0)]
    assert jobs.acknowledged == []


async def test_queue_worker_stops(fake, session):
    """After `stop` is set the worker takes no more, and finishes what it took."""
    jobs = Jobs(*(fake.add_conference(participants=1) for _ in range(100)))
    stop, stored = asyncio.Event(), []

    async def store(result):
        stored.append(result.conference_sid)
        stop.set()

    await work(session, jobs, store, stop)

    assert 1 <= len(jobs.taken) < 100
    assert sorted(jobs.acknowledged) == sorted(stored) == sorted(jobs.taken)
    assert len(jobs.taken) + jobs.waiting.qsize() == 100


async def test_queue_worker_stops_at_an_empty_queue(session):
    """A worker that waits for its queue stops at once."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)

    await work(session, Jobs(), None, stop)


@pytest.mark.parametrize("broken", [True, False], ids=["store fails", "cancelled"])
async def test_queue_worker_that_breaks(fake, session, broken):
    """A worker that fails or is cancelled acknowledges nothing that was not stored."""
    jobs = Jobs(*(fake.add_conference(participants=1) for _ in range(5)))
    storing = asyncio.Event()

    async def store(_result):
        storing.set()
        if broken:
            raise ConnectionError
        await asyncio.Event().wait()

    working = asyncio.create_task(work(session, jobs, store, asyncio.Event()))
    await storing.wait()
    if broken:
        with pytest.raises(ConnectionError):
            await working
    else:
        await cancel(working)

    assert jobs.acknowledged == []


async def test_queue_worker_on_signals(fake, capsys):
    """SIGTERM ends the worker after a line for each conference."""
    module = example("queue_worker")
    sid = fake.add_conference(participants=3)
    fake.fail_next(429, retry_after=3600)
    queue = module.MemoryQueue([sid, sid])
    working = asyncio.create_task(module.main(open_session(fake, retry=ONCE), queue))
    await until(lambda: len(fake.requests) == 2)
    os.kill(os.getpid(), signal.SIGTERM)
    await working

    out, err = capsys.readouterr()
    assert out == f"{sid} 3 complete\n"
    assert sorted(err.splitlines()) == [f"{sid} again in 3600.0 s", f"{sid} is done"]


# --- The nightly job ---


class SmallPages(InsightsSession):
    """A session whose lists have pages of four."""

    def participants(self, *args, **options):
        return super().participants(*args, page_size=4, **options)

    def fan_out(self, *args, **options):
        return super().fan_out(*args, page_size=4, **options)


def lines_of(output):
    """Return the lines of a file of the job by conference, each of which has only one."""
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    found = {each["conference_sid"]: each for each in lines}
    assert len(found) == len(lines)
    return found


class Job:
    """The nightly job on the fake, and what it has written."""

    def __init__(self, fake, folder, *wanted):
        self.fake, self.wanted, self.output = fake, [*wanted], folder / "out.ndjson"
        self.rest = folder / "out.ndjson.unfinished"
        self.module = example("nightly_job")

    async def run(self):
        """Run it for a night, and return its exit code."""
        self.fake.requests.clear()
        session = SmallPages(self.fake.credentials, base_url=self.fake.base_url, retry=ONCE)
        return await self.module.main(session, self.wanted, self.output)

    async def run_until_failing(self, *, after):
        """Run it for a night in which the request after so many fails."""
        self.fake.latency = 0.05
        running = asyncio.ensure_future(self.run())
        await until(lambda: len(self.fake.requests) == after)
        self.fake.fail_next(503)
        assert await running == 1
        self.fake.latency = 0

    @property
    def stored(self):
        """Return the SIDs of the participants of each complete conference."""
        return {sid: sids_of(each["participants"]) for sid, each in lines_of(self.output).items()}

    @property
    def unfinished(self):
        """Return the lines of the other conferences."""
        return lines_of(self.rest)


async def failed_half_way(fake, folder, records):
    """Return a job that failed in the middle of its only conference, and the conference's SID."""
    sid = fake.add_conference(records)
    job = Job(fake, folder, sid)
    await job.run_until_failing(after=2)
    assert job.stored == {}
    return job, sid


async def test_nightly_job(fake, tmp_path, capsys):
    """The next run completes a job that failed in part: nothing is lost, nothing written twice."""
    sids = [fake.add_conference(participants=3) for _ in range(6)]
    job = Job(fake, tmp_path, *sids, MISSING, sids[0], "none")

    fake.fail_next(503, times=2)
    assert await job.run() == 1
    assert len(job.stored) == 4
    assert len(job.unfinished) == 4
    assert job.unfinished.keys() > {MISSING, "none"}
    assert "4 of 8 conferences done, 4 unfinished; 7 requests" in capsys.readouterr().err

    with job.output.open("ab") as file:  # as if the job was killed while it wrote
        file.write(b'{"conference_sid": "' + MISSING.encode())
    assert await job.run() == 1  # one is still missing, and one is no SID
    assert job.unfinished.keys() == {MISSING, "none"}
    assert len(fake.requests) == 3

    fake.add_conference(made_up(fake, 9), conference_sid=MISSING)
    job.wanted.remove("none")
    assert await job.run() == 0
    assert job.unfinished == {}
    assert job.stored == {sid: sids_of(fake.records(sid)) for sid in job.wanted}

    capsys.readouterr()
    assert await job.run() == 0
    assert fake.requests == []
    assert capsys.readouterr().err == (
        "0 of 0 conferences done, 0 unfinished; 0 requests, 0 retries, 0 rate-limited\n"
    )


async def test_nightly_job_that_is_killed(fake, tmp_path):
    """The next run completes a job that was killed, and requests nothing twice."""
    wanted = [fake.add_conference(participants=2) for _ in range(40)]
    job = Job(fake, tmp_path, *wanted)

    running = asyncio.create_task(job.run())
    await until(lambda: job.output.exists() and job.output.read_bytes().count(b"\n") >= 5)
    await cancel(running)
    done = job.stored
    assert 5 <= len(done) < 40
    assert job.unfinished.keys() == set(wanted) - set(done)
    assert await job.run() == 0

    assert job.stored == {sid: sids_of(fake.records(sid)) for sid in wanted}
    assert len(fake.requests) == 40 - len(done)


async def test_nightly_job_in_the_middle_of_a_conference(fake, tmp_path):
    """A conference that failed half-way continues there, also after a run that is killed."""
    records = made_up(fake, 10)
    job, sid = await failed_half_way(fake, tmp_path, records)
    assert sids_of(job.unfinished[sid]["participants"]) == sids_of(records[:8])

    fake.latency = 3600
    running = asyncio.create_task(job.run())
    await until(job.output.exists)
    for _ in range(20):
        await asyncio.sleep(0)
    await cancel(running)
    fake.latency = 0
    assert sids_of(job.unfinished[sid]["participants"]) == sids_of(records[:8])
    assert await job.run() == 0

    assert job.stored == {sid: sids_of(records)}
    assert job.unfinished == {}
    assert len(fake.requests) == 1


@pytest.mark.parametrize("expired", [True, False], ids=["expired", "unreadable"])
async def test_nightly_job_whose_cursor_is_useless(fake, tmp_path, expired):
    """A conference whose cursor is refused is fetched again, and no record is written twice."""
    records = made_up(fake, 10)
    job, sid = await failed_half_way(fake, tmp_path, records)
    if expired:
        fake.fail_next(400)
    else:
        job.rest.write_text(json.dumps({**job.unfinished[sid], "cursor": "unreadable"}) + "\n")

    assert await job.run() == 0
    assert [seen.status for seen in fake.requests] == [*[400] * expired, 200, 200, 200]
    assert job.stored == {sid: sids_of(records)}


@pytest.mark.parametrize("count", [3, 10, 11])
async def test_nightly_job_whose_list_has_changed(fake, tmp_path, count):
    """A conference whose list has changed is fetched again, and written once and complete."""
    records = made_up(fake, 11)
    sid = fake.add_conference([*records[:6], bad(records[6]), *records[7:]])
    job = Job(fake, tmp_path, sid)
    await job.run_until_failing(after=3)  # while it continues behind the bad record
    unfinished = job.unfinished[sid]
    assert sids_of(unfinished["participants"]) == sids_of(records[:6])
    assert len(unfinished["bad_records"]) == 1

    changed = [*records[1:], records[0]][:count]
    fake.add_conference(changed, conference_sid=sid)
    assert await job.run() == 0
    assert job.stored == {sid: sids_of(changed)}
    assert lines_of(job.output)[sid]["bad_records"] == []


async def test_nightly_job_whose_list_changes_each_time(fake, tmp_path):
    """A list that changes at each request is given up for the night."""
    records = made_up(fake, 4)
    sid = fake.add_conference(records)
    job = Job(fake, tmp_path, sid)
    for served in ([*records[:2], bad(records[2]), records[3]], records[:1]) * 2:
        fake.fail_next(200, body=page(*served))

    assert await job.run() == 1
    assert len(fake.requests) == 4
    assert "shorter" in job.unfinished[sid]["error"]
    fake.fail_next(200, body=page())
    assert await job.run() == 0
    assert job.stored == {sid: sids_of(records)}


@pytest.mark.parametrize("days", [0, 1])
async def test_nightly_job_that_is_too_early(fake, tmp_path, capsys, days):
    """What is missing, empty or in progress is fetched again; after a day, what exists is final."""
    records = made_up(fake, 6)
    empty = fake.add_conference([])
    fake.add_conference([in_progress(records[0]), *records[1:]], conference_sid=EARLY)
    job = Job(fake, tmp_path, MISSING, empty, EARLY)
    for _ in range(2):
        assert await job.run() == 1
        assert job.stored == {}
        assert job.unfinished.keys() == set(job.wanted)
        assert all(each["participants"] == [] for each in job.unfinished.values())
        assert f"{empty}: Twilio has not finished" in capsys.readouterr().err
    since = job.unfinished[MISSING]["since"]

    if days:
        job.module.PATIENCE = 0
        assert await job.run() == 1
        assert job.stored == {empty: [], EARLY: sids_of(records)}
        assert lines_of(job.output)[EARLY]["in_progress"]
        assert {sid: each["since"] for sid, each in job.unfinished.items()} == {MISSING: since}
    else:
        for sid in job.wanted:
            timed_out = {**records[0], "processing_state": "timeout"}
            fake.add_conference([timed_out, *records[1:]], conference_sid=sid)
        assert await job.run() == 0
        assert job.stored == dict.fromkeys(job.wanted, sids_of(records))


async def test_nightly_job_that_failed_too_early(fake, tmp_path):
    """Records that may still change are not kept for a conference that failed half-way."""
    records = made_up(fake, 10)
    job, sid = await failed_half_way(fake, tmp_path, [in_progress(records[0]), *records[1:]])
    assert job.unfinished[sid]["participants"] == []
    assert job.unfinished[sid]["cursor"] is None

    fake.add_conference(records, conference_sid=sid)
    assert await job.run() == 0
    written = lines_of(job.output)[sid]["participants"]
    assert [each["processing_state"] for each in written] == ["complete"] * 10


async def test_nightly_job_with_bad_records(fake, tmp_path):
    """A record that cannot be read is listed with a cursor that leads to it; it hides no other."""
    records = made_up(fake, 10)
    spoiled = (0, 5, 6, 9)
    served = [bad(each) if index in spoiled else each for index, each in enumerate(records)]
    sid = fake.add_conference(served)
    job = Job(fake, tmp_path, sid)

    assert await job.run() == 0
    assert job.stored == {sid: sids_of([*records[1:5], *records[7:9]])}
    notes = lines_of(job.output)[sid]["bad_records"]
    places = [re.search(r"participants\[(\d)\]", note["error"])[1] for note in notes]
    assert places == [*"0121"]  # on pages of four
    nothing_else = fake.add_conference(served[:1])
    job.wanted = [nothing_else]
    for _ in range(2):
        assert await job.run() == 1
        assert job.unfinished[nothing_else]["bad_records"] == []
    job.module.PATIENCE = 0
    assert await job.run() == 0
    assert len(lines_of(job.output)[nothing_else]["bad_records"]) == 1
    fake.add_conference(records, conference_sid=sid)
    async with SmallPages(fake.credentials, base_url=fake.base_url) as session:
        for note, index in zip(notes, spoiled, strict=True):
            rest = await session.participants(sid, resume=note["cursor"])
            assert [each.participant_sid for each in rest] == sids_of(records[index:])


async def test_nightly_job_writes_every_field(fake, tmp_path):
    """The output has each record as the API sent it, also what the package does not know."""
    (record,) = made_up(fake, 1)
    sid = fake.add_conference([{**record, "novel": {"a": [1]}}])
    output = tmp_path / "out.ndjson"

    assert await example("nightly_job").main(open_session(fake), [sid], output) == 0
    (found,) = json.loads(output.read_text(encoding="utf-8"))["participants"]
    assert found == {**record, "novel": {"a": [1]}}


# --- As they are, from a shell, beside the test server ---

#: Asks a service that is about to start, and prints its answer.
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
#: How to run each example, as its first line says.
SCRIPTS = {
    "one_conference": 'python $EXAMPLE "$CONFERENCE_SID"',
    "by_page": 'python $EXAMPLE "$CONFERENCE_SID"',
    "bad_audio": "python $EXAMPLE 2>&1",
    "nightly_job": (
        'printf "%s\\n" $CONFERENCE_SIDS none > sids.txt; python $EXAMPLE sids.txt out.ndjson;'
        " test $? = 1 && cat out.ndjson"
    ),
    "queue_worker": (
        "python $EXAMPLE $CONFERENCE_SIDS 2> log & ID=$!;"
        'until [ "$(grep -c done log)" = 2 ]; do sleep 0.05; done; kill $ID; wait $ID'
    ),
    "web_aiohttp": SERVICE,
    "web_fastapi": SERVICE,
}
#: What it prints, for two conferences of three participants.
PRINTED = {
    "one_conference": r"(CP[0-9a-f]{32} [a-z0-9]+ [0-9.]+\n){3}",
    "by_page": r"page 0: [0-3] of 3 bad lines\n",
    "bad_audio": r"(CF[0-9a-f]{32}: [1-3] of 3 .*\n)*2 conferences, 0 could not be read\n",
    "nightly_job": r'(\{"conference_sid": "CF[0-9a-f]{32}", .*"error": null.*\}\n){2}',
    "queue_worker": r"(CF[0-9a-f]{32} 3 complete\n){2}",
    **dict.fromkeys(
        SERVICES, r'(.*\n)*\[(\{"participant_sid": ?"CP.*"url": ?".*"\},? ?){3}\]\n(.*\n)*'
    ),
}
EXAMPLES = pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem
)


@pytest.fixture(scope="module")
def variables():
    """Return the variables of a shell that has started the test server."""
    # A key of the user's own would be used first, and must not be sent to the test server.
    mine = {"TWILIO_API_KEY": "SK1", "TWILIO_API_SECRET": "real", "TWILIO_REGION": "ie1"}
    started = "python -m aioparticipants.testing --env --conferences 2 --participants 3"
    show = "import json, os; print(json.dumps({**os.environ}))"
    found = json.loads(shell(f'eval "$({started} &)"; python -c "{show}"', **mine))
    yield found
    os.kill(int(found["FAKE_INSIGHTS_PID"]), signal.SIGTERM)


@EXAMPLES
def test_examples_beside_the_test_server(variables, path, tmp_path):
    """Each example runs unchanged in a shell that has the variables of `--env`."""
    (tmp_path / "ask.py").write_text(ASK, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}/conferences"

    printed = shell(
        f"cd {tmp_path}; {SCRIPTS[path.stem]}",
        **{**variables, "EXAMPLE": str(path), "PORT": port, "URL": url},
    )

    assert re.fullmatch(PRINTED[path.stem], printed)


@EXAMPLES
def test_examples_say_how_to_run(path):
    """Each example begins with what it does and how to run it."""
    assert f"`python {path.name}" in example(path.stem).__doc__.splitlines()[0]
