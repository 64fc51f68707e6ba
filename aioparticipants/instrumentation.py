"""The events that a session emits while it works, and its statistics.

`InsightsSession(on_event=...)` is called with each event; `InsightsSession.stats` counts them.

1. Events come in the order in which things happen, in the session's event loop. The session waits
   until `on_event` returns, so a slow callback blocks the loop. An exception that it raises is
   logged and changes nothing else.
2. Events are frozen, hashable and picklable, so that they can be counted, queued or logged. None
   holds a credential, a label, a conference's name, a telephone number or a query.
3. Each attempt that started also finishes, however it ends: the attempts in flight are those
   started minus those finished. An attempt starts when it has its slot; waiting for a slot is no
   part of it.
4. `SessionStats` is counted from these events and from nothing else.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import attrs

from ._field_docs import documented

__all__ = [
    "ConferenceFinished",
    "Event",
    "LimitChanged",
    "ListFinished",
    "PageDelivered",
    "RequestFinished",
    "RequestStarted",
    "RetryDenied",
    "RetryScheduled",
    "SessionStats",
]

_PARTICIPANTS: Final = "/v1/Conferences/{ConferenceSid}/Participants"


@documented
@attrs.frozen(kw_only=True)
class RequestStarted:
    """An attempt has its slot, and its request is about to be sent."""

    conference_sid: str | None
    """The conference that is asked for; None for a list of conferences."""
    attempt: int
    """The number of the attempt at this page, from 1."""
    path: str = attrs.field(default=_PARTICIPANTS, repr=False)
    """The template of the request's path, as Twilio writes it. It is in the log line already."""


@documented
@attrs.frozen(kw_only=True)
class RequestFinished:
    """An attempt ended: its reply was read completely, or it failed, or it was cancelled."""

    conference_sid: str | None
    """The conference that was asked for; None for a list of conferences."""
    attempt: int
    """The number of the attempt at this page, from 1."""
    outcome: str
    """`"HTTP 200"` (or another status), the name of the error, or `"cancelled"`.

    The body of a 200 can still turn out to be unusable.
    """
    seconds: float
    """The duration of the attempt, without waiting for a slot."""
    status: int | None = None
    """The HTTP status; None without a complete reply."""
    bytes: int = 0
    """The size of the decompressed body; 0 without a complete reply."""
    request_id: str | None = None
    """Twilio's id of the request; None if the reply has none."""
    concurrent_requests: int | None = None
    """The account's requests in flight, by Twilio's count (`Twilio-Concurrent-Requests`), those of
    other programs included. None if the reply does not say it."""
    path: str = attrs.field(default=_PARTICIPANTS, repr=False)
    """The template of the request's path, as Twilio writes it. It is in the log line already."""


@documented
@attrs.frozen(kw_only=True)
class RetryScheduled:
    """An attempt failed, and is retried after a delay."""

    conference_sid: str | None
    """The conference that is asked for; None for a list of conferences."""
    attempt: int
    """The number of the failed attempt at this page, from 1."""
    reason: str
    """Why it failed: `"HTTP 503"` (or another status), or the name of the error."""
    delay: float
    """Seconds until the next attempt asks for a slot."""
    path: str = attrs.field(default=_PARTICIPANTS, repr=False)
    """The template of the request's path, as Twilio writes it. It is in the log line already."""


@documented
@attrs.frozen(kw_only=True)
class RetryDenied:
    """An attempt failed, and is not retried because the session's retry quota is used up.

    The list fails with the attempt's error. `RetryPolicy.quota` sets the number of retries.
    """

    conference_sid: str | None
    """The conference that was asked for; None for a list of conferences."""
    attempt: int
    """The number of the failed attempt at this page, from 1."""
    reason: str
    """Why it failed: `"HTTP 503"` (or another status), or the name of the error."""
    path: str = attrs.field(default=_PARTICIPANTS, repr=False)
    """The template of the request's path, as Twilio writes it. It is in the log line already."""


@documented
@attrs.frozen(kw_only=True)
class LimitChanged:
    """The session changed its limit on the attempts in flight."""

    limit: int
    """The new limit."""
    reason: str
    """`"rate_limited"` (Twilio answered 429) or `"succeeded"`."""


@documented
@attrs.frozen(kw_only=True)
class PageDelivered:
    """Records of a page were delivered to the consumer, and no more records of it will be.

    Each page that the consumer reached has one such event. It is emitted when the consumer asks for
    more than the page holds, or when the list ends, fails or is closed before that.
    """

    conference_sid: str | None
    """The conference that the page belongs to; None for a list of conferences."""
    page: int | None
    """The page's number, from 0; None if the page does not say it."""
    records: int
    """The number of records delivered."""
    request_id: str | None
    """Twilio's id of the request; None if the reply has none."""
    path: str = attrs.field(default=_PARTICIPANTS, repr=False)
    """The template of the request's path, as Twilio writes it. It is in the log line already."""


@documented
@attrs.frozen(kw_only=True)
class ConferenceFinished:
    """A list of participants is complete, or it failed.

    It is not emitted for a list that was closed or dropped.
    """

    conference_sid: str | None
    """The conference; None if a fan-out was given something that is not a SID."""
    pages: int
    """The number of pages delivered."""
    records: int
    """The number of records delivered, without those that `resume` skipped."""
    seconds: float
    """Seconds from the first request to the end, with the time that the consumer took."""
    error: str | None
    """The name of the error that the list failed with; None if it is complete."""


@documented
@attrs.frozen(kw_only=True)
class ListFinished:
    """Another list is complete, or it failed. It is not emitted for one that was closed or dropped.

    It is a list of conferences. A single record counts as a list of one.
    """

    path: str
    """The template of the path, as Twilio writes it: `/v1/Conferences`."""
    conference_sid: str | None
    """The conference that was asked for; None for a list of conferences."""
    pages: int
    """The number of pages delivered."""
    records: int
    """The number of records delivered, without those that `resume` skipped."""
    seconds: float
    """Seconds from the first request to the end, with the time that the consumer took."""
    error: str | None
    """The name of the error that it failed with; None if it is complete."""


#: Any event that `on_event` is called with.
Event: TypeAlias = (
    RequestStarted
    | RequestFinished
    | RetryScheduled
    | RetryDenied
    | LimitChanged
    | PageDelivered
    | ConferenceFinished
    | ListFinished
)


@documented
@attrs.frozen(kw_only=True)
class SessionStats:
    """The statistics of a session so far."""

    limit: int
    """The current limit on the attempts in flight."""
    in_flight: int = 0
    """Attempts in flight."""
    requests: int = 0
    """Attempts started. A request that aiohttp itself sends again is still one attempt."""
    succeeded: int = 0
    """Attempts answered with 200."""
    rate_limited: int = 0
    """Attempts answered with 429."""
    failed: int = 0
    """Attempts answered with another status, or with no usable reply."""
    cancelled: int = 0
    """Attempts cancelled, because nobody waited for the reply any more."""
    retries: int = 0
    """Retries scheduled."""
    retries_denied: int = 0
    """Retries not made, because the session's retry quota was used up."""
    bytes: int = 0
    """The size of all bodies, decompressed."""
    pages: int = 0
    """Pages delivered."""
    conferences: int = 0
    """Lists of participants that are complete or failed."""
    conferences_failed: int = 0
    """Lists of participants that failed."""
    concurrent_requests: int | None = None
    """The account's requests in flight, as the latest reply that says it has counted them."""
    most_concurrent_requests: int | None = None
    """The highest such count of any reply so far."""
