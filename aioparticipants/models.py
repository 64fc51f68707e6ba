"""What users hold: frozen records, as Twilio describes them.

Source of every meaning and unit below, unless a field says otherwise:
https://www.twilio.com/docs/voice/voice-insights/api/conference/participant-summary-resource

1. Every field can be None: the API promises none of them.
2. Enums are open: a word that is not listed here yet is kept as the string it is.
3. What the API sends beyond these fields is kept in `extra`, so that nothing is lost. So is a value
   of the wrong type where `on_invalid="keep"` asks for that: its field is None then, and the
   record's `problems` say so. What cannot be kept as it is (a number beyond a float's range, more
   than 64 levels of nesting) is kept as its JSON text.
4. Everything is immutable all the way down, hashable, comparable and picklable.
5. Personal data (`label`, `from_`, `to`; Twilio marks them PII) does not show in `repr`. Neither do
   the values of `extra`, nor the queries of a page's addresses, which hold the filters.
6. Records can be made by hand. Where a nested record or the events are given as a plain mapping,
   `_structuring` checks it like one that came from the API, as the record is made, and raises
   `InvalidRequestError` for what is wrong; the other fields are taken as they are.
7. No weak references: their slot would keep `_structuring` from its cheaper way to build a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime  # noqa: TC003 - cattrs reads the annotations at run time
from enum import StrEnum
from typing import Final, Generic, TypeVar

import attrs

__all__ = [
    "AvgMax",
    "CallDirection",
    "CallStatus",
    "CallType",
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
    """A mapping that cannot change: hashable where its values are, and picklable.

    `types.MappingProxyType` is neither.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, V_co] | None = None) -> None:
        """Hold what `items` holds now."""
        self._items: dict[str, V_co] = dict(items or {})

    def __getitem__(self, key: str) -> V_co:
        """Return the value of `key`; raise KeyError if there is none."""
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        """Go through the keys, in the order they came."""
        return iter(self._items)

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._items)

    def __hash__(self) -> int:
        """Return a hash that does not depend on the order."""
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        """Show it as the dict that it equals."""
        return repr(self._items)

    def __reduce__(self) -> tuple[type[FrozenMapping[V_co]], tuple[dict[str, V_co]]]:
        """Pickle as what it was made of."""
        return FrozenMapping, (self._items,)


_NOTHING_EXTRA: Final[FrozenMapping[object]] = FrozenMapping()


def _frozen(items: Mapping[str, V_co]) -> FrozenMapping[V_co]:
    """Return a mapping as one that cannot change, where a record is made by hand."""
    return items if isinstance(items, FrozenMapping) else FrozenMapping(items)


def _masked(value: object) -> str:
    return "None" if value is None else "'***'"


def _keys_only(value: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{key!r}: '***'" for key in value) + "}"


_ADDRESS: Final = re.compile(
    r"https?://[a-zA-Z0-9.:-]+/v1/Conferences/CF[0-9a-fA-F]{32}/Participants(?=\?|$)"
)


def _without_query(value: str | None) -> str:
    if value is None:
        return "None"
    # What is no address of the API's own form can hold anything, anywhere.
    plain = _ADDRESS.match(value)
    return repr((plain[0] if plain else "") + "?***")


class CallDirection(StrEnum):
    """Which way the participant's call went."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class CallStatus(StrEnum):
    """How the participant's call ended, or where it stands."""

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
    """Twilio could not finish the summary in 24 hours."""


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


@attrs.frozen(kw_only=True, weakref_slot=False)
class AvgMax:
    """An average and a maximum over the call, as they come: the description names no unit."""

    avg: float | None = None
    """The average."""
    max: float | None = None
    """The maximum."""
    extra: Mapping[str, object] = attrs.field(
        default=_NOTHING_EXTRA, converter=_frozen, repr=_keys_only
    )
    """Members that this class does not know, and values that do not fit their field."""


@attrs.frozen(kw_only=True, weakref_slot=False)
class MediaMetrics:
    """The quality of one direction of the participant's audio."""

    total_packets_lost: int | None = None
    """Packets that did not arrive."""
    total_packets_received: int | None = None
    """Packets that arrived."""
    packet_loss_percentage: float | None = None
    """Packets lost, in percent of those sent."""
    jitter: AvgMax | None = None
    """Variation of the packets' delay. The description names no unit; handed on unconverted."""
    latency: AvgMax | None = None
    """Delay of the packets. The description names no unit; handed on unconverted."""
    mos: float | None = None
    """Mean opinion score, 1.0 (bad) to about 4.4 (as good as this codec gets); no unit."""
    tags: tuple[str, ...] | None = None
    """Conditions that Twilio noticed, such as `silent`. Sent only where there are any."""
    extra: Mapping[str, object] = attrs.field(
        default=_NOTHING_EXTRA, converter=_frozen, repr=_keys_only
    )
    """Members that this class does not know, and values that do not fit their field."""


@attrs.frozen(kw_only=True, weakref_slot=False)
class ParticipantMetrics:
    """The quality of the participant's audio, seen from Twilio's side."""

    inbound: MediaMetrics | None = None
    """From the participant to Twilio."""
    outbound: MediaMetrics | None = None
    """From Twilio to the participant."""
    extra: Mapping[str, object] = attrs.field(
        default=_NOTHING_EXTRA, converter=_frozen, repr=_keys_only
    )
    """Members that this class does not know, and values that do not fit their field."""


