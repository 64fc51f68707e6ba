"""The commands: what goes where, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import unicodedata
from pathlib import Path

import pytest

from aioparticipants import InvalidRequestError, __version__
from aioparticipants.__main__ import main
from aioparticipants._cli._proxies import proxy_for
from aioparticipants._cli._signals import Interruption
from aioparticipants._cli._streams import Output, fill_descriptors, say
from aioparticipants.testing import FakeInsights

SID = "CF" + "a" * 32
#: A device that says of every write that the disk is full.
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="a device of Linux's")
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Linux tells it")
#: Sets a terminal's colours, its title and its cursor, breaks a line, and turns text round.
HOSTILE = "\x1b[31mred\x1b]0;title\x07\r\n\x9b2J\u202eback\u2028"


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
def no_settings(monkeypatch):
    """Leave nothing in the environment that the commands read."""
    for name in list(os.environ):
        if name.startswith("TWILIO_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    # In asyncio's debug mode a slow start is a line on stderr as well.
    for name in ("PYTHONDEVMODE", "PYTHONASYNCIODEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served(monkeypatch, no_settings):
    """Serve a fake, with its credentials in the environment."""
    server = Served()
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", server.fake.credentials[0])
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", server.fake.credentials[1])
    monkeypatch.setenv("TWILIO_INSIGHTS_BASE_URL", server.fake.base_url)
    yield server.fake
    server.stop()


@pytest.fixture(params=["rich", "plain"])
def renderer(request, monkeypatch):
    """Print tables with rich, and without."""
    if request.param == "plain":
        monkeypatch.setitem(sys.modules, "rich.console", None)
        monkeypatch.delitem(sys.modules, "aioparticipants._cli._rich", raising=False)
    return request.param


DEMO = ["demo", "--participants", "23", "--conferences", "3", "--latency", "0"]


def timeless(text):
    """Return what the demo says without how long it took."""
    return re.sub(r"[0-9.]+ s\b|[0-9.]+ seconds", "a while", text)


@pytest.mark.usefixtures("renderer")
def test_demo(capsys):
    """The demo says that all is made up, is told of two refusals, and shows where lines are bad."""
    assert main(DEMO) == 0

    out, err = capsys.readouterr()
    assert out.startswith("Made-up data: ")
    assert "23 participants, 3 pages: " in out
    assert "75 participants, 11 answers: " in out  # nine pages, and two refusals
    assert re.search(r"^  CF[0-9a-f]{8}… HTTP 503: again in [0-9.]+ s$", err, re.MULTILINE)
    assert re.search(r"^  CF[0-9a-f]{8}… HTTP 429: again in [12]\.[0-9] s$", err, re.MULTILINE)
    assert err.splitlines()[2] == "  page 3, 23 participants"
    assert err.splitlines()[-1] == "  3 of 3 conferences"
    [bad] = [line for line in out.splitlines() if line.endswith("<-- bad")]
    assert bad.split()[5] == "in1"
    assert f"The worst lines of {bad.split()[0]}" in out
    scores = [float(line.split()[-6]) for line in out.splitlines() if line.startswith("CP")]
    assert len(scores) == 10
    assert scores == sorted(scores)
    assert scores[-1] < 3.6


def test_demo_by_seed(capsys):
    """A seed gives the same demo again, and another seed gives another."""
    shown = []
    for seed in ("1", "1", "2"):
        assert main([*DEMO, "--seed", seed]) == 0
        shown.append(timeless(capsys.readouterr().out))

    assert shown[0] == shown[1]
    assert shown[0] != shown[2]


def test_demo_of_nobody(capsys):
    """The demo refuses what cannot be made up, and is content with nothing."""
    for option in ("--participants", "--conferences", "--latency"):
        assert main(["demo", f"{option}=-1"]) == 2
        assert capsys.readouterr().err == f"aioparticipants: {option} must be a number from 0.\n"
    assert main(["demo", "--page-size", "0"]) == 2
    assert "page_size must be" in capsys.readouterr().err
    nobody = ["--participants", "0", "--conferences", "0", "--latency", "0"]
    assert main(["demo", *nobody]) == 0
    assert "0 participants, 0 answers" in capsys.readouterr().out


def test_list(served, capsys):
    """List prints the table to stdout, and the totals to stderr."""
    sid = served.add_conference(
        [
            {"participant_sid": "CP1", "label": "a", "metrics": {"inbound": {"mos": 4}}},
            {
                "call_type": "sip",
                "metrics": {"inbound": None, "outbound": {"jitter": {"avg": 1.25}}},
            },
        ]
    )

    assert main(["list", sid]) == 0

    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
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
    [line] = err.splitlines()
    assert "participants[1]" in line
    option = re.search(r" Records written: 1; go on with (\S+), or", line).group(1)
    mended = [{"participant_sid": "CP1"}, {"participant_sid": "CP2"}]
    served.add_conference(mended, conference_sid=sid)
    assert main(["list", sid, "--base-url", served.base_url, "--format", "ndjson", option]) == 0
    assert "CP2" in capsys.readouterr().out
    assert main(["list", sid, "--base-url", served.base_url, "--resume", "x"]) == 2
    assert capsys.readouterr().err == (
        "aioparticipants: resume is not a cursor, or was cut off or changed on its way.\n"
    )
    served.latency = 5
    assert main(["list", sid, "--base-url", served.base_url, "--deadline", "0.1"]) == 1
    assert "The deadline of 0.1 s passed" in capsys.readouterr().err


@pytest.mark.usefixtures("no_settings")
def test_misuse(monkeypatch, capsys):
    """What cannot be meant, and missing credentials, are one clear line and exit code 2."""
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


# --- Where to, and through what ---


def test_flags(served, capsys):
    """Each flag reaches the session or the list, and what cannot be meant is told by its name."""
    sid = served.add_conference(participants=5)
    wanted = served.records(sid)[3]["participant_sid"]

    options = ["--participant-sid", wanted, "--max-concurrency", "1", "--timeout", "7"]
    assert main(["list", sid, *options, "--format", "ndjson"]) == 0
    assert json.loads(capsys.readouterr().out)["participant_sid"] == wanted
    assert served.requests[0].query["ParticipantSid"] == wanted
    for wrong, told in [
        (["--max-concurrency", "0"], "max_concurrency must be"),
        (["--timeout", "0"], "timeout must be"),
        (["--participant-sid", "CP1"], "participant_sid must be CP"),
        (["--region", "ie1"], "A region needs its edge too"),
        (["--edge", "x/y"], "edge must be a word"),
        (["--proxy", "socks5://127.0.0.1:9"], "proxy must be the URL of an HTTP proxy"),
        (["--base-url", "http://a.example"], "base_url must be an origin"),
    ]:
        assert main(["list", sid, *wrong]) == 2
        assert capsys.readouterr().err.startswith(f"aioparticipants: {told}")
    assert len(served.requests) == 1


def test_timeout_of_an_attempt(served, capsys):
    """--timeout ends one attempt, and another one follows."""
    sid = served.add_conference(participants=1)
    served.latency = 3600

    # Enough for the second attempt on a busy machine, too: its wait is 0.5 s at most.
    assert main(["list", sid, "--timeout", "0.05", "--deadline", "6"]) == 1
    assert len(served.requests) >= 2


BAD = [{"participant_sid": "CP1"}, {"label": 7}, {"label": "last"}]


@pytest.mark.parametrize("form", ["table", "ndjson"])
def test_bad_records(served, capsys, form):
    """--on-invalid=raise stops at a bad record, and tells how to go on at it, and behind it."""
    sid = served.add_conference(BAD)
    arguments = ["list", sid, "--format", form, "--limit", "3"]

    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert "CP1" in out
    assert "label" in err
    at, behind = re.search(
        r" Records written: 1; go on with (.*), or go on behind the bad record with (.*)$", err
    ).groups()
    assert main([*arguments, *at.split()]) == 1
    assert "participants[1]" in capsys.readouterr().err
    assert main([*arguments, *behind.split()]) == 0
    assert "last" in capsys.readouterr().out
    assert at.split()[1] == behind.split()[1] == "--limit=2"
    served.add_conference(BAD[1:], conference_sid=sid)
    assert main(arguments) == 1
    assert " Records written: 0; go on behind the bad record with" in capsys.readouterr().err


def test_bad_records_are_kept(served, capsys):
    """--on-invalid=keep lists what can be read, and tells how many had problems, in plain text."""
    sid = served.add_conference([*BAD, {"events": {HOSTILE: 7}}, {}])
    arguments = ["list", sid, "--on-invalid", "keep"]

    assert main([*arguments, "--format", "ndjson"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["label"] for line in out.splitlines()] == [None, 7, "last", None, None]
    assert err.splitlines()[0].startswith("5 participants, 1 pages, ")
    assert err.splitlines()[1].startswith("2 of them have values of the wrong type, such as label")
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 6
    assert err.replace("\n", "").isprintable()
    bad = json.dumps(BAD[2]).encode().replace(b"last", b"\x01")
    served.fail_next(
        200, body=b'{"meta": {"next_page_url": null}, "participants": [{}, ' + bad + b", {}]}"
    )
    assert main([*arguments, "--format", "ndjson"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert err.splitlines()[1].startswith("1 more records could not be read, such as: ")


def test_base_url_of_the_environment(served, monkeypatch, capsys):
    """The environment's base URL is where the list goes, unless a flag says otherwise."""
    sid = served.add_conference(participants=1)
    monkeypatch.setenv("TWILIO_REGION", "ie1")  # for Twilio's own SDKs; the base URL wins

    assert main(["list", sid]) == 0
    assert len(served.requests) == 1
    monkeypatch.setenv("TWILIO_INSIGHTS_BASE_URL", "http://127.0.0.1:9/x")
    assert main(["list", sid]) == 2
    assert capsys.readouterr().err.endswith("It was read from TWILIO_INSIGHTS_BASE_URL.\n")
    assert main(["list", sid, "--base-url", served.base_url]) == 0
    assert len(served.requests) == 2


