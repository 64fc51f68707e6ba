"""The limiter beside what it is not, on a virtual clock: what `_limiter.py` was chosen by.

    python tests/benchmarks/limiter.py [policies] [ceilings] [latencies] [moves] [targets] [million]
    python tests/benchmarks/limiter.py recovery quota constants

The server takes `ceiling` attempts at a time, for 147 ms on average (exponential), and refuses the
others at once; 10 ms are on the way there, 10 ms back. Each process starts with all its calls in
its queue (the hardest case), retries by the defaults of `RetryPolicy`, and ours runs the package's
own `AdaptiveLimit`. The same seeds give the same figures; up to 20,000 calls they are means of
five runs. `failed` calls were refused five times. `makespan` is over that of a server that is never
idle; it means little where calls fail. `shares` is Jain's index of what each process had got when
half was done: 1 is equal, 1/n is all for one.

policies    why there is a limiter at all: ours beside a fixed bound, and beside other ways to wait
ceilings    ours under 5 to 100 attempts at a time, by 1, 4 and 50 processes
latencies   ours at 20 ms to 2 s an answer
moves       a ceiling that rises or falls half-way, and an outage of 30 s
targets     500 conferences as on loopback
million     1,000,000 conferences of 50 processes; `refusals by attempt` tells how near to failing
            it was: the last figure is the calls that failed
recovery    how soon a limit of 32 is back after an outage and after a lone refusal, and what that
            costs where many processes share a ceiling: `_KEEP` and `_IN_USE`
quota       the retry quota, by the package's own `RetryRun` and `RetryQuota`: faults at random, a
            dead server, and a call a minute after an outage: `_EARNED` and `_QUIET_SECONDS`
constants   ours with one constant changed

What matters of it, as the constants stand: a slot that is released while its call backs off is
filled by another first attempt, so that the load never falls; and so it is by 50 processes that
stop at a limit of 1.

                                               requests  refused  failed  makespan  shares
    full jitter, 1 process                          7908    78.3%   280.4      1.08
    ours, 1 process                                 2019     0.9%       0      1.28
    full jitter, 4 processes                        7774    78.0%   292.4      1.11    0.95
    ours, 4 processes                               2034     1.7%       0      1.42    0.90
    full jitter, 50 processes                     497493    99.5%   97751      0.03    0.11
    slot held, 50 processes                       442446    93.7%   72104      0.29    1.00
    ours, 50 processes                            103391     3.3%       0      1.24    0.85
    ours, but floor 1, 50 processes               194785    49.3%    1329      1.03    1.00
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import heapq
import itertools
import math
import random
import time
from collections import deque

from aioparticipants import RetryPolicy, ServerError, _limiter, _retrying
from aioparticipants._limiter import AdaptiveLimit
from aioparticipants._retrying import Deadline, RetryQuota, RetryRun

POLICY = RetryPolicy()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """What has to be fetched, and from what server."""

    calls: int = 2000
    #: From which share of the calls on, how many attempts are in service at most.
    ceilings: tuple[tuple[float, int], ...] = ((0.0, 40),)
    processes: int = 1
    bound: int = 100  # of each process: its max_concurrency
    active: int | None = None  # calls that a process has begun at a time; None for all
    service: float = 0.147  # seconds, on average
    spread: str = "exponential"  # or lognormal, or fixed
    trip: float = 0.02  # seconds there and back; a refusal takes no more
    outage: tuple[float, float] = (math.inf, math.inf)  # from when to when all is refused, but
    trickle: float = 0.0  # this share of it
    seed: int = 1

    def ideal(self):
        """Return the seconds that a server takes that is never idle and refuses nothing."""
        ends = [*(share for share, _ in self.ceilings[1:]), 1.0]
        return sum(
            (end - begin) * self.calls * self.service / ceiling
            for (begin, ceiling), end in zip(self.ceilings, ends, strict=True)
        )


class FullJitter:
    """A fixed bound; each call waits for itself."""

    waits = True  # whether a refused call waits before its next attempt
    holds = False  # whether it keeps its slot meanwhile
    shares = False  # whether all of the process wait with it

    def __init__(self, bound):
        self.limit = bound
        self.epoch = 0

    def succeeded(self, epoch, in_flight):
        """Learn nothing."""

    def refused(self, epoch, in_flight):
        """Learn nothing."""

    def pause(self, rng):
        return 0.0


class NoBackoff(FullJitter):
    waits = False


class HeldSlot(FullJitter):
    holds = True


class SharedPause(FullJitter):
    shares = True


class Bound16(FullJitter):
    def __init__(self, _bound):
        super().__init__(16)


class PlainFloor(AdaptiveLimit):
    """Ours with a window that ends at 1."""

    waits, holds, shares = True, False, False

    def pause(self, rng):
        return 0.0


class Ours(AdaptiveLimit):
    waits, holds, shares = True, False, False


POLICIES = {
    "no backoff": NoBackoff,
    "full jitter": FullJitter,
    "slot held": HeldSlot,
    "shared pause": SharedPause,
    "bound of 16": Bound16,
    "ours": Ours,
}


class Process:
    """One client process: its queue, its slots, its limit."""

    __slots__ = ("ahead", "done", "in_flight", "limit", "queue", "rests_until")

    def __init__(self, limit, calls, active):
        self.limit = limit
        self.ahead = calls  # not begun
        self.queue = deque()  # of calls, as the number of attempts made so far
        self.in_flight = 0
        self.rests_until = 0.0
        self.done = 0
        self.begin(calls if active is None else min(active, calls))

    def begin(self, calls):
        calls = min(calls, self.ahead)
        self.ahead -= calls
        self.queue.extend([0] * calls)


class Simulation:
    """The discrete events of one policy in one scenario."""

    def __init__(self, policy, scenario):
        self.scenario = scenario
        self.rng = random.Random(scenario.seed)
        each, more = divmod(scenario.calls, scenario.processes)
        self.processes = [
            Process(policy(scenario.bound), each + (number < more), scenario.active)
            for number in range(scenario.processes)
        ]
        self.moves = deque((share * scenario.calls, to) for share, to in scenario.ceilings)
        self.ceiling = self.moves.popleft()[1]
        self.busy = 0  # in service
        self.now = self.end = 0.0
        self.events = []
        self.order = itertools.count()
        self.requests = self.done = self.failed = 0
        self.refusals = [0] * POLICY.max_attempts  # by the attempt's number
        self.shares = []  # calls done by each process when half of all were over
        sigma = 0.5
        mean = math.log(scenario.service) - sigma * sigma / 2
        self.draw = {
            "exponential": lambda: self.rng.expovariate(1 / scenario.service),
            "lognormal": lambda: self.rng.lognormvariate(mean, sigma),
            "fixed": lambda: scenario.service,
        }[scenario.spread]

    def run(self):
        for process in self.processes:
            self.admit(process)
        while self.events:
            self.now, _, happens, *about = heapq.heappop(self.events)
            happens(*about)
        return self

    def later(self, seconds, happens, *about):
        heapq.heappush(self.events, (self.now + seconds, next(self.order), happens, *about))

    def admit(self, process):
        limit, queue = process.limit, process.queue
        while queue and process.in_flight < limit.limit and process.rests_until <= self.now:
            attempt = queue.popleft() + 1
            process.in_flight += 1
            self.requests += 1
            self.later(self.scenario.trip / 2, self.arrives, process, attempt, limit.epoch)

    def arrives(self, process, attempt, epoch):
        if self.busy >= self.ceiling or self.is_out():
            self.later(self.scenario.trip / 2, self.refused, process, attempt, epoch)
        else:
            self.busy += 1
            self.later(self.draw(), self.served, process, epoch)

    def is_out(self):
        begins, ends = self.scenario.outage
        return begins <= self.now < ends and self.rng.random() >= self.scenario.trickle

    def served(self, process, epoch):
        self.busy -= 1
        self.later(self.scenario.trip / 2, self.succeeded, process, epoch)

    def succeeded(self, process, epoch):
        process.limit.succeeded(epoch, process.in_flight)
        process.done += 1
        self.done += 1
        if self.moves and self.done >= self.moves[0][0]:
            self.ceiling = self.moves.popleft()[1]
        self.over(process)
        self.give_back(process)

    def refused(self, process, attempt, epoch):
        process.limit.refused(epoch, process.in_flight)
        self.refusals[attempt - 1] += 1
        if attempt == POLICY.max_attempts:
            self.failed += 1
            self.over(process)
            self.give_back(process)
            return
        policy = process.limit
        doubled = min(POLICY.max_delay, POLICY.base_delay * 2.0 ** (attempt - 1))
        delay = self.rng.uniform(0.0, doubled) if policy.waits else 0.0
        if policy.shares:
            self.rest(process, delay)
        self.later(delay, self.asks_again, process, attempt)
        if not policy.holds:
            self.give_back(process)

    def asks_again(self, process, attempt):
        if process.limit.holds:
            process.in_flight -= 1
            process.queue.appendleft(attempt)
        else:
            process.queue.append(attempt)
        self.admit(process)

    def over(self, process):
        self.end = self.now
        process.begin(1)
        if not self.shares and self.done + self.failed >= self.scenario.calls / 2:
            self.shares = [one.done for one in self.processes]

    def give_back(self, process):
        process.in_flight -= 1
        if process.rests_until <= self.now:
            self.rest(process, process.limit.pause(self.rng))
        self.admit(process)

    def rest(self, process, seconds):
        if seconds:
            process.rests_until = max(process.rests_until, self.now + seconds)
            self.later(seconds, self.admit, process)

    @property
    def refused_share(self):
        return sum(self.refusals) / self.requests

    @property
    def ratio(self):
        """Return the makespan over the ideal one."""
        return self.end / self.scenario.ideal()

    @property
    def fairness(self):
        """Return Jain's index of the processes' shares: 1 where all have the same."""
        squares = len(self.shares) * sum(share**2 for share in self.shares)
        return sum(self.shares) ** 2 / squares if squares else math.nan


HEADER = ("", "requests", "refused", "failed", "makespan", "shares")
WIDTHS = (42, 9, 8, 7, 9, 7)


def show(cells):
    """Print a line of a table."""
    label, *figures = cells
    columns = (f"{cell:>{width}}" for cell, width in zip(figures, WIDTHS[1:], strict=True))
    print(f"{label:{WIDTHS[0]}}", *columns, flush=True)


def row(label, policy, **what):
    """Simulate it, a small one five times with other dice, and print the means; return the runs."""
    scenario = Scenario(**what)
    runs = [
        Simulation(policy, dataclasses.replace(scenario, seed=seed)).run()
        for seed in range(1, 6 if scenario.calls <= SMALL else 2)
    ]

    def mean(figure):
        return sum(figure(run) for run in runs) / len(runs)

    show(
        (
            label,
            f"{mean(lambda run: run.requests):.0f}",
            f"{mean(lambda run: run.refused_share):.1%}",
            f"{mean(lambda run: run.failed):.1f}".removesuffix(".0"),
            f"{mean(lambda run: run.ratio):.2f}",
            f"{mean(lambda run: run.fairness):.2f}" if scenario.processes > 1 else "",
        )
    )
    return runs


SMALL = 20_000


def policies():
    """2000 calls, 1 process of bound 100 or 4 of 25, ceiling 40; 50 of 64, 100,000 calls."""
    for label, policy in POLICIES.items():
        row(f"{label}, 1 process", policy)
    for label, policy in POLICIES.items():
        row(f"{label}, 4 processes", policy, processes=4, bound=25)
    for label, policy in {**POLICIES, "ours, but floor 1": PlainFloor}.items():
        row(f"{label}, 50 processes", policy, processes=50, bound=64, calls=100_000)


def ceilings():
    """Ours: 2000 calls a process."""
    for ceiling, processes in itertools.product((5, 12, 40, 100), (1, 4, 50)):
        row(
            f"ceiling {ceiling}, {processes} processes",
            Ours,
            ceilings=((0.0, ceiling),),
            processes=processes,
            calls=2000 * processes,
        )


def latencies():
    """Ours, ceiling 40: 4000 calls of one process, or 100,000 of 50."""
    for service, spread in (
        (0.02, "lognormal"),
        (0.05, "lognormal"),
        (0.147, "lognormal"),
        (0.147, "fixed"),
        (0.6, "lognormal"),
        (2.0, "lognormal"),
    ):
        for processes, calls in ((1, 4000), (50, 100_000)):
            row(
                f"{service} s, {spread}, {processes} processes",
                Ours,
                service=service,
                spread=spread,
                processes=processes,
                calls=calls,
            )


def moves():
    """Ours and the others: a ceiling that moves half-way, and an outage (30 s of 67 s or more)."""
    for label, policy in POLICIES.items():
        for ceiling in (((0.0, 12), (0.5, 40)), ((0.0, 40), (0.5, 12))):
            name = f"{label}, {ceiling[0][1]} to {ceiling[1][1]}"
            row(name, policy, ceilings=ceiling, calls=4000)
    for label, policy in POLICIES.items():
        name = f"{label}, 12, none for 30 s"
        row(name, policy, ceilings=((0.0, 12),), calls=4000, outage=(10.0, 40.0))


def targets():
    """Ours: 500 conferences under max_concurrency=64, a ceiling of 12, on loopback."""
    for service in (0.02, 0.05):
        for pages, after in itertools.product((1, 2), (12, 40)):
            row(
                f"{service} s, {pages} pages, 12 to {after}",
                Ours,
                calls=500 * pages,
                active=64,
                ceilings=((0.0, 12), (0.5, after)),
                bound=64,
                service=service,
                spread="fixed",
                trip=0.002,
            )


def million():
    """Ours: 1,000,000 conferences, 50 processes of bound 64 with 64 or all begun at a time."""
    for ceiling, active in itertools.product((12, 40, 100), (64, None)):
        began = time.perf_counter()
        (run,) = row(
            f"ceiling {ceiling}, {active or 'all'} begun",
            Ours,
            ceilings=((0.0, ceiling),),
            processes=50,
            calls=1_000_000,
            bound=64,
            active=active,
        )
        hours, took = run.end / 3600, time.perf_counter() - began
        print(f"    {hours:.2f} h; refusals by attempt {run.refusals}; took {took:.0f} s")


LEVEL = 32  # the default of max_concurrency


class Recovery(Simulation):
    """It ends as the limit of its one process is `LEVEL` again after the outage."""

    def __init__(self, policy, scenario):
        super().__init__(policy, scenario)
        self.back = math.nan  # seconds from the end of the outage

    def succeeded(self, process, epoch):
        super().succeeded(process, epoch)
        since = self.now - self.scenario.outage[1]
        if since >= 0 and process.limit.limit >= LEVEL:
            self.back = since
            self.events.clear()


def seconds_back(trickle, lasts):
    """Return the seconds from the ends of ten outages until it is back, shortest first."""
    return sorted(
        Recovery(
            Ours,
            Scenario(
                calls=1_000_000,
                active=500,
                ceilings=((0.0, 2 * LEVEL),),
                bound=LEVEL,
                outage=(20.0, 20.0 + lasts),
                trickle=trickle,
                seed=seed,
            ),
        )
        .run()
        .back
        for seed in range(1, 11)
    )


def refused_by_many(ceiling):
    """Return the share of attempts that is refused where 50 processes share a ceiling."""
    scenario = Scenario(ceilings=((0.0, ceiling),), processes=50, bound=64, calls=100_000)
    return Simulation(Ours, scenario).run().refused_share


def after_lone_refusals(times, ceiling, processes):
    """Return the limit after so many refusals at 32 with one in flight, and a run of 500 calls."""
    scenario = Scenario(
        calls=500 * processes, ceilings=((0.0, ceiling),), processes=processes, bound=LEVEL
    )
    run = Simulation(Ours, scenario)
    for process in run.processes:
        adaptive = process.limit
        while adaptive.limit < LEVEL:
            adaptive.succeeded(adaptive.epoch, adaptive.limit)
        for _ in range(times):
            adaptive.refused(adaptive.epoch, 1)
    window = run.processes[0].limit.window
    return window, run.run()


@contextlib.contextmanager
def constant(module, name, value):
    """Have another value of a constant for a while."""
    chosen = getattr(module, name)
    setattr(module, name, value)
    yield " (chosen)" if value == chosen else ""
    setattr(module, name, chosen)


def recovery():
    """After an outage, and after a lone refusal; seconds to 32, median and longest of ten."""
    shares = (0.0, 0.05, 0.1, 0.2, 0.4)
    print("seconds:", *(f"{share:>10.0%}" for share in shares), "  refused under 5, 12 and 40")
    for keep in (0.0, 0.9, 0.95, 0.97):
        with constant(_limiter, "_KEEP", keep) as note:
            print(f"_KEEP {keep}{note}")
            for lasts in (30, 300):
                backs = [seconds_back(share, lasts) for share in shares]
                cells = [f"{back[5]:>5.0f} {back[-1]:>4.0f}" for back in backs]
                many = (refused_by_many(each) for each in (5, 12, 40)) if lasts == 30 else ()
                print(f"  {lasts:>4} s ", *cells, *(f"{each:>7.1%}" for each in many), flush=True)
    for in_use in (0.0, 0.25, 0.5, 1.0):
        with constant(_limiter, "_IN_USE", in_use) as note:
            print(f"_IN_USE {in_use}{note}: 500 calls after refusals with one in flight")
            for times, ceiling, processes in itertools.product((1, 3), (40, 5), (1, 50)):
                window, run = after_lone_refusals(times, ceiling, processes)
                print(
                    f"  {times} refused, ceiling {ceiling:>2}, {processes:>2} processes:"
                    f" window {window:>4.1f}, {run.end:>6.1f} s,"
                    f" {run.refused_share:.1%} refused, {run.failed} failed",
                    flush=True,
                )


class Pause:
    """Awaited for so many seconds of a `World`; None until it is woken."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __await__(self):
        yield self.seconds


