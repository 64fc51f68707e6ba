"""Waiting for a summary: on a clock that only the test moves, and then over real sockets."""

from __future__ import annotations

import asyncio
import json
import math

import pytest

from aioparticipants import (
    AuthenticationError,
    Conference,
    DeadlineExceededError,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    PaginationError,
    ProcessingState,
    RateLimitError,
    RequestTimeoutError,
    ResponseError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    TransportError,
)
from aioparticipants._retrying import Deadline
from aioparticipants._waiting import SummaryWaits, is_final
from aioparticipants.errors import Attempt

from .servers import http, raw
from .sweeps import LOOPS, STYLES, cancelled_by, held, on_loops, swept_on, turns, used
from .telemetry import until

SID = "CF" + "a" * 32
COMPLETE, TIMEOUT = ProcessingState.COMPLETE, ProcessingState.TIMEOUT
IN_PROGRESS = ProcessingState.IN_PROGRESS
OUTAGE = ServerError("HTTP 503", status=503)
MISSING = NotFoundError("HTTP 404", status=404)


class Scripted:
    """A wait on a made-up clock; each request takes a second, and finds the next outcome."""

    def __init__(self, *outcomes, poll=None, grace=300.0, deadline=None, jitter=1.0):
        self.outcomes = list(outcomes)
        self.time = 1000.0
        self.asked: list[float] = []
        self.slept: list[float] = []
        self.bounds: set[tuple[float, float]] = set()
        self.failures: list[object] = []
        self.jitter = jitter
        waits = SummaryWaits(
            ask=self.ask,
            poll=poll,
            grace=grace,
            clock=lambda: self.time,
            rng=self,
            on_failure=self.on_failure,
        )
        self.deadline = Deadline(deadline, clock=lambda: self.time)
        self.wait = waits.new(SID, deadline=self.deadline, sleep=self.sleep)

    def uniform(self, low, high):
        self.bounds.add((low, high))
        return min(max(self.jitter, low), high)

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.time += seconds

    async def ask(self, conference_sid, deadline):
        assert (conference_sid, deadline) == (SID, self.deadline)
        self.asked.append(self.time - 1000.0)
        self.time += 1.0
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return Conference(conference_sid=SID, processing_state=outcome)

    def on_failure(self, error, *, conference_sid, seconds):
        self.failures.append((error, conference_sid, seconds))

    async def run(self):
        return await self.wait.run()


# --- When it is finished ---


@pytest.mark.parametrize("state", [COMPLETE, TIMEOUT, "complete"])
async def test_finished(state):
    """A summary that is complete, or that Twilio gave up, is returned without any wait."""
    scripted = Scripted(state)
    conference = await scripted.run()

    assert conference.processing_state == state
    assert is_final(conference)
    assert (scripted.slept, scripted.failures) == ([], [])


@pytest.mark.parametrize("state", [IN_PROGRESS, None, "a word that comes later"])
async def test_not_finished(state):
    """Any other state is waited for, and known as the latest."""
    scripted = Scripted(state, COMPLETE)
    assert (await scripted.run()).processing_state == COMPLETE
    assert len(scripted.slept) == 1
    assert not is_final(Conference(processing_state=state))
    assert not is_final(None)


# --- How long it waits ---


async def test_default_waits():
    """By default it waits a fifth of the time so far, from 10 to 300 s: 25 requests in 30 min."""
    scripted = Scripted(*[IN_PROGRESS] * 30, COMPLETE)
    await scripted.run()

    for asked, slept in zip(scripted.asked, scripted.slept, strict=False):
        assert slept == pytest.approx(min(max((asked + 1) / 5, 10), 300))
    assert (scripted.slept[0], scripted.slept[-1]) == (10, 300)
    assert 20 <= sum(asked <= 1800 for asked in scripted.asked) <= 28


async def test_poll():
    """`poll` is the mean of all waits, and each of them is drawn between its half and its 1.5."""
    for jitter in (0.0, 1.2, 2.0):
        scripted = Scripted(*[IN_PROGRESS] * 9, COMPLETE, poll=60, jitter=jitter)
        await scripted.run()
        assert scripted.slept == [60 * min(max(jitter, 0.5), 1.5)] * 9
        assert scripted.bounds == {(0.5, 1.5)}


# --- What it tolerates ---


async def test_a_404_is_not_yet():
    """A 404 means "not yet" for the grace period, and is raised once that is over."""
    assert await Scripted(*[MISSING] * 3, IN_PROGRESS, COMPLETE).run()
    scripted = Scripted(MISSING, grace=300)
    with pytest.raises(NotFoundError) as caught:
        await scripted.run()

    assert scripted.asked[-2] < 300 - 1 <= scripted.asked[-1]
    assert len(scripted.asked) > 5
    assert caught.value.__context__ is None
    assert scripted.failures == [(caught.value, SID, scripted.time - 1000)]


