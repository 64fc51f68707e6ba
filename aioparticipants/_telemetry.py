"""Eyes on a session: each event is counted, logged, and given to the user's callback.

1. One event, three readers. The statistics are made of the events, so that they cannot differ.
2. The logger is `aioparticipants`, with a null handler and no level of its own: nothing is
   configured for the whole program. Requests and pages are DEBUG, waits and limits INFO. A line
   holds the path's template, SIDs and request ids, never a query; the events have nothing else.
3. A callback that raises is logged, and its fault goes no further. Only `Exception`s: what ends the
   program, or cancels the task, is not the callback's.
4. A span (OpenTelemetry) is made per list, where a tracer was given. It is current in the context
   of the list's page tasks, so that whatever instruments aiohttp makes the attempts its children.
   It has `error.type` and the status ERROR where the list failed, as the conventions have it
   (https://opentelemetry.io/docs/specs/semconv/general/recording-errors/), and no status else.
5. OpenTelemetry is no dependency: it is imported where a tracer is given, by whoever has it.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from .errors import InvalidRequestError
from .instrumentation import (
    ConferenceFinished,
    LimitChanged,
    PageDelivered,
    RequestFinished,
    RequestStarted,
    RetryDenied,
    RetryScheduled,
    SessionStats,
)

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Mapping

    from .errors import InsightsError
    from .instrumentation import Event

__all__ = ["ListTelemetry", "SessionTelemetry", "Span", "Tracer", "checked_tracer"]

_LOGGER: Final = logging.getLogger("aioparticipants")
_LOGGER.addHandler(logging.NullHandler())

#: Every request's, with the SID left out.
_PATH: Final = "/v1/Conferences/{ConferenceSid}/Participants"
#: What comes seldom, and explains a delay or a failure.
_NOTABLE: Final = (RetryScheduled, RetryDenied, LimitChanged)


class Span(Protocol):
    """What is used of an OpenTelemetry span."""

    def set_attribute(self, key: str, value: str | int, /) -> None:
        """Note something about what the span stands for."""
        ...

    def set_status(self, status: Any, description: str | None, /) -> None:
        """Note how it went; `status` is a `StatusCode`."""
        ...

    def end(self) -> None:
        """End it."""
        ...


class Tracer(Protocol):
    """What is used of an OpenTelemetry tracer."""

    def start_span(self, name: str, *, attributes: Mapping[str, str | int]) -> Span:
        """Start a span, a child of the current one."""
        ...


def checked_tracer(tracer: Tracer | None) -> Tracer | None:
    """Return `tracer` if it can start spans, or None.

    Raises:
        InvalidRequestError: it cannot, or OpenTelemetry is not installed.
    """
    if tracer is None:
        return None
    usable = callable(getattr(tracer, "start_span", None)) and not isinstance(tracer, type)
    # Found out now: in the middle of a list it would be the list's own failure.
    if not usable or not _has_opentelemetry():
        message = "tracer must be an OpenTelemetry Tracer (package opentelemetry-api), or None."
        raise InvalidRequestError(message)
    return tracer


def _has_opentelemetry() -> bool:
    try:
        importlib.import_module("opentelemetry.trace")
    except ImportError:
        return False
    return True


class SessionTelemetry:
    """Takes a session's events: counts them, logs them, and hands them to the callback."""

    def __init__(self, on_event: Callable[[Event], object] | None, *, limit: int) -> None:
        """Hand each event to `on_event`, if there is one; `limit` is the one to begin with.

        Raises:
            InvalidRequestError: it cannot be called, or only awaited.
        """
        if on_event is not None and not _is_plain(on_event):
            message = "on_event must be a plain function that takes an event, or None."
            raise InvalidRequestError(message)
        self._on_event = on_event
        self._counts = Counter[str]()
        self._limit = limit

    @property
    def stats(self) -> SessionStats:
        """Return what the events up to now add up to."""
        return SessionStats(limit=self._limit, **self._counts)

    def __call__(self, event: Event) -> None:
        """Tell of something that has happened."""
        self._count(event)
        level = logging.INFO if isinstance(event, _NOTABLE) else logging.DEBUG
        if _LOGGER.isEnabledFor(level):
            _LOGGER.log(level, "GET %s: %r", _PATH, event)
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                _LOGGER.exception("on_event raised when it was given a %s", type(event).__name__)

    def _count(self, event: Event) -> None:
        counts = self._counts
        match event:
            case RequestStarted():
                counts["requests"] += 1
                counts["in_flight"] += 1
            case RequestFinished():
                counts["in_flight"] -= 1
                counts["bytes"] += event.bytes
                counts[_kind_of(event)] += 1
            case RetryScheduled():
                counts["retries"] += 1
            case RetryDenied():
                counts["retries_denied"] += 1
            case LimitChanged():
                self._limit = event.limit
            case PageDelivered():
                counts["pages"] += 1
            case _:  # ConferenceFinished, or a type checker says so
                counts["conferences"] += 1
                counts["conferences_failed"] += event.error is not None


