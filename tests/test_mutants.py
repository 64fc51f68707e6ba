"""The table of deliberate faults keeps up with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

import aioparticipants

from .mutations.mutants import MUTANTS

PACKAGE = Path(aioparticipants.__file__).parent
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_fault_still_applies(mutant):
    """What a fault replaces stands in the package just once, and what should notice it exists."""
    for edit in mutant.edits:
        source = (PACKAGE / edit.module).read_text(encoding="utf-8")
        assert source.count(edit.old) == 1
        assert edit.new != edit.old
    assert all((ROOT / file).is_file() for file in mutant.tests)
