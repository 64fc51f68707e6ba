"""Cleaning up waits however often it is cancelled, never for itself, and within a limit."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import weakref

import pytest

from aioparticipants import InvalidRequestError, SessionClosedError
from aioparticipants._tasks import ClosedAtEnd, SessionTasks, wait_ignoring_cancellation

from .sweeps import turns


async def stubborn(count):
    """End `count` turns of the loop after a cancellation."""
    try:
        await asyncio.Event().wait()
    finally:
        await turns(count)


@pytest.mark.parametrize("count", [0, 1, 5, 50])
async def test_cancelled_on_every_turn(count):
    """A caller that is cancelled on every turn waits to the end, and raises the first one."""
    work = asyncio.create_task(stubborn(count))
    await turns(1)
    work.cancel()
    closer = asyncio.create_task(wait_ignoring_cancellation([work]))
    await asyncio.sleep(0)
    for number in range(1000):
        if closer.done():
            break
        closer.cancel(f"number {number}")
        await asyncio.sleep(0)

    assert closer.done()
    assert work.done()
    with pytest.raises(asyncio.CancelledError, match="number 0"):
        await closer


async def test_a_task_that_does_not_end(caplog):
    """A task that has not ended within the time limit is left, and its name is logged."""
    done = asyncio.Event()
    task = asyncio.create_task(done.wait(), name="aioparticipants something")
    with caplog.at_level(logging.WARNING, "aioparticipants"):
        await wait_ignoring_cancellation([task], seconds=0.01)

    assert [each.getMessage() for each in caplog.records] == [
        "Not ended after 0.01 s, and left behind: aioparticipants something"
    ]
    done.set()
    await task


@pytest.mark.parametrize("direct", [False, True])
async def test_no_task_waits_for_itself(direct):
    """It does not wait for its own task, nor for a task that waits for that one."""
    started = asyncio.Event()

    async def closes():
        await started.wait()
        await wait_ignoring_cancellation([inner, outer], seconds=3600)

    async def waits():
        if direct:
            await inner
        else:
            await wait_ignoring_cancellation([inner], seconds=3600)

    inner = asyncio.create_task(closes())
    outer = asyncio.create_task(waits())
    await turns(1)
    started.set()
    await asyncio.wait_for(asyncio.gather(inner, outer), 5)


async def test_several_wait_for_each_other():
    """Five tasks, each of which waits for the next one, end."""

    async def waits(number):
        await turns(number)
        await wait_ignoring_cancellation([tasks[(number + 1) % len(tasks)]], seconds=3600)

    tasks = [asyncio.create_task(waits(number)) for number in range(5)]
    await asyncio.wait_for(asyncio.gather(*tasks), 5)


async def test_the_cancellation_is_in_no_reference_cycle():
    """The CancelledError that is raised, and its frames, are freed without the collector."""

    class Held:
        """Something that a frame refers to."""

    async def main():
        held = Held()
        seen.append(weakref.ref(held))
        await wait_ignoring_cancellation([work])

    seen = []
    work = asyncio.create_task(stubborn(3))
    await turns(1)
    work.cancel()
    gc.disable()
    try:
        closer = asyncio.create_task(main())
        await turns(1)
        closer.cancel()
        await asyncio.wait([closer])
        del closer
        assert seen[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("error", "raised"), [(None, True), (KeyError(), True), (asyncio.CancelledError(), False)]
)
async def test_a_cancellation_during_the_end_of_a_block(error, raised):
    """It replaces any exception that ended the block, except an earlier cancellation."""

    class Closed(ClosedAtEnd):
        async def aclose(self):
            raise asyncio.CancelledError

    leaving = Closed().__aexit__(None, error, None)
    if raised:
        with pytest.raises(asyncio.CancelledError):
            await leaving
    else:
        await leaving


async def test_a_release_starts_while_the_session_closes():
    """A release that a cancelled task starts is cancelled as well, and waited for."""
    tasks, released = SessionTasks(), []

    async def release(seconds):
        await asyncio.sleep(seconds)
        released.append(seconds)

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            for seconds in (0, 3600):
                tasks.start_release(release(seconds))
            await turns(3)

    tasks.start(work, contextvars.copy_context(), "aioparticipants page")
    await turns(1)
    await tasks.aclose()

    assert released == [0]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_on_another_loop():
    """Tasks of another loop are cancelled on that loop, and not waited for."""
    tasks = SessionTasks()
    work = tasks.start(lambda: stubborn(1), contextvars.copy_context(), "aioparticipants page")
    await turns(1)
    await asyncio.to_thread(asyncio.run, tasks.aclose())
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_sleeping():
    """A sleep ends after its seconds, or at once as the session is closed: then with an error."""
    tasks = SessionTasks()
    await tasks.sleep(0)
    sleeping = [asyncio.create_task(tasks.sleep(3600)) for _ in range(3)]
    await turns(2)
    sleeping[0].cancel()
    await turns(2)
    assert [each.done() for each in sleeping] == [True, False, False]
    await tasks.aclose()
    await asyncio.wait_for(asyncio.wait(sleeping), 5)
    for each in (sleeping[1], sleeping[2], asyncio.create_task(tasks.sleep(0))):
        with pytest.raises(SessionClosedError):
            await each
    await tasks.aclose()


async def test_sleeping_while_another_loop_closes():
    """A sleep ends on its own loop, even if the session is closed on others, and at once."""
    tasks = SessionTasks()
    sleeping = asyncio.create_task(tasks.sleep(3600))
    await turns(2)
    for _ in range(2):
        await asyncio.to_thread(asyncio.run, tasks.aclose())
    with pytest.raises(SessionClosedError):
        await sleeping


def test_closing_after_the_loop_of_a_sleep():
    """A session can be closed after the loop on which somebody slept."""
    tasks = SessionTasks()
    asyncio.run(tasks.sleep(0))
    asyncio.run(tasks.aclose())
    assert tasks.closed


def test_a_task_on_another_loop():
    """The tasks of one session are refused on a second loop."""
    tasks = SessionTasks()

    async def start():
        await tasks.start(lambda: turns(1), contextvars.copy_context(), "aioparticipants page")

    asyncio.run(start())
    with pytest.raises(InvalidRequestError, match="another event loop"):
        asyncio.run(start())
