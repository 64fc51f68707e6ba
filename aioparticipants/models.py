"""The records that users get: frozen, as Twilio describes them.

Sources of every meaning and unit below, unless a field says otherwise:
https://www.twilio.com/docs/voice/voice-insights/api/conference/participant-summary-resource
https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-summary-resource

1. Every field can be None: the API promises none of them.
2. Enums are open: a word that is not listed here yet stays a plain string.
3. `extra` keeps what the API sends beyond these fields, so that nothing is lost. With
   `on_invalid="keep"` it also keeps each value of the wrong type; the field is None then, and the
   record's `problems` say why. A value that cannot be made immutable (a number beyond a float's
   range, more than 64 levels of nesting) is kept as its JSON text.
4. Everything is immutable at all levels, hashable, comparable and picklable.
5. `repr` hides personal data (`label`, `from_`, `to`, `friendly_name`; Twilio marks them PII), the
   values of `extra` and the queries of a page's URLs, which contain the filters.
6. Users can make records themselves. A nested record or the events may then be given as a plain
   mapping: it is checked at once, like one from the API, and `InvalidRequestError` says what is
   wrong. All other fields are stored as given.
7. Fields with `metadata=on_demand(…)` are built when they are first read; see `_on_demand`.
8. There are no weak references to records: `_structuring` builds records in a class with the same
   slots, and a slot for weak references would prevent that.
9. Every class of records has `to_dict()`, `to_json()` and `from_dict()`, in the API's own form.
   pydantic 2 and FastAPI take the classes as types.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime  # noqa: TC003 - cattrs reads the annotations at run time
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar, cast

import attrs

from ._field_docs import documented
from ._on_demand import on_demand, with_fields_on_demand
from ._record_methods import RecordMethods
from ._rows import Row, Tabular, row_of

if TYPE_CHECKING:
    from ._codecs import OnInvalid

__all__ = [
    "AvgMax",
    "CallDirection",
    "CallStatus",
    "CallType",
    "Conference",
    "ConferenceEndReason",
    "ConferenceStatus",
    "ConferenceTag",
    "FrozenMapping",
    "JitterBufferSize",
    "MediaMetrics",
    "Page",
    "PageMeta",
    "Participant",
    "ParticipantMetrics",
    "ParticipantProperties",
    "ProcessingState",
    "RecordProblem",
    "Region",
]

T = TypeVar("T")
V_co = TypeVar("V_co", covariant=True)


class FrozenMapping(Mapping[str, V_co], Generic[V_co]):
    """An immutable mapping; picklable, and hashable if its values are.

    `types.MappingProxyType` is neither.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, V_co] | None = None) -> None:
        """Copy `items`."""
        self._items: dict[str, V_co] = dict(items or {})

    def __getitem__(self, key: str) -> V_co:
        """Return the value of `key`; raise KeyError if there is none."""
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys, in their order of insertion."""
        return iter(self._items)

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._items)

    def __hash__(self) -> int:
        """Return a hash that does not depend on the order of the keys."""
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        """Return the repr of the dict that it equals."""
        return repr(self._items)

    def __reduce__(self) -> tuple[type[FrozenMapping[V_co]], tuple[dict[str, V_co]]]:
        """Pickle the class and its items."""
        return FrozenMapping, (self._items,)


_NO_MEMBERS: Final[FrozenMapping[object]] = FrozenMapping()


def _frozen(items: Mapping[str, V_co]) -> FrozenMapping[V_co]:
    """Return a copy of a mapping that a user gave, immutable at all levels."""
    if isinstance(items, FrozenMapping):
        return items
    return FrozenMapping({key: cast("V_co", _immutable(item)) for key, item in items.items()})


# Converters of fields: mypy does not solve the type variable of a generic one, and then refuses
# `extra={"a": 1}`.


def _frozen_members(items: Mapping[str, object]) -> FrozenMapping[object]:
    return _frozen(items)


def _frozen_object(items: Mapping[str, object] | None) -> FrozenMapping[object] | None:
    return None if items is None else _frozen(items)


def _frozen_integers(items: Mapping[str, int] | None) -> FrozenMapping[int] | None:
    return None if items is None else _frozen(items)


def _frozen_texts(items: Mapping[str, str] | None) -> FrozenMapping[str] | None:
    return None if items is None else _frozen(items)


def _immutable(value: object) -> object:
    if isinstance(value, Mapping):
        return _frozen(cast("Mapping[str, object]", value))
    if isinstance(value, (list, tuple)):
        return tuple(map(_immutable, cast("Iterable[object]", value)))
    return value


def _masked(value: object) -> str:
    return "None" if value is None else "'***'"


def _keys_only(value: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{key!r}: '***'" for key in value) + "}"


_LIST_URL: Final = re.compile(
    r"https?://[a-zA-Z0-9.:-]+/v1/Conferences(/CF[0-9a-fA-F]{32}/Participants)?(?=\?|$)"
)


def _without_query(value: str | None) -> str:
    if value is None:
        return "None"
    # Any other URL may contain a filter anywhere, so it is hidden as a whole.
    path = _LIST_URL.match(value)
    return repr((path[0] if path else "") + "?***")


class CallDirection(StrEnum):
    """Which way the participant's call went."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class CallStatus(StrEnum):
    """How the participant's call ended, or its current state."""

    ANSWERED = "answered"
    COMPLETED = "completed"
    BUSY = "busy"
    FAIL = "fail"
    NOANSWER = "noanswer"
    RINGING = "ringing"
    CANCELED = "canceled"


