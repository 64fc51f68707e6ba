"""Simulate the adaptive limit beside other policies, on a virtual clock.

    python tests/benchmarks/limiter.py [policies] [ceilings] [latencies] [moves] [loopback]
    python tests/benchmarks/limiter.py [million] [recovery] [constants]

The model. A server has a ceiling: it serves so many attempts at a time, each for 147 ms on average
(exponential), and answers 429 to the others at once. An attempt travels 10 ms to the server and
10 ms back. Each process starts with all its calls queued, which is the hardest case, and retries by
the defaults of `RetryPolicy`. The policy `ours` is the package's own `AdaptiveLimit`. Runs are
seeded, so the figures repeat; up to 20,000 calls they are the means of five runs.

The columns:

requests    attempts sent
429s        the share of the attempts that got a 429
failed      calls that got a 429 in each of their five attempts
makespan    the time until all calls were done, divided by that of a server that is never idle; it
            means little where calls fail
fairness    Jain's index of the calls done by each process, when half of all were done: 1 is an
            equal share for each, 1/n is everything for one

The tables:

policies    why there is a limiter: ours beside a fixed limit, with several ways to wait
ceilings    ours under a ceiling of 5 to 100, for 1, 4 and 50 processes
latencies   ours with a service time of 20 ms to 2 s
moves       a ceiling that rises or falls half-way, and an outage of 30 s
loopback    500 conferences with the latencies of a loopback server
million     1,000,000 conferences by 50 processes, with the 429s by attempt: the last figure is the
            number of calls that failed; the fairness is 0.9 to 1.0
recovery    `_PLATEAU_DECAY`: seconds until the limit is back after an outage that lets a share of
            the attempts through, and the 429s where 50 processes share a ceiling.
            `_MIN_USE`: 500 calls after a 429 with one attempt in flight
constants   each other constant with other values

The lesson of `policies`: if a call releases its slot while it waits to retry, the first attempt of
another call takes the slot, so backoff alone never lowers the load. Nor do 50 processes whose limit
stops at 1.

                                               requests     429s  failed  makespan fairness
    full jitter, 1 process                          7908    78.3%   280.4      1.08
    ours, 1 process                                 2019     0.9%       0      1.28
    full jitter, 4 processes                        7774    78.0%   292.4      1.11     0.95
    ours, 4 processes                               2034     1.7%       0      1.42     0.90
    full jitter, 50 processes                     497493    99.5%   97751      0.03     0.11
    slot held, 50 processes                       442446    93.7%   72104      0.29     1.00
    ours, 50 processes                            103391     3.3%       0      1.24     0.85
    ours without pauses, 50 processes             194785    49.3%    1329      1.03     1.00

The results behind the constants (a makespan is written as a factor, "1.24"):

_INITIAL_WINDOW         16 instead of 4 brings 200 calls through in 4.0 instead of 4.9 (ceiling
                        100), but 6.2 instead of 3.3 % of 100,000 attempts of 50 processes get a 429
_BETA                   0.9, 0.8, 0.7, 0.5: 1.21, 1.24, 1.28, 1.38 (ceiling 12). 0.9 gets more 429s
                        where the ceiling falls: 2.0 instead of 1.6 %
_PLATEAU_FACTOR         0.8, 0.9, 1: 6.8, 8.2, 10.7 % 429s (ceiling 12, 50 processes); 0.75 takes
                        1.40 instead of 1.24 for one process under a ceiling of 3
_PLATEAU_DECAY          the median and the longest of ten outages; 0.95 is soon back after a short
                        outage, and gets only a little more 429s:
                                   30 s of outage, share let through     300 s      429s, ceiling
                                     0 %       20 %      40 %       40 %         5     12     40
                            0       5, 9     42, 72    54, 78     66, 75      11.3 %  5.6 %  2.9 %
                            0.9     5, 9      4, 9     16, 18     62, 71      12.7 %  6.3 %  3.1 %
                            0.95    5, 9      3, 6      5, 10     42, 64      13.6 %  6.8 %  3.3 %
                            0.97    5, 9      3, 6      3, 5      25, 34      15.1 %  7.7 %  3.6 %
_MIN_USE                0, 1/4, 1/2, 1: 19, 5.3, 4.0, 3.1 s for one process (ceiling 40), but 2.5,
                        6.5, 13, 25 % 429s for 50 processes (ceiling 40)
_GROWTH_SUCCESSES       12, 24, 48: 21, 13.6, 9.1 % 429s (ceiling 5, 50 processes), and 1.48, 1.72,
                        2.04
_GROWTH_ROUND_TRIPS     1, 3, 6: 2.5, 1.4, 0.8 % 429s for one process; from a ceiling of 12 to one
                        of 40 it takes 1.38, 1.42, 1.50
_MEAN_PAUSE             0.05 fails 2.9 % of the calls of 50 processes (ceiling 5), half of all
                        attempts get a 429; 0.5 takes 1.43 instead of 1.24 (ceiling 40)
_MIN_WINDOW             1/4 fails as many calls as the shorter pause
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import math
import random
import time
from collections import deque

import attrs

from aioparticipants import RetryPolicy, _limiter
from aioparticipants._limiter import AdaptiveLimit

RETRY = RetryPolicy()


# --- What is simulated ---


@attrs.frozen(kw_only=True)
class Scenario:
    """The calls of some processes, and the server."""

    calls: int = 2000
    ceilings: tuple[tuple[float, int], ...] = ((0.0, 40),)
    """Pairs: from this share of the calls done on, the server has this ceiling."""
    processes: int = 1
    max_concurrency: int = 100
    """Of each process."""
    active: int | None = None
    """Calls that a process works on at a time; None for all."""
    service: float = 0.147
    """Mean seconds that the server takes."""
    spread: str = "exponential"
    """The distribution of the service time: exponential, lognormal or fixed."""
    round_trip: float = 0.02
    """Seconds on the way, there and back; a 429 takes nothing else."""
    outage: tuple[float, float] = (math.inf, math.inf)
    """Seconds, from and to: meanwhile the server answers 429, but for a share of the attempts."""
    let_through: float = 0.0
    """That share."""
    seed: int = 1

    def ideal(self):
        """Return the makespan of a server that is never idle and never answers 429."""
        ends = [*(share for share, _ in self.ceilings[1:]), 1.0]
        return sum(
            (end - begin) * self.calls * self.service / ceiling
            for (begin, ceiling), end in zip(self.ceilings, ends, strict=True)
        )


class FullJitter:
    """A fixed limit; a call that got a 429 waits with full jitter, and frees its slot meanwhile."""

    waits = True  # whether a call waits before its retry
    holds_slot = False  # whether it keeps its slot while it waits
    pauses_all = False  # whether all calls of the process wait with it

    def __init__(self, max_concurrency):
        self.limit = max_concurrency
        self.epoch = 0

    def succeeded(self, epoch, in_flight):
        """Learn nothing."""

    def rate_limited(self, epoch, in_flight):
        """Learn nothing."""

    def pause(self, rng):
        return 0.0


class NoBackoff(FullJitter):
    waits = False


class HeldSlot(FullJitter):
    holds_slot = True


class SharedPause(FullJitter):
    pauses_all = True


class LimitOf16(FullJitter):
    def __init__(self, _max_concurrency):
        super().__init__(16)


class Ours(AdaptiveLimit):
    waits, holds_slot, pauses_all = True, False, False


class WithoutPauses(Ours):
    """Ours, without the pauses of a window below 1."""

    def pause(self, rng):
        return 0.0


POLICIES = {
    "no backoff": NoBackoff,
    "full jitter": FullJitter,
    "slot held": HeldSlot,
    "shared pause": SharedPause,
    "limit of 16": LimitOf16,
    "ours": Ours,
}


# --- The simulation ---


class Process:
    """A client process: its limit, its slots, and its queue of calls."""

    __slots__ = ("done", "in_flight", "limit", "not_begun", "paused_until", "queue")

    def __init__(self, limit, calls, active):
        self.limit = limit
        self.not_begun = calls
        self.queue = deque()  # of calls, each as the number of its attempts so far
        self.in_flight = 0
        self.paused_until = 0.0
        self.done = 0
        self.begin(calls if active is None else active)

    def begin(self, calls):
        calls = min(calls, self.not_begun)
        self.not_begun -= calls
        self.queue.extend([0] * calls)


class Simulation:
    """A discrete-event simulation of one policy in one scenario.

    An attempt goes through `send`, `arrive`, then either `serve` and `succeed`, or `get_429`.
    """

    def __init__(self, policy, scenario):
        self.scenario = scenario
        self.rng = random.Random(scenario.seed)
        each, more = divmod(scenario.calls, scenario.processes)
        self.processes = [
            Process(policy(scenario.max_concurrency), each + (number < more), scenario.active)
            for number in range(scenario.processes)
        ]
        self.moves = deque((share * scenario.calls, to) for share, to in scenario.ceilings)
        self.ceiling = self.moves.popleft()[1]
        self.in_service = 0
        self.now = self.end = 0.0
        self.events = []
        self.order = itertools.count()
        self.requests = self.done = self.failed = 0
        self.rate_limited = [0] * RETRY.max_attempts  # 429s by the number of the attempt
        self.shares = []  # calls done by each process, when half of all were done

    def run(self):
        for process in self.processes:
            self.send(process)
        while self.events:
            self.now, _, happen, *about = heapq.heappop(self.events)
            happen(*about)
        return self

    def after(self, seconds, happen, *about):
        heapq.heappush(self.events, (self.now + seconds, next(self.order), happen, *about))

    def send(self, process):
        limit, queue = process.limit, process.queue
        while queue and process.in_flight < limit.limit and process.paused_until <= self.now:
            attempt = queue.popleft() + 1
            process.in_flight += 1
            self.requests += 1
            self.after(self.scenario.round_trip / 2, self.arrive, process, attempt, limit.epoch)

    def arrive(self, process, attempt, epoch):
        if self.in_service >= self.ceiling or self.in_outage():
            self.after(self.scenario.round_trip / 2, self.get_429, process, attempt, epoch)
        else:
            self.in_service += 1
            self.after(self.service_time(), self.serve, process, epoch)

    def in_outage(self):
        begin, end = self.scenario.outage
        return begin <= self.now < end and self.rng.random() >= self.scenario.let_through

    def service_time(self):
        mean, sigma = self.scenario.service, 0.5
        match self.scenario.spread:
            case "exponential":
                return self.rng.expovariate(1 / mean)
            case "lognormal":
                return self.rng.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)
            case _:
                return mean

    def serve(self, process, epoch):
        self.in_service -= 1
        self.after(self.scenario.round_trip / 2, self.succeed, process, epoch)

    def succeed(self, process, epoch):
        process.limit.succeeded(epoch, process.in_flight)
        process.done += 1
        self.done += 1
        if self.moves and self.done >= self.moves[0][0]:
            self.ceiling = self.moves.popleft()[1]
        self.end_call(process)

    def get_429(self, process, attempt, epoch):
        limit = process.limit
        limit.rate_limited(epoch, process.in_flight)
        self.rate_limited[attempt - 1] += 1
        if attempt == RETRY.max_attempts:
            self.failed += 1
            self.end_call(process)
            return
        bound = min(RETRY.max_delay, RETRY.base_delay * 2.0 ** (attempt - 1))
        delay = self.rng.uniform(0.0, bound) if limit.waits else 0.0
        if limit.pauses_all:
            self.pause(process, delay)
        self.after(delay, self.retry, process, attempt)
        if not limit.holds_slot:
            self.release(process)

    def retry(self, process, attempt):
        if process.limit.holds_slot:
            process.in_flight -= 1
            process.queue.appendleft(attempt)
        else:
            process.queue.append(attempt)
        self.send(process)

    def end_call(self, process):
        self.end = self.now
        process.begin(1)
        if not self.shares and self.done + self.failed >= self.scenario.calls / 2:
            self.shares = [one.done for one in self.processes]
        self.release(process)

    def release(self, process):
        process.in_flight -= 1
        if process.paused_until <= self.now:
            self.pause(process, process.limit.pause(self.rng))
        self.send(process)

    def pause(self, process, seconds):
        if seconds:
            process.paused_until = max(process.paused_until, self.now + seconds)
            self.after(seconds, self.send, process)

    @property
    def rate_limited_share(self):
        return sum(self.rate_limited) / self.requests

    @property
    def makespan(self):
        return self.end / self.scenario.ideal()

    @property
    def fairness(self):
        squares = len(self.shares) * sum(share**2 for share in self.shares)
        return sum(self.shares) ** 2 / squares if squares else math.nan


# --- Tables ---

SMALL = 20_000  # calls up to which a scenario runs five times
MEGA = {"processes": 50, "max_concurrency": 64, "calls": 100_000}


def show(label, *figures):
    """Print a line of a table."""
    print(f"{label:42}", *(f"{figure:>8}" for figure in figures), flush=True)


def row(label, policy, **options):
    """Simulate a scenario, print the means as a line of the table, and return the runs."""
    scenario = Scenario(**options)
    seeds = range(1, 6 if scenario.calls <= SMALL else 2)
    runs = [Simulation(policy, attrs.evolve(scenario, seed=seed)).run() for seed in seeds]

    def mean(figure):
        return sum(getattr(run, figure) for run in runs) / len(runs)

    show(
        label,
        f"{mean('requests'):.0f}",
        f"{mean('rate_limited_share'):.1%}",
        f"{mean('failed'):.1f}".removesuffix(".0"),
        f"{mean('makespan'):.2f}",
        f"{mean('fairness'):.2f}" if scenario.processes > 1 else "",
    )
    return runs


def policies():
    """Ceiling 40. 2000 calls: 1 process of max_concurrency 100, 4 of 25. 100,000: 50 of 64."""
    for label, policy in POLICIES.items():
        row(f"{label}, 1 process", policy)
    for label, policy in POLICIES.items():
        row(f"{label}, 4 processes", policy, processes=4, max_concurrency=25)
    for label, policy in {**POLICIES, "ours without pauses": WithoutPauses}.items():
        row(f"{label}, 50 processes", policy, **MEGA)


def ceilings():
    """Ours: 2000 calls a process."""
    for ceiling, processes in itertools.product((5, 12, 40, 100), (1, 4, 50)):
        label = f"ceiling {ceiling}, {processes} process(es)"
        calls = 2000 * processes
        row(label, Ours, ceilings=((0.0, ceiling),), processes=processes, calls=calls)


def latencies():
    """Ours, ceiling 40: 4000 calls of one process, 100,000 of 50."""
    times = [(each, "lognormal") for each in (0.02, 0.05, 0.147, 0.6, 2.0)]
    for service, spread in (*times, (0.147, "fixed")):
        for processes, calls in ((1, 4000), (50, 100_000)):
            label = f"{service} s, {spread}, {processes} process(es)"
            row(label, Ours, service=service, spread=spread, processes=processes, calls=calls)


def moves():
    """4000 calls of one process, under a ceiling that changes half-way, and with an outage."""
    for (before, after), (label, policy) in itertools.product(
        ((12, 40), (40, 12)), POLICIES.items()
    ):
        ceilings = ((0.0, before), (0.5, after))
        row(f"{label}, {before} to {after}", policy, ceilings=ceilings, calls=4000)
    for label, policy in POLICIES.items():
        row(f"{label}, 12, none for 30 s", policy, **OUTAGE)


OUTAGE = {"ceilings": ((0.0, 12),), "calls": 4000, "outage": (10.0, 40.0)}


def loopback():
    """Ours: 500 conferences, 64 at a time, under a ceiling of 12."""
    for service, pages, after in itertools.product((0.02, 0.05), (1, 2), (12, 40)):
        row(
            f"{service} s, {pages} pages, 12 to {after}",
            Ours,
            calls=500 * pages,
            active=64,
            ceilings=((0.0, 12), (0.5, after)),
            max_concurrency=64,
            service=service,
            spread="fixed",
            round_trip=0.002,
        )


def million():
    """Ours: 1,000,000 conferences by 50 processes, each with 64 or all of its calls begun."""
    for ceiling, active in itertools.product((12, 40, 100), (64, None)):
        began = time.perf_counter()
        label = f"ceiling {ceiling}, {active or 'all'} begun"
        options = MEGA | {"calls": 1_000_000, "ceilings": ((0.0, ceiling),), "active": active}
        (run,) = row(label, Ours, **options)
        hours, took = run.end / 3600, time.perf_counter() - began
        print(f"    {hours:.2f} h; 429s by attempt {run.rate_limited}; took {took:.0f} s")


@contextlib.contextmanager
def constant(module, name, value):
    """Give a module's constant another value, and yield its label."""
    chosen = getattr(module, name)
    setattr(module, name, value)
    try:
        yield f"{name} {value:.3g}{' (chosen)' if value == chosen else ''}"
    finally:
        setattr(module, name, chosen)


