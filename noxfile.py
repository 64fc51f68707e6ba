"""The quality gates, one session each.

`nox` alone runs all but four: `mutants` (does the suite notice faults?), `soak` (does anything pile
up?), `bench` (how fast is it?) and `simulate` (what would the limiter do?), which take minutes, and
are for a change that touches them.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import nox

# pyenv's shims answer only for the active versions: make all that are installed active, with the
# one that runs nox first.
_PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
if "PYENV_VERSION" not in os.environ and _PYENV.is_dir():
    _found = [each.name for each in _PYENV.iterdir() if each.name.startswith("3.")]
    _found.sort(key=lambda name: name != platform.python_version())
    os.environ["PYENV_VERSION"] = ":".join(_found)

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True
# One interpreter is enough; a missing one is skipped with a word, under CI too. `coverage` fails
# if no test session has run at all.
nox.options.error_on_missing_interpreters = False
nox.options.sessions = [
    *("lint", "typing", "tests", "lowest", "coverage", "contract", "bench_guard")
]

PROJECT = nox.project.load_toml()
PYTHONS = nox.project.python_versions(PROJECT)
PRISM = "@stoplight/prism-cli@5.14.2"  # the last that Node 20 runs
DESCRIPTION = Path(
    os.environ.get("INSIGHTS_OPENAPI", Path(__file__).parent / "../shared/insights-v1-openapi.json")
).resolve()


def _group(*names: str) -> list[str]:
    return list(nox.project.dependency_groups(PROJECT, *names))


def _environment() -> dict[str, str]:
    return {
        # The installed package is tested, not the folder beside the tests.
        "PYTHONSAFEPATH": "1",
        "PYTHONDEVMODE": "1",
        # An interpreter that is not here cannot be had.
        "UV_PYTHON_DOWNLOADS": "never",
    }


def _run_tests(session: nox.Session) -> None:
    # A file is one process's, as its tests share fixtures and conferences; two cores are enough.
    parallel = () if session.posargs else ("-n", "2", "--dist", "loadfile")
    measured = ("--cov", "--cov-report=", "--cov-fail-under=0")  # the session `coverage` judges
    session.run(
        *("python", "-m", "pytest", *measured, *parallel, *session.posargs),
        env={**_environment(), "COVERAGE_FILE": f".coverage.{session.name}"},
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and the rooms' imports."""
    session.install(".", *_group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def typing(session: nox.Session) -> None:
    """Both type checkers, strict; and every public name has a whole type."""
    session.install(".", *_group("typing"))
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--ignoreexternal", "--verifytypes", "aioparticipants")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The suite, on the installed wheel."""
    session.install(".", *_group("tests"))
    _run_tests(session)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The suite on the lowest versions that pyproject.toml declares."""
    floors = [each.split(",")[0].replace(">=", "==") for each in PROJECT["project"]["dependencies"]]
    session.install(".", *floors, *_group("tests"))
    _run_tests(session)


@nox.session
def coverage(session: nox.Session) -> None:
    """Every line and branch, over all of the test sessions."""
    if not [*Path().glob(".coverage.*")]:
        session.error("No test session has run: none of the interpreters was found.")
    session.install("coverage[toml]")
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def contract(session: nox.Session) -> None:
    """The published description and Twilio's own client, as judges of both ends."""
    if shutil.which("npm") is None:
        session.skip("npm is missing, and Prism with it: the contract was not checked.")
    if not DESCRIPTION.is_file():
        session.skip("The published description is missing: the contract was not checked.")
    session.install(".", *_group("contract"))
    prefix = session.create_tmp()
    session.run("npm", "install", "--silent", "--prefix", prefix, PRISM, external=True)
    session.run(
        *("python", "-m", "pytest", "tests/contract", *session.posargs),
        env={
            **_environment(),
            "INSIGHTS_OPENAPI": str(DESCRIPTION),
            "PRISM": str(Path(prefix, "node_modules", ".bin", "prism").resolve()),
        },
    )


@nox.session(tags=["full"])
def docs(session: nox.Session) -> None:
    """The API reference, in build/docs; a warning is an error."""
    session.install(".", *_group("docs"))
    session.run(
        *("python", "-W", "error", "-m", "pdoc", "--docformat", "google"),
        *("--output-directory", "build/docs", "./aioparticipants", "./aioparticipants/testing"),
    )


@nox.session
def mutants(session: nox.Session) -> None:
    """Deliberate faults, one at a time, each of which the suite has to notice."""
    session.install(".", *_group("tests"))
    session.run("python", "tests/mutations/check.py", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Thousands of conferences, read badly, and nothing left of them; not part of the gates."""
    session.install(".")
    session.run("python", "tests/soak/soak.py", *session.posargs, env=_environment())


@nox.session
def bench(session: nox.Session) -> None:
    """Against twilio-python and the floors, and behind a ceiling; not part of the gates."""
    session.install(".", *_group("bench"))
    session.run("python", "tests/benchmarks/compare.py", *session.posargs)
    session.run("python", "tests/benchmarks/fan_out.py")


@nox.session
def simulate(session: nox.Session) -> None:
    """The limiter on a virtual clock, beside what it is not; not part of the gates."""
    session.install(".")
    session.run("python", "tests/benchmarks/limiter.py", *session.posargs)
    session.run("python", "tests/benchmarks/retry_quota.py")


@nox.session
def bench_guard(session: nox.Session) -> None:
    """The ratios that must not be lost, with a wide margin, in half a minute."""
    session.install(".", *_group("bench"))
    session.run("python", "tests/benchmarks/guard.py")
