"""This package against twilio-python's async client and a bare aiohttp loop, in one run.

    python tests/benchmarks/compare.py [--rounds N] [--records N] [--json]

FakeInsights serves from a process of its own; each measurement is a fresh process, so that nobody
runs on what another left in memory; the contenders take turns within a round, so that a slow spell
of the machine hits all; medians are compared. Where the machine has two cores, client and server
get one each. All contenders do the same: look at each record, and at its inbound MOS.

(a) records a second and CPU seconds per 1,000 records, at PageSize 1000 and 50.
(b) seconds for 20 pages at 50 ms latency, with a consumer that takes 50 ms a page: sleeping, or
    busy and never awaiting. Fetching and consuming in turn takes 2 s; overlapped, 1.05 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from importlib.metadata import version

CONTENDERS = ("twilio-python", "floor", "aioparticipants")
PEER, FLOOR, OURS = CONTENDERS
#: The second workload: pages, records a page, seconds of latency, seconds a page of the consumer.
PAGES, PAGE_SIZE, LATENCY, PAUSE = 20, 50, 0.05, 0.05


async def twilio_records(where, page_size):
    """Yield what twilio-python yields, reading as a user of its metrics does."""
    from twilio.http.async_http_client import AsyncTwilioHttpClient  # noqa: PLC0415
    from twilio.rest import Client  # noqa: PLC0415

    async with AsyncTwilioHttpClient() as http_client:
        client = Client(where["account_sid"], where["auth_token"], http_client=http_client)
        client.insights.base_url = where["base_url"]
        listing = client.insights.v1.conferences(where["conference_sids"][0])
        stream = await listing.conference_participants.stream_async(page_size=page_size)
        async for record in stream:
            yield record.metrics["inbound"]["mos"]


async def floor_records(where, page_size):
    """Yield from a bare loop over aiohttp and json: no retries, no checks, no types."""
    import aiohttp  # noqa: PLC0415

    authorization = aiohttp.encode_basic_auth(where["account_sid"], where["auth_token"])
    sid = where["conference_sids"][0]
    link = f"{where['base_url']}/v1/Conferences/{sid}/Participants?PageSize={page_size}"
    async with aiohttp.ClientSession(headers={"Authorization": authorization}) as http:
        while link:
            async with http.get(link) as reply:
                page = json.loads(await reply.read())
            for record in page["participants"]:
                yield record["metrics"]["inbound"]["mos"]
            link = page["meta"]["next_page_url"]


async def our_records(where, page_size):
    """Yield from this package."""
    from aioparticipants import InsightsSession  # noqa: PLC0415

    credentials = (where["account_sid"], where["auth_token"])
    async with InsightsSession(credentials, base_url=where["base_url"]) as session:
        async for record in session.participants(where["conference_sids"][0], page_size=page_size):
            yield record.metrics.inbound.mos


RECORDS = {PEER: twilio_records, FLOOR: floor_records, OURS: our_records}


async def consume(contender, where, page_size, consumer):
    """Read everything, and pause after each page as the workload says; return the count."""
    count = 0
    async for mos in RECORDS[contender](where, page_size):
        assert mos is not None
        count += 1
        if consumer != "none" and count % page_size == 0:
            if consumer == "sleeping":
                await asyncio.sleep(PAUSE)
            else:
                until = time.perf_counter() + PAUSE
                while time.perf_counter() < until:
                    pass
    return count


def measure(contender, where, page_size, consumer):
    """Measure once, in this process."""
    warnings.simplefilter("ignore")  # twilio-python uses what aiohttp 3.14 deprecates
    _pin(0)
    __import__("twilio.rest" if contender == PEER else "aioparticipants")
    wall, cpu = time.perf_counter(), time.process_time()
    count = asyncio.run(consume(contender, where, page_size, consumer))
    return {
        "records": count,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
    }


def _pin(core):
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core]})


class Server:
    """FakeInsights in a process of its own, its pages made before they are asked for."""

    def __init__(self, participants, latency=0.0):
        command = [
            *(sys.executable, "-m", "aioparticipants.testing"),
            *("--participants", str(participants), "--latency", str(latency)),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.where = json.loads(self.process.stdout.readline())
        if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
            os.sched_setaffinity(self.process.pid, {sorted(os.sched_getaffinity(0))[1]})

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def run(self, contender, page_size, consumer="none"):
        """Measure once, in a fresh process."""
        task = json.dumps([contender, self.where, page_size, consumer])
        ran = subprocess.run(
            [sys.executable, __file__, "--measure", task],
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(ran.stdout)


def rounds_of(server, rounds, page_size, expected, consumer="none"):
    """Return each contender's measurements, taken in turn."""
    server.run(FLOOR, page_size)  # the server makes its pages
    found = {contender: [] for contender in CONTENDERS}
    for _ in range(rounds):
        for contender in CONTENDERS:
            result = server.run(contender, page_size, consumer)
            assert result["records"] == expected, (contender, result)
            found[contender].append(result)
    return found


def median(results, figure):
    """Return the median of a figure over a contender's rounds."""
    return statistics.median(map(figure, results))


def rows(options):
    """Yield (workload, figure, contender to median), as they are measured."""
    with Server(options.records) as server:
        for page_size in (1000, 50):
            found = rounds_of(server, options.rounds, page_size, options.records)
            name = f"(a) PageSize {page_size}"
            yield (
                name,
                "records/s",
                {
                    each: median(found[each], lambda one: one["records"] / one["wall"])
                    for each in CONTENDERS
                },
            )
            yield (
                name,
                "CPU s/1,000",
                {
                    each: median(found[each], lambda one: one["cpu"] / one["records"] * 1000)
                    for each in CONTENDERS
                },
            )
    with Server(PAGES * PAGE_SIZE, LATENCY) as server:
        for consumer in ("sleeping", "busy"):
            found = rounds_of(server, options.rounds, PAGE_SIZE, PAGES * PAGE_SIZE, consumer)
            yield (
                f"(b) {consumer} consumer",
                "wall s",
                {each: median(found[each], lambda one: one["wall"]) for each in CONTENDERS},
            )


def main():
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--json", action="store_true", help="a line of JSON a row")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*json.loads(options.measure))))
        return
    packages = ("twilio", "aiohttp", "attrs", "cattrs", "tenacity")
    print(
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in packages)
        + f"; {options.records} records, medians of {options.rounds} rounds"
    )
    print(
        f"{'':24}{'':12}"
        + "".join(f"{each:>18}" for each in CONTENDERS)
        + "   ours: x peer  x floor"
    )
    for workload, figure, medians in rows(options):
        if options.json:
            print(json.dumps([workload, figure, medians]))
            continue
        ours = medians[OURS]
        print(
            f"{workload:24}{figure:12}"
            + "".join(f"{medians[each]:18.4g}" for each in CONTENDERS)
            + f"{ours / medians[PEER]:15.2f}{ours / medians[FLOOR]:9.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
