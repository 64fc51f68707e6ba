"""Apply each deliberate fault to a copy of the package, and see the named tests notice it.

    python tests/mutations/check.py [--only WORDS] [--anchors] [--whole-files]

Prints a line for each fault, and exits with 1 if one survived, or does not fit the package any
more. The tests are run on the unaltered package first: tests that fail anyway prove nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from engine import AnchorError, Fault
from faults import FAULTS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "aioparticipants"
#: A fault may make a test hang: after 30 seconds that ends the run, and counts as noticed.
PYTEST = (
    *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
    *("-o", "faulthandler_timeout=30"),
)
ENVIRONMENT = {"PYTHONSAFEPATH": "1", "AIOPARTICIPANTS_TEST_PATIENCE": "15"}
#: Seconds for the tests of one fault, and for the tests of all faults on the unaltered package.
LONGEST, LONGEST_OF_ALL = 120, 900
#: Exit codes of pytest.
PASSED, FAILED = 0, 1


def run(fault: Fault, *, whole_files: bool) -> tuple[str, str]:
    """Run a fault's tests on a copy of the package with the fault; return a verdict and why."""
    try:
        changed = fault.apply(_source)
    except AnchorError as error:
        return "NOT FOUND", str(error)
    with tempfile.TemporaryDirectory() as copy:
        package = Path(copy, PACKAGE.name)
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        for module, source in changed.items():
            _path(package, module).write_text(source, encoding="utf-8")
        try:
            tests = _node_ids([fault], whole_files=whole_files)
            code, output = _pytest("-x", *tests, path=copy, seconds=LONGEST)
        except subprocess.TimeoutExpired:
            return "TOO SLOW", f"not done after {LONGEST} s"
    if code == PASSED:
        return "SURVIVED", ""
    if code == FAILED:
        noticed = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
        return "caught", noticed[1] if noticed else "a test hung"
    return "BROKEN", f"pytest exited with {code}:\n{output[-1500:]}"  # it cannot be imported


def _failure_without_faults(faults: list[Fault]) -> str:
    """Run the tests of all faults on the package as it is; return what is wrong, or nothing."""
    tests = _node_ids(faults, whole_files=False)
    try:
        code, output = _pytest("-n", "2", *tests, path=str(ROOT), seconds=LONGEST_OF_ALL)
    except subprocess.TimeoutExpired:
        return f"not done after {LONGEST_OF_ALL} s"
    return "" if code == PASSED else f"pytest exited with {code}:\n{output[-5000:]}"


def _pytest(*arguments: str, path: str, seconds: float) -> tuple[int, str]:
    """Run tests on the package in a folder; return the exit code, and what was printed."""
    ran = subprocess.run(
        [*PYTEST, *arguments],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return ran.returncode, ran.stdout + ran.stderr


def _node_ids(faults: list[Fault], *, whole_files: bool) -> list[str]:
    tests = {f"tests/{test}" for fault in faults for test in fault.tests.split()}
    return sorted({test.partition("::")[0] for test in tests} if whole_files else tests)


def _source(module: str) -> str:
    path = _path(PACKAGE, module)
    if not path.is_file():
        message = f"there is no module {module}"
        raise AnchorError(message)
    return path.read_text(encoding="utf-8")


def _path(package: Path, module: str) -> Path:
    path = package.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _check_anchors(faults: list[Fault]) -> int:
    """Print the faults that do not fit the package, and the tests that there are not."""
    missing = 0
    for fault in faults:
        try:
            fault.apply(_source)
        except AnchorError as error:
            missing += 1
            print(f"NOT FOUND {fault.name}: {error}")
    print(f"{len(faults) - missing} of {len(faults)} faults fit the package")
    tests = _node_ids(faults, whole_files=False)
    code, output = _pytest("--collect-only", *tests, path=str(ROOT), seconds=LONGEST)
    for line in output.splitlines():
        if line.startswith("ERROR"):
            print(line)
    return 1 if missing or code != PASSED else 0


def main() -> int:
    """Run the faults, two at a time."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--only", default="", help="faults whose name contains this")
    parser.add_argument("--anchors", action="store_true", help="only see that all fit")
    parser.add_argument("--whole-files", action="store_true", help="run the files, show the test")
    options = parser.parse_args()
    chosen = [fault for fault in FAULTS if options.only in fault.name]
    if not chosen:
        parser.error(f"no fault has {options.only!r} in its name")
    if options.anchors:
        return _check_anchors(chosen)
    began = time.monotonic()
    if not options.whole_files and (failure := _failure_without_faults(chosen)):
        print(f"The tests fail on the unaltered package: {failure}")
        return 1
    verdicts: Counter[str] = Counter()
    with ThreadPoolExecutor(max_workers=2) as pool:
        work = partial(run, whole_files=options.whole_files)
        for fault, (verdict, why) in zip(chosen, pool.map(work, chosen), strict=True):
            verdicts[verdict] += 1
            told = f" [{why}]" if why and (options.whole_files or verdict != "caught") else ""
            print(f"{verdict:9} {fault.name}{told}", flush=True)
    seconds = time.monotonic() - began
    print(f"{verdicts['caught']} of {len(chosen)} faults caught, {seconds:.0f} seconds")
    return 0 if verdicts["caught"] == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
