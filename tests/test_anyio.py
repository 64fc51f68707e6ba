"""Inside anyio: its scopes cancel on every turn of the loop, and must get their own error back.

Each test also runs with a control that does not use this package, to show that anyio itself does
what the test expects.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager

import anyio
import pytest

from aioparticipants import InsightsSession
from aioparticipants.testing import FakeInsights

from . import watchdog
from .sweeps import (
    COUNT,
    LOOPS,
    SID,
    SIZE,
    held,
    on_loops,
    own_tasks,
    swept,
    swept_on,
    turns,
)
from .telemetry import until

#: Seconds until a scope is cancelled: long enough to send the requests, which are never answered.
SOON = 0.03
FOREVER = 3600


class BoomError(Exception):
    """The failure of a sibling task."""


class Bench:
    """A session on a server that never answers."""

    def __init__(self, fake, session):
        self.fake = fake
        self.session = session

    async def check(self):
        """Check that nothing is left, and that the session can still be used."""
        assert held(self.session) == (0, 0, 0)
        if repr(self.session).endswith("open>"):
            self.fake.latency = 0
            assert len(await self.session.participants(SID)) == COUNT


@asynccontextmanager
async def bench():
    """Run a server that never answers, and a session on it; check that nothing is left."""
    async with FakeInsights(latency=FOREVER) as fake:
        fake.add_conference(COUNT, conference_sid=SID)
        async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
            yield Bench(fake, session)
    assert own_tasks() == []


# --- The work that is cancelled ---


async def control(at):
    await asyncio.Event().wait()


async def awaited(at):
    await at.session.participants(SID)


async def opened(at):
    async with at.session.participants(SID) as stream:
        async for _ in stream:
            pass


async def iterated(at):
    async for _ in at.session.participants(SID):
        pass


async def by_page(at):
    async with at.session.participants(SID) as stream:
        async for _ in stream.pages():
            pass


async def in_the_body(at):
    """Wait in the block of a stream while its next page is being fetched."""
    at.fake.latency = 0
    async with at.session.participants(SID, page_size=SIZE) as stream:
        at.fake.latency = FOREVER
        asking = asyncio.ensure_future(anext(stream))
        await asyncio.wait([asking], timeout=SOON / 3)
        asking.cancel()
        await asyncio.Event().wait()


async def fan_out_opened(at):
    async with at.session.fan_out([SID, SID]) as fan_out:
        async for _ in fan_out:
            pass


async def fan_out_iterated(at):
    async for _ in at.session.fan_out([SID, SID]):
        pass


async def merged_opened(at):
    async with at.session.fan_out([SID, SID]).participants() as records:
        async for _ in records:
            pass


async def session_block(at):
    async with InsightsSession(at.fake.credentials, base_url=at.fake.base_url) as session:
        await session.participants(SID)


async def session_closed(at):
    """Close the session after the wait, in a scope that continues to cancel."""
    try:
        await at.session.participants(SID)
    finally:
        await at.session.aclose()


async def all_closed(at):
    """Close a stream, a fan-out and the session, each of them busy, after the wait."""
    stream, fan_out = at.session.participants(SID), at.session.fan_out([SID])
    readers = [asyncio.ensure_future(anext(each)) for each in (stream, fan_out)]
    try:
        await asyncio.Event().wait()
    finally:
        try:
            await stream.aclose()
        finally:
            try:
                await fan_out.aclose()
            finally:
                for reader in readers:
                    reader.cancel()
                await at.session.aclose()


WORK = [
    control,
    awaited,
    opened,
    iterated,
    by_page,
    in_the_body,
    fan_out_opened,
    fan_out_iterated,
    merged_opened,
    session_block,
    session_closed,
    all_closed,
]
#: Work whose tasks end some turns of the loop later, as nothing awaits their end.
BARE = {iterated, fan_out_iterated, in_the_body, all_closed}

each_work = pytest.mark.parametrize("work", WORK)


def benched(work, scene):
    """Run a scene around some work, with a new session; a hang is a failure."""

    async def main():
        async with bench() as at:
            await scene(at)
            if work in BARE:
                await turns(1)
                gc.collect()  # a caught error and its frames refer to each other
                await turns(10)
            await at.check()

    watchdog.run(main())


# --- Timeouts ---


@each_work
def test_fail_after(work):
    """`fail_after` around any of it ends in its TimeoutError."""

    async def scene(at):
        with pytest.raises(TimeoutError) as caught:
            with anyio.fail_after(SOON):
                await work(at)
        assert type(caught.value) is TimeoutError

    benched(work, scene)


def test_fail_after_within_a_second():
    """A scope with a shorter timeout ends a list that takes a second."""

    async def main():
        async with bench() as at:
            at.fake.latency = 1.0
            with pytest.raises(TimeoutError):
                with anyio.fail_after(0.3):
                    await at.session.participants(SID)
            assert held(at.session) == (0, 0, 0)

    watchdog.run(main())


@each_work
def test_move_on_after(work):
    """`move_on_after` around any of it catches its own cancellation, and execution continues."""

    async def scene(at):
        with anyio.move_on_after(SOON) as scope:
            await work(at)
        assert scope.cancelled_caught
        await asyncio.sleep(0)
        assert asyncio.current_task().cancelling() == 0

    benched(work, scene)


@each_work
def test_nested_scopes(work):
    """Of nested scopes the one that was cancelled catches it, and the others continue."""

    async def scene(at):
        with anyio.CancelScope() as outer:
            with anyio.move_on_after(SOON) as inner:
                with anyio.CancelScope() as innermost:
                    await work(at)
            assert inner.cancelled_caught
            await asyncio.sleep(0)
        assert not innermost.cancelled_caught
        assert not outer.cancelled_caught

    benched(work, scene)


@each_work
def test_an_outer_scope(work):
    """An outer scope catches its own cancellation through an inner one that is not cancelled."""

    async def scene(at):
        continued = False
        with anyio.move_on_after(SOON) as outer:
            with anyio.fail_after(FOREVER) as inner:
                await work(at)
            continued = True
        assert outer.cancelled_caught
        assert not inner.cancelled_caught
        assert not continued

    benched(work, scene)


# --- Scopes and task groups that are cancelled ---


@each_work
def test_cancelled_scope(work):
    """A scope that another callback cancels catches its cancellation."""

    async def scene(at):
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_later(SOON, scope.cancel)
            await work(at)
        assert scope.cancelled_caught

    benched(work, scene)


@each_work
def test_scope_that_is_already_cancelled(work):
    """In a scope that is already cancelled, the work ends at its first wait."""

    async def scene(at):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await work(at)
        assert scope.cancelled_caught

    benched(work, scene)


@each_work
def test_cancelled_task_group(work):
    """A task group that is cancelled ends without an error."""

    async def scene(at):
        async with anyio.create_task_group() as group:
            group.start_soon(work, at)
            await asyncio.sleep(SOON)
            group.cancel_scope.cancel()

    benched(work, scene)


@each_work
def test_failing_sibling(work):
    """If a sibling task fails, the task group raises that failure alone."""

    async def fail():
        await asyncio.sleep(SOON)
        raise BoomError

    async def scene(at):
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(work, at)
                group.start_soon(fail)
        assert [type(each) for each in caught.value.exceptions] == [BoomError]

    benched(work, scene)


# --- anyio and asyncio, one inside the other ---


@each_work
def test_native_cancellation(work):
    """A `task.cancel()` inside a scope that is not cancelled ends the task as cancelled."""

    async def scene(at):
        async def main():
            with anyio.fail_after(FOREVER) as scope:
                await work(at)
            pytest.fail(f"the scope caught it: {scope}")

        task = asyncio.create_task(main())
        await asyncio.sleep(SOON)
        task.cancel("native")
        await asyncio.wait([task])
        with pytest.raises(asyncio.CancelledError, match="native"):
            task.result()

    benched(work, scene)


@each_work
@pytest.mark.parametrize("first", ["scope", "task"])
def test_both_at_once(work, first):
    """A `task.cancel()` is not lost if a scope is cancelled in the same turn of the loop."""

    async def scene(at):
        scopes = []

        async def main():
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await work(at)
            await asyncio.Event().wait()

        task = asyncio.create_task(main())
        await asyncio.sleep(SOON)
        cancel = [scopes[0].cancel, task.cancel]
        for each in cancel if first == "scope" else reversed(cancel):
            each()
        await asyncio.wait([task])
        assert task.cancelled()

    benched(work, scene)


@pytest.mark.parametrize("work", [work for work in WORK if work is not iterated])
def test_native_timeout(work):
    """`asyncio.timeout` between two scopes ends in its own TimeoutError."""

    async def scene(at):
        with anyio.fail_after(FOREVER):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SOON):
                    with anyio.CancelScope():
                        await work(at)
        assert asyncio.current_task().cancelling() == 0

    benched(work, scene)


@pytest.mark.parametrize("closed", ["stream", "fan-out", "session"])
def test_closing_in_a_cancelled_scope(closed):
    """Closing completes even in a scope that is already cancelled."""

    async def main():
        async with bench() as at:
            stream, fan_out = at.session.participants(SID), at.session.fan_out([SID])
            if closed != "fan-out":
                reader = asyncio.ensure_future(anext(stream))
            else:
                reader = asyncio.ensure_future(anext(fan_out))
            await until(lambda: at.session.stats.in_flight)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await {"stream": stream, "fan-out": fan_out, "session": at.session}[closed].aclose()
            assert scope.cancelled_caught
            assert held(at.session) == (0, 0, 0)
            await asyncio.wait([reader])
            assert not reader.cancelled()
            assert reader.exception() is not None

    watchdog.run(main())


@pytest.mark.parametrize("closed", ["stream", "fan-out", "session"])
def test_closing_in_a_shielded_scope(closed):
    """Closing completes in a shielded scope, which anyio's manual recommends."""

    async def main():
        async with bench() as at:
            stream, fan_out = at.session.participants(SID), at.session.fan_out([SID])
            busy = fan_out if closed == "fan-out" else stream
            shielded = False
            with anyio.move_on_after(SOON) as scope:
                try:
                    await anext(busy)
                finally:
                    with anyio.CancelScope(shield=True):
                        await (at.session if closed == "session" else busy).aclose()
                        shielded = True
            assert scope.cancelled_caught
            assert shielded
            assert held(at.session) == (0, 0, 0)

    watchdog.run(main())


