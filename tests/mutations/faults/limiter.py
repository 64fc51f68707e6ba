"""Faults in `_limiter`."""

from __future__ import annotations

from engine import Fault, assign, replace

_RATE_LIMITED = "_limiter:AdaptiveLimit.rate_limited"

FAULTS = [
    Fault(
        "the plateau is forgotten at the first success",
        "test_limiter.py::test_the_plateau_survives_an_outage",
        {_RATE_LIMITED: replace("max(used, self._plateau * _)", "used")},
    ),
    Fault(
        "successes never lower the plateau",
        "test_limiter.py::test_successes_before_a_429_lower_the_plateau",
        {_RATE_LIMITED: replace("self._plateau * _PLATEAU_DECAY**_", "self._plateau")},
    ),
    Fault(
        "a single 429 takes all of the window",
        "test_limiter.py::test_a_lone_429_leaves_a_third",
        {"_limiter:": assign("_MIN_USE", "0.0")},
    ),
    Fault(
        "a single 429 takes next to nothing of the window",
        "test_limiter.py::test_a_lone_429_leaves_a_third",
        {"_limiter:": assign("_MIN_USE", "1.0")},
    ),
]