class CallType(StrEnum):
    """How the participant was connected."""

    CARRIER = "carrier"
    CLIENT = "client"
    SIP = "sip"


class ConferenceEndReason(StrEnum):
    """Why a conference ended."""

    LAST_PARTICIPANT_LEFT = "last_participant_left"
    CONFERENCE_ENDED_VIA_API = "conference_ended_via_api"
    PARTICIPANT_WITH_END_CONFERENCE_ON_EXIT_LEFT = "participant_with_end_conference_on_exit_left"
    LAST_PARTICIPANT_KICKED = "last_participant_kicked"
    PARTICIPANT_WITH_END_CONFERENCE_ON_EXIT_KICKED = (
        "participant_with_end_conference_on_exit_kicked"
    )


class ConferenceStatus(StrEnum):
    """How far a conference is."""

    IN_PROGRESS = "in_progress"
    NOT_STARTED = "not_started"
    COMPLETED = "completed"
    SUMMARY_TIMEOUT = "summary_timeout"
    """Twilio learnt of no end within 24 hours."""


class ConferenceTag(StrEnum):
    """A condition of a conference that Twilio noticed."""

    INVALID_REQUESTED_REGION = "invalid_requested_region"
    DUPLICATE_IDENTITY = "duplicate_identity"
    START_FAILURE = "start_failure"
    REGION_CONFIGURATION_ISSUES = "region_configuration_issues"
    QUALITY_WARNINGS = "quality_warnings"
    PARTICIPANT_BEHAVIOR_ISSUES = "participant_behavior_issues"
    HIGH_PACKET_LOSS = "high_packet_loss"
    HIGH_JITTER = "high_jitter"
    HIGH_LATENCY = "high_latency"
    LOW_MOS = "low_mos"
    DETECTED_SILENCE = "detected_silence"
    NO_CONCURRENT_PARTICIPANTS = "no_concurrent_participants"


class JitterBufferSize(StrEnum):
    """The jitter buffer that the participant's audio went through."""

    LARGE = "large"
    SMALL = "small"
    MEDIUM = "medium"
    OFF = "off"


class ProcessingState(StrEnum):
    """Whether Twilio has finished the summary."""

    COMPLETE = "complete"
    """Aggregation and analysis have ended."""
    IN_PROGRESS = "in_progress"
    """Data is still being aggregated; figures may change."""
    TIMEOUT = "timeout"
    """Twilio could not finish the summary within 24 hours."""


class Region(StrEnum):
    """A Twilio region."""

    US1 = "us1"
    US2 = "us2"
    AU1 = "au1"
    BR1 = "br1"
    IE1 = "ie1"
    JP1 = "jp1"
    SG1 = "sg1"
    DE1 = "de1"
    IN1 = "in1"


@documented
@attrs.frozen(kw_only=True, weakref_slot=False)
class AvgMax(RecordMethods):
    """An average and a maximum over the call, not converted: the API names no unit."""

    avg: float | None = None
    """The average."""
    max: float | None = None
    """The maximum."""
    extra: Mapping[str, object] = attrs.field(
        default=_NO_MEMBERS, converter=_frozen_members, repr=_keys_only
    )
    """Members that this class has no field for, and values that do not fit their field."""


