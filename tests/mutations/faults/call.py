"""Faults in `_call`."""

from __future__ import annotations

from engine import Fault, argument, body, drop, handle, never, omit, replace

_PAGE = "_call:Call.page"
_ATTEMPT = "_call:Call._attempt"
_FINAL = "_call:Call._final_error"
_SEND = "_call:Call._send"

FAULTS = [
    # --- The slot and the connection ---
    Fault(
        "an attempt never releases its slot",
        "test_session.py::test_slots_bound_the_attempts_in_flight",
        {
            _ATTEMPT: replace(
                "self._session.limiter.slot()",
                "__import__('contextlib').nullcontext("
                "await self._session.limiter.slot().__aenter__())",
            )
        },
    ),
    Fault(
        "the wait before a retry holds a slot",
        "test_session.py::test_no_slot_is_held_during_backoff",
        {
            _ATTEMPT: replace(
                "self._session.limiter.slot()",
                "__import__('contextlib').nullcontext(__import__('unittest.mock').mock.Mock())",
            ),
            "_call:ListContext.call": body(
                "call = Call(request, self)\n"
                "page = call.page\n"
                "async def page_in_a_slot():\n"
                "    async with self.session.limiter.slot():\n"
                "        return await page()\n"
                "call.page = page_in_a_slot\n"
                "return call"
            ),
        },
    ),
    Fault(
        "the connection that gave another conference's page is kept",
        "test_wrong_answers.py::test_the_page_of_another_conference",
        {_ATTEMPT: drop("close_connection()")},
    ),
    # --- The deadline ---
    Fault(
        "the deadline does not cut off an attempt",
        "test_deadlines.py::test_attempt",
        {_PAGE: replace("asyncio.timeout(...)", "asyncio.timeout(None)")},
    ),
    Fault(
        "a defect that is a TimeoutError is taken for the deadline",
        "test_deadlines.py::test_a_timeout_that_is_a_defect",
        {
            _PAGE: handle(
                "TimeoutError",
                "if isinstance(error, InsightsError) and not timer.expired():\n"
                "    failure = self._final_error(error)",
            )
        },
    ),
    Fault(
        "an attempt that timed out is taken for the deadline",
        "test_session.py::test_silent_server",
        {
            _PAGE: handle(
                "TimeoutError",
                "if not (timer.expired() or isinstance(error, TimeoutError)):\n"
                "    failure = self._final_error(error)",
            )
        },
    ),
    Fault(
        "an attempt that the deadline cut off fails with its own error",
        "test_deadlines.py::test_an_early_timer",
        {
            _PAGE: handle(
                "TimeoutError",
                "if isinstance(error, InsightsError):\n    failure = self._final_error(error)",
            )
        },
    ),
    # --- The first attempt ---
    Fault(
        "the first retry is made without a wait",
        "test_telemetry.py::test_retries",
        {"_call:Call._retry": never("attempt_number == 1")},
    ),
    # --- Its error and its events ---
    Fault(
        "an expired cursor is just a bad request",
        "test_cursors.py::test_a_page_token_that_is_refused",
        {_FINAL: never('"PageToken=" in query')},
    ),
    Fault(
        "a bad request on the first page is an expired cursor",
        "test_cursors.py::test_a_page_token_that_is_refused",
        {_FINAL: omit('"PageToken=" in query')},
    ),
    Fault(
        "a bad request on a later page is an expired cursor",
        "test_cursors.py::test_a_page_token_that_is_refused",
        {_FINAL: omit("self._request is self._list.resumed")},
    ),
    Fault(
        "a retry that the quota denies has no event",
        "test_telemetry.py::test_a_denied_retry",
        {_FINAL: never("denied")},
    ),
    Fault(
        "an event contains the query",
        "test_telemetry.py::test_no_secrets",
        {
            _SEND: replace(
                "self._request.conference_sid",
                'f"{self._request.conference_sid}?{self._request.query}"',
            )
        },
    ),
    Fault(
        "an attempt that is cancelled never finishes",
        "test_telemetry.py::test_each_attempt_finishes_once",
        {_SEND: replace("BaseException", "Exception")},
    ),
    Fault(
        "an attempt that is dropped with its loop is a failure",
        "test_telemetry.py::test_an_attempt_dropped_with_its_loop",
        {_SEND: replace("(asyncio.CancelledError, GeneratorExit)", "asyncio.CancelledError")},
    ),
    Fault(
        "the event of a retry has the wrong delay",
        "test_telemetry.py::test_retries",
        {"_call:Call._emit_retry": argument("delay", "latest.seconds")},
    ),
]
