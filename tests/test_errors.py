"""The tree of errors, what statuses mean, and pickle and copy."""

from __future__ import annotations

import copy
import pickle

import pytest

from aioparticipants import errors
from aioparticipants.errors import (
    APIStatusError,
    Attempt,
    BadRequestError,
    InsightsError,
    ResponseError,
    TransportError,
    copied,
    status_rule,
)

CLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, InsightsError)
]
COMMON = {
    "conference_sid": "CF" + "a" * 32,
    "request_id": "RQ" + "b" * 32,
    "attempts": (Attempt("HTTP 503", 0.25, 1.5), Attempt("RequestTimeoutError", 30.0)),
    "cursor": "1.cursor",
}


#: Arguments of a class and its subclasses, none of them its default.
OWN = {
    APIStatusError: {
        "status": 429,
        "code": 20429,
        "message": "Too Many Requests",
        "more_info": "https://www.twilio.com/docs/errors/20429",
        "details": {"status": 429},
        "retry_after": 1.5,
    },
    ResponseError: {"path": "participants[3].to", "cursor_after": "1.after", "transient": True},
    TransportError: {"transient": False},
    InsightsError: {},
}


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    "travel", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_pickle_and_copy(kind, travel):
    """Every error keeps its class, message and attributes through pickle and copy."""
    own = next(arguments for parent, arguments in OWN.items() if issubclass(kind, parent))
    error = kind("summary", **own, **COMMON)

    arrived = travel(error)

    assert type(arrived) is kind
    assert str(arrived) == "summary"
    assert vars(arrived) == vars(error)
    assert arrived.attempts == COMMON["attempts"]


@pytest.mark.parametrize(
    ("name", "parents"),
    [
        ("InvalidRequestError", (InsightsError, ValueError)),
        ("SessionClosedError", (InsightsError, RuntimeError)),
        ("TransportError", (InsightsError, ConnectionError)),
        ("RequestTimeoutError", (TransportError, TimeoutError)),
        ("DeadlineExceededError", (InsightsError, TimeoutError)),
        ("ResponseError", (InsightsError,)),
        ("PaginationError", (InsightsError,)),
        ("RateLimitError", (APIStatusError,)),
        ("CursorExpiredError", (BadRequestError, APIStatusError)),
    ],
)
def test_tree(name, parents):
    """Each error is a subclass of its parent in the tree, and of the builtin that fits."""
    assert all(issubclass(getattr(errors, name), parent) for parent in parents)


@pytest.mark.parametrize(
    ("status", "name", "transient"),
    [
        *((n, "APIStatusError", False) for n in (0, 101, 302, 407, 409)),
        (400, "BadRequestError", False),
        (401, "AuthenticationError", False),
        (403, "PermissionDeniedError", False),
        (404, "NotFoundError", False),
        (408, "APIStatusError", True),
        (429, "RateLimitError", True),
        *((n, "ServerError", True) for n in (500, 502, 503, 504)),
        *((n, "ServerError", False) for n in (501, 505)),
        *((n, "ServerError", True) for n in (506, 509, 520, 524, 529, 530, 598, 599, 600, 999)),
    ],
)
def test_statuses(status, name, transient):
    """A status determines the error class, and whether a retry may help."""
    rule = status_rule(status)
    error = rule.kind("summary", status=status)

    assert type(error).__name__ == name
    assert error.transient is rule.transient is transient
    assert rule.remedy.endswith(".")


def test_copies_keep_their_cause():
    """A copy has the cause of the error, if there is one."""
    error = TransportError("summary")
    assert copied(error).__cause__ is None
    error.__cause__ = KeyError("of the user's code")

    assert copied(error).__cause__ is error.__cause__
