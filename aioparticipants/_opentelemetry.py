"""OpenTelemetry spans: one for each list, where the session was given a tracer.

1. OpenTelemetry is not a dependency. Only these functions import it, and only for a session with a
   tracer: whoever has a tracer has installed it.
2. A list's span is the current one in the context of the list's page tasks. So the spans that an
   instrumentation of aiohttp makes for the attempts become its children.
3. The span of a failed list has `error.type` and the status ERROR, as the conventions say
   (https://opentelemetry.io/docs/specs/semconv/general/recording-errors/). Other spans have no
   status.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

from .errors import InvalidRequestError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Mapping

    from .errors import InsightsError

__all__ = ["Span", "Tracer", "checked_tracer", "end_span", "start_span"]


class Span(Protocol):
    """The methods of an OpenTelemetry span that are used here."""

    def set_attribute(self, key: str, value: str | int, /) -> None:
        """Set an attribute of the span."""
        ...

    def set_status(self, status: Any, description: str | None, /) -> None:
        """Set the status, a `StatusCode`, with a description."""
        ...

    def end(self) -> None:
        """End the span."""
        ...


class Tracer(Protocol):
    """The method of an OpenTelemetry tracer that is used here."""

    def start_span(self, name: str, *, attributes: Mapping[str, str | int]) -> Span:
        """Start a span, as a child of the current one."""
        ...


def checked_tracer(tracer: Tracer | None) -> Tracer | None:
    """Return the `tracer` argument of a session.

    The check is made when the session is built. Found later, the mistake would fail a list.

    Raises:
        InvalidRequestError: it cannot start spans, or OpenTelemetry is not installed.
    """
    if tracer is None or (_is_tracer(tracer) and _has_opentelemetry()):
        return tracer
    message = "tracer must be an OpenTelemetry Tracer (package opentelemetry-api), or None."
    raise InvalidRequestError(message)


def _is_tracer(value: object) -> bool:
    return callable(getattr(value, "start_span", None)) and not isinstance(value, type)


def _has_opentelemetry() -> bool:
    try:
        importlib.import_module("opentelemetry.trace")
    except ImportError:
        return False
    return True


def start_span(
    tracer: Tracer, name: str, conference_sid: str | None, context: contextvars.Context
) -> Span:
    """Start the span of a list, and make it the current span of `context`."""
    return context.run(_start_current_span, tracer, name, conference_sid)


def _start_current_span(tracer: Tracer, name: str, conference_sid: str | None) -> Span:
    from opentelemetry import context, trace  # noqa: PLC0415 - not a dependency

    attributes = {"aioparticipants.conference_sid": conference_sid} if conference_sid else {}
    span = tracer.start_span(name, attributes=attributes)
    current: Any = span  # OpenTelemetry's functions want its own class, not the protocol
    context.attach(trace.set_span_in_context(current))
    return span


def end_span(span: Span, *, pages: int, records: int, error: InsightsError | None) -> None:
    """End the span of a list, with the number of pages and records that were delivered."""
    span.set_attribute("aioparticipants.pages", pages)
    span.set_attribute("aioparticipants.records", records)
    if error is not None:
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - not a dependency

        span.set_attribute("error.type", type(error).__name__)
        span.set_status(StatusCode.ERROR, str(error))
    span.end()
