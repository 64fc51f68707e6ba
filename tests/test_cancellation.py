"""Cancelled, dropped and closed at every moment there is: nothing is lost, nothing stays behind.

The sweeps count a consumer's suspensions, and cancel it at the first of them, then at the second,
and so on until one run is through without being hit: so no await of ours is left out.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from contextlib import suppress

import pytest
import uvloop

from aioparticipants import InsightsSession, RetryPolicy, SessionClosedError
from aioparticipants.testing import FakeInsights
from aioparticipants.testing._fake import _Query

from .servers import http as reply_of
from .servers import last_page, raw

SID = "CF" + "a" * 32
SIZE = 2
COUNT = 5  # three pages
PAGE_TASK = "aioparticipants page"


class Cancelled:
    """An awaitable that runs a coroutine, and cancels its task at its k-th suspension.

    It cancels as anyone does, by the task: what is thrown into the coroutine is asyncio's doing.
    """

    def __init__(self, coroutine, *at):
        self.coroutine = coroutine
        self.at = at
        self.suspensions = 0

    def __await__(self):
        error = None
        while True:
            try:
                waited = self.coroutine.send(None) if error is None else self.coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                error = None  # else the frame and the exception would hold each other
            self.suspensions += 1
            if self.suspensions in self.at:
                asyncio.current_task().cancel()
            try:
                yield waited
            except BaseException as thrown:  # noqa: BLE001 - it is handed on
                error = thrown


def page_tasks():
    """Return the page tasks that are alive."""
    return [task for task in asyncio.all_tasks() if task.get_name() == PAGE_TASK]


def held(session):
    """Return what a session holds: page tasks, slots and connections."""
    http = session._transport._http
    acquired = len(http.connector._acquired) if http is not None and http.connector else 0
    slots = session._transport._connections - session._slots._value
    return len(page_tasks()), slots, acquired


async def iterated(stream, found):
    async for record in stream:
        found.append(record.participant_sid)


async def opened(stream, found):
    async with stream:
        await iterated(stream, found)


async def broken_off(stream, found):
    async with stream:
        async for record in stream:
            found.append(record.participant_sid)
            if len(found) == SIZE + 1:
                break


async def by_page(stream, found):
    async with stream:
        async for page in stream.pages():
            found.extend(each.participant_sid for each in page.records)


async def listed(stream, found):
    found.extend(each.participant_sid for each in await stream)


# libuv keeps a pipe of its own from its first loop on; without this it would look like a leak.
uvloop.new_event_loop().close()

CONSUMERS = [opened, broken_off, by_page, listed, iterated]
LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
]
if sys.version_info >= (3, 12):

    def eager():
        """Return a loop whose tasks take their first step as they are made."""
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    LOOPS.append(pytest.param(eager, id="eager"))


#: What becomes of the requests of a sweep: nothing; two refusals; a body that is bad half-way.
FAULTS = pytest.mark.parametrize(
    "faults",
    [{}, {"status": 503, "times": 2}, {"status": 200, "times": 1}],
    ids=["ok", "503", "bad body"],
)


def half_bad(fake):
    """Return the body of the first page, with something in it that is no JSON."""
    page = fake._new_page(SID, _Query(size=SIZE, start=0, filters={}))
    before, record = page.rsplit(b'{"participant_sid"', 1)
    return before + b'!{"participant_sid"' + record


async def served(work, **faults):
    """Run `work(fake, session)` against a conference of three pages, and look what it left."""
    lost = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    async with FakeInsights() as fake:
        sid = fake.add_conference(participants=COUNT, conference_sid=SID)
        if faults:
            fake.fail_next(**faults, body=half_bad(fake) if faults["status"] == 200 else None)
        retry = RetryPolicy(base_delay=0.001)
        async with InsightsSession(
            fake.credentials, base_url=fake.base_url, retry=retry
        ) as session:
            result = await work(session, [each["participant_sid"] for each in fake.records(sid)])
            assert held(session) == (0, 0, 0)
    gc.collect()
    assert lost == []
    return result


async def hit(session, consume, at):
    """Cancel a consumer at its suspensions `at`; return what it found, and whether it was hit."""
    found = []
    run = Cancelled(consume(session.participants(SID, page_size=SIZE), found), *at)

    async def main():
        await run

    task = asyncio.create_task(main())
    # No exception is kept here: its traceback would hold the stream.
    await asyncio.wait([task])
    if consume is iterated:
        for _ in range(3):  # a dropped stream is gone within three turns of the loop
            await asyncio.sleep(0)
    assert task.cancelled() or task.exception() is None
    return found, run.suspensions >= at[0]


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("consume", CONSUMERS)
@pytest.mark.parametrize("times", [1, 2])
@FAULTS
def test_cancelled_at_every_await(new_loop, consume, times, faults):
    """Wherever a consumer is cancelled, once or twice, it leaves no task, slot or connection."""

    async def sweep():
        for k in range(1, 500):

            async def once(session, everyone, k=k):
                found, was_hit = await hit(session, consume, range(k, k + times))
                if consume is iterated:
                    gc.collect()
                    await asyncio.sleep(0)
                assert held(session) == (0, 0, 0), k
                assert found == everyone[: len(found)]
                # The session is as good as new.
                assert len(await session.participants(SID)) == COUNT
                return was_hit

            if not await served(once, **faults):
                return k
        return None

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(sweep()) > 4


async def cancel(task, stream, session):
    task.cancel()
    await asyncio.wait([task])


async def close(task, stream, session):
    await stream.aclose()
    await asyncio.wait([task])


async def close_session(task, stream, session):
    await session.aclose()
    await asyncio.wait([task])


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("end", [cancel, close, close_session])
@FAULTS
def test_ended_at_every_turn_of_the_loop(new_loop, end, faults):
    """Whatever a page is at, in whatever turn of the loop, ending its stream leaves nothing."""

    async def sweep():
        for turns in range(2000):

            async def once(session, everyone, turns=turns):
                stream = session.participants(SID, page_size=SIZE)
                found = []
                task = asyncio.create_task(opened(stream, found))
                for _ in range(turns):
                    if task.done():
                        break
                    await asyncio.sleep(0)
                done = task.done()
                await end(task, stream, session)
                assert held(session) == (0, 0, 0), turns
                assert found == everyone[: len(found)]
                if end is close_session and not done:
                    assert task.done()
                    assert isinstance(task.exception(), SessionClosedError | None)
                return not done

            if not await served(once, **faults):
                return turns
        return None

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(sweep()) > 10


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("by", ["record", "page"])
@FAULTS
def test_goes_on_after_every_cancellation(new_loop, by, faults):
    """Wherever a wait is cancelled, asking again goes on: each record once, each page once."""

    async def sweep():
        for k in range(1, 500):

            async def once(session, everyone, k=k):
                async with session.participants(SID, page_size=SIZE) as stream:
                    found, ended = [], False
                    source = stream if by == "record" else stream.pages()

                    async def read():
                        nonlocal ended
                        async for each in source:
                            found.extend([each] if by == "record" else each.records)
                        ended = True

                    run = Cancelled(read(), k)

                    async def main():
                        await run

                    task = asyncio.create_task(main())
                    await asyncio.wait([task])
                    assert task.cancelled() or ended
                    await read()
                assert [each.participant_sid for each in found] == everyone
                return run.suspensions >= k

            if not await served(once, **faults):
                return k
        return None

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(sweep()) > 3


@pytest.mark.parametrize("new_loop", LOOPS)
def test_polling(new_loop):
    """A consumer whose patience ends again and again gets every record once, and then the end."""

    async def poll(session, everyone):
        found = []
        async with session.participants(SID, page_size=SIZE) as stream:
            while True:
                try:
                    async with asyncio.timeout(0):
                        found.append((await anext(stream)).participant_sid)
                except TimeoutError:
                    await asyncio.sleep(0)
                except StopAsyncIteration:
                    break
        assert found == everyone

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(served(poll))


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("what", ["stream", "session"])
def test_closing_is_swept_too(new_loop, what):
    """Closing that is itself cancelled, at any await and twice, still leaves nothing."""

    async def sweep():
        for k in range(1, 50):

            async def once(session, everyone, k=k):
                stream = session.participants(SID, page_size=SIZE)
                await anext(stream)
                run = Cancelled((stream if what == "stream" else session).aclose(), k, k + 1)

                async def main():
                    await run

                task = asyncio.create_task(main())
                await asyncio.wait([task])
                assert held(session) == (0, 0, 0)
                assert task.cancelled() == (run.suspensions >= k)
                if what == "session":
                    assert session._transport._http.closed
                    with pytest.raises(SessionClosedError):
                        while True:
                            await anext(stream)
                return run.suspensions >= k

            if not await served(once):
                return k
        return None

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(sweep()) > 1


# --- The session closes while somebody waits ---


async def waiting_for_the_head(found):
    return await told(found, ...)


async def waiting_for_the_body(found):
    return await told(found, reply_of(b'{"participants": [', length=1000))


async def waiting_for_a_better_time(found):
    retry = RetryPolicy(base_delay=60, max_delay=60)
    return await told(found, reply_of(b"", "503 Unavailable"), retry=retry)


async def waiting_for_a_slot(found):
    return await told(found, ..., max_concurrency=1, rivals=1)


async def told(found, reply, *, rivals=0, **options):
    """Read a page whose next one never comes; close the session; return what the reader got."""
    link = f"https://insights.twilio.com/v1/Conferences/{SID}/Participants?Page=1"
    first = reply_of(last_page({"participant_sid": "CP1"}).replace(b"null", f'"{link}"'.encode()))
    async with raw(first, reply) as server:
        session = InsightsSession(("AC1", "x"), base_url=server.base_url, **options)
        stream = session.participants(SID)
        found.append((await anext(stream)).participant_sid)
        others = [
            asyncio.ensure_future(session.participants(SID)._collect()) for _ in range(rivals)
        ]
        readers = [asyncio.ensure_future(anext(stream)), *others]
        while len(server.heads) < 2:  # noqa: ASYNC110 - turns of the loop, not time
            await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0)
        assert not any(reader.done() for reader in readers)
        await session.aclose()
        await asyncio.sleep(0)
        assert all(reader.done() for reader in readers)
        assert held(session) == (0, 0, 0)
        errors = [reader.exception() for reader in readers]
        assert errors[0].cursor == stream.cursor
        await stream.aclose()
        return [type(error) for error in errors]


@pytest.mark.parametrize(
    "state",
    [
        waiting_for_the_head,
        waiting_for_the_body,
        waiting_for_a_better_time,
        waiting_for_a_slot,
    ],
)
async def test_closing_the_session_in_every_state(state):
    """Whoever waits as the session closes is told so at once, whatever it is that he waits for."""
    found = []

    assert {*await state(found)} == {SessionClosedError}
    assert found == ["CP1"]


async def test_closing_an_idle_session(fake):
    """A stream that nobody reads while its session closes gives what it has, and then the error."""
    sid = fake.add_conference(participants=COUNT)
    session = InsightsSession(fake.credentials, base_url=fake.base_url)
    stream = session.participants(sid, page_size=SIZE)
    fresh = session.participants(sid)
    await anext(stream)
    await session.aclose()

    found = 1
    with pytest.raises(SessionClosedError) as caught:
        async for _ in stream:
            found += 1
    assert found >= SIZE
    with pytest.raises(SessionClosedError):
        await fresh
    async with InsightsSession(fake.credentials, base_url=fake.base_url) as other:
        rest = await other.participants(sid, resume=caught.value.cursor)
        assert found + len(rest) == COUNT
    await stream.aclose()


async def test_many_at_once_are_all_told(fake):
    """Of fifty readers of one session, each is told that it closed; none hangs or vanishes."""
    sid = fake.add_conference(participants=COUNT)
    fake.latency = 3600
    session = InsightsSession(fake.credentials, base_url=fake.base_url, max_concurrency=3)
    async with asyncio.TaskGroup() as group:

        async def read():
            with pytest.raises(SessionClosedError):
                await session.participants(sid)

        tasks = [group.create_task(read()) for _ in range(50)]
        await asyncio.sleep(0.01)
        await session.aclose()

    assert all(task.done() and not task.cancelled() for task in tasks)


async def test_used_from_task_after_task(fake):
    """A stream may be read by one task after another, and outlives the one that is cancelled."""
    sid = fake.add_conference(participants=COUNT)
    async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
        stream = session.participants(sid, page_size=SIZE)

        async def read(count):
            return [(await anext(stream)).participant_sid for _ in range(count)]

        first = await asyncio.create_task(read(2))
        fake.latency = 0.05
        second = asyncio.create_task(read(2))
        await asyncio.sleep(0)
        second.cancel()
        with suppress(asyncio.CancelledError):
            await second
        rest = await asyncio.create_task(read(3))
        assert first + rest == [each["participant_sid"] for each in fake.records(sid)]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        await stream.aclose()


def test_a_run_that_ends_around_a_stream(recwarn, caplog):
    """asyncio.run ends without a sound around streams in every state, over real sockets."""

    async def main():
        fake = FakeInsights()
        await fake.start()
        fake.add_conference(participants=COUNT, conference_sid=SID)
        session = InsightsSession(fake.credentials, base_url=fake.base_url)
        kept = [session.participants(SID, page_size=SIZE) for _ in range(3)]
        await anext(kept[0])
        async for _ in kept[1]:
            pass
        await session.aclose()
        await fake.aclose()
        return kept

    kept = asyncio.run(main())
    assert [type(each).__name__ for each in kept] == ["RecordStream"] * 3
    del kept
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []
    assert caplog.records == []
