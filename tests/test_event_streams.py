"""What Event Streams push, decoded into the records that the REST API gives."""

from __future__ import annotations

import copy
import json
import math
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioparticipants import InsightsSession, InvalidRequestError, ResponseError
from aioparticipants.event_streams import EventType, StreamEvent, parse
from aioparticipants.models import CallStatus, Conference, ConferenceTag, FrozenMapping, Participant
from aioparticipants.testing import FakeInsights

from . import servers, watchdog
from .profiles import examples
from .records import RECORDS, broken, broken_fields, faults, json_values, read_all
from .users import bad, made_up

PREFIX = "com.twilio.voice.insights."
PARTICIPANT = f"{PREFIX}conference-participant-summary.complete"
CONFERENCE = f"{PREFIX}conference-summary.complete"
OTHER = "com.twilio.messaging.message.sent"
SCHEMAS = "https://events-schemas.twilio.com/VoiceInsights."
#: A participant as schema 2 has it: every member that its published example has, and no other.
PARTICIPANT_DATA = {
    "participant_sid": "CP" + "1" * 32,
    "label": "agent",
    "conference_sid": "CF" + "2" * 32,
    "call_sid": "CA" + "3" * 32,
    "account_sid": "AC" + "4" * 32,
    "call_direction": "outbound",
    "from": "+14155550100",
    "to": "+14155550101",
    "call_state": "completed",
    "country_code": "US",
    "is_moderator": False,
    "join_time": "2026-03-01T10:00:00Z",
    "leave_time": "2026-03-01T10:20:00Z",
    "duration_seconds": 1200,
    "whisper": "hello",
    "agent_audio": True,
    "outbound_queue_length": 0,
    "outbound_time_in_queue": 965,
    "jitter_buffer_size": "small",
    "is_coach": False,
    "coached_participants": [],
    "participant_region": "us1",
    "conference_region": "us1",
    "call_type": "sip",
    "quality_issues": 2,
    "properties": {
        "start_conference_on_enter": True,
        "end_conference_on_exit": False,
        "play_early_media": True,
        "recording_enabled": True,
        "trim_recording": True,
        "requested_region": "us1",
    },
    "events": {"mute": [1772359300000], "unmute": []},
    "metrics": {"inbound": {"jitter": {"avg": 1.5, "max": 4, "timestamp": 1772359300}}},
    "processing_state": "complete",
}
CONFERENCE_DATA = {
    "conference_sid": "CF" + "2" * 32,
    "account_sid": "AC" + "4" * 32,
    "friendly_name": "A meeting",
    "create_time": "2026-03-01T09:59:00Z",
    "start_time": "2026-03-01T10:00:00Z",
    "end_time": "2026-03-01T10:30:00Z",
    "duration_seconds": 1860,
    "status": "completed",
    "end_reason": "last_participant_left",
    "ended_by": "CA" + "3" * 32,
    "recording_enabled": True,
    "tags": ["duplicate_identity", "silent"],
    "tag_info": {"duplicate_identity": [{"participant_sids": ["CP" + "1" * 32]}]},
    "detected_issues": {"call_quality": 5},
    "processing_state": "in_progress",
}


def event_of(data, type_=PARTICIPANT, **attributes):
    """Return an event with this data, as Twilio pushes it."""
    return {
        "specversion": "1.0",
        "type": type_,
        "source": "/v1/Conferences/CF0/Participants/CP0",
        "id": "EZ" + "5" * 32,
        "dataschema": f"{SCHEMAS}ConferenceParticipantSummary/2",
        "datacontenttype": "application/json",
        "time": "2026-03-01T10:20:01.500Z",
        "data": data,
        **attributes,
    }


def only(body, **options):
    """Return the event of a body that has one."""
    [event] = parse(body, **options)
    return event


def failure(body, kind=ResponseError, **options):
    """Return the error for a body; it refers to nothing that was in the body."""
    with pytest.raises(kind) as caught:
        parse(body, **options)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert pickle.loads(pickle.dumps(error)).__dict__ == error.__dict__
    return error


# --- Records ---


