"""Many conferences concurrently, over sockets: with a server that answers 429, and in memory.

    python tests/benchmarks/fan_out.py [--conferences N] [--rounds N]

FakeInsights runs in a process of its own, on the second core if there is one. Each measurement is a
process of its own. `limiter.py` asks the same questions with a virtual clock, for more policies,
maximums and processes than one machine can run.

(1) Conferences of one and of two pages, with a server that answers 429 beyond 12 concurrent
    requests, max_concurrency=64 and 50 ms latency: how many conferences failed, the share of
    requests that got 429, and the time relative to the ideal, in which 12 requests are always in
    flight and nothing else takes time.
(2) The same, where the server's maximum rises from 12 to 40 in the middle: the limit at the end.
(3) The peak memory for 2,000 and for 20,000 conferences.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time

from contenders import pin

#: The server's maximum of concurrent requests, its later maximum, and the client's own maximum.
MAXIMUM, RAISED, MAX_CONCURRENCY = 12, 40, 64
LATENCY, PAGE_SIZE = 0.05, 20


async def serve(conferences, participants, maximum, raised_after, latency):
    """Serve until stdin is closed; raise the maximum after `raised_after` replies."""
    from aioparticipants.testing import FakeInsights

    async with FakeInsights(concurrency=maximum, latency=latency) as fake:
        sids = [fake.add_conference(participants) for _ in range(conferences)]
        print(json.dumps([fake.base_url, fake.credentials, sids]), flush=True)
        closed = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        while not closed.done():
            await asyncio.sleep(0.01)
            if raised_after and len(fake.requests) >= raised_after:
                fake.concurrency = RAISED


async def read(base_url, credentials, sids, concurrency):
    """Read every conference, and return the figures."""
    from aioparticipants import InsightsSession

    began = time.perf_counter()
    records = failed = 0
    async with InsightsSession(
        credentials, base_url=base_url, max_concurrency=MAX_CONCURRENCY
    ) as session:
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
        "rate_limited": stats.rate_limited,
        "limit": stats.limit,
        "peak": peak(),
    }


def peak():
    """Return the peak of this process's memory, in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - no file
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024


def measured(
    conferences,
    participants,
    *,
    maximum=None,
    raised_after=0,
    latency=0.0,
    concurrency=MAX_CONCURRENCY,
):
    """Measure once, with a process for the server and one for the client."""
    task = json.dumps([conferences, participants, maximum, raised_after, latency])
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


def with_a_maximum(options, pages, *, raised):
    """Return a line of figures for conferences of `pages` pages."""
    replies = options.conferences * pages
    half = replies // 2 if raised else 0
    rounds = [
        measured(
            options.conferences,
            pages * PAGE_SIZE,
            maximum=MAXIMUM,
            raised_after=half,
            latency=LATENCY,
        )
        for _ in range(options.rounds)
    ]
    ideal = LATENCY * ((replies - half) / MAXIMUM + half / RAISED)
    return (
        f"{options.conferences} conferences of {pages} pages, maximum {MAXIMUM}"
        f"{f' then {RAISED}' if raised else ''}: "
        f"{max(each['failed'] for each in rounds)} failed, "
        f"{median(rounds, lambda each: each['rate_limited'] / each['requests']):.1%} got 429, "
        f"{median(rounds, lambda each: each['seconds']) / ideal:.2f} of the ideal "
        f"{ideal:.2f} s, limit at the end {median(rounds, lambda each: each['limit']):.0f}"
    )


def main():
    """Measure, and print the figures."""
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
            print(with_a_maximum(options, pages, raised=raised), flush=True)
    few, many = (measured(count, 5, concurrency=50)["peak"] for count in (2_000, 20_000))
    print(f"peak memory: {few / 2**20:.1f} MiB for 2,000, {many / 2**20:.1f} for 20,000, ", end="")
    print(f"{many / few:.2f} times")


if __name__ == "__main__":
    main()