def test_proxy(served, capsys):
    """--proxy is what the requests go through."""
    sid = served.add_conference(participants=2)

    # To a proxy of plain http a request is like any other, but for its whole address.
    through = ["--base-url", "http://127.0.0.1:9", "--proxy", served.base_url]
    assert main(["list", sid, *through]) == 0
    assert len(served.requests) == 1


@contextlib.contextmanager
def proxy_that_refuses():
    """Serve a proxy that opens no tunnel; give its address, and the tunnels it was asked for."""
    asked = []

    def serve(listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(65536).split(b"\r\n")[0].decode())
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, args=[listener])
        serving.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()


@pytest.mark.parametrize(
    ("flags", "host"),
    [
        ([], "insights.twilio.com:443"),
        (["--region", "us1"], "insights.twilio.com:443"),
        (["--edge", "sydney"], "insights.sydney.us1.twilio.com:443"),
        (["--region", "ie1", "--edge", "dublin"], "insights.dublin.ie1.twilio.com:443"),
        (["--base-url", "https://a.example:8443"], "a.example:8443"),
    ],
)
def test_proxy_of_the_environment(served, monkeypatch, flags, host):
    """The commands go through HTTPS_PROXY, to the place that the flags name."""
    monkeypatch.delenv("TWILIO_INSIGHTS_BASE_URL")
    with proxy_that_refuses() as (address, asked):
        monkeypatch.setenv("HTTPS_PROXY", address)
        assert main(["list", SID, "--deadline", "0.3", *flags]) == 1

    assert {*asked} == {f"CONNECT {host} HTTP/1.1"}


