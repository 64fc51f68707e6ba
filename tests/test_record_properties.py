"""Properties of every record, good or broken."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioparticipants import ResponseError
from aioparticipants._structuring import participant, participant_keeping, unstructure_participant

from .profiles import examples
from .records import RECORD, RECORDS, broken, broken_fields, completed, exact, faults, read_all


def structured(raw, structure=participant):
    """Return a record of which every value was read; its JSON must not have changed."""
    before = copy.deepcopy(raw)
    record = structure(raw, "participants", 3)
    assert read_all(record) >= 28
    assert exact(raw) == exact(before)
    assert repr(record).startswith("Participant(")
    return record


def check_structuring(raw):
    """Structure an object, compare the record with its copies, and return its JSON."""
    record, unread = structured(raw), participant(raw, "")
    assert exact(unstructure_participant(record)) == exact(unstructure_participant(unread))
    assert hash(record) == hash(participant(raw, ""))
    assert record == participant(raw, "") == pickle.loads(pickle.dumps(record))
    assert record == participant_keeping(raw, "participants", 3)
    return unstructure_participant(record)


@examples(250)
@given(RECORDS)
def test_every_valid_record_comes_back(raw):
    """A record unstructures to the same JSON, whatever is null, absent or unknown."""
    assert exact(check_structuring(raw)) == exact(completed(raw, RECORD))


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


@examples(350)
@given(RECORDS, st.data())
def test_a_wrong_value_is_named_by_its_path(raw, data):
    """A record with any other value somewhere comes back, or the error has the path of a fault."""
    raw = broken(data.draw, raw, 2)
    wrong = {*faults(raw)}
    if not wrong:
        check_structuring(raw)
        return
    for _ in range(2):  # the second time it is the same
        with pytest.raises(ResponseError) as caught:
            participant(raw, "participants", 3)
        assert caught.value.path in wrong
        assert caught.value.__context__ is None
        assert not caught.value.transient


@examples(350)
@given(RECORDS, st.data())
def test_nothing_of_a_broken_record_is_lost(raw, data):
    """A broken record is kept: all of it comes back, and each fault is among its problems."""
    changed = broken(data.draw, raw, 3)
    raw = changed if type(changed) is dict else raw
    record = structured(raw, participant_keeping)
    named = {f"participants[3].{each.partition(': ')[0]}" for each in record.problems}

    assert {*faults(raw)} >= named or any(": " in name for name in raw)
    assert len(record.problems) == broken_fields(raw)
    assert hash(record) == hash(pickle.loads(pickle.dumps(record)))
    if not any("its JSON text is kept" in each for each in record.problems):
        assert exact(unstructure_participant(record)) == exact(completed(raw, RECORD))
    json.dumps(unstructure_participant(record), allow_nan=False)
