"""Decoded JSON to records and back, value by value."""

from __future__ import annotations

import copy
import inspect
import json
import linecache
import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType

import attrs
import pytest

from aioparticipants import (
    AvgMax,
    CallDirection,
    InvalidRequestError,
    MediaMetrics,
    PageMeta,
    Participant,
    ParticipantMetrics,
    ProcessingState,
    Region,
    ResponseError,
)
from aioparticipants._structuring import (
    page_meta,
    participant,
    participant_keeping,
)

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
        "leave_time": "2021-10-08T02:59:55.123Z",
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
    assert {each.name.rstrip("_") for each in attrs.fields(Participant)} == {
        *record(),
        *("extra", "problems"),
    }
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
    assert found.problems == ()


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
    """A record unstructures to the JSON that it came from."""
    before = copy.deepcopy(raw)

    assert participant(raw, "").to_dict() == before
    assert raw == before


def test_all_null_and_all_absent():
    """Null and absence are fine for every field, and mean the same."""
    nulls = participant(dict.fromkeys(record()), "")

    assert nulls == participant({}, "") == Participant()


def test_unknown_words_and_members_are_kept():
    """Members and words that the API adds later are kept, at any depth."""
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
    ("join_time", "soonz", "ISO 8601"),
    ("join_time", "z", "ISO 8601"),
    ("properties", [], "an object"),
    ("metrics", "x", "an object"),
    ("events", [], "an object"),
    ("coached_participants", "CA", "an array"),
]


@pytest.mark.parametrize(("name", "wrong", "expected"), WRONG)
def test_wrong_types(name, wrong, expected):
    """A wrong type is an error with the path and the expected type, without the value."""
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
    """A wrong value at any depth is found before anybody reads the attribute."""
    whole = {
        name: {**record()[name], **inside} if name in {"properties", "metrics"} else inside
        for name, inside in changes.items()
    }
    for each in (changes, whole):  # with the usual members, a nested object goes the fast way
        with pytest.raises(ResponseError) as caught:
            read(**each)
        assert caught.value.path == f"participants[3].{path}"
        assert caught.value.__context__ is None


@pytest.mark.parametrize("raw", [None, [], "x", 7, True, 1.5])
@pytest.mark.parametrize("structure", [participant, participant_keeping])
def test_a_record_must_be_an_object(raw, structure):
    """A record that is not an object is an error at its own path, also with `on_invalid="keep"`."""
    for index, path in [(None, "x"), (3, "x[3]")]:
        with pytest.raises(ResponseError, match="an object") as caught:
            structure(raw, "x", index)
        assert caught.value.path == path
        assert caught.value.__context__ is None


def test_deep_values():
    """A value that is nested too deeply is an error."""
    deep = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(ResponseError, match="too deeply"):
        read(new=deep)


def test_nested_records_are_built_once():
    """A nested record, and what it holds, is the same object each time it is read."""
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


@pytest.mark.parametrize(
    ("time", "microsecond"),
    [
        ("2021-10-08t02:58:51z", 0),
        ("2021-10-08 02:58:51Z", 0),
        ("2021-10-08 04:58:51.5+02:00", 500_000),
        ("2021-10-08T02:58:51.1z", 100_000),
        ("2021-10-08T02:58:51.123456Z", 123_456),
        ("2021-10-08T02:58:51.1234569z", 123_456),
        ("2021-10-08T02:58:51." + "9" * 1000 + "Z", 999_999),
        ("2021-10-08T02:58:51.000-00:00", 0),
    ],
)
def test_every_form_of_a_time(time, microsecond):
    """Whatever RFC 3339 allows is read, and what is finer than a microsecond cut off."""
    found = read(join_time=time, leave_time=None).join_time

    assert found == datetime(2021, 10, 8, 2, 58, 51, microsecond, tzinfo=UTC)
    assert found.tzinfo is UTC


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


