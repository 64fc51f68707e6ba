"""Faults in `_prefetching`."""

from __future__ import annotations

from engine import Fault, drop, never, omit, replace, rewrite

_PAGES = "_prefetching:PagesAhead"

FAULTS = [
    Fault(
        "a closed session is shown as the end of its lists",
        "test_stream.py::test_session_closing",
        {f"{_PAGES}._outcome": rewrite("self._cancelled()", "return End()")},
    ),
    Fault(
        "a cancelled consumer cancels the page",
        "test_stream.py::test_cancelled_consumer_goes_on",
        {f"{_PAGES}.next": replace("self._new_waiter()", "self._task")},
    ),
    Fault(
        "closing a stream leaves its page task running",
        "test_stream.py::test_closing_ends_the_page_in_flight",
        {f"{_PAGES}.close": drop("self.cancel()")},
    ),
    Fault(
        "the next request gets no time to be sent",
        "test_session.py::test_next_request_is_sent_before_the_delivery",
        {f"{_PAGES}.look_ahead": replace("_SENDING_SECONDS", "0")},
    ),
    Fault(
        "a page task that is cancelled before its first step wakes nobody",
        "test_stream.py::test_cancelled_before_its_first_step",
        {f"{_PAGES}._start": drop("add_done_callback")},
    ),
    Fault(
        "closing leaves whoever waits for a page waiting",
        "test_stream.py::test_closed_by_its_own_page",
        {f"{_PAGES}.close": never("self._waiter is not None")},
    ),
    Fault(
        "a page task that closes its own list is cancelled",
        "test_stream.py::test_closed_by_its_own_page",
        {f"{_PAGES}.close": omit("self._task is _current_task()")},
    ),
    Fault(
        "what a page has read waits for the garbage collector",
        "test_stream.py::test_what_a_page_has_read_needs_no_collector",
        {
            f"{_PAGES}._start": rewrite(
                "self._tasks.start(...)",
                "async def work():\n"
                "    try:\n"
                "        return await call.page()\n"
                "    finally:\n"
                "        self._wake()\n"
                "self._task = self._tasks.start(work, self._context, _TASK)",
            )
        },
    ),
    Fault(
        "a list of a closed session does not fail",
        "test_telemetry.py::test_a_list_whose_session_is_closed",
        {f"{_PAGES}._must_wait": never("self._tasks.closed")},
    ),
    Fault(
        "the span of a list that is closed or dropped does not end",
        "test_opentelemetry.py::test_the_span_of_a_list_that_is_left",
        {f"{_PAGES}.abandon": drop("abandoned()"), f"{_PAGES}.aclose": drop("abandoned()")},
    ),
]
