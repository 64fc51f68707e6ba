"""The examples and the README's words, run."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from pathlib import Path

import pytest

from aioparticipants import InsightsError, InsightsSession, RetryPolicy, events
from aioparticipants.testing import FakeInsights

ROOT = Path(__file__).parent.parent
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
    await eval(compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307


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


@pytest.mark.parametrize("name", ["one_conference", "by_page"])
def test_examples_say_how_to_run(name):
    """Each example begins with what it does and how to call it."""
    assert f"python {name}.py CF…" in example(name).__doc__