@pytest.mark.parametrize("error", [MISSING, OUTAGE])
async def test_no_grace(error):
    """Without a grace period, the first such error is raised."""
    scripted = Scripted(error, grace=0)
    with pytest.raises(type(error)):
        await scripted.run()

    assert scripted.asked == [0]


@pytest.mark.parametrize(
    "error",
    [
        MISSING,
        OUTAGE,
        RateLimitError("HTTP 429", status=429),
        TransportError("reset"),
        RequestTimeoutError("too slow"),
        ResponseError("cut off", transient=True),
    ],
)
async def test_a_short_outage_ends_no_wait(error):
    """Failures that are transient end a wait only if they last longer than the grace period."""
    hours = [IN_PROGRESS] * 40
    scripted = Scripted(*hours, *[error] * 5, IN_PROGRESS, *[error] * 5, COMPLETE)
    await scripted.run()
    assert scripted.slept[39] == 300
    assert scripted.slept[40:44] == [10] * 4  # soon again, as at the start

    scripted = Scripted(*hours, error)
    with pytest.raises(type(error)):
        await scripted.run()
    assert 300 - 61 <= scripted.asked[-1] - scripted.asked[40] < 400


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequestError("no SID"),
        AuthenticationError("HTTP 401", status=401),
        ServerError("HTTP 501", status=501),
        TransportError("certificate", transient=False),
        ResponseError("a wrong type"),
        PaginationError("a loop"),
        SessionClosedError("closed"),
        ZeroDivisionError("a defect"),
    ],
)
async def test_other_errors(error):
    """Any other error is raised at once."""
    scripted = Scripted(IN_PROGRESS, error)
    with pytest.raises(type(error)):
        await scripted.run()

    assert len(scripted.asked) == 2


async def test_retry_after():
    """It waits as long as the server asks, unless that is longer than the grace period."""
    busy = RateLimitError("HTTP 429", status=429, retry_after=120)
    scripted = Scripted(busy, COMPLETE)
    await scripted.run()
    assert scripted.slept == [130]

    scripted = Scripted(busy, busy, COMPLETE, grace=200)
    with pytest.raises(RateLimitError) as caught:
        await scripted.run()
    assert caught.value.retry_after == 120
    assert scripted.slept == [130]


# --- The deadline ---


@pytest.mark.parametrize("deadline", [5, 60, 1800, 86400])
@pytest.mark.parametrize("jitter", [0.0, 0.7, 1.0])
async def test_deadline(deadline, jitter):
    """The last request is made shortly before the deadline, and the error says how far it was."""
    scripted = Scripted(MISSING, IN_PROGRESS, deadline=deadline, jitter=jitter)
    with pytest.raises(DeadlineExceededError) as caught:
        await scripted.run()

    reserved = min(deadline / 10, 10) * min(max(jitter, 0.5), 1)
    assert scripted.asked[-1] == pytest.approx(deadline - reserved)
    assert f"within {deadline} s: its processing_state was in_progress" in str(caught.value)
    assert caught.value.conference_sid == SID
    assert caught.value.transient
    assert scripted.failures[0][0] is caught.value
    assert scripted.wait.latest.processing_state == IN_PROGRESS


@pytest.mark.parametrize(
    ("outcomes", "found"),
    [
        ([MISSING], r"Twilio has none yet \(HTTP 404\)"),
        ([MISSING, OUTAGE], "Twilio did not answer as it should"),
        ([OUTAGE, MISSING], "Twilio has none yet"),
        ([None], "processing_state was of no known kind"),
        (["secret"], "processing_state was of no known kind"),
        ([IN_PROGRESS, OUTAGE], "processing_state was in_progress"),
    ],
)
async def test_how_far_it_was(outcomes, found):
    """The error names what Twilio last described, or why there is nothing."""
    scripted = Scripted(*outcomes, deadline=60)
    with pytest.raises(DeadlineExceededError, match=found) as caught:
        await scripted.run()

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("before", [[], [IN_PROGRESS]])
async def test_a_request_that_the_deadline_ends(before):
    """If the deadline ends a request, the error names the wait, and the attempts."""
    attempts = [Attempt("DeadlineExceededError", 5.0)]
    cut_off = DeadlineExceededError("a page did not come", attempts=attempts, cursor="c")
    scripted = Scripted(*before, cut_off, deadline=60)
    found = "was in_progress" if before else "Twilio has not answered yet"
    with pytest.raises(DeadlineExceededError, match=f"within 60 s: .*{found}") as caught:
        await scripted.run()

    assert caught.value.attempts == tuple(attempts)
    assert caught.value.cursor is None
    assert caught.value.__context__ is None