@pytest.mark.parametrize(
    "name", ["page", "page_size", "first_page_url", "previous_page_url", "url", "key"]
)
@pytest.mark.parametrize("wrong", [[], {"a": "agent"}, True, 1.5])
def test_wrong_members_of_page_meta(name, wrong):
    """A member of `meta` of the wrong type is kept; only the next link must fit."""
    meta = page_meta({name: wrong, "next_page_url": "x", "new": 1})

    assert getattr(meta, name) is None
    assert meta.extra == {name: page_meta({"new": wrong}).extra["new"], "new": 1}
    assert meta.next_page_url == "x"
    assert "agent" not in repr(meta)
    assert hash(meta) == hash(pickle.loads(pickle.dumps(meta)))
    with pytest.raises(ResponseError, match="expected a string") as caught:
        page_meta({name: wrong, "next_page_url": wrong})
    assert caught.value.path == "meta.next_page_url"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("raw", [None, [], "x", 7])
def test_page_meta_must_be_an_object(raw):
    """A `meta` that is not an object is an error."""
    with pytest.raises(ResponseError, match="expected an object") as caught:
        page_meta(raw)

    assert caught.value.path == "meta"


# --- Values that do not fit, kept ---


def keep(**changes):
    return participant_keeping(record(**changes), "participants", 3)


def test_a_record_that_fits_has_no_problems():
    """A record that fits is the same with `on_invalid="keep"`."""
    assert keep() == read()
    assert keep(new=[{"a": 1}]) == read(new=[{"a": 1}])


@pytest.mark.parametrize(("name", "wrong", "expected"), WRONG)
def test_a_wrong_value_is_kept(name, wrong, expected):
    """A field of the wrong type is None, its value in `extra`, and the problem names it."""
    found = keep(**{name: wrong})

    assert getattr(found, name + "_" * (name == "from")) is None
    assert list(found.extra) == [name]
    assert found.to_dict() == record(**{name: wrong})
    assert json.dumps(found.to_dict()[name]) == json.dumps(wrong)
    (problem,) = found.problems
    assert problem.startswith(f"{name}: expected {expected}" if expected[0] == "a" else name)
    assert found == attrs.evolve(found)
    assert hash(found) == hash(pickle.loads(pickle.dumps(found)))
    for other in attrs.fields(Participant):
        if other.name not in {name.replace("from", "from_"), "extra", "problems"}:
            assert getattr(found, other.name) == getattr(read(), other.name)


def test_wrong_values_are_kept_in_their_own_record():
    """Each nested record keeps what does not fit it, and the problems name the paths."""
    raw = record(
        label=7,
        coached_participants=["CA", 7],
        events={"mute": [1], "hold": [1.5]},
        properties={**record()["properties"], "enter_muted": "no", "beep_on_exit": True, "new": 1},
        metrics={
            "inbound": media(mos="4.4", jitter={"avg": "x", "max": 1}, latency=3),
            "outbound": [1, {"a": 2}],
            "new": {},
        },
    )
    before = copy.deepcopy(raw)
    found = participant_keeping(raw, "participants", 3)

    assert found.problems == (
        "label: expected a string, found an integer",
        "coached_participants[1]: expected a string, found an integer",
        "properties.enter_muted: expected a boolean, found a string",
        "events.hold[0]: expected an integer, found a number with a fraction",
        "metrics.inbound.jitter.avg: expected a number, found a string",
        "metrics.inbound.latency: expected an object, found an integer",
        "metrics.inbound.mos: expected a number, found a string",
        "metrics.outbound: expected an object, found an array",
    )
    assert found.extra == {
        "label": 7,
        "coached_participants": ("CA", 7),
        "events": {"mute": (1,), "hold": (1.5,)},
    }
    assert found.properties.extra == {"enter_muted": "no", "new": 1}
    assert found.properties.beep_on_exit is True
    assert found.metrics.extra == {"outbound": (1, {"a": 2}), "new": {}}
    assert found.metrics.inbound.extra == {"mos": "4.4", "latency": 3}
    assert found.metrics.inbound.jitter == AvgMax(max=1, extra={"avg": "x"})
    assert found.metrics.inbound.total_packets_lost == 3
    assert found.to_dict() == before == raw
    assert json.loads(json.dumps(found.to_dict())) == before
    for travel in (copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))):
        assert travel(found) == found
        assert hash(travel(found)) == hash(found)
    assert attrs.evolve(found, label="x").problems == found.problems
    assert PHONE not in repr(found)


