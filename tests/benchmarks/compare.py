"""Compare this package with twilio-python's async client and with bare aiohttp loops.

    python tests/benchmarks/compare.py [--rounds N] [--only abcdefg] [--small] [--json]
    python tests/benchmarks/compare.py --against PATH

The server is a process of its own, and so is each measurement. With two cores or more, client and
server have one core each. Medians are compared. `ours` is this package with its four dependencies
alone, `ours[speed]` with the extra `speed`.

`--against` compares two source trees of this package instead: the installed one, and the one at
PATH (a git worktree of an earlier commit, for example). Both are measured in each round, and the
median of the rounds' ratios counts. The exit code is 1 if any row is worse by more than 3 %. Such
a row is marked `!` if it is worse in three quarters of the rounds, and otherwise `?`: then measure
it again, with more rounds or on a quieter machine.

(a) records per second, and CPU seconds per 1,000 records, with page sizes 1000 and 50.
(b) seconds for 20 pages with 50 ms latency and a consumer that takes 50 ms per page: one that
    sleeps, and one that blocks the loop. Without prefetch it takes 2 s, with it 1.05 s.
(c) seconds for 500 conferences of two pages, 50 concurrently, with 50 ms latency.
(d) growth of the process's peak memory in MB, for 100,000 and 1,000,000 participants.
(e) milliseconds for which the event loop is blocked, with page size 1000: the longest time during
    each page; its median and its maximum.
(f) seconds for 1, 10 and 100 times as many records, and as many conferences.
(g) milliseconds for the import, and from there to the first record of a page of 1000.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from contenders import OTHER_TREE, PEER
from server import Server
from table import PeerTable, TreeTable, figures_of, rounds_of

#: (b): pages, records per page, seconds of latency. (c): conferences, and records of each.
PAGES, PAGE_SIZE, LATENCY = 20, 50, 0.05
CONFERENCES, EACH, CONCURRENCY = 500, 100, 50


def wall(result):
    """Return the seconds that a measurement took."""
    return result["wall"]


def records_per_second(result):
    """Return the records per second of a measurement."""
    return result["records"] / result["wall"]


def cpu(result):
    """Return the CPU seconds of a measurement, per 1,000 records."""
    return result["cpu"] / result["records"] * 1000


class Comparison:
    """The workloads. Each yields its rows: workload, unit, and each contender's figures."""

    def __init__(self, names, rounds, *, small):
        self.names = names
        self.rounds = rounds
        self.small = small

    def _lists(self, server, records, workload="lists", *, rounds=None, **options):
        options.setdefault("page_size", 1000)
        return rounds_of(
            server, workload, rounds or self.rounds, records, names=self.names, **options
        )

    def _conferences(self, count):
        with Server(EACH, conferences=count, latency=LATENCY) as server:
            options = {"page_size": PAGE_SIZE, "concurrency": CONCURRENCY}
            return self._lists(server, count * EACH, "conferences", **options)

    def a(self):
        records = 20_000 if self.small else 100_000
        with Server(records) as server:
            for page_size in (1000, 50):
                results = self._lists(server, records, page_size=page_size)
                name = f"(a) page size {page_size}"
                yield name, "records/s", figures_of(results, records_per_second)
                yield name, "CPU s/1,000", figures_of(results, cpu)

    def b(self):
        records = PAGES * PAGE_SIZE
        with Server(records, latency=LATENCY) as server:
            for consumer in ("sleeping", "blocking"):
                results = self._lists(server, records, page_size=PAGE_SIZE, consumer=consumer)
                yield f"(b) {consumer} consumer", "wall s", figures_of(results, wall)

    def c(self):
        results = self._conferences(CONFERENCES // (5 if self.small else 1))
        yield "(c) conferences", "wall s", figures_of(results, wall)
        yield "(c) conferences", "CPU s/1,000", figures_of(results, cpu)

    def d(self):
        for records in (20_000, 40_000) if self.small else (100_000, 1_000_000):
            with Server(records) as server:
                # These lists are long: one round, or three to compare trees.
                rounds = 1 if PEER in self.names else 3
                results = self._lists(server, records, "memory", rounds=rounds, warm=False)
                yield (
                    f"(d) {records:,}",
                    "MB growth",
                    figures_of(results, lambda one: one["growth"]),
                )

    def e(self):
        records = 20_000
        with Server(records) as server:
            results = self._lists(server, records, "blocking")
        yield "(e) median block", "ms", figures_of(results, lambda one: one["median"] * 1e3)
        yield "(e) longest block", "ms", figures_of(results, lambda one: one["longest"] * 1e3)

    def f(self):
        for records in (1_000, 10_000) if self.small else (1_000, 10_000, 100_000):
            with Server(records) as server:
                results = self._lists(server, records)
                yield f"(f) {records:,} records", "wall s", figures_of(results, wall)
        for count in (5, 50) if self.small else (5, 50, 500):
            yield f"(f) {count} conferences", "wall s", figures_of(self._conferences(count), wall)

    def g(self):
        with Server(2000) as server:
            results = self._lists(server, 1, "start")
        yield "(g) import", "ms", figures_of(results, lambda one: one["import"] * 1e3)
        yield "(g) first record", "ms", figures_of(results, lambda one: one["first"] * 1e3)


def main():
    """Read the arguments, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, help="default: 5, and 11 with --against")
    parser.add_argument("--only", default="abcdefg", help="letters of workloads")
    parser.add_argument("--small", action="store_true", help="a fifth of the work")
    parser.add_argument("--json", action="store_true", help="one line of JSON per row")
    parser.add_argument("--against", type=Path, help="another source tree of this package")
    options = parser.parse_args()
    if options.against:
        os.environ[OTHER_TREE] = str(options.against.resolve())
    table = TreeTable() if options.against else PeerTable()
    rounds = options.rounds or (11 if options.against else 5)
    comparison = Comparison(table.names, rounds, small=options.small)
    print(table.header(rounds))
    for letter in options.only:
        for row in getattr(comparison, letter)():
            line = table.row(*row)
            print(json.dumps(row) if options.json else line, flush=True)
    if options.against:
        print("Worse by more than 3 %:", *(table.worse or ["none"]), sep="\n  ")
        return bool(table.worse)
    return False


if __name__ == "__main__":
    sys.exit(main())
