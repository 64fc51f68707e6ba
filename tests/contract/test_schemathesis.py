"""Schemathesis (https://schemathesis.io) sends FakeInsights what the description allows, and more.

It checks that what the description allows is accepted, that all else is refused, and that every
reply has the form that is described.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys

import pytest

from aioparticipants.testing import FakeInsights

EXAMPLES = 40
RESOURCES = {
    "list of conferences": r"/v1/Conferences",
    "conference": r"/v1/Conferences/CF\w+",
    "list of participants": r"/v1/Conferences/CF\w+/Participants",
    "participant": r"/v1/Conferences/CF\w+/Participants/CP\w+",
}
#: https://www.twilio.com/docs/usage/twilios-response#rest-exceptions
ERROR = {
    "description": "An error",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["code", "message", "more_info", "status"],
                "additionalProperties": False,
                "properties": {
                    "code": {"type": "integer"},
                    "message": {"type": "string"},
                    "more_info": {"type": "string", "format": "uri"},
                    "status": {"type": "integer", "minimum": 400, "maximum": 599},
                },
            }
        }
    },
}


@pytest.fixture
def testable(normalised):
    """Return the description with what it says only in prose, or leaves to other pages."""
    for path in normalised["paths"].values():
        operation = path["get"]
        operation["responses"]["default"] = ERROR
        parameters = [each for each in operation["parameters"] if each["name"] != "PageToken"]
        for parameter in parameters:
            if parameter["name"].startswith("Created"):
                parameter["schema"]["format"] = "date-time"
        operation["parameters"] = parameters  # only the API can make a token
        success = operation["responses"]["200"]["content"]["application/json"]["schema"]
        if "properties" in success:
            success["required"] = [*success["properties"]]
    for schema in normalised["components"]["schemas"].values():
        if "properties" in schema:
            schema["required"] = [*schema["properties"]]
    return normalised


async def schemathesis(description, fake, tmp_path, *options):
    """Run Schemathesis against a server; return its exit status and what it printed."""
    file = tmp_path / "description.json"
    file.write_text(json.dumps(description), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(file)),
        *("--url", fake.base_url, "--auth", ":".join(fake.credentials)),
        *("--seed", "1", "--no-color", *options),
    ]
    ran = await asyncio.to_thread(
        subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr


async def test_nothing_is_found(testable, tmp_path):
    """Schemathesis finds nothing, and has seen a good reply of each resource."""
    async with FakeInsights(seed=1) as fake:
        for count in (0, 1, 2, 3, 120):
            fake.add_conference(count)
        fake.add_conference(4, summary=["in_progress", "timeout"])

        status, output = await schemathesis(
            testable, fake, tmp_path, "--max-examples", str(EXAMPLES)
        )

    assert status == 0, output
    good = [seen.path for seen in fake.requests if seen.status == 200]
    for name, pattern in RESOURCES.items():
        assert any(re.fullmatch(pattern, path) for path in good), name
    assert {seen.status for seen in fake.requests} == {200, 400, 401, 404, 405}


async def test_a_violation_is_found(testable, tmp_path):
    """Schemathesis finds a record of which one value has another type than described."""
    async with FakeInsights(seed=1) as fake:
        fake.add_conference(3, max_participants="many")

        status, output = await schemathesis(testable, fake, tmp_path, "--phases", "coverage")

    assert status == 1
    assert "Response violates schema" in output
    assert '"many" is not valid' in output
