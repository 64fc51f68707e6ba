"""Faults in `_limiter`."""

from __future__ import annotations

from engine import Fault, assign, replace

_REFUSED = "_limiter:AdaptiveLimit.refused"

FAULTS = [
    Fault(
        "the plateau is forgotten at the first success",
        "test_limiter.py",
        {_REFUSED: replace("max(refused_at, _)", "refused_at")},
    ),
    Fault(
        "successes never lower the plateau",
        "test_limiter.py",
        {_REFUSED: replace("self._plateau * _KEEP**self._quiet", "self._plateau")},
    ),
    Fault(
        "a single refusal takes all of the limit",
        "test_limiter.py",
        {"_limiter:": assign("_IN_USE", "0.0")},
    ),
    Fault(
        "a single refusal takes next to nothing",
        "test_limiter.py",
        {"_limiter:": assign("_IN_USE", "1.0")},
    ),
]
