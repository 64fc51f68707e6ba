"""Faults in `_transport` and `_transport_errors`."""

from __future__ import annotations

from engine import Fault, argument, body, drop, never, replace, returns, rewrite

FAULTS = [
    Fault(
        "redirects are followed",
        "test_session.py test_security.py",
        {"_transport:": argument("allow_redirects", "True")},
    ),
    Fault(
        "bodies have no bound",
        "test_session.py test_faults.py",
        {"_transport:": never("size > LARGEST_BODY")},
    ),
    Fault(
        "cookies are kept",
        "test_security.py",
        {"_transport:": argument("cookie_jar", None)},
    ),
    Fault(
        "the environment is trusted",
        "test_security.py",
        {"_transport:": argument("trust_env", "True")},
    ),
    Fault(
        "a lookup has no bound",
        "test_transport_errors.py",
        {"_transport:_Resolver.resolve": replace("asyncio.timeout(...)", "asyncio.timeout(None)")},
    ),
    Fault(
        "the connection of a reply stays open",
        "test_transport_errors.py",
        {"_transport:_closer": body("return do_nothing")},
    ),
    Fault(
        "an int that no float can hold is accepted",
        "test_numbers.py",
        {"_transport:": replace("sys.float_info.max", 'float("inf")')},
    ),
    Fault(
        "a refused certificate is tried again",
        "test_faults.py",
        {
            "_transport_errors:_fault": returns(
                '"the server\'s certificate was refused"', '"", "", True'
            )
        },
    ),
    Fault(
        "a trace hook's exception is taken for aiohttp's",
        "test_transport_errors.py",
        {"_transport_errors:_raised_by_user": never("_is_of_hook(each)")},
    ),
    Fault(
        "a connector's exception is taken for aiohttp's",
        "test_transport_errors.py",
        {"_transport_errors:_raised_by_user": returns("_is_of_somebody_else(raised)", "None")},
    ),
    Fault(
        "a trace hook's error swallows a cancellation",
        "test_transport_errors.py",
        {"_transport_errors:_cancellation_behind": returns("_is_cancelled()", "None")},
    ),
    Fault(
        "aiohttp's frames stay in a user's exception",
        "test_transport_errors.py",
        {"_transport_errors:_hide_aiohttp": drop("_users_frames(...)")},
    ),
    Fault(
        "any RuntimeError is taken for a closed session",
        "test_transport_errors.py",
        {
            "_transport_errors:_of_aiohttp": rewrite(
                "closed_meanwhile(conference_sid)",
                "if closed or isinstance(error, RuntimeError):\n"
                "    return closed_meanwhile(conference_sid)",
            )
        },
    ),
    Fault(
        "a defect of the package is taken for a fault of the network",
        "test_transport_errors.py",
        {"_transport_errors:_is_defect": body("return False")},
    ),
]
