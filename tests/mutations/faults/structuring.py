"""Faults in `_structuring`, `models` and `errors`."""

from __future__ import annotations

from engine import Fault, always, argument, assign, drop, omit, replace, rewrite

FAULTS = [
    Fault(
        "types are not checked",
        "test_structuring.py",
        {"_structuring:_Structurer.structure": always("self.fits(value)")},
    ),
    Fault(
        "nested types are not checked",
        "test_structuring.py",
        {"_structuring:_Field.test_of": assign("inside", '"True"')},
    ),
    Fault(
        "infinity is accepted",
        "test_structuring.py",
        {
            "_structuring:": replace(
                '"({}).__class__ is float and v * 0.0 == 0.0 or v.__class__ is int"',
                '"({}).__class__ is float or v.__class__ is int"',
            )
        },
    ),
    Fault(
        "unknown members are dropped",
        "test_structuring.py",
        {"_structuring:_Structurer._remembered_plan": drop("_keeping_extra(...)")},
    ),
    Fault(
        "a value of a wrong type is dropped",
        "test_structuring.py",
        {"_structuring:_Structurer.keep": rewrite("_kept(item)", "_, remark = _kept(item)")},
    ),
    Fault(
        "problems are not reported",
        "test_structuring.py",
        {"_structuring:": argument("problems", "()")},
    ),
    Fault(
        "a next link of a wrong type is taken for the end",
        "test_structuring.py",
        {"_structuring:page_meta": omit("link is None")},
    ),
    Fault(
        "what is made by hand is not checked",
        "test_structuring.py",
        {"_structuring:_on_demand.put_checked": replace("check(value)", "value")},
    ),
    Fault(
        "names in paths are not escaped",
        "test_structuring.py",
        {"_structuring:_member": always("name.isprintable()")},
    ),
    Fault(
        "a label is shown",
        "test_models.py",
        {"models:Participant": assign("label", "attrs.field(default=None)")},
    ),
    Fault(
        "a gateway's 5xx is final",
        "test_errors.py",
        {
            "errors:": replace(
                "StatusRule(ServerError, _SERVER, transient=True)",
                "StatusRule(ServerError, _SERVER)",
            )
        },
    ),
    Fault(
        "a copy of an error loses its cause",
        "test_errors.py",
        {"errors:copied": drop("error.__cause__")},
    ),
]
