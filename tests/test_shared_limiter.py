"""Limiters of the user's: context managers, and objects with `acquire` and `release`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading

import anyio
import pytest

from aioparticipants import ContextLimiter, InsightsSession, InvalidRequestError, TransportError
from aioparticipants._shared_limiter import shared_limiter
from aioparticipants._tasks import SessionTasks

from .sweeps import turns
from .test_properties import run


class Pool:
    """A limiter with an async `acquire` and a `release`, and no context manager."""

    def __init__(self):
        self.held = 0
        self.released_by = None

    async def acquire(self):
        await asyncio.sleep(0)
        self.held += 1

    def release(self):
        self.held -= 1
        self.released_by = asyncio.current_task()


class RemotePool(Pool):
    """A pool with an async `release` that waits for an event."""

    def __init__(self):
        super().__init__()
        self.answer = asyncio.Event()

    async def release(self):
        await self.answer.wait()
        super().release()


class Rate:
    """A limiter like aiolimiter's: an async context manager with `acquire`, and no `release`."""

    def __init__(self):
        self.entered = 0

    async def acquire(self):
        self.entered += 1

    async def __aenter__(self):
        await self.acquire()

    async def __aexit__(self, *_exc):
        """Release nothing."""


class Both(Rate):
    """An async context manager with `acquire` and `release`."""

    def release(self):
        raise AssertionError


async def test_shared_semaphore():
    """asyncio.Semaphore is acquired for each attempt, and released even after an error."""
    semaphore = asyncio.Semaphore(1)
    permit = shared_limiter(semaphore, SessionTasks())
    async with permit():
        assert semaphore.locked()
    with pytest.raises(KeyError):
        async with permit():
            raise KeyError
    assert not semaphore.locked()


@pytest.mark.parametrize("kind", [Rate, Both])
async def test_shared_context_manager(kind):
    """An async context manager is entered, even if it has `acquire` and `release` as well."""
    limiter = kind()
    permit = shared_limiter(limiter, SessionTasks())
    async with permit(), permit():
        assert limiter.entered == 2


async def test_shared_acquire_and_release():
    """`acquire` and `release` are called in pairs, by the task that makes the attempt."""
    pool = Pool()
    permit = shared_limiter(pool, SessionTasks())
    with pytest.raises(KeyError):
        async with permit(), permit():
            assert pool.held == 2
            raise KeyError
    assert pool.held == 0
    assert pool.released_by is asyncio.current_task()


def test_shared_release_that_hangs(caplog):
    """An async `release` that never ends is waited for up to a limit, logged, and left."""

    async def check():
        permit, loop = (
            shared_limiter(RemotePool(), tasks := SessionTasks()),
            asyncio.get_event_loop(),
        )
        async with permit():
            began = loop.time()
        waited = loop.time() - began
        await tasks.aclose()
        return waited

    assert run(check()) == 2  # by a virtual clock
    assert [each.getMessage() for each in caplog.records] == [
        "Not ended after 2.0 s, and left behind: aioparticipants release"
    ]


@pytest.mark.parametrize("cancels", [0, 1, 3])
async def test_shared_release_completes(cancels):
    """An async `release` completes, however often the attempt is cancelled meanwhile."""
    pool = RemotePool()
    permit = shared_limiter(pool, SessionTasks())

    async def attempt():
        async with permit():
            pass

    task = asyncio.create_task(attempt())
    await turns(5)
    for _ in range(cancels):
        task.cancel()
        await turns()
    assert (pool.held, task.done()) == (1, False)
    pool.answer.set()
    await asyncio.wait([task])

    assert pool.held == 0
    assert task.cancelled() is bool(cancels)


async def test_shared_acquire_cancelled():
    """If `acquire` is cancelled, `release` is not called."""
    pool = Pool()

    async def attempt():
        async with shared_limiter(pool, SessionTasks())():
            pass

    task = asyncio.create_task(attempt())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert (pool.held, pool.released_by) == (0, None)


class Broken(Pool):
    """A pool whose methods raise what a Redis client would."""

    secret = "10.0.0.7 does not answer"

    def __init__(self, *broken):
        super().__init__()
        self.broken = broken

    async def acquire(self):
        if "acquire" in self.broken:
            raise TimeoutError(self.secret)
        await super().acquire()

    async def release(self):
        super().release()
        if "release" in self.broken:
            raise ConnectionResetError(self.secret)


@pytest.mark.parametrize(
    ("verb", "kind"), [("acquire", TimeoutError), ("release", ConnectionResetError)]
)
async def test_shared_limiter_that_fails(verb, kind):
    """An exception of a limiter is a transient error that names its class and has it as cause."""
    with pytest.raises(TransportError, match=rf"failed to {verb} \({kind.__name__}\)") as caught:
        async with shared_limiter(Broken(verb), SessionTasks())():
            pass
    assert caught.value.transient
    assert type(caught.value.__cause__) is kind
    assert Broken.secret not in str(caught.value)


async def test_shared_release_that_fails_after_the_attempt(caplog):
    """A failed release does not replace the attempt's own error, and is logged."""
    with pytest.raises(KeyError), caplog.at_level(logging.WARNING, "aioparticipants"):
        async with shared_limiter(Broken("release"), SessionTasks())():
            raise KeyError
    assert [each.getMessage() for each in caplog.records] == [
        "The shared limiter failed to release: ConnectionResetError"
    ]


@pytest.mark.parametrize(
    "limiter",
    [
        pytest.param(lambda: asyncio.Semaphore(1), id="asyncio.Semaphore"),
        pytest.param(lambda: asyncio.BoundedSemaphore(1), id="asyncio.BoundedSemaphore"),
        pytest.param(lambda: anyio.CapacityLimiter(1), id="anyio.CapacityLimiter"),
        pytest.param(lambda: anyio.Semaphore(1), id="anyio.Semaphore"),
        pytest.param(asyncio.Lock, id="asyncio.Lock"),
    ],
)
async def test_known_limiters(fake, limiter):
    """The limiters of asyncio and anyio bound the attempts of two sessions together."""
    fake.concurrency = 1
    sid, limiter = fake.add_conference(participants=4), limiter()
    assert isinstance(limiter, ContextLimiter)
    async with (
        InsightsSession(fake.credentials, base_url=fake.base_url, limiter=limiter) as one,
        InsightsSession(fake.credentials, base_url=fake.base_url, limiter=limiter) as two,
    ):
        lists = await asyncio.gather(
            *(each.participants(sid, page_size=1) for each in (one, two, one, two))
        )

    assert [len(each) for each in lists] == [4] * 4
    assert {seen.status for seen in fake.requests} == {200}


@contextlib.asynccontextmanager
async def single_use():
    yield


class NoRelease:
    async def acquire(self):
        """Acquire, and never release."""


class SyncAcquire:
    def acquire(self):
        """Block the loop."""

    def release(self):
        """Release."""


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        16,
        threading.Semaphore(),
        asyncio.Semaphore,
        single_use,
        Rate,
        Pool,
        NoRelease(),
        SyncAcquire(),
    ],
)
def test_anything_else_is_refused(wrong):
    """Anything else is refused, and the error says what a limiter needs."""
    with pytest.raises(InvalidRequestError, match=r"async context manager.*async def acquire"):
        shared_limiter(wrong, SessionTasks())
