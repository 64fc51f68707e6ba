"""Faults in `_telemetry` and `_opentelemetry`."""

from __future__ import annotations

from engine import Fault, drop, omit, replace, returns

FAULTS = [
    Fault(
        "retries are not counted",
        "test_telemetry.py",
        {"_telemetry:SessionTelemetry._count": drop('counts["retries"]')},
    ),
    Fault(
        "attempts in flight are only counted upwards",
        "test_telemetry.py",
        {"_telemetry:SessionTelemetry._count": drop('counts["in_flight"] -= 1')},
    ),
    Fault(
        "an exception of the callback is raised",
        "test_telemetry.py",
        {"_telemetry:SessionTelemetry.emit": replace("Exception", "ArithmeticError")},
    ),
    Fault(
        "an object with an async __call__ is accepted as a callback",
        "test_telemetry.py",
        {"_telemetry:_is_plain_function": omit("type(value).__call__")},
    ),
    Fault(
        "the span of a list is not current for its attempts",
        "test_opentelemetry.py",
        {"_opentelemetry:_start_current_span": drop("attach")},
    ),
    Fault(
        "the span of a list is current for the caller too",
        "test_opentelemetry.py",
        {
            "_opentelemetry:start_span": returns(
                "context.run", "_start_current_span(tracer, conference_sid)"
            )
        },
    ),
    Fault(
        "the span of a failure has no status",
        "test_opentelemetry.py",
        {"_opentelemetry:end_span": drop("set_status")},
    ),
]