def _is_plain(function: object) -> bool:
    """Tell whether a call of it does its work: of what is async it would only make a coroutine."""
    return callable(function) and not any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (function, type(function).__call__)  # the latter where it is an object
    )


def _kind_of(event: RequestFinished) -> str:
    return {"HTTP 200": "succeeded", "HTTP 429": "rate_limited", "cancelled": "cancelled"}.get(
        event.outcome, "failed"
    )


class ListTelemetry:
    """Tells of one list: that it began, what it handed out, and how it ended."""

    def __init__(
        self,
        emit: Callable[[Event], None],
        conference_sid: str,
        *,
        clock: Callable[[], float],
        tracer: Tracer | None,
    ) -> None:
        """Watch the list of a conference; `clock` gives seconds that only go forward."""
        self._emit = emit
        self._sid = conference_sid
        self._clock = clock
        self._tracer = tracer
        self._span: Span | None = None
        self._began: float | None = None
        self._over = False
        self._pages = 0
        self._records = 0

    def started(self, context: contextvars.Context) -> None:
        """Note that the first page is about to be fetched, by a task that runs in `context`."""
        if self._began is not None:
            return
        self._began = self._clock()
        if self._tracer is not None:
            self._span = context.run(_new_current_span, self._tracer, self._sid)

    def page_delivered(self, number: int | None, records: int, request_id: str | None) -> None:
        """Tell that so many records of a page were handed out, and no more of it will be."""
        self._pages += 1
        self._records += records
        self._emit(
            PageDelivered(
                conference_sid=self._sid, page=number, records=records, request_id=request_id
            )
        )

    def finished(self, error: InsightsError | None = None) -> None:
        """Tell that the list is complete, or failed; to be called once."""
        name = None if error is None else type(error).__name__
        began = self._clock() if self._began is None else self._began
        self._end(error)
        self._emit(
            ConferenceFinished(
                conference_sid=self._sid,
                pages=self._pages,
                records=self._records,
                seconds=self._clock() - began,
                error=name,
            )
        )

    def abandoned(self) -> None:
        """Note that nobody will ask for more: the list was closed, or dropped in any thread.

        What was handed out of its last page is unknown where it was dropped, and left out then.
        """
        if not self._over:
            self._end(None)

    def _end(self, error: InsightsError | None) -> None:
        self._over = True
        if self._span is not None:
            self._span.set_attribute("aioparticipants.pages", self._pages)
            self._span.set_attribute("aioparticipants.records", self._records)
            if error is not None:
                _fail(self._span, error)
            self._span.end()


def _fail(span: Span, error: InsightsError) -> None:
    from opentelemetry.trace import StatusCode  # noqa: PLC0415 - only who gives a tracer has it

    span.set_attribute("error.type", type(error).__name__)
    span.set_status(StatusCode.ERROR, str(error))


def _new_current_span(tracer: Tracer, conference_sid: str) -> Span:
    """Start a span, and make it the current one of the context that this runs in."""
    from opentelemetry import context, trace  # noqa: PLC0415 - only who gives a tracer has it

    span = tracer.start_span(
        "list conference participants",
        attributes={"aioparticipants.conference_sid": conference_sid},
    )
    current: Any = span  # an OpenTelemetry span, of which the protocol above names a part
    context.attach(trace.set_span_in_context(current))
    return span
