"""Where the CPU time of a page of 50 goes, for this package and for a bare loop.

    python tests/benchmarks/split.py [--rounds N]

Microseconds of CPU time a page, medians. `request` is what a page of one record takes, but for that
record; `decoding`, `structuring` and `looking` are those of fifty records, taken without a network;
`handing out` is what is left of a whole list: fifty turns of the consumer's loop, and what a larger
body takes to be read. The bare loops structure nothing.
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
    """Return the microseconds of CPU time that a page takes, of a list of so many records."""
    with Server(records) as server:
        measure("lists", name, server.where, page_size=page_size)  # the server makes its pages
        found = [measure("lists", name, server.where, page_size=page_size) for _ in range(rounds)]
    return statistics.median(each["cpu"] for each in found) / (records / page_size) * 1e6


def split(name, rounds):
    """Return the parts of a page, and the whole of it."""
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
        "handing out": whole - request - sum(parts.values()),
        "all": whole,
    }


def main():
    """Read the arguments, measure, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for name in NAMES:
        parts = split(name, rounds)
        print(f"{name:16}", *(f"{part} {found:.0f}" for part, found in parts.items()), sep="  ")


if __name__ == "__main__":
    main()