def test_participant():
    """A participant summary becomes the record, and everything else of it is kept."""
    event = only(json.dumps([event_of(PARTICIPANT_DATA)]))

    assert event.id == "EZ" + "5" * 32
    assert event.type is EventType.CONFERENCE_PARTICIPANT_SUMMARY_COMPLETE
    assert event.type == PARTICIPANT
    assert event.source == "/v1/Conferences/CF0/Participants/CP0"
    assert event.specversion == "1.0"
    assert event.time == datetime(2026, 3, 1, 10, 20, 1, 500000, UTC)
    assert event.dataschema == f"{SCHEMAS}ConferenceParticipantSummary/2"
    assert event.datacontenttype == "application/json"
    assert event.problems == ()
    assert event.extra == {}
    record = event.participant
    assert record is event.record
    assert event.conference is None
    assert record.from_ == "+14155550100"
    assert record.call_status is CallStatus.COMPLETED
    assert record.events["mute"] == (datetime(2026, 3, 1, 10, 1, 40, tzinfo=UTC),)
    assert record.metrics.inbound.jitter.avg == 1.5
    assert record.metrics.inbound.jitter.extra == {"timestamp": 1772359300}
    assert record.extra == {"whisper": "hello", "agent_audio": True, "quality_issues": 2}
    assert record.properties.extra == {
        "recording_enabled": True,
        "trim_recording": True,
        "requested_region": "us1",
    }
    assert event.data["call_state"] == "completed"
    assert event.data["coached_participants"] == ()


@pytest.mark.parametrize("word", ["complete", "partial"])
def test_conference(word):
    """A conference summary becomes the record, whether it is complete or partial."""
    event = only([event_of(CONFERENCE_DATA, f"{PREFIX}conference-summary.{word}")])

    assert event.type is EventType(f"{PREFIX}conference-summary.{word}")
    record = event.conference
    assert record is event.record
    assert event.participant is None
    assert event.problems == ()
    assert record.friendly_name == "A meeting"
    assert record.tags == (ConferenceTag.DUPLICATE_IDENTITY, "silent")
    assert record.tag_info["duplicate_identity"][0]["participant_sids"] == ("CP" + "1" * 32,)
    assert record.detected_issues == {"call_quality": 5}
    assert record.unique_participants is None


def test_both_names_of_a_participant_summary():
    """The type is read by both names that Twilio's pages give it."""
    short = f"{PREFIX}participant-summary.complete"
    event = only([event_of(PARTICIPANT_DATA, short)])

    assert event.type is EventType.PARTICIPANT_SUMMARY_COMPLETE
    assert event.record == only([event_of(PARTICIPANT_DATA)]).record


@pytest.mark.parametrize(
    ("given_members", "status", "extra"),
    [
        ({"call_state": "completed"}, CallStatus.COMPLETED, {}),
        ({"call_state": "completed", "call_status": None}, CallStatus.COMPLETED, {}),
        ({"call_state": "undialed"}, "undialed", {}),
        ({"call_state": "busy", "call_status": "fail"}, CallStatus.FAIL, {"call_state": "busy"}),
        ({"call_state": None}, None, {"call_state": None}),
        ({"call_state": 1}, None, {"call_state": 1}),
    ],
)
def test_call_state(given_members, status, extra):
    """`call_state` is `call_status` where the event has only that, and is kept beside it."""
    event = only([event_of(given_members)])

    assert event.problems == ()
    assert event.record.call_status == status
    assert event.record.extra == extra
    assert event.data == given_members


def test_call_state_of_a_conference():
    """A conference has no `call_status`, so its `call_state` stays what it is."""
    assert only([event_of({"call_state": "x"}, CONFERENCE)]).record.extra == {"call_state": "x"}


async def test_records_of_the_rest_api(fake, session):
    """Events with the participants of a list have the records of that list."""
    sid = fake.add_conference(participants=200)
    pushed = parse(json.dumps([event_of(each) for each in fake.records(sid)]))

    assert [event.record for event in pushed] == await session.participants(sid)
    assert not any(event.problems for event in pushed)


async def test_bad_records_of_the_rest_api(fake, session):
    """A value of a wrong type comes to the same as with on_invalid="keep" in a list."""
    records = made_up(fake, 3)
    records[1] = bad(records[1])
    listed = await session.participants(fake.add_conference(records), on_invalid="keep")
    pushed = parse(json.dumps([event_of(each) for each in records]))

    assert [event.record for event in pushed] == listed
    assert [event.problems for event in pushed] == [
        (),
        ("data.label: expected a string, found an integer",),
        (),
    ]
    assert listed[1].problems == ("label: expected a string, found an integer",)


