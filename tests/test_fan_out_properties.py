"""Any conferences, in any mode and at any pace, compared with a reference."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import time
from contextlib import asynccontextmanager

import attrs
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from aioparticipants import (
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    ProcessingState,
    ResponseError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    TransportError,
    models,
)
from aioparticipants._cursors import CursorCodec
from aioparticipants._fan_out import FanOut
from aioparticipants._paging import Pager
from aioparticipants._resources import PARTICIPANTS
from aioparticipants._retrying import Deadline
from aioparticipants._scheduler import _DECODING_SLOTS, _WAITING_PLACES
from aioparticipants._structuring import participant
from aioparticipants._tasks import SessionTasks
from aioparticipants._waiting import SummaryWaits

from . import watchdog
from .bodies import read
from .lists import list_of
from .profiles import examples
from .sweeps import STYLES, Canceller, held, own_tasks
from .sweeps import turns as turns_of
from .telemetry import until
from .test_properties import run, turns

BAD = {"label": 7}


@attrs.frozen
class Conference:
    """A generated conference: the sizes of its pages, and how it fails, if it does."""

    sid: str
    sizes: list
    pace: int
    """Turns of the loop that each page takes."""
    failing: object = None
    """The number of the page that fails."""
    failure: type = TransportError
    """How: a `ResponseError` comes of a bad record at the page's end."""
    pauses: int = 0
    """How often its summary is not complete yet."""

    def expected(self):
        """Return the labels to be delivered, the error's class or None, and the number of pages."""
        if not self.sid.startswith("CF"):
            return [], InvalidRequestError, 0
        numbers = range(len(self.sizes) if self.failing is None else self.failing)
        labels = [self.label(page, index) for page in numbers for index in range(self.sizes[page])]
        if self.failing is None:
            return labels, None, len(numbers)
        if self.failure is not ResponseError:
            return labels, self.failure, len(numbers)
        good = [self.label(self.failing, index) for index in range(self.sizes[self.failing])]
        return labels + good, ResponseError, len(numbers) + bool(good)

    def label(self, page, index):
        return f"{self.sid[-4:]} {page} {index}"

    def body(self, number):
        if number == self.failing and self.failure is not ResponseError:
            raise self.failure(self.sid)
        records = [{"label": self.label(number, index)} for index in range(self.sizes[number])]
        link = f"https://insights.twilio.com/v1/Conferences/{self.sid}/Participants?{number + 1}"
        return {
            "meta": {"next_page_url": None if number + 1 == len(self.sizes) else link},
            "participants": records + [BAD] * (number == self.failing),
        }


@st.composite
def conferences(draw):
    """Generate some conferences, each with a SID of its own; some SIDs are invalid."""
    made = []
    for number in range(draw(st.integers(0, 7))):
        sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
        failing = draw(st.none() | st.integers(0, len(sizes) - 1))
        failure = draw(st.sampled_from([TransportError, NotFoundError, ResponseError]))
        prefix = draw(st.sampled_from(["CF", "CF", "CF", "XX"]))
        pace = draw(st.integers(0, 5))
        pauses = draw(st.integers(0, 3))
        made.append(Conference(f"{prefix}{number:032x}", sizes, pace, failing, failure, pauses))
    return made


class Server:
    """Serves generated conferences, and opens their lists as a session does."""

    def __init__(self, made):
        self.made = {each.sid: each for each in made}
        self.tasks = SessionTasks()
        self.begun = 0

    def new_wait(self, sid, *, sleep):
        states = iter(["in_progress"] * self.made[sid].pauses)

        async def ask(_sid, _deadline):
            await turns(self.made[sid].pace)
            return models.Conference(processing_state=next(states, ProcessingState.COMPLETE))

        waits = SummaryWaits(
            ask=ask,
            poll=None,
            grace=0,
            clock=time.monotonic,
            rng=random.Random(0),
            on_failure=list,
        )
        return waits.new(
            sid, deadline=Deadline(None, clock=time.monotonic), sleep=lambda _: sleep(0)
        )

    def open_list(self, sid):
        self.begun += 1
        first = PARTICIPANTS.first_request({"conference_sid": sid}, {})
        pager = Pager(first, first, resource=PARTICIPANTS)

        async def fetch(request, sent):
            sent.set()
            await turns(self.made[sid].pace)
            number = 0 if request == first else int(request.query)
            return pager.page(request, read(self.made[sid].body(number)), None)

        return list_of(
            first,
            fetch=fetch,
            structure=participant,
            cursor=CursorCodec(first, PARTICIPANTS.cursor_scope).encode,
            tasks=self.tasks,
        )


