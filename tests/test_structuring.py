"""Decoded JSON to records and back, value by value."""

from __future__ import annotations

import copy
import inspect
import json
import linecache
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

from aioparticipants import (
    AvgMax,
    CallDirection,
    MediaMetrics,
    PageMeta,
    Participant,
    ParticipantMetrics,
    ProcessingState,
    Region,
    ResponseError,
)
from aioparticipants._structuring import page_meta, participant, unstructure_participant

PHONE = "+15005550006"
DESCRIPTION = Path(__file__).parents[2] / "shared" / "insights-v1-openapi.json"
ENUMS = (
    "call_direction",
    "call_status",
    "call_type",
    "conference_region",
    "jitter_buffer_size",
    "participant_region",
    "processing_state",
)


def media(**changes):
    return {
        "total_packets_lost": 3,
        "total_packets_received": 70,
        "packet_loss_percentage": 0.25,
        "jitter": {"avg": 0.41, "max": 0.84},
        "latency": {"avg": 0, "max": 1},
        "mos": 4.4,
        **changes,
    }


def record(**changes):
    """Return a record with each of the API's 27 members."""
    return {
        "participant_sid": "CP" + "a" * 32,
        "label": "agent",
        "conference_sid": "CF" + "a" * 32,
        "call_sid": "CA" + "a" * 32,
        "account_sid": "AC" + "a" * 32,
        "call_direction": "outbound",
        "from": PHONE,
        "to": "+15005550007",
        "call_status": "completed",
        "country_code": "US",
        "is_moderator": True,
        "join_time": "2021-10-08T02:58:51Z",
        "leave_time": "2021-10-08T02:59:55.123000Z",
        "duration_seconds": 65,
        "outbound_queue_length": 0,
        "outbound_time_in_queue": 3361,
        "jitter_buffer_size": "small",
        "is_coach": False,
        "coached_participants": ["CA" + "b" * 32],
        "participant_region": "in1",
        "conference_region": "us1",
        "call_type": "carrier",
        "processing_state": "complete",
        "properties": {
            "start_conference_on_enter": True,
            "end_conference_on_exit": False,
            "play_early_media": True,
            "enter_muted": False,
            "beep_on_enter": False,
            "beep_on_exit": False,
        },
        "metrics": {"inbound": media(), "outbound": media(tags=["silent"])},
        "events": {"mute": [1633705131000, 1633705131001]},
        "url": "https://insights.twilio.com/v1/Conferences/CF/Participants/CP",
        **changes,
    }


def read(**changes):
    return participant(record(**changes), "participants[3]")


def test_every_field():
    """Each of the 27 members becomes its typed field."""
    found = read()

    assert len(record()) == 27
    assert {each.name.rstrip("_") for each in attrs.fields(Participant)} == {*record(), "extra"}
    assert found.from_ == PHONE
    assert found.call_direction is CallDirection.OUTBOUND
    assert found.participant_region is Region.IN1
    assert found.processing_state is ProcessingState.COMPLETE
    assert found.join_time == datetime(2021, 10, 8, 2, 58, 51, tzinfo=UTC)
    assert found.leave_time == datetime(2021, 10, 8, 2, 59, 55, 123000, tzinfo=UTC)
    assert found.coached_participants == ("CA" + "b" * 32,)
    assert found.events == {
        "mute": (
            datetime(2021, 10, 8, 14, 58, 51, tzinfo=UTC),
            datetime(2021, 10, 8, 14, 58, 51, 1000, tzinfo=UTC),
        )
    }
    assert found.properties.play_early_media is True
    assert found.properties.early_media is None
    assert found.metrics == ParticipantMetrics(
        inbound=MediaMetrics(
            total_packets_lost=3,
            total_packets_received=70,
            packet_loss_percentage=0.25,
            jitter=AvgMax(avg=0.41, max=0.84),
            latency=AvgMax(avg=0, max=1),
            mos=4.4,
        ),
        outbound=attrs.evolve(found.metrics.inbound, tags=("silent",)),
    )
    assert found.extra == {}


@pytest.mark.parametrize(
    "raw",
    [
        record(),
        record(label=None, events=None, metrics=None, properties=None, coached_participants=None),
        record(join_time=None, leave_time=None, from_unknown=1),
        record(metrics={"inbound": None, "outbound": None}),
        record(properties={"start_conference_on_enter": None, "end_conference_on_exit": None,
                           "early_media": False, "enter_muted": None, "beep_on_enter": None,
                           "beep_on_exit": None}),
        record(new={"a": [1, {"b": None}], "c": "d"}, extra=[]),
        record(call_status="melted", conference_region="xx9", call_type=None),
        record(events={}, coached_participants=[]),
    ],
)  # fmt: skip
def test_round_trip(raw):
    """What was structured unstructures to what it was."""
    before = copy.deepcopy(raw)

    assert unstructure_participant(participant(raw, "")) == before
    assert raw == before


