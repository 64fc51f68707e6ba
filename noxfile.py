"""The checks of the project, one session each.

`nox` runs lint, typing and the whole suite on the Python that runs nox: minutes.
`nox -t full` runs what goes beyond that: the other Pythons, the lowest versions of the
dependencies, asyncio's debug mode, random examples, the API's contract, the speed guard.
`nox -s quick` runs the tests that need seconds, for the time between two edits.

The other sessions are for a change that touches them: `mutants` (do the tests notice faults?),
`soak` (does anything leak?), `bench` (how fast is it?), `simulate` (what would the limiter do?).
"""

from __future__ import annotations

import os
import platform
import random as randomness
import shutil
from pathlib import Path

import nox

# pyenv's shims answer only for the active versions: activate all, the one that runs nox first.
_PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
if "PYENV_VERSION" not in os.environ and _PYENV.is_dir():
    _found = [each.name for each in _PYENV.iterdir() if each.name.startswith("3.")]
    _found.sort(key=lambda name: name != platform.python_version())
    os.environ["PYENV_VERSION"] = ":".join(_found)

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True
# An interpreter that is missing is not downloaded, but skipped with a message, in CI too.
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "typing", "tests"]

PROJECT = nox.project.load_toml()
RUNNING = ".".join(platform.python_version_tuple()[:2])
PYTHONS = nox.project.python_versions(PROJECT)
OTHER_PYTHONS = [each for each in PYTHONS if each != RUNNING]

#: Files that test cancellation, closing, tasks and streams. Debug mode notices what these can do
#: wrong: a coroutine that is never awaited, a call into the loop from another thread, a socket or
#: a generator that is not closed. It takes twice the time and finds nothing in the other files.
DEBUGGED = (
    "test_anyio.py",
    "test_arrow.py",
    "test_beginning_anew.py",
    "test_cancellation.py",
    "test_closing_from_within.py",
    "test_deadlines.py",
    "test_fake_insights.py",
    "test_fan_out.py",
    "test_session.py",
    "test_shared_limiter.py",
    "test_stream.py",
    "test_tasks.py",
    "test_web_services.py",
)
#: Files whose examples Hypothesis makes.
RANDOM = (
    "test_decoding.py",
    "test_event_streams.py",
    "test_fan_out_properties.py",
    "test_properties.py",
    "test_record_properties.py",
    "test_rows.py",
    "test_slices.py",
)

#: What runs between two edits: the modules below the I/O line, and one file of each layer above.
QUICK = (
    "test_credentials.py",
    "test_cursors.py",
    "test_errors.py",
    "test_limiter.py",
    "test_models.py",
    "test_numbers.py",
    "test_paging.py",
    "test_resources.py",
    "test_responses.py",
    "test_retrying.py",
    "test_rows.py",
    "test_sanitize.py",
    "test_session.py",
    "test_settings.py",
    "test_shared_limiter.py",
    "test_stream.py",
    "test_structuring.py",
    "test_tasks.py",
)

PRISM = "@stoplight/prism-cli@5.14.2"  # the last that Node 20 runs
DESCRIPTION = Path(
    os.environ.get("INSIGHTS_OPENAPI", Path(__file__).parent / "../shared/insights-v1-openapi.json")
).resolve()


def _group(*names: str) -> list[str]:
    return list(nox.project.dependency_groups(PROJECT, *names))


def _files(names: tuple[str, ...]) -> list[str]:
    return [f"tests/{name}" for name in names]


def _pytest(session: nox.Session, *arguments: str, **environment: str) -> None:
    """Run tests in processes, against the installed package and not the folder beside them."""
    # A process runs whole files, as the tests of one share fixtures. One more process than the two
    # cores of a small machine uses the time in which tests wait.
    processes = str(max(3, os.cpu_count() or 1))
    parallel = () if session.posargs else ("-n", processes, "--dist", "loadfile")
    session.run(
        *("python", "-m", "pytest", *parallel, *(session.posargs or arguments)),
        env={"PYTHONSAFEPATH": "1", **environment},
    )


# --- `nox` ---


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and which module may import which."""
    session.install(".", *_group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def typing(session: nox.Session) -> None:
    """Two type checkers, both strict; and every public name has a complete type."""
    session.install(".", *_group("typing"))
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--ignoreexternal", "--verifytypes", "aioparticipants")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite on the installed wheel; every line and branch is covered."""
    session.install(".", *_group("tests"))
    if session.posargs:
        _pytest(session)
        return
    # Measuring coverage doubles the time of a test: only where it tells something.
    _pytest(session, "-m", "repeats")
    _pytest(session, "-m", "not repeats", "--cov")


