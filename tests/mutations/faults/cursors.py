"""Faults in `_cursors`."""

from __future__ import annotations

from engine import Fault, always, assign, never, omit, replace, returns

FAULTS = [
    Fault(
        "the label stays in the cursor",
        "test_cursors.py::test_no_label_in_a_cursor",
        {"_cursors:CursorCodec.encode.cut": returns("_CUT_OUT", "value")},
    ),
    Fault(
        "filters are not compared",
        "test_cursors.py::test_other_lists",
        {"_cursors:CursorCodec._with_personal": always("own_list")},
    ),
    Fault(
        "altered cursors are accepted",
        "test_cursors.py::test_not_a_cursor",
        {"_cursors:_body_of": never("_checksum(...)")},
    ),
    Fault(
        "the checksum leaves out the version",
        "test_cursors.py::test_not_a_cursor",
        {"_cursors:_checksum": replace("bytes([version]) + body", "body")},
    ),
    Fault(
        "the record before a cursor is not compared",
        "test_cursors.py::test_a_cursor_verifies_the_record_before",
        {"_cursors:Position.matches": replace("_hash_of_sid(sid) == self.hash_before()", "True")},
    ),
    Fault(
        "the page size changes under a page token",
        "test_cursors.py::test_page_sizes_that_are_not_exact",
        {"_cursors:CursorCodec._with_page_size": omit("self._filters(query, _lower) == own")},
    ),
    Fault(
        "an index is beyond the first page of another size",
        "test_cursors.py::test_page_sizes_that_are_not_exact",
        {"_cursors:CursorCodec._with_page_size": omit("offset <= page_size")},
    ),
    Fault(
        "the case of a SID matters to cursors",
        "test_cursors.py::test_a_cursor_verifies_the_record_before",
        {"_cursors:_lower": returns("sid[2:].lower()", "sid")},
    ),
    Fault(
        "cursors of long queries are refused",
        "test_cursors.py::test_long_page_tokens",
        {"_cursors:": assign("LONGEST_QUERY", "12 * 1024")},
    ),
]