async def test_conference_of_the_rest_api():
    """An event with the data of a conference has the record that the REST API gives."""
    data = {**CONFERENCE_DATA, "url": None, "links": {"participants": "x"}, "unheard_of": [1]}
    async with servers.raw(servers.http(json.dumps(data).encode())) as server:
        async with InsightsSession(("AC1", "token"), base_url=server.base_url) as session:
            record = await session.conference(data["conference_sid"])

    assert only([event_of(data, CONFERENCE)]).record == record


@examples(40)
@given(st.lists(RECORDS, min_size=1, max_size=5))
def test_any_record_of_the_rest_api(records):
    """Whatever valid record is pushed is equal to the one that the REST API gives."""
    records = [{**each, "conference_sid": None} for each in records]

    async def check():
        async with (
            FakeInsights() as fake,
            InsightsSession(fake.credentials, base_url=fake.base_url) as session,
        ):
            return await session.participants(fake.add_conference(records))

    pushed = parse(json.dumps([event_of(each) for each in records]), on_invalid="raise")
    assert [event.record for event in pushed] == watchdog.run(check(), describe=lambda: records)


@examples(150)
@given(st.data())
def test_any_broken_record(data):
    """Whatever is wrong with a record: it is kept, each problem is named, and `raise` raises."""
    raw = broken(data.draw, data.draw(RECORDS), 3)
    event = only([event_of(raw)])

    assert read_all(event)
    assert isinstance(event.record, Participant) == (type(raw) is dict)
    wrong = [*faults(raw, "[0].data")]
    # `data` as a whole is named where it is no object, or cannot be made immutable: it has one
    # level more than its members.
    in_record = [each for each in event.problems if not each.startswith("data: ")]
    named = {f"[0].{each.partition(': ')[0]}" for each in in_record}
    assert {*wrong} >= named or any(": " in name for name in raw)
    # A field names its first fault only.
    assert len(in_record) == (broken_fields(raw) if type(raw) is dict else 0)
    assert event.problems or not wrong
    if event.problems:
        assert failure([event_of(raw)], on_invalid="raise").path in {*wrong, "[0].data"}
    else:
        assert only([event_of(raw)], on_invalid="raise") == event


# --- Data ---


def test_data_in_a_string():
    """In Kinesis the data of a summary is a string of JSON, and gives the same event."""
    in_kinesis = event_of(json.dumps(PARTICIPANT_DATA))

    assert parse(json.dumps(in_kinesis).encode()) == parse([event_of(PARTICIPANT_DATA)])


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("{", "a string"),
        ("[" * 100_000, "a string"),
        ('{"a": NaN}', "a string"),
        ("\ud800", "a string"),
        ("[]", "an array"),
        ([PARTICIPANT_DATA], "an array"),
        (7, "an integer"),
        (None, "null"),
    ],
)
def test_data_that_is_no_object(data, found):
    """A summary whose data is not an object has no record, and its data is kept."""
    event = only([event_of(data)])

    assert event.record is None
    assert event.problems == (f"data: expected an object, found {found}",)
    assert event.data == (() if data == "[]" else only([event_of(data, OTHER)]).data)
    assert failure([event_of(data)], on_invalid="raise").path == "[0].data"


@pytest.mark.parametrize(
    "data", [{"a": [1, {"b": None}]}, [True], '{"a": 1}', "text", 1.5, False, None]
)
def test_other_types(data):
    """An event of any other type is kept with its data, which is not decoded any further."""
    event = only(json.dumps([event_of(data, OTHER)]), on_invalid="raise")

    assert event.type == OTHER
    assert event.record is event.participant is event.conference is None
    assert event.problems == ()
    assert json.loads(json.dumps(event.data, default=dict)) == data
    assert read_all(event)


