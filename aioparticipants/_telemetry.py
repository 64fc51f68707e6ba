"""Statistics, log lines, the callback and spans of a session and of its lists.

1. Each event is counted, logged, and given to the user's callback, in this order. The statistics
   are made of the events alone, so the two always agree.
2. The logger is `aioparticipants`, with a null handler and no level: logging is the program's to
   configure. Requests and pages are logged at DEBUG; waits, denied retries and new limits at INFO.
   A line holds the path's template, SIDs and request ids, never a query.
3. If the callback raises an `Exception`, it is logged and goes no further. Anything else, such as a
   `KeyboardInterrupt` or a cancellation, is not the callback's own and is not caught.
4. Where the session has a tracer, each list has a span; see `_opentelemetry`.
"""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from ._opentelemetry import end_span, start_span
from ._resources import PARTICIPANTS
from .errors import InvalidRequestError
from .instrumentation import (
    ConferenceFinished,
    LimitChanged,
    ListFinished,
    PageDelivered,
    RequestFinished,
    RequestStarted,
    RetryDenied,
    RetryScheduled,
    SessionStats,
)

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from ._opentelemetry import Span, Tracer
    from ._resources import Resource
    from .errors import InsightsError
    from .instrumentation import Event

__all__ = ["ListTelemetry", "SessionTelemetry"]

_LOGGER: Final = logging.getLogger("aioparticipants")
_LOGGER.addHandler(logging.NullHandler())

#: Events logged at INFO: they are rare, and explain a delay or a failure.
_INFO_EVENTS: Final = (RetryScheduled, RetryDenied, LimitChanged)
#: The statistic that counts an attempt, by its outcome; any other outcome is counted as failed.
_OUTCOMES: Final = {"HTTP 200": "succeeded", "HTTP 429": "rate_limited", "cancelled": "cancelled"}


class SessionTelemetry:
    """Counts and logs the events of a session, and calls its `on_event` with them."""

    def __init__(self, on_event: Callable[[Event], object] | None, *, limit: int) -> None:
        """Call `on_event` with each event, unless it is None; `limit` is the limiter's first limit.

        Raises:
            InvalidRequestError: `on_event` cannot be called, or would have to be awaited.
        """
        if on_event is not None and not _is_plain_function(on_event):
            message = "on_event must be a plain function that takes an event, or None."
            raise InvalidRequestError(message)
        self._on_event = on_event
        self._counts = Counter[str]()
        self._limit = limit
        self._concurrent: int | None = None
        self._most_concurrent: int | None = None

    @property
    def stats(self) -> SessionStats:
        """Return the statistics, counted from the events so far."""
        return SessionStats(
            limit=self._limit,
            concurrent_requests=self._concurrent,
            most_concurrent_requests=self._most_concurrent,
            **self._counts,
        )

    def emit(self, event: Event) -> None:
        """Count an event, log it, and call `on_event` with it."""
        self._count(event)
        level = logging.INFO if isinstance(event, _INFO_EVENTS) else logging.DEBUG
        if _LOGGER.isEnabledFor(level):
            path = getattr(event, "path", None)
            _LOGGER.log(level, "%s%r", "" if path is None else f"GET {path}: ", event)
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
                counts[_OUTCOMES.get(event.outcome, "failed")] += 1
                self._note_concurrency(event.concurrent_requests)
            case RetryScheduled():
                counts["retries"] += 1
            case RetryDenied():
                counts["retries_denied"] += 1
            case LimitChanged():
                self._limit = event.limit
            case PageDelivered():
                counts["pages"] += 1
            case ListFinished():
                pass
            case _:  # ConferenceFinished: the type checker fails here if it could be another event
                counts["conferences"] += 1
                counts["conferences_failed"] += event.error is not None

    def _note_concurrency(self, count: int | None) -> None:
        if count is not None:
            self._concurrent = count
            self._most_concurrent = max(count, self._most_concurrent or 0)


def _is_plain_function(value: object) -> bool:
    """Return whether calling it does its work: calling an async one only makes a coroutine."""
    return callable(value) and not any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (value, type(value).__call__)  # the latter for an object with `__call__`
    )


class ListTelemetry:
    """Emits the events of one list, and keeps its span."""

    def __init__(
        self,
        emit: Callable[[Event], None],
        resource: Resource[object],
        conference_sid: str | None,
        *,
        clock: Callable[[], float],
        tracer: Tracer | None,
    ) -> None:
        """Report on a list, perhaps that of a conference; `clock` is monotonic, in seconds."""
        self._emit = emit
        self._resource = resource
        self._sid = conference_sid
        self._clock = clock
        self._tracer = tracer
        self._span: Span | None = None
        self._started_at: float | None = None
        self._ended = False
        self._pages = 0
        self._records = 0

    def started(self, context: contextvars.Context) -> None:
        """Note that a page is about to be fetched, by a task that runs in `context`.

        Only the first call counts.
        """
        if self._started_at is not None:
            return
        self._started_at = self._clock()
        if self._tracer is not None:
            self._span = start_span(self._tracer, self._resource.action, self._sid, context)

    def page_delivered(self, number: int | None, records: int, request_id: str | None) -> None:
        """Emit that `records` records of a page were delivered, and no more of it will be."""
        self._pages += 1
        self._records += records
        self._emit(
            PageDelivered(
                conference_sid=self._sid,
                page=number,
                records=records,
                request_id=request_id,
                path=self._resource.path,
            )
        )

    def finished(self, error: InsightsError | None = None) -> None:
        """Emit that the list is complete, or failed with `error`. Call it once."""
        self._end(error)
        seconds = 0.0 if self._started_at is None else self._clock() - self._started_at
        failure = None if error is None else type(error).__name__
        if self._resource is PARTICIPANTS:
            self._emit(
                ConferenceFinished(
                    conference_sid=self._sid,
                    pages=self._pages,
                    records=self._records,
                    seconds=seconds,
                    error=failure,
                )
            )
        else:
            self._emit(
                ListFinished(
                    path=self._resource.path,
                    conference_sid=self._sid,
                    pages=self._pages,
                    records=self._records,
                    seconds=seconds,
                    error=failure,
                )
            )

    def abandoned(self) -> None:
        """End the span of a list that was closed, or dropped in any thread, before its end.

        The records delivered of the last page are missing from the span of a list that was dropped,
        as their number is not known then.
        """
        if not self._ended:
            self._end(None)

    def _end(self, error: InsightsError | None) -> None:
        self._ended = True
        if self._span is not None:
            end_span(self._span, pages=self._pages, records=self._records, error=error)
