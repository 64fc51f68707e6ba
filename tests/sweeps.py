"""Sweeps: cancel a consumer at its first suspension, in the next run at its second, and so on.

A sweep ends with the run that completes before it is cancelled. So no `await` of the package is
left out. Other sweeps end a consumer in each turn of the event loop instead.

A sweep cancels once, or again at the next suspension, or on every turn of the loop until the task
is done, as anyio does. The consumer must always end with the first cancellation that it got. A
sweep that hangs or spins fails, and reports where.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import json
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import attrs
import pytest
import uvloop

from aioparticipants import InsightsSession, RetryPolicy
from aioparticipants.testing import FakeInsights
from aioparticipants.testing._faults import FaultQueue

from . import watchdog

SID = "CF" + "a" * 32
SIZE = 2
COUNT = 5  # three pages
#: When the newest conference on the server was created; the others were in the minutes before.
NEWEST = datetime(2026, 3, 2, 12, tzinfo=UTC)

# libuv opens a pipe for its first loop and keeps it: in a test it would look like a leak.
uvloop.new_event_loop().close()

LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
]
if sys.version_info >= (3, 12):

    def eager():
        """Return a loop whose tasks take their first step when they are made."""
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    LOOPS.append(pytest.param(eager, id="eager"))


@attrs.frozen
class Listing:
    """A list that is swept: of COUNT records, in pages of SIZE."""

    name: str
    key: str
    """The member of a page that has the records."""
    conferences: tuple[tuple[str, int], ...]
    """The SIDs of the conferences on the server, and the number of their participants."""
    open: Callable
    """Returns the list's stream, from a session and options."""

    def sid_of(self, record):
        """Return the SID of a record."""
        return record.participant_sid if self is PARTICIPANTS else record.conference_sid

    def expected(self, everyone):
        """Return the SIDs of all records, from the participants' SIDs of each conference."""
        return everyone[SID] if self is PARTICIPANTS else [*everyone]


def participants(session, **options):
    return session.participants(SID, **options)


def conferences(session, **options):
    return session.conferences(created_after=None, **options)


def in_slices(session, **options):
    window = {
        "created_after": NEWEST - timedelta(minutes=10),
        "created_before": NEWEST + timedelta(minutes=5),
    }
    return session.conferences(**window, slices=3, **options)  # a conference is on a seam


SEVERAL = tuple((f"CF{number:032x}", 1) for number in range(COUNT))
PARTICIPANTS = Listing("participants", "participants", ((SID, COUNT),), participants)
CONFERENCES = Listing("conferences", "conferences", SEVERAL, conferences)
SLICES = Listing("slices", "conferences", SEVERAL, in_slices)


def on_loops_and_lists(name, cases):
    """Parametrise a test as `on_loops` does, by lists.

    All cases have a list of participants and one in slices, whose pages come from several tasks.
    The first two have a list of conferences, which is read by the same code as participants.
    """
    mark = on_loops(name, cases)
    names, rows = mark.args
    few = rows[:2]
    return pytest.mark.parametrize(
        (*names, "listing"),
        [
            pytest.param(*row.values, listing, id=f"{row.id}-{listing.name}", marks=row.marks)
            for row in rows
            for listing in (PARTICIPANTS, SLICES, CONFERENCES)
            if listing is not CONFERENCES or row in few
        ],
    )


def on_loops(name, cases):
    """Parametrise a test: all cases on asyncio's own loop, and the first one on the others."""
    own, *others = LOOPS
    return pytest.mark.parametrize(
        ("new_loop", name),
        [
            pytest.param(
                *(*loop.values, case),
                id=f"{loop.id}-{getattr(case, '__name__', case)}",
                marks=pytest.mark.repeats,
            )
            for loop, several in [(own, cases), *((other, cases[:1]) for other in others)]
            for case in several
        ],
    )


#: How the server answers first: normally; twice with an error; with a body that is cut off.
FAULTS = [
    pytest.param({}, id="ok"),
    pytest.param({"status": 503, "times": 2}, id="503"),
    pytest.param({"status": 200}, id="cut off"),
]


#: How often a task is cancelled: once; again at the next suspension; on every turn of the loop
#: until the task is done.
STYLES = ["once", "twice", "level"]

#: Each style without a fault, and each fault with the first style.
styles_and_faults = pytest.mark.parametrize(
    ("style", "faults"),
    [
        pytest.param(style, *faults.values, id=f"{faults.id}-{style}")
        for style in STYLES
        for faults in FAULTS
        if style == STYLES[0] or faults is FAULTS[0]
    ],
)


def cut_off(fake, listing):
    """Return the body of the first page up to its last record."""
    records = fake.records(SID) if listing is PARTICIPANTS else fake.conferences()
    page = {"meta": {"next_page_url": None}, listing.key: records[:SIZE]}
    first_member = next(iter(records[0]))
    return json.dumps(page).encode().rsplit(f'{{"{first_member}"'.encode(), 1)[0]


class Canceller:
    """Cancels a task, and counts how often; each cancellation has its own message."""

    def __init__(self, task):
        self.task = task
        self.count = 0

    def cancel(self):
        """Cancel it once more; return whether it was not done yet."""
        cancelled = self.task.cancel(f"cancellation {self.count + 1}")
        self.count += cancelled
        return cancelled

    def cancel_every_turn(self):
        """Cancel it now, and again on every turn of the loop until it is done."""
        if self.cancel():
            asyncio.get_running_loop().call_soon(self.cancel_every_turn)

    async def end(self, style):
        """Cancel it in a style, and wait until it is done."""
        self.cancel_every_turn() if style == "level" else self.cancel()
        if style == "twice":
            await asyncio.sleep(0)
            self.cancel()
        if not self.task.done():
            await asyncio.wait([self.task])


