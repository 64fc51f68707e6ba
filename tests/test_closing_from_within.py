"""User code that runs in a task of a stream, fan-out or session may close it: nothing hangs.

That is a source of SIDs, a trace hook or an event callback. Closing must not wait for the task that
calls it, nor for one that waits for that task.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import aiohttp
import pytest

from aioparticipants import (
    InsightsError,
    InsightsSession,
    InvalidRequestError,
    RetryPolicy,
    SessionClosedError,
)
from aioparticipants.testing import FakeInsights

from . import watchdog
from .sweeps import COUNT, SID, SIZE, STYLES, Canceller, own_tasks, turns
from .sweeps import held as held_by
from .telemetry import until

OTHER = "CF" + "b" * 32
SIDS = [SID, OTHER]
ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def own_attempt_allowed(nothing_left_behind, held):
    """Let the scene check what sessions hold.

    When `aclose` returns to a hook, the attempt of that hook is still alive.
    """
    yield
    held.clear()


class Scene:
    """A session on a server, and the stream and fan-out that user code closes."""

    def __init__(self, fake, hooks):
        self.fake = fake
        self.session = InsightsSession(
            fake.credentials,
            base_url=fake.base_url,
            retry=RetryPolicy(base_delay=0.001),
            trace_configs=[] if hooks is None else [hooks],
            on_event=self.on_event,
        )
        self.stream = self.session.participants(SID, page_size=SIZE)
        self.fan_out = None
        self.reaction = lambda _: None
        self.begun = self.ended = 0
        """Calls of user code that close something."""

    def on_event(self, event):
        self.reaction(event)

    def begin(self, source):
        self.fan_out = self.session.fan_out(source, page_size=SIZE)
        return self.fan_out

    async def close(self, what):
        """Close something, and count that this began and ended."""
        self.begun += 1
        try:
            await getattr(self, what).aclose()
        finally:  # the reader's error may end this call before it returns
            self.ended += 1

    async def check(self):
        """Wait until each call that closes something has ended."""
        await until(lambda: self.ended == self.begun)


@asynccontextmanager
async def scene(hooks=None):
    """Run a server, and a session; check in the end that nothing is left."""
    async with FakeInsights() as fake:
        for sid in SIDS:
            fake.add_conference(COUNT, conference_sid=sid)
        here = Scene(fake, hooks)
        try:
            yield here
        finally:
            await here.session.aclose()
        await turns(2)
        assert held_by(here.session) == (0, 0, 0)
        assert own_tasks() == []
        assert here.ended == here.begun


async def drained(items):
    """Read to the end or to an InsightsError; a CancelledError is raised."""
    with suppress(InsightsError):
        async for _ in items:
            pass


# --- Readers, and the user code that closes ---


async def read_stream(here):
    await drained(here.stream)


async def read_list(here):
    with suppress(InsightsError):
        await here.stream


async def read_opened(here):
    async with here.stream:
        await drained(here.stream)


async def read_conferences(here):
    here.stream = here.session.conferences(created_after=ANY_TIME, page_size=1)
    await drained(here.stream)


async def read_conference(here):
    with suppress(InsightsError):
        await here.session.conference(SID)


async def read_participant(here):
    with suppress(InsightsError):
        await here.session.participant(SID, here.fake.records(SID)[0]["participant_sid"])


async def read_fan_out(here):
    await drained(here.begin(SIDS))


async def read_opened_fan_out(here):
    async with here.begin(SIDS) as fan_out:
        await drained(fan_out)


async def read_merged(here):
    async with here.begin(SIDS).participants() as records:
        await drained(records)


def source_that_closes(what, *, before):
    """Return a reader of a fan-out whose source closes something before or after its first SID."""

    async def read(here):
        async def source():
            if before:
                await here.close(what)
            yield SID
            if not before:
                await here.close(what)
            yield OTHER

        await drained(here.begin(source()))

    return read


def directly(closing):
    return closing


def in_a_task(closing):
    return asyncio.ensure_future(closing)


async def bounded(closing):
    """Wait with a timeout: before Python 3.12 that starts a task."""
    await asyncio.wait_for(closing, 3600)


def hook_that_closes(signal, what, *, by=directly, times=1):
    """Return a trace config with a hook that closes something, the first few times it runs."""
    config, left = aiohttp.TraceConfig(), times

    async def hook(_session, _context, _params):
        nonlocal left
        if left:
            left -= 1
            await by(config.here.close(what))

    getattr(config, signal).append(hook)
    return config


def run(read, hooks=None, *, during=None):
    """Run a reader in a scene, and `during(here, task)` at the same time; a hang is a failure."""

    async def main():
        async with scene(hooks) as here:
            if hooks is not None:
                hooks.here = here
            task = asyncio.create_task(read(here))
            if during is not None:
                await during(here, task)
            if not task.done():
                await asyncio.wait([task])
            await here.check()
            assert here.begun
            if during is None:
                task.result()
            elif not task.cancelled():
                assert isinstance(task.exception(), InsightsError | None)

    watchdog.run(main())


# --- A source of SIDs ---

SOURCES = [
    pytest.param(source_that_closes(what, before=before), id=f"{what}-{when}")
    for what in ("fan_out", "session")
    for before, when in ((True, "before"), (False, "between"))
]


@pytest.mark.parametrize("read", SOURCES)
def test_a_source_that_closes(read):
    """A source may close its own fan-out, or the session: everything ends, itself included."""
    run(read)


@pytest.mark.parametrize("what", ["fan_out", "session"])
def test_no_conference_begins_after_it(what):
    """A SID that a source gives after it has closed its own fan-out is ignored."""

    async def main():
        async with scene() as here:

            async def source():
                await here.close(what)
                yield SID

            await drained(here.begin(source()))
            await here.check()
            assert here.fake.requests == []
            assert here.fan_out.in_flight == 0

    watchdog.run(main())


# --- A trace hook ---

SIGNALS = [
    "on_request_start",
    "on_connection_create_start",
    "on_request_headers_sent",
    "on_request_end",
]
READERS = [
    *(read_stream, read_list, read_opened),
    *(read_conferences, read_conference, read_participant),
]
FAN_OUTS = [read_fan_out, read_opened_fan_out, read_merged]


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("what", ["stream", "session"])
@pytest.mark.parametrize("read", READERS)
def test_a_hook_that_closes(read, what, signal):
    """A trace hook may close the stream of its own page, or the session."""
    run(read, hook_that_closes(signal, what))


@pytest.mark.parametrize("signal", ["on_request_start", "on_request_end"])
@pytest.mark.parametrize("what", ["fan_out", "session"])
@pytest.mark.parametrize("read", FAN_OUTS)
@pytest.mark.parametrize("times", [1, 2])
def test_a_hook_of_a_fan_out(read, what, signal, times):
    """A trace hook of a fan-out's page may close it or the session; so may two at once."""
    run(read, hook_that_closes(signal, what, times=times))


