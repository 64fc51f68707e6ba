"""Client and FakeInsights, checked with the API's published description.

Prism (https://github.com/stoplightio/prism) serves the description's examples to our client. As a
proxy between our client and FakeInsights, it validates every request and every reply.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import attrs
import pytest

from aioparticipants import InsightsSession, Participant, RetryPolicy
from aioparticipants.testing import FakeInsights

DESCRIPTION = Path(os.environ.get("INSIGHTS_OPENAPI", ""))
PRISM = os.environ.get("PRISM", "")
COLLECTION = "/v1/Conferences/{ConferenceSid}/Participants"
SID = "CF" + "a" * 32
CREDENTIALS = ("AC" + "0" * 32, "token")
EVERY_FILTER = {
    "created_after": datetime(2026, 3, 2, tzinfo=UTC),
    "created_before": datetime(2026, 3, 3, tzinfo=UTC),
    "conference_sid": SID,
    "friendly_name": "a b",
    "status": "completed",
    "mixer_region": "au1",
    "tags": "low_mos",
    "subaccount": CREDENTIALS[0],
    "detected_issues": "call_quality",
    "end_reason": "last_participant_left",
}

needs_prism = pytest.mark.skipif(
    not (PRISM and DESCRIPTION.is_file()), reason="`nox -s contract` installs Prism and runs this"
)


def published(description, name):
    """Return the records of one of the description's examples."""
    listing = description["paths"][COLLECTION]["get"]["responses"]["200"]["content"]
    return listing["application/json"]["examples"][name]["value"]["participants"]


@contextmanager
def prism(*arguments):
    """Run Prism, and wait until its port accepts connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [PRISM, *arguments, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--verboseLevel", "error"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                assert process.poll() is None, "Prism has ended"
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)  # no event loop runs yet, and Prism tells nobody that it is ready
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


class Validation:
    """The replies that passed Prism, and the violations that it found."""

    def __init__(self):
        self.replies = 0
        self.violations: list[str] = []
        self.trace = aiohttp.TraceConfig()
        self.trace.on_request_end.append(self.count)

    async def count(self, _session, _context, params):
        self.replies += 1
        if "sl-violations" in params.response.headers:
            self.violations.append(params.response.headers["sl-violations"])


@pytest.fixture(scope="module")
def mock():
    """Run Prism as a server for the description's examples."""
    with prism("mock", str(DESCRIPTION)) as base_url:
        yield base_url


def assert_equal_field_by_field(found: Participant, raw: dict[str, object]) -> None:
    """Compare a record with JSON, by rules that do not use the package."""
    assert len(raw) == 27
    for field in attrs.fields(Participant):
        value = getattr(found, field.name)
        if field.name in {"extra", "problems"}:
            assert not value
            continue
        wire = raw[field.name.rstrip("_")]
        if field.name in {"join_time", "leave_time"}:
            assert isinstance(wire, str)
            wire = datetime.strptime(wire, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        elif field.name == "events" and wire is not None:
            wire = {
                name: tuple(datetime.fromtimestamp(each / 1000, UTC) for each in times)
                for name, times in wire.items()
            }
        elif field.name in {"metrics", "properties"}:
            value = without_missing(attrs.asdict(value))
            wire = tupled(wire)
        assert value == wire, field.name


def without_missing(node):
    if not isinstance(node, dict):
        return node
    return {
        key: without_missing(value)
        for key, value in node.items()
        if value is not None and not (key == "extra" and value == {})
    }


def tupled(node):
    if isinstance(node, dict):
        return {key: tupled(value) for key, value in node.items()}
    return tuple(node) if isinstance(node, list) else node


@needs_prism
async def test_published_examples(mock, description):
    """The client's records equal the published examples, field by field."""
    async with InsightsSession(CREDENTIALS, base_url=mock) as session:
        found = await session.participants(SID, page_size=25)

    raw = published(description, "readFull")
    assert len(found) == len(raw) == 2
    for record, example in zip(found, raw, strict=True):
        assert_equal_field_by_field(record, example)


@needs_prism
async def test_command(mock, description):
    """The command `list` also gives the published examples."""
    command = [
        *(sys.executable, "-m", "aioparticipants", "list", SID),
        *("--base-url", mock, "--format", "ndjson"),
    ]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TWILIO_")},
        "TWILIO_ACCOUNT_SID": CREDENTIALS[0],
        "TWILIO_AUTH_TOKEN": CREDENTIALS[1],
    }
    ran = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, check=True
    )

    assert [json.loads(line) for line in ran.stdout.splitlines()] == published(
        description, "readFull"
    )
    assert ran.stderr.startswith("2 participants, 1 pages, ")


@needs_prism
async def test_every_request_and_reply_matches_the_description(tmp_path, normalised):
    """Prism finds no violation between client and FakeInsights."""
    path = tmp_path / "description.json"
    path.write_text(json.dumps(normalised), encoding="utf-8")
    async with FakeInsights() as fake:
        sid = fake.add_conference(participants=130)
        fake.add_conference(participants=1)
        good = Validation()
        with prism("proxy", str(path), fake.base_url) as base_url:
            async with InsightsSession(
                fake.credentials, base_url=base_url, trace_configs=[good.trace]
            ) as session:
                found = await session.participants(sid, page_size=50)
                agents = await session.participants(sid, label="agent", events="mute")
                one = await session.participant(sid, found[0].participant_sid, events="mute")
                conferences = await session.conferences(created_after=None, page_size=1)
                some = await session.conferences(**EVERY_FILTER)
                conference = await session.conference(sid)

    assert fake.records(fake.add_conference(found)) == fake.records(sid)
    assert {each.label for each in agents} <= {"agent"}
    assert one == found[0]
    assert conference in conferences
    assert (len(conferences), some) == (2, [])
    assert good.replies == 3 + 1 + 1 + 2 + 1 + 1
    assert good.violations == []


@needs_prism
async def test_violations_are_found(tmp_path, normalised):
    """Prism does find a wrong value in a participant, and in a conference."""
    path = tmp_path / "description.json"
    path.write_text(json.dumps(normalised), encoding="utf-8")
    async with FakeInsights() as fake:
        sid = fake.add_conference(1, duration_seconds="65")
        bad = Validation()
        with prism("proxy", str(path), fake.base_url) as base_url:
            async with InsightsSession(
                fake.credentials,
                base_url=base_url,
                retry=RetryPolicy(max_attempts=1),
                trace_configs=[bad.trace],
            ) as session:
                with pytest.raises(Exception, match="duration_seconds"):
                    await session.participants(sid)
                with pytest.raises(Exception, match="duration_seconds"):
                    await session.conference(sid)

    assert len(bad.violations) == 2
    assert all("duration_seconds" in each for each in bad.violations)