PUBLIC = "https://insights.twilio.com"


@pytest.mark.parametrize(
    ("environ", "base_url", "given", "proxy"),
    [
        ({}, PUBLIC, None, None),
        ({"HTTPS_PROXY": "http://p:1"}, PUBLIC, None, "http://p:1"),
        ({"https_proxy": "http://u:w@p:1"}, PUBLIC, None, "http://u:w@p:1"),
        ({"HTTPS_PROXY": "p:1"}, PUBLIC, None, "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, PUBLIC, "q:2", "http://q:2"),
        ({"HTTPS_PROXY": "socks5://p:1"}, PUBLIC, "https://q:2", "https://q:2"),
        ({"HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"}, PUBLIC, None, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "twilio.com"}, PUBLIC, None, None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "*"}, PUBLIC, None, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "lio.com"}, PUBLIC, None, "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.b"}, "https://a.b:8", None, None),
        ({"HTTPS_PROXY": "p:1", "HTTP_PROXY": "p:1"}, "http://127.0.0.1:8", None, None),
    ],
)
@pytest.mark.usefixtures("no_settings")
def test_which_proxy(monkeypatch, environ, base_url, given, proxy):
    """The flag's proxy comes first, then the environment's, unless NO_PROXY names the host."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert proxy_for(base_url, given) == proxy


@pytest.mark.parametrize("value", ["socks5://u:s3cret@p:1", "http://p:1/s3cret", "http://[s3cret"])
@pytest.mark.usefixtures("no_settings")
def test_proxy_that_is_none(monkeypatch, value):
    """What HTTPS_PROXY cannot mean is refused by its name, and not repeated, as it is a secret."""
    monkeypatch.setenv("HTTPS_PROXY", value)

    with pytest.raises(InvalidRequestError, match="HTTPS_PROXY must be") as caught:
        proxy_for(PUBLIC, None)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("command", [[], ["demo"], ["list"]])
def test_help(capsys, command):
    """Each help ends with an example that the command itself can read."""
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])

    assert caught.value.code == 0
    out = capsys.readouterr().out
    example = out[out.rindex("example") :].replace("\\\n", " ").splitlines()[1:]
    assert [line.split()[:1] for line in example] <= [["python"], ["aioparticipants"]] * 2
    assert all("aioparticipants" in line for line in example)


# --- Tables ---


@pytest.fixture
def terminal(monkeypatch):
    """Return what runs a command with a terminal for stdout, and gives what that has to show."""

    def run(arguments, columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        master, slave = os.openpty()
        pieces = []
        reading = threading.Thread(target=lambda: pieces.extend(iter(lambda: read(master), b"")))
        reading.start()
        with os.fdopen(slave, "w", encoding="utf-8") as stdout, monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", stdout)
            assert main(arguments) == 0
        reading.join()
        os.close(master)
        return b"".join(pieces).decode().replace("\r\n", "\n")

    def read(master):
        try:
            return os.read(master, 65536)
        except OSError:  # Linux's word for the end
            return b""

    return run


STYLES = re.compile(r"\x1b\[[0-9;]*m")
#: What has to be there in 80 columns.
TELLING = ("participant", "region", "mos in", "loss in", "mos out", "loss out")


def cells(line):
    return re.split(r"  +", line.strip())


@pytest.mark.parametrize("number", [3, 200])
@pytest.mark.parametrize(("columns", "count"), [(60, 6), (80, 8), (110, 9), (140, 12), (250, 12)])
def test_table_fits(served, terminal, renderer, columns, count, number):
    """A table is no wider than its terminal; a narrow one has what tells most, a wide one all."""
    sid = served.add_conference(participants=number)

    shown = terminal(["list", sid], columns)

    lines = STYLES.sub("", shown).splitlines()
    assert len(lines) == number + 1
    assert max(map(len, lines)) <= columns
    headings = cells(lines[0])
    assert len(headings) == count
    assert {*TELLING} <= {*headings}
    for line, record in zip(lines[1:], served.records(sid), strict=True):
        row = dict(zip(headings, cells(line), strict=True))
        assert row["region"] == record["participant_region"]
        for way in ("in", "out"):
            figures = record["metrics"][f"{way}bound"]
            assert float(row[f"mos {way}"]) == figures["mos"]
            assert float(row[f"loss {way}"].rstrip("%")) == figures["packet_loss_percentage"]
        assert record["participant_sid"].startswith(row["participant"].rstrip("…"))
    whole = all(each["participant_sid"] in shown for each in served.records(sid))
    assert whole is (columns == 250)
    assert ("\x1b" in shown) is (renderer == "rich")


def test_bad_lines_stand_out(served, terminal):
    """On a terminal, a line is red where the score of either direction is bad."""
    good, bad = {"mos": 4.2}, {"mos": 3.5}
    sid = served.add_conference(
        [
            {"participant_sid": "CP0", "metrics": {"inbound": good, "outbound": {}}},
            {"participant_sid": "CP1", "metrics": {"inbound": good, "outbound": bad}},
            {"participant_sid": "CP2", "metrics": {"inbound": bad}},
            {"participant_sid": "CP3"},
        ]
    )

    lines = terminal(["list", sid], 80).splitlines()[1:]

    assert ["\x1b[31m" in line for line in lines] == [False, True, True, False]


def test_piped_table_is_whole(served, capsys):
    """Piped, every value is there to its end, SIDs and labels included, in plain text."""
    sid = served.add_conference(participants=3)
    records = [{**each, "label": "long " * 30 + "end"} for each in served.records(sid)]
    served.add_conference(records, conference_sid=sid)

    assert main(["list", sid]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(cells(lines[0])) == 12
    for line, record in zip(lines[1:], records, strict=True):
        assert line.startswith(record["participant_sid"])
        assert record["label"] in line
        assert "\x1b" not in line


def columns_of(text):
    wide = sum(unicodedata.east_asian_width(each) in "WF" for each in text)
    return len(text) + wide - sum(unicodedata.category(each) == "Mn" for each in text)


def test_wide_text(served, terminal, renderer):
    """Labels of wide characters and of marks leave the columns in line, cut or whole."""
    labels = ["日本語日本語日本語日本語日本語", "e\u0301", "x", "x" * 100_000, "\u0301" * 5000]
    sid = served.add_conference([{"label": each, "participant_region": "us1"} for each in labels])

    shown = STYLES.sub("", terminal(["list", sid], 80))

    lines = shown.splitlines()
    assert len(lines) == 6
    assert "日本語" in lines[1]
    assert "x…" in lines[4]
    assert max(map(columns_of, lines)) <= 80
    assert {columns_of(line[: line.index("us1")]) for line in lines[1:]} == {
        lines[0].index("region")
    }


TEXTS = [
    "participant_sid", "label", "conference_sid", "call_sid", "account_sid", "call_direction",
    "from", "to", "call_status", "country_code", "jitter_buffer_size", "participant_region",
    "conference_region", "call_type", "processing_state", "url", HOSTILE,
]  # fmt: skip


@pytest.mark.parametrize("columns", [None, 80, 200])
def test_text_that_a_terminal_would_obey(served, terminal, renderer, capsys, columns):
    """Whatever text the server gives, a table has no control character, and a line a record."""
    hostile = dict.fromkeys(TEXTS, HOSTILE) | {"events": {HOSTILE: []}}
    sid = served.add_conference([hostile, hostile])

    if columns is None:
        assert main(["list", sid]) == 0
        shown = capsys.readouterr().out
    else:
        shown = STYLES.sub("", terminal(["list", sid], columns))

    assert shown.count("\n") == 3
    assert shown.replace("\n", "").isprintable()
    assert "red" in shown


@pytest.mark.parametrize("form", ["table", "ndjson"])
def test_messages_that_a_terminal_would_obey(served, capsys, form):
    """Whatever name the server gives a member, an error is one line of plain text."""
    sid = served.add_conference([{"events": {HOSTILE: "never"}}])

    assert main(["list", sid, "--format", form]) == 1

    err = capsys.readouterr().err
    assert err.startswith("aioparticipants: The reply is not what the API promises: ")
    assert err.count("\n") == 1
    assert err.replace("\n", "").isprintable()


def test_lines_that_a_terminal_would_obey(capsys):
    """Whatever is told on stderr is one line of plain text, where nothing else has seen to it."""
    say(HOSTILE)

    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.replace("\n", "").isprintable()


# --- How they end ---


def command(*arguments, prelude="pass", redirect=""):
    """Return what runs a command, from Python that does something and a shell that does."""
    # A suite that runs in the background is one in which Ctrl-C is ignored, and its children's too.
    first = f"signal.signal(signal.SIGINT, signal.SIG_DFL); {prelude}"
    run = [sys.executable, "-m", "aioparticipants", *arguments]
    python = f"import os, signal, sys; {first}; os.execv(sys.argv[1], sys.argv[1:])"
    words = [sys.executable, "-S", "-c", python, *run]
    return ["sh", "-c", f'exec "$@" {redirect}', "sh", *words] if redirect else words


def ended(*arguments, prelude="pass", redirect="", stdout=subprocess.PIPE):
    """Run a command in a process of its own, and return what became of it."""
    return subprocess.run(
        command(*arguments, prelude=prelude, redirect=redirect),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def until(process, condition):
    """Wait until something is so, while a process runs."""
    while not condition():
        assert process.poll() is None
        time.sleep(0.005)  # the fake has its turns meanwhile


def sids_in(lines):
    return [json.loads(line)["participant_sid"] for line in lines.splitlines()]


def way_on(err):
    """Return the records that were written, and the options to go on with, of the one line."""
    [line] = err.splitlines()
    found = re.search(r" Records written: (\d+)(.*); go on with (--resume=\S+)(.*)$", line)
    number, _, resume, limit = found.groups()
    return int(number), [resume, *limit.split()]


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_signals_before_the_first_page(served, number, code, told):
    """A signal ends a listing with its code, in one line and with no traceback."""
    served.latency = 3600
    sid = served.add_conference(participants=1)
    with subprocess.Popen(command("list", sid), stderr=subprocess.PIPE, text=True) as process:
        until(process, lambda: served._in_flight)
        process.send_signal(number)
        _, err = process.communicate()

    assert process.returncode == code
    assert err == f"aioparticipants: {told}.\n"


@pytest.mark.parametrize(
    ("number", "form"),
    [(signal.SIGINT, "ndjson"), (signal.SIGTERM, "ndjson"), (signal.SIGTERM, "table")],
)
def test_signals_between_pages(served, capsys, number, form):
    """A signal half-way tells how to go on: nothing of the rest is lost, or comes twice."""
    sid = served.add_conference(participants=400)
    arguments = ["list", sid, "--format", form, "--limit", "350", "--page-size", "1"]
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        until(process, lambda: len(served.requests) >= 5)
        served.latency = 3600
        until(process, lambda: served._in_flight)
        process.send_signal(number)
        out, err = process.communicate()

    written, options = way_on(err)
    served.latency = 0
    assert options[1] == f"--limit={350 - written}"
    if form == "table":
        assert len(out.splitlines()) == written + 1
        return
    assert len(out.splitlines()) == written
    assert main(["list", sid, "--format", form, *options]) == 0
    rest = capsys.readouterr().out
    wanted = [each["participant_sid"] for each in served.records(sid)[:350]]
    assert sids_in(out) + sids_in(rest) == wanted


def test_signal_while_stdout_is_full(served, capsys):
    """A signal ends a listing whose reader has stopped to read, and tells what is written whole."""
    sid = served.add_conference(participants=500)
    arguments = ["list", sid, "--format", "ndjson", "--page-size", "20"]
    reader, writer = os.pipe()
    with subprocess.Popen(
        command(*arguments), stdout=writer, stderr=subprocess.PIPE, text=True
    ) as process:
        until(process, lambda: served.requests and not select.select([], [writer], [], 0)[1])
        process.send_signal(signal.SIGTERM)
        err = process.stderr.read()
    os.close(writer)
    with open(reader, encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        out = file.read()

    assert process.returncode == 143
    assert "maybe a part of the next page" in err
    written, options = way_on(err)
    assert 0 < written < len(out.splitlines())
    assert main(["list", sid, "--format", "ndjson", *options]) == 0
    found = sids_in("\n".join(out.splitlines()[:written])) + sids_in(capsys.readouterr().out)
    assert found == [each["participant_sid"] for each in served.records(sid)]


def test_interrupts_that_the_parent_ignores(served):
    """Where Ctrl-C is ignored, as under nohup, a listing ignores it; SIGTERM still ends it."""
    served.latency = 3600
    sid = served.add_conference(participants=1)
    ignoring = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    with subprocess.Popen(
        command("list", sid, prelude=ignoring), stderr=subprocess.PIPE, text=True
    ) as process:
        until(process, lambda: served._in_flight)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()

    assert (process.returncode, err) == (143, "aioparticipants: terminated.\n")


def test_signals_while_a_host_is_looked_up(no_settings):
    """One signal is told of at once, and the next one ends the process, whatever the DNS does."""
    code = (
        "import signal, socket, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def never(*_, **__):\n"
        "    print('looking', flush=True)\n"
        "    time.sleep(3600)\n"
        "socket.getaddrinfo = never\n"
        "from aioparticipants.__main__ import main\n"
        f"sys.exit(main(['list', {SID!r}, '--base-url', 'https://localhost:9']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "token"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "looking\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "aioparticipants: interrupted.\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()

    assert (process.returncode, err) == (130, "")


@pytest.fixture
def interruption():
    """Return what answers signals, where the suite itself may ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    stop = Interruption(Output())
    with stop.installed():
        yield stop
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_signals_in_turn(interruption, monkeypatch):
    """The first signal cancels; the next raises where it is; one after the end ends the process."""

    async def busy():
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            signal.raise_signal(signal.SIGINT)

    with asyncio.Runner() as runner, pytest.raises(KeyboardInterrupt):
        runner.run(interruption.watch(busy()))
    assert (interruption.exit_code, interruption.word) == (143, "terminated")
    monkeypatch.setattr(os, "_exit", sys.exit)  # which this process survives
    with pytest.raises(SystemExit, match=r"^130$"):
        signal.raise_signal(signal.SIGINT)
    interruption.ended_with = 1
    with pytest.raises(SystemExit, match=r"^1$"):
        signal.raise_signal(signal.SIGTERM)


