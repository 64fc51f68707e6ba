"""Faults in `_decoding`, and in what decodes with msgspec."""

from __future__ import annotations

from engine import Fault, always, argument, drop, never, replace, reraise, returns, rewrite

FAULTS = [
    Fault(
        "the end of a body is not looked at",
        "test_decoding.py",
        {"_decoding:Records._end": drop("self._reader.go_on(...)")},
    ),
    Fault(
        "a record counts before its end is seen",
        "test_decoding.py",
        {"_decoding:Records._one": always('_is(body, behind, b"]")')},
    ),
    Fault(
        "a number is taken as a window cut it",
        "test_decoding.py",
        {"_decoding:_Reader._value_within": always("_BEHIND_VALUES")},
    ),
    Fault(
        "places are counted in characters",
        "test_decoding.py",
        {"_decoding:_Reader._value_within": always("text.isascii()")},
    ),
    Fault(
        "a chunk that is refused is taken for a malformed body",
        "test_decoding.py",
        {"_decoding:Records._several": rewrite("range(at, end)", "raise ValueError")},
    ),
    Fault(
        "a missing separator is searched at each record",
        "test_decoding.py",
        {"_decoding:Records._several": never("at in self._singly")},
    ),
    Fault(
        "a chunk that is refused is tried again at each record",
        "test_decoding.py",
        {"_decoding:Records._several": drop("range(at, end)")},
    ),
    Fault(
        "a malformed record is a transient error",
        "test_decoding.py",
        {"_decoding:_fault_at": argument("transient", "True")},
    ),
    Fault(
        "a record passes whose strings do not fit together",
        "test_decoding.py",
        {"_decoding:_mark_behind": never("over")},
    ),
    Fault(
        "a record passes whose brackets do not fit together",
        "test_decoding.py",
        {"_decoding:_mark_behind": rewrite("closing.pop() != mark", "closing.pop()")},
    ),
    Fault(
        "the search for the end of a record has no bound",
        "test_decoding.py",
        {
            "_decoding:_mark_behind": [
                replace("at + _LONGEST_SEARCH", "len(body)"),
                replace("_MOST_TOKENS", "None"),
            ]
        },
    ),
    Fault(
        "looking ahead passes records",
        "test_decoding.py",
        {"_decoding:Records.look_ahead": replace("ahead.walk(...)", "self.walk(count)")},
    ),
    Fault(
        "a page is taken for a repeated one by its beginning",
        "test_paging.py",
        {"_decoding:Records.look": returns("opening", '(0, opening, b"")')},
    ),
    Fault(
        "what msgspec refuses is refused for good",
        "test_decoding.py",
        {"_shapes:chunk_decoder": reraise("_REFUSALS")},
    ),
]
