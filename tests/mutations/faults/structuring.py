"""Faults in `_structuring`, `_json_values`, `_on_demand`, `models` and `errors`."""

from __future__ import annotations

from engine import Fault, always, argument, assign, drop, omit, replace, returns, rewrite

FAULTS = [
    Fault(
        "types are not checked",
        "test_structuring.py::test_wrong_types",
        {"_structuring:Structurer.read": always("self._fits(members)")},
    ),
    Fault(
        "nested types are not checked",
        "test_structuring.py::test_wrong_values_inside",
        {"_structuring:Structurer.nested_test": returns("count", 'f"({count})"')},
    ),
    Fault(
        "infinity is accepted",
        "test_structuring.py::test_wrong_values_inside",
        {
            "_structuring:": replace(
                '"({}).__class__ is float and v * 0.0 == 0.0 or v.__class__ is int"',
                '"({}).__class__ is float or v.__class__ is int"',
            )
        },
    ),
    Fault(
        "unknown members are dropped",
        "test_structuring.py::test_round_trip",
        {"_structuring:Structurer.build": drop("freeze(...)")},
    ),
    Fault(
        "a value of a wrong type is dropped",
        "test_structuring.py::test_a_wrong_value_is_kept",
        {
            "_structuring:Structurer.read_members": rewrite(
                "_kept(value)", "_, remark = _kept(value)"
            )
        },
    ),
    Fault(
        "problems are not reported",
        "test_structuring.py::test_a_wrong_value_is_kept",
        {"_structuring:with_problems": argument("problems", "()")},
    ),
    Fault(
        "a next link of a wrong type is taken for the end",
        "test_structuring.py::test_wrong_members_of_page_meta",
        {"_structuring:read_page_meta": omit('problem.path == ".next_page_url"')},
    ),
    Fault(
        "what is made by hand is not checked",
        "test_structuring.py::test_wrong_values_by_hand",
        {"_on_demand:_OnDemand.__init__.write": replace("check(...)", "value")},
    ),
    Fault(
        "names in paths are not escaped",
        "test_structuring.py::test_names_in_paths_are_printable",
        {"_json_values:member_path": always("name.isprintable()")},
    ),
    Fault(
        "a label is shown",
        "test_models.py::test_repr_masks_personal_data",
        {"models:Participant": assign("label", "attrs.field(default=None)")},
    ),
    Fault(
        "a gateway's 5xx is final",
        "test_errors.py::test_statuses",
        {
            "errors:": replace(
                "StatusRule(ServerError, _SERVER, transient=True)",
                "StatusRule(ServerError, _SERVER)",
            )
        },
    ),
    Fault(
        "a copy of an error loses its cause",
        "test_errors.py::test_copies_keep_their_cause",
        {"errors:copied": drop("error.__cause__")},
    ),
]
