"""Where the CPU time of a page of 50 records goes, for this package and for a bare aiohttp loop.

    python tests/benchmarks/split.py [--rounds N]

Microseconds of CPU time per page, medians. `request` is the time for a page of one record, without
that record. `decoding`, `structuring` and `looking` are the times for 50 records, measured without
a network. `delivery` is the rest of a complete list: 50 iterations of the consumer's loop, and the
larger body. The bare loops structure nothing.
"""

from __future__ import annotations

import argparse
import statistics

from contenders import FAST, OURS, PEER
from server import Server
from table import measure

NAMES = (PEER, "aiohttp+json", OURS, "aiohttp+orjson", FAST)
PAGES, SIZE = 1000, 50


def cpu_of(name, records, page_size, rounds):
    """Return the microseconds of CPU time per page, for a list of `records` records."""
    with Server(records) as server:
        measure("lists", name, server.where, page_size=page_size)  # the server encodes its pages
        found = [measure("lists", name, server.where, page_size=page_size) for _ in range(rounds)]
    return statistics.median(each["cpu"] for each in found) / (records / page_size) * 1e6


def split(name, rounds):
    """Return the time for each part of a page, and for all."""
    whole = cpu_of(name, PAGES * SIZE, SIZE, rounds)
    if name not in {OURS, FAST}:
        return {"all": whole}
    alone = measure("structuring", name, {})
    parts = {
        part: alone[part] / alone["records"] * 1e6 * SIZE
        for part in ("decoding", "structuring", "looking")
    }
    request = cpu_of(name, PAGES, 1, rounds) - sum(parts.values()) / SIZE
    return {
        "request": request,
        **parts,
        "delivery": whole - request - sum(parts.values()),
        "all": whole,
    }


def main():
    """Measure, and print a line for each contender."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for name in NAMES:
        parts = split(name, rounds)
        print(f"{name:16}", *(f"{part} {found:.0f}" for part, found in parts.items()), sep="  ")


if __name__ == "__main__":
    main()
