"""The README and the guide say what is true: their commands, snippets, tables and links."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from aioparticipants import (
    ClientCredentials,
    InsightsSession,
    Participant,
    RetryPolicy,
    errors,
    instrumentation,
)
from aioparticipants.testing import FakeInsights

from .users import bad, made_up, shell, sids_of

ROOT = Path(__file__).parents[1]
README, GUIDE = ROOT / "README.md", ROOT / ".github" / "GUIDE.md"
PAGES = [README, *sorted((ROOT / ".github").glob("*.md"))]
#: A word of each snippet, which the tests below find it by.
SNIPPETS = {
    README: ["asyncio.run", "read_many", "test_that", "read_from"],
    GUIDE: [
        *("count_in_time", "session_in_worker", "read_with_oauth", "read_merged"),
        *("read_last_week", "when_complete", "read_month", "RedisSlots", "print_retries"),
        *("save_rest", "read_around", "read_ndjson", "FastAPI", "reconcile", "RequestValidator"),
        *("write_parquet", "test_find_bad_calls"),
    ],
}
#: A time, which differs from one run to the next.
TIME = re.compile(r"[0-9.]+ s(econds)?\b")


def text_of(path):
    return path.read_text(encoding="utf-8")


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", text_of(path), re.DOTALL)


def run(path, word):
    """Run the snippet with a word, and return its names."""
    [snippet] = [each for each in blocks(path, "python") if word in each]
    names = {"__name__": "snippet"}
    exec(compile(snippet, path.name, "exec", dont_inherit=True), names)  # noqa: S102 - our own words
    return names


@pytest.fixture
def account(fake, monkeypatch):
    """Let `from_env()` lead to the fake."""
    username, password = fake.credentials
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", username)
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", password)
    monkeypatch.setenv("TWILIO_API_KEY", "")
    monkeypatch.setenv("TWILIO_INSIGHTS_BASE_URL", fake.base_url)


# --- The README ---


def test_readme_is_short():
    """The README has at most 200 lines, and its two commands are on the first screen."""
    lines = text_of(README).splitlines()
    commands = [line for block in blocks(README, "sh") for line in block.splitlines()]

    assert len(lines) <= 200
    assert lines.index("## Two commands") < 30
    assert commands[:2] == [
        "python -m pip install '.[cli]' && python -m aioparticipants demo",
        "python -m pip install nox uv && python -m nox",
    ]


def test_readme_shows_the_demo():
    """The picture in the README is how the demo begins on a terminal of 80 columns."""
    mine, terminal = os.openpty()
    demo = subprocess.Popen(
        [sys.executable, "-m", "aioparticipants", "demo", "--latency", "0.02"],
        env={**os.environ, "COLUMNS": "80", "TERM": "dumb", "PYTHONIOENCODING": "utf-8"},
        stdout=terminal,
        stderr=subprocess.DEVNULL,
    )
    os.close(terminal)
    with open(mine, "rb", buffering=0, closefd=True) as screen, demo:  # noqa: PTH123 - a descriptor
        printed = b""
        while part := _read(screen):
            printed += part
    assert demo.returncode == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed.decode()).replace("\r\n", "\n")

    [picture] = blocks(README, "text")
    assert TIME.sub("…", text).startswith(TIME.sub("…", picture))


def _read(screen):
    try:
        return screen.read(4096)
    except OSError:  # Linux: the other end is closed
        return b""


async def test_readme_first_lines(fake, account, monkeypatch, capsys):
    """The README's first program prints a line for each participant."""
    sid = fake.add_conference(participants=60)
    monkeypatch.setenv("CONFERENCE_SID", sid)

    await asyncio.to_thread(run, README, "asyncio.run")

    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == sids_of(fake.records(sid))


async def test_readme_on_many_conferences(capsys):
    """The README's lines on many conferences print each of the last day, also one that failed."""
    async with FakeInsights(now=datetime.now(UTC)) as fake:
        sids = [fake.add_conference(participants=3) for _ in range(5)]
        fake.fail_next(404, conference_sid=sids[0], path="/v1/Conferences/*/Participants")
        async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
            await run(README, "read_many")["read_many"](session)

    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line for line in lines if "complete" in line] == sorted(
        f"{sid} 3 complete" for sid in sids[1:]
    )
    assert len(lines) == 5
    assert any(line.startswith(f"{sids[0]} 0 HTTP 404") for line in lines)


