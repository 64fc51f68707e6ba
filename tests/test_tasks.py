"""How cleaning up waits: whoever cancels how often, never for itself, and not for ever."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import weakref

import pytest

from aioparticipants import InvalidRequestError
from aioparticipants._tasks import ClosedAtEnd, SessionTasks, wait_ignoring_cancellation

from .sweeps import turns


async def stubborn(patience):
    """End `patience` turns of the loop after a cancellation."""
    try:
        await asyncio.Event().wait()
    finally:
        await turns(patience)


@pytest.mark.parametrize("patience", [0, 1, 5, 50])
async def test_cancelled_on_every_turn(patience):
    """A caller that is cancelled on every turn waits to the end, and raises the first that came."""
    work = asyncio.create_task(stubborn(patience))
    await turns(1)
    work.cancel()
    closer = asyncio.create_task(wait_ignoring_cancellation([work]))
    await asyncio.sleep(0)
    for count in range(1000):
        if closer.done():
            break
        closer.cancel(f"number {count}")
        await asyncio.sleep(0)

    assert closer.done()
    assert work.done()
    with pytest.raises(asyncio.CancelledError, match="number 0"):
        await closer


async def test_what_does_not_end(caplog):
    """What has not ended within the bound is left behind, and logged by its name."""
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
    """A task that is among those to wait for is left out, and one that waits for it as well."""
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
    """A circle of tasks that wait for each other ends, however long it is."""

    async def waits(number):
        await turns(number)
        await wait_ignoring_cancellation([tasks[(number + 1) % len(tasks)]], seconds=3600)

    tasks = [asyncio.create_task(waits(number)) for number in range(5)]
    await asyncio.wait_for(asyncio.gather(*tasks), 5)


async def test_what_was_raised_is_not_kept():
    """The cancellation that is raised needs no collector, nor does what its frames hold."""

    class Held:
        """What a frame holds."""

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
    """It replaces whatever ended the block, but for an earlier cancellation."""

    class Closed(ClosedAtEnd):
        async def aclose(self):
            raise asyncio.CancelledError

    leaving = Closed().__aexit__(None, error, None)
    if raised:
        with pytest.raises(asyncio.CancelledError):
            await leaving
    else:
        await leaving


async def test_a_release_begins_while_all_is_closed():
    """What is given back by a task that is being cancelled is waited for, and then cancelled."""
    tasks, given_back = SessionTasks(), []

    async def give_back(seconds):
        await asyncio.sleep(seconds)
        given_back.append(seconds)

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            for seconds in (0, 3600):
                tasks.start_release(give_back(seconds))
            await turns(3)

    tasks.start(work, contextvars.copy_context(), "aioparticipants page")
    await turns(1)
    await tasks.aclose()

    assert given_back == [0]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_on_another_loop():
    """Tasks of another loop are cancelled there, and not waited for here."""
    tasks = SessionTasks()
    work = tasks.start(lambda: stubborn(1), contextvars.copy_context(), "aioparticipants page")
    await turns(1)
    await asyncio.to_thread(asyncio.run, tasks.aclose())
    with pytest.raises(asyncio.CancelledError):
        await work


def test_a_task_on_another_loop():
    """A session that is in use on one loop is refused on another."""
    tasks = SessionTasks()

    async def start():
        await tasks.start(lambda: turns(1), contextvars.copy_context(), "aioparticipants page")

    asyncio.run(start())
    with pytest.raises(InvalidRequestError, match="another event loop"):
        asyncio.run(start())