def test_members_named_like_our_own_fields():
    """A member with the name of a field that only we have is kept like any unknown one."""
    raw = record(problems=["x"], extra={"a": 1}, from_="y", metrics={"problems": 1, "extra": 2})
    for found in (participant(raw, ""), participant_keeping(raw, "")):
        assert found.problems == ()
        assert found.extra == {"problems": ("x",), "extra": {"a": 1}, "from_": "y"}
        assert found.to_dict()["problems"] == ["x"]
        assert found.to_dict()["metrics"]["problems"] == 1


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (float("inf"), "1e999"),
        (float("-inf"), "-1e999"),
        ([1, {"a": float("inf"), "é": [None, True, "x\n"]}], None),
        ({"a": {}, "b": [], "c": [[], {}]}, None),
    ],
)
def test_a_value_that_cannot_be_immutable_is_kept_as_text(wrong, text):
    """A value that cannot be made immutable is kept as its JSON text."""
    deep = wrong
    for _ in range(0 if text or isinstance(wrong, list) else 5000):
        deep = [deep]
    found = keep(new=deep, label=deep, metrics={"inbound": media(mos=deep), "new": deep})

    kept = found.extra["new"]
    assert isinstance(kept, str)
    assert found.extra == {"new": kept, "label": kept}
    assert found.metrics.extra == {"new": kept}
    assert found.metrics.inbound.extra == {"mos": kept}
    assert kept == text or kept.strip("[]") == json.dumps(wrong).strip("[]").replace(
        "Infinity", "1e999"
    )
    assert [each.split(":")[0] for each in found.problems] == [
        *("label", "metrics.inbound.mos", "metrics.new", "new"),
    ]
    assert all(each.endswith("; its JSON text is kept") for each in found.problems)
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert "1e999" not in repr(found)
    meta = page_meta({"next_page_url": None, "new": deep, "page": deep})
    assert meta.extra == {"new": kept, "page": kept}


def test_names_in_paths_are_printable():
    """A name from the server is shown in paths without unprintable characters."""
    name = "a\x1b[31m\n\u202e\ud800é"
    shown = r"a\x1b[31m\n\u202e\ud800é"
    for changes, path in [
        ({name: float("inf")}, shown),
        ({"metrics": {name: float("inf")}}, f"metrics.{shown}"),
        ({"events": {name: [1.5]}}, f"events.{shown}[0]"),
        ({"events": {name: 1}}, f"events.{shown}"),
    ]:
        with pytest.raises(ResponseError) as caught:
            read(**changes)
        assert caught.value.path == f"participants[3].{path}"
        assert str(caught.value).isprintable()
        (problem,) = keep(**changes).problems
        assert problem.startswith(f"{path}: ")
        assert problem.isprintable()


# --- Records made by hand ---


def test_plain_mappings_become_records():
    """A nested record or events given as a mapping equal those from the API's JSON."""
    raw = record(metrics={"inbound": media(tags=["x"], new=[{"a": 1}]), "outbound": None})
    came = participant(raw, "")
    made = attrs.evolve(
        came, metrics=raw["metrics"], properties=raw["properties"], events=raw["events"]
    )

    assert made == came
    assert hash(made) == hash(came)
    assert made.to_dict() == raw
    assert made.metrics.inbound.extra == {"new": ({"a": 1},)}
    assert ParticipantMetrics(inbound=raw["metrics"]["inbound"]) == came.metrics
    assert MediaMetrics(jitter=MappingProxyType({"avg": 1, "new": ("x",)})).jitter == AvgMax(
        avg=1, extra={"new": ("x",)}
    )
    given = {"mute": [1633705131000]}
    made = Participant(events=given)
    given.clear()
    assert made == Participant(events={"mute": (datetime(2021, 10, 8, 14, 58, 51, tzinfo=UTC),)})
    east = datetime(2021, 10, 8, 16, 58, 51, tzinfo=timezone(timedelta(hours=2)))
    assert Participant(events={"mute": [east]}).events["mute"][0].tzinfo is UTC
    assert Participant(events=made.events, metrics=None, properties=None) == made


def _reference_cycle():
    inside = {}
    inside["new"] = inside
    return inside


