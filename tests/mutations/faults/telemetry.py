"""Faults in `_telemetry` and `_opentelemetry`."""

from __future__ import annotations

from engine import Fault, drop, omit, replace, returns

FAULTS = [
    Fault(
        "retries are not counted",
        "test_telemetry.py::test_statistics_are_counted_from_the_events",
        {"_telemetry:SessionTelemetry._count": drop('counts["retries"]')},
    ),
    Fault(
        "attempts in flight are only counted upwards",
        "test_telemetry.py::test_statistics_are_counted_from_the_events",
        {"_telemetry:SessionTelemetry._count": drop('counts["in_flight"] -= 1')},
    ),
    Fault(
        "an exception of the callback is raised",
        "test_telemetry.py::test_a_callback_that_raises",
        {"_telemetry:SessionTelemetry.emit": replace("Exception", "ArithmeticError")},
    ),
    Fault(
        "an object with an async __call__ is accepted as a callback",
        "test_telemetry.py::test_invalid_callbacks",
        {"_telemetry:_is_plain_function": omit("type(value).__call__")},
    ),
    Fault(
        "the span of a list is not current for its attempts",
        "test_opentelemetry.py::test_the_span_of_a_list",
        {"_opentelemetry:_start_current_span": drop("attach")},
    ),
    Fault(
        "the span of a list is current for the caller too",
        "test_opentelemetry.py::test_the_span_of_a_list",
        {
            "_opentelemetry:start_span": returns(
                "context.run", "_start_current_span(tracer, conference_sid)"
            )
        },
    ),
    Fault(
        "the span of a failure has no status",
        "test_opentelemetry.py::test_the_span_of_a_list_that_failed",
        {"_opentelemetry:end_span": drop("set_status")},
    ),
]