async def drained(items, data, look):
    """Read to the end with random timeouts; return what was delivered, and how it ended."""
    found, ending = [], None
    while ending is None:
        patience = data.draw(st.none() | st.integers(0, 4))
        asking = asyncio.ensure_future(anext(items))
        if patience is not None:
            await turns(patience)
            asking.cancel()
        await asyncio.wait([asking])
        look()
        if asking.cancelled():
            await turns(1)
        elif asking.exception() is None:
            found.append(asking.result())
        else:
            ending = type(asking.exception())
        await turns(data.draw(st.integers(0, 3)))
    for _ in range(2):
        with pytest.raises(ending):
            await anext(items)
    return found, ending


def accounted_slots(fan_out):
    """Count the decoding slots that are free, held by tasks, or held by ready results.

    Any other slot is lost, and a conference that waits for one would wait for ever.
    """
    scheduler = fan_out._scheduler
    ready = [conference for _, conference in scheduler.delivery._ready]
    held = sum(each.slot.held for each in {*scheduler._running.values(), *ready})
    # A slot that is released for a waiter counts as the waiter's before that runs.
    return scheduler._slots._value + held + granted(scheduler._slots)


def granted(semaphore):
    """Count the waiters of a semaphore that were woken, and have not run yet."""
    return sum(waiter.done() and not waiter.cancelled() for waiter in semaphore._waiters or ())


def judge_results(results, expected, *, whole):
    """Compare results with the reference; with `whole`, none may be missing."""
    for each in results:
        labels, error, pages = expected[each.conference_sid]
        assert [record.label for record in each.participants] == labels
        assert (each.error and type(each.error)) is error
        assert each.pages == pages
    sids = [each.conference_sid for each in results]
    assert len({*sids}) == len(sids)
    assert not whole or {*sids} == {*expected}


def judge_records(records, failures, expected, *, whole):
    """Do the same with merged records, and the conferences that failed."""
    came = {sid: [each.label for each in records if each.label[:4] == sid[-4:]] for sid in expected}
    assert sum(map(len, came.values())) == len(records)
    for sid, (labels, _, _) in expected.items():
        assert came[sid] == (labels if whole else labels[: len(came[sid])])
    told = {each.conference_sid: (type(each.error), each.pages) for each in failures}
    assert len(told) == len(failures)
    if whole:
        assert told == {sid: each[1:] for sid, each in expected.items() if each[1] is not None}


