"""Rows: flat, of one type a column, the same columns for every record, and nothing is lost."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioparticipants import (
    AvgMax,
    CallDirection,
    Column,
    Conference,
    ConferenceResult,
    InvalidRequestError,
    MediaMetrics,
    Page,
    PageMeta,
    Participant,
    ParticipantMetrics,
    ParticipantProperties,
    _rows,
)
from aioparticipants._structuring import (
    conference,
    conference_keeping,
    participant,
    participant_keeping,
)

from .profiles import examples
from .records import CONFERENCES, RECORD, RECORDS, broken

TIME = datetime(2021, 10, 8, 2, 58, 51, tzinfo=UTC)
PARTICIPANT_COLUMNS = """
participant_sid label conference_sid call_sid account_sid call_direction from to call_status
country_code is_moderator join_time leave_time duration_seconds outbound_queue_length
outbound_time_in_queue jitter_buffer_size is_coach coached_participants participant_region
conference_region call_type processing_state start_conference_on_enter end_conference_on_exit
play_early_media early_media enter_muted beep_on_enter beep_on_exit events
inbound_total_packets_lost inbound_total_packets_received inbound_packet_loss_percentage
inbound_jitter_avg inbound_jitter_max inbound_latency_avg inbound_latency_max inbound_mos
inbound_tags outbound_total_packets_lost outbound_total_packets_received
outbound_packet_loss_percentage outbound_jitter_avg outbound_jitter_max outbound_latency_avg
outbound_latency_max outbound_mos outbound_tags url extra problems
"""
CONFERENCE_COLUMNS = """
conference_sid account_sid friendly_name create_time start_time end_time duration_seconds
connect_duration_seconds status max_participants max_concurrent_participants unique_participants
end_reason ended_by mixer_region mixer_region_requested recording_enabled detected_issues tags
tag_info processing_state url links extra problems
"""
RAW = {
    "label": "agent",
    "call_direction": "inbound",
    "call_status": "not a word yet",
    "from": "+15005550006",
    "is_moderator": False,
    "join_time": "2021-10-08T02:58:51Z",
    "duration_seconds": 12,
    "coached_participants": ["CA1"],
    "properties": {"early_media": True},
    "events": {"mute": [1633661931250]},
    "metrics": {"inbound": {"mos": 4, "jitter": {"avg": 3, "max": 7.5}, "tags": ["silent"]}},
}


def plain(value):
    """Return a JSON object without the members that say nothing, at all levels."""
    if not isinstance(value, dict):
        return value
    inner = {name: plain(item) for name, item in value.items()}
    return {name: item for name, item in inner.items() if item is not None and item != {}}


def merged(into, members):
    """Return two JSON objects in one; no other value is in both."""
    found = dict(into)
    for name, item in members.items():
        assert name not in found or (isinstance(item, dict) and isinstance(found[name], dict))
        found[name] = merged(found[name], item) if name in found else item
    return found


def shortest(time):
    """Return a time in JSON, with as few digits as are exact."""
    text = time.isoformat().removesuffix("+00:00")
    return f"{text.rstrip('0') if '.' in text else text}Z"


def rebuilt(row, columns):
    """Return the JSON object that a row came from, without nulls."""
    found = {}
    for column in columns[:-2]:
        value = row[column.name]
        if column.is_json and value is not None:
            value = json.loads(value)
        if column.type is datetime and value is not None:
            value = shortest(value)
        for name in reversed(column.path):
            value = {name: value}
        found = merged(found, plain(value))
    return plain(merged(found, plain(json.loads(row["extra"] or "{}"))))


def check_types(row, columns):
    """Fail if a value is not exactly of its column's type, or UTF-8 or 64 bits cannot hold it."""
    assert [*row] == [each.name for each in columns]
    for column in columns:
        value = row[column.name]
        if value is None:
            continue
        assert type(value) is column.type
        if column.type is str:
            value.encode()
        elif column.type is int:
            assert -(2**63) <= value < 2**63
        elif column.type is datetime:
            assert value.tzinfo is UTC


# --- Columns ---


