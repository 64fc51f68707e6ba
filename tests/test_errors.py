"""The family of errors: one tree, and no loss in pickle or copy."""

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
    TransportError,
    copied,
    status_rule,
)

CLASSES = sorted(
    (
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, InsightsError)
    ),
    key=lambda kind: kind.__name__,
)
COMMON = {
    "conference_sid": "CF" + "a" * 32,
    "request_id": "RQ" + "b" * 32,
    "attempts": (Attempt("HTTP 503", 0.25, 1.5), Attempt("RequestTimeoutError", 30.0)),
    "cursor": "1.cursor",
}


def full(kind: type[InsightsError]) -> InsightsError:
    """Return an error of that class with every field set."""
    if issubclass(kind, APIStatusError):
        return kind(
            "summary",
            status=429,
            code=20429,
            message="Too Many Requests",
            more_info="https://www.twilio.com/docs/errors/20429",
            details={"status": 429},
            retry_after=1.5,
            **COMMON,
        )
    own = {}
    if kind is errors.ResponseError:
        own = {"path": "participants[3].to", "cursor_after": "1.after", "transient": True}
    elif issubclass(kind, TransportError):
        own = {"transient": False}  # none of it by default
    return kind("summary", **own, **COMMON)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    "travel", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_errors_travel(kind, travel):
    """Every error keeps its class, message and fields through pickle and copy."""
    error = full(kind)

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
    """Each error is caught by the class the contract names, and by its natural builtin."""
    assert all(issubclass(getattr(errors, name), parent) for parent in parents)


@pytest.mark.parametrize(
    ("status", "name", "transient"),
    [
        (0, "APIStatusError", False),
        (101, "APIStatusError", False),
        (302, "APIStatusError", False),
        (400, "BadRequestError", False),
        (401, "AuthenticationError", False),
        (403, "PermissionDeniedError", False),
        (404, "NotFoundError", False),
        (407, "APIStatusError", False),
        (408, "APIStatusError", True),
        (409, "APIStatusError", False),
        (429, "RateLimitError", True),
        (500, "ServerError", True),
        (501, "ServerError", False),
        (502, "ServerError", True),
        (503, "ServerError", True),
        (504, "ServerError", True),
        (505, "ServerError", False),
        *((status, "ServerError", True) for status in (506, 509, 520, 524, 529, 530, 598, 599)),
        *((status, "ServerError", True) for status in (600, 999)),
    ],
)
def test_statuses(status, name, transient):
    """A status decides the class and whether asking again may help."""
    rule = status_rule(status)
    error = rule.kind("summary", status=status)

    assert type(error).__name__ == name
    assert error.transient is rule.transient is transient
    assert rule.remedy.endswith(".")


def test_copies_keep_their_cause():
    """A copy that is made to be raised has the same cause, and one without a cause has none."""
    error = TransportError("summary")
    assert copied(error).__cause__ is None
    error.__cause__ = KeyError("theirs")

    assert copied(error).__cause__ is error.__cause__