def test_all_null_and_all_absent():
    """Null and absence are fine for every field, and mean the same."""
    nulls = participant(dict.fromkeys(record()), "")

    assert nulls == participant({}, "") == Participant()


def test_unknown_words_and_members_are_kept():
    """Nothing that the API adds is lost, at any depth."""
    found = read(
        call_status="melted",
        shoe_size=[42, {"eu": True}],
        metrics={"inbound": media(burst=1.5, jitter={"avg": 1, "p99": 2}), "sideways": {}},
        properties={"hold_music": "x"},
    )

    assert found.call_status == "melted"
    assert found.extra == {"shoe_size": (42, {"eu": True})}
    assert found.metrics.extra == {"sideways": {}}
    assert found.metrics.inbound.extra == {"burst": 1.5}
    assert found.metrics.inbound.jitter == AvgMax(avg=1, extra=found.metrics.inbound.jitter.extra)
    assert found.metrics.inbound.jitter.extra == {"p99": 2}
    assert found.properties.extra == {"hold_music": "x"}


STRINGS = [
    name
    for name, value in record().items()
    if isinstance(value, str) and not name.endswith("_time")
]
WRONG = [
    *((name, wrong, "a string") for name in STRINGS for wrong in (7, True, [], {}, 1.5)),
    *(
        (name, wrong, "an integer")
        for name in ("duration_seconds", "outbound_queue_length", "outbound_time_in_queue")
        for wrong in ("12", 3.7, 3.0, True, [])
    ),
    *(
        (name, wrong, "a boolean")
        for name in ("is_moderator", "is_coach")
        for wrong in ("false", 0, 1)
    ),
    *(
        (name, wrong, "ISO 8601")
        for name in ("join_time", "leave_time")
        for wrong in ("", "soon", "2021-10-08", "2021-10-08T02:58:51", "2021-W40")
    ),
    ("join_time", 1633705131000, "a string"),
    ("properties", [], "an object"),
    ("metrics", "x", "an object"),
    ("events", [], "an object"),
    ("coached_participants", "CA", "an array"),
]


@pytest.mark.parametrize(("name", "wrong", "expected"), WRONG)
def test_wrong_types(name, wrong, expected):
    """A wrong type is an error with its path and what was expected, and never the value."""
    with pytest.raises(ResponseError, match=expected) as caught:
        read(**{name: wrong})

    assert caught.value.path == f"participants[3].{name}"
    assert caught.value.__context__ is None
    assert PHONE not in repr(caught.value)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"coached_participants": ["CA", 7]}, "coached_participants[1]"),
        ({"events": {"mute": 7}}, "events.mute"),
        ({"events": {"hold": None}}, "events.hold"),
        ({"events": {"mute": [1, 2.5]}}, "events.mute[1]"),
        ({"events": {"mute": [True]}}, "events.mute[0]"),
        ({"events": {"mute": [2**70]}}, "events.mute[0]"),
        ({"properties": {"enter_muted": "no"}}, "properties.enter_muted"),
        ({"metrics": {"inbound": 7}}, "metrics.inbound"),
        ({"metrics": {"inbound": media(mos="4")}}, "metrics.inbound.mos"),
        ({"metrics": {"inbound": media(mos=True)}}, "metrics.inbound.mos"),
        ({"metrics": {"inbound": media(mos=float("inf"))}}, "metrics.inbound.mos"),
        ({"metrics": {"outbound": media(tags=["a", None])}}, "metrics.outbound.tags[1]"),
        (
            {"metrics": {"outbound": media(jitter={"avg": "x", "max": 1})}},
            "metrics.outbound.jitter.avg",
        ),
        (
            {"metrics": {"outbound": media(latency={"max": float("-inf")})}},
            "metrics.outbound.latency.max",
        ),
        ({"shoe_size": float("inf")}, "shoe_size"),
        ({"metrics": {"new": [float("nan")]}}, "metrics.new"),
    ],
)
def test_wrong_values_inside(changes, path):
    """A wrong value is found however deep it stands, before anybody reads the attribute."""
    with pytest.raises(ResponseError) as caught:
        read(**changes)

    assert caught.value.path == f"participants[3].{path}"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("raw", [None, [], "x", 7, True, 1.5])
def test_no_object(raw):
    """A record that is no object is an error at its own path."""
    with pytest.raises(ResponseError, match="an object") as caught:
        participant(raw, "participants[0]")

    assert caught.value.path == "participants[0]"


def test_deep_values():
    """A value that is nested beyond reason is an error, too."""
    deep = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(ResponseError, match="too deeply"):
        read(new=deep)


