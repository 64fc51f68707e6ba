"""Replies that were mutilated on the wire: see tests/fuzz/wire.py, which makes and judges them."""

from __future__ import annotations

import pytest

from .fuzz import wire
from .profiles import share


async def test_corpus():
    """Every reply that was ever worth keeping gives an error of the family, or what it says."""
    cases = wire.corpus()

    assert len({case.name for case in cases}) == len(cases) > 70
    assert await wire.examine(cases) == []


@pytest.mark.parametrize("seed", range(4))
async def test_mutations(seed):
    """Replies with bytes flipped, cut, repeated or mixed up give an error, or what they say."""
    assert await wire.examine([wire.case(seed, number) for number in range(share(350))]) == []


async def test_what_is_mutated_is_served_as_it_should_be_without():
    """The replies that mutations begin with are good ones, in all of their forms."""
    for first in wire.FRAMINGS:
        for second in wire.FRAMINGS:
            case = wire.Case("good", (wire.reply(0, first), wire.reply(1, second)))

            whole = wire.Reading(wire.PAGES[0] + wire.PAGES[1])
            assert whole in wire.possible(case)
            async with wire.Server().running() as server:
                assert await wire.judge(server, case, whole=True) is None