async def test_readme_on_testing():
    """The README's example of a test passes."""
    await run(README, "test_that")["test_that_a_rate_limit_loses_nothing"]()


async def test_readme_on_failures(fake, capsys):
    """The README's lines on failures return a cursor, from which they read the rest."""
    records = made_up(fake, 1001)
    sid = fake.add_conference(records)
    read_from = run(README, "read_from")["read_from"]

    def fail_after_one_page(event):
        if isinstance(event, instrumentation.RequestFinished) and len(fake.requests) == 1:
            fake.fail_next(503)

    async with InsightsSession(
        fake.credentials,
        base_url=fake.base_url,
        retry=RetryPolicy(max_attempts=1),
        on_event=fail_after_one_page,
    ) as session:
        cursor = await read_from(session, sid, None)
        *first, message = capsys.readouterr().out.splitlines()
        assert message.startswith("HTTP 503")
        assert await read_from(session, sid, cursor) is None
        assert [*first, *capsys.readouterr().out.splitlines()] == sids_of(records)
        assert await read_from(session, "CF" + "0" * 32, None) is None


def test_readme_in_a_shell(tmp_path):
    """The README's commands start the test server, print a list, and write files of NDJSON."""
    [beside] = [each for each in blocks(README, "sh") if "--env" in each]
    [write] = [each for each in blocks(README, "sh") if "nightly_job" in each]
    start, show, stop = beside.splitlines()
    (tmp_path / "examples").symlink_to(ROOT / "examples")

    printed = shell(
        f"set -e; cd {tmp_path}; {start}; printf '%s\\n' $CONFERENCE_SIDS > sids.txt\n"
        f"{show}; {write}{stop}"
    )

    assert len(re.findall(r"^CP", printed, re.MULTILINE)) == 5
    assert text_of(tmp_path / "participants.ndjson").count("\n") == 130
    assert text_of(tmp_path / "conferences.ndjson").count("\n") == 3


# --- The guide ---


class Quick(InsightsSession):
    """A session that does not wait before it retries."""

    @classmethod
    def from_env(cls, **options):
        return super().from_env(retry=RetryPolicy(base_delay=0), **options)


async def test_guide_on_oauth(fake):
    """The guide's lines on OAuth read a conference, with client credentials and with a sidecar."""
    sid, made = fake.add_conference(participants=3), fake.client_credentials
    names = run(GUIDE, "read_with_oauth")
    names["ClientCredentials"] = functools.partial(ClientCredentials, token_url=made.token_url)
    names["InsightsSession"] = functools.partial(InsightsSession, base_url=fake.base_url)

    read = names["read_with_oauth"]
    assert len(await read(made.client_id, made.client_secret, sid)) == 3

    async with aiohttp.ClientSession() as client:
        url, form = made.token_request()
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        async with client.post(url, data=form, headers=kind) as reply:
            token = (await reply.json())["access_token"]
    async with InsightsSession(names["Sidecar"](token), base_url=fake.base_url) as session:
        assert len(await session.participants(sid)) == 3


async def test_guide_on_many_conferences(fake, session, capsys):
    """The guide's lines on many conferences read all of them, and report the one that failed."""
    sids = [fake.add_conference(participants=3) for _ in range(5)]
    names = run(GUIDE, "read_merged")

    await names["read_many"](session, iter([*sids, "CF0"]))
    out = capsys.readouterr().out
    assert out.count("has 3\n") == 5
    assert "CF0 failed; continue from None\n" in out
    assert out.endswith("6 of 6 done, 1 failed\n")

    await names["read_merged"](session, [*sids, "CF0"])
    *merged, failures = capsys.readouterr().out.splitlines()
    agents = {
        each["participant_sid"]
        for sid in sids
        for each in fake.records(sid)
        if each["label"] == "agent"
    }
    assert set(merged) == agents
    assert len(merged) == len(agents)
    assert failures == "1 conferences failed"


