"""Properties of every record, good or broken."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioparticipants import Conference, InvalidRequestError, Participant, ResponseError
from aioparticipants._structuring import (
    conference,
    conference_keeping,
    participant,
    participant_keeping,
)

from .profiles import examples
from .records import CONFERENCE as CONFERENCE_MEMBERS
from .records import (
    CONFERENCES,
    RECORD,
    RECORDS,
    broken,
    broken_fields,
    can_be_written,
    completed,
    exact,
    faults,
    read_all,
)


@attrs.frozen
class Kind:
    """A class of records: its members, random records, and the functions that build one."""

    record_class: type
    members: dict
    records: st.SearchStrategy
    structure: Callable
    keeping: Callable


PARTICIPANT = Kind(Participant, RECORD, RECORDS, participant, participant_keeping)
CONFERENCE = Kind(Conference, CONFERENCE_MEMBERS, CONFERENCES, conference, conference_keeping)
kinds = pytest.mark.parametrize(
    "kind", [PARTICIPANT, CONFERENCE], ids=["participant", "conference"]
)


def structured(raw, kind, *, keeping=False):
    """Return a record of which every value was read; its JSON must not have changed."""
    before = copy.deepcopy(raw)
    record = (kind.keeping if keeping else kind.structure)(raw, "participants", 3)
    assert read_all(record) > len(kind.members)
    assert exact(raw) == exact(before)
    assert repr(record).startswith(f"{kind.record_class.__name__}(")
    return record


def check_structuring(raw, kind):
    """Structure an object, compare the record with its copies, and return its JSON."""
    record, unread = structured(raw, kind), kind.structure(raw, "")
    assert exact(record.to_dict()) == exact(unread.to_dict())
    assert hash(record) == hash(kind.structure(raw, ""))
    assert record == kind.structure(raw, "") == pickle.loads(pickle.dumps(record))
    assert record == kind.keeping(raw, "participants", 3)
    assert record == kind.record_class.from_dict(record.to_dict())
    assert record == kind.record_class.from_dict(raw)
    assert exact(json.loads(record.to_json())) == exact(json.loads(exact(record.to_dict())))
    record.to_json().encode()
    return record.to_dict()


@kinds
@examples(250)
@given(st.data())
def test_every_valid_record_comes_back(kind, data):
    """A record unstructures to the same JSON, whatever is null, absent or unknown."""
    raw = data.draw(kind.records)
    assert exact(check_structuring(raw, kind)) == exact(completed(raw, kind.members))


@examples(100)
@given(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 30)),  # noqa: DTZ001 - gets its offset below
    st.integers(-1439, 1439),
    st.sampled_from(["auto", "milliseconds", "microseconds"]),
    st.sampled_from("Tt "),
)
def test_every_offset_is_converted_to_utc(time, minutes, precision, between):
    """A time with any offset, precision and case becomes the same instant in UTC."""
    offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    if precision == "milliseconds":
        time = time.replace(microsecond=time.microsecond // 1000 * 1000)
    if minutes == 0:
        offset = "z" if between == "t" else "Z"
    raw = {"join_time": time.isoformat(sep=between, timespec=precision) + offset}
    found = participant(raw, "").join_time

    assert found == time.replace(tzinfo=UTC) - timedelta(minutes=minutes)
    assert found.tzinfo is UTC


@kinds
@examples(350)
@given(st.data())
def test_a_wrong_value_is_named_by_its_path(kind, data):
    """A record with any other value somewhere comes back, or the error has the path of a fault."""
    raw = broken(data.draw, data.draw(kind.records), 2)
    wrong = {*faults(raw, known=kind.members)}
    if not wrong:
        check_structuring(raw, kind)
        return
    for _ in range(2):  # the second time it is the same
        with pytest.raises(ResponseError) as caught:
            kind.structure(raw, "participants", 3)
        assert caught.value.path in wrong
        assert caught.value.__context__ is None
        assert not caught.value.transient


@kinds
@examples(350)
@given(st.data())
def test_nothing_of_a_broken_record_is_lost(kind, data):
    """A broken record is kept: all of it comes back, and each fault is among its problems."""
    raw = data.draw(kind.records)
    changed = broken(data.draw, raw, 3)
    raw = changed if type(changed) is dict else raw
    record = structured(raw, kind, keeping=True)
    named = {f"participants[3].{each.partition(': ')[0]}" for each in record.problems}

    assert {*faults(raw, known=kind.members)} >= named or any(": " in name for name in raw)
    assert len(record.problems) == broken_fields(raw, kind.members)
    assert hash(record) == hash(pickle.loads(pickle.dumps(record)))
    assert json.loads(json.dumps(record.to_dict(), allow_nan=False)) is not None
    if can_be_written(raw):
        assert exact(record.to_dict()) == exact(completed(raw, kind.members))
        assert record == kind.record_class.from_dict(raw, on_invalid="keep")
        assert record == kind.record_class.from_dict(record.to_dict(), on_invalid="keep")


@kinds
@examples(150)
@given(st.data())
def test_from_dict_judges_as_a_list_does(kind, data):
    """`from_dict` refuses what a list refuses, with the path, and never shows a value."""
    raw = broken(data.draw, data.draw(kind.records), 2)
    wrong = {each.removeprefix("it").removeprefix(".") for each in faults(raw, "it", kind.members)}
    if not wrong:
        assert kind.record_class.from_dict(raw) == kind.structure(raw, "")
        return
    with pytest.raises(InvalidRequestError) as caught:
        kind.record_class.from_dict(raw)
    start = f"{kind.record_class.__name__}.from_dict: "
    assert str(caught.value).startswith(
        tuple(f"{start}{path}: " if path else start for path in wrong)
    )
    assert caught.value.__context__ is None