@attrs.frozen(kw_only=True, weakref_slot=False)
class ParticipantProperties:
    """What the participant was asked to be when it joined."""

    start_conference_on_enter: bool | None = None
    """Whether the conference starts when this participant joins."""
    end_conference_on_exit: bool | None = None
    """Whether the conference ends when this participant leaves."""
    play_early_media: bool | None = None
    """Whether media was heard before the call was answered. One of this name and the next comes."""
    early_media: bool | None = None
    """The same, under the name that other records of the published examples use."""
    enter_muted: bool | None = None
    """Whether the participant joined muted."""
    beep_on_enter: bool | None = None
    """Whether a beep announced it."""
    beep_on_exit: bool | None = None
    """Whether a beep told that it left."""
    extra: Mapping[str, object] = attrs.field(
        default=_NOTHING_EXTRA, converter=_frozen, repr=_keys_only
    )
    """Members that this class does not know, and values that do not fit their field."""


@attrs.frozen(kw_only=True, weakref_slot=False)
class Participant:
    """One participant of a conference: who, when, how well, and from where."""

    participant_sid: str | None = None
    """CP and 32 hexadecimal digits."""
    label: str | None = attrs.field(default=None, repr=_masked)
    """The caller's own name for the participant. Personal data."""
    conference_sid: str | None = None
    """CF and 32 hexadecimal digits."""
    call_sid: str | None = None
    """The call that the participant was; CA and 32 hexadecimal digits."""
    account_sid: str | None = None
    """AC and 32 hexadecimal digits."""
    call_direction: CallDirection | str | None = None
    """Which way the call went."""
    from_: str | None = attrs.field(default=None, repr=_masked)
    """Caller ID of the calling party; `from` on the wire. Personal data."""
    to: str | None = attrs.field(default=None, repr=_masked)
    """The called party. Personal data."""
    call_status: CallStatus | str | None = None
    """How the call ended, or where it stands."""
    country_code: str | None = None
    """ISO 3166-1 alpha-2 code, from the caller ID or the called number."""
    is_moderator: bool | None = None
    """Whether the participant could start the conference by joining, or end it by leaving."""
    join_time: datetime | None = None
    """When it joined; aware, UTC. What is finer than a microsecond is cut off."""
    leave_time: datetime | None = None
    """When it left; aware, UTC. What is finer than a microsecond is cut off."""
    duration_seconds: int | None = None
    """How long it stayed, in seconds."""
    outbound_queue_length: int | None = None
    """Add Participant API only: calls ahead in the queue when the call was made. The description
    calls it an estimated time and names no unit; handed on unconverted."""
    outbound_time_in_queue: int | None = None
    """Add Participant API only: time spent in the queue. The description says seconds; its examples
    (965 and 3361, for calls of about 65 s) look like milliseconds. Handed on unconverted."""
    jitter_buffer_size: JitterBufferSize | str | None = None
    """The jitter buffer in use."""
    is_coach: bool | None = None
    """Whether the participant coached others."""
    coached_participants: tuple[str, ...] | None = None
    """SIDs of the calls that it coached."""
    participant_region: Region | str | None = None
    """The Twilio region where its media came in."""
    conference_region: Region | str | None = None
    """The Twilio region where the conference was mixed."""
    call_type: CallType | str | None = None
    """How it was connected."""
    processing_state: ProcessingState | str | None = None
    """Whether Twilio has finished this summary; `in_progress` is normal for up to 30 minutes."""
    properties: ParticipantProperties | None = None
    """What it was asked to be when it joined."""
    events: Mapping[str, tuple[datetime, ...]] | None = None
    """Name of an event (`mute`, `hold`, …) to the times it happened; aware, UTC, to the
    millisecond."""
    metrics: ParticipantMetrics | None = None
    """The quality of its audio."""
    url: str | None = None
    """The address of this record."""
    extra: Mapping[str, object] = attrs.field(
        default=_NOTHING_EXTRA, converter=_frozen, repr=_keys_only
    )
    """Members that this class does not know, and values that do not fit their field."""
    problems: tuple[str, ...] = ()
    """What is wrong with the record as it came, such as `metrics.inbound.mos: expected a number,
    found a string`; never the value, which is in `extra`. Empty unless `on_invalid="keep"`. No
    member of the API's own JSON."""


@attrs.frozen(kw_only=True, weakref_slot=False)
class PageMeta:
    """What a page says of itself."""

    page: int | None = None
    """Its number, from 0."""
    page_size: int | None = None
    """Records that it can hold."""
    first_page_url: str | None = attrs.field(default=None, repr=_without_query)
    """The address of the first page."""
    previous_page_url: str | None = attrs.field(default=None, repr=_without_query)
    """The address of the page before; None on the first."""
    url: str | None = attrs.field(default=None, repr=_without_query)
    """Its own address."""
    next_page_url: str | None = attrs.field(default=None, repr=_without_query)
    """The address of the page after; None on the last."""
    key: str | None = None
    """The member of the body that holds the records."""
    extra: Mapping[str, object] = attrs.field(
        default=_NOTHING_EXTRA, converter=_frozen, repr=_keys_only
    )
    """Members that this class does not know, and values that do not fit their field."""


@attrs.frozen(kw_only=True, weakref_slot=False)
class RecordProblem:
    """A record that could not be read at all, with `on_invalid="keep"`."""

    conference_sid: str
    """The conference it belongs to."""
    index: int
    """Its place on its page, from 0."""
    cursor: str
    """Where it stands: a list that is resumed there begins with it."""
    fault: str
    """What is wrong with it; its values are not shown."""


@attrs.frozen(kw_only=True, weakref_slot=False)
class Page(Generic[T]):
    """A page of records."""

    records: tuple[T, ...]
    """In the server's order."""
    meta: PageMeta
    """What the page says of itself."""
    request_id: str | None
    """Twilio's id of the request that fetched it; give it to Twilio's support."""
