"""The adaptive limit, the slots it gives out, and limiters that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioparticipants._limiter import AdaptiveLimit, Limiter


class Largest(random.Random):
    """Jitter that always takes the upper bound."""

    def uniform(self, a, b):
        return b


def used(limit, times=1):
    """Let attempts succeed with all slots in use."""
    for _ in range(times):
        limit.succeeded(limit.epoch, limit.limit)


def refused(limit, times=1):
    """Let attempts be refused with all slots in use, each after the last decrease."""
    for _ in range(times):
        limit.refused(limit.epoch, limit.limit)


def at(window, ceiling=1000):
    """Return a limit that has grown to `window`, and was never refused."""
    limit = AdaptiveLimit(ceiling)
    used(limit, window - limit.limit)
    return limit


# What the limit learns


def test_low_start():
    """A new limit lets a few attempts out, and never more than the ceiling."""
    assert AdaptiveLimit(64).limit == 4
    assert AdaptiveLimit(2).limit == 2


def test_slow_start_doubles_each_round_trip():
    """Until the first refusal, each success lets one more out."""
    limit = AdaptiveLimit(1000)
    seen = []
    for _ in range(4):
        used(limit, limit.limit)
        seen.append(limit.limit)

    assert seen == [8, 16, 32, 64]


def test_ceiling():
    """It does not grow beyond the ceiling."""
    limit = at(100, ceiling=6)

    assert limit.limit == 6


def test_unused_slots_prove_nothing():
    """A success with slots to spare does not raise the limit."""
    limit = AdaptiveLimit(64)
    for _ in range(100):
        limit.succeeded(limit.epoch, 3)

    assert limit.limit == 4


def test_refusal_takes_it_down_to_below_what_was_in_flight():
    """A refusal lowers the limit by a factor of what was in flight, however much was allowed."""
    full, idle = at(20), at(20)
    refused(full)
    idle.refused(idle.epoch, 10)

    assert (full.limit, idle.limit) == (15, 7)


def test_a_lone_refusal_costs_a_part():
    """A refusal with one in flight leaves a third of the limit; more of them leave less."""
    limit = at(32)
    seen = []
    for _ in range(4):
        limit.refused(limit.epoch, 1)
        seen.append(limit.limit)

    assert seen == [12, 4, 1, 1]
    assert limit.window < 1


def test_one_decrease_a_round_trip():
    """Refusals of attempts admitted before the last decrease do not decrease it again."""
    limit = at(20)
    epoch = limit.epoch
    for left in range(20, 10, -1):
        limit.refused(epoch, left)

    assert limit.limit == 15
    refused(limit)
    assert limit.limit == 12


def test_successes_from_before_a_decrease_prove_nothing():
    """An attempt admitted before the last decrease does not raise the limit."""
    limit = at(20)
    epoch = limit.epoch
    refused(limit)
    for _ in range(1000):
        limit.succeeded(epoch, 20)

    assert limit.limit == 15


def test_growth_is_fast_below_slow_at_and_fast_beyond_the_refusal():
    """The limit hurries back to one less than was refused, stays a while, then hurries on."""
    limit = at(13)
    refused(limit)
    steps = [0] * 3  # to below 11, at 11 and 12, from 13 to 40
    while limit.limit < 40:
        used(limit)
        steps[(limit.limit >= 11) + (limit.limit >= 13)] += 1

    assert steps[0] < 20
    assert steps[1] > 50
    assert steps[2] < 100


def test_refusals_in_a_row_do_not_forget_the_limit():
    """After an outage the first successes bring most of the limit back."""
    limit = at(40)
    refused(limit, 40)
    assert limit.window == 1 / 16
    used(limit, 20)

    assert 12 < limit.limit < 40


@pytest.mark.parametrize("successes", [1, 3])
def test_refusals_after_a_few_successes_do_not_either(successes):
    """An outage that lets a few attempts through is followed by the same way back, or nearly."""
    limit = at(40)
    refused(limit, 40)
    for _ in range(4):
        used(limit, successes)
        refused(limit, 40)
    assert limit.window == 1 / 16
    used(limit, 20)

    assert 9 < limit.limit < 40


def test_refusals_after_successes_do():
    """A ceiling that fell is not climbed past: each success before a refusal moves the plateau."""
    limit = at(40)
    for _ in range(20):
        while limit.limit < 5:
            used(limit)
        refused(limit)
    while limit.limit < 4:
        used(limit)
    used(limit, 10)

    assert limit.limit == 4


def test_below_one_it_pauses():
    """Refused at 1, it still lets one out, after pauses that grow with each refusal to a bound."""
    limit = AdaptiveLimit(1)
    pauses = []
    for _ in range(20):
        pauses.append(limit.pause(Largest()))
        refused(limit)

    assert limit.limit == 1
    assert pauses[0] == 0.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == pauses[-2] == 7.5


def test_a_pause_is_drawn_from_zero_on():
    """Pauses are jittered, so that processes do not march in step."""
    limit = AdaptiveLimit(1)
    refused(limit, 20)
    rng = random.Random(1)
    pauses = sorted(limit.pause(rng) for _ in range(1000))

    assert pauses[0] < 0.1
    assert pauses[-1] > 7.4


def test_no_more_pauses_when_it_has_grown():
    """Successes end the pauses."""
    limit = AdaptiveLimit(1)
    refused(limit, 3)
    used(limit, 200)

    assert limit.window == 1.0
    assert limit.pause(Largest()) == 0.0


@given(
    ceiling=st.integers(1, 200),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 250))),
)
def test_it_stays_within_its_bounds(ceiling, steps):
    """Whatever happens, the limit stays from 1 to the ceiling, and a pause is short."""
    limit = AdaptiveLimit(ceiling)
    for success, age, in_flight in steps:
        lesson = limit.succeeded if success else limit.refused
        before = limit.limit
        lesson(limit.epoch - age, in_flight)

        assert 1 <= limit.limit <= ceiling
        assert limit.limit >= before if success else limit.limit <= before
        assert 0.0 <= limit.pause(Largest()) <= 7.5


# What it comes to, on a virtual clock


@pytest.fixture(scope="module")
def simulator():
    """Return tests/benchmarks/limiter.py as a module."""
    path = Path(__file__).parent / "benchmarks" / "limiter.py"
    spec = importlib.util.spec_from_file_location("limiter_simulator", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("scenario", "refused_at_most"),
    [
        ({}, 0.03),
        ({"ceilings": ((0.0, 12),), "bound": 64, "calls": 500, "spread": "fixed"}, 0.03),
        ({"ceilings": ((0.0, 12), (0.5, 40))}, 0.03),
        ({"ceilings": ((0.0, 40), (0.5, 12))}, 0.04),
        ({"ceilings": ((0.0, 12),), "outage": (5.0, 35.0)}, 0.05),
        ({"processes": 4, "bound": 25}, 0.04),
        ({"processes": 50, "calls": 20_000}, 0.08),
    ],
)
def test_no_call_fails(simulator, scenario, refused_at_most):
    """Under any ceiling, moving or shared, no call is refused for good, and few attempts are."""
    run = simulator.Simulation(simulator.Ours, simulator.Scenario(**scenario)).run()

    assert run.failed == 0
    assert run.done == run.scenario.calls
    assert run.refused_share < refused_at_most
    if scenario.get("processes", 1) == 1 and "outage" not in scenario:
        assert run.ratio < 1.6


@pytest.mark.parametrize("trickle", [0.0, 0.05, 0.2, 0.4])
def test_it_is_soon_back_after_an_outage(simulator, trickle):
    """After an outage, total or not, a limit of 32 is there again within virtual seconds."""
    assert simulator.seconds_back(trickle, lasts=30)[-1] < 15


def test_a_lone_refusal_does_not_hold_up_the_next_calls(simulator):
    """After a refusal with one in flight, 500 calls take little longer than after none."""
    times = [simulator.after_lone_refusals(times, 40, 1)[1].end for times in (0, 1, 3)]

    assert max(times) < 2 * times[0]


def test_full_jitter_alone_fails_calls(simulator):
    """The simulated server is one that the limiter is needed for."""
    run = simulator.Simulation(simulator.FullJitter, simulator.Scenario()).run()

    assert run.failed > 200


def test_a_floor_without_pauses_fails_calls(simulator):
    """More processes than the ceiling has room for need the pauses."""
    scenario = simulator.Scenario(processes=50, calls=20_000)

    assert simulator.Simulation(simulator.PlainFloor, scenario).run().failed > 100


# The slots


class Timer:
    """Pauses that end when the test says so."""

    def __init__(self):
        self.pauses = []
        self.callbacks = []

    def __call__(self, delay, callback):
        self.pauses.append(delay)
        self.callbacks.append(callback)

    def ring(self):
        self.callbacks.pop(0)()


class Attempt:
    """An attempt with a slot, which ends as the test says."""

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
    """Start so many attempts; end what is left of them."""
    started = [Attempt(limiter, number, order) for number in range(count)]
    await turns()
    yield started
    for each in started:
        each.task.cancel()
    await asyncio.gather(*(each.task for each in started), return_exceptions=True)


async def test_slots_are_limited():
    """No more attempts than the limit are let in, and it tells how many are, and how many wait."""
    limiter = Limiter(3)
    assert not limiter.full
    async with attempts(limiter, 5):
        assert (limiter.limit, limiter.in_flight, limiter.waiting) == (3, 3, 2)
        assert limiter.full
        assert repr(limiter) == "<Limiter: 3 of 3 in flight, 2 waiting>"
    assert (limiter.in_flight, limiter.waiting, limiter.full) == (0, 0, False)


async def test_first_come_first_served():
    """Slots go to who came first, and nobody overtakes."""
    limiter, order = Limiter(1), []
    async with attempts(limiter, 4, order) as started:
        for each in started:
            await each.end()

    assert order == [0, 1, 2, 3]


async def test_a_newcomer_does_not_overtake():
    """Where the limit has just grown, who came first is first, not who comes just then."""
    limiter, order = Limiter(64), []
    async with attempts(limiter, 5, order) as started:
        started[0].slot.succeeded()
        assert (limiter.limit, limiter.in_flight, limiter.full) == (5, 4, True)
        late = Attempt(limiter, "late", order)
        await turns()
        assert (limiter.in_flight, limiter.waiting) == (4, 2)
        await started[0].end()
        await turns()
        await late.end()

    assert order == [0, 1, 2, 3, 4, "late"]


async def test_a_slot_is_given_back_after_an_error():
    """An attempt that fails gives its slot back."""
    limiter = Limiter(1)
    with pytest.raises(ValueError):
        async with limiter.slot():
            raise ValueError

    assert limiter.in_flight == 0


def test_it_is_built_outside_a_loop():
    """A limiter needs a loop only when it is used."""
    limiter = Limiter(2)

    async def use():
        async with limiter.slot():
            return limiter.in_flight

    assert asyncio.run(use()) == 1


async def test_growth_lets_more_in():
    """A success with all slots in use lets two in: for itself, and for the growth."""
    heard = []
    limiter = Limiter(64, changed=lambda limit, reason: heard.append((limit, reason)))
    async with attempts(limiter, 10) as started:
        await started[0].end("succeeded")
        await turns()
        assert (limiter.in_flight, limiter.waiting) == (5, 4)

    assert heard == [(5, "succeeded")]


async def test_a_refusal_lets_nobody_in_until_enough_have_left():
    """After a decrease slots stay empty until fewer than the new limit are taken."""
    heard = []
    limiter = Limiter(64, changed=lambda limit, reason: heard.append((limit, reason)))
    async with attempts(limiter, 10) as started:
        await started[0].end("refused")
        await started[1].end("refused")
        await turns()
        assert (limiter.limit, limiter.in_flight, limiter.waiting) == (2, 2, 6)
        await started[2].end("succeeded")
        await turns()
        assert (limiter.limit, limiter.in_flight, limiter.waiting) == (2, 2, 5)

    assert heard == [(2, "refused")]


async def test_faults_and_cancellations_say_nothing():
    """An attempt that is neither succeeded nor refused leaves the limit as it is."""
    heard = []
    limiter = Limiter(64, changed=lambda *what: heard.append(what))
    async with attempts(limiter, 10) as started:
        await started[0].end()

    assert heard == []
    assert limiter.limit == 4


async def test_a_callback_that_raises_costs_no_slot():
    """Whatever `changed` raises, the slot is given back."""

    def broken(_limit, _reason):
        raise KeyError

    limiter = Limiter(64, changed=broken)
    async with attempts(limiter, 3):
        with pytest.raises(KeyError):
            async with limiter.slot() as slot:
                slot.succeeded()

    assert (limiter.limit, limiter.in_flight) == (5, 0)


async def test_cancelled_while_it_waits():
    """Who is cancelled while waiting leaves the queue, and the next one moves up."""
    limiter, order = Limiter(1), []
    async with attempts(limiter, 3, order) as (first, second, third):
        second.task.cancel()
        await turns()
        assert limiter.waiting == 1
        await first.end()
        await turns()
        assert order == [0, 2]
        await third.end()


@pytest.mark.parametrize("cancels", [1, 2])
async def test_cancelled_as_it_is_granted(cancels):
    """A slot granted to who is cancelled in the same turn of the loop goes to the next one."""
    limiter, order = Limiter(1), []
    async with attempts(limiter, 3, order) as (first, second, third):
        first.done.set()
        await asyncio.sleep(0)
        assert (limiter.in_flight, limiter.waiting) == (1, 1)  # granted, and not yet running
        for _ in range(cancels):
            second.task.cancel()
        await turns()
        assert order == [0, 2]
        assert limiter.in_flight == 1
        await third.end()

    assert limiter.in_flight == 0


async def test_cancelled_before_it_is_granted():
    """A slot given back in the turn in which the first in line is cancelled goes to the next."""
    limiter, order = Limiter(1), []
    async with attempts(limiter, 3, order) as (first, second, third):
        first.done.set()
        second.task.cancel()
        await turns()
        assert order == [0, 2]
        await third.end()

    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_random_cancellations_lose_no_wake_up():
    """Whoever is cancelled when, everybody else gets a turn, and no slot is lost."""
    rng = random.Random(7)
    limiter = Limiter(8, rng=rng, later=lambda _delay, go_on: loop.call_soon(go_on))
    loop = asyncio.get_running_loop()
    most, served = 0, 0

    async def attempt():
        nonlocal most, served
        async with limiter.slot() as slot:
            most = max(most, limiter.in_flight)
            await turns(rng.randrange(4))
            rng.choice([slot.succeeded, slot.succeeded, slot.refused, lambda: None])()
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


async def test_a_pause_follows_a_refusal_at_the_floor():
    """Refused at a limit of 1, nobody is let in before the pause is over; one pause at a time."""
    timer = Timer()
    limiter = Limiter(1, rng=Largest(), later=timer)
    async with attempts(limiter, 4) as started:
        await started[0].end("refused")
        await turns()
        assert (limiter.in_flight, limiter.waiting, limiter.full) == (0, 3, True)
        timer.ring()
        await turns()
        assert limiter.in_flight == 1
        await started[1].end("succeeded")  # it is still below 1
        await turns()
        assert (limiter.in_flight, limiter.waiting) == (0, 2)

        started[2].task.cancel()
        await turns()
        timer.ring()
        await turns()
        assert (limiter.in_flight, limiter.waiting) == (1, 0)

    assert timer.pauses[0] > timer.pauses[1] > 0.0


async def test_a_newcomer_waits_for_the_pause():
    """Who comes during a pause waits for its end, also where nobody else does."""
    timer = Timer()
    limiter = Limiter(1, rng=Largest(), later=timer)
    async with limiter.slot() as slot:
        slot.refused()
    assert (limiter.in_flight, limiter.waiting, limiter.full) == (0, 0, True)
    async with attempts(limiter, 1):
        assert limiter.waiting == 1
        timer.ring()
        assert limiter.in_flight == 1


async def test_no_pause_for_an_attempt_that_was_not_made():
    """Who is cancelled as it is granted a slot below a limit of 1 hands it on at once."""
    timer = Timer()
    limiter = Limiter(1, rng=Largest(), later=timer)
    async with attempts(limiter, 3) as started:
        await started[0].end("refused")
        timer.ring()
        started[1].task.cancel()
        await turns()
        assert limiter.in_flight == 1
        assert len(timer.pauses) == 1


async def test_one_pause_at_a_time():
    """Attempts that end during a pause do not prolong it."""
    timer = Timer()
    limiter = Limiter(4, rng=Largest(), later=timer)
    async with attempts(limiter, 4) as started:
        for _ in range(20):
            limiter.learn(AdaptiveLimit.refused, limiter._adaptive.epoch)
        for each in started:
            await each.end()

    assert len(timer.pauses) == 1


async def test_the_loop_keeps_the_pause():
    """Without a timer of its own the running loop's ends the pause."""

    class Soon(random.Random):
        def uniform(self, a, b):
            return 0.001

    limiter = Limiter(1, rng=Soon())
    async with attempts(limiter, 2) as (first, second):
        await first.end("refused")
        assert limiter.full
        await second.end()

    await asyncio.sleep(0.01)
    assert not limiter.full


def test_a_loop_that_was_closed_makes_no_noise():
    """Coroutines that are dropped with their loop give their slots back in silence."""
    limiter = Limiter(1)

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
