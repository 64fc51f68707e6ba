"""Rounds of measurements, medians, ratios, and the tables of `compare.py`."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from contenders import BEFORE, BEFORE_FAST, CONTENDERS, FAST, OTHER_TREE, OURS, PEER

PACKAGES = ("twilio", "aiohttp", "attrs", "cattrs", "tenacity", "orjson", "msgspec")
#: By how much a row may be worse than with the other source tree.
TOLERANCE = 0.03
HIGHER_IS_BETTER = {"records/s"}
_MEASURE = str(Path(__file__).with_name("workloads.py"))


def measure(workload, name, where, **options):
    """Measure a contender once, in a process of its own."""
    task = json.dumps([workload, name, where, options])
    ran = subprocess.run(
        [sys.executable, _MEASURE, task], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        message = f"{workload} of {name} failed:\n{ran.stderr}"
        raise RuntimeError(message)
    return json.loads(ran.stdout)


def rounds_of(server, workload, rounds, expected, *, names=CONTENDERS, warm=True, **options):
    """Return each contender's results, one per round.

    Each round measures all contenders, so that a slow phase of the machine affects all of them.
    Every second round has the opposite order, so that no contender is always first.
    """
    if warm:
        measure(workload, names[-1], server.where, **options)  # the server encodes its pages
    results = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            result = measure(workload, name, server.where, **options)
            assert result["records"] == expected, (name, result)
            results[name].append(result)
    return results


def figures_of(results, figure):
    """Return each contender's figures, one per round."""
    return {name: [figure(result) for result in found] for name, found in results.items()}


def medians(results, figure):
    """Return each contender's median of a figure."""
    return {name: statistics.median(found) for name, found in figures_of(results, figure).items()}


class PeerTable:
    """A table of medians, each with its ratio to twilio-python's."""

    names = CONTENDERS

    def header(self, rounds):
        """Return the lines above the rows."""
        columns = "".join(f"{name:>18}" for name in self.names)
        return (
            f"{_environment(rounds)}\n"
            "Medians, and their ratios to twilio-python's in the same run.\n"
            f"{'':34}{columns}"
        )

    def row(self, workload, unit, figures):
        """Return a row."""
        median = {name: statistics.median(found) for name, found in figures.items()}
        cells = "".join(
            f"{_short(median[name]):>11} {median[name] / median[PEER]:5.2f}x"
            if name in median
            else f"{'-':>18}"
            for name in self.names
        )
        return f"{workload:22}{unit:>12}{cells}"


class TreeTable:
    """A table of two source trees: medians, and the median of the ratios of each round."""

    pairs = ((OURS, BEFORE), (FAST, BEFORE_FAST))
    names = (OURS, BEFORE, FAST, BEFORE_FAST)

    def __init__(self):
        self.worse = []
        """The rows that are worse by more than the tolerance."""

    def header(self, rounds):
        """Return the lines above the rows."""
        columns = "".join(
            f"{'before':>10}{now:>12}{'ratio (quartiles)':>22}" for now, _ in self.pairs
        )
        return (
            f"{_environment(rounds)}\n"
            f"`before` is {os.environ[OTHER_TREE]}; each ratio is now / before, "
            "measured in the same round.\n"
            f"{'':34}{columns}"
        )

    def row(self, workload, unit, figures):
        """Return a row, and note whether it is worse."""
        cells = ""
        for now, before in self.pairs:
            ratios = [new / old for new, old in zip(figures[now], figures[before], strict=True)]
            low, ratio, high = _quartiles(ratios)
            mark = " "
            if _is_worse(ratio, unit, TOLERANCE):
                # In a noisy run even equal trees have such a median, but not in most rounds.
                mark = "!" if _is_worse(high if unit in HIGHER_IS_BETTER else low, unit) else "?"
                self.worse.append(f"{mark} {workload}, {unit}, {now}: {ratio:.3f}")
            medians_of_both = (statistics.median(figures[name]) for name in (before, now))
            cells += "{:>10}{:>12}".format(*map(_short, medians_of_both))
            cells += f"{ratio:>8.3f} ({low:.3f}-{high:.3f}){mark}"
        return f"{workload:22}{unit:>12}{cells}"


def _is_worse(ratio, unit, tolerance=0.0):
    return ratio < 1 - tolerance if unit in HIGHER_IS_BETTER else ratio > 1 + tolerance


def _quartiles(values):
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def _environment(rounds):
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {versions}; {rounds} rounds"
    )


def _short(figure):
    return f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}"
