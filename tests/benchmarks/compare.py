"""This package against twilio-python's async client and bare aiohttp loops, in one run.

    python tests/benchmarks/compare.py [--rounds N] [--only abcdefg] [--small] [--json]

FakeInsights serves from a process of its own; each measurement is a fresh process, so that nobody
runs on what another left in memory; the contenders take turns within a round, so that a slow spell
of the machine hits all; medians are compared. Where the machine has two cores, client and server
get one each. All contenders look at each record, and at its inbound MOS. `ours` is this package
with its four packages alone, `ours[speed]` with the extra.

(a) records a second, and CPU seconds per 1,000 records, at PageSize 1000 and 50.
(b) seconds for 20 pages of 50 ms, with a consumer that takes 50 ms a page: sleeping, or busy and
    never awaiting. Fetching and consuming in turn takes 2 s; overlapped, 1.05 s.
(c) seconds for 500 conferences of two pages, 50 at a time, 50 ms a page.
(d) MB by which the process grows at most, over 1,000,000 participants; and over 100,000.
(e) milliseconds that the loop is held at PageSize 1000: the longest hold during a page, the median
    of these and the largest.
(f) seconds for 1, 10 and 100 times the records, and the conferences.
(g) milliseconds to import, and from there to the first record of a page of 1000.
"""

from __future__ import annotations

import argparse
import json

from server import Server
from table import header, medians, rounds_of, row

#: Pages, records a page and seconds of latency in (b); conferences and records of each in (c).
PAGES, PAGE_SIZE, LATENCY = 20, 50, 0.05
CONFERENCES, EACH, CONCURRENCY = 500, 100, 50


def wall(result):
    """Return the seconds that a measurement took."""
    return result["wall"]


def cpu(result):
    """Return the CPU seconds of a measurement, per 1,000 records."""
    return result["cpu"] / result["records"] * 1000


def _a(options):
    records = 20_000 if options.small else 100_000
    with Server(records) as server:
        for page_size in (1000, 50):
            found = rounds_of(server, "lists", options.rounds, records, page_size=page_size)
            name = f"(a) PageSize {page_size}"
            yield name, "records/s", medians(found, lambda one: one["records"] / one["wall"])
            yield name, "CPU s/1,000", medians(found, cpu)


def _b(options):
    with Server(PAGES * PAGE_SIZE, latency=LATENCY) as server:
        for consumer in ("sleeping", "busy"):
            found = rounds_of(
                *(server, "lists", options.rounds, PAGES * PAGE_SIZE),
                page_size=PAGE_SIZE,
                consumer=consumer,
            )
            yield f"(b) {consumer} consumer", "wall s", medians(found, wall)


def _conferences(count, options):
    with Server(EACH, conferences=count, latency=LATENCY) as server:
        return rounds_of(
            *(server, "conferences", options.rounds, count * EACH),
            page_size=PAGE_SIZE,
            concurrency=CONCURRENCY,
        )


def _c(options):
    found = _conferences(CONFERENCES // (5 if options.small else 1), options)
    yield "(c) conferences", "wall s", medians(found, wall)
    yield (
        "(c) conferences",
        "CPU s/1,000",
        medians(found, cpu),
    )


def _d(options):
    for records in (20_000, 40_000) if options.small else (100_000, 1_000_000):
        with Server(records) as server:
            found = rounds_of(server, "memory", 1, records, warm=False, page_size=1000)
            yield f"(d) {records:,}", "MB over start", medians(found, lambda one: one["growth"])


def _e(options):
    records = 20_000
    with Server(records) as server:
        found = rounds_of(server, "holds", options.rounds, records, page_size=1000)
        for figure in ("typical", "longest"):
            yield f"(e) {figure} hold", "ms", medians(found, lambda one: one[figure] * 1e3)  # noqa: B023 - called at once


def _f(options):
    for records in (1_000, 10_000) if options.small else (1_000, 10_000, 100_000):
        with Server(records) as server:
            found = rounds_of(server, "lists", options.rounds, records, page_size=1000)
            yield f"(f) {records:,} records", "wall s", medians(found, wall)
    for count in (5, 50) if options.small else (5, 50, 500):
        yield f"(f) {count} conferences", "wall s", medians(_conferences(count, options), wall)


def _g(options):
    with Server(2000) as server:
        found = rounds_of(server, "start", options.rounds, 1, page_size=1000)
        yield "(g) import", "ms", medians(found, lambda one: one["import"] * 1e3)
        yield "(g) first record", "ms", medians(found, lambda one: one["first"] * 1e3)


WORKLOADS = {"a": _a, "b": _b, "c": _c, "d": _d, "e": _e, "f": _f, "g": _g}


def compare(options):
    """Measure, and print a table."""
    print(header(f"medians of {options.rounds} rounds ((d): one)"))
    for letter in options.only:
        for workload, unit, figures in WORKLOADS[letter](options):
            line = json.dumps([workload, unit, figures])
            print(line if options.json else row(workload, unit, figures), flush=True)


def main():
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="".join(WORKLOADS), help="letters of workloads")
    parser.add_argument("--small", action="store_true", help="a fifth of the work")
    parser.add_argument("--json", action="store_true", help="a line of JSON a row")
    compare(parser.parse_args())


if __name__ == "__main__":
    main()