WRONG_BY_HAND = [
    ({"metrics": 7}, "metrics: expected an object, found an integer"),
    ({"metrics": []}, "metrics: expected an object, found an array"),
    ({"metrics": MediaMetrics()}, "metrics: expected a JSON value, found MediaMetrics"),
    ({"metrics": {"inbound": 7}}, "metrics.inbound: expected an object, found an integer"),
    ({"metrics": {"inbound": {"mos": "4"}}}, "metrics.inbound.mos: expected a number, found a str"),
    (
        {"metrics": {"inbound": {"mos": {1}}}},
        "metrics.inbound.mos: expected a JSON value, found",
    ),
    ({"metrics": {"new": [{1}]}}, r"metrics.new\[0\]: expected a JSON value, found set"),
    ({"metrics": {"inbound": {"tags": ["x", 1]}}}, r"metrics.inbound.tags\[1\]: expected a string"),
    ({"metrics": {"inbound": {"mos": float("inf")}}}, "inbound.mos: expected a finite number"),
    ({"metrics": {"new": float("nan")}}, "metrics.new: expected a finite number"),
    ({"metrics": {7: 1}}, "metrics: expected a string, found an integer"),
    ({"metrics": {"inbound": {None: 1}}}, "metrics.inbound: expected a string, found null"),
    ({"metrics": _reference_cycle()}, "new: the value is nested too deeply"),
    (
        {"properties": {"enter_muted": 1}},
        "properties.enter_muted: expected a boolean, found",
    ),
    ({"properties": "x"}, "properties: expected an object, found a string"),
    ({"events": 7}, "events: expected an object, found an integer"),
    ({"events": [("mute", [1])]}, "events: expected an object, found an array"),
    ({"events": {7: []}}, "events: expected a string, found an integer"),
    ({"events": {"mute": 7}}, "events.mute: expected an array, found an integer"),
    ({"events": {"mute": "2021"}}, "events.mute: expected an array, found a string"),
    ({"events": {"mute": [True]}}, r"events.mute\[0\]: expected an integer, found a boolean"),
    (
        {"events": {"mute": [date(2021, 1, 1)]}},
        r"events.mute\[0\]: expected an integer",
    ),
    ({"events": {"mute": [2**70]}}, r"events.mute\[0\]: expected milliseconds"),
    (
        {"events": {"mute": [datetime.fromisoformat("2021-01-01T00:00")]}},
        r"events.mute\[0\]: expected a time with an",
    ),
    (
        {"events": {"mute": [datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))]}},
        r"events.mute\[0\]: expected a time with an offset",
    ),
]


@pytest.mark.parametrize(("given", "words"), WRONG_BY_HAND, ids=ascii)
def test_wrong_values_by_hand(given, words):
    """A wrong value is refused when the record is made, so that no attribute fails later."""
    with pytest.raises(InvalidRequestError, match=words) as caught:
        Participant(**given)

    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_published_examples():
    """Every example record of Twilio's description unstructures to itself."""
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
        assert participant(raw, "").to_dict() == raw
    for body in bodies:
        if "meta" in body:
            assert page_meta(body["meta"]) == PageMeta(**body["meta"])


def _json_of(item):
    return item["get"]["responses"]["200"]["content"]["application/json"]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_times_that_utc_cannot_hold(time):
    """A time before year 1 or after 9999 in UTC is an error with its path."""
    with pytest.raises(ResponseError, match="ISO 8601") as caught:
        read(join_time=time)

    assert caught.value.path == "participants[3].join_time"
    assert caught.value.__context__ is None


def test_words_unstructure_to_plain_strings():
    """Enum members unstructure to plain strings, for writers that check the exact type."""
    found = read().to_dict()

    assert {type(found[name]) for name in ENUMS} == {str}


def test_any_set_of_members():
    """Records with any of the members are read, and leave nothing behind in `linecache`."""
    names = [name for name, value in record().items() if type(value) is str][:10]
    key_sets = [
        {name for bit, name in enumerate(names) if number >> bit & 1} for number in range(600)
    ]
    sources = len(linecache.cache)

    for keys in key_sets:
        raw = {key: value for key, value in record().items() if key in keys}
        expected = dict.fromkeys(record()) | raw
        assert participant(raw, "").to_dict() == expected
        assert participant({**raw, "new": 1}, "").extra == {"new": 1}

    assert len(linecache.cache) == sources


def test_other_members_than_usual():
    """A record, or a nested one, with a new member instead of a usual one is read."""
    raw = record(new=1)
    del raw["url"]
    inside = media(new=1)
    del inside["mos"]

    assert participant(raw, "") == attrs.evolve(read(url=None), extra={"new": 1})
    assert read(metrics={"inbound": inside, "outbound": None}).metrics.inbound.extra == {"new": 1}
