"""The keywords of `FakeInsights.add_conference` that change what is made up.

1. A keyword is a field of `Conference` or `Participant`, or a metric. A field that both records
   have (`account_sid`, `duration_seconds`, `processing_state`) changes both.
2. A metric changes both directions of the audio: `mos`; or one: `inbound_mos`. The names are those
   of a record's flat row.
3. Values are not checked against the API, so that a test can serve wrong ones; they only have to
   be JSON, datetimes, enums, or the package's own records.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypedDict, cast

import attrs

from .._structuring import wire_fields, wire_name
from ..models import Conference, Participant, ParticipantMetrics, ParticipantProperties
from ._given import as_plain_json
from ._times import checked_time, epoch_milliseconds, to_iso

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MadeUp", "MadeUpFields"]


class MadeUpFields(TypedDict, total=False):
    """The keywords of `add_conference`, with the types that the API's own values have."""

    # Fields of both records.
    account_sid: str | None
    duration_seconds: int | None
    processing_state: str | None

    # Fields of the conference.
    friendly_name: str | None
    create_time: datetime | str | None
    start_time: datetime | str | None
    end_time: datetime | str | None
    connect_duration_seconds: int | None
    status: str | None
    max_participants: int | None
    max_concurrent_participants: int | None
    unique_participants: int | None
    end_reason: str | None
    ended_by: str | None
    mixer_region: str | None
    mixer_region_requested: str | None
    recording_enabled: bool | None
    detected_issues: Mapping[str, int] | None
    tags: Sequence[str] | None
    tag_info: Mapping[str, object] | None

    # Fields of each participant.
    participant_sid: str | None
    label: str | None
    call_sid: str | None
    call_direction: str | None
    from_: str | None
    to: str | None
    call_status: str | None
    country_code: str | None
    is_moderator: bool | None
    join_time: datetime | str | None
    leave_time: datetime | str | None
    outbound_queue_length: int | None
    outbound_time_in_queue: int | None
    jitter_buffer_size: str | None
    is_coach: bool | None
    coached_participants: Sequence[str] | None
    participant_region: str | None
    conference_region: str | None
    call_type: str | None
    properties: ParticipantProperties | Mapping[str, object] | None
    events: Mapping[str, Sequence[datetime | int]] | None
    metrics: ParticipantMetrics | Mapping[str, object] | None

    # Metrics of both directions.
    mos: float | None
    packet_loss_percentage: float | None
    total_packets_lost: int | None
    total_packets_received: int | None
    jitter_avg: float | None
    jitter_max: float | None
    latency_avg: float | None
    latency_max: float | None

    # Metrics of one direction.
    inbound_mos: float | None
    inbound_packet_loss_percentage: float | None
    inbound_total_packets_lost: int | None
    inbound_total_packets_received: int | None
    inbound_jitter_avg: float | None
    inbound_jitter_max: float | None
    inbound_latency_avg: float | None
    inbound_latency_max: float | None
    outbound_mos: float | None
    outbound_packet_loss_percentage: float | None
    outbound_total_packets_lost: int | None
    outbound_total_packets_received: int | None
    outbound_jitter_avg: float | None
    outbound_jitter_max: float | None
    outbound_latency_avg: float | None
    outbound_latency_max: float | None


_DIRECTIONS: Final = ("inbound", "outbound")
_CHOICES: Final = frozenset(MadeUpFields.__annotations__)
_CONFERENCE: Final = {each.name: wire_name(each) for each in wire_fields(Conference)}
_PARTICIPANT: Final = {each.name: wire_name(each) for each in wire_fields(Participant)}


@attrs.frozen(kw_only=True)
class MadeUp:
    """What a test wants of a conference that is made up, as JSON."""

    conference: Mapping[str, object]
    """Members of the conference."""
    participant: Mapping[str, object]
    """Members of each participant."""
    metrics: Mapping[str, object]
    """Metrics, by their keywords."""
    created: datetime | None
    """When the conference is created, if the test says so."""

    @classmethod
    def of(cls, fields: Mapping[str, object]) -> MadeUp:
        """Sort the keywords out.

        Raises:
            TypeError: a keyword is unknown, a value cannot be encoded as JSON, or both `metrics`
                and a metric are given.
            ValueError: a value cannot be encoded as JSON, or a datetime has no time zone.
        """
        _check_names(fields)
        values = {name: _as_json(value, name) for name, value in fields.items()}
        known = _CONFERENCE.keys() | _PARTICIPANT.keys()
        metrics = {name: value for name, value in values.items() if name not in known}
        if metrics and "metrics" in fields:
            message = f"add_conference() takes metrics or {next(iter(metrics))}, not both."
            raise TypeError(message)
        created = fields.get("create_time")
        return cls(
            conference=_members(values, _CONFERENCE),
            participant=_members(values, _PARTICIPANT),
            metrics=metrics,
            created=created if isinstance(created, datetime) else None,
        )

    def only_for_participants(self) -> list[str]:
        """Return the members that would change participants alone."""
        both = self.conference.keys()
        return [*(name for name in self.participant if name not in both), *self.metrics]

    def apply_to(self, record: dict[str, object]) -> None:
        """Change a participant that was made up."""
        record.update(self.participant)
        for direction in _DIRECTIONS if self.metrics else ():
            media = cast("dict[str, dict[str, object]]", record["metrics"])[direction]
            for name, value in _of_direction(self.metrics, direction).items():
                _set_metric(media, name, value)


def _check_names(fields: Mapping[str, object]) -> None:
    for name in fields:
        if name not in _CHOICES:
            close = difflib.get_close_matches(name, _CHOICES, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            message = (
                f"add_conference() got an unexpected keyword argument {name!r}.{hint} "
                f"The choices are {', '.join(sorted(_CHOICES))}."
            )
            raise TypeError(message)


def _members(values: Mapping[str, object], names: Mapping[str, str]) -> dict[str, object]:
    return {names[name]: value for name, value in values.items() if name in names}


def _of_direction(metrics: Mapping[str, object], direction: str) -> dict[str, object]:
    """Return the metrics of one direction. Those that name it come last, so they win."""
    prefixes = tuple(f"{each}_" for each in _DIRECTIONS)
    both = {name: value for name, value in metrics.items() if not name.startswith(prefixes)}
    own = {
        name.removeprefix(f"{direction}_"): value
        for name, value in metrics.items()
        if name.startswith(f"{direction}_")
    }
    return both | own


def _set_metric(media: dict[str, object], name: str, value: object) -> None:
    group, _, statistic = name.rpartition("_")
    if statistic in {"avg", "max"}:
        cast("dict[str, object]", media[group])[statistic] = value
    else:
        media[name] = value


def _as_json(value: object, name: str) -> object:
    if isinstance(value, datetime):
        return to_iso(checked_time(value, name))
    if isinstance(value, (ParticipantMetrics, ParticipantProperties)):
        value = value.to_dict()
    elif name == "events" and isinstance(value, Mapping):
        events = cast("Mapping[str, object]", value)
        value = {event: _event_times(times) for event, times in events.items()}
    return as_plain_json(value, name)


def _event_times(times: object) -> object:
    if not isinstance(times, Iterable) or isinstance(times, str):
        return times
    return [
        epoch_milliseconds(checked_time(each, "events")) if isinstance(each, datetime) else each
        for each in cast("Iterable[object]", times)
    ]
