"""What every test has to leave behind: nothing."""

from __future__ import annotations

import asyncio
import base64
import functools
import gc
import json
import os
import signal
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from aioparticipants import InsightsSession, RetryPolicy
from aioparticipants._transport import Transport
from aioparticipants.testing import FakeInsights

_DESCRIPTORS = Path("/proc/self/fd")

#: Files that do the same again and again. Measuring coverage would double their time, and find
#: nothing that the other files do not cover. Sweeps, too, are marked so, by `sweeps.on_loops`.
REPEATING = {
    "test_fan_out_properties.py",
    "test_fuzz.py",
    "test_invalid.py",
    "test_properties.py",
    "test_security.py",
}


def pytest_configure() -> None:
    """Handle SIGINT even where the tests run in the background, whose shell has it ignored.

    The commands that tests start would ignore it, too.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items) -> None:
    """Mark the tests that repeat what others have covered: random examples, and some files."""
    for item in items:
        examples = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        repeats = examples or item.path.name in REPEATING
        if repeats and item.get_closest_marker("measured") is None:
            item.add_marker("repeats")


@pytest.fixture(autouse=True, scope="module")
def frozen_heap():
    """Leave older objects out of the collection after each test of a file: they are too many.

    A test's own objects are collected at its end, so none of them is left out.
    """
    gc.collect()
    gc.freeze()


def descriptors() -> Counter[str]:
    """Return what the open file descriptors lead to; nothing where the system does not say."""
    found = Counter[str]()
    for entry in _DESCRIPTORS.iterdir() if _DESCRIPTORS.is_dir() else ():
        try:
            found[os.readlink(entry)] += 1  # noqa: PTH115 - what it names is no path
        except OSError:  # the one that listed them
            continue
    return found


def alive() -> set[asyncio.Task[object]]:
    """Return the tasks of the running loop, except the current one."""
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.fixture
def held(monkeypatch):
    """Return how many connections and slots each session still held when its tasks had ended."""
    found: list[tuple[str, int]] = []
    close = Transport.aclose

    @functools.wraps(close)
    async def watched(transport):
        http = transport._http
        if http is not None and http.connector is not None and transport._owned:
            found.append(("connections", len(http.connector._acquired)))
        await close(transport)

    close_session = InsightsSession.aclose

    @functools.wraps(close_session)
    async def watched_session(session):
        await close_session(session)
        if session._tasks.closed:  # else it is one of `with_options`, which closes nothing
            found.append(("slots", session._limiter.in_flight))

    # Both still do what they did.
    monkeypatch.setattr(Transport, "aclose", watched)
    monkeypatch.setattr(InsightsSession, "aclose", watched_session)
    return found


@pytest.fixture(autouse=True)
async def nothing_left_behind(held):
    """Fail a test that leaves a task, a file descriptor, or a connection or slot in use.

    An exception that was never retrieved fails it too, and so does a ResourceWarning, as warnings
    are errors.
    """
    loop = asyncio.get_running_loop()
    lost: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _loop, context: lost.append(context))
    tasks, files = alive(), descriptors()
    yield
    for _ in range(4):  # a closed socket is removed in the next iteration of the loop
        await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    assert alive() <= tasks
    assert descriptors() - files == Counter()
    assert [each for each in held if each[1]] == []
    assert lost == []


@pytest.fixture
async def fake():
    """Return a running FakeInsights."""
    async with FakeInsights() as server:
        yield server


@pytest.fixture
async def session(fake):
    """Return a session for the fake; it hardly waits between attempts."""
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, retry=RetryPolicy(base_delay=0.001)
    ) as opened:
        yield opened


@pytest.fixture
async def get(fake):
    """Return a function that requests a path of the fake, and returns status, JSON and headers."""
    pair = base64.b64encode(":".join(fake.credentials).encode()).decode()
    async with aiohttp.ClientSession(headers={"Authorization": f"Basic {pair}"}) as client:

        async def request(path, method="GET", **options):
            url = path if path.startswith("http") else fake.base_url + path
            async with client.request(method, url, **options) as reply:
                return reply.status, json.loads(await reply.read()), reply.headers

        yield request
