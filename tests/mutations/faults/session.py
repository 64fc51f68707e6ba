"""Faults in `_session` and `_lists`."""

from __future__ import annotations

from engine import Fault, argument, default, rewrite

FAULTS = [
    Fault(
        "a session is closed before its tasks have ended",
        "test_cancellation.py::test_closing_the_session_in_every_state",
        {
            "_session:InsightsSession._close": rewrite(
                "self._tasks.aclose(...)", "self._tasks.closed = True"
            )
        },
    ),
    Fault(
        "a session that one of its own tasks closes cancels that task",
        "test_closing_from_within.py::test_closed_by_its_own_hook",
        {"_session:InsightsSession._close": argument("sparing", None)},
    ),
    Fault(
        "an event repeats what was given in place of a SID",
        "test_telemetry.py::test_events_of_a_fan_out",
        {"_lists:ListFactory.open_in_fan_out": argument("conference_sid", "conference_sid")},
    ),
    Fault(
        "help() shows the environment",
        "test_help.py::test_help_holds_no_secret",
        {"_session:InsightsSession.from_env": default("environ", "os.environ")},
    ),
]