def test_data_that_cannot_be_immutable():
    """Data beyond the limits of what can be held is kept as its JSON text."""
    deep = {"a": json.loads("[" * 70 + "]" * 70)}
    infinite = {"mos": math.inf}
    events = parse([event_of(deep, OTHER), event_of({"metrics": {"inbound": infinite}})])

    assert events[0].data == json.dumps(deep)
    assert events[0].problems == ("data: the value is nested too deeply; its JSON text is kept",)
    assert events[1].data == '{"metrics": {"inbound": {"mos": 1e999}}}'
    assert events[1].record.metrics.inbound.mos is None
    assert events[1].problems == (
        "data.metrics.inbound.mos: expected a finite number; its JSON text is kept",
        "data: expected a finite number; its JSON text is kept",
    )
    assert failure([event_of(deep, OTHER)], on_invalid="raise").path == "[0].data"


# --- Attributes ---


@pytest.mark.parametrize("name", ["id", "type", "source", "specversion"])
@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (..., "required by CloudEvents, and missing"),
        (None, "required by CloudEvents, and missing"),
        ("", "expected a string that is not empty"),
        (0, "expected a string, found an integer"),
        ({"a": 1}, "expected a string, found an object"),
    ],
)
def test_required_attributes(name, value, fault):
    """An event without a required attribute says so; a value that does not fit is kept."""
    raw = event_of({}, OTHER, **{name: value})
    if value is ...:
        del raw[name]
    event = only([raw])

    assert getattr(event, name) is None
    assert event.problems == (f"{name}: {fault}",)
    assert event.extra == ({} if value in (..., None) else {name: value})
    assert failure([{}, raw], on_invalid="raise").path == "[0].id"
    assert failure([raw], on_invalid="raise").path == f"[0].{name}"
    assert failure(raw, on_invalid="raise").path == name


@pytest.mark.parametrize("name", ["time", "dataschema", "datacontenttype"])
def test_optional_attributes(name):
    """Any other attribute can be missing or null; a value of a wrong type is kept."""
    without = event_of(PARTICIPANT_DATA)
    del without[name]
    event = only([without], on_invalid="raise")

    assert getattr(event, name) is None
    assert only([{**without, name: None}], on_invalid="raise") == event
    wrong = only([{**without, name: 5}])
    assert getattr(wrong, name) is None
    assert wrong.extra == {name: 5}
    assert wrong.problems == (f"{name}: expected a string, found an integer",)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-03-01T10:20:01", "0001-01-01T00:00+01:00"])
def test_time_that_is_none(text):
    """A time that RFC 3339 does not allow is kept as text."""
    event = only([event_of({}, OTHER, time=text)])

    assert event.time is None
    assert event.extra == {"time": text}
    assert event.problems == ("time: expected an ISO 8601 time with an offset",)


@pytest.mark.parametrize(("version", "fits"), [("1.0", True), ("1.1", True), ("0.3", False)])
def test_version(version, fits):
    """Another major version of CloudEvents is a problem, as its attributes mean something else."""
    event = only([event_of({}, OTHER, specversion=version)])

    assert event.specversion == version
    assert event.problems == (() if fits else ("specversion: expected version 1.0 of CloudEvents",))


def test_unknown_attributes():
    """Extension attributes are kept, and null is the same as none."""
    raw = event_of({}, OTHER, subject="x", mine=[{"a": 1}], data_base64="eA==", unset=None)
    event = only(json.dumps([raw]), on_invalid="raise")

    assert event.extra == {
        "subject": "x",
        "mine": (FrozenMapping({"a": 1}),),
        "data_base64": "eA==",
    }


# --- Bodies ---


def forms(raw):
    """Return the same body in all forms that are accepted."""
    text = json.dumps(raw)
    return [
        text,
        text.encode(),
        bytearray(text.encode()),
        b"\xef\xbb\xbf \n" + text.encode() + b"\n\t ",
        raw,
        json.loads(text),
        MappingProxyType(raw) if isinstance(raw, dict) else tuple(map(MappingProxyType, raw)),
    ]


@pytest.mark.parametrize(
    "raw", [event_of(PARTICIPANT_DATA), [event_of(CONFERENCE_DATA, CONFERENCE), event_of({})], []]
)
def test_forms_of_a_body(raw):
    """A batch, an empty one and a single event are read from bytes, from text, and decoded."""
    before = copy.deepcopy(raw)
    results = [parse(form) for form in forms(raw)]

    assert all(each == results[0] for each in results)
    assert len(results[0]) == (1 if isinstance(raw, dict) else len(raw))
    assert raw == before