@examples(150)
@given(
    conferences(),
    st.integers(1, 4),
    st.sampled_from(["isolate", "raise"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_any_fan_out_gives_what_the_reference_gives(
    made, concurrency, on_error, merging, asynchronous, waiting, data
):
    """Each conference is delivered once, whole or with its error; none is begun too early."""
    expected = {each.sid: each.expected() for each in made}
    errors = [error for _, error, _ in expected.values() if error is not None]
    endings = errors if errors and on_error == "raise" else [StopAsyncIteration]

    async def later():
        for sid in expected:
            await turns(1)
            yield sid

    async def check():
        server = Server(made)
        fan_out = FanOut(
            later() if asynchronous else [*expected],
            server.open_list,
            new_wait=server.new_wait if waiting else None,
            concurrency=concurrency,
            on_error=on_error,
            tasks=server.tasks,
            deadline=Deadline(None, clock=time.monotonic),
        )

        def look():
            assert fan_out.in_flight <= (len(made) if waiting else concurrency)
            assert fan_out.total in {None, len(made)}
            assert accounted_slots(fan_out) == _DECODING_SLOTS

        items = fan_out.participants() if merging else fan_out
        found, ending = await drained(items, data, look)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert fan_out._scheduler._slots._value == _DECODING_SLOTS  # all of them are free again
        assert fan_out._scheduler._places.waiting._value == _WAITING_PLACES
        assert fan_out._scheduler._places.reading._value == concurrency
        assert ending in endings
        whole = ending is StopAsyncIteration
        if merging:
            judge_records(found, fan_out.failures, expected, whole=whole)
        else:
            judge_results(found, expected, whole=whole)
        if whole:
            assert server.begun == len(made) == fan_out.total == fan_out.done
            assert fan_out.failed == len(errors)
        else:
            assert fan_out.failed >= 1  # more, where they failed in one turn of the loop
            assert not any(getattr(each, "error", None) for each in found)
        await fan_out.aclose()

    run(check())


# --- Over real sockets, with any combination of failures ---

#: How a page can fail, and the error for it.
FAILURES = {
    "404": NotFoundError,
    "503": ServerError,
    "bad record": ResponseError,
    "bad body": ResponseError,
    "cut off": TransportError,
}


@attrs.frozen
class Faulty(Conference):
    """A conference that a real server serves."""

    fault: str | None = None

    async def reply(self, request, number):
        """Answer a request for a page, after some turns of the loop."""
        await turns(self.pace)
        if number == self.failing and self.fault in {"404", "503"}:
            return web.json_response({"message": "no"}, status=int(self.fault))
        text = json.dumps(self.body(number))
        if number == self.failing and self.fault == "bad body":
            text = text.replace(json.dumps(BAD), "!")
        if number == self.failing and self.fault == "cut off":
            response = web.StreamResponse(headers={"Content-Length": str(len(text))})
            await response.prepare(request)
            await response.write(text.encode()[:-9])
            request.transport.abort()
            raise asyncio.CancelledError
        return web.json_response(text=text)

    def body(self, number):
        """Return the body of a page; faults of the transport are added by `reply`."""
        wired = self.failure is not ResponseError and number == self.failing
        return super(Faulty, attrs.evolve(self, failing=None) if wired else self).body(number)


def faulty_conferences(rng, *, late):
    """Generate some conferences, with pages that take several turns of the loop to decode.

    With `late`, none fails before its second page: else `on_error="raise"` would mostly end the
    others before they have delivered anything.
    """
    made = []
    for number in range(rng.randrange(4 * late, 8)):
        sizes = [rng.choice([0, 1, 3, 40, 70]) for _ in range(rng.randrange(1 + late, 6))]
        failing = rng.choice([None, None, rng.randrange(late, len(sizes))])
        fault = None if failing is None else rng.choice([*FAILURES])
        prefix = "CF" if late else rng.choice(["CF", "CF", "CF", "XX"])
        failure = FAILURES.get(fault, TransportError)
        made.append(
            Faulty(f"{prefix}{number:032x}", sizes, rng.randrange(4), failing, failure, fault=fault)
        )
    return made


@attrs.frozen
class Plan:
    """How a fan-out is read, and what interrupts it."""

    concurrency: int
    on_error: str
    mode: str
    """Iterated, merged, or awaited."""
    opened: bool
    """By `async with`."""
    source: str
    stops_after: int
    """SIDs after which a source fails that does."""
    pace: int
    """Turns of the loop that the consumer takes for each item."""
    event: str | None
    """What interrupts it, if anything."""
    at: int
    """In which turn of the loop."""


MODES = ["iterated", "merged", "awaited"]
EVENTS = ["aclose", "session", "drop", *STYLES]


def planned(rng, *, events):
    """Generate a plan."""
    return Plan(
        concurrency=rng.randrange(1, 8),
        on_error=rng.choice(["isolate", "raise"]),
        mode=rng.choice(MODES),
        opened=rng.choice([True, False]),
        source=rng.choice(["list", "generator", "failing"]),
        stops_after=rng.randrange(6),
        pace=rng.randrange(4),
        event=rng.choice(events),
        at=rng.randrange(120),
    )


class SourceError(Exception):
    """The exception of a source of SIDs."""


def source_of(plan, sids):
    """Return a source of SIDs."""

    async def generator():
        for number, sid in enumerate(sids):
            await turns(1)
            if plan.source == "failing" and number == plan.stops_after:
                raise SourceError
            yield sid

    return sids if plan.source == "list" else generator()


class Reading:
    """A fan-out that is read, and what it has delivered."""

    def __init__(self, plan, session, sids):
        self.plan = plan
        self.found = []
        self.failures = ()
        self.ended = False
        self.holder = [
            session.fan_out(
                source_of(plan, sids), concurrency=plan.concurrency, on_error=plan.on_error
            )
        ]

    async def read(self):
        fan_out = self.holder.pop()
        self.closed = fan_out.aclose
        try:
            await self._read(fan_out)
        finally:
            self.failures = fan_out.failures

    async def _read(self, fan_out):
        if self.plan.mode == "awaited":
            self.found += await fan_out
        else:
            items = fan_out.participants() if self.plan.mode == "merged" else fan_out
            async with items if self.plan.opened else contextlib.nullcontext():
                async for each in items:
                    self.found.append(each)
                    await turns(self.plan.pace)
        self.ended = True

    def judge(self, task, expected):
        """Check what was delivered, and how it ended."""
        plan, whole = self.plan, self.ended
        errors = {error for _, error, _ in expected.values() if error is not None}
        if plan.mode == "merged":
            judge_records(self.found, self.failures, expected, whole=whole)
        else:
            self.judge_results(expected, whole=whole)
        if whole:
            # An interrupted fan-out must not look complete.
            assert plan.source != "failing" or plan.stops_after >= len(expected)
            assert plan.on_error == "isolate" or not errors
        if task.cancelled():
            assert plan.event in {*STYLES, "drop"}
            return
        failure = task.exception()
        assert (failure is None) == whole
        allowed = {type(None)}
        allowed |= errors if plan.on_error == "raise" else set()
        allowed |= {SourceError} if plan.source == "failing" else set()
        allowed |= {InvalidRequestError} if plan.event == "aclose" else set()
        allowed |= {SessionClosedError} if plan.event == "session" else set()
        assert type(failure) in allowed

    def judge_results(self, expected, *, whole):
        sids = [each.conference_sid for each in self.found]
        assert len({*sids}) == len(sids)
        assert not whole or {*sids} == {*expected}
        for each in self.found:
            labels, error, _ = expected[each.conference_sid]
            came = [record.label for record in each.participants]
            kind = each.error and type(each.error)
            assert kind in {error, SessionClosedError} if self.plan.event == "session" else {error}
            assert came == (labels if kind is error else labels[: len(came)])


async def interrupt(plan, reading, session, task):
    """Interrupt a fan-out as planned."""
    match plan.event:
        case None:
            pass
        case "aclose" if reading.holder == []:
            await reading.closed()
        case "session":
            await session.aclose()
        case "drop":
            task.cancel()
        case style if style in STYLES:
            await Canceller(task).end(style)


@asynccontextmanager
async def a_server(made):
    """Serve generated conferences over real sockets; give the address."""
    conferences = {each.sid: each for each in made}

    async def answer(request):
        number = int(request.query_string) if request.query_string.isdecimal() else 0
        return await conferences[request.match_info["sid"]].reply(request, number)

    app = web.Application()
    app.router.add_get("/v1/Conferences/{sid}/Participants", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("events", [[None], EVENTS], ids=["uninterrupted", "interrupted"])
@examples(100)
@given(st.integers(0, 2**32))
def test_any_interruption_ends_cleanly(events, seed):
    """Whatever fails, closes or cancels a fan-out: it ends, loses nothing, and leaves nothing."""
    rng = random.Random(seed)
    made = faulty_conferences(rng, late=rng.choice([True, False]))
    plan = planned(rng, events=events)
    watchdog.run(check(made, plan), describe=lambda: f"{plan}, {made};")


async def check(made, plan):
    """Read as planned, and check the outcome."""
    expected = {each.sid: each.expected() for each in made}
    async with a_server(made) as base_url:
        session = InsightsSession(
            ("AC1", "x"),
            base_url=base_url,
            retry=RetryPolicy(max_attempts=2, base_delay=0.0001),
        )
        reading = Reading(plan, session, [*expected])
        task = asyncio.create_task(reading.read())
        await turns_of(plan.at, task=task)
        await interrupt(plan, reading, session, task)
        if not task.done():
            await asyncio.wait([task])
        reading.judge(task, expected)
        # The tasks of a dropped fan-out end some turns of the loop later.
        del task
        reading.closed = None
        await turns(1)
        gc.collect()
        await until(lambda: own_tasks() == [])
        assert held(session) == (0, 0, 0)
        await session.aclose()