@documented
@with_fields_on_demand
@attrs.frozen(kw_only=True, weakref_slot=False)
class MediaMetrics(RecordMethods):
    """The quality of one direction of the participant's audio."""

    total_packets_lost: int | None = None
    """Packets that did not arrive."""
    total_packets_received: int | None = None
    """Packets that arrived."""
    packet_loss_percentage: float | None = None
    """Packets lost, in percent of those sent."""
    jitter: AvgMax | None = attrs.field(default=None, metadata=on_demand(AvgMax))
    """Variation of the packets' delay. The API names no unit; not converted."""
    latency: AvgMax | None = attrs.field(default=None, metadata=on_demand(AvgMax))
    """Delay of the packets. The API names no unit; not converted."""
    mos: float | None = None
    """Mean opinion score, 1.0 (bad) to about 4.4 (the best with this codec); no unit."""
    tags: tuple[str, ...] | None = None
    """Conditions that Twilio noticed, such as `silent`. The API leaves it out if there are none."""
    extra: Mapping[str, object] = attrs.field(
        default=_NO_MEMBERS, converter=_frozen_members, repr=_keys_only
    )
    """Members that this class has no field for, and values that do not fit their field."""


@documented
@with_fields_on_demand
@attrs.frozen(kw_only=True, weakref_slot=False)
class ParticipantMetrics(RecordMethods):
    """The quality of the participant's audio, as Twilio measured it."""

    inbound: MediaMetrics | None = attrs.field(default=None, metadata=on_demand(MediaMetrics))
    """From the participant to Twilio."""
    outbound: MediaMetrics | None = attrs.field(default=None, metadata=on_demand(MediaMetrics))
    """From Twilio to the participant."""
    extra: Mapping[str, object] = attrs.field(
        default=_NO_MEMBERS, converter=_frozen_members, repr=_keys_only
    )
    """Members that this class has no field for, and values that do not fit their field."""


@documented
@attrs.frozen(kw_only=True, weakref_slot=False)
class ParticipantProperties(RecordMethods):
    """The options with which the participant joined."""

    start_conference_on_enter: bool | None = None
    """Whether the conference starts when this participant joins."""
    end_conference_on_exit: bool | None = None
    """Whether the conference ends when this participant leaves."""
    play_early_media: bool | None = None
    """Whether media was heard before the call was answered. The API sends this name or the next."""
    early_media: bool | None = None
    """The same, under the other name that Twilio's published examples use."""
    enter_muted: bool | None = None
    """Whether the participant joined muted."""
    beep_on_enter: bool | None = None
    """Whether a beep announced that it joined."""
    beep_on_exit: bool | None = None
    """Whether a beep announced that it left."""
    extra: Mapping[str, object] = attrs.field(
        default=_NO_MEMBERS, converter=_frozen_members, repr=_keys_only
    )
    """Members that this class has no field for, and values that do not fit their field."""


