"""Faults in `_decoding`, and in what decodes with msgspec."""

from __future__ import annotations

from engine import Fault, always, argument, drop, never, replace, reraise, returns, rewrite

FAULTS = [
    Fault(
        "the members after the records are not read",
        "test_decoding.py::test_a_fault_after_the_last_record_is_final",
        {"_decoding:Records._finish": drop("self._reader.read_members(...)")},
    ),
    Fault(
        "a record counts before the mark after it is found",
        "test_decoding.py::test_a_body_with_something_in_it",
        {"_decoding:Records._record_at": never('body.startswith(b"]", mark)')},
    ),
    Fault(
        "a number ends where its window does",
        "test_decoding.py::test_a_number_at_the_end_of_a_window",
        {"_decoding:_Reader._value_within": always("_AFTER_VALUES")},
    ),
    Fault(
        "positions are counted in characters",
        "test_decoding.py::test_any_chunks_are_what_json_says",
        {"_decoding:_Reader._value_within": always("text.isascii()")},
    ),
    Fault(
        "a chunk that is refused is taken for a malformed body",
        "test_decoding.py::test_a_record_that_looks_like_several",
        {"_decoding:Records._chunk_at": rewrite("range(at, end)", "raise ValueError")},
    ),
    Fault(
        "a missing separator is searched at each record",
        "test_decoding.py::test_missing_separators_are_searched_once_a_chunk",
        {"_decoding:Records._chunk_at": never("at in self._no_chunk_in")},
    ),
    Fault(
        "a chunk that is refused is tried again at each record",
        "test_decoding.py::test_a_chunk_that_is_refused_is_tried_once",
        {"_decoding:Records._chunk_at": drop("range(at, end)")},
    ),
    Fault(
        "a malformed record is a transient error",
        "test_decoding.py::test_a_malformed_record_raises_each_time",
        {"_decoding:_fault_in_record": argument("transient", "True")},
    ),
    Fault(
        "a record is skipped whose strings do not match",
        "test_decoding.py::test_a_record_without_an_end_is_not_skipped",
        {"_decoding:_mark_after": never("ended")},
    ),
    Fault(
        "a record is skipped whose brackets do not match",
        "test_decoding.py::test_a_record_without_an_end_is_not_skipped",
        {"_decoding:_mark_after": rewrite("closing.pop() != mark", "closing.pop()")},
    ),
    Fault(
        "the search for the end of a record has no limit",
        "test_decoding.py::test_a_record_without_an_end_is_not_skipped",
        {
            "_decoding:_mark_after": [
                replace("at + _LONGEST_SEARCH", "len(body)"),
                replace("_MOST_TOKENS", "None"),
            ]
        },
    ),
    Fault(
        "a scan ahead passes records",
        "test_decoding.py::test_scan_ahead_stays_at_its_record",
        {"_decoding:Records.scan_ahead": replace("ahead.scan(...)", "self.scan(count)")},
    ),
    Fault(
        "a page is taken for a repeated one by its beginning",
        "test_paging.py::test_a_page_that_is_like_the_one_before",
        {"_decoding:Records.fingerprint": returns("opening", '(0, opening, b"")')},
    ),
    Fault(
        "what msgspec refuses is refused for good",
        "test_decoding.py::test_chunks_fall_back_to_json",
        {"_msgspec:chunk_decoder.decode_chunk": reraise("msgspec.MsgspecError")},
    ),
]
