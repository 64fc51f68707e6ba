"""Faults in `_transport` and `_transport_errors`, and in the checks of their numbers."""

from __future__ import annotations

from engine import Fault, argument, body, drop, insert_after, never, replace, returns

FAULTS = [
    Fault(
        "a request counts as sent before it has a connection",
        "test_session.py::test_next_request_is_sent_before_the_delivery",
        {"_transport:Transport._session": insert_after("_sent.set(sent)", "sent.set()")},
    ),
    Fault(
        "aiohttp's errors are chained to ours",
        "test_security.py::test_transport_chains_nothing",
        {"_transport:Transport.send": insert_after("translated(...)", "raise failure from error")},
    ),
    Fault(
        "redirects are followed",
        "test_security.py::test_redirects_are_not_followed",
        {"_transport:Transport._exchange": argument("allow_redirects", "True")},
    ),
    Fault(
        "bodies have no limit",
        "test_faults.py::test_largest_body",
        {"_transport:_read": never("size > largest")},
    ),
    Fault(
        "cookies are kept",
        "test_security.py::test_cookies_are_not_sent_back",
        {"_transport:": argument("cookie_jar", None)},
    ),
    Fault(
        "the environment is trusted",
        "test_security.py::test_netrc_is_not_used",
        {"_transport:": argument("trust_env", "True")},
    ),
    Fault(
        "a lookup has no time limit",
        "test_transport_errors.py::test_dns_that_hangs",
        {"_transport:_Resolver.resolve": replace("asyncio.timeout(...)", "asyncio.timeout(None)")},
    ),
    Fault(
        "the connection of a reply stays open",
        "test_transport_errors.py::test_closing_the_connection_of_a_reply",
        {"_transport:_closer": body("return do_nothing")},
    ),
    Fault(
        "an int that no float can hold is accepted",
        "test_numbers.py::test_invalid_seconds",
        {
            "_arguments:checked_seconds": replace(
                "0 <= number <= sys.float_info.max", '0 <= number < float("inf")'
            )
        },
    ),
    Fault(
        "a refused certificate is tried again",
        "test_faults.py::test_certificate_that_is_refused",
        {
            "_transport_errors:_fault": returns(
                '"the server\'s certificate was refused"',
                '"the server\'s certificate was refused", remedy, True',
            )
        },
    ),
    Fault(
        "a trace hook's exception is taken for aiohttp's",
        "test_transport_errors.py::test_what_a_trace_hook_raises",
        {"_transport_errors:_raised_by_user": never("_is_of_hook(each)")},
    ),
    Fault(
        "a connector's exception is taken for aiohttp's",
        "test_transport_errors.py::test_what_a_connector_raises",
        {"_transport_errors:_raised_by_user": returns("_is_of_somebody_else(raised)", "None")},
    ),
    Fault(
        "a trace hook's error swallows a cancellation",
        "test_transport_errors.py::test_a_cancellation_that_a_trace_hook_answers_by_an_error",
        {"_transport_errors:cancellation_behind": returns("_is_cancelled()", "None")},
    ),
    Fault(
        "aiohttp's frames stay in a user's exception",
        "test_transport_errors.py::test_what_a_trace_hook_raises",
        {"_transport_errors:_hide_aiohttp": drop("_users_frames(...)")},
    ),
    Fault(
        "any RuntimeError is taken for a closed session",
        "test_transport_errors.py::test_a_lent_session_of_another_loop",
        {
            "_transport_errors:_of_aiohttp": replace(
                "closed", "closed or isinstance(error, RuntimeError)"
            )
        },
    ),
    Fault(
        "a defect of the package is taken for a fault of the network",
        "test_transport_errors.py::test_our_own_defects_propagate",
        {"_transport_errors:_is_defect": body("return False")},
    ),
]