class World:
    """Calls that fail, on a virtual clock, by the package's own `RetryRun` and `RetryQuota`.

    Args:
        share: tells the share of attempts that fail at a time.
        quota: what all calls share.
        slots: attempts in flight at once.
        fault: seconds until an attempt that fails has failed.
    """

    SERVICE = 0.167

    def __init__(self, share, quota, *, slots=32, fault=SERVICE, seed=1):
        self.share, self.quota, self.free, self.fault = share, quota, slots, fault
        self.rng = random.Random(seed)
        self.now = 0.0
        self.events, self.order, self.parked = [], itertools.count(), deque()
        self.requests = self.calls = self.failed = 0
        self.attempts = []  # that each call took

    def at(self, when, calls):
        """Have so many calls begin at a time; return the world."""
        for _ in range(calls):
            heapq.heappush(self.events, (when, next(self.order), self.call()))
        return self

    def run(self):
        while self.events:
            self.now, _, call = heapq.heappop(self.events)
            try:
                seconds = call.send(None)
            except StopIteration:
                continue
            if seconds is None:
                self.parked.append(call)
            else:
                heapq.heappush(self.events, (self.now + seconds, next(self.order), call))
        return self

    async def call(self):
        until = Deadline(None, clock=lambda: self.now)
        run = RetryRun(POLICY, until, self.quota, clock=lambda: self.now, rng=self.rng)
        self.calls += 1
        try:
            await run.result_of(
                functools.partial(self.attempt, run), sleep=Pause, before_sleep=lambda _: None
            )
        except ServerError as error:
            self.failed += 1
            self.attempts.append(len(error.attempts))
        else:
            self.attempts.append(len(run.attempts) + 1)

    async def attempt(self, run):
        if self.free:
            self.free -= 1
        else:
            await Pause(None)
        run.begin()
        self.requests += 1
        fails = self.rng.random() < self.share(self.now)
        await Pause(self.fault if fails else self.SERVICE)
        if self.parked:
            heapq.heappush(self.events, (self.now, next(self.order), self.parked.popleft()))
        else:
            self.free += 1
        if fails:
            message = "down"
            raise ServerError(message, status=503)