class Cancelled:
    """An awaitable that runs a coroutine, and cancels its task at some of its suspensions.

    It calls `task.cancel()`, and leaves it to asyncio to throw the CancelledError. With `level` it
    continues to cancel on every turn of the loop.
    """

    def __init__(self, coroutine, *at, level=False):
        self.coroutine = coroutine
        self.at = at
        self.level = level
        self.suspensions = 0
        self.count = 0
        self.came_in = self.came_out = None
        """The first cancellation that the coroutine got, and the one that it raised."""

    def __await__(self):
        error = None
        canceller = Canceller(asyncio.current_task())
        while True:
            try:
                waited = self.coroutine.send(None) if error is None else self.coroutine.throw(error)
            except StopIteration as stop:
                self.count = canceller.count
                return stop.value
            except asyncio.CancelledError as cancelled:
                self.came_out = cancelled.args
                self.count, canceller = canceller.count, None  # for the same reason
                raise
            finally:
                error = None  # else the frame and the exception would refer to each other
            self.suspensions += 1
            if self.suspensions in self.at:
                canceller.cancel_every_turn() if self.level else canceller.cancel()
            try:
                yield waited
            except BaseException as thrown:  # noqa: BLE001 - it is thrown into the coroutine
                if isinstance(thrown, asyncio.CancelledError) and self.came_in is None:
                    self.came_in = thrown.args
                error = thrown


async def cancelled_at(coroutine, *at, level=False, own_finally=False):
    """Cancel a coroutine at its suspensions `at`; return whether it ended so, and got that far.

    With `own_finally` the coroutine awaits something in a `finally` of its own: there a later
    cancellation replaces the first one, as Python defines it.
    """
    run = Cancelled(coroutine, *at, level=level)
    cancelling = 0

    async def main():
        nonlocal cancelling
        try:
            await run
        finally:
            # The package must not call `uncancel()`.
            cancelling = asyncio.current_task().cancelling()

    task = asyncio.create_task(main())
    await asyncio.wait([task])
    # The task is not returned: its exception's traceback would hold what the coroutine held.
    assert task.cancelled() or task.exception() is None
    assert (run.came_out is None) == (run.came_in is None)
    assert own_finally or run.came_out == run.came_in
    assert cancelling == run.count
    return task.cancelled(), run.suspensions >= at[0]


async def cancelled_by(style, coroutine, k, *, own_finally=False):
    """Cancel a coroutine at its k-th suspension, in a style; see `cancelled_at`."""
    at = [k, k + 1] if style == "twice" else [k]
    return await cancelled_at(coroutine, *at, level=style == "level", own_finally=own_finally)


async def turns(count=3, *, task=None):
    """Let the loop run so many turns, or until `task` is done; return whether it is done."""
    for _ in range(count):
        if task is not None and task.done():
            break
        await asyncio.sleep(0)
    return task is not None and task.done()


def own_tasks():
    """Return the tasks of the package that are alive."""
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("aioparticipants ")]


def held(session):
    """Return how many tasks, slots and connections a session holds."""
    http = session._transport._http
    acquired = len(http.connector._acquired) if http is not None and http.connector else 0
    slots = session._limiter.in_flight
    return len(own_tasks()), slots, acquired


@asynccontextmanager
async def serving(conferences):
    """Run a server with conferences; check in the end that no exception was lost."""
    lost = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    async with FakeInsights() as fake:
        for number, (sid, count) in enumerate(conferences):
            created = NEWEST - timedelta(minutes=number)  # in the order of a list, newest first
            fake.add_conference(participants=count, conference_sid=sid, create_time=created)
        yield fake
    gc.collect()
    assert lost == []


async def used(fake, work, *, options=None, listing=PARTICIPANTS, **faults):
    """Run `work(session, everyone)` on a session with options; check that nothing is left.

    `everyone` has the participants' SIDs of each conference.
    """
    options = {"retry": RetryPolicy(base_delay=0.001)} | (options or {})
    fake._faults = FaultQueue()
    if faults:
        fake.fail_next(**faults, body=cut_off(fake, listing) if faults["status"] == 200 else None)
    everyone = {
        sid: [each["participant_sid"] for each in fake.records(sid)]
        for sid in [each["conference_sid"] for each in fake.conferences()]
    }
    async with InsightsSession(fake.credentials, base_url=fake.base_url, **options) as session:
        result = await work(session, everyone)
        assert held(session) == (0, 0, 0)
    return result


async def served(work, conferences=((SID, COUNT),)):
    """Run `work(session, everyone)` on a session with conferences; check that nothing is left."""
    async with serving(conferences) as fake:
        return await used(fake, work)


def swept(
    new_loop,
    once,
    *,
    first=1,
    listing=PARTICIPANTS,
    conferences=None,
    new_options=lambda: None,
    **faults,
):
    """Run `once(session, everyone, k)` for rising k until it returns False; return that k.

    Each run has a new session, with new options; the server and the loop are the same.
    """

    async def run(fake, k):
        work = functools.partial(once, k=k)
        return await used(fake, work, options=new_options(), listing=listing, **faults)

    return swept_on(new_loop, run, first=first, conferences=conferences or listing.conferences)


def swept_on(new_loop, once, *, first=1, conferences=((SID, COUNT),)):
    """Run `once(fake, k)` for k from `first` on until it returns False; return that k."""
    k = first

    async def sweep():
        nonlocal k
        async with serving(conferences) as fake:
            for k in itertools.count(first):
                if not await once(fake, k):
                    break
        return k

    return watchdog.run(sweep(), new_loop, describe=lambda: f"k = {k};")


def warned_of(warnings):
    """Return the warnings, without those of aiohttp 3.14.0's server about its own code."""
    return [str(each.message) for each in warnings if each.category is not DeprecationWarning]