DEFAULT = 32  # of max_concurrency


class Recovery(Simulation):
    """Ends when the limit of its one process is back at the default after an outage."""

    seconds_back = math.nan  # since the end of the outage

    def succeed(self, process, epoch):
        super().succeed(process, epoch)
        since = self.now - self.scenario.outage[1]
        if since >= 0 and process.limit.limit >= DEFAULT:
            self.seconds_back = since
            self.events.clear()


def seconds_back(let_through, lasts):
    """Return the seconds to recover from each of ten outages, sorted."""
    scenario = Scenario(
        calls=1_000_000,
        active=500,
        ceilings=((0.0, 2 * DEFAULT),),
        max_concurrency=DEFAULT,
        outage=(20.0, 20.0 + lasts),
        let_through=let_through,
    )
    runs = (Recovery(Ours, attrs.evolve(scenario, seed=seed)).run() for seed in range(1, 11))
    return sorted(run.seconds_back for run in runs)


def after_lone_429s(times, ceiling, processes):
    """Simulate 500 calls a process, after so many 429s with one attempt in flight of a limit of 32.

    Return the window before the first call, and the simulation.
    """
    scenario = Scenario(
        calls=500 * processes,
        ceilings=((0.0, ceiling),),
        processes=processes,
        max_concurrency=DEFAULT,
    )
    simulation = Simulation(Ours, scenario)
    for process in simulation.processes:
        limit = process.limit
        while limit.limit < DEFAULT:
            limit.succeeded(limit.epoch, limit.limit)
        for _ in range(times):
            limit.rate_limited(limit.epoch, 1)
    window = simulation.processes[0].limit.window
    return window, simulation.run()