@pytest.mark.parametrize(
    ("kind", "names"), [(Participant, PARTICIPANT_COLUMNS), (Conference, CONFERENCE_COLUMNS)]
)
def test_columns(kind, names):
    """A row has these columns in this order, whatever the record holds."""
    columns = kind.columns()

    assert [each.name for each in columns] == names.split()
    assert [*kind().to_row()] == names.split()
    assert set(kind().to_row().values()) == {None}


@pytest.mark.parametrize("kind", [Participant, Conference])
def test_columns_are_described(kind):
    """Each column has a type, a place in the API's JSON, and a text that says what it means."""
    for column in kind.columns():
        assert column.type in {str, int, float, bool, datetime}
        assert bool(column.path) == (column.name not in {"extra", "problems"})
        assert column.description.endswith(".")
        assert pickle.loads(pickle.dumps(column)) == column


def test_column_of_a_nested_value():
    """A nested value's column says where it is and, in words from each level, what it means."""
    [column] = [each for each in Participant.columns() if each.name == "inbound_jitter_max"]

    assert column.type is float
    assert column.path == ("metrics", "inbound", "jitter", "max")
    assert column.attribute == "metrics.inbound.jitter.max"
    assert column.description.startswith("From the participant to Twilio. Variation of the")
    assert column.description.endswith("The maximum.")
    assert not column.is_json
    assert isinstance(column, Column)


# --- Values ---


def test_row_of_a_participant():
    """A row has plain strings, floats, aware times, and JSON text for what has a structure."""
    row = participant(RAW, "participants").to_row()

    assert {name: value for name, value in row.items() if value is not None} == {
        "label": "agent",
        "call_direction": "inbound",
        "call_status": "not a word yet",
        "from": "+15005550006",
        "is_moderator": False,
        "join_time": TIME,
        "duration_seconds": 12,
        "coached_participants": '["CA1"]',
        "early_media": True,
        "events": '{"mute":[1633661931250]}',
        "inbound_jitter_avg": 3.0,
        "inbound_jitter_max": 7.5,
        "inbound_mos": 4.0,
        "inbound_tags": '["silent"]',
    }
    check_types(row, Participant.columns())
    assert not isinstance(row["call_direction"], Enum)


def test_row_of_a_conference():
    """A conference's counts, tags, details and links are JSON text."""
    raw = {
        "status": "completed",
        "detected_issues": {"call_quality": 2},
        "tags": ["low_mos", "a new one"],
        "tag_info": {"low_mos": {"severity": [1, 2.5, None]}},
        "links": {"participants": "/v1/Conferences"},
        "end_time": "2021-10-08T02:58:51Z",
    }
    row = conference(raw, "conferences").to_row()

    assert {name: value for name, value in row.items() if value is not None} == {
        "status": "completed",
        "end_time": TIME,
        "detected_issues": '{"call_quality":2}',
        "tags": '["low_mos","a new one"]',
        "tag_info": '{"low_mos":{"severity":[1,2.5,null]}}',
        "links": '{"participants":"/v1/Conferences"}',
    }
    check_types(row, Conference.columns())


def test_unknown_members_are_kept():
    """The column `extra` has what the package does not know, at its place, also nested deeply."""
    raw = {
        "new": None,
        "metrics": {"later": 1, "inbound": {"jitter": {"p95": [{"a": 2}]}}},
        "properties": {"hold": True},
    }
    row = participant(raw, "participants").to_row()

    assert json.loads(row["extra"]) == raw
    assert row["problems"] is None


def test_values_that_did_not_fit_their_field_are_kept():
    """What `on_invalid="keep"` kept is in `extra`, and `problems` says why."""
    row = participant_keeping({"label": 7, "metrics": {"inbound": {"mos": "x"}}}, "p").to_row()

    assert json.loads(row["extra"]) == {"label": 7, "metrics": {"inbound": {"mos": "x"}}}
    assert json.loads(row["problems"]) == [
        "label: expected a string, found an integer",
        "metrics.inbound.mos: expected a number, found a string",
    ]
    assert row["label"] is row["inbound_mos"] is None