async def test_retry_after_beyond_the_deadline():
    """A wait that the server asks for, and that would pass the deadline, is not begun."""
    scripted = Scripted(RateLimitError("HTTP 429", status=429, retry_after=50), deadline=40)
    with pytest.raises(DeadlineExceededError):
        await scripted.run()

    assert scripted.slept == []


def test_the_sooner_deadline():
    """`at_most` gives a running deadline in so many seconds, or the given one if that is sooner."""
    time = [0.0]
    deadline = Deadline(100, clock=lambda: time[0])
    deadline.start()
    assert deadline.at_most(30).seconds == 30
    half = deadline.at_most(50)
    time[0] = 40
    assert (half.left(), half.seconds) == (10, 50)
    assert deadline.at_most(61) is deadline
    time[0] = 200
    assert deadline.at_most(5) is deadline
    endless = Deadline(None, clock=lambda: time[0])
    assert endless.at_most(7).left() == 7
    assert endless.left() == math.inf


# --- Over real sockets ---


async def test_a_slow_summary(fake, session):
    """It asks until the summary is complete, and returns that; calling again asks once."""
    sid = fake.add_conference(4, summary=[404, "in_progress", "in_progress", "complete"])
    conference = await session.wait_until_complete(sid, poll=0.001)

    assert isinstance(conference, Conference)
    assert (conference.conference_sid, conference.processing_state) == (sid, COMPLETE)
    assert conference.end_time is not None
    assert [each.status for each in fake.requests] == [404, 200, 200, 200]
    assert {each.path for each in fake.requests} == {f"/v1/Conferences/{sid}"}
    assert await session.wait_until_complete(sid, poll=3600) == conference


async def test_a_summary_that_twilio_gave_up(fake, session):
    """`timeout` ends the wait, too."""
    sid = fake.add_conference(1, summary=["in_progress", "timeout"])
    assert (await session.wait_until_complete(sid, poll=0.001)).processing_state == TIMEOUT


async def test_unknown(fake, session):
    """A conference that is unknown after the grace period is a NotFoundError."""
    with pytest.raises(NotFoundError) as caught:
        await session.wait_until_complete(SID, poll=0.001, grace=0.05)

    assert len(fake.requests) > 1
    assert (caught.value.conference_sid, caught.value.cursor) == (SID, None)


async def test_an_outage(fake):
    """A failure that the retries did not fix does not end a wait, and a longer one does."""
    sid = fake.add_conference(1, summary=["in_progress", "complete"])
    once = RetryPolicy(max_attempts=1)
    async with InsightsSession(fake.credentials, base_url=fake.base_url, retry=once) as session:
        fake.fail_next(503, times=3)
        assert await session.wait_until_complete(sid, poll=0.001)
        assert [each.status for each in fake.requests] == [503, 503, 503, 200, 200]
        fake.fail_next(503, times=10_000)
        with pytest.raises(ServerError):
            await session.wait_until_complete(sid, poll=0.001, grace=0.05)


async def test_deadline_on_a_server(fake, session):
    """After the deadline the error says what state Twilio last described."""
    sid = fake.add_conference(1, summary=["in_progress"])
    with pytest.raises(DeadlineExceededError, match=r"0\.2 s.*in_progress") as caught:
        await session.wait_until_complete(sid, deadline=0.2)

    assert caught.value.conference_sid == sid
    assert [each.status for each in fake.requests] == [200, 200]  # the last one just before it


async def test_the_session_s_own_deadline(fake, session):
    """A wait without a deadline has the one of its session."""
    sid = fake.add_conference(1, summary=["in_progress"])
    with pytest.raises(DeadlineExceededError, match=r"0\.1 s"):
        await session.with_options(deadline=0.1).wait_until_complete(sid)


async def test_a_reply_that_never_comes(fake, session):
    """The deadline also ends a request that gets no reply."""
    fake.latency = 3600
    with pytest.raises(DeadlineExceededError, match="not answered yet"):
        await session.wait_until_complete(fake.add_conference(1), deadline=0.05)

    assert held(session) == (0, 0, 0)


async def test_values_of_a_wrong_type():
    """A wrong value ends the wait as it ends a list, and with `keep` it does not."""
    body = {"conference_sid": SID, "duration_seconds": "x", "processing_state": "complete"}
    reply = http(json.dumps(body).encode())
    async with raw(reply, reply) as server:
        async with InsightsSession(("AC1", "x"), base_url=server.base_url) as session:
            with pytest.raises(ResponseError) as caught:
                await session.wait_until_complete(SID)
            kept = await session.wait_until_complete(SID, on_invalid="keep")

    assert (caught.value.cursor, caught.value.cursor_after) == (None, None)
    assert kept.extra == {"duration_seconds": "x"}


