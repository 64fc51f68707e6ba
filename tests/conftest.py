"""What every test has to leave behind: nothing."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
from collections import Counter
from pathlib import Path

import pytest

from aioparticipants import InsightsSession, RetryPolicy
from aioparticipants._transport import Transport
from aioparticipants.testing import FakeInsights

_DESCRIPTORS = Path("/proc/self/fd")


def pytest_collection_finish() -> None:
    """Leave out of each test's collection what was there before: it takes half of their time."""
    gc.collect()
    gc.freeze()


def descriptors() -> Counter[str]:
    """Return what the open file descriptors lead to; nothing where the system does not tell."""
    found = Counter[str]()
    for entry in _DESCRIPTORS.iterdir() if _DESCRIPTORS.is_dir() else ():
        try:
            found[os.readlink(entry)] += 1  # noqa: PTH115 - what it names is no path
        except OSError:  # it was the listing's own
            continue
    return found


def alive() -> set[asyncio.Task[object]]:
    """Return the tasks of the running loop but the one that asks."""
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.fixture
def held(monkeypatch):
    """Return what each session still held when its tasks were gone: connections and slots."""
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
        found.append(("slots", session._limiter.in_flight))

    # They are watched, not replaced.
    monkeypatch.setattr(Transport, "aclose", watched)
    monkeypatch.setattr(InsightsSession, "aclose", watched_session)
    return found


@pytest.fixture(autouse=True)
async def nothing_left_behind(held):
    """Fail a test that leaves anything: a task, a file descriptor, a connection or a slot in use.

    So does an exception that nobody saw, or a ResourceWarning: warnings are errors.
    """
    loop = asyncio.get_running_loop()
    lost: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _loop, context: lost.append(context))
    tasks, files = alive(), descriptors()
    yield
    for _ in range(4):  # a closed socket goes with the loop's next turn
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
    """Return a session on the fake that does not dawdle between attempts."""
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, retry=RetryPolicy(base_delay=0.001)
    ) as opened:
        yield opened
