"""Faults in `_stream` and `_page_reader`."""

from __future__ import annotations

from engine import (
    Fault,
    drop,
    never,
    omit,
    raises,
    replace,
    returns,
    rewrite,
    swap,
)

_STREAM, _READER = "_stream:RecordStream", "_page_reader:PageReader"
_BAD_RECORDS = "test_properties.py::test_a_list_goes_on_after_every_bad_record"

FAULTS = [
    # --- How it ends ---
    Fault(
        "a dropped stream leaves its page task running",
        "test_stream.py::test_drop_needs_no_collector",
        {f"{_STREAM}.__init__": drop("pages.abandon")},
    ),
    Fault(
        "an error is shown as the end",
        "test_stream.py::test_error_of_the_next_page_comes_after_the_records",
        {f"{_STREAM}._raise_if_over": raises("self._error", "StopAsyncIteration")},
    ),
    Fault(
        "a closed stream is shown as the end",
        "test_beginning_anew.py::test_closed_by_another_task",
        {f"{_STREAM}._raise_if_closed": raises("_closed()", "StopAsyncIteration")},
    ),
    Fault(
        "a list that is used up begins anew as an empty list",
        "test_beginning_anew.py::test_used_up",
        {f"{_STREAM}._check_unused": replace("self._used_up or self._closed", "self._closed")},
    ),
    Fault(
        "a closed list begins anew",
        "test_beginning_anew.py::test_closed",
        {f"{_STREAM}._check_unused": replace("self._used_up or self._closed", "self._used_up")},
    ),
    Fault(
        "a list is reported again at each call after its end",
        "test_telemetry.py::test_finished_lists",
        {f"{_STREAM}._raise_if_over": raises("StopAsyncIteration", "self._finished()")},
    ),
    Fault(
        "records that were not delivered are reported",
        "test_telemetry.py::test_a_page_is_delivered_once",
        {
            f"{_STREAM}._report_page": replace(
                "reader.delivered", "reader.start.offset + reader.delivered"
            )
        },
    ),
    # --- One page ahead, and other tasks ---
    Fault(
        "no page is fetched ahead",
        "test_stream.py::test_one_page_ahead",
        {f"{_STREAM}._turn_page": drop("self._pages.look_ahead()")},
    ),
    Fault(
        "a request more than the limit needs",
        "test_stream.py::test_limit",
        {
            f"{_READER}.is_last": replace(
                "records.known >= self._stop", "records.known > self._stop"
            )
        },
    ),
    Fault(
        "a page is fetched although the limit ends at a record that cannot be read",
        "test_properties.py::test_every_list_gives_what_the_reference_gives",
        {f"{_READER}.is_last": omit("cut_off")},
    ),
    Fault(
        "two tasks at once are not noticed",
        "test_stream.py::test_cancelled_between_records",
        {f"{_STREAM}._advance": never("self._busy")},
    ),
    Fault(
        "a list that is awaited while another task reads it is closed",
        "test_stream.py::test_two_at_once",
        {f"{_STREAM}.all": never("self._busy")},
    ),
    Fault(
        "no other task runs between the records of a page",
        "test_stream.py::test_no_consumer_blocks_the_loop",
        {f"{_STREAM}._advance": drop("asyncio.sleep(0)")},
    ),
    Fault(
        "a consumer that is always cancelled gets no further",
        "test_cancellation.py::test_polling",
        {f"{_STREAM}._advance": swap("self._fill(self._reader)", "asyncio.sleep(0)")},
    ),
    # --- Bad records ---
    Fault(
        "the good records of a page are lost to a bad one",
        "test_stream.py::test_good_records_come_before_a_bad_one",
        {f"{_READER}.fill": never("buffer")},
    ),
    Fault(
        "the error of a malformed record is raised once only",
        _BAD_RECORDS,
        {f"{_STREAM}._fill": never("self._error is not None")},
    ),
    Fault(
        "a record that is to be passed is raised as an error",
        _BAD_RECORDS,
        {f"{_READER}._passes": returns("self.keep_invalid", "False")},
    ),
    Fault(
        "a record is passed although its end cannot be found",
        _BAD_RECORDS,
        {f"{_READER}._passes": never("readable")},
    ),
    Fault(
        "no cursor names the record after a bad one",
        _BAD_RECORDS,
        {f"{_READER}._passes": drop("error.cursor_after")},
    ),
    Fault(
        "the cursor after a bad record names the bad record",
        _BAD_RECORDS,
        {f"{_READER}._passes": replace("index + 1", "index")},
    ),
    Fault(
        "an awaited list leads past records that were not delivered",
        "test_cursors.py::test_an_awaited_list_skips_no_good_record",
        {f"{_STREAM}.all": never("failure.cursor != self.cursor")},
    ),
    Fault(
        "an awaited list never leads past a bad record",
        "test_cursors.py::test_an_awaited_list_skips_no_good_record",
        {f"{_STREAM}.all": omit("failure.cursor != self.cursor")},
    ),
    Fault(
        "a list whose await failed keeps the problems of records that were not delivered",
        "test_invalid.py::test_a_failed_await_has_no_problems",
        {f"{_STREAM}.all": drop("self._problems[problems:]")},
    ),
    Fault(
        "a closed list forgets the records that were passed",
        "test_invalid.py::test_closing_keeps_the_problems",
        {f"{_STREAM}._leave_page": drop("self.problems")},
    ),
    # --- The position ---
    Fault(
        "a record that is structured counts as delivered",
        "test_cursors.py::test_resume_at_every_record",
        {f"{_READER}.delivered": replace("_ - len(self.buffer)", "self._next - self.start.offset")},
    ),
    Fault(
        "the cursor is off by one",
        "test_cursors.py::test_resume_at_every_record",
        {f"{_READER}.position": replace("self._offset()", "self._offset() + 1")},
    ),
    Fault(
        "the cursor does not know the record before it",
        "test_cursors.py::test_a_page_that_changed",
        {f"{_READER}._position_at": replace("before if adjacent else None", "None")},
    ),
    Fault(
        "the cursor knows a record that is not right before it",
        "test_invalid.py::test_cursors_around_unreadable_records",
        {f"{_READER}._position_at": replace("before if adjacent else None", "before")},
    ),
    Fault(
        "a list is resumed on a page that has changed",
        "test_cursors.py::test_a_page_that_changed",
        {"_page_reader:checked_start": never("start.matches(sid)")},
    ),
    Fault(
        "a page that became shorter is taken for the end",
        "test_cursors.py::test_a_page_that_changed",
        {"_page_reader:checked_start": never("start.offset > records.count")},
    ),
    Fault(
        "a page that became much shorter is a defect",
        "test_properties.py::test_a_changed_page_is_noticed",
        {"_page_reader:checked_start": replace("IndexError", "ResponseError")},
    ),
    Fault(
        "a closed stream forgets its cursor",
        "test_cursors.py::test_resume_at_every_record",
        {f"{_STREAM}._leave_page": rewrite("self._between", "self._reader = None")},
    ),
    Fault(
        "a list whose await failed counts as delivered",
        "test_cursors.py::test_resume_a_list_that_was_awaited",
        {f"{_STREAM}.all": drop("self._leave_page(start)")},
    ),
    Fault(
        "a list whose await was cancelled is shown as the end",
        "test_cursors.py::test_resume_a_list_whose_await_was_cancelled",
        {f"{_STREAM}.all": rewrite("copied(failure)", "self._used_up = True")},
    ),
]