@pytest.mark.parametrize(
    ("raw", "column", "fault"),
    [
        ({"duration_seconds": 2**63}, "duration_seconds", "64 bits"),
        ({"duration_seconds": -(2**63) - 1}, "duration_seconds", "64 bits"),
        ({"metrics": {"outbound": {"mos": 2**53 + 1}}}, "outbound_mos", "no float equals"),
        ({"metrics": {"outbound": {"mos": 10**400}}}, "outbound_mos", "no float equals"),
        ({"label": "\ud800"}, "label", "UTF-8 cannot encode"),
    ],
)
def test_values_that_do_not_fit_their_column(raw, column, fault):
    """A value beyond a column is None there, whole in `extra`, and named in `problems`."""
    row = participant({**raw, "new": 1}, "participants").to_row()

    assert row[column] is None
    assert json.loads(row["extra"]) == {**raw, "new": 1}
    [problem] = json.loads(row["problems"])
    assert fault in problem
    assert problem.endswith("it is in extra")
    check_types(row, Participant.columns())


@pytest.mark.parametrize(
    ("field", "value"), [("duration_seconds", 2**63 - 1), ("duration_seconds", -(2**63))]
)
def test_largest_integers(field, value):
    """The largest integers of 64 bits are in their columns."""
    row = Participant(**{field: value}).to_row()

    assert row[field] == value
    assert row["extra"] is None


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**53 + 2, 2**200])
def test_integers_that_a_float_equals(number):
    """A large integer that a float equals is that float."""
    row = Participant(metrics={"inbound": {"mos": number}}).to_row()

    assert type(row["inbound_mos"]) is float
    assert row["inbound_mos"] == number


def test_other_texts():
    """Text beyond ASCII is as it is."""
    row = Participant(label="Zoë 电话", coached_participants=("ü",)).to_row()

    assert row["label"] == "Zoë 电话"
    assert json.loads(row["coached_participants"]) == ["ü"]


@given(raw=RECORDS)
@examples(60)
def test_nothing_of_a_participant_is_lost(raw):
    """From the row of any participant, its JSON can be made again; each value has its type."""
    row = participant(raw, "participants").to_row()

    check_types(row, Participant.columns())
    assert rebuilt(row, Participant.columns()) == plain(raw)


@given(raw=CONFERENCES)
@examples(60)
def test_nothing_of_a_conference_is_lost(raw):
    """From the row of any conference, its JSON can be made again; each value has its type."""
    row = conference(raw, "conferences").to_row()

    check_types(row, Conference.columns())
    assert rebuilt(row, Conference.columns()) == plain(raw)


@given(raw=RECORDS, data=st.data())
@examples(60)
def test_broken_records_have_rows(raw, data):
    """A record with values of wrong types has a row, and a problem for each."""
    raw = broken(data.draw, raw, 3)
    if type(raw) is not dict:
        raw = {"label": raw}
    kept = participant_keeping(raw, "participants")
    row = kept.to_row()

    check_types(row, Participant.columns())
    assert json.loads(row["problems"] or "[]")[: len(kept.problems)] == [*kept.problems]
    assert {name for name in raw if name not in RECORD} <= {*json.loads(row["extra"] or "{}")}


def test_broken_conferences_have_rows():
    """A conference with a value of the wrong type has a row, with the value in `extra`."""
    row = conference_keeping({"tags": [1], "links": 3}, "conferences").to_row()

    assert json.loads(row["extra"]) == {"tags": [1], "links": 3}
    assert len(json.loads(row["problems"])) == 2


# --- Records made by hand ---


def test_times_of_other_zones():
    """A time in another zone is the same moment in UTC."""
    there = TIME.astimezone(timezone(timedelta(hours=9)))

    assert Participant(join_time=there).to_row()["join_time"].isoformat() == TIME.isoformat()


def test_subclasses():
    """Values of subclasses become plain ones."""

    class Text(str):
        __slots__ = ()

    class Whole(int):
        __slots__ = ()

    class Real(float):
        __slots__ = ()

    record = Participant(
        label=Text("a"),
        call_direction=CallDirection.INBOUND,
        duration_seconds=Whole(3),
        metrics=ParticipantMetrics(inbound=MediaMetrics(mos=Real(2.5))),
        url="é",
    )

    check_types(record.to_row(), Participant.columns())


