"""What a session tells while it works: small frozen objects, handed to its `on_event`.

1. They come in the order in which things happen, from the session's own event loop, and are told
   before the work goes on: a callback that takes long holds up the loop. What it raises is logged,
   and changes nothing else.
2. None holds a credential, a label, a telephone number or a query; all are picklable and hashable,
   so that they can be counted, queued or printed as they are.
3. Each attempt that began is told once as started, and once as finished, however it ends; so the
   number in flight is the difference of the two. Waiting for a slot is no part of an attempt.
4. `SessionStats` is made of these events, and of nothing else.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs

__all__ = [
    "ConferenceFinished",
    "Event",
    "LimitChanged",
    "PageDelivered",
    "RequestFinished",
    "RequestStarted",
    "RetryDenied",
    "RetryScheduled",
    "SessionStats",
]


@attrs.frozen(kw_only=True)
class RequestStarted:
    """An attempt has its slot, and goes out."""

    conference_sid: str
    """The conference it asks about."""
    attempt: int
    """Which attempt at its page this is, from 1."""


@attrs.frozen(kw_only=True)
class RequestFinished:
    """An attempt is over: a reply was read to its end, or none will be."""

    conference_sid: str
    """The conference it asked about."""
    attempt: int
    """Which attempt at its page it was, from 1."""
    outcome: str
    """`"HTTP 200"`, the name of the failure, or `"cancelled"`. A 200 can still prove unusable."""
    seconds: float
    """How long it took, waiting for a slot not included."""
    status: int | None = None
    """The HTTP status; None where there was no whole reply."""
    bytes: int = 0
    """Size of the body, decompressed; 0 where there was no whole reply."""
    request_id: str | None = None
    """Twilio's id of the request, where the reply names one."""


@attrs.frozen(kw_only=True)
class RetryScheduled:
    """An attempt failed, and another one follows."""

    conference_sid: str
    """The conference it asks about."""
    attempt: int
    """Which attempt at its page failed, from 1."""
    reason: str
    """Why: `"HTTP 503"`, or the name of the failure."""
    delay: float
    """Seconds until the next attempt queues for a slot."""


@attrs.frozen(kw_only=True)
class RetryDenied:
    """An attempt failed, and no other follows, as the session's retry quota is used up.

    The list fails with that attempt's error. `RetryPolicy.quota` sets how many retries there are.
    """

    conference_sid: str
    """The conference it asked about."""
    attempt: int
    """Which attempt at its page failed, from 1."""
    reason: str
    """Why: `"HTTP 503"`, or the name of the failure."""


@attrs.frozen(kw_only=True)
class LimitChanged:
    """The adaptive limit moved: so many attempts may be in flight at once from now on."""

    limit: int
    """The new limit."""
    reason: str
    """`"refused"` (Twilio answered 429) or `"succeeded"`."""


@attrs.frozen(kw_only=True)
class PageDelivered:
    """Records of a page were handed out, and no more of it will be.

    A page whose body proves bad half-way, and is fetched again, is told in two pieces.
    """

    conference_sid: str
    """The conference it belongs to."""
    page: int | None
    """Its number, from 0, where the page tells it."""
    records: int
    """Records handed out."""
    request_id: str | None
    """Twilio's id of the request that fetched it."""


@attrs.frozen(kw_only=True)
class ConferenceFinished:
    """A list came to its end, or failed. One that is closed or dropped before that is not told."""

    conference_sid: str | None
    """The conference; None where what was given for it in a fan-out is no SID."""
    pages: int
    """Pages handed out."""
    records: int
    """Records handed out; what a `resume` left out is not among them."""
    seconds: float
    """From the first record asked for to the end, the consumer's own time included."""
    error: str | None
    """The name of the failure; None where the list is complete."""


#: Whatever `on_event` is called with.
Event: TypeAlias = (
    RequestStarted
    | RequestFinished
    | RetryScheduled
    | RetryDenied
    | LimitChanged
    | PageDelivered
    | ConferenceFinished
)


@attrs.frozen(kw_only=True)
class SessionStats:
    """What a session has done up to now."""

    limit: int
    """Attempts that may be in flight at once, as the adaptive limit stands."""
    in_flight: int = 0
    """Attempts in flight."""
    requests: int = 0
    """Attempts begun. aiohttp repeats some by itself; those count once."""
    succeeded: int = 0
    """Attempts answered with 200."""
    rate_limited: int = 0
    """Attempts answered with 429."""
    failed: int = 0
    """Attempts with any other answer, or none."""
    cancelled: int = 0
    """Attempts that were cut off, as nobody waited for their answer any more."""
    retries: int = 0
    """Further attempts that were scheduled."""
    retries_denied: int = 0
    """Further attempts that were not made, as the session's retry quota was used up."""
    bytes: int = 0
    """Size of all bodies, decompressed."""
    pages: int = 0
    """Pages handed out."""
    conferences: int = 0
    """Lists that came to their end, or failed."""
    conferences_failed: int = 0
    """Lists that failed."""
