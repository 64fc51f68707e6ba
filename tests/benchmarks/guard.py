"""Bounds on the ratios to twilio-python, with a wide margin: a short benchmark for CI.

    python tests/benchmarks/guard.py

It finds a design mistake, such as a page that is decoded in one step or a hook that is looked up
for each value. It does not find a few percent: `compare.py --against` does.
"""

from __future__ import annotations

import sys

from contenders import FAST, OURS, PEER
from server import Server
from table import measure, medians, rounds_of

ROUNDS, RECORDS, PAGE_SIZE = 3, 15_000, 1000
NAMES = (PEER, OURS, FAST)


def ratios():
    """Measure, and yield (figure, contender, ratio to twilio-python, minimum, maximum)."""
    with Server(RECORDS) as server:
        found = rounds_of(server, "lists", ROUNDS, RECORDS, names=NAMES, page_size=PAGE_SIZE)
        speed = medians(found, lambda one: one["records"] / one["wall"])
        cpu = medians(found, lambda one: one["cpu"])
        found = rounds_of(server, "blocking", ROUNDS, RECORDS, names=NAMES, page_size=PAGE_SIZE)
        block = medians(found, lambda one: one["median"])
    for name, slowest, most in ((OURS, 1.5, 0.75), (FAST, 2.2, 0.55)):
        yield "records/s", name, speed[name] / speed[PEER], slowest, None
        yield "CPU", name, cpu[name] / cpu[PEER], None, most
        yield "median block", name, block[name] / block[PEER], None, 0.25
    with Server(500, latency=0.05) as server:
        found = rounds_of(
            server, "lists", 1, 500, names=NAMES, warm=False, page_size=50, consumer="blocking"
        )
        wall = medians(found, lambda one: one["wall"])
        yield "overlap", OURS, wall[OURS] / wall[PEER], None, 0.75
    alone = measure("structuring", OURS, {})
    yield "structuring / json.loads", OURS, alone["structuring"] / alone["decoding"], None, 1.4


def main():
    """Print the ratios, and return how many are out of bounds."""
    failures = 0
    for what, name, ratio, least, most in ratios():
        good = (least is None or ratio >= least) and (most is None or ratio <= most)
        failures += not good
        bound = f"at least {least}" if most is None else f"at most {most}"
        print(f"{what:26}{name:14}{ratio:6.2f}x  ({bound}){'' if good else '  FAILED'}", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(main())
