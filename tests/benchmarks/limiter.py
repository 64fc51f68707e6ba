"""The limiter beside what it is not, on a virtual clock: what `_limiter.py` was chosen by.

    python tests/benchmarks/limiter.py [policies] [ceilings] [latencies] [moves] [targets] [million]
    python tests/benchmarks/limiter.py constants

The server takes `ceiling` attempts at a time, for 147 ms on average (exponential), and refuses the
others at once; 10 ms are on the way there, 10 ms back. Each process starts with all its calls in
its queue (the hardest case), retries by the defaults of `RetryPolicy`, and ours runs the package's
own `AdaptiveLimit`. The same seeds give the same figures; up to 20,000 calls they are means of
five runs. `failed` calls were refused five times. `makespan` is over that of a server that is never
idle; it means little where calls fail. `shares` is Jain's index of what each process had got when
half was done: 1 is equal, 1/n is all for one.

Policies. 2000 calls of one process (bound 100) or four (bound 25), ceiling 40; and 100,000 calls of
50 (bound 64). A slot that is released while its call backs off is filled by another first attempt,
so that the load never falls; and so it is by 50 processes that stop at a limit of 1.

                                               requests  refused  failed  makespan  shares
    no backoff, 1 process                           8271    90.6%  1225.4      0.47
    full jitter, 1 process                          7908    78.3%   280.4      1.08
    slot held, 1 process                            3009    33.7%       6      1.43
    shared pause, 1 process                         4603    61.0%   206.2      7.71
    bound of 16, 1 process                          2000     0.0%       0      2.88
    ours, 1 process                                 2019     0.9%       0      1.28
    no backoff, 4 processes                         8028    88.9%  1106.8      0.53    0.78
    full jitter, 4 processes                        7774    78.0%   292.4      1.11    0.95
    slot held, 4 processes                          2971    32.9%     5.4      1.34    0.99
    shared pause, 4 processes                       2765    27.6%       0      1.86    0.82
    bound of 16, 4 processes                        6171    68.8%      77      1.32    1.00
    ours, 4 processes                               2035     1.7%       0      1.46    0.87
    no backoff, 50 processes                      497208    99.7%   98691      0.01    0.03
    full jitter, 50 processes                     497493    99.5%   97751      0.03    0.11
    slot held, 50 processes                       442446    93.7%   72104      0.29    1.00
    shared pause, 50 processes                    437868    91.0%   60760      0.62    0.81
    bound of 16, 50 processes                     490604    99.0%   95233      0.05    0.16
    ours, 50 processes                            103429     3.3%       0      1.26    0.81
    ours, but floor 1, 50 processes               195520    49.6%    1375      1.03    1.00

Ceilings. 2000 calls a process.

                                               requests  refused  failed  makespan  shares
    ceiling 5, 1 processes                          2027     1.3%       0      1.19
    ceiling 5, 4 processes                          8211     2.6%       0      1.64    0.74
    ceiling 5, 50 processes                       114684    12.8%       1      1.76    0.97
    ceiling 12, 1 processes                         2020     1.0%       0      1.24
    ceiling 12, 4 processes                         8147     1.8%       0      1.33    0.86
    ceiling 12, 50 processes                      107130     6.7%       0      1.43    0.89
    ceiling 40, 1 processes                         2019     0.9%       0      1.28
    ceiling 40, 4 processes                         8124     1.5%       0      1.38    0.90
    ceiling 40, 50 processes                      103429     3.3%       0      1.26    0.81
    ceiling 100, 1 processes                        2000     0.0%       0      1.48
    ceiling 100, 4 processes                        8093     1.2%       0      1.25    0.92
    ceiling 100, 50 processes                     102321     2.3%       0      1.18    0.74

Latencies. Ceiling 40; 4000 calls of one process, 100,000 of 50. Shares become equal with time
(0.87 after half a million calls of 20 ms), except where all answers take exactly the same: 0.54.

                                               requests  refused  failed  makespan  shares
    0.02 s, lognormal, 1 processes                  4079     1.9%       0      1.52
    0.02 s, lognormal, 50 processes               103018     2.9%       0      2.02    0.65
    0.05 s, lognormal, 1 processes                  4047     1.2%       0      1.35
    0.05 s, lognormal, 50 processes               102942     2.9%       0      1.35    0.74
    0.147 s, lognormal, 1 processes                 4028     0.7%       0      1.24
    0.147 s, lognormal, 50 processes              103529     3.4%       0      1.29    0.86
    0.147 s, fixed, 1 processes                     4062     1.5%       0      1.23
    0.147 s, fixed, 50 processes                  106245     5.9%       0      2.56    0.60
    0.6 s, lognormal, 1 processes                   4017     0.4%       0      1.14
    0.6 s, lognormal, 50 processes                105126     4.9%       0      1.15    0.89
    2.0 s, lognormal, 1 processes                   4016     0.4%       0      1.12
    2.0 s, lognormal, 50 processes                108557     7.9%       0      1.12    0.93

Moves. 4000 calls of one process; the ceiling moves half-way, or all is refused for 30 s, which
alone makes 1.6 of the ideal makespan.

                                               requests  refused  failed  makespan  shares
    full jitter, 12 to 40                          19218    96.5%  3325.8      0.28
    full jitter, 40 to 12                          16455    86.8%    1828      0.31
    slot held, 12 to 40                             8157    53.9%   240.4      1.11
    slot held, 40 to 12                             7841    51.5%   198.8      1.04
    bound of 16, 12 to 40                           7544    47.0%       0      1.46
    bound of 16, 40 to 12                           6930    44.2%     131      1.44
    ours, 12 to 40                                  4037     0.9%       0      1.26
    ours, 40 to 12                                  4055     1.4%       0      1.24
    full jitter, 12, none for 30 s                 19218    96.5%  3325.8      0.18
    slot held, 12, none for 30 s                   11815    75.5%  1104.6      1.42
    bound of 16, 12, none for 30 s                 16780    95.2%    3195      0.59
    ours, 12, none for 30 s                         4064     1.6%       0      1.93

Targets. 500 conferences, max_concurrency=64, fixed service time, 2 ms on the way: as on loopback.
The last refused call waits up to half a second, which is much of the shortest runs.

                                               requests  refused  failed  makespan  shares
    0.02 s, 1 pages, 12 to 12                        508     1.6%       0      1.39
    0.02 s, 1 pages, 12 to 40                        511     2.2%       0      2.11
    0.02 s, 2 pages, 12 to 12                       1012     1.2%       0      1.21
    0.02 s, 2 pages, 12 to 40                       1016     1.6%       0      1.62
    0.05 s, 1 pages, 12 to 12                        508     1.6%       0      1.15
    0.05 s, 1 pages, 12 to 40                        511     2.2%       0      1.55
    0.05 s, 2 pages, 12 to 12                       1012     1.2%       0      1.14
    0.05 s, 2 pages, 12 to 40                       1016     1.6%       0      1.32

A million conferences from 50 processes; each has begun 64 or all of its 20,000. `refusals by
attempt` tells how near to failing it was: the last figure is the calls that failed. With six seeds,
none of six million fails under 40, and four of six million under 12: a quarter of a slot each.

                                               requests  refused  failed  makespan  shares
    ceiling 12, 64 begun                         1070174     6.6%       0      1.39    0.99
        4.73 h; refusals by attempt [65183, 4647, 324, 20, 0]
    ceiling 12, all begun                        1070297     6.6%       1      1.39    0.99
        4.71 h; refusals by attempt [66974, 3202, 116, 5, 1]
    ceiling 40, 64 begun                         1033737     3.3%       0      1.16    0.97
        1.19 h; refusals by attempt [32636, 1051, 49, 1, 0]
    ceiling 40, all begun                        1033501     3.2%       0      1.16    0.97
        1.18 h; refusals by attempt [32746, 738, 16, 1, 0]
    ceiling 100, 64 begun                        1023121     2.3%       0      1.10    0.93
        0.45 h; refusals by attempt [22634, 476, 11, 0, 0]
    ceiling 100, all begun                       1023216     2.3%       0      1.09    0.93
        0.45 h; refusals by attempt [22799, 412, 4, 1, 0]
"""

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