@documented
@with_fields_on_demand
@attrs.frozen(kw_only=True, weakref_slot=False)
class Participant(RecordMethods, Tabular):
    """One participant of a conference: who it was, when, where, and how good its audio was."""

    participant_sid: str | None = None
    """CP and 32 hexadecimal digits."""
    label: str | None = attrs.field(default=None, repr=_masked)
    """The name that the application gave the participant. Personal data."""
    conference_sid: str | None = None
    """CF and 32 hexadecimal digits."""
    call_sid: str | None = None
    """The participant's call; CA and 32 hexadecimal digits."""
    account_sid: str | None = None
    """AC and 32 hexadecimal digits."""
    call_direction: CallDirection | str | None = None
    """Which way the call went."""
    from_: str | None = attrs.field(default=None, repr=_masked)
    """Caller ID of the calling party; `from` in JSON. Personal data."""
    to: str | None = attrs.field(default=None, repr=_masked)
    """The called party. Personal data."""
    call_status: CallStatus | str | None = None
    """How the call ended, or its current state."""
    country_code: str | None = None
    """ISO 3166-1 alpha-2 code, from the caller ID or the called number."""
    is_moderator: bool | None = None
    """Whether the participant could start the conference by joining, or end it by leaving."""
    join_time: datetime | None = None
    """When it joined; an aware datetime in UTC, to the microsecond."""
    leave_time: datetime | None = None
    """When it left; an aware datetime in UTC, to the microsecond."""
    duration_seconds: int | None = None
    """How long it stayed, in seconds."""
    outbound_queue_length: int | None = None
    """Add Participant API only: calls ahead in the queue when the call was made. Twilio calls it
    an estimated time and names no unit; not converted."""
    outbound_time_in_queue: int | None = None
    """Add Participant API only: time spent in the queue. Twilio describes it as
    seconds; its examples (965 and 3361, for calls of about 65 s) look like milliseconds. Not
    converted."""
    jitter_buffer_size: JitterBufferSize | str | None = None
    """The jitter buffer in use."""
    is_coach: bool | None = None
    """Whether the participant coached others."""
    coached_participants: tuple[str, ...] | None = None
    """SIDs of the calls that it coached."""
    participant_region: Region | str | None = None
    """The Twilio region that received its media."""
    conference_region: Region | str | None = None
    """The Twilio region that mixed the conference."""
    call_type: CallType | str | None = None
    """How it was connected."""
    processing_state: ProcessingState | str | None = None
    """Whether Twilio has finished this summary; `in_progress` is normal for up to 30 minutes."""
    properties: ParticipantProperties | None = attrs.field(
        default=None, metadata=on_demand(ParticipantProperties)
    )
    """The options with which it joined."""
    events: Mapping[str, tuple[datetime, ...]] | None = attrs.field(
        default=None, metadata=on_demand(FrozenMapping)
    )
    """For each name of an event (`mute`, `hold`, …) the times when it happened: aware datetimes in
    UTC, to the millisecond; milliseconds since 1970 in JSON."""
    metrics: ParticipantMetrics | None = attrs.field(
        default=None, metadata=on_demand(ParticipantMetrics)
    )
    """The quality of its audio."""
    url: str | None = None
    """The URL of this record."""
    extra: Mapping[str, object] = attrs.field(
        default=_NO_MEMBERS, converter=_frozen_members, repr=_keys_only
    )
    """Members that this class has no field for, and values that do not fit their field."""
    problems: tuple[str, ...] = ()
    """What is wrong with the record that the API sent, such as `metrics.inbound.mos: expected a
    number, found a string`. The value itself is in `extra`. Empty unless `on_invalid="keep"`. Not a
    member of the API's JSON."""


@documented
@attrs.frozen(kw_only=True, weakref_slot=False)
class Conference(RecordMethods, Tabular):
    """A conference: when it was, how many took part, how it ended, and what Twilio noticed."""

    conference_sid: str | None = None
    """CF and 32 hexadecimal digits."""
    account_sid: str | None = None
    """AC and 32 hexadecimal digits."""
    friendly_name: str | None = attrs.field(default=None, repr=_masked)
    """The name that the application gave the conference, up to 64 characters. Personal data."""
    create_time: datetime | None = None
    """When it was created; an aware datetime in UTC."""
    start_time: datetime | None = None
    """When it started; an aware datetime in UTC. A conference starts when two participants have
    joined, and one of them may start it; so it can have ended without this."""
    end_time: datetime | None = None
    """When it ended; an aware datetime in UTC."""
    duration_seconds: int | None = None
    """How long it existed, in seconds."""
    connect_duration_seconds: int | None = None
    """How long it was from its start to its end, in seconds."""
    status: ConferenceStatus | str | None = None
    """How far it is."""
    max_participants: int | None = None
    """The most participants at once that its configuration allows."""
    max_concurrent_participants: int | None = None
    """The most participants that were in it at once."""
    unique_participants: int | None = None
    """The number of participants, by their caller IDs."""
    end_reason: ConferenceEndReason | str | None = None
    """Why it ended."""
    ended_by: str | None = None
    """The call of the participant who ended it; CA and 32 hexadecimal digits."""
    mixer_region: Region | str | None = None
    """The Twilio region that mixed its audio."""
    mixer_region_requested: Region | str | None = None
    """The Twilio region that its configuration asked for."""
    recording_enabled: bool | None = None
    """Whether it was recorded at the mixer."""
    detected_issues: Mapping[str, int] | None = attrs.field(
        default=None, converter=_frozen_integers
    )
    """The number of issues that Twilio noticed, by kind: `call_quality`, `region_configuration`,
    `participant_behavior`."""
    tags: tuple[ConferenceTag | str, ...] | None = None
    """Conditions that Twilio noticed."""
    tag_info: Mapping[str, object] | None = attrs.field(default=None, converter=_frozen_object)
    """Details of the tags, such as their severity. Twilio does not describe its form; immutable."""
    processing_state: ProcessingState | str | None = None
    """Whether Twilio has finished this summary; `in_progress` is normal for up to 30 minutes."""
    url: str | None = None
    """The URL of this record."""
    links: Mapping[str, str] | None = attrs.field(default=None, converter=_frozen_texts)
    """The URLs of its lists. This package never sends a request to them."""
    extra: Mapping[str, object] = attrs.field(
        default=_NO_MEMBERS, converter=_frozen_members, repr=_keys_only
    )
    """Members that this class has no field for, and values that do not fit their field."""
    problems: tuple[str, ...] = ()
    """What is wrong with the record that the API sent; see `Participant.problems`."""


