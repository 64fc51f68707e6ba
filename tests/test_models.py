"""Records are frozen, hashable, comparable, picklable and documented; personal data is masked."""

from __future__ import annotations

import copy
import inspect
import pickle
import pydoc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

import attrs
import pytest

from aioparticipants import models
from aioparticipants._field_docs import documented, field_docs
from aioparticipants._structuring import participant
from aioparticipants.models import (
    AvgMax,
    CallDirection,
    CallStatus,
    CallType,
    FrozenMapping,
    JitterBufferSize,
    MediaMetrics,
    Page,
    PageMeta,
    Participant,
    ParticipantMetrics,
    ParticipantProperties,
    ProcessingState,
    RecordProblem,
    Region,
)

WORDS = {
    CallDirection: "inbound outbound",
    CallStatus: "answered completed busy fail noanswer ringing canceled",
    CallType: "carrier client sip",
    JitterBufferSize: "large small medium off",
    ProcessingState: "complete in_progress timeout",
    Region: "us1 us2 au1 br1 ie1 jp1 sg1 de1 in1",
}
RECORD = Participant(
    label="agent",
    from_="+15005550006",
    to="+15005550007",
    call_direction=CallDirection.INBOUND,
    coached_participants=("CA1",),
    properties=ParticipantProperties(early_media=True),
    events=FrozenMapping({"mute": (datetime(2021, 10, 8, tzinfo=UTC),)}),
    metrics=ParticipantMetrics(inbound=MediaMetrics(jitter=AvgMax(avg=0.5, max=1), tags=("a",))),
    extra=FrozenMapping({"secret": "s3cret"}),
)
URL = f"https://insights.twilio.com/v1/Conferences/CF{'a' * 32}/Participants"
META = PageMeta(page=0, page_size=2, url=f"{URL}?Label=agent", key="participants")
PAGE = Page(records=(RECORD,), meta=META, request_id="RQ1")
VALUES = [
    RECORD,
    RECORD.events,
    RECORD.extra,
    RECORD.metrics,
    RECORD.metrics.inbound,
    RECORD.metrics.inbound.jitter,
    RECORD.properties,
    META,
    PAGE,
]

#: The classes of records, and all classes with fields.
RECORDS = [AvgMax, MediaMetrics, ParticipantMetrics, ParticipantProperties, Participant, PageMeta]
CLASSES = [*RECORDS, Page, RecordProblem]


def name_of(value):
    return type(value).__name__


@pytest.mark.parametrize(("kind", "words"), WORDS.items())
def test_enums_hold_the_words_of_the_description(kind, words):
    """Each enum has the published words, under upper-case names, and equals plain strings."""
    assert words.split() == [member.value for member in kind]
    assert words.upper().split() == [member.name for member in kind]
    assert all(member == member.value for member in kind)


@pytest.mark.parametrize("kind", RECORDS)
def test_every_field_may_be_left_out(kind):
    """A record without members is all None, keyword-only, and has no place for other attributes."""
    empty = kind()

    given = {name: value for name, value in attrs.asdict(empty).items() if value is not None}
    assert given == {"extra": {}} | ({"problems": ()} if kind is Participant else {})
    assert all(field.kw_only for field in attrs.fields(kind))
    assert not hasattr(empty, "__dict__")


@pytest.mark.parametrize("value", VALUES, ids=name_of)
def test_values_travel_and_compare(value):
    """Copies and pickles are equal, hash alike and are of the same class."""
    for travel in (copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))):
        found = travel(value)

        assert value == found
        assert hash(value) == hash(found)
        assert type(value) is type(found)


@pytest.mark.parametrize(
    "value", [each for each in VALUES if attrs.has(type(each))], ids=name_of
)  # fmt: skip
def test_records_are_frozen(value):
    """No field of a record can be set or deleted."""
    name = attrs.fields(type(value))[0].name

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, name, None)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        delattr(value, name)


def test_records_made_by_hand_are_frozen_too():
    """What a caller puts in as a dict cannot change later, and is hashable."""
    given = {"mute": (datetime(2021, 10, 8, tzinfo=UTC),)}
    made = Participant(events=given, extra={"a": 1})
    given.clear()

    assert made == Participant(
        events=FrozenMapping({"mute": (datetime(2021, 10, 8, tzinfo=UTC),)}),
        extra=FrozenMapping({"a": 1}),
    )
    assert len({made, copy.copy(made)}) == 1


def test_records_differ_where_a_field_does():
    """Equality goes by every field, `extra` included."""
    assert attrs.evolve(RECORD, label="other") != RECORD
    assert attrs.evolve(RECORD, extra=FrozenMapping()) != RECORD


