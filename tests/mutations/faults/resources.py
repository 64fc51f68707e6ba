"""Faults in what conferences and single records add: their window, filters, bodies and events."""

from __future__ import annotations

from engine import Fault, drop, never, omit, replace, returns

_PAGE_OF_ONE = "_paging:Pager._page_of_one"
_CONFERENCES = "_session:InsightsSession.conferences"
_TESTS = "test_conferences.py::"

FAULTS = [
    # --- The window ---
    Fault(
        "the end of a window is rounded down",
        _TESTS + "test_times_are_sent_in_utc_in_whole_seconds",
        {"_arguments:time_before": never("time > _")},
    ),
    Fault(
        "the start of a window is rounded up",
        _TESTS + "test_times_are_sent_in_utc_in_whole_seconds",
        {"_arguments:time_after": returns("_utc_text(...)", "time_before(value, name)")},
    ),
    Fault(
        "the times of a window are sent as given, not in UTC",
        _TESTS + "test_times_are_sent_in_utc_in_whole_seconds",
        {"_arguments:_checked_time": returns("value.astimezone(UTC)", "value")},
    ),
    Fault(
        "a naive time is taken for the local one",
        _TESTS + "test_bad_arguments",
        {"_arguments:_checked_time": omit("value.utcoffset() is not None")},
    ),
    Fault(
        "an empty window is sent",
        _TESTS + "test_bad_arguments",
        {_CONFERENCES: drop("checked_window(...)")},
    ),
    Fault(
        "a window may end where it starts",
        _TESTS + "test_bad_arguments",
        {
            "_arguments:checked_window": replace(
                '_checked_time(after, "created_after") >= _checked_time(before, "created_before")',
                '_checked_time(after, "created_after") > _checked_time(before, "created_before")',
            )
        },
    ),
    Fault(
        "a window is not required",
        _TESTS + "test_a_window_is_required",
        {_CONFERENCES: never("conference_sid is None")},
    ),
    Fault(
        "nobody is told of Twilio's own window",
        _TESTS + "test_the_window_of_twilio_is_logged",
        {_CONFERENCES: drop("_LOGGER.info(...)")},
    ),
    # --- Filters ---
    Fault(
        "the name of a conference is in the cursors of its list",
        _TESTS + "test_a_list_goes_on_where_its_cursor_says",
        {
            "_resources:": replace(
                'Filter(argument="friendly_name", parameter="FriendlyName", personal=True)',
                'Filter(argument="friendly_name", parameter="FriendlyName")',
            )
        },
    ),
    Fault(
        "a subaccount may be any text",
        _TESTS + "test_bad_arguments",
        {
            "_resources:": replace(
                'Filter(argument="subaccount", parameter="Subaccount", sid_prefix="AC")',
                'Filter(argument="subaccount", parameter="Subaccount")',
            )
        },
    ),
    Fault(
        "a single record is asked for with a page size",
        _TESTS + "test_single_records_are_asked_for_by_their_path",
        {"_resources:Resource.first_request": replace("not self.is_single", "True")},
    ),
    # --- Bodies ---
    Fault(
        "a single record of another conference is taken",
        _TESTS + "test_what_is_tried_again",
        {_PAGE_OF_ONE: never("found is not None")},
    ),
    Fault(
        "the case of a single record's SID matters",
        _TESTS + "test_what_is_tried_again",
        {_PAGE_OF_ONE: replace("found.lower()", "found")},
    ),
    Fault(
        "any object is a single record",
        _TESTS + "test_a_record_has_a_sid",
        {_PAGE_OF_ONE: never("resource.record_sid not in record")},
    ),
    Fault(
        "a list in place of a single record is final",
        _TESTS + "test_what_is_tried_again",
        {_PAGE_OF_ONE: never("_is_page_of_another(...)")},
    ),
    Fault(
        "the page of another list is final",
        _TESTS + "test_the_page_of_another_list_is_a_failed_attempt",
        {"_paging:Pager._parts": never("_is_page_of_another(...)")},
    ),
    Fault(
        "an array is a single record",
        _TESTS + "test_a_record_is_an_object",
        {"_decoding:record_envelope": never("isinstance(record, dict)")},
    ),
    Fault(
        "a single record may be of any length",
        _TESTS + "test_a_huge_record_is_refused",
        {"_decoding:record_envelope": never("len(body) > _")},
    ),
    Fault(
        "the path in a single record has an index",
        _TESTS + "test_a_wrong_value_in_a_single_record",
        {
            "_page_reader:PageReader.fill": replace(
                "indexes[index] if is_list else None", "indexes[index]"
            )
        },
    ),
    Fault(
        "tags that are not known yet are lost",
        _TESTS + "test_a_wrong_value_in_a_single_record",
        {
            "_json_values:OpenEnums.__call__": replace(
                "tuple(map(self._words.__getitem__, words))",
                "tuple(self._words[each] for each in words if each in self._words)",
            )
        },
    ),
    Fault(
        "tags that a conference does not have come back absent",
        "test_record_properties.py::test_every_valid_record_comes_back",
        {"_structuring:Field.of": replace("name in omitted", 'name in omitted or name == "tags"')},
    ),
    # --- Errors and events ---
    Fault(
        "the error of a single record has a cursor",
        _TESTS + "test_a_missing_summary_is_not_found",
        {"_lists:ListFactory.record": drop("error.cursor = None")},
    ),
    Fault(
        "a single record counts as a conference",
        _TESTS + "test_events_name_the_path",
        {
            "_telemetry:ListTelemetry.finished": replace(
                "self._resource is PARTICIPANTS", "self._resource is not None"
            )
        },
    ),
    Fault(
        "the span of a list of conferences has the name of another",
        "test_opentelemetry.py::test_the_spans_of_conferences_and_single_records",
        {
            "_telemetry:ListTelemetry.started": replace(
                "self._resource.action", '"list conference participants"'
            )
        },
    ),
]
