"""Faults in `_paging`."""

from __future__ import annotations

from engine import Fault, argument, drop, never, omit, replace, returns

_FOLLOWING = "_paging:Pager._following"
_PROGRESS = "_paging:Pager._check_progress"

FAULTS = [
    # --- The next link ---
    Fault(
        "a lost next link is taken for the end",
        "test_paging.py::test_bodies_that_are_no_page",
        {"_paging:Pager._parts": never('"next_page_url" not in meta')},
    ),
    Fault(
        "an empty next link is refused",
        "test_paging.py::test_last_page",
        {_FOLLOWING: replace("not link", "link is None")},
    ),
    Fault(
        "the path of a next link is not compared",
        "test_paging.py::test_hostile_links",
        {"_paging:_leads_to": omit("parts.path.lower() == path.lower()")},
    ),
    Fault(
        "the case of a next link's path matters",
        "test_paging.py::test_the_case_of_a_link",
        {"_paging:_leads_to": replace("parts.path.lower() == path.lower()", "parts.path == path")},
    ),
    Fault(
        "the host of a next link is used",
        "test_security.py::test_next_links_to_another_host_are_asked_for_here",
        {
            _FOLLOWING: argument("path", 'link.partition("?")[0]'),
            "_paging:_leads_to": replace(
                "parts.path.lower() == path.lower()", "parts.path.endswith(path)"
            ),
            "_transport:Transport._url": [
                replace(
                    "URL(...)",
                    'URL(("" if "://" in request.path else self._base_url)'
                    ' + f"{request.path}?{request.query}", encoded=True)',
                ),
                never("own"),
            ],
        },
    ),
    # --- Loops ---
    Fault(
        "a next link to an earlier page is followed",
        "test_paging.py::test_loops",
        {_FOLLOWING: never("_seen.setdefault(...)")},
    ),
    Fault(
        "the next link of another attempt at a page is taken for a loop",
        "test_paging.py::test_another_attempt_at_a_page",
        {
            _FOLLOWING: replace(
                "self._seen.setdefault(query, request.query) != request.query",
                "(query in self._seen, self._seen.setdefault(query, request.query))[0]",
            )
        },
    ),
    Fault(
        "a page that repeats the one before it is delivered",
        "test_paging.py::test_a_page_that_repeats_the_one_before",
        {_PROGRESS: never("before[1] == look[1]")},
    ),
    Fault(
        "another attempt at a page is taken for a repeated page",
        "test_paging.py::test_another_attempt_at_a_page",
        {_PROGRESS: omit("before[0] != look[0]")},
    ),
    Fault(
        "empty pages may go on without an end",
        "test_paging.py::test_empty_pages",
        {_FOLLOWING: never("_empty_pages > _")},
    ),
    Fault(
        "empty pages are counted over the whole list",
        "test_paging.py::test_empty_pages",
        {_PROGRESS: drop("self._empty_pages = 0")},
    ),
    # --- Another conference ---
    Fault(
        "the page of another conference is delivered",
        "test_paging.py::test_pages_of_another_conference",
        {"_paging:Pager.page": never("_is_of_another(...)")},
    ),
    Fault(
        "the page of another conference is not tried again",
        "test_paging.py::test_pages_of_another_conference",
        {"_paging:_mixed_up": argument("transient", None)},
    ),
    Fault(
        "the conference of a nested object is taken for the record's own",
        "test_paging.py::test_pages_that_name_no_other_conference",
        {"_paging:_is_of_another": returns("_first_conference(records)", "True")},
    ),
]