async def test_guide_on_lists_and_pairs(fake, session, capsys):
    """The guide's lines read the conferences of a list, and hand contexts back."""
    names = run(GUIDE, "read_last_week")
    now = fake.now = datetime.now(UTC).replace(microsecond=0)
    sids = [
        fake.add_conference(count, tags=["low_mos"], start_time=now - timedelta(hours=count))
        for count in (2, 3)
    ]
    fake.add_conference(4, tags=None)

    await names["read_last_week"](session, "low_mos")
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == [f"{now - timedelta(hours=count)} {count}" for count in (3, 2)]

    await names["read_for_customers"](session, [(sids[0], "one"), ("CF0", "two")])
    lines = sorted(capsys.readouterr().out.splitlines())
    assert lines[0] == "one 2"
    assert lines[1].startswith("two conference_sid must be CF")


async def test_guide_on_waiting(fake, session, capsys):
    """The guide's lines wait for a summary, and say what Twilio answered if that was too long."""
    names = run(GUIDE, "when_complete")
    sid = fake.add_conference(3, duration_seconds=77)
    assert await names["when_complete"](session, sid) == 77
    await names["read_complete"](session, [sid])
    assert capsys.readouterr().out == f"{sid} 3\n"

    class InAHurry:
        async def wait_until_complete(self, conference_sid, *, deadline):
            assert deadline == 3600
            return await session.wait_until_complete(conference_sid, deadline=0.05)

    slow = fake.add_conference(3, summary=["in_progress"])
    assert await names["when_complete"](InAHurry(), slow) is None
    assert "was in_progress" in capsys.readouterr().out


async def test_guide_on_other_options(fake, session):
    """The guide's handler counts participants, and returns None where there is no time."""
    count_in_time = run(GUIDE, "count_in_time")["count_in_time"]
    sid = fake.add_conference(participants=3)
    assert await count_in_time(session, sid) == 3

    fake.latency = 3600
    assert await count_in_time(session.with_options(deadline=0.01), sid) is None


async def test_guide_on_other_processes(account, fake):
    """The guide's worker has a session with the options of the first one."""
    names = run(GUIDE, "session_in_worker")
    session = InsightsSession(fake.credentials, base_url=fake.base_url, deadline=60)

    worker = names["session_in_worker"](names["message_for_worker"](session))
    assert worker.options == session.options


async def test_guide_on_slices(fake, session):
    """The guide counts each conference of a month once, in slices."""
    now = datetime.now(UTC)
    for days in (1, 2, 2, 29, 31):
        fake.add_conference(0, create_time=now - timedelta(days=days), status="completed")

    assert await run(GUIDE, "read_month")["read_month"](session) == {"completed": 4}
    assert len(fake.requests) == 60


class Redis:
    """The two commands of a Redis that the guide uses, on one list."""

    def __init__(self, *items):
        self.items = asyncio.Queue()
        self.calls = []
        for each in items:
            self.items.put_nowait(each)

    async def blpop(self, key):
        self.calls.append(("blpop", key))
        return key, await self.items.get()

    async def rpush(self, key, item):
        self.calls.append(("rpush", key))
        self.items.put_nowait(item)


async def test_guide_on_shared_limiters(fake):
    """The guide's limiter keeps the attempts of several sessions within the items of its list."""
    fake.concurrency = 2
    limiter = run(GUIDE, "RedisSlots")["RedisSlots"](redis := Redis(1, 1), "slots")
    sids = [fake.add_conference(participants=2) for _ in range(6)]
    async with (
        InsightsSession(fake.credentials, base_url=fake.base_url, limiter=limiter) as one,
        InsightsSession(fake.credentials, base_url=fake.base_url, limiter=limiter) as two,
    ):
        await asyncio.gather(*(one.participants(sid) for sid in sids[:3]), two.fan_out(sids[3:]))

    assert {seen.status for seen in fake.requests} == {200}
    assert sorted(redis.calls) == [("blpop", "slots")] * 6 + [("rpush", "slots")] * 6


async def test_guide_on_observability(fake, account, capsys):
    """The guide's callback prints each retry, and the statistics count it."""
    names = run(GUIDE, "print_retries")
    names["InsightsSession"] = Quick
    sid = fake.add_conference(participants=1)
    fake.fail_next(503)

    await names["read_and_count"](sid)

    assert capsys.readouterr().out == (f"{sid} HTTP 503 again in 0.0 s\n2 requests, 1 retries\n")


