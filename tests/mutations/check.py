"""Apply each deliberate fault to a copy of the package, and see the suite notice it.

    python tests/mutations/check.py [--only WORDS]

Prints a line a fault, and exits with 1 if one survived. The unaltered copy is run first, so that
a suite that fails anyway is not mistaken for one that notices.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
#: A fault may make the suite hang, which is noticed as well: here after 30 seconds in one test.
PYTEST = (
    *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
    *("-o", "faulthandler_timeout=30"),
)
#: Seconds for all of a fault's tests, and for those of all: a slow machine is no proof of anything.
LONGEST, LONGEST_OF_ALL = 600, 1800


def passes(mutant: Mutant, seconds: float = LONGEST) -> bool | None:
    """Run the named tests on a copy with the fault; tell whether all pass, None if not in time."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for each in ("aioparticipants", "tests", "examples"):
            shutil.copytree(ROOT / each, copy / each, ignore=shutil.ignore_patterns("__pycache__"))
        for each in ("pyproject.toml", "README.md", "CHANGELOG.md", "noxfile.py"):
            shutil.copy(ROOT / each, copy / each)
        for edit in mutant.edits:
            module = copy / "aioparticipants" / edit.module
            source = module.read_text(encoding="utf-8")
            module.write_text(source.replace(edit.old, edit.new), encoding="utf-8")
        try:
            ran = subprocess.run(
                [*PYTEST, *mutant.tests],
                cwd=copy,
                env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDEVMODE": "1"},
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None  # no test hung, as that would have ended the run
    return ran.returncode == 0


def main() -> int:
    """Run the faults, two at a time."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--only", default="", help="faults whose name holds this")
    only = parser.parse_args().only
    chosen = [mutant for mutant in MUTANTS if only in mutant.name]
    began = time.monotonic()
    files = sorted({file for mutant in chosen for file in mutant.tests})
    if not passes(Mutant("none", tuple(files), ()), LONGEST_OF_ALL):
        print("The suite fails on the unaltered package.")
        return 1
    survivors = 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        for mutant, passed in zip(chosen, pool.map(passes, chosen), strict=True):
            survived = passed is not False
            survivors += survived
            print(f"{'SURVIVED' if survived else 'caught':9} {mutant.name}", flush=True)
    seconds = time.monotonic() - began
    print(f"{len(chosen) - survivors} of {len(chosen)} faults caught, {seconds:.0f} seconds")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
