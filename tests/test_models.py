"""What users hold: immutable, hashable, comparable, picklable, and silent about people."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime

import attrs
import pytest

from aioparticipants import models
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


def name_of(value):
    return type(value).__name__


@pytest.mark.parametrize(("kind", "words"), WORDS.items())
def test_enums_hold_the_words_of_the_description(kind, words):
    """Each enum has the published words, under upper-case names, and equals plain strings."""
    assert words.split() == [member.value for member in kind]
    assert words.upper().split() == [member.name for member in kind]
    assert all(member == member.value for member in kind)


@pytest.mark.parametrize(
    "kind", [AvgMax, MediaMetrics, ParticipantMetrics, ParticipantProperties, Participant, PageMeta]
)
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


def test_all_names_what_is_public():
    """`__all__` is sorted, and has every public class of the module."""
    classes = {
        name
        for name, value in vars(models).items()
        if isinstance(value, type) and value.__module__ == models.__name__
    }

    assert sorted(models.__all__) == models.__all__
    assert classes == set(models.__all__)
