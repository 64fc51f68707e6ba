"""The commands: what goes where, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aioparticipants import __version__
from aioparticipants.__main__ import main
from aioparticipants.testing import FakeInsights

SID = "CF" + "a" * 32
#: A device that says of every write that the disk is full.
FULL = Path("/dev/full")


class Served:
    """A FakeInsights on a loop in a thread of its own, as the commands run a loop themselves."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.fake = FakeInsights()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.call(self.fake.start())

    def call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def stop(self):
        self.call(self.fake.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def served(monkeypatch):
    """Serve a fake, with its credentials in the environment."""
    server = Served()
    for name in list(os.environ):
        if name.startswith("TWILIO_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", server.fake.credentials[0])
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", server.fake.credentials[1])
    yield server.fake
    server.stop()


@pytest.fixture(params=["rich", "plain"])
def renderer(request, monkeypatch):
    """Print tables with rich, and without."""
    if request.param == "plain":
        monkeypatch.setitem(sys.modules, "rich.console", None)
        monkeypatch.delitem(sys.modules, "aioparticipants._cli._rich", raising=False)
    return request.param


@pytest.mark.usefixtures("renderer")
def test_demo(capsys):
    """Demo prints every participant with figures, and one line of totals; nothing to stderr."""
    assert main(["demo", "--participants", "23", "--page-size", "10"]) == 0

    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 25
    assert lines[0].split()[:2] == ["participant", "label"]
    assert all(line.startswith("CP") for line in lines[1:24])
    assert lines[24].startswith("23 participants, 3 pages, 3 requests, ")
    assert lines[24].endswith(" seconds")
    assert err == ""


def test_demo_of_nobody(capsys):
    """Demo refuses what cannot be made up."""
    assert main(["demo", "--participants", "-1"]) == 2
    assert main(["demo", "--page-size", "0"]) == 2
    assert "page_size must be" in capsys.readouterr().err


@pytest.mark.usefixtures("renderer")
def test_list(served, capsys):
    """List prints the table to stdout, and the totals to stderr."""
    sid = served.add_conference(
        [
            {
                "participant_sid": "CP1",
                "label": "[red]a\x1b[31m",
                "metrics": {"inbound": {"mos": 4}},
            },
            {
                "call_type": "sip",
                "metrics": {"inbound": None, "outbound": {"jitter": {"avg": 1.25}}},
            },
        ]
    )

    assert main(["list", sid, "--base-url", served.base_url]) == 0

    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert "[red]a\N{REPLACEMENT CHARACTER}[31m" in out
    assert "\x1b" not in out
    assert "1.25" in out
    assert err.startswith("2 participants, 1 pages, ")


def test_list_ndjson(served, capsys):
    """Ndjson gives each record as the API had it, a line each; filters and sizes apply."""
    sid = served.add_conference(participants=30)
    wanted = [each for each in served.records(sid) if each["label"] == "agent"]
    arguments = ["--base-url", served.base_url, "--format", "ndjson", "--page-size", "2"]

    assert main(["list", sid, *arguments, "--label", "agent", "--limit", "3"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == wanted[:3]
    assert served.requests[0].query == {"Label": "agent", "PageSize": "2"}
    assert main(["list", sid, *arguments, "--events", "mute"]) == 0
    assert all(
        "mute" in json.loads(each)["events"] for each in capsys.readouterr().out.splitlines()
    )


def test_failure(served, capsys):
    """A refusal is one clear line and exit code 1, after what came before it and with a way on."""
    sid = served.add_conference([{"participant_sid": "CP1"}, {"label": 7}])

    assert main(["list", SID, "--base-url", served.base_url]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("aioparticipants: HTTP 404, Twilio error 20404. Check")
    assert main(["list", sid, "--base-url", served.base_url]) == 1
    out, err = capsys.readouterr()
    assert "CP1" in out
    why, how = err.splitlines()
    assert "participants[1]" in why
    option = how.removeprefix("aioparticipants: go on with ")
    served.add_conference([{}, {"participant_sid": "CP2"}], conference_sid=sid)
    assert main(["list", sid, "--base-url", served.base_url, "--format", "ndjson", option]) == 0
    assert "CP2" in capsys.readouterr().out
    assert main(["list", sid, "--base-url", served.base_url, "--resume", "x"]) == 2
    assert capsys.readouterr().err == (
        "aioparticipants: resume is not a cursor, or was cut off or changed on its way.\n"
    )
    served.latency = 5
    assert main(["list", sid, "--base-url", served.base_url, "--deadline", "0.1"]) == 1
    assert "The deadline of 0.1 s passed" in capsys.readouterr().err


def test_misuse(monkeypatch, capsys):
    """What cannot be meant, and missing credentials, are one clear line and exit code 2."""
    for name in list(os.environ):
        if name.startswith("TWILIO_"):
            monkeypatch.delenv(name)
    assert main(["list", SID]) == 2
    assert capsys.readouterr().err == (
        "aioparticipants: No Twilio credentials in the environment: set TWILIO_API_KEY and "
        "TWILIO_API_SECRET, or TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN.\n"
    )
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", "AC1")
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "token")
    assert main(["list", "CF1"]) == 2
    assert "conference_sid must be CF" in capsys.readouterr().err
    for arguments in (
        [],
        ["list"],
        ["list", SID, "--limit", "x"],
        ["list", SID, "--format", "xml"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


def test_version(capsys):
    """--version tells the version."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])

    assert caught.value.code == 0
    assert capsys.readouterr().out == f"aioparticipants {__version__}\n"


def test_interrupted(served):
    """An interrupt ends a listing with 130 and no traceback."""
    served.latency = 3600
    sid = served.add_conference(participants=1)
    command = [sys.executable, "-m", "aioparticipants", "list", sid, "--base-url", served.base_url]
    # In asyncio's debug mode a slow start is a line on stderr as well.
    environment = {**os.environ, "PYTHONDEVMODE": "", "PYTHONASYNCIODEBUG": ""}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        while not served._in_flight:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()

    assert process.returncode == 130
    assert err == "aioparticipants: interrupted\n"


def test_interrupted_in_process(served, monkeypatch, capsys):
    """An interrupt is told in one line, whatever it interrupted."""

    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        sys, "stdout", type("Stdout", (), {"write": interrupt, "flush": interrupt})()
    )
    sid = served.add_conference(participants=1)

    assert main(["list", sid, "--base-url", served.base_url, "--format", "ndjson"]) == 130
    assert capsys.readouterr().err == "aioparticipants: interrupted\n"


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (BrokenPipeError(), 0, ""),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device"),
    ],
)
def test_stdout_that_fails(served, monkeypatch, capsys, tmp_path, error, code, told):
    """A reader that closes the pipe ends the listing quietly, with 0; a full disk is told of."""
    sid = served.add_conference(participants=1)
    with (tmp_path / "out").open("w") as out:

        class Stdout:
            fileno = out.fileno

            def write(self, _text):
                raise error

        monkeypatch.setattr(sys, "stdout", Stdout())

        assert main(["list", sid, "--base-url", served.base_url, "--format", "ndjson"]) == code
    assert capsys.readouterr().err == (f"aioparticipants: {told}\n" if told else "")


def listing(served, sid, *arguments, encoding="utf-8", stdout=subprocess.PIPE):
    """Run `list` in a process of its own, whose stdout has that encoding."""
    command = [sys.executable, "-m", "aioparticipants", "list", sid]
    return subprocess.run(
        [*command, "--base-url", served.base_url, *arguments],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_text_that_stdout_cannot_encode(served, encoding):
    """Labels in any script, and no script at all, end no listing; ndjson loses nothing of them."""
    labels = ["é", "日本", "\ud800", "\N{TELEPHONE RECEIVER}"]
    sid = served.add_conference([{"label": each} for each in labels])

    ran = listing(served, sid, "--format", "ndjson", encoding=encoding)
    assert ran.returncode == 0
    assert [json.loads(each)["label"] for each in ran.stdout.splitlines()] == labels
    ran = listing(served, sid, encoding=encoding)
    assert ran.returncode == 0
    assert len(ran.stdout.splitlines()) == 5


@pytest.mark.skipif(not FULL.exists(), reason="a device of Linux's")
@pytest.mark.parametrize("form", ["table", "ndjson"])
def test_stdout_that_takes_no_more(served, form):
    """A full disk is one line and exit code 1."""
    sid = served.add_conference(participants=3)

    with FULL.open("wb") as full:
        ran = listing(served, sid, "--format", form, stdout=full)

    assert ran.returncode == 1
    assert b"No space left on device" in ran.stderr
    assert b"Traceback" not in ran.stderr