@pytest.mark.parametrize(
    ("read", "what", "by"),
    [
        (read_list, "session", in_a_task),
        (read_fan_out, "fan_out", in_a_task),
        # Before Python 3.12 nothing shows which task waits there: only the time limit ends it.
        (read_list, "session", bounded),
    ],
)
def test_a_hook_that_closes_in_a_task(read, what, by):
    """A hook that waits for a task that closes ends as well: at once, or at the time limit."""
    run(read, hook_that_closes("on_request_start", what, by=by))


# --- An event callback ---


@pytest.mark.parametrize("kind", ["RequestStarted", "RequestFinished", "Page"])
@pytest.mark.parametrize("what", ["stream", "session"])
@pytest.mark.parametrize("read", [*READERS, *FAN_OUTS])
def test_an_event_that_closes(read, what, kind):
    """An event callback may start to close a stream, or the session."""

    async def during(here, task):
        closing = []

        def reaction(event):
            if type(event).__name__.startswith(kind) and not closing:
                closing.append(asyncio.ensure_future(here.close(what)))

        here.reaction = reaction
        await asyncio.wait([task])
        await closing[0]

    run(read, during=during)


# --- A consumer, while another task waits ---


@pytest.mark.parametrize("what", ["stream", "session"])
def test_a_consumer_that_closes_while_another_waits(what):
    """A consumer may close a stream that another task waits for: that one gets an error."""

    async def main():
        async with scene() as here:
            here.fake.latency = 3600
            reader = asyncio.create_task(here.stream.__anext__())
            await until(lambda: here.session.stats.in_flight)
            await here.close(what)
            await asyncio.wait([reader])
            assert isinstance(reader.exception(), InsightsError)
            with pytest.raises(InsightsError):
                await here.stream

    watchdog.run(main())


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("what", ["fan_out", "session"])
def test_a_fan_out_that_is_closed_while_another_waits(what, merged):
    """A consumer may close a fan-out that another task waits for: that one gets an error."""

    async def main():
        async with scene() as here:
            here.fake.latency = 3600
            fan_out = here.begin(SIDS)
            items = fan_out.participants() if merged else fan_out
            reader = asyncio.create_task(items.__anext__())
            await until(lambda: here.session.stats.in_flight)
            await here.close(what)
            await asyncio.wait([reader])
            assert isinstance(reader.exception(), InsightsError)

    watchdog.run(main())