def test_large_batch():
    """A batch of a thousand mixed events comes in its order, with the bad ones in their places."""
    makes = [
        lambda: event_of(PARTICIPANT_DATA),
        lambda: event_of(CONFERENCE_DATA, CONFERENCE),
        lambda: event_of({"body": "x" * 5000}, OTHER),
        lambda: event_of({"duration_seconds": "7"}),
        lambda: 7,
    ]
    raw = [makes[index % 5]() for index in range(1000)]
    for index, each in enumerate(raw):
        if isinstance(each, dict):
            each["id"] = f"EZ{index:032}"
    events = parse(json.dumps(raw))

    assert events == parse(raw)
    assert [event.id for event in events] == [
        None if index % 5 == 4 else f"EZ{index:032}" for index in range(1000)
    ]
    assert [type(event.record) for event in events[:5]] == [
        Participant,
        Conference,
        type(None),
        Participant,
        type(None),
    ]
    assert [index for index, event in enumerate(events) if event.problems] == [
        index for index in range(1000) if index % 5 in {3, 4}
    ]
    assert failure(raw, on_invalid="raise").path == "[3].data.duration_seconds"


def test_duplicates():
    """An event that is delivered again is equal to the first, by its id and in a set."""
    first, other = event_of(PARTICIPANT_DATA), event_of(PARTICIPANT_DATA, id="EZ" + "6" * 32)
    events = parse(json.dumps([first, other, first])) + parse(json.dumps(first))

    assert len({event.id for event in events}) == len(set(events)) == 2


MALFORMED = ["NaN", '{"id": -Infinity}', '{"id": "\x01"}', '{"id": 1' + "0" * 5000 + "}", "[1 2]"]


@pytest.mark.parametrize("malformed", [*MALFORMED, "[" * 15_000 + "]" * 15_000])
def test_malformed_event(malformed):
    """An event that is not JSON does not lose the others of its batch."""
    good = json.dumps(event_of(PARTICIPANT_DATA))
    events = parse(f"[{good}, {malformed}, {good}]")

    assert [event.record is None for event in events] == [False, True, False]
    assert events[1] == StreamEvent(problems=("not JSON in UTF-8, or nested too deeply",))
    assert failure(f"[{good}, {malformed}]", on_invalid="raise").path == "[1]"


GOOD = json.dumps([event_of(PARTICIPANT_DATA), event_of({}, OTHER)])


@pytest.mark.parametrize(
    "body",
    [
        *("", " ", "nul", "{", '{"id": NaN}', '{"id": 1}}', GOOD[1:], "\ud800", "[" * 100_000),
        *(b"\xff", b'{"id": "\xff"}', GOOD.encode("utf-16"), b" \xef\xbb\xbf[]"),
        *(GOOD[:-1], GOOD[:-2], GOOD[:50], GOOD + "]", GOOD + ', "a": 1', GOOD + "x", "[", "[]]"),
        *('{"a":' * 100_000, '[{"id": "x], {}]'),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_malformed_body(body):
    """A body that cannot be read to its end is an error, so that Twilio sends it again."""
    assert str(failure(body)).startswith("The body of the push ")


@pytest.mark.parametrize("body", ["5", '"text"', "null", "true", None, 5, 1.5, False])
def test_body_of_another_shape(body):
    """JSON that is neither an array nor an object is not a push."""
    assert "is neither an array nor an object" in str(failure(body))


def test_size_of_a_body():
    """A body of more than 4 MiB is refused before it is decoded."""
    text = json.dumps([event_of("x" * (4 * 2**20 - 1000), OTHER)])
    largest = text[:-1] + " " * (4 * 2**20 - len(text)) + "]"

    assert len(parse(largest)) == 1
    assert "larger than 4 MiB" in str(failure(largest + " "))
    assert "larger than 4 MiB" in str(failure(b"[" * (4 * 2**20 + 1)))


@pytest.mark.parametrize("item", ["{}", "x"])
def test_number_of_events(item):
    """A body of more than 10,000 events is refused, so that none keeps the process busy."""
    most = ",".join([item] * 10_000)

    assert len(parse(f"[{most}]")) == 10_000
    error = failure(f"[{most},{item}]")
    assert "more than 10000 events" in str(error)
    assert error.path == "[10000]"


def test_body_that_contains_itself():
    """Decoded objects that contain themselves are refused."""
    batch, event = [], event_of({})
    batch.append(batch)
    event["data"]["again"] = event

    assert "nested too deeply" in str(failure(batch))
    assert "nested too deeply" in str(failure(event))


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (object(), "body: expected a JSON value, found object"),
        (memoryview(b"[]"), "body: expected a JSON value, found memoryview"),
        (iter([]), "body: expected a JSON value, found list_iterator"),
        ({1, 2}, "body: expected a JSON value, found set"),
        ({1: 2}, "body: expected a string, found an integer"),
        ([event_of({"mos": Decimal(1)})], "body[0].data.mos: expected a JSON value, found Decimal"),
        ([event_of({}, EventType.CONFERENCE_SUMMARY_PARTIAL)], "body[0].type: expected a JSON"),
        ([event_of({}, time=datetime.now(UTC))], "body[0].time: expected a JSON value, found date"),
    ],
)
def test_body_that_is_no_json(body, place):
    """Anything that JSON does not have is the caller's mistake, and named with its place."""
    message = str(failure(body, InvalidRequestError))

    assert message.startswith(place)
    assert "Give the body as it came" in message


