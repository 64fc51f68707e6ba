"""Both ends, judged from outside: by the API's published description, and by Twilio's own client.

Prism (https://github.com/stoplightio/prism) serves the description's examples to the real client,
and stands between the client and FakeInsights to judge every request and every answer.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import socket
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import attrs
import pytest

from aioparticipants import InsightsSession, Participant, RetryPolicy
from aioparticipants._structuring import unstructure_participant
from aioparticipants.testing import FakeInsights

DESCRIPTION = Path(os.environ.get("INSIGHTS_OPENAPI", ""))
PRISM = os.environ.get("PRISM", "")
COLLECTION = "/v1/Conferences/{ConferenceSid}/Participants"
SID = "CF" + "a" * 32
CREDENTIALS = ("AC" + "0" * 32, "token")

needs_prism = pytest.mark.skipif(
    not (PRISM and DESCRIPTION.is_file()), reason="run by `nox -s contract`, which brings Prism"
)


def described():
    return json.loads(DESCRIPTION.read_text(encoding="utf-8"))


def published(name):
    """Return the records of one of the description's examples."""
    listing = described()["paths"][COLLECTION]["get"]["responses"]["200"]["content"]
    return listing["application/json"]["examples"][name]["value"]["participants"]


def normalised():
    """Return the description with what keeps Prism's judge asleep taken out.

    Its validator refuses `nullable` without `type`, and then passes everything; and OpenAPI 3.0
    ignores what stands beside `$ref`, `nullable` included.
    """
    description = described()
    schemas = description["components"]["schemas"]

    def normalise(node):
        if isinstance(node, list):
            for each in node:
                normalise(each)
        elif isinstance(node, dict):
            if "$ref" in node and node.get("nullable"):
                target = schemas[node.pop("$ref").rsplit("/", 1)[1]]
                node["type"] = target.get("type", "object")
                if "enum" in target:
                    node["enum"] = list(target["enum"])
            if node.get("nullable") and "type" not in node:
                del node["nullable"]
            for each in node.values():
                normalise(each)

    normalise(description)
    return description


@contextmanager
def prism(*arguments):
    """Run Prism, wait until its port answers, and end it by its pid."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        PRISM,
        *arguments,
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--verboseLevel",
        "error",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                assert process.poll() is None, "Prism ended by itself"
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


class Judge:
    """What Prism says of the answers that it passed on."""

    def __init__(self):
        self.answers = 0
        self.violations: list[str] = []
        self.trace = aiohttp.TraceConfig()
        self.trace.on_request_end.append(self.heard)

    async def heard(self, _session, _context, params):
        self.answers += 1
        if "sl-violations" in params.response.headers:
            self.violations.append(params.response.headers["sl-violations"])


@pytest.fixture(scope="module")
def mock():
    """Run Prism as a server of the description's examples."""
    with prism("mock", str(DESCRIPTION)) as base_url:
        yield base_url


def assert_equal_field_by_field(found: Participant, raw: dict[str, object]) -> None:
    """Compare a record with JSON, by rules written here and not in the package."""
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
            value = without_absent(attrs.asdict(value))
            wire = tupled(wire)
        assert value == wire, field.name


def without_absent(node):
    if not isinstance(node, dict):
        return node
    return {
        key: without_absent(value)
        for key, value in node.items()
        if value is not None and not (key == "extra" and value == {})
    }


def tupled(node):
    if isinstance(node, dict):
        return {key: tupled(value) for key, value in node.items()}
    return tuple(node) if isinstance(node, list) else node


@needs_prism
async def test_published_examples(mock):
    """The client's records equal the published examples, field by field."""
    async with InsightsSession(CREDENTIALS, base_url=mock) as session:
        found = await session.participants(SID, page_size=25)

    raw = published("readFull")
    assert len(found) == len(raw) == 2
    for record, example in zip(found, raw, strict=True):
        assert_equal_field_by_field(record, example)
        assert unstructure_participant(record) == example


@needs_prism
async def test_command(mock):
    """The list command gives the published examples, too."""
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

    assert [json.loads(line) for line in ran.stdout.splitlines()] == published("readFull")
    assert ran.stderr.startswith("2 participants, 1 pages, ")


@needs_prism
async def test_every_request_and_answer_keeps_to_the_description(tmp_path):
    """Prism, between the client and FakeInsights, finds no fault; and it is awake."""
    path = tmp_path / "description.json"
    path.write_text(json.dumps(normalised()), encoding="utf-8")
    async with FakeInsights() as fake:
        sid = fake.add_conference(participants=130)
        bad_sid = fake.add_conference(participants=1)
        bad = copy.deepcopy(fake.records(bad_sid))
        bad[0]["duration_seconds"] = "65"
        fake.add_conference(bad, conference_sid=bad_sid)
        with prism("proxy", str(path), fake.base_url) as base_url:
            good, awake = Judge(), Judge()
            async with InsightsSession(
                fake.credentials, base_url=base_url, trace_configs=[good.trace]
            ) as session:
                found = await session.participants(sid, page_size=50)
                agents = await session.participants(sid, label="agent", events="mute")
            async with InsightsSession(
                fake.credentials,
                base_url=base_url,
                retry=RetryPolicy(max_attempts=1),
                trace_configs=[awake.trace],
            ) as session:
                with pytest.raises(Exception, match="duration_seconds"):
                    await session.participants(bad_sid)

    assert [unstructure_participant(each) for each in found] == fake.records(sid)
    assert {each.label for each in agents} <= {"agent"}
    assert good.answers == 4
    assert good.violations == []
    assert len(awake.violations) == 1
    assert "duration_seconds" in awake.violations[0]


async def test_twilios_own_client_reads_the_fake():
    """twilio-python's async client lists from FakeInsights what this package lists."""
    with warnings.catch_warnings():
        # twilio-python uses what aiohttp 3.14 deprecates, and leaves its session open.
        warnings.simplefilter("ignore")
        from twilio.http.async_http_client import AsyncTwilioHttpClient
        from twilio.rest import Client

        async with FakeInsights() as fake:
            sid = fake.add_conference(participants=120)
            http_client = AsyncTwilioHttpClient()
            async with http_client:
                client = Client(*fake.credentials, http_client=http_client)
                client.insights.base_url = fake.base_url
                theirs = await client.insights.v1.conferences(
                    sid
                ).conference_participants.list_async(page_size=50)
            async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
                ours = await session.participants(sid, page_size=50)

    assert [each.participant_sid for each in theirs] == [each.participant_sid for each in ours]
    assert [each.join_time for each in theirs] == [each.join_time for each in ours]
    assert [each.duration_seconds for each in theirs] == [each.duration_seconds for each in ours]
