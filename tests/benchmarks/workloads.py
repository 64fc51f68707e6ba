"""The measurements. Each function runs once, in a process of its own, and returns its figures.

python tests/benchmarks/workloads.py '["lists", "ours", {…where…}, {…options…}]'
"""

from __future__ import annotations

import asyncio
import importlib
import json
import statistics
import sys
import time
import warnings
from pathlib import Path

import contenders

#: (b): the seconds that a consumer takes for a page.
PAUSE = 0.05


def lists(name, where, *, page_size, consumer="none"):
    """Read one list completely; with a consumer, pause after each page."""

    async def read():
        count = 0
        async with contenders.client(name, where) as client:
            async for mos in client.mos(where["conference_sids"][0], page_size):
                assert mos is not None
                count += 1
                if consumer != "none" and count % page_size == 0:
                    await _pause(consumer)
        return count

    return _timed(read)


def _timed(read):
    """Run a coroutine function that returns a number of records, and return its figures."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = asyncio.run(read())
    return {
        "records": count,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
    }


async def _pause(consumer):
    if consumer == "sleeping":
        await asyncio.sleep(PAUSE)
        return
    end = time.perf_counter() + PAUSE
    while time.perf_counter() < end:
        pass


def conferences(name, where, *, page_size, concurrency):
    """Read many lists concurrently: by the client's own method, or else by a number of workers."""
    sids = where["conference_sids"]

    async def read():
        count = 0

        async def look(records):
            nonlocal count
            async for mos in records:
                assert mos is not None
                count += 1

        async def work(client, remaining):
            for sid in remaining:
                await look(client.mos(sid, page_size))

        async with contenders.client(name, where, concurrency) as client:
            if hasattr(client, "mos_of_all"):
                await look(client.mos_of_all(sids, page_size, concurrency))
                return count
            remaining = iter(sids)
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(work(client, remaining))
        return count

    return _timed(read)


def memory(name, where, *, page_size):
    """Read one list; return the growth of the process's peak memory."""
    before, peak = _status("VmRSS"), Path("/proc/self/clear_refs")
    peak.write_text("5", encoding="ascii")  # resets the peak, after the imports
    found = lists(name, where, page_size=page_size)
    return {**found, "growth": (_status("VmHWM") - before) / 1024}


def _status(field):
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def blocking(name, where, *, page_size):
    """Read one list; return the longest time for which the loop was blocked during each page."""

    async def read():
        longest, found, count = 0.0, [], 0
        last = time.perf_counter()
        loop = asyncio.get_running_loop()

        def tick():
            nonlocal longest, last, ticking
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
            ticking = loop.call_soon(tick)

        ticking = loop.call_soon(tick)
        async with contenders.client(name, where) as client:
            async for mos in client.mos(where["conference_sids"][0], page_size):
                assert mos is not None
                count += 1
                if count % page_size == 0:
                    found.append(longest)
                    longest = 0.0
        ticking.cancel()
        return count, found[1:]  # the first page includes the connection setup

    count, found = asyncio.run(read())
    return {"records": count, "median": statistics.median(found), "longest": max(found)}


def start(name, where, *, page_size):
    """Import, and read the first record of a list."""
    begin = time.perf_counter()
    for module in contenders.modules_of(name):
        importlib.import_module(module)
    imported = time.perf_counter()

    async def first():
        async with contenders.client(name, where) as client:
            records = client.mos(where["conference_sids"][0], page_size)
            await anext(records)
            got = time.perf_counter()
            await records.aclose()
        return got

    return {"records": 1, "import": imported - begin, "first": asyncio.run(first()) - imported}


def structuring(name, _where):
    """Decode and structure 1000 records in pages of 50, and look at them; without a network."""
    from aioparticipants._resources import PARTICIPANTS

    texts = asyncio.run(_made_up_pages())
    decode = PARTICIPANTS.decode or json.loads
    figures = {"decoding": [], "structuring": [], "looking": []}
    for _ in range(25):
        spent = dict.fromkeys(figures, 0.0)
        for text in texts:
            times = [time.perf_counter()]
            page = decode(text)
            times.append(time.perf_counter())
            records = [PARTICIPANTS.structure(record, "participants", 0) for record in page]
            times.append(time.perf_counter())
            for record in records:
                assert record.metrics.inbound.mos is not None
            times.append(time.perf_counter())
            for figure, begin, end in zip(figures, times, times[1:], strict=False):
                spent[figure] += end - begin
        for figure, seconds in spent.items():
            figures[figure].append(seconds)
    return {"records": 1000, **{figure: min(found) for figure, found in figures.items()}}


async def _made_up_pages():
    """Return 20 JSON arrays of 50 records each."""
    from aioparticipants.testing import FakeInsights

    async with FakeInsights() as fake:
        records = fake.records(fake.add_conference(1000))
    return [json.dumps(records[start : start + 50]).encode() for start in range(0, 1000, 50)]


WORKLOADS = {
    each.__name__: each for each in (lists, conferences, memory, blocking, start, structuring)
}


def main():
    """Measure once, and print the figures."""
    workload, name, where, options = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")  # twilio-python uses a deprecated part of aiohttp
    contenders.pin(0)
    contenders.prepare(name)
    if workload != "start":
        for module in contenders.modules_of(name):
            importlib.import_module(module)
    print(json.dumps(WORKLOADS[workload](name, where, **options)))


if __name__ == "__main__":
    main()