def test_signals_that_are_ignored(interruption):
    """A signal that is ignored stays so while a command runs, and after it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interruption(Output()).installed():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signal_before_there_is_a_task(interruption):
    """A signal while the arguments are read ends the command, too."""
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert (interruption.exit_code, interruption.word) == (130, "interrupted")


class Broken:
    """A stdout whose writes end with an error, or are not made, as it would block."""

    encoding = "utf-8"

    def __init__(self, path, error):
        self.buffer, self.error = self, error
        self.file = path.open("wb")
        self.fileno = self.file.fileno

    def write(self, _data):
        if self.error is not None:
            raise self.error

    def flush(self):
        pass


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (BrokenPipeError(), 0, None),
        (
            OSError(28, "No space left on device"),
            1,
            "stdout takes no more: No space left on device",
        ),
        (OSError("odd"), 1, "stdout takes no more: odd"),
        (None, 1, "stdout takes no more: Resource temporarily unavailable"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_stdout_that_fails(served, monkeypatch, capsys, tmp_path, error, code, told):
    """A reader that closes the pipe ends a listing quietly; all else is one line, and a code."""
    sid = served.add_conference(participants=1)
    stdout = Broken(tmp_path / "out", error)
    monkeypatch.setattr(sys, "stdout", stdout)

    assert main(["list", sid, "--format", "ndjson"]) == code
    stdout.file.close()
    assert capsys.readouterr().err == (f"aioparticipants: {told}.\n" if told else "")


def test_stdout_that_is_a_string(served):
    """Where a caller has put a StringIO in the place of stdout, it gets the data."""
    sid = served.add_conference(participants=2)

    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        assert main(["list", sid, "--format", "ndjson"]) == 0
    assert len(sids_in(stdout.getvalue())) == 2


@pytest.mark.parametrize("stream", [None, "fails"])
def test_stderr_that_fails(served, monkeypatch, capsys, tmp_path, stream):
    """Where stderr takes nothing, the data is written all the same, and nothing else to stdout."""
    sid = served.add_conference(participants=2)
    with (tmp_path / "err").open("w") as err:

        class Stderr:
            fileno = err.fileno

            def write(self, _text):
                raise OSError

        monkeypatch.setattr(sys, "stderr", stream and Stderr())

        assert main(["list", sid, "--format", "ndjson"]) == 0
        assert main(["list", SID]) == 1
    assert len(sids_in(capsys.readouterr().out)) == 2


@pytest.mark.parametrize("arguments", [["demo"], ["list", SID]], ids=" ".join)
def test_closed_stdout(served, arguments):
    """Where stdout is closed, one line says so, and nothing is asked for."""
    ran = ended(*arguments, redirect=">&-")

    assert ran.returncode == 1
    assert ran.stderr == "aioparticipants: stdout is closed, so there is nothing to write to.\n"
    assert served.requests == []


def test_closed_stdout_in_process(monkeypatch, capsys):
    """Python's word for a closed stdout is understood, by help and by commands."""
    monkeypatch.setattr(sys, "stdout", None)

    for arguments in (["demo"], ["--help"]):
        assert main(arguments) == 1
        assert "stdout is closed" in capsys.readouterr().err


