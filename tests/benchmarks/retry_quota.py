"""Simulate the retry quota of a session, on a virtual clock: what a quota costs, and what it saves.

    python tests/benchmarks/retry_quota.py

Calls run the package's own `RetryRun` and `RetryQuota`, with the defaults of `RetryPolicy`. The
first table has 10,000 calls at once, 32 attempts in flight, and attempts that fail at random; each
cell is the share of calls that fail, and the attempts a call. `_EARNED` is what a success earns:

                                       10%           30%           40%           50%           70%
    no quota                    0.0%  1.11    0.2%  1.43    1.1%  1.65    3.0%  1.93   17.2%  2.78
    _EARNED 0.2                 0.0%  1.11   18.5%  1.17   31.2%  1.15   44.0%  1.12   67.7%  1.07
    _EARNED 1 (chosen)          0.0%  1.11    0.2%  1.43    1.1%  1.65    3.2%  1.92   57.5%  1.43

The second table has a server that is down for an hour, and a call every so many seconds. Each cell
is the number of retries, where a fault takes 0.2 s or 30 s; `later` is the number of attempts of a
call a minute after an outage, which should be all five. `_QUIET_SECONDS` is 30: the last fault of
an outage may come 30 s after its end, as an attempt takes so long at most by default.

                                   1 s   10 s   20 s   60 s  1, 30 10, 30 20, 30 60, 30  later
    restored after 30 quiet s      100    100    100    240    100    100    100    175      5
    10 restored a minute           699    698    697    240    787    704    540    180      5
    restored by successes          100    100    100    100    100    100    100    100      1
    no quota                     14400   1440    720    240  10800   1080    540    180      5
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque

from aioparticipants import RetryPolicy, ServerError, _retrying
from aioparticipants._retrying import Deadline, RetryQuota, RetryRun

RETRY = RetryPolicy()
SERVICE = 0.167  # seconds that an attempt takes


class Pause:
    """Awaited for so many seconds of a `World`; None until a slot is free."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __await__(self):
        yield self.seconds


class World:
    """Calls on a virtual clock, whose attempts fail with a probability.

    Args:
        failing: the share of the attempts that fails.
        quota: what all calls share.
        fault: seconds that a failing attempt takes.
    """

    def __init__(self, failing, quota, *, fault=SERVICE):
        self.failing, self.quota, self.fault = failing, quota, fault
        self.rng = random.Random(1)
        self.now, self.free_slots = 0.0, 32
        self.events, self.order, self.waiting = [], itertools.count(), deque()
        self.requests = self.calls = self.failed = 0
        self.latest = 0  # attempts of the call that ended last

    def begin(self, when, calls):
        """Let so many calls begin at a time; return the world."""
        for _ in range(calls):
            self.schedule(when, self.call())
        return self

    def schedule(self, when, call):
        heapq.heappush(self.events, (when, next(self.order), call))

    def run(self):
        while self.events:
            self.now, _, call = heapq.heappop(self.events)
            try:
                seconds = call.send(None)
            except StopIteration:
                continue
            if seconds is None:
                self.waiting.append(call)
            else:
                self.schedule(self.now + seconds, call)
        return self

    async def call(self):
        """Make one call: the only place that uses `RetryRun`."""
        deadline = Deadline(None, clock=lambda: self.now)
        run = RetryRun(RETRY, deadline, self.quota, clock=lambda: self.now, rng=self.rng)
        self.calls += 1
        try:
            async for attempt in run.controller(
                sleep=Pause, before_sleep=lambda _: run.record_retry()
            ):
                with attempt, run.recorded():
                    await self.attempt(run)
        except ServerError as error:
            self.failed += 1
            self.latest = len(error.attempts)

    async def attempt(self, run):
        if self.free_slots:
            self.free_slots -= 1
        else:
            await Pause(None)
        run.attempt_started()
        self.requests += 1
        fails = self.rng.random() < self.failing
        await Pause(self.fault if fails else SERVICE)
        if self.waiting:
            self.schedule(self.now, self.waiting.popleft())
        else:
            self.free_slots += 1
        if fails:
            message = "down"
            raise ServerError(message, status=503)


class Steady(RetryQuota):
    """A quota restored by all time, not by quiet time: ten a minute."""

    def failed(self, began, now):
        self.left = min(self._size, self.left + (now - max(self._last_fault, 0.0)) / 6.0)
        self._last_fault = now


class Timeless(RetryQuota):
    """A quota restored by successes alone."""

    def failed(self, began, now):
        """Learn nothing."""


def random_faults():
    """Print the first table."""
    from limiter import constant  # here, as the suite imports this module as part of a package

    shares = (0.1, 0.3, 0.4, 0.5, 0.7, 0.9)
    print("10,000 calls at once: failed calls, and attempts a call, where so many attempts fail")
    print(f"{'':26}", *(f"{share:>13.0%}" for share in shares))
    for earned in (None, 0.2, 0.5, 0.7, 1.0, 1.5):
        size = None if earned is None else RETRY.quota
        with constant(_retrying, "_EARNED", earned or 1.0) as label:
            worlds = [World(share, RetryQuota(size)).begin(0.0, 10_000).run() for share in shares]
        cells = (f"{w.failed / w.calls:>7.1%} {w.requests / w.calls:>5.2f}" for w in worlds)
        print(f"{'no quota' if earned is None else label:26}", *cells, flush=True)


def retries_of_dead_server(quota, every, *, fault):
    """Return the retries of an hour, with a call every so many seconds."""
    world = World(1.0, quota, fault=fault)
    for number in range(3600 // every):
        world.begin(number * every, 1)
    return world.run().requests - world.calls


def attempts_after_outage(quota):
    """Return the attempts of a call a minute after an outage that used up the quota."""
    world = World(1.0, quota, fault=30.0).begin(0.0, 1000).run()
    outage_ended = world.now - 30.0  # the last fault was seen 30 s later
    world.fault = SERVICE
    return world.begin(outage_ended + 60.0, 1).run().latest


def dead_server():
    """Print the second table."""
    print(
        "A dead server: retries in an hour with a call every so many seconds, where a fault takes"
    )
    print("0.2 or 30 s; and the attempts of a call a minute after an outage")
    cases = [(every, fault) for fault in (0.2, 30.0) for every in (1, 10, 20, 60)]
    heads = (f"{every} s" if fault < 1 else f"{every}, 30" for every, fault in cases)
    print(f"{'':26}", *(f"{each:>6}" for each in (*heads, "later")))
    for label, kind, size in (
        ("restored after 30 quiet s", RetryQuota, RETRY.quota),
        ("10 restored a minute", Steady, RETRY.quota),
        ("restored by successes", Timeless, RETRY.quota),
        ("no quota", RetryQuota, None),
    ):
        retries = [retries_of_dead_server(kind(size), every, fault=f) for every, f in cases]
        cells = (*retries, attempts_after_outage(kind(size)))
        print(f"{label:26}", *(f"{each:>6}" for each in cells), flush=True)


if __name__ == "__main__":
    random_faults()
    dead_server()