@documented
@attrs.frozen(kw_only=True, weakref_slot=False)
class PageMeta(RecordMethods):
    """What a page says about itself."""

    page: int | None = None
    """Its number, counted from 0."""
    page_size: int | None = None
    """The most records that it can have."""
    first_page_url: str | None = attrs.field(default=None, repr=_without_query)
    """The URL of the first page."""
    previous_page_url: str | None = attrs.field(default=None, repr=_without_query)
    """The URL of the page before; None on the first."""
    url: str | None = attrs.field(default=None, repr=_without_query)
    """Its own URL."""
    next_page_url: str | None = attrs.field(default=None, repr=_without_query)
    """The URL of the page after; None on the last."""
    key: str | None = None
    """The member of the body that has the records."""
    extra: Mapping[str, object] = attrs.field(
        default=_NO_MEMBERS, converter=_frozen_members, repr=_keys_only
    )
    """Members that this class has no field for, and values that do not fit their field."""


@documented
@attrs.frozen(kw_only=True, weakref_slot=False)
class RecordProblem(RecordMethods):
    """A record that could not be read at all; only with `on_invalid="keep"`."""

    conference_sid: str | None
    """The conference it belongs to; None if it is a record of a list of conferences."""
    index: int
    """Its index on its page, counted from 0."""
    cursor: str
    """Its place in the list: `resume=` with this cursor begins at this record."""
    fault: str
    """What is wrong with it; does not show its values."""


@documented
@attrs.frozen(kw_only=True, weakref_slot=False)
class Page(RecordMethods, Generic[T]):
    """A page of records."""

    records: tuple[T, ...]
    """In the server's order."""
    meta: PageMeta
    """What the page says about itself."""
    request_id: str | None
    """Twilio's id of the request for this page; Twilio's support asks for it."""

    def to_dict(self) -> dict[str, object]:
        """Return the page as the JSON object that the API sends: `meta`, and its records.

        The records are in the member `participants` or `conferences`, by their class; a page
        without records has an empty member of the name that `meta.key` says, or `participants` if
        it says none. `request_id` is not a part of it.

        Raises:
            InvalidRequestError: it was made by hand, with records that are not this package's.
        """
        return super().to_dict()

    @classmethod
    def from_dict(cls, mapping: Mapping[str, object], *, on_invalid: OnInvalid = "raise") -> Self:
        """Return the page for a mapping as the API or `to_dict()` gives it.

        `request_id` is None: it is a header of the reply. As in a reply, only `next_page_url` of
        `meta` has to be of the right type.

        Args:
            mapping: the JSON object, with `meta` and either `participants` or `conferences`.
            on_invalid: what to do with a value of the wrong type in a record, as for a record.

        Raises:
            InvalidRequestError: a value is of the wrong type; the message has its path, such as
                `participants[3].duration_seconds`, and never the value.
        """
        return super().from_dict(mapping, on_invalid=on_invalid)

    def to_rows(self) -> list[Row]:
        """Return a flat row for each record; see `Participant.to_row`."""
        return [row_of(each) for each in self.records]