@pytest.mark.parametrize("redirect", ["2>&-", pytest.param("2>/dev/full", marks=needs_full)])
def test_closed_stderr(served, redirect):
    """Where stderr is closed or full, stdout has the data and nothing else; the code tells all."""
    sid = served.add_conference(participants=3)

    ran = ended("list", sid, "--format", "ndjson", redirect=redirect)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(sids_in(ran.stdout)) == 3
    ran = ended("list", SID, redirect=redirect)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", "")
    assert ended("list", SID, redirect=f">&- {redirect}").returncode == 1


@needs_proc
def test_no_socket_takes_the_place_of_a_stream(served):
    """The descriptors of closed streams lead to nowhere, so that no message goes to Twilio."""
    served.latency = 3600
    sid = served.add_conference(participants=1)
    with subprocess.Popen(command("list", sid, redirect="<&- 2>&-")) as process:
        until(process, lambda: served._in_flight)
        found = [Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in (0, 2)]
        process.terminate()

    assert found == [Path(os.devnull)] * 2
    assert process.returncode == 143


def test_descriptors_are_filled():
    """Each closed descriptor below a number is opened, and no other."""
    pipe = os.pipe()
    for each in pipe:
        os.close(each)
    fill_descriptors(below=max(pipe) + 1)
    try:
        assert all(os.path.sameopenfile(each, pipe[0]) for each in pipe)
    finally:
        for each in pipe:
            os.close(each)


