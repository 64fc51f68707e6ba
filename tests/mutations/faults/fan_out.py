"""Faults in `_fan_out` and `_scheduler`."""

from __future__ import annotations

from engine import (
    Fault,
    always,
    argument,
    assign,
    body,
    drop,
    insert_after,
    insert_before,
    never,
    omit,
    replace,
    rewrite,
)

_FINALISER = "_fan_out:FanOut.__init__"
_OVER = "_scheduler:Scheduler._raise_if_over"
_DONE = "_scheduler:Scheduler._on_conference_done"
_RESULT = "_scheduler:Scheduler._on_result"
_STOP = "_scheduler:Scheduler._stop"

FAULTS = [
    # --- Dropping the last reference ---
    Fault(
        "a fan-out that is dropped leaves its tasks running",
        "test_fan_out_cancellation.py::test_dropped_in_another_thread",
        {_FINALISER: drop("weakref.finalize(...)")},
    ),
    Fault(
        "the tasks of a fan-out refer to it",
        "test_fan_out_cancellation.py::test_dropped_in_another_thread",
        {_FINALISER: insert_after("weakref.finalize(...)", "self._scheduler.owner = self")},
    ),
    Fault(
        "the exception that a fan-out has raised keeps it alive",
        "test_fan_out.py::test_a_failed_fan_out_can_be_forgotten",
        {
            _FINALISER: replace(
                "weakref.finalize(...)", "weakref.finalize(self, self._scheduler.close)"
            )
        },
    ),
    Fault(
        "the tasks of a fan-out are cancelled from the wrong thread",
        "test_fan_out_cancellation.py::test_dropped_in_another_thread",
        {"_scheduler:Scheduler._cancel_all": rewrite("cancel_threadsafe(task)", "task.cancel()")},
    ),
    # --- Places and decoding slots ---
    Fault(
        "a conference never releases its place",
        "test_fan_out.py::test_a_slow_consumer_stops_the_source",
        {"_scheduler:ConferenceJob.release": drop("_places.release()")},
    ),
    Fault(
        "a conference releases its place before its result is delivered",
        "test_fan_out.py::test_a_slow_consumer_stops_the_source",
        {
            "_fan_out:Results.on_conference_done": insert_after(
                "_add(...)", "conference.release()"
            ),
            "_fan_out:Results.on_delivered": body("pass"),
        },
    ),
    Fault(
        "a conference releases its decoding slot before its result is delivered",
        "test_fan_out.py::test_few_are_decoded_ahead",
        {
            "_fan_out:Results.on_conference_done": insert_after(
                "_add(...)", "conference.slot.release()"
            )
        },
    ),
    Fault(
        "a failed conference keeps its decoding slot",
        "test_fan_out.py::test_failures_while_others_wait_for_a_slot",
        {_RESULT: rewrite("conference.release()", "conference._places.release()")},
    ),
    Fault(
        "a SID is taken before there is a place for it",
        "test_fan_out.py::test_a_slow_consumer_stops_the_source",
        {
            "_scheduler:Scheduler._take_items": drop("_places.reserve()"),
        },
    ),
    Fault(
        "all conferences are decoded at once",
        "test_fan_out.py::test_few_are_decoded_ahead",
        {"_scheduler:": assign("_DECODING_SLOTS", "1000")},
    ),
    Fault(
        "a conference that waits for a page keeps its decoding slot",
        "test_fan_out.py::test_a_conference_that_waits_for_a_page_lets_others_be_decoded",
        {"_scheduler:ConferenceJob._next_page": drop("slot.release()")},
    ),
    Fault(
        "pages wait for a decoding slot to be fetched",
        "test_fan_out.py::test_few_are_decoded_ahead",
        {"_scheduler:ConferenceJob.read": drop("gather(...)")},
    ),
    Fault(
        "merged pages do not wait for the consumer",
        "test_fan_out.py::test_a_huge_conference_does_not_fill_the_memory",
        {"_fan_out:MergedPages.on_page": drop("page_delivered.wait()")},
    ),
    # --- The end ---
    Fault(
        "a fan-out that was closed seems to have ended",
        "test_fan_out.py::test_closed_while_a_consumer_waits",
        {_OVER: rewrite("_check_open()", "if self._closed:\n    raise StopAsyncIteration")},
    ),
    Fault(
        "a fan-out that is used up begins anew",
        "test_beginning_anew.py::test_used_up",
        {"_scheduler:Scheduler.check_unused": never("is_used_up")},
    ),
    Fault(
        "a fan-out that was closed begins anew",
        "test_beginning_anew.py::test_closed",
        {"_scheduler:Scheduler.check_unused": drop("_check_open()")},
    ),
    Fault(
        "results are delivered after closing",
        "test_fan_out.py::test_closed_with_something_ready",
        {
            "_scheduler:Scheduler.close": drop("delivery.clear()"),
            _RESULT: always("self._closed"),
        },
    ),
    Fault(
        "the rest of a merged page is delivered after closing",
        "test_fan_out.py::test_closed_with_something_ready",
        {"_fan_out:MergedPages.clear": drop("self.rest = iter(())")},
    ),
    Fault(
        "a source that closes its fan-out is cancelled",
        "test_fan_out.py::test_closed_by_its_own_source",
        {"_scheduler:Scheduler._cancel_all": assign("closes_itself", "False")},
    ),
    Fault(
        "a source that swallows its cancellation seems to have ended",
        "test_fan_out.py::test_a_source_that_cannot_be_cancelled",
        {"_scheduler:Scheduler._check_not_cancelled": body("pass")},
    ),
    Fault(
        "a closed session looks like the end of a fan-out",
        "test_fan_out.py::test_session_closed_while_a_consumer_waits",
        {
            "_scheduler:Scheduler._on_source_done": drop("_fail(self._cancelled(None))"),
            _DONE: drop("_fail(failure)"),
        },
    ),
    Fault(
        "a conference whose task was cancelled from outside just vanishes",
        "test_fan_out.py::test_cancelled_before_its_first_step",
        {
            _DONE: insert_before(
                "failure is None",
                "if task.cancelled() and not self._is_ending():\n"
                "    conference.release()\n"
                "    return self.delivery.changed.set()",
            )
        },
    ),
    Fault(
        "a cancelled wait loses a result",
        "test_fan_out_cancellation.py::test_goes_on_after_every_cancellation",
        {
            "_scheduler:Scheduler.wait_until_ready": rewrite(
                "changed.wait()",
                "try:\n"
                "    await self.delivery.changed.wait()\n"
                "except asyncio.CancelledError:\n"
                "    if self.delivery.is_ready:\n"
                "        self.delivery.take()\n"
                "    raise",
            )
        },
    ),
    # --- Failures ---
    Fault(
        "a conference that fails ends all",
        "test_fan_out.py::test_a_failing_conference_is_a_result",
        {_RESULT: omit("self._raises")},
    ),
    Fault(
        "the records before a failure are lost",
        "test_fan_out.py::test_a_failing_conference_is_a_result",
        {
            "_fan_out:_result_of": replace(
                "tuple(conference.records)", "() if error else tuple(conference.records)"
            )
        },
    ),
    Fault(
        "the first failure leaves the other conferences running",
        "test_fan_out.py::test_raise",
        {_STOP: drop("_cancel_all(...)")},
    ),
    Fault(
        "the first failure ends conferences that are fetched whole",
        "test_fan_out.py::test_what_waits_for_its_slot_is_complete",
        {_STOP: argument("sparing", "()")},
    ),
    Fault(
        "the first failure is raised before what is complete is delivered",
        "test_fan_out.py::test_what_waits_for_its_slot_is_complete",
        {
            _OVER: replace(
                "self.loop is None or self._source is not None or self._running",
                "self._failure is None"
                " and (self.loop is None or self._source is not None or self._running)",
            )
        },
    ),
    Fault(
        "the cursor of a raised error skips records that are not delivered",
        "test_fan_out.py::test_raise",
        {"_fan_out:Results.error_to_raise": body("return error")},
    ),
    Fault(
        "a raised error has a cursor after records that are not delivered",
        "test_cursors.py::test_an_awaited_list_skips_no_good_record",
        {"_fan_out:Results.error_to_raise": drop("cursor_after")},
    ),
    # --- How it is used ---
    Fault(
        "the rest of a merged page is lost to another call of participants()",
        "test_fan_out.py::test_participants_called_again",
        {
            "_fan_out:FanOut.participants": insert_before(
                "MergedParticipants(...)", "scheduler.delivery.rest = iter(())"
            )
        },
    ),
    Fault(
        "the deadline of a fan-out starts with its first request",
        "test_fan_out.py::test_the_deadline_starts_with_the_first_anext",
        {"_scheduler:Scheduler._start": drop("_deadline.start()")},
    ),
    Fault(
        "the tasks of a fan-out run in the context of its consumer",
        "test_fan_out.py::test_context",
        {
            "_scheduler:Scheduler._new_task": replace(
                "_context.copy()", "contextvars.copy_context()"
            )
        },
    ),
]