def test_other_ways_to_treat_bad_events():
    """Only "keep" and "raise" are accepted."""
    assert "on_invalid" in str(failure([], InvalidRequestError, on_invalid="skip"))


# --- Events as values ---


def test_event_as_a_value():
    """An event is frozen, hashable, comparable and picklable."""
    [event] = parse([event_of(PARTICIPANT_DATA, mine={"a": [1]})])
    same = pickle.loads(pickle.dumps(event))

    assert same == event == copy.deepcopy(event)
    assert hash(same) == hash(event)
    assert event != attrs.evolve(event, id="EZ0")
    assert read_all(event)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.id = "EZ0"


def test_private_data():
    """Neither `repr` nor an error shows what an event says about people."""
    secret = "+14155550199"
    raw = event_of({"from": secret, "label": secret, "to": [secret]}, mine=secret)
    shown = repr(parse([raw, event_of({"body": secret}, OTHER), secret]))

    assert secret not in shown
    assert "EZ5555" in shown
    assert "data=None" in repr(StreamEvent())
    for body in (
        [raw],
        [event_of(secret)],
        [event_of({}, time=secret)],
        secret,
        [{"id": [secret]}],
    ):
        assert secret not in str(failure(body, on_invalid="raise"))


# --- Anything ---

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
TEXTS = st.text(st.characters(), max_size=5)
NAMES = st.sampled_from(["id", "type", "source", "specversion", "time", "data", "dataschema", "x"])
VALUES = json_values(NUMBERS, TEXTS | st.sampled_from([PARTICIPANT, CONFERENCE, "1.0"]))
EVENTS = st.dictionaries(NAMES, VALUES) | st.builds(event_of, VALUES)
BODIES = st.lists(EVENTS | VALUES, max_size=4) | EVENTS | VALUES


@examples(400)
@given(BODIES)
def test_any_json(raw):
    """Any JSON gives one event for each item, or the error of a body; decoded or not, the same."""
    text = json.dumps(raw).replace("Infinity", "1e999")
    outcomes = {outcome(text), outcome(text.encode()), outcome(raw, decoded=True)}

    assert len(outcomes) == 1
    [found] = outcomes
    if isinstance(raw, list):
        assert len(found) == len(raw)
    elif isinstance(raw, dict):
        assert len(found) == 1
    else:
        assert found is None
    assert read_all(found or ())
    assert all(event.id or event.problems for event in found or ())
    strict = outcome(text, on_invalid="raise")
    assert strict == (None if any(event.problems for event in found or ()) else found)


def outcome(body, *, decoded=False, **options):
    """Return the events of a body, or None for the error of its body."""
    if decoded and isinstance(body, str):
        return outcome(json.dumps(body))  # a str is a body as it came
    try:
        return tuple(parse(body, **options))
    except ResponseError:
        return None


@examples(300)
@given(st.binary(max_size=40) | st.text('[]{},:"\\ \t\n01-.eEtrufalsn\ufeff\ud800é', max_size=40))
def test_any_body(body):
    """Any bytes, and any text, give events or the one error."""
    for on_invalid in ("keep", "raise"):
        found = outcome(body, on_invalid=on_invalid)
        assert found is None or read_all(found)