# --- At every await ---


async def swept_listed(session, found):
    found += await session.participants(SID, page_size=SIZE)


async def swept_opened(session, found):
    async with session.participants(SID, page_size=SIZE) as stream:
        async for each in stream:
            found.append(each)


async def swept_fanned(session, found):
    async with session.fan_out([SID], page_size=SIZE).participants() as records:
        async for each in records:
            found.append(each)


class ScopedAt:
    """An awaitable that runs a coroutine, and cancels a scope at its k-th suspension."""

    def __init__(self, coroutine, k, scope):
        self.coroutine = coroutine
        self.k = k
        self.scope = scope
        self.suspensions = 0

    def __await__(self):
        error = None
        while True:
            try:
                waited = self.coroutine.send(None) if error is None else self.coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                error = None  # else the frame and the exception would refer to each other
            self.suspensions += 1
            if self.suspensions == self.k:
                self.scope.cancel()
            try:
                yield waited
            except BaseException as thrown:  # noqa: BLE001 - it is thrown into the coroutine
                error = thrown


async def scoped_at(coroutine, k):
    """Run a coroutine in a scope, cancelled at the k-th suspension; return if it got that far."""
    with anyio.CancelScope() as scope:
        run = ScopedAt(coroutine, k, scope)
        await run
    assert scope.cancelled_caught == scope.cancel_called
    assert asyncio.current_task().cancelling() == 0
    return scope.cancel_called


@on_loops("consume", [swept_listed, swept_opened, swept_fanned])
def test_scope_cancelled_at_every_await(new_loop, consume):
    """Wherever a scope is cancelled, it gets its own cancellation back, and nothing is left."""

    async def once(session, everyone, k):
        found = []
        was_hit = await scoped_at(consume(session, found), k)
        assert held(session) == (0, 0, 0), k
        assert [each.participant_sid for each in found] == everyone[SID][: len(found)]
        return was_hit

    assert swept(new_loop, once) > 3


@pytest.mark.parametrize("new_loop", LOOPS)
def test_session_in_a_scope_cancelled_at_every_await(new_loop):
    """Wherever the scope around a session's block is cancelled, the session is closed."""

    async def once(fake, k):
        session = InsightsSession(fake.credentials, base_url=fake.base_url)

        async def block():
            async with session:
                await session.participants(SID, page_size=SIZE)

        was_hit = await scoped_at(block(), k)
        assert repr(session).endswith("closed>")
        assert held(session) == (0, 0, 0), k
        return was_hit

    assert swept_on(new_loop, once) > 3
