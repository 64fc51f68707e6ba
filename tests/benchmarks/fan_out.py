"""Many conferences at once, over sockets: under a ceiling, under one that moves, and in memory.

    python tests/benchmarks/fan_out.py [--conferences N] [--rounds N]

FakeInsights serves from a process of its own, on the second core where there is one; each
measurement is a fresh process. `limiter.py` has the same questions on a virtual clock, for more
policies, ceilings and processes than one machine can play.

(1) Conferences of one and of two pages, behind a ceiling of 12 with max_concurrency=64 and 50 ms
    latency: how many failed, how many requests were refused, and the time over the ideal one, in
    which 12 requests are always in flight and nothing else takes time.
(2) The same, with the ceiling moved from 12 to 40 half-way: where the limit stands at the end.
(3) The peak of memory for 2,000 and for 20,000 conferences.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time

CEILING, RAISED, MOST, LATENCY, PAGE_SIZE = 12, 40, 64, 0.05, 20


async def serve(conferences, participants, ceiling, raised_after, latency):
    """Serve on loopback until stdin is closed, and raise the ceiling after so many answers."""
    from aioparticipants.testing import FakeInsights

    async with FakeInsights(concurrency=ceiling, latency=latency) as fake:
        sids = [fake.add_conference(participants) for _ in range(conferences)]
        print(json.dumps([fake.base_url, fake.credentials, sids]), flush=True)
        gone = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        while not gone.done():
            await asyncio.sleep(0.01)
            if raised_after and len(fake.requests) >= raised_after:
                fake.concurrency = RAISED


async def read(base_url, credentials, sids, concurrency):
    """Read every conference; return what came of it."""
    from aioparticipants import InsightsSession

    began = time.perf_counter()
    records = failed = 0
    async with InsightsSession(credentials, base_url=base_url, max_concurrency=MOST) as session:
        async with session.fan_out(
            sids, concurrency=concurrency, page_size=PAGE_SIZE
        ) as conferences:
            async for result in conferences:
                records += len(result.participants)
                failed += result.error is not None
        stats = session.stats
    return {
        "seconds": time.perf_counter() - began,
        "records": records,
        "failed": failed,
        "requests": stats.requests,
        "refused": stats.rate_limited,
        "limit": stats.limit,
        "peak": peak(),
    }


def peak():
    """Return the peak of this process's memory, in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - no file
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024


def pin(core):
    """Stay on one core, where there is more than one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[core]})


def measured(
    conferences, participants, *, ceiling=None, raised_after=0, latency=0.0, concurrency=MOST
):
    """Measure once: a server, and a reader, each a process."""
    task = json.dumps([conferences, participants, ceiling, raised_after, latency])
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", task],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        where = [*json.loads(server.stdout.readline()), concurrency]
        ran = subprocess.run(
            [sys.executable, __file__, "--read"],
            input=json.dumps(where),
            capture_output=True,
            text=True,
            check=True,
        )
        server.stdin.close()
    found = json.loads(ran.stdout)
    assert found["records"] == conferences * participants, found
    return found


def median(rounds, figure):
    """Return the median of a figure over the rounds."""
    return statistics.median(map(figure, rounds))


def under_a_ceiling(options, pages, *, raised):
    """Return the line of figures for conferences of so many pages."""
    answers = options.conferences * pages
    half = answers // 2 if raised else 0
    rounds = [
        measured(
            options.conferences,
            pages * PAGE_SIZE,
            ceiling=CEILING,
            raised_after=half,
            latency=LATENCY,
        )
        for _ in range(options.rounds)
    ]
    ideal = LATENCY * ((answers - half) / CEILING + half / RAISED)
    return (
        f"{options.conferences} conferences of {pages}, ceiling {CEILING}"
        f"{f' then {RAISED}' if raised else ''}: "
        f"{max(each['failed'] for each in rounds)} failed, "
        f"{median(rounds, lambda each: each['refused'] / each['requests']):.1%} refused, "
        f"{median(rounds, lambda each: each['seconds']) / ideal:.2f} of the ideal "
        f"{ideal:.2f} s, limit at the end {median(rounds, lambda each: each['limit']):.0f}"
    )


def main():
    """Measure, and print a line a question."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--conferences", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        pin(1)
        asyncio.run(serve(*json.loads(options.serve)))
        return
    if options.read:
        pin(0)
        print(json.dumps(asyncio.run(read(*json.load(sys.stdin)))))
        return
    for raised in (False, True):
        for pages in (1, 2):
            print(under_a_ceiling(options, pages, raised=raised), flush=True)
    few, many = (measured(count, 5, concurrency=50)["peak"] for count in (2_000, 20_000))
    print(f"peak memory: {few / 2**20:.1f} MiB for 2,000, {many / 2**20:.1f} for 20,000, ", end="")
    print(f"{many / few:.2f} times")


if __name__ == "__main__":
    main()
