"""Replies that were damaged in transit; tests/fuzz/wire.py makes and judges them."""

from __future__ import annotations

import pytest

from .fuzz import wire
from .profiles import share


async def test_corpus():
    """Each reply of the corpus gives an `InsightsError` or the records in its bytes."""
    cases = wire.corpus()

    assert len({case.name for case in cases}) == len(cases) > 70
    assert await wire.examine(cases) == []


@pytest.mark.parametrize("seed", range(4))
async def test_mutations(seed):
    """Replies with random damage give an `InsightsError` or the records in their bytes."""
    assert await wire.examine([wire.case(seed, number) for number in range(share(350))]) == []


async def test_replies_without_damage():
    """The replies to be damaged are good ones, in all forms."""
    for first in wire.FRAMINGS:
        for second in wire.FRAMINGS:
            case = wire.Case("good", (wire.reply(0, first), wire.reply(1, second)))

            whole = wire.Reading(wire.PAGES[0] + wire.PAGES[1])
            assert whole in wire.possible(case)
            async with wire.Server().running() as server:
                assert await wire.judge(server, case, whole=True) is None