async def test_guide_on_cursors(fake, session):
    """The guide's lines on cursors lose no record, and save none twice."""
    records = made_up(fake, 5)
    sid = fake.add_conference([*records[:3], bad(records[3]), records[4]])
    names, saved = run(GUIDE, "save_rest"), []

    cursor = await names["save"](session, sid, saved)
    assert saved == sids_of(records[:3])
    fake.add_conference(records, conference_sid=sid)
    await names["save_rest"](session, sid, saved, cursor)

    assert saved == sids_of(records)
    assert await names["save"](session, sid, []) is None


async def test_guide_on_bad_values(fake, session, capsys):
    """The guide's loop prints every record but the bad one, and names that."""
    records = made_up(fake, 5)
    sid = fake.add_conference([*records[:3], bad(records[3]), records[4]])

    await run(GUIDE, "read_around")["read_around"](session, sid)

    *first, message, last = capsys.readouterr().out.splitlines()
    assert [*first, last] == sids_of([*records[:3], records[4]])
    assert message == "not readable: participants[3].label"


def pushed(records, **attributes):
    """Return the body of a push with these participants."""
    kind = "com.twilio.voice.insights.conference-participant-summary.complete"
    return json.dumps(
        [
            {
                "specversion": "1.0",
                "type": kind,
                "source": "/v1/Conferences",
                "id": f"EZ{each['participant_sid'][2:]}",
                "data": each,
                **attributes,
            }
            for each in records
        ]
    )


async def test_guide_on_event_streams(fake, session, capsys):
    """The guide's webhook stores each participant once, and reads by REST what no push brought."""
    names, asked = run(GUIDE, "reconcile"), []
    store, now = names["Store"](), datetime.now(UTC)
    ended = now - timedelta(hours=2)
    sid = fake.add_conference(5, create_time=ended - timedelta(hours=1), end_time=ended)
    records = fake.records(sid)

    def is_signed(url, body, signature):
        asked.append((url, body))
        return signature == "mine"

    async with served(names["webhook"](store, is_signed)) as push:
        for body in (pushed(records[:3]), pushed(records[1:3]), pushed([])):
            assert await push(body) == 204
        assert await push(pushed([{**records[3], "label": 7}])) == 204
        assert await push(pushed(records)[:-9]) == 400
        assert await push(pushed(records), signature="") == 403
        assert await push(pushed([{"participant_sid": "CP1"}], id=None)) == 204
    assert asked[0] == ("https://example.com/events?bodySHA256=00%2f", pushed(records[:3]))
    described = "is not as described: "
    bad_id = f"EZ{records[3]['participant_sid'][2:]}"
    assert capsys.readouterr().out.splitlines() == [
        f"event {bad_id} {described}data.label: expected a string, found an integer",
        f"event None {described}id: required by CloudEvents, and missing",
    ]
    assert [key[1] for key in store.participants] == [*sids_of(records[:4]), "CP1"]

    del store.participants[None, "CP1"]
    never_pushed = fake.add_conference(2, create_time=ended, end_time=ended)
    unfinished = fake.add_conference(
        1, create_time=ended, end_time=ended, processing_state="in_progress"
    )
    recent = fake.add_conference(1, create_time=ended, end_time=now - timedelta(minutes=59))
    await names["reconcile"](session, store, now)
    assert store.reconciled == {sid, never_pushed}
    assert {key[0] for key in store.participants} == {sid, never_pushed, unfinished}
    requests = len(fake.requests)
    await names["reconcile"](session, store, now + timedelta(minutes=1))
    assert len(fake.requests) == requests + 3  # the list, and the two that were not settled
    assert store.reconciled == {sid, never_pushed, recent}
    for each in (sid, never_pushed, unfinished, recent):
        listed = await session.participants(each)
        assert listed == [store.participants[each, one.participant_sid] for one in listed]


@asynccontextmanager
async def served(app):
    """Serve an application; yield a function that pushes a body to it, and returns the status."""
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    url = URL(f"http://{host}:{port}/events?bodySHA256=00%2f", encoded=True)
    async with aiohttp.ClientSession() as client:

        async def push(body, signature="mine"):
            headers = {"X-Twilio-Signature": signature, "Content-Type": "application/json"}
            async with client.post(url, data=body, headers=headers) as reply:
                return reply.status

        yield push
    await runner.cleanup()