@pytest.mark.parametrize(
    "options",
    [
        {"poll": 0},
        {"poll": -1},
        {"poll": "5"},
        {"poll": math.inf},
        {"grace": -1},
        {"grace": None},
        {"grace": math.nan},
        {"deadline": 0},
        {"deadline": True},
        {"on_invalid": "ignore"},
        {"conference_sid": "nonsense"},
        {"conference_sid": None},
    ],
)
async def test_bad_arguments(fake, session, options):
    """An argument that cannot be used is refused, and nothing is sent."""
    with pytest.raises(InvalidRequestError, match=next(iter(options))):
        await session.wait_until_complete(**{"conference_sid": SID, **options})

    assert fake.requests == []


async def test_many_at_once(fake):
    """Many waits go through the session's limit, and all of them end."""
    sids = [fake.add_conference(1, summary=[404, "in_progress", "complete"]) for _ in range(50)]
    fake.concurrency = 4
    retry = RetryPolicy(base_delay=0.001, max_attempts=50)
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, retry=retry, max_concurrency=8
    ) as session:
        waits = (session.wait_until_complete(sid, poll=0.01) for sid in sids)
        found = await asyncio.gather(*waits)

    assert [each.conference_sid for each in found] == sids


# --- Its end ---


async def begun(fake, session):
    """Return a task that waits for an hour, after its first request."""
    sid = fake.add_conference(1, summary=["in_progress"])
    task = asyncio.create_task(session.wait_until_complete(sid, poll=3600))
    await until(lambda: fake.requests and held(session) == (0, 0, 0))
    await turns()
    return task


async def test_session_closed_during_the_wait(fake, session):
    """A wait holds nothing, and ends at once as the session is closed; a new one is refused."""
    task = await begun(fake, session)
    assert not task.done()
    await session.aclose()
    await turns(3)
    assert task.done()
    assert isinstance(task.exception(), SessionClosedError)
    with pytest.raises(SessionClosedError):
        await session.wait_until_complete(SID)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_loop_that_ends_during_the_wait(new_loop, recwarn, caplog):
    """A loop that ends cancels the wait, and the session can still be closed on another one."""

    async def begin():
        async with raw(
            http(json.dumps({"conference_sid": SID}).encode(), "200 OK", "Connection: close")
        ) as server:
            session = InsightsSession(("AC1", "x"), base_url=server.base_url)
            task = asyncio.create_task(session.wait_until_complete(SID, poll=3600))
            await until(lambda: session.stats.succeeded and held(session) == (0, 0, 0))
            await turns()
            return session, task

    with asyncio.Runner(loop_factory=new_loop) as runner:
        session, task = runner.run(begin())
    assert task.cancelled()
    asyncio.run(session.aclose())
    assert caplog.records == []


SLOW = [404, "in_progress", "complete"]


@on_loops("style", STYLES)
def test_cancelled_at_every_await(new_loop, style):
    """Wherever and however a wait is cancelled, it leaves nothing, and a new one goes on."""

    async def once(fake, k):
        fake.reset()
        sid = fake.add_conference(1, summary=SLOW)

        async def work(session, _):
            waiting = session.wait_until_complete(sid, poll=0.001)
            cancelled, was_hit = await cancelled_by(style, waiting, k)
            assert held(session) == (0, 0, 0)
            assert cancelled == was_hit
            conference = await session.wait_until_complete(sid, poll=0.001)
            assert conference.processing_state == COMPLETE
            return was_hit

        return await used(fake, work)

    assert swept_on(new_loop, once) > 5


@on_loops("end", ["session"])
def test_session_closed_at_every_turn(new_loop, end):
    """Whatever a wait is at, closing the session ends it with SessionClosedError, or it is done."""

    async def once(fake, k):
        fake.reset()
        sid = fake.add_conference(1, summary=SLOW)

        async def work(session, _):
            task = asyncio.create_task(session.wait_until_complete(sid, poll=0.001))
            done = await turns(k, task=task)
            await session.aclose()
            assert held(session) == (0, 0, 0)
            await asyncio.wait([task])
            if task.exception() is None:  # the last reply had come
                assert task.result().processing_state == COMPLETE
            else:
                assert isinstance(task.exception(), SessionClosedError)
            return not done

        return await used(fake, work)

    assert swept_on(new_loop, once, first=0) > 5