@nox.session(reuse_venv=True)
def quick(session: nox.Session) -> None:
    """The tests that need seconds."""
    session.install("-e", ".", *_group("tests"))
    _pytest(session, *_files(QUICK))


# --- `nox -t full` ---


@nox.session(python=OTHER_PYTHONS, tags=["full"])
def pythons(session: nox.Session) -> None:
    """The whole suite on the other Pythons. The matrix of the CI measures coverage on each."""
    session.install(".", *_group("tests"))
    _pytest(session)


@nox.session(python=PYTHONS[0], tags=["full"])
def lowest(session: nox.Session) -> None:
    """The whole suite on the lowest versions of the dependencies."""
    floors = [each.split(",")[0].replace(">=", "==") for each in PROJECT["project"]["dependencies"]]
    session.install(".", *floors, *_group("tests"))
    _pytest(session)


@nox.session(tags=["full"])
def debug(session: nox.Session) -> None:
    """Python's development mode, asyncio's debug mode included, on the files that need it."""
    session.install(".", *_group("tests"))
    _pytest(session, *_files(DEBUGGED), PYTHONDEVMODE="1")


@nox.session(tags=["full"])
def random(session: nox.Session) -> None:
    """Other examples in every run; `nox -s random -- --hypothesis-seed=N …` repeats one."""
    session.install(".", *_group("tests"))
    seed = randomness.SystemRandom().randrange(10**9)
    session.log(f"The seed of the examples is {seed}.")
    _pytest(
        *(session, *_files(RANDOM), f"--hypothesis-seed={seed}"),
        AIOPARTICIPANTS_TEST_PROFILE="random",
    )
    if not session.posargs:
        session.run("python", "tests/fuzz/wire.py", "--seconds", "20", "--seed", str(seed))


@nox.session(tags=["full"])
def contract(session: nox.Session) -> None:
    """The published description and Twilio's own client, as judges of both ends."""
    if not DESCRIPTION.is_file():
        session.skip("The published description is missing: the contract was not checked.")
    session.install(".", *_group("contract"))
    environment = {
        "PYTHONSAFEPATH": "1",
        "PYTHONDEVMODE": "1",
        "INSIGHTS_OPENAPI": str(DESCRIPTION),
        "PRISM": _install_prism(session),
    }
    session.run("python", "-m", "pytest", "tests/contract", *session.posargs, env=environment)


def _install_prism(session: nox.Session) -> str:
    """Return the path of Prism's command; an empty string, which skips its tests, without npm."""
    if shutil.which("npm") is None:
        session.warn("npm is missing, and Prism with it: its part of the contract is skipped.")
        return ""
    prefix = session.create_tmp()
    session.run("npm", "install", "--silent", "--prefix", prefix, PRISM, external=True)
    return str(Path(prefix, "node_modules", ".bin", "prism").resolve())


@nox.session(tags=["full"])
def docs(session: nox.Session) -> None:
    """The API reference, in build/docs; a warning is an error."""
    session.install(".", *_group("docs"))
    session.run(
        *("python", "-W", "error", "-m", "pdoc", "--docformat", "google"),
        *("--output-directory", "build/docs", "./aioparticipants", "./aioparticipants/testing"),
        *("./aioparticipants/arrow.py", "./aioparticipants/event_streams.py"),
    )


@nox.session(tags=["full"])
def bench_guard(session: nox.Session) -> None:
    """The ratios that must not get worse, with a wide margin, in half a minute."""
    session.install(".", *_group("bench"))
    session.run("python", "tests/benchmarks/guard.py")


# --- One at a time ---


@nox.session
def mutants(session: nox.Session) -> None:
    """Deliberate faults, one at a time, each of which a test has to notice."""
    session.install(".", *_group("tests"))
    session.run("python", "tests/mutations/check.py", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Thousands of conferences, read in bad ways, and nothing left of them."""
    session.install(".")
    session.run(
        *("python", "tests/soak/soak.py", *session.posargs),
        env={"PYTHONSAFEPATH": "1", "PYTHONDEVMODE": "1"},
    )


@nox.session
def bench(session: nox.Session) -> None:
    """The package against twilio-python and the lowest possible times."""
    session.install(".", *_group("bench"))
    session.run("python", "tests/benchmarks/compare.py", *session.posargs)
    session.run("python", "tests/benchmarks/fan_out.py")


@nox.session
def simulate(session: nox.Session) -> None:
    """The limiter and the retry quota on a virtual clock, beside simpler ones."""
    session.install(".")
    session.run("python", "tests/benchmarks/limiter.py", *session.posargs)
    session.run("python", "tests/benchmarks/retry_quota.py")