def recovery():
    """Seconds until the limit is back, the median and the longest of ten; and lone 429s."""
    shares = (0.0, 0.05, 0.1, 0.2, 0.4)
    heads = (f"{share:.0%} let through" for share in shares)
    print("outage ", *(f"{head:>15}" for head in heads), " 429s with a ceiling of 5, 12, 40")
    for decay in (0.0, 0.9, 0.95, 0.97):
        with constant(_limiter, "_PLATEAU_DECAY", decay) as label:
            print(label)
            for lasts in (30, 300):
                backs = [seconds_back(share, lasts) for share in shares]
                cells = [f"{back[5]:>10.0f} {back[-1]:>4.0f}" for back in backs]
                print(f"{lasts:>4} s ", *cells, *(refused_by_many() if lasts == 30 else ()))
    for least_use in (0.0, 0.25, 0.5, 1.0):
        with constant(_limiter, "_MIN_USE", least_use) as label:
            print(f"{label}: 500 calls after 429s with one attempt in flight")
            for times, ceiling, processes in itertools.product((1, 3), (40, 5), (1, 50)):
                window, run = after_lone_429s(times, ceiling, processes)
                print(
                    f"  {times} before, ceiling {ceiling:>2}, {processes:>2} processes:"
                    f" window {window:>4.1f}, {run.end:>6.1f} s,"
                    f" {run.rate_limited_share:.1%} 429s, {run.failed} failed",
                    flush=True,
                )