def test_frozen_mapping():
    """It reads as the dict it was made of, does not follow that dict, and cannot be changed."""
    source = {"b": 1, "a": (2,)}
    mapping = FrozenMapping(source)
    source["c"] = 3

    assert mapping == {"a": (2,), "b": 1}
    assert list(mapping) == ["b", "a"]
    assert len(mapping) == 2
    assert mapping["a"] == (2,)
    assert "c" not in mapping
    assert repr(mapping) == "{'b': 1, 'a': (2,)}"
    assert hash(mapping) == hash(FrozenMapping({"a": (2,), "b": 1}))
    assert FrozenMapping() == {}
    with pytest.raises(KeyError):
        mapping["c"]
    with pytest.raises(TypeError):
        mapping["a"] = 1


def test_repr_masks_personal_data():
    """Labels, numbers and unknown values do not show; their presence and the keys do."""
    shown = repr(PAGE)

    assert not [each for each in ("agent", "+1500", "s3cret") if each in shown]
    assert "label='***', " in shown
    assert "from_='***', to='***'" in shown
    assert "extra={'secret': '***'}" in shown
    assert "label=None" in repr(Participant())


def test_repr_of_a_page_masks_queries():
    """Of a page's addresses the path shows, the filters do not, and a missing one is None."""
    assert f"url='{URL}?***'" in repr(META)
    assert "url='?***'" in repr(PageMeta(url="https://insights.twilio.com/agent"))
    assert "next_page_url=None" in repr(META)


# --- Documentation of fields ---


@pytest.mark.parametrize("kind", CLASSES)
def test_help_explains_every_field(kind):
    """`help` of a class, and of a field, shows the text that is below the field in the source."""
    shown = " ".join(pydoc.plain(pydoc.render_doc(kind)).replace("|", " ").split())

    assert [*field_docs(kind)] == [field.name for field in attrs.fields(kind)]
    for name, text in field_docs(kind).items():
        assert inspect.getdoc(getattr(kind, name)) == text
        assert " ".join(f"{name} {text}".split()) in shown
    assert set(kind.__slots__) == {field.name for field in attrs.fields(kind)}


def test_units_are_documented():
    """Fields that are measured name their unit, or say that the API names none."""
    assert "seconds" in field_docs(Participant)["duration_seconds"]
    assert "UTC" in field_docs(Participant)["join_time"]
    assert "percent" in field_docs(MediaMetrics)["packet_loss_percentage"]
    assert "no unit" in field_docs(MediaMetrics)["jitter"]


def test_without_source_there_is_no_documentation():
    """Where only bytecode is installed, or a class was made at run time, `help` still works."""

    class Made:
        __slots__ = ("a",)

    kind = documented(type("Elsewhere", (Made,), {"__slots__": ("b",), "__module__": "nowhere"}))

    assert field_docs(kind) == {}
    assert not inspect.getdoc(kind.b)
    assert not documented(Made).__slots__["a"]


def test_optimized_python_shows_it_too():
    """With `-OO`, which drops docstrings, the package works, and `help` explains the fields."""
    code = "from aioparticipants import Participant; help(Participant)"
    ran = subprocess.run(
        [sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True
    )

    assert field_docs(Participant)["call_sid"] in ran.stdout


# --- Fields that are built on demand ---


def test_threads_build_the_same_record():
    """Threads that read a nested record for the first time at once all get equal values."""
    media = {"mos": 4.4, "jitter": {"avg": 1.5, "max": 2.5}, "tags": ["silent"], "new": [1]}
    raw = {
        "properties": {"early_media": True},
        "events": {"mute": [1633705131000]},
        "metrics": {"inbound": media, "outbound": media},
    }
    expected = participant(raw, "")
    repr(expected)  # which reads all of it
    count = 8

    def read(record, barrier):
        barrier.wait()
        return record.metrics.inbound.jitter, record.events, record.properties, record

    with ThreadPoolExecutor(count) as pool:
        for _ in range(50):
            record, barrier = participant(raw, ""), Barrier(count)
            found = [*pool.map(read, [record] * count, [barrier] * count)]
            assert {*found} == {(expected.metrics.inbound.jitter, *found[0][1:])}
            assert found[0][1:] == (expected.events, expected.properties, expected)
            assert record.metrics is record.metrics


def test_a_subclass_of_a_nested_record_stays_as_it_is():
    """A user may give a nested record of a class derived from ours."""

    class Derived(ParticipantMetrics):
        pass

    metrics = Derived(inbound=MediaMetrics(mos=4.0))
    made = Participant(metrics=metrics)

    assert made.metrics is made.metrics is metrics


def test_all_names_what_is_public():
    """`__all__` is sorted, and has every public class of the module."""
    classes = {
        name
        for name, value in vars(models).items()
        if isinstance(value, type) and value.__module__ == models.__name__
    }

    assert sorted(models.__all__) == models.__all__
    assert classes == set(models.__all__)
