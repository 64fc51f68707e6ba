"""DOC"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import itertools
import math
import random
import time
from collections import deque

from aioparticipants import RetryPolicy, _limiter
from aioparticipants._limiter import AdaptiveLimit

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
    outage: tuple[float, float] = (math.inf, math.inf)  # from when to when all is refused
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
        begins, ends = self.scenario.outage
        if self.busy >= self.ceiling or begins <= self.now < ends:
            self.later(self.scenario.trip / 2, self.refused, process, attempt, epoch)
        else:
            self.busy += 1
            self.later(self.draw(), self.served, process, epoch)

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
            f"{mean(lambda run: run.failed):.3g}",
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


CONSTANTS = {
    "_START": (2, 4, 10, 16),
    "_DECREASE": (0.1, 0.2, 0.3, 0.5),
    "_JUST_BELOW": (0.8, 0.9, 1.0),
    "_QUIET": (12, 24, 48),
    "_ROUNDS": (1, 3, 6),
    "_PACE": (0.05, 0.25, 0.5),
    "_LEAST": (1 / 4, 1 / 8, 1 / 16, 1 / 32),
}


def constants():
    """Ours with one constant changed, in the scenarios that it matters in."""
    for name, values in CONSTANTS.items():
        chosen = getattr(_limiter, name)
        for value in values:
            setattr(_limiter, name, value)
            print(f"{name} {value:.3g}" + " (chosen)" * (value == chosen))
            row("  ceiling 12, 1 process", Ours, ceilings=((0.0, 12),), calls=4000)
            row("  ceiling 40, 1 process", Ours, calls=4000)
            row("  ceiling 100, 1 process, 200 calls", Ours, calls=200, ceilings=((0.0, 100),))
            row("  ceiling 12 to 40, 1 process", Ours, ceilings=((0.0, 12), (0.5, 40)), calls=1000)
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
        setattr(_limiter, name, chosen)


TABLES = (policies, ceilings, latencies, moves, targets, million, constants)


def main():
    parser = argparse.ArgumentParser(description="Simulate the limiter, and what it is not.")
    parser.add_argument("tables", nargs="*", help=" ".join(each.__name__ for each in TABLES))
    wanted = parser.parse_args().tables
    for table in TABLES:
        if table.__name__ in (wanted or [each.__name__ for each in TABLES[:-1]]):
            print(f"\n{table.__name__}: {table.__doc__}")
            show(HEADER)
            table()


if __name__ == "__main__":
    main()
