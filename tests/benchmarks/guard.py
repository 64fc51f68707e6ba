"""Bounds on the ratios to twilio-python, with a wide margin: a CI-sized run of the benchmarks.

    python tests/benchmarks/guard.py

It takes half a minute. What it guards against is a lost design, such as a page that is decoded
whole or a hook that is looked up for each value, and not a few percent.
"""

from __future__ import annotations

import sys

from contenders import FAST, OURS, PEER
from server import Server
from table import measure, medians, rounds_of

ROUNDS, RECORDS, PAGE_SIZE = 3, 15_000, 1000
NAMES = (PEER, OURS, FAST)


def ratios():
    """Yield (what, contender, ratio to twilio-python, least, most), as they are measured."""
    with Server(RECORDS) as server:
        found = rounds_of(server, "lists", ROUNDS, RECORDS, names=NAMES, page_size=PAGE_SIZE)
        speed = medians(found, lambda one: one["records"] / one["wall"])
        cpu = medians(found, lambda one: one["cpu"])
        held = rounds_of(server, "holds", ROUNDS, RECORDS, names=NAMES, page_size=PAGE_SIZE)
        hold = medians(held, lambda one: one["typical"])
    for name, least, most in ((OURS, 1.5, 0.75), (FAST, 2.2, 0.55)):
        yield "records/s", name, speed[name] / speed[PEER], least, None
        yield "CPU", name, cpu[name] / cpu[PEER], None, most
        yield "typical hold", name, hold[name] / hold[PEER], None, 0.25
    with Server(500, latency=0.05) as server:
        found = rounds_of(
            server, "lists", 1, 500, names=NAMES, warm=False, page_size=50, consumer="busy"
        )
        wall = medians(found, lambda one: one["wall"])
        yield "overlap", OURS, wall[OURS] / wall[PEER], None, 0.75
    alone = measure("structuring", OURS, {})
    yield "structuring / json.loads", OURS, alone["structuring"] / alone["decoding"], None, 1.4


def main():
    """Measure, and return how many ratios are out of bounds."""
    failures = 0
    for what, name, ratio, least, most in ratios():
        good = (least is None or ratio >= least) and (most is None or ratio <= most)
        failures += not good
        bound = f"at least {least}" if most is None else f"at most {most}"
        print(f"{what:26}{name:14}{ratio:6.2f}x  ({bound}){'' if good else '  FAILED'}", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(main())