def listing(served, sid, *arguments, encoding="utf-8"):
    """Run `list` in a process of its own, whose stdout has that encoding."""
    return subprocess.run(
        command("list", sid, *arguments),
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
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


@needs_full
@pytest.mark.parametrize(
    "arguments",
    [["list"], ["list", "--format", "ndjson"], ["demo"], ["--help"]],
    ids=" ".join,
)
def test_full_disk(served, arguments):
    """A full disk is one line and exit code 1, whatever was to be written."""
    sid = [served.add_conference(participants=3)] if "list" in arguments else []

    with FULL.open("wb") as full:
        ran = ended(*arguments, *sid, stdout=full)

    assert ran.returncode == 1
    assert ran.stderr == "aioparticipants: stdout takes no more: No space left on device.\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_disk_that_fills_up(served, monkeypatch, capsys, tmp_path, unbuffered):
    """A disk that fills up half-way leaves whole pages, and one line that tells how to go on."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    sid = served.add_conference(participants=50)
    arguments = ["list", sid, "--format", "ndjson", "--page-size", "10", "--limit", "45"]
    path = tmp_path / "out.ndjson"
    small = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (32_000, 32_000))"

    with path.open("wb") as file:
        ran = ended(*arguments, prelude=small, stdout=file)

    assert ran.returncode == 1
    assert ran.stderr.startswith("aioparticipants: stdout takes no more: File too large. Records")
    assert ran.stderr.count("\n") == 1
    written, options = way_on(ran.stderr)
    assert 0 < written < 45
    assert options[1] == f"--limit={45 - written}"
    assert main(["list", sid, "--format", "ndjson", *options]) == 0
    kept = "\n".join(path.read_text(encoding="utf-8").splitlines()[:written])
    found = sids_in(kept) + sids_in(capsys.readouterr().out)
    assert found == [each["participant_sid"] for each in served.records(sid)[:45]]


def test_reader_that_leaves(served):
    """A reader that takes a line and leaves ends a listing quietly, with 0; help, too."""
    sid = served.add_conference(participants=1000)
    for arguments in (["list", sid, "--format", "ndjson", "--page-size", "50"], ["list", "--help"]):
        with subprocess.Popen(
            command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            if "--help" not in arguments:
                process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == ""
        assert process.returncode == 0
