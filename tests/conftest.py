"""What every test has to leave behind: nothing."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest

from aioparticipants import InsightsSession, RetryPolicy
from aioparticipants.testing import FakeInsights

_DESCRIPTORS = Path("/proc/self/fd")


def descriptors() -> set[str]:
    """Return the open sockets; empty where the system does not tell."""
    found = set()
    for entry in _DESCRIPTORS.iterdir() if _DESCRIPTORS.is_dir() else ():
        try:
            found.add(os.readlink(entry))  # noqa: PTH115 - what it names is no path
        except OSError:  # it was the listing's own
            continue
    return {name for name in found if name.startswith("socket:")}


def alive() -> set[asyncio.Task[object]]:
    """Return the tasks of the running loop but the one that asks."""
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.fixture(autouse=True)
async def nothing_left_behind():
    """Fail a test that leaves a task, a socket, or an exception that nobody saw."""
    loop = asyncio.get_running_loop()
    lost: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _loop, context: lost.append(context))
    tasks, sockets = alive(), descriptors()
    yield
    for _ in range(4):  # a closed socket goes with the loop's next turn
        await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    assert alive() <= tasks
    assert descriptors() <= sockets
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
