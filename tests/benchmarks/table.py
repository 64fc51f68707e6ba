"""Rounds, medians, ratios, and the table."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from contenders import CONTENDERS, PEER

PACKAGES = ("twilio", "aiohttp", "attrs", "cattrs", "tenacity", "orjson", "msgspec")
_MEASURE = str(Path(__file__).with_name("workloads.py"))


def measure(workload, name, where, **options):
    """Measure once, in a fresh process."""
    task = json.dumps([workload, name, where, options])
    ran = subprocess.run(
        [sys.executable, _MEASURE, task], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        message = f"{workload} of {name} failed:\n{ran.stderr}"
        raise RuntimeError(message)
    return json.loads(ran.stdout)


def rounds_of(server, workload, rounds, expected, *, names=CONTENDERS, warm=True, **options):
    """Return each contender's measurements, taken in turn, so that a slow spell hits all."""
    if warm:
        measure(workload, names[-1], server.where, **options)  # the server makes its pages
    found = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            result = measure(workload, name, server.where, **options)
            assert result["records"] == expected, (name, result)
            found[name].append(result)
    return found


def medians(found, figure):
    """Return each contender's median of a figure."""
    return {name: statistics.median(map(figure, results)) for name, results in found.items()}


def header(text):
    """Return the lines above the table."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    columns = "".join(f"{name:>18}" for name in CONTENDERS)
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {versions}; {text}\n"
        "Each figure, and its ratio to twilio-python's in the same run.\n"
        f"{'':34}{columns}"
    )


def row(workload, unit, figures):
    """Return a line of the table."""
    cells = "".join(
        f"{_short(figures[name]):>11} {figures[name] / figures[PEER]:5.2f}x"
        if name in figures
        else f"{'-':>18}"
        for name in CONTENDERS
    )
    return f"{workload:22}{unit:>12}{cells}"


def _short(figure):
    return f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}"