def test_guide_on_signatures(monkeypatch):
    """The guide's check accepts what Twilio has signed, and nothing else."""
    validators = pytest.importorskip("twilio.request_validator")
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "token")
    validator = validators.RequestValidator("token")
    is_signed = run(GUIDE, "RequestValidator")["is_signed"]
    body = pushed([{"participant_sid": "CP1", "label": "é"}])
    url = f"https://example.com/events?bodySHA256={validator.compute_hash(body)}"
    signature = validator.compute_signature(url, {})

    assert is_signed(url, body, signature)
    assert not is_signed(url, body + " ", signature)
    assert not is_signed(url + "0", body, signature)
    assert not is_signed(url, body, "")
    bare = "https://example.com/events"
    assert not is_signed(bare, body, validator.compute_signature(bare, {}))


def test_guide_on_testing(tmp_path):
    """The guide's test module passes under pytest-asyncio."""
    [module] = [each for each in blocks(GUIDE, "python") if "test_find_bad_calls" in each]
    path = tmp_path / "test_guide.py"
    path.write_text(module, encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pytest", path.name, "-q", "-W", "error", "-p", "no:cacheprovider"),
        *("-o", "asyncio_default_fixture_loop_scope=function"),  # some versions warn if it is unset
    ]

    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "3 passed" in ran.stdout, ran.stdout
    assert ran.returncode == 0


async def test_guide_on_json(fake, session, tmp_path):
    """The guide's lines write a conference to a file, as Twilio sent it, and read it again."""
    names, path = run(GUIDE, "read_ndjson"), tmp_path / "out.ndjson"
    sid = fake.add_conference(participants=5)

    await names["write_ndjson"](session, sid, path)

    assert [json.loads(line) for line in text_of(path).splitlines()] == fake.records(sid)
    assert names["read_ndjson"](path) == await session.participants(sid)


def test_guide_on_fastapi():
    """The guide's handler returns participants, and FastAPI describes them."""
    description = run(GUIDE, "FastAPI")["app"].openapi()

    assert "Participant" in description["components"]["schemas"]


async def test_guide_on_tables(fake, session, tmp_path, capsys):
    """The guide's tables have the same figures in each library, and its file all participants."""
    names = run(GUIDE, "write_parquet")
    sid = fake.add_conference(40)
    participants = await session.participants(sid)

    names["describe_columns"]()
    names["compare"](participants)
    frame = await names["read_table"](session, sid)
    failures = await names["write_parquet"](session, [sid, "CF0", sid], tmp_path / "p.parquet")

    *described, one, two, three, four, sizes = capsys.readouterr().out.splitlines()
    assert len(described) == len(Participant.columns())
    assert len({round(float(each), 9) for each in (one, two, three, four)}) == 1
    assert sizes == "40 40"
    assert [each.conference_sid for each in failures] == ["CF0"]
    assert names["parquet"].read_table(tmp_path / "p.parquet").num_rows == 80
    assert frame.columns == [each.name for each in Participant.columns()]


def test_guide_names_the_defaults():
    """The guide's retry policy is the default one."""
    shown = re.search(r"`(RetryPolicy\([^`]*?\))` are", text_of(GUIDE)).group(1)

    assert " ".join(shown.split()) == repr(RetryPolicy())


def test_guide_lists_the_errors():
    """The guide's table has each error that can be raised."""
    shown = set(re.findall(r"`(\w+Error)`", text_of(GUIDE)))
    parents = {"InsightsError", "APIStatusError"}

    assert {name for name in errors.__all__ if name.endswith("Error")} - parents <= shown


# --- Both ---


@pytest.mark.parametrize("path", SNIPPETS, ids=lambda path: path.stem)
def test_every_snippet_is_run(path):
    """Each snippet of Python is one that a test of this file runs."""
    found = [[word for word in SNIPPETS[path] if word in each] for each in blocks(path, "python")]

    assert found == [[word] for word in SNIPPETS[path]]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links(path):
    """Each link within the repository leads to a file, and to a heading where it names one."""
    for target, _, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#?)([^)]*)\)", text_of(path)):
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), target
        headings = re.findall(r"^#+ (.*)$", text_of(file), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {each.lower().replace(" ", "-") for each in headings}
