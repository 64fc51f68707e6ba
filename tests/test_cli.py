"""The commands: their arguments, their output, and how they end."""

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
from aioparticipants._cli._output import Output, open_closed_descriptors, say
from aioparticipants._cli._proxy import proxy_for
from aioparticipants._cli._signals import SignalHandler
from aioparticipants.testing import FakeInsights

SID = "CF" + "a" * 32
#: A device for which every write fails, as on a full disk.
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="only Linux has this device")
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux has /proc")
#: Sets a terminal's colour, title and cursor, breaks the line, and reverses the text direction.
HOSTILE = "\x1b[31mred\x1b]0;title\x07\r\n\x9b2J\u202eback\u2028"


@pytest.fixture
def no_settings(monkeypatch):
    """Remove all that the commands read from the environment."""
    for name in list(os.environ):
        if name.startswith("TWILIO_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    # In debug mode asyncio reports a slow start on stderr.
    for name in ("PYTHONDEVMODE", "PYTHONASYNCIODEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served(monkeypatch, no_settings):
    """Run a FakeInsights in another thread, because `main` runs a loop; export its credentials."""
    loop, fake = asyncio.new_event_loop(), FakeInsights()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(fake.start(), loop).result()
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", fake.credentials[0])
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", fake.credentials[1])
    monkeypatch.setenv("TWILIO_INSIGHTS_BASE_URL", fake.base_url)
    yield fake
    asyncio.run_coroutine_threadsafe(fake.aclose(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(params=["rich", "plain"])
def renderer(request, monkeypatch):
    """Print tables with rich, and without."""
    if request.param == "plain":
        monkeypatch.setitem(sys.modules, "rich.console", None)
    return request.param


DEMO = ["demo", "--participants", "23", "--conferences", "3", "--latency", "0"]


def without_times(text):
    return re.sub(r"[0-9.]+ s\b|[0-9.]+ seconds", "a while", text)


def test_demo(capsys):
    """The demo says that its data is made up, retries two failures, and shows the lowest MOS."""
    assert main(DEMO) == 0

    out, err = capsys.readouterr()
    assert out.startswith("Made-up data: ")
    assert "23 participants, 3 pages: " in out
    assert "75 participants, 11 replies: " in out  # nine pages and two failures
    assert re.search(r"^  CF[0-9a-f]{8}… HTTP 503: retry in [0-9.]+ s$", err, re.MULTILINE)
    assert re.search(r"^  CF[0-9a-f]{8}… HTTP 429: retry in [12]\.[0-9] s$", err, re.MULTILINE)
    assert err.splitlines()[2] == "  page 3, 23 participants"
    assert err.splitlines()[-1] == "  3 of 3 conferences"
    [bad] = [line for line in out.splitlines() if line.endswith("<-- bad")]
    assert bad.split()[5] == "in1"
    assert f"The lowest MOS of {bad.split()[0]}" in out
    scores = [float(line.split()[-6]) for line in out.splitlines() if line.startswith("CP")]
    assert len(scores) == 10
    assert scores == sorted(scores)
    assert scores[-1] < 3.6


def test_demo_by_seed(monkeypatch, capsys):
    """A seed always gives the same demo, also without rich, and another seed another one."""
    shown = []
    for seed in ("1", "1", "2"):
        assert main([*DEMO, "--seed", seed]) == 0
        shown.append(without_times(capsys.readouterr().out))
        monkeypatch.setitem(sys.modules, "rich.console", None)

    assert shown[0] == shown[1]
    assert shown[0] != shown[2]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--participants=-1", "--participants must be a number from 0."),
        ("--conferences=-1", "--conferences must be a number from 0."),
        ("--latency=nan", "--latency must be a number from 0."),
        ("--page-size=0", "page_size must be"),
    ],
)
def test_demo_misuse(capsys, option, message):
    """The demo rejects numbers that are out of range."""
    assert main(["demo", option]) == 2
    assert capsys.readouterr().err.startswith(f"aioparticipants: {message}")


def test_empty_demo(capsys):
    """The demo also runs without participants and conferences."""
    assert main(["demo", "--participants", "0", "--conferences", "0", "--latency", "0"]) == 0
    assert "0 participants, 0 replies" in capsys.readouterr().out


def test_list(served, capsys):
    """`list` writes the table to stdout, and the totals to stderr."""
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
    """With ndjson, there is one line per record, as the API sent it; the filters apply."""
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
    """A failure is one line and exit code 1, after the earlier records, with a hint to continue."""
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
    option = re.search(r" Records written: 1; to continue, add (\S+); ", line).group(1)
    mended = [{"participant_sid": "CP1"}, {"participant_sid": "CP2"}]
    served.add_conference(mended, conference_sid=sid)
    assert main(["list", sid, "--base-url", served.base_url, "--format", "ndjson", option]) == 0
    assert "CP2" in capsys.readouterr().out
    assert main(["list", sid, "--base-url", served.base_url, "--resume", "x"]) == 2
    assert capsys.readouterr().err.startswith("aioparticipants: resume is not a cursor")
    served.latency = 5
    assert main(["list", sid, "--base-url", served.base_url, "--deadline", "0.1"]) == 1
    assert "The deadline of 0.1 s passed" in capsys.readouterr().err


@pytest.mark.usefixtures("no_settings")
def test_misuse(monkeypatch, capsys):
    """Invalid arguments and missing credentials are one line and exit code 2."""
    assert main(["list", SID]) == 2
    assert capsys.readouterr().err == (
        "aioparticipants: No Twilio credentials in the environment: set TWILIO_API_KEY and "
        "TWILIO_API_SECRET, or TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or TWILIO_CLIENT_ID and "
        "TWILIO_CLIENT_SECRET.\n"
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
    """--version prints the version."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])

    assert caught.value.code == 0
    assert capsys.readouterr().out == f"aioparticipants {__version__}\n"


# --- Sessions and proxies ---


def test_flags(served, capsys):
    """Each option reaches the session or the list, and an invalid value is reported by its name."""
    sid = served.add_conference(participants=5)
    wanted = served.records(sid)[3]["participant_sid"]

    options = ["--participant-sid", wanted, "--max-concurrency", "1", "--timeout", "7"]
    assert main(["list", sid, *options, "--format", "ndjson"]) == 0
    assert json.loads(capsys.readouterr().out)["participant_sid"] == wanted
    assert served.requests[0].query["ParticipantSid"] == wanted
    for wrong, message in [
        (["--max-concurrency", "0"], "max_concurrency must be"),
        (["--timeout", "0"], "timeout (one attempt in all) must be"),
        (["--participant-sid", "CP1"], "participant_sid must be CP"),
        (["--region", "jp1"], "This region needs its edge too"),
        (["--edge", "x/y"], "edge must be a word"),
        (["--proxy", "socks5://127.0.0.1:9"], "proxy must be the URL of an HTTP proxy"),
        (["--base-url", "http://a.example"], "base_url must be an origin"),
    ]:
        assert main(["list", sid, *wrong]) == 2
        assert capsys.readouterr().err.startswith(f"aioparticipants: {message}")
    assert len(served.requests) == 1


def test_timeout_of_an_attempt(served):
    """--timeout ends one attempt, and the next attempt follows."""
    sid = served.add_conference(participants=1)
    served.latency = 3600

    def recover():
        while not served.requests:
            time.sleep(0.005)
        served.latency = 0

    thread = threading.Thread(target=recover)
    thread.start()
    assert main(["list", sid, "--timeout", "0.3"]) == 0
    thread.join()
    assert [request.status for request in served.requests] == [0, 200]


BAD = [{"participant_sid": "CP1"}, {"label": 7}, {"label": "last"}]


@pytest.mark.parametrize("form", ["table", "ndjson"])
def test_bad_records(served, capsys, form):
    """--on-invalid=raise stops at a bad record, and says how to continue at it and after it."""
    sid = served.add_conference(BAD)
    arguments = ["list", sid, "--format", form, "--limit", "3"]

    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert "CP1" in out
    assert "label" in err
    at, after = re.search(
        r" Records written: 1; to continue, add (.*);"
        r" to continue after the bad record, add (.*)$",
        err,
    ).groups()
    assert main([*arguments, *at.split()]) == 1
    assert "participants[1]" in capsys.readouterr().err
    assert main([*arguments, *after.split()]) == 0
    assert "last" in capsys.readouterr().out
    assert at.split()[1] == after.split()[1] == "--limit=2"
    served.add_conference(BAD[1:], conference_sid=sid)
    assert main(arguments) == 1
    assert " Records written: 0; to continue after the bad record, add" in capsys.readouterr().err


def test_bad_records_are_kept(served, capsys):
    """--on-invalid=keep lists all readable records, and counts those with problems."""
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
    assert err.splitlines()[1].startswith("1 more could not be read, such as: ")


def test_base_url_of_the_environment(served, monkeypatch, capsys):
    """The base URL comes from the environment, unless an option gives another one."""
    sid = served.add_conference(participants=1)
    monkeypatch.setenv("TWILIO_REGION", "ie1")  # meant for Twilio's own SDKs

    assert main(["list", sid]) == 0
    assert len(served.requests) == 1
    monkeypatch.setenv("TWILIO_INSIGHTS_BASE_URL", "http://127.0.0.1:9/x")
    assert main(["list", sid]) == 2
    assert capsys.readouterr().err.endswith("It was read from TWILIO_INSIGHTS_BASE_URL.\n")
    assert main(["list", sid, "--base-url", served.base_url]) == 0
    assert len(served.requests) == 2


def test_proxy(served, capsys):
    """--proxy is the proxy of the requests."""
    sid = served.add_conference(participants=2)

    # A request to a plain http proxy differs only in its target, which is an absolute URL.
    through = ["--base-url", "http://127.0.0.1:9", "--proxy", served.base_url]
    assert main(["list", sid, *through]) == 0
    assert len(served.requests) == 1


@contextlib.contextmanager
def proxy_that_refuses():
    """Run a proxy that refuses every tunnel; yield its address and the request lines it got."""
    request_lines = []

    def serve(listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                request_lines.append(connection.recv(65536).split(b"\r\n")[0].decode())
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, args=[listener])
        serving.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", request_lines
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()


@pytest.mark.parametrize(
    ("flags", "host"),
    [
        ([], "insights.twilio.com:443"),
        (["--region", "us1"], "insights.twilio.com:443"),
        (["--region", "au1"], "insights.sydney.au1.twilio.com:443"),
        (["--edge", "sydney"], "insights.sydney.us1.twilio.com:443"),
        (["--region", "ie1", "--edge", "dublin"], "insights.dublin.ie1.twilio.com:443"),
        (["--base-url", "https://a.example:8443"], "a.example:8443"),
    ],
)
def test_proxy_of_the_environment(served, monkeypatch, flags, host):
    """The commands use HTTPS_PROXY, and connect to the host that the options name."""
    monkeypatch.delenv("TWILIO_INSIGHTS_BASE_URL")
    with proxy_that_refuses() as (address, request_lines):
        monkeypatch.setenv("HTTPS_PROXY", address)
        assert main(["list", SID, "--deadline", "0.3", *flags]) == 1

    assert {*request_lines} == {f"CONNECT {host} HTTP/1.1"}


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
    """--proxy comes first, then the environment's proxy, unless NO_PROXY names the host."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert proxy_for(base_url, given) == proxy


@pytest.mark.parametrize("value", ["socks5://u:s3cret@p:1", "http://p:1/s3cret", "http://[s3cret"])
@pytest.mark.usefixtures("no_settings")
def test_invalid_proxy_of_the_environment(monkeypatch, value):
    """An invalid HTTPS_PROXY is reported by its name, without its value, which can be secret."""
    monkeypatch.setenv("HTTPS_PROXY", value)

    with pytest.raises(InvalidRequestError, match="HTTPS_PROXY must be") as caught:
        proxy_for(PUBLIC, None)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("command", [[], ["demo"], ["list"]])
def test_help(monkeypatch, capsys, command):
    """Each help text ends with examples of the command."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])

    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) < 80
    examples = out[out.rindex("\nexample") :].replace("\\\n", " ")
    lines = [line for line in examples.splitlines() if line.startswith("  ")]
    assert lines
    assert all(
        re.match(r"  (python -m )?aioparticipants (demo|list) ", f"{each} ") for each in lines
    )


# --- Tables ---


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that runs a command on a terminal, and returns what it displays."""

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
        except OSError:  # Linux's end of file
            return b""

    return run


STYLES = re.compile(r"\x1b\[[0-9;]*m")
#: The columns that are always shown.
ALWAYS = ("participant", "region", "mos in", "loss in", "mos out", "loss out")


def cells(line):
    return re.split(r"  +", line.strip())


@pytest.mark.parametrize("number", [3, 200])
@pytest.mark.parametrize(("columns", "count"), [(60, 6), (80, 8), (110, 9), (140, 12), (250, 12)])
def test_table_fits(served, terminal, renderer, columns, count, number):
    """A table is not wider than its terminal: a narrow one has fewer columns, a wide one all."""
    sid = served.add_conference(participants=number)

    shown = terminal(["list", sid], columns)

    lines = STYLES.sub("", shown).splitlines()
    assert len(lines) == number + 1
    assert max(map(len, lines)) <= columns
    headings = cells(lines[0])
    assert len(headings) == count
    assert {*ALWAYS} <= {*headings}
    for line, record in zip(lines[1:], served.records(sid), strict=True):
        row = dict(zip(headings, cells(line), strict=True))
        assert row["region"] == record["participant_region"]
        for way in ("in", "out"):
            figures = record["metrics"][f"{way}bound"]
            assert float(row[f"mos {way}"]) == figures["mos"]
            assert float(row[f"loss {way}"].rstrip("%")) == figures["packet_loss_percentage"]
        assert record["participant_sid"].startswith(row["participant"].rstrip("…"))
    complete = all(each["participant_sid"] in shown for each in served.records(sid))
    assert complete is (columns == 250)
    assert ("\x1b" in shown) is (renderer == "rich")


def test_low_mos_is_red(served, terminal):
    """On a terminal, a row is red if the MOS of either direction is low."""
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


def test_piped_table_is_complete(served, capsys):
    """Written to a pipe, a table has every value in full, and no colours."""
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
    """Columns stay aligned with wide characters and combining marks, cut or not."""
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
def test_control_characters_in_a_table(served, terminal, renderer, capsys, columns):
    """Whatever text the server sends, a table has one line per record and no controls."""
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
def test_control_characters_in_a_message(served, capsys, form):
    """Whatever key the server sends, an error is one line without control characters."""
    sid = served.add_conference([{"events": {HOSTILE: "never"}}])

    assert main(["list", sid, "--format", form]) == 1

    err = capsys.readouterr().err
    assert err.startswith("aioparticipants: The reply is not what the API promises: ")
    assert err.count("\n") == 1
    assert err.replace("\n", "").isprintable()


def test_control_characters_in_a_line_of_stderr(capsys):
    """`say` writes one line without control characters."""
    say(HOSTILE)

    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.replace("\n", "").isprintable()


# --- Signals ---


def command(*arguments, prelude="pass", redirect=""):
    """Return the command line of a command, after a Python prelude and a shell redirection."""
    # A test suite in the background ignores SIGINT, and its child processes inherit that.
    first = f"signal.signal(signal.SIGINT, signal.SIG_DFL); {prelude}"
    python = f"import os, signal, sys; {first}; os.execv(sys.argv[1], sys.argv[1:])"
    words = [sys.executable, "-S", "-c", python]
    words += [sys.executable, "-m", "aioparticipants", *arguments]
    return ["sh", "-c", f'exec "$@" {redirect}', "sh", *words] if redirect else words


@contextlib.contextmanager
def started(*arguments, stdout=subprocess.PIPE, **options):
    """Start a command in a process of its own."""
    with subprocess.Popen(
        command(*arguments, **options), stdout=stdout, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process


def ran(*arguments, **options):
    """Run a command in a process of its own; return exit code, stdout and stderr."""
    with started(*arguments, **options) as process:
        out, err = process.communicate()
    return process.returncode, out, err


@contextlib.contextmanager
def silent_server(monkeypatch):
    """Accept connections, and never answer; yield a function that waits for a request."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("TWILIO_INSIGHTS_BASE_URL", url)

        def wait_for_request():
            connection, _ = listener.accept()
            stack.enter_context(connection)
            assert connection.recv(1)

        yield wait_for_request


def wait_until(process, condition):
    """Wait until a condition is true, while the process runs."""
    while not condition():
        assert process.poll() is None
        time.sleep(0.005)  # the server's thread runs meanwhile


def sids_in(lines):
    return [json.loads(line)["participant_sid"] for line in lines.splitlines()]


def hint_in(err):
    """Return the number of records written, and the options that continue the list."""
    [line] = err.splitlines()
    found = re.search(r" Records written: (\d+)(.*); to continue, add (--resume=\S+)(.*)$", line)
    number, _, resume, limit = found.groups()
    return int(number), [resume, *limit.split()]


@pytest.mark.parametrize(
    ("prelude", "numbers", "code", "message"),
    [
        ("pass", [signal.SIGINT], 130, "interrupted"),
        ("pass", [signal.SIGTERM], 143, "terminated"),
        # As under nohup: the parent process ignores SIGINT, so the command does.
        ("signal.signal(2, signal.SIG_IGN)", [signal.SIGINT, signal.SIGTERM], 143, "terminated"),
    ],
)
def test_signals_before_the_first_page(served, monkeypatch, prelude, numbers, code, message):
    """A signal ends a list with its own exit code and one line, unless the signal is ignored."""
    with silent_server(monkeypatch) as wait_for_request:
        with started("list", SID, prelude=prelude) as process:
            wait_for_request()
            for number in numbers:
                process.send_signal(number)
            out, err = process.communicate()

    assert (process.returncode, out, err) == (code, "", f"aioparticipants: {message}.\n")


@pytest.mark.parametrize(("number", "form"), [(signal.SIGINT, "ndjson"), (signal.SIGTERM, "table")])
def test_signals_between_pages(served, capsys, number, form):
    """After a signal the list can be continued: no record is lost or repeated."""
    sid = served.add_conference(participants=400)
    arguments = ["list", sid, "--format", form, "--limit", "350", "--page-size", "1"]
    with started(*arguments) as process:
        wait_until(process, lambda: len(served.requests) >= 5)
        served.fail_next(503, retry_after=50)
        wait_until(process, lambda: served.requests[-1].status == 503)
        process.send_signal(number)
        out, err = process.communicate()

    written, options = hint_in(err)
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
    """A signal ends a list that waits for the reader of a pipe, and counts the complete pages."""
    sid = served.add_conference(participants=500)
    arguments = ["list", sid, "--format", "ndjson", "--page-size", "20"]
    reader, writer = os.pipe()
    with started(*arguments, stdout=writer) as process:
        wait_until(process, lambda: served.requests and not select.select([], [writer], [], 0)[1])
        process.send_signal(signal.SIGTERM)
        err = process.stderr.read()
    os.close(writer)
    with open(reader, encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        out = file.read()

    assert process.returncode == 143
    assert "maybe part of the next page" in err
    written, options = hint_in(err)
    assert 0 < written < len(out.splitlines())
    assert main(["list", sid, "--format", "ndjson", *options]) == 0
    found = sids_in("\n".join(out.splitlines()[:written])) + sids_in(capsys.readouterr().out)
    assert found == [each["participant_sid"] for each in served.records(sid)]


def test_signals_during_a_dns_lookup(no_settings):
    """The first signal is reported at once, and the second ends the process, whatever DNS does."""
    code = (
        "import signal, socket, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def hang(*_, **__):\n"
        "    print('looking', flush=True)\n"
        "    time.sleep(3600)\n"
        "socket.getaddrinfo = hang\n"
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
def handler():
    """Return an installed signal handler, also where the test suite itself ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    installed = SignalHandler(Output())
    with installed.installed():
        yield installed
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_repeated_signals(handler, monkeypatch):
    """The first signal cancels; the second raises; one after the end ends the process."""

    async def busy():
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            signal.raise_signal(signal.SIGINT)

    with asyncio.Runner() as runner, pytest.raises(KeyboardInterrupt):
        runner.run(handler.run(busy()))
    assert (handler.exit_code, handler.description) == (143, "terminated")
    monkeypatch.setattr(os, "_exit", sys.exit)  # this process must survive
    with pytest.raises(SystemExit, match=r"^130$"):
        signal.raise_signal(signal.SIGINT)
    handler.final_code = 1
    with pytest.raises(SystemExit, match=r"^1$"):
        signal.raise_signal(signal.SIGTERM)


def test_ignored_signals(handler):
    """An ignored signal stays ignored during a command and after it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with SignalHandler(Output()).installed():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signal_before_the_task(handler):
    """A signal while the arguments are parsed ends the command."""
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert (handler.exit_code, handler.description) == (130, "interrupted")


# --- stdout and stderr ---


class FailingStdout:
    """A stdout whose writes raise an error, or return None as a non-blocking one does."""

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

    def isatty(self):
        return False


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BrokenPipeError(), 0, None),
        (OSError(28, "disk full"), 1, "cannot write to stdout: disk full"),
        (OSError("odd"), 1, "cannot write to stdout: odd"),
        (None, 1, "cannot write to stdout: Resource temporarily unavailable"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
@pytest.mark.parametrize("arguments", [["list"], ["--help"]], ids=str)
def test_stdout_that_fails(served, monkeypatch, capsys, tmp_path, arguments, error, code, message):
    """A closed pipe ends a command without a message; all else is one line and an exit code."""
    sid = [served.add_conference(participants=1)] if "list" in arguments else []
    stdout = FailingStdout(tmp_path / "out", error)
    monkeypatch.setattr(sys, "stdout", stdout)

    assert main([*arguments, *sid]) == code
    stdout.file.close()
    assert capsys.readouterr().err == (f"aioparticipants: {message}.\n" if message else "")


def test_stdout_that_is_a_string(served):
    """A StringIO that replaces stdout gets the data."""
    sid = served.add_conference(participants=2)

    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        assert main(["list", sid, "--format", "ndjson"]) == 0
    assert len(sids_in(stdout.getvalue())) == 2


@pytest.mark.parametrize("stream", [None, "fails"])
def test_stderr_that_fails(served, monkeypatch, capsys, tmp_path, stream):
    """If stderr cannot be written to, the data is written, and stdout gets nothing else."""
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


def test_closed_stdout(served, monkeypatch, capsys):
    """If stdout is closed, one line says so, and no request is sent."""
    message = "aioparticipants: stdout is closed, so nothing can be written.\n"

    assert ran("list", SID, redirect=">&-") == (1, "", message)
    monkeypatch.setattr(sys, "stdout", None)  # what Python does for a closed descriptor
    for arguments in (["demo"], ["--help"]):
        assert main(arguments) == 1
        assert capsys.readouterr().err == message
    assert served.requests == []


@pytest.mark.parametrize("redirect", ["2>&-", pytest.param("2>/dev/full", marks=needs_full)])
def test_closed_stderr(served, redirect):
    """If stderr is closed or full, stdout has the data and nothing else."""
    sid = served.add_conference(participants=3)

    code, out, err = ran("list", sid, "--format", "ndjson", redirect=redirect)

    assert (code, len(sids_in(out)), err) == (0, 3, "")


def test_closed_stdout_and_stderr(served):
    """If both are closed, the exit code still reports the failure."""
    assert ran("list", SID, redirect=">&- 2>&-") == (1, "", "")


@needs_proc
def test_no_socket_replaces_a_closed_stream(served, monkeypatch):
    """The descriptors of closed streams lead to the null device, so no message goes to Twilio."""
    with silent_server(monkeypatch) as wait_for_request:
        with started("list", SID, redirect="<&- 2>&-") as process:
            wait_for_request()
            found = [Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in (0, 2)]
            process.terminate()

    assert found == [Path(os.devnull)] * 2
    assert process.returncode == 143


def test_closed_descriptors_are_opened():
    """Each closed descriptor below a number is opened, and no other."""
    pipe = os.pipe()
    for each in pipe:
        os.close(each)
    open_closed_descriptors(below=max(pipe) + 1)
    try:
        assert all(os.path.sameopenfile(each, pipe[0]) for each in pipe)
    finally:
        for each in pipe:
            os.close(each)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_text_that_stdout_cannot_encode(served, monkeypatch, encoding):
    """Labels in any script, and lone surrogates, end no list; ndjson keeps them unchanged."""
    labels = ["é", "日本", "\ud800", "\N{TELEPHONE RECEIVER}"]
    sid = served.add_conference([{"label": each} for each in labels])

    written = {}
    for form in ("ndjson", "table"):
        stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["list", sid, "--format", form]) == 0
        written[form] = stdout.buffer.getvalue().splitlines()

    assert [json.loads(each)["label"] for each in written["ndjson"]] == labels
    assert len(written["table"]) == 5


@needs_full
@pytest.mark.parametrize("arguments", [["list"], ["list", "--format", "ndjson"], ["demo"]], ids=str)
def test_full_disk(served, monkeypatch, capsys, arguments):
    """A full disk is one line and exit code 1, whatever was to be written."""
    sid = [served.add_conference(participants=3)] if "list" in arguments else []

    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main([*arguments, *sid]) == 1
        full.write("not to the disk: it is discarded")

    assert capsys.readouterr().err == (
        "aioparticipants: cannot write to stdout: No space left on device.\n"
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_disk_that_fills_up(served, monkeypatch, capsys, tmp_path, unbuffered):
    """If the disk fills up, complete pages are counted, and one line says how to continue."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    sid = served.add_conference(participants=50)
    arguments = ["list", sid, "--format", "ndjson", "--page-size", "10", "--limit", "45"]
    path = tmp_path / "out.ndjson"
    small = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (32_000, 32_000))"

    with path.open("wb") as file:
        code, _, err = ran(*arguments, prelude=small, stdout=file)

    assert code == 1
    assert err.startswith("aioparticipants: cannot write to stdout: File too large. Records")
    written, options = hint_in(err)
    assert 0 < written < 45
    assert options[1] == f"--limit={45 - written}"
    assert main(["list", sid, "--format", "ndjson", *options]) == 0
    kept = "\n".join(path.read_text(encoding="utf-8").splitlines()[:written])
    found = sids_in(kept) + sids_in(capsys.readouterr().out)
    assert found == [each["participant_sid"] for each in served.records(sid)[:45]]


def test_reader_that_leaves(served):
    """If the reader of a pipe closes it after a line, the list ends with 0 and no message."""
    sid = served.add_conference(participants=1000)
    with started("list", sid, "--format", "ndjson", "--page-size", "50") as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
