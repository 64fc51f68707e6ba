"""The filters of the two lists.

1. A parameter that the list does not have is refused, and so is one that is given twice: the test
   that sends it has a mistake.
2. Values are compared exactly. A record passes `Tags` if it has the tag, `Events` if it has any
   event of that name, `DetectedIssues` if it counts at least one of them.
3. `CreatedAfter` and `CreatedBefore` are ISO 8601 with a time zone. Twilio does not say whether it
   includes a conference that was created exactly then; `FakeInsights.inclusive` chooses. A
   conference without a creation time is in every window.
4. Without both, and without `ConferenceSid`, the list has the conferences of the last 24 hours.
5. Without `Subaccount`, it has those of the account itself.

https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-summary-resource
https://www.twilio.com/docs/voice/voice-insights/api/conference/participant-summary-resource
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args

import attrs

from ._bodies import RequestRefused
from ._times import parsed_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from multidict import MultiMapping

__all__ = [
    "CONFERENCE_FILTERS",
    "PARTICIPANT_FILTERS",
    "Clock",
    "Inclusive",
    "Record",
    "checked_bounds",
    "checked_query",
    "conferences_that_match",
    "participants_that_match",
]

Record: TypeAlias = Mapping[str, object]
Inclusive: TypeAlias = Literal["neither", "left", "right", "both"]

_DAY: Final = timedelta(days=1)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


def _is(member: str) -> Callable[[Record, str], bool]:
    return lambda record, wanted: record.get(member) == wanted


def _has(member: str) -> Callable[[Record, str], bool]:
    def has(record: Record, wanted: str) -> bool:
        value = record.get(member)
        return isinstance(value, (list, dict)) and wanted in value

    return has


def _counts(member: str) -> Callable[[Record, str], bool]:
    def counts(record: Record, wanted: str) -> bool:
        value = record.get(member)
        return isinstance(value, dict) and bool(cast("Record", value).get(wanted))

    return counts


#: For each filter, whether a record passes it.
PARTICIPANT_FILTERS: Final[Mapping[str, Callable[[Record, str], bool]]] = {
    "ParticipantSid": _is("participant_sid"),
    "Label": _is("label"),
    "Events": _has("events"),
}
_CONFERENCE_TESTS: Final[Mapping[str, Callable[[Record, str], bool]]] = {
    "ConferenceSid": _is("conference_sid"),
    "FriendlyName": _is("friendly_name"),
    "Status": _is("status"),
    "MixerRegion": _is("mixer_region"),
    "Tags": _has("tags"),
    "DetectedIssues": _counts("detected_issues"),
    "EndReason": _is("end_reason"),
}
_WINDOW: Final = ("CreatedAfter", "CreatedBefore")
CONFERENCE_FILTERS: Final = frozenset({*_CONFERENCE_TESTS, *_WINDOW, "Subaccount"})


def checked_bounds(bounds: Inclusive) -> Inclusive:
    """Return which bounds a window includes; raise ValueError if it is none of the words."""
    if bounds in (words := get_args(Inclusive)):
        return bounds
    message = f"inclusive must be one of {', '.join(words)}, not {bounds!r}."
    raise ValueError(message)


def checked_query(query: MultiMapping[str], known: Collection[str]) -> dict[str, str]:
    """Return the parameters of a query.

    Raises:
        RequestRefused: a parameter is not in `known`, or is repeated.
    """
    for name in query:
        if name not in known:
            raise RequestRefused(400, f"{name} is not a parameter of this resource")
        if len(query.getall(name)) > 1:
            raise RequestRefused(400, f"{name} must be given once")
    return dict(query)


def participants_that_match(
    records: Iterable[dict[str, object]], filters: Mapping[str, str]
) -> list[dict[str, object]]:
    """Return the participants that pass all filters."""
    tests = [(PARTICIPANT_FILTERS[name], wanted) for name, wanted in filters.items()]
    return [each for each in records if all(test(each, wanted) for test, wanted in tests)]


def conferences_that_match(
    records: Iterable[dict[str, object]],
    filters: Mapping[str, str],
    *,
    account_sid: str,
    clock: Clock,
) -> list[dict[str, object]]:
    """Return the conferences that pass all filters, the newest first.

    Raises:
        RequestRefused: the value of a filter is not valid.
    """
    account = _checked_account(filters.get("Subaccount", account_sid))
    window = _Window.of(filters, clock)
    tests = [
        (_CONFERENCE_TESTS[name], filters[name])
        for name in _CONFERENCE_TESTS.keys() & filters.keys()
    ]
    found = [
        each
        for each in records
        if (each.get("account_sid") or account_sid) == account
        and window.has(each)
        and all(test(each, wanted) for test, wanted in tests)
    ]
    found.reverse()  # of those of the same second, the one that was added last comes first
    return sorted(found, key=_created, reverse=True)


def _created(record: Record) -> datetime:
    return parsed_time(record.get("create_time")) or _LONG_AGO


def _checked_account(sid: str) -> str:
    if re.fullmatch("AC[0-9a-fA-F]{32}", sid):
        return sid
    raise RequestRefused(400, "Subaccount must be AC and 32 hexadecimal digits")


@attrs.frozen(kw_only=True)
class Clock:
    """What the window of time is computed with."""

    now: datetime
    inclusive: Inclusive


@attrs.frozen(kw_only=True)
class _Window:
    """When a conference that is listed was created."""

    after: datetime | None
    before: datetime | None
    inclusive: Inclusive

    @classmethod
    def of(cls, filters: Mapping[str, str], clock: Clock) -> _Window:
        after, before = (_time(filters, name) for name in _WINDOW)
        if not filters.keys() & {*_WINDOW, "ConferenceSid"}:
            after = clock.now - _DAY
        return cls(after=after, before=before, inclusive=clock.inclusive)

    def has(self, record: Record) -> bool:
        created = parsed_time(record.get("create_time"))
        if created is None:
            return True
        if created in {self.after, self.before}:
            side = "left" if created == self.after else "right"
            return self.inclusive in {side, "both"}
        return (self.after is None or created > self.after) and (
            self.before is None or created < self.before
        )


def _time(filters: Mapping[str, str], name: str) -> datetime | None:
    if name not in filters:
        return None
    time = parsed_time(filters[name])
    if time is None:
        raise RequestRefused(
            400, f"{name} must be ISO 8601 with a time zone, such as 2026-03-02T09:00:00Z"
        )
    return time
