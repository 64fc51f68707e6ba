"""Which examples Hypothesis makes: the same in every run, or others as `nox -s random` wants.

1. In the suite the examples are derived from the tests, so that no run fails that has not failed
   before. They are not shrunk, as that can take minutes; `nox -s random` does it.
2. `nox -s random` makes more of them from a seed, which it prints.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

RANDOM = os.environ.get("AIOPARTICIPANTS_TEST_PROFILE") == "random"
_TIMES = 4 if RANDOM else 1

SETTINGS = settings(
    derandomize=not RANDOM,
    database=None,
    phases=[Phase.generate, Phase.shrink] if RANDOM else [Phase.generate],
    deadline=None,  # no test asserts a duration
    print_blob=RANDOM,
    suppress_health_check=[
        HealthCheck.too_slow,
        # The fixture that looks for leaks looks once, after all examples; each closes its own loop.
        HealthCheck.function_scoped_fixture,
    ],
)


def examples(count: int, **options: int) -> settings:
    """Return settings for so many examples, or more where they are random."""
    return settings(SETTINGS, max_examples=count * _TIMES, **options)