@pytest.mark.parametrize(
    ("record", "place"),
    [
        (Participant(label=5), "label: expected a str, found int"),
        (Participant(from_=5), "from_: expected a str"),
        (Participant(duration_seconds="5"), "duration_seconds: expected an int, found str"),
        (Participant(duration_seconds=True), "duration_seconds: expected an int, found bool"),
        (Participant(is_coach=1), "is_coach: expected a bool, found int"),
        (Participant(join_time=TIME.replace(tzinfo=None)), "join_time: expected a datetime with"),
        (Participant(join_time="now"), "join_time: expected a datetime with an offset, found str"),
        (
            Participant(join_time=datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))),
            "join_time",
        ),
        (Participant(coached_participants="CA1"), "coached_participants: expected a tuple or"),
        (Participant(coached_participants=({1},)), "coached_participants: expected a JSON value"),
        (Participant(coached_participants=(float("nan"),)), "coached_participants: expected what"),
        (Participant(extra={"a": object()}), "extra: expected a JSON value, found object"),
        (Participant(metrics=ParticipantMetrics(inbound=MediaMetrics(mos="x"))), "metrics.inbound"),
        (
            Participant(metrics=ParticipantMetrics(inbound=MediaMetrics(jitter=AvgMax(avg=False)))),
            "metrics.inbound.jitter.avg: expected a number, found bool",
        ),
        (Conference(tag_info={"a": {1: {2}}}), "tag_info"),
        (Participant(label="\ud800", is_coach="x", extra={"a": 1}), "is_coach"),
    ],
)
def test_records_made_by_hand_with_other_types(record, place):
    """A value of another type than its column's is an error that names the field, and no value."""
    with pytest.raises(InvalidRequestError) as caught:
        record.to_row()

    assert str(caught.value).startswith(f"A record's {place}")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "record",
    [
        Participant(label="\ud800", extra={"label": 5}),
        Participant(
            properties=ParticipantProperties(extra={"a": 1}), extra={"properties": {"b": 1}}
        ),
        Participant(metrics={"inbound": {"mos": 10**400}}, extra={"metrics": {"b": 1}}),
        Participant(metrics={"inbound": {"mos": 10**400}}, extra={"metrics": 3}),
    ],
)
def test_records_made_by_hand_with_a_value_twice(record):
    """A record whose `extra` has what its field has is refused, rather than one of them dropped."""
    with pytest.raises(InvalidRequestError, match="the record has a field for it"):
        record.to_row()


def test_a_value_that_does_not_fit_changes_no_other():
    """Where one value does not fit its column, all others are in theirs."""
    row = Participant(label="\ud800", is_coach=True, is_moderator=False).to_row()

    assert (row["label"], row["is_coach"], row["is_moderator"]) == (None, True, False)


def test_empty_extra_is_none():
    """An `extra` without members is None in the row, however it was made."""
    record = Participant(extra={}, properties=ParticipantProperties(extra={}))

    assert record.to_row()["extra"] is None


# --- Many ---


def test_rows_of_a_page():
    """A page gives the rows of its records, participants or conferences."""
    meta = PageMeta()
    page = Page(records=(Participant(label="a"), Participant()), meta=meta, request_id=None)
    other = Page(records=(Conference(status="completed"),), meta=meta, request_id=None)

    assert page.to_rows() == [Participant(label="a").to_row(), Participant().to_row()]
    assert other.to_rows() == [Conference(status="completed").to_row()]


def test_rows_of_a_result():
    """The result of a conference gives the rows of its participants."""
    result = ConferenceResult(conference_sid="CF1", participants=(Participant(label="a"),))

    assert result.to_rows() == [Participant(label="a").to_row()]


def test_values_without_names():
    """The values alone are those of the row, in the order of the columns."""
    record = participant(RAW, "participants")

    assert _rows.row_values(Participant)(record) == (*record.to_row().values(),)
