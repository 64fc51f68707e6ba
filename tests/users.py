"""What the tests of a user's programs share: made-up participants, and a shell."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def made_up(fake, count):
    """Return that many participants that name no conference."""
    records = fake.records(fake.add_conference(participants=count))
    return [{**each, "conference_sid": None} for each in records]


def bad(record):
    """Return a record with a value of a wrong type."""
    return {**record, "label": 7}


def sids_of(records):
    return [each["participant_sid"] for each in records]


def shell(script, **environment):
    """Run a script in which `python` is this one, and return what it prints; fail if it fails."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # Not a pipe: what the script leaves running in the background would keep that open.
    with tempfile.TemporaryFile("w+") as errors:
        ran = subprocess.run(
            ["/bin/sh", "-c", script],
            env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=False,
        )
        errors.seek(0)
        assert ran.returncode == 0, errors.read()
    return ran.stdout