def test_closed_by_itself_while_awaited():
    """Awaiting a list that is closed meanwhile raises an error, and returns no short list."""

    async def main():
        async with scene() as here:
            reading = asyncio.ensure_future(here.stream)
            await until(lambda: here.session.stats.pages > 0)
            here.fake.latency = 3600
            await turns(1)
            await here.close("stream")
            await asyncio.wait([reading])
            assert isinstance(reading.exception(), InvalidRequestError)
            assert reading.exception().cursor

    watchdog.run(main())


# --- Cancelled while user code closes ---


def at_every_turn(read, new_hooks, style):
    """Cancel a reader in the first turn of the loop, in the next run in the second, and so on."""

    async def main():
        k, done = 0, False
        while not done:
            hooks = new_hooks()
            async with scene(hooks) as here:
                if hooks is not None:
                    hooks.here = here
                task = asyncio.create_task(read(here))
                done = await turns(k, task=task)
                await Canceller(task).end(style)
                assert task.cancelled() or done
            k += 1
        return k

    assert watchdog.run(main()) > 3


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("read", SOURCES)
def test_a_source_that_closes_can_be_cancelled(read, style):
    """The reader of a fan-out whose source closes it can be cancelled in any turn of the loop."""
    at_every_turn(read, lambda: None, style)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("read", "what"),
    [
        (read_list, "stream"),
        (read_opened, "session"),
        (read_conferences, "stream"),
        (read_conference, "session"),
        (read_participant, "session"),
        (read_opened_fan_out, "fan_out"),
        (read_merged, "session"),
    ],
)
def test_a_hook_that_closes_can_be_cancelled(read, what, style):
    """The reader of what a trace hook closes can be cancelled in any turn of the loop."""
    at_every_turn(read, lambda: hook_that_closes("on_request_end", what), style)


# --- The end of the event loop ---


@pytest.mark.parametrize("what", ["fan_out", "session"])
def test_a_run_that_ends_in_the_middle(what):
    """`asyncio.run` returns even if its main task leaves such tasks running."""

    async def main():
        fake = FakeInsights()
        await fake.start()
        fake.add_conference(COUNT, conference_sid=SID)
        here = Scene(fake, None)

        async def source():
            yield SID
            await here.close(what)
            await asyncio.Event().wait()

        reader = asyncio.create_task(drained(here.begin(source())))
        await until(lambda: here.begun)
        # The main task awaits none of them; only the server is closed.
        await fake.aclose()
        return here, reader

    here, reader = watchdog.run(main())
    assert reader.done()
    watchdog.run(here.session.aclose())


async def test_closed_by_its_own_hook(fake):
    """A trace hook that closes its session is not cancelled, and continues."""
    continued = []

    async def closes(*_):
        await session.aclose()
        await asyncio.sleep(0)
        continued.append(True)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(closes)
    session = InsightsSession(fake.credentials, base_url=fake.base_url, trace_configs=[trace])
    with pytest.raises(SessionClosedError):
        await session.participants(fake.add_conference(1))
    await session.aclose()

    assert continued == [True]
    assert fake.requests == []