def test_nested_records_are_built_once():
    """A nested record is the same object each time it is asked for, and so is what it holds."""
    found = read()

    assert found.metrics is found.metrics
    assert found.metrics.inbound.jitter is found.metrics.inbound.jitter
    assert found.properties is found.properties
    assert Participant(metrics=found.metrics).metrics is found.metrics
    assert inspect.isdatadescriptor(Participant.metrics)


def test_offsets_become_utc():
    """Times with another offset are the same instant in UTC, fractions kept."""
    found = read(join_time="2021-10-08T04:58:51.250+02:00")

    assert found.join_time == datetime(2021, 10, 8, 2, 58, 51, 250000, tzinfo=UTC)
    assert found.join_time.utcoffset() == timedelta(0)
    assert found.join_time.tzinfo is UTC


def test_a_wrong_type_is_found_again_and_again():
    """A shape that was refused is refused next time, and good ones stay good beside it."""
    for _ in range(3):
        with pytest.raises(ResponseError):
            read(duration_seconds="65")
        assert read().duration_seconds == 65


def test_frozen_hashable_comparable_picklable():
    """Records cannot change, equal ones hash alike, and pickle and copy give them back."""
    found, same = read(new=[{"a": 1}]), read(new=[{"a": 1}])

    assert found == same
    assert hash(found) == hash(same)
    assert found != read(new=[{"a": 2}])
    for travel in (copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))):
        assert travel(found) == found
    for target in (found, found.metrics, found.metrics.inbound, found.properties):
        assert type(target).__name__ in {
            "Participant", "ParticipantMetrics", "MediaMetrics", "ParticipantProperties",
        }  # fmt: skip
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            target.extra = {}
        with pytest.raises(TypeError):
            target.extra["a"] = 1
    assert repr(found.events).startswith("{'mute': (")
    assert len(found.events) == 1
    assert isinstance(found, Participant)


def test_personal_data_is_masked():
    """Neither label nor numbers nor unknown values show in repr; absence does."""
    shown = repr(read(secret_number=PHONE))

    assert PHONE not in shown
    assert "agent" not in shown
    assert "label='***', " in shown
    assert "{'secret_number': '***'}" in shown
    assert "label=None" in repr(Participant())


def test_page_meta():
    """A page's own words are typed, its addresses shown without their queries."""
    url = "https://insights.twilio.com/x?Label=agent&PageSize=2"
    meta = page_meta({"page": 1, "page_size": 2, "url": url, "next_page_url": None, "new": 1})

    assert meta == PageMeta(page=1, page_size=2, url=url, extra={"new": 1})
    assert "agent" not in repr(meta)
    assert "next_page_url=None" in repr(meta)
    assert pickle.loads(pickle.dumps(meta)) == meta


def test_published_examples():
    """Every example record of Twilio's own description comes back as it was."""
    if not DESCRIPTION.exists():
        pytest.skip("Twilio's description is not beside the repository")
    paths = json.loads(DESCRIPTION.read_text(encoding="utf-8"))["paths"]
    bodies = [
        example["value"]
        for path, item in paths.items()
        if "/Participants" in path
        for example in _json_of(item)["examples"].values()
    ]
    records = [each for body in bodies for each in body.get("participants", [body])]

    assert len(records) == 4
    for raw in records:
        assert unstructure_participant(participant(raw, "")) == raw
    for body in bodies:
        if "meta" in body:
            assert page_meta(body["meta"]) == PageMeta(**body["meta"])


def _json_of(item):
    return item["get"]["responses"]["200"]["content"]["application/json"]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_times_that_utc_cannot_hold(time):
    """A time that leaves the calendar in UTC is an error with its path, not an OverflowError."""
    with pytest.raises(ResponseError, match="ISO 8601") as caught:
        read(join_time=time)

    assert caught.value.path == "participants[3].join_time"
    assert caught.value.__context__ is None


def test_words_unstructure_to_plain_strings():
    """Enum members leave as plain strings, for writers that look at the exact type."""
    found = unstructure_participant(read())

    assert {type(found[name]) for name in ENUMS} == {str}


def test_more_shapes_than_are_generated_for():
    """Records of ever new key sets are read alike, and leave no generated source behind."""
    names = [name for name, value in record().items() if type(value) is str][:10]
    key_sets = [
        {name for bit, name in enumerate(names) if number >> bit & 1} for number in range(600)
    ]
    before = len(linecache.cache)

    for keys in key_sets:
        raw = {key: value for key, value in record().items() if key in keys}
        expected = dict.fromkeys(record()) | raw
        assert unstructure_participant(participant(raw, "")) == expected
        assert participant({**raw, "new": 1}, "").extra == {"new": 1}

    assert len(linecache.cache) <= before + 64  # attrs keeps those of its own


def test_keys_without_end():
    """Keys that are too long to be remembered are kept in `extra` all the same, every time."""
    long = "x" * 5000

    for _ in range(2):
        assert read(**{long: 1}).extra == {long: 1}