class Steady(RetryQuota):
    """Ours, but filled by all time, not by quiet time: ten a minute."""

    def failed(self, began, now):
        self.left = min(self._size, self.left + (now - max(self._last_fault, 0.0)) / 6.0)
        self._last_fault = now


class Timeless(RetryQuota):
    """Ours, but filled by successes alone."""

    def failed(self, began, now):
        """Learn nothing."""


def at_random(share, quota, calls):
    """Return the world of a fan-out of so many calls, of which a share of the attempts fails."""
    return World(lambda _now: share, quota()).at(0.0, calls).run()


def dead(quota, every, *, fault):
    """Return the requests beyond one a call, to a dead server."""
    world = World(lambda _now: 1.0, quota(), fault=fault)
    for number in range(3600 // every):
        world.at(number * every, 1)
    return world.run().requests - world.calls


def minute_later(quota):
    """Return how many attempts a call gets a minute after an outage that used the quota up."""
    world = World(lambda _now: 1.0, quota(), fault=30.0).at(0.0, 1000)
    last = world.run().now  # the outage ended 30 s before its last fault was told
    world.fault = World.SERVICE
    return world.at(last - 30.0 + 60.0, 1).run().attempts[-1]


def quota():
    """The retry quota: faults at random, a dead server, and a minute after an outage."""
    shares = (0.1, 0.3, 0.4, 0.5, 0.7, 0.9)
    print("10,000 calls at once: failed calls / requests a call, where so many attempts fail")
    print(f"{'':24}", *(f"{share:>13.0%}" for share in shares))
    ours = functools.partial(RetryQuota, POLICY.quota)
    for earned in (None, 0.2, 0.5, 0.7, 1.0, 1.5):
        made = functools.partial(RetryQuota, None) if earned is None else ours
        with constant(_retrying, "_EARNED", earned or 1.0) as note:
            worlds = [at_random(share, made, 10_000) for share in shares]
        label = "no quota" if earned is None else f"_EARNED {earned}{note}"
        cells = (f"{w.failed / w.calls:>7.1%} {w.requests / w.calls:>5.2f}" for w in worlds)
        print(f"{label:24}", *cells, flush=True)
    print("A dead server: requests beyond one a call in an hour of a call every so many seconds,")
    print("where a fault takes 0.2 or 30 s; and the attempts of a call a minute after an outage")
    every = (1, 10, 20, 60)
    figures = (*(f"{each} s" for each in every), *(f"{each}, 30" for each in every), "later")
    print(f"{'':24}", *(f"{each:>6}" for each in figures))
    for label, made in (
        ("filled by 30 quiet s", ours),
        ("filled by 10 a minute", functools.partial(Steady, POLICY.quota)),
        ("by successes alone", functools.partial(Timeless, POLICY.quota)),
        ("no quota", functools.partial(RetryQuota, None)),
    ):
        extra = [dead(made, each, fault=fault) for fault in (0.2, 30.0) for each in every]
        print(f"{label:24}", *(f"{each:>6}" for each in (*extra, minute_later(made))), flush=True)


CONSTANTS = {
    "_START": (2, 4, 10, 16),
    "_DECREASE": (0.1, 0.2, 0.3, 0.5),
    "_JUST_BELOW": (0.75, 0.8, 0.9, 1.0),
    "_QUIET": (12, 24, 48),
    "_ROUNDS": (1, 3, 6),
    "_PACE": (0.05, 0.25, 0.5),
    "_LEAST": (1 / 4, 1 / 8, 1 / 16, 1 / 32),
}


def constants():
    """Ours with one constant changed, in the scenarios that it matters in."""
    for name, values in CONSTANTS.items():
        for value in values:
            with constant(_limiter, name, value) as note:
                print(f"{name} {value:.3g}{note}")
                row("  ceiling 12, 1 process", Ours, ceilings=((0.0, 12),), calls=4000)
                row("  ceiling 40, 1 process", Ours, calls=4000)
                row("  ceiling 100, 1 process, 200 calls", Ours, calls=200, ceilings=((0.0, 100),))
                row(
                    "  ceiling 12 to 40, 1 process",
                    Ours,
                    ceilings=((0.0, 12), (0.5, 40)),
                    calls=1000,
                )
                row("  ceiling 40, 4 processes", Ours, processes=4, calls=8000)
                for ceiling in (5, 12, 40):
                    row(
                        f"  ceiling {ceiling}, 50 processes",
                        Ours,
                        ceilings=((0.0, ceiling),),
                        processes=50,
                        calls=100_000,
                    )
                row(
                    "  ceiling 12, none for 30 s",
                    Ours,
                    ceilings=((0.0, 12),),
                    calls=4000,
                    outage=(10.0, 40.0),
                )


TABLES = (
    policies,
    ceilings,
    latencies,
    moves,
    targets,
    million,
    recovery,
    quota,
    constants,
)


def main():
    parser = argparse.ArgumentParser(description="Simulate the limiter, and what it is not.")
    parser.add_argument("tables", nargs="*", help=" ".join(each.__name__ for each in TABLES))
    wanted = parser.parse_args().tables
    for table in TABLES:
        if table.__name__ in (wanted or [each.__name__ for each in TABLES[:-1]]):
            print(f"\n{table.__name__}: {table.__doc__}")
            if table not in {recovery, quota}:
                show(HEADER)
            table()


if __name__ == "__main__":
    main()