def refused_by_many():
    """Return the share of attempts that get a 429 where 50 processes share a ceiling."""
    scenarios = (Scenario(**MEGA, ceilings=((0.0, ceiling),)) for ceiling in (5, 12, 40))
    return [f"{Simulation(Ours, each).run().rate_limited_share:>7.1%}" for each in scenarios]


CONSTANTS = {
    "_INITIAL_WINDOW": (2, 4, 10, 16),
    "_BETA": (0.9, 0.8, 0.7, 0.5),
    "_PLATEAU_FACTOR": (0.75, 0.8, 0.9, 1.0),
    "_GROWTH_SUCCESSES": (12, 24, 48),
    "_GROWTH_ROUND_TRIPS": (1, 3, 6),
    "_MEAN_PAUSE": (0.05, 0.25, 0.5),
    "_MIN_WINDOW": (1 / 4, 1 / 8, 1 / 16, 1 / 32),
}
#: The scenarios that a constant matters in.
TELLING = {
    "ceiling 12, 1 process": {"ceilings": ((0.0, 12),), "calls": 4000},
    "ceiling 40, 1 process": {"calls": 4000},
    "ceiling 100, 1 process, 200 calls": {"calls": 200, "ceilings": ((0.0, 100),)},
    "ceiling 12 to 40, 1 process": {"ceilings": ((0.0, 12), (0.5, 40)), "calls": 1000},
    "ceiling 40, 4 processes": {"processes": 4, "calls": 8000},
    "ceiling 5, 50 processes": {**MEGA, "max_concurrency": 100, "ceilings": ((0.0, 5),)},
    "ceiling 12, 50 processes": {**MEGA, "max_concurrency": 100, "ceilings": ((0.0, 12),)},
    "ceiling 40, 50 processes": {**MEGA, "max_concurrency": 100},
    "ceiling 12, none for 30 s": OUTAGE,
}


def constants():
    """Ours with one constant changed."""
    for name, values in CONSTANTS.items():
        for value in values:
            with constant(_limiter, name, value) as label:
                print(label)
                for scenario, options in TELLING.items():
                    row(f"  {scenario}", Ours, **options)


TABLES = (policies, ceilings, latencies, moves, loopback, million, recovery, constants)


def main():
    parser = argparse.ArgumentParser(description="Simulate the adaptive limit and other policies.")
    parser.add_argument("tables", nargs="*", help=" ".join(each.__name__ for each in TABLES))
    wanted = parser.parse_args().tables or [each.__name__ for each in TABLES[:-1]]
    for table in TABLES:
        if table.__name__ in wanted:
            print(f"\n{table.__name__}: {table.__doc__}")
            if table is not recovery:
                show("", "requests", "429s", "failed", "makespan", "fairness")
            table()


if __name__ == "__main__":
    main()
