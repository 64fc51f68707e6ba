"""How many examples Hypothesis makes, and which.

1. The suite makes few, and the same ones in every run, so that it fails only where something has
   changed. They are not shrunk, as that can take minutes.
2. `nox -s random` makes all of them, from a seed that it prints, and shrinks one that fails.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

RANDOM = os.environ.get("AIOPARTICIPANTS_TEST_PROFILE") == "random"


def share(count: int) -> int:
    """Return how many of so many random cases the suite makes: a fifth."""
    return count if RANDOM else -(-count // 5)


def examples(count: int, **options: int) -> settings:
    """Return the settings of a test; it makes so many examples where they are random."""
    return settings(
        max_examples=share(count),
        derandomize=not RANDOM,
        database=None,
        phases=[Phase.generate, Phase.shrink] if RANDOM else [Phase.generate],
        deadline=None,  # no test asserts a duration
        suppress_health_check=[
            HealthCheck.too_slow,
            # The fixture that looks for leaks looks once, after all examples.
            HealthCheck.function_scoped_fixture,
        ],
        **options,
    )
