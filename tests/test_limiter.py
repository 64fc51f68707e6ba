"""The adaptive limit, alone and simulated, and the slots of a limiter."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioparticipants._limiter import AdaptiveLimit, Limiter
from aioparticipants.instrumentation import LimitChanged

from .benchmarks import limiter as simulator


class Largest(random.Random):
    """Jitter that is always the upper bound."""

    def uniform(self, a, b):
        return b


def succeed(limit, times=1):
    """Let attempts succeed with all slots in use."""
    for _ in range(times):
        limit.succeeded(limit.epoch, limit.limit)


def rate_limit(limit, times=1):
    """Let attempts get a 429 with all slots in use, each in the epoch of its own."""
    for _ in range(times):
        limit.rate_limited(limit.epoch, limit.limit)


def grown_to(window, ceiling=1000):
    """Return a limit that has grown to `window` without a 429."""
    limit = AdaptiveLimit(ceiling)
    succeed(limit, window - limit.limit)
    return limit


# --- The adaptive limit ---


def test_bounds():
    """A limit starts at 4, or at the ceiling if that is lower, and grows to the ceiling only."""
    assert AdaptiveLimit(64).limit == 4
    assert AdaptiveLimit(2).limit == 2
    assert grown_to(100, ceiling=6).limit == 6


def test_slow_start_doubles_each_round_trip():
    """Until the first 429, each success raises the limit by one."""
    limit = AdaptiveLimit(1000)
    seen = []
    for _ in range(4):
        succeed(limit, limit.limit)
        seen.append(limit.limit)

    assert seen == [8, 16, 32, 64]


def test_unused_slots_do_not_raise_it():
    """A success with a free slot does not raise the limit."""
    limit = AdaptiveLimit(64)
    for _ in range(100):
        assert not limit.succeeded(limit.epoch, 3)

    assert limit.limit == 4


def test_a_429_lowers_it_below_the_attempts_in_flight():
    """A 429 multiplies what was in flight, not what was allowed."""
    full, half = grown_to(20), grown_to(20)
    rate_limit(full)
    half.rate_limited(half.epoch, 10)

    assert (full.limit, half.limit) == (15, 7)


def test_a_lone_429_leaves_a_third():
    """A 429 with one attempt in flight leaves a third of the limit; further ones leave less."""
    limit = grown_to(32)
    seen = []
    for _ in range(4):
        limit.rate_limited(limit.epoch, 1)
        seen.append(limit.limit)

    assert seen == [12, 4, 1, 1]
    assert limit.window < 1


def test_one_decrease_each_round_trip():
    """An attempt admitted before the last decrease neither lowers nor raises the limit."""
    limit = grown_to(20)
    epoch = limit.epoch
    for in_flight in range(20, 10, -1):
        limit.rate_limited(epoch, in_flight)
    for _ in range(1000):
        limit.succeeded(epoch, 20)

    assert limit.limit == 15
    rate_limit(limit)
    assert limit.limit == 12


def test_cubic_growth():
    """After a 429 the limit grows fast to just below, slowly across, and fast beyond that place."""
    limit = grown_to(13)
    rate_limit(limit)
    successes = [0] * 3  # to below 11, at 11 and 12, from 13 to 40
    while limit.limit < 40:
        succeed(limit)
        successes[(limit.limit >= 11) + (limit.limit >= 13)] += 1

    assert successes[0] < 20
    assert successes[1] > 50
    assert successes[2] < 100


@pytest.mark.parametrize(("let_through", "least"), [(0, 12), (1, 9), (3, 9)])
def test_the_plateau_survives_an_outage(let_through, least):
    """After an outage, also one with a few successes, 20 successes restore most of the limit."""
    limit = grown_to(40)
    rate_limit(limit, 40)
    for _ in range(4):
        succeed(limit, let_through)
        rate_limit(limit, 40)
    assert limit.window == 1 / 16
    succeed(limit, 20)

    assert least < limit.limit < 40


def test_successes_before_a_429_lower_the_plateau():
    """A limit adapts to a ceiling that fell: it no longer hurries past it."""
    limit = grown_to(40)
    for _ in range(20):
        while limit.limit < 5:
            succeed(limit)
        rate_limit(limit)
    while limit.limit < 4:
        succeed(limit)
    succeed(limit, 10)

    assert limit.limit == 4


def test_pauses_below_one():
    """The limit stays at 1; pauses grow with each further 429 to a bound, and end with growth."""
    limit = AdaptiveLimit(1)
    pauses = []
    for _ in range(20):
        pauses.append(limit.pause(Largest()))
        rate_limit(limit)

    assert limit.limit == 1
    assert pauses[0] == 0.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == pauses[-2] == 7.5
    succeed(limit, 200)
    assert limit.window == 1.0
    assert limit.pause(Largest()) == 0.0


def test_pauses_are_jittered():
    """A pause is drawn from zero to its bound, so that processes do not move in step."""
    limit = AdaptiveLimit(1)
    rate_limit(limit, 20)
    rng = random.Random(1)
    pauses = sorted(limit.pause(rng) for _ in range(1000))

    assert pauses[0] < 0.1
    assert pauses[-1] > 7.4


@given(
    ceiling=st.integers(1, 200),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 250))),
)
def test_invariants(ceiling, steps):
    """Whatever happens, the limit stays from 1 to the ceiling, and a pause stays short."""
    limit = AdaptiveLimit(ceiling)
    for success, age, in_flight in steps:
        learn = limit.succeeded if success else limit.rate_limited
        before = limit.limit
        changed = learn(limit.epoch - age, in_flight)

        assert changed == (limit.limit != before)
        assert 1 <= limit.limit <= ceiling
        assert limit.limit >= before if success else limit.limit <= before
        assert 0.0 <= limit.pause(Largest()) <= 7.5


# --- The simulation, on a virtual clock ---


@pytest.mark.parametrize(
    ("scenario", "most"),
    [
        ({}, 0.03),
        ({"ceilings": ((0.0, 12),), "max_concurrency": 64, "calls": 500, "spread": "fixed"}, 0.03),
        ({"ceilings": ((0.0, 12), (0.5, 40))}, 0.03),
        ({"ceilings": ((0.0, 40), (0.5, 12))}, 0.04),
        ({"ceilings": ((0.0, 12),), "outage": (5.0, 35.0)}, 0.05),
        ({"processes": 4, "max_concurrency": 25}, 0.04),
        ({"processes": 50, "calls": 20_000}, 0.08),
    ],
)
def test_no_call_fails(scenario, most):
    """Under any ceiling, moving or shared, no call fails, and few attempts get a 429."""
    run = simulator.Simulation(simulator.Ours, simulator.Scenario(**scenario)).run()

    assert run.failed == 0
    assert run.done == run.scenario.calls
    assert run.rate_limited_share < most
    if scenario.get("processes", 1) == 1 and "outage" not in scenario:
        assert run.makespan < 1.6


@pytest.mark.repeats
@pytest.mark.parametrize("let_through", [0.0, 0.05, 0.2, 0.4])
def test_recovery_from_an_outage(let_through):
    """After an outage, total or not, the limit is back at 32 within virtual seconds."""
    assert simulator.seconds_back(let_through, lasts=30)[-1] < 15


def test_recovery_from_a_lone_429():
    """After a 429 with one attempt in flight, 500 calls take little longer than without it."""
    times = [simulator.after_lone_429s(times, 40, 1)[1].end for times in (0, 1, 3)]

    assert max(times) < 2 * times[0]


@pytest.mark.parametrize(
    ("policy", "scenario", "least"),
    [
        (simulator.FullJitter, {}, 200),
        (simulator.WithoutPauses, {"processes": 50, "calls": 20_000}, 100),
    ],
)
def test_other_policies_fail_calls(policy, scenario, least):
    """Full jitter alone, and a limit without pauses, fail calls: the simulated server is hard."""
    run = simulator.Simulation(policy, simulator.Scenario(**scenario)).run()

    assert run.failed > least


# --- The slots ---


class Timer:
    """Pauses that end when the test says so."""

    def __init__(self):
        self.pauses = []
        self.callbacks = []

    def __call__(self, delay, callback):
        self.pauses.append(delay)
        self.callbacks.append(callback)

    def end_pause(self):
        self.callbacks.pop(0)()


def new_limiter(ceiling, events=None, **options):
    """Return a limiter that appends its events to `events`, if given."""
    emit = (lambda _: None) if events is None else events.append
    return Limiter(AdaptiveLimit(ceiling), emit=emit, **options)


class Attempt:
    """An attempt with a slot, which ends when the test says so."""

    def __init__(self, limiter, name="", order=None):
        self.done = asyncio.Event()
        self.slot = None
        self.limiter, self.name, self.order = limiter, name, order
        self.task = asyncio.create_task(self.run())

    async def run(self):
        async with self.limiter.slot() as self.slot:
            if self.order is not None:
                self.order.append(self.name)
            await self.done.wait()

    async def end(self, outcome=None):
        if outcome is not None:
            getattr(self.slot, outcome)()
        self.done.set()
        await self.task


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def attempts(limiter, count, order=None):
    """Start so many attempts, and cancel those that are left at the end."""
    started = [Attempt(limiter, number, order) for number in range(count)]
    await turns()
    yield started
    for each in started:
        each.task.cancel()
    await asyncio.gather(*(each.task for each in started), return_exceptions=True)


def counts(limiter):
    return limiter.limit, limiter.in_flight, limiter.waiting


async def test_slots_are_limited():
    """No more attempts than the limit get a slot; the limiter counts them, and those that wait."""
    limiter = new_limiter(3)
    assert not limiter.full
    async with attempts(limiter, 5):
        assert counts(limiter) == (3, 3, 2)
        assert limiter.full
        assert repr(limiter) == "<Limiter: 3 of 3 in flight, 2 waiting>"
    assert counts(limiter) == (3, 0, 0)
    assert not limiter.full


async def test_first_come_first_served():
    """Slots are acquired in the order in which they were asked for."""
    limiter, order = new_limiter(1), []
    async with attempts(limiter, 4, order) as started:
        for each in started:
            await each.end()

    assert order == [0, 1, 2, 3]


async def test_a_newcomer_does_not_overtake():
    """When the limit grows, the slot goes to the first waiter, not to one that comes later."""
    limiter, order = new_limiter(64), []
    async with attempts(limiter, 5, order) as started:
        started[0].slot.succeeded()
        assert counts(limiter) == (5, 4, 1)
        assert limiter.full
        late = Attempt(limiter, "late", order)
        await turns()
        assert counts(limiter) == (5, 4, 2)
        await started[0].end()
        await turns()
        await late.end()

    assert order == [0, 1, 2, 3, 4, "late"]


@pytest.mark.parametrize(
    ("outcomes", "then", "emitted"),
    [
        (["succeeded"], (5, 5, 4), [(5, "succeeded")]),
        (["rate_limited"] * 2, (2, 2, 6), [(2, "rate_limited")]),
        (["rate_limited", "rate_limited", "succeeded"], (2, 2, 5), [(2, "rate_limited")]),
        ([None], (4, 4, 5), []),
    ],
    ids=["growth admits two", "a decrease admits nobody", "until enough have left", "a fault"],
)
async def test_outcomes(outcomes, then, emitted):
    """An outcome changes the limit, which emits an event and admits as many as it allows."""
    events = []
    limiter = new_limiter(64, events)
    async with attempts(limiter, 10) as started:
        for attempt, outcome in zip(started, outcomes, strict=False):
            await attempt.end(outcome)
        await turns()
        assert counts(limiter) == then

    assert events == [LimitChanged(limit=limit, reason=reason) for limit, reason in emitted]


async def test_an_emit_that_raises_costs_no_slot():
    """An attempt that raises, here in `emit`, releases its slot."""

    def broken(_event):
        raise KeyError

    limiter = Limiter(AdaptiveLimit(64), emit=broken)
    async with attempts(limiter, 3):
        with pytest.raises(KeyError):
            async with limiter.slot() as slot:
                slot.succeeded()

    assert counts(limiter) == (5, 0, 0)


async def while_it_waits(limiter, first, second):
    second.task.cancel()
    await turns()
    assert limiter.waiting == 1
    await first.end()


async def with_its_slot(limiter, first, second):
    first.done.set()
    await asyncio.sleep(0)
    assert (limiter.in_flight, limiter.waiting) == (1, 1)  # the second has it, and has not yet run
    second.task.cancel()


async def twice_with_its_slot(limiter, first, second):
    await with_its_slot(limiter, first, second)
    second.task.cancel()


async def before_its_slot(_limiter, first, second):
    first.done.set()
    second.task.cancel()


@pytest.mark.parametrize(
    "cancel", [while_it_waits, with_its_slot, twice_with_its_slot, before_its_slot]
)
async def test_cancelled_waiters(cancel):
    """A waiter that is cancelled, also as it gets the slot, leaves the slot to the next waiter."""
    limiter, order = new_limiter(1), []
    async with attempts(limiter, 3, order) as (first, second, third):
        await cancel(limiter, first, second)
        await turns()
        assert order == [0, 2]
        assert counts(limiter) == (1, 1, 0)
        await third.end()

    assert counts(limiter) == (1, 0, 0)


async def test_random_cancellations_lose_no_wake_up():
    """Whichever attempts are cancelled when, all others get a slot, and no slot is lost."""
    rng = random.Random(7)
    loop = asyncio.get_running_loop()
    limiter = new_limiter(8, rng=rng, call_later=lambda _delay, end: loop.call_soon(end))
    most, served = 0, 0

    async def attempt():
        nonlocal most, served
        async with limiter.slot() as slot:
            most = max(most, limiter.in_flight)
            await turns(rng.randrange(4))
            rng.choice([slot.succeeded, slot.succeeded, slot.rate_limited, lambda: None])()
        served += 1

    tasks = []
    for _ in range(3000):
        tasks.append(asyncio.create_task(attempt()))
        if rng.random() < 0.5:
            rng.choice(tasks[-20:]).cancel()
        await turns(rng.randrange(2))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert served == outcomes.count(None) > 1000
    assert all(each is None or type(each) is asyncio.CancelledError for each in outcomes)
    assert most <= 8
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_a_pause_follows_each_attempt_below_one():
    """With a window below 1, no attempt gets a slot before the pause after the last one is over."""
    timer = Timer()
    limiter = new_limiter(1, rng=Largest(), call_later=timer)
    async with attempts(limiter, 4) as started:
        await started[0].end("rate_limited")
        await turns()
        assert counts(limiter) == (1, 0, 3)
        assert limiter.full
        timer.end_pause()
        await turns()
        assert limiter.in_flight == 1
        await started[1].end("succeeded")  # the window is still below 1
        await turns()
        assert counts(limiter) == (1, 0, 2)

        started[2].task.cancel()
        await turns()
        timer.end_pause()
        await turns()
        assert counts(limiter) == (1, 1, 0)

    assert timer.pauses[0] > timer.pauses[1] > 0.0


async def test_a_newcomer_waits_for_the_pause():
    """An attempt that comes during a pause waits for its end, also if it is the only one."""
    timer = Timer()
    limiter = new_limiter(1, rng=Largest(), call_later=timer)
    async with limiter.slot() as slot:
        slot.rate_limited()
    assert counts(limiter) == (1, 0, 0)
    assert limiter.full
    async with attempts(limiter, 1):
        assert limiter.waiting == 1
        timer.end_pause()
        assert limiter.in_flight == 1


async def test_no_pause_after_an_attempt_that_was_not_made():
    """A waiter cancelled as it gets the slot releases it without a pause."""
    timer = Timer()
    limiter = new_limiter(1, rng=Largest(), call_later=timer)
    async with attempts(limiter, 3) as started:
        await started[0].end("rate_limited")
        timer.end_pause()
        started[1].task.cancel()
        await turns()
        assert limiter.in_flight == 1
        assert len(timer.pauses) == 1


async def test_one_pause_at_a_time():
    """Attempts that end during a pause do not prolong it."""
    timer, adaptive = Timer(), AdaptiveLimit(4)
    limiter = Limiter(adaptive, emit=print, rng=Largest(), call_later=timer)
    async with attempts(limiter, 4) as started:
        for _ in range(20):
            limiter.rate_limited(adaptive.epoch)
        for each in started:
            await each.end()

    assert len(timer.pauses) == 1


async def test_the_running_loop_ends_the_pause():
    """By default the pause ends by the running loop's `call_later`."""

    class Soon(random.Random):
        def uniform(self, a, b):
            return 0.001

    limiter = new_limiter(1, rng=Soon())
    async with attempts(limiter, 2) as (first, second):
        await first.end("rate_limited")
        assert limiter.full
        await second.end()

    await asyncio.sleep(0.01)
    assert not limiter.full


def test_a_closed_loop():
    """Attempts that are dropped after their loop was closed release their slots without a sound."""
    limiter = new_limiter(1)  # built outside a loop

    async def attempt():
        async with limiter.slot():
            await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    coroutines = [attempt(), attempt()]
    tasks = [loop.create_task(each) for each in coroutines]
    for task in tasks:
        task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0))
    assert (limiter.in_flight, limiter.waiting) == (1, 1)
    loop.close()
    for each in coroutines:
        each.close()

    assert (limiter.in_flight, limiter.waiting) == (0, 0)
