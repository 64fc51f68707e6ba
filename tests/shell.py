"""Shell scripts, as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path


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
