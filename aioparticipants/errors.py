"""Everything that can go wrong, as one family.

InsightsError
├── InvalidRequestError (ValueError)      the caller's misuse; nothing was sent
├── SessionClosedError (RuntimeError)
├── TransportError (ConnectionError)      no usable reply
│   └── RequestTimeoutError (TimeoutError)
├── DeadlineExceededError (TimeoutError)
├── APIStatusError                        Twilio answered, with a status that is not success
│   ├── BadRequestError 400
│   │   └── CursorExpiredError            the page token of a cursor was refused
│   ├── AuthenticationError 401
│   ├── PermissionDeniedError 403   NotFoundError 404
│   ├── RateLimitError 429
│   └── ServerError 5xx
├── ResponseError                         a 2xx that is not what the API promises
└── PaginationError                       a next link that leads elsewhere or round in a loop

Rules of this file:

1. One class for each thing that a caller can do about it; builtin parents where they are natural.
2. Every error survives `pickle` and `copy`: the message is the only positional argument, all else
   lives in `__dict__`, so that `BaseException.__reduce__` restores it. `copied` keeps its
   `__cause__` as well, which is an exception of the user's own code.
3. No error shows a credential, a phone number, a label or a query string. What the server said
   (`APIStatusError.message`, `.details`) can echo the caller's input; it is kept on attributes and
   stays out of `str` and `repr`.
4. What a status means (its class, whether retrying may help, what to do) stands in one table, which
   the errors' text, their `transient` and the retry policy all read.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final, TypedDict, TypeVar, Unpack

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "APIStatusError",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "CursorExpiredError",
    "DeadlineExceededError",
    "InsightsError",
    "InvalidRequestError",
    "NotFoundError",
    "PaginationError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTimeoutError",
    "ResponseError",
    "ServerError",
    "SessionClosedError",
    "StatusRule",
    "TransportError",
    "copied",
    "status_rule",
]


@attrs.frozen
class Attempt:
    """One try at a request, as the errors' `attempts` list it."""

    outcome: str
    """What came of it: `"HTTP 503"`, or the name of the failure."""
    seconds: float
    """How long it took, in seconds, waiting for a free slot not included."""
    delay: float | None = None
    """Seconds slept after it before the next attempt; None after the last."""


class _Circumstances(TypedDict, total=False):
    """What every error of the family takes besides its message."""

    conference_sid: str | None
    request_id: str | None
    attempts: Sequence[Attempt]
    cursor: str | None


class InsightsError(Exception):
    """Root of every error that this package raises on purpose.

    Attributes:
        conference_sid: the conference that was asked about, where known.
        request_id: Twilio's id of the last request (`Twilio-Request-Id`), where known; give it to
            Twilio's support.
        attempts: the attempts made at the request that failed, oldest first.
        cursor: where the list stopped, for `resume=`; None where nothing was asked for yet.
        transient: True where the same request may well succeed later. What the SDK itself retries
            is transient; a worker may put such a job back into its queue.
    """

    transient: bool = False

    def __init__(
        self,
        message: str,
        *,
        conference_sid: str | None = None,
        request_id: str | None = None,
        attempts: Sequence[Attempt] = (),
        cursor: str | None = None,
    ) -> None:
        super().__init__(message)
        self.conference_sid = conference_sid
        self.request_id = request_id
        self.attempts: tuple[Attempt, ...] = tuple(attempts)
        self.cursor = cursor


class InvalidRequestError(InsightsError, ValueError):
    """The caller's own mistake: a bad SID, size, setting or use. Nothing was sent."""


class SessionClosedError(InsightsError, RuntimeError):
    """The session was closed, before the call or while it waited."""


class TransportError(InsightsError, ConnectionError):
    """No usable reply: refused, reset, cut off, unresolvable, or not HTTP.

    So is what a part of the aiohttp session raises that is the user's own, such as a trace hook or
    a connector: the message names its class, and `__cause__` is the exception itself.

    `transient` is False where retrying cannot fix it: the certificate was refused, or the proxy
    did not let the request through (407, 403).
    """

    def __init__(
        self,
        message: str,
        *,
        transient: bool = True,
        **circumstances: Unpack[_Circumstances],
    ) -> None:
        super().__init__(message, **circumstances)
        self.transient: bool = transient


class RequestTimeoutError(TransportError, TimeoutError):
    """One attempt took longer than the session's `timeout`."""


class DeadlineExceededError(InsightsError, TimeoutError):
    """The time for the whole call was used up; `attempts` tells on what."""

    transient = True


class APIStatusError(InsightsError):
    """Twilio answered with a status that is not success.

    Attributes:
        status: the HTTP status.
        code: Twilio's own error code (20003, 20429, …), never the status; None where the body
            names none. https://www.twilio.com/docs/api/errors lists them.
        message: what the server said. It can echo the caller's input, so `str` does not show it.
        more_info: the address of Twilio's page on the code.
        details: further members of the error body, as the server sent them.
        retry_after: seconds that the server asked to wait (RFC 9110, 10.2.3).
    """

    def __init__(
        self,
        summary: str,
        *,
        status: int = 0,
        code: int | None = None,
        message: str | None = None,
        more_info: str | None = None,
        details: Mapping[str, object] | None = None,
        retry_after: float | None = None,
        **circumstances: Unpack[_Circumstances],
    ) -> None:
        super().__init__(summary, **circumstances)
        self.status = status
        self.code = code
        self.message = message
        self.more_info = more_info
        self.details: dict[str, object] = dict(details or {})
        self.retry_after = retry_after
        self.transient: bool = status_rule(status).transient


class BadRequestError(APIStatusError):
    """400: the server did not accept a parameter."""


class CursorExpiredError(BadRequestError):
    """400 on the first request of a resumed list: Twilio refused the cursor's page token.

    Page tokens are Twilio's own, and it does not accept them for ever. Retrying cannot fix it:
    begin the conference anew, without `resume`. Its records then come again from the first one on.
    """


class AuthenticationError(APIStatusError):
    """401: wrong credentials, or Voice Insights Advanced Features are off for the account."""


class PermissionDeniedError(APIStatusError):
    """403: the credentials are known, and not allowed to do this."""


class NotFoundError(APIStatusError):
    """404: no such conference, or one that is older than 30 days, or one that is too recent.

    Twilio can take up to 30 minutes after the end of a conference to have its summaries. A 404
    before that may just be early: try again later. It is not `transient`, as a wrong SID has the
    same answer, and no retry within a minute or two would help.
    https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-summary-resource
    """


class RateLimitError(APIStatusError):
    """429: too many requests of the account in flight (Twilio's 20429)."""


class ServerError(APIStatusError):
    """5xx: the fault is Twilio's, or that of a proxy or gateway in between.

    A status from 600 on, which HTTP does not have, is treated as a 5xx (RFC 9110, 15).
    """


class ResponseError(InsightsError):
    """A success whose body is not what the API promises.

    Attributes:
        path: where in the JSON body, as in `participants[3].duration_seconds`; None where the
            body as a whole is meant.
        cursor_after: where the list goes on behind a bad record, for `resume=`; None where no
            single record is meant, what follows it cannot be read, or the good records before it
            were not delivered (`await`, `all()`, and a fan-out with `on_error="raise"`).
        transient: True where the body was cut off or no JSON, as far as that shows before its
            first record; and where it was the page of another conference.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        cursor_after: str | None = None,
        transient: bool = False,
        **circumstances: Unpack[_Circumstances],
    ) -> None:
        super().__init__(message, **circumstances)
        self.path = path
        self.cursor_after = cursor_after
        self.transient: bool = transient


class PaginationError(InsightsError):
    """A next link that names another place than the list itself, or a page already seen."""


E = TypeVar("E", bound=BaseException)


def copied(error: E) -> E:
    """Return a copy of an error, to raise: a raised one refers to the frames that it came through.

    `copy.copy` alone leaves out the `__cause__`.
    """
    again = copy.copy(error)
    again.__cause__ = error.__cause__
    return again


@attrs.frozen
class StatusRule:
    """What an HTTP status means here."""

    kind: type[APIStatusError]
    """The class that stands for it."""
    remedy: str
    """What to do about it, in whole sentences."""
    transient: bool = False
    """Whether the same request may well succeed later; what is transient is retried."""


_SERVER: Final = "The fault is Twilio's; try again later (https://status.twilio.com)."

#: Every status that is no success, by number; `_CLASSES` has those that are not in here.
#: 408: the server gave up waiting for the request, and it may be sent again (RFC 9110, 15.5.9).
#: 429: Twilio's 20429, "not processed, safe to retry".
#: 5xx: the usual transient ones, and those that load balancers and CDNs add (509, 520 to 530, 529,
#:     599). 501 and 505 say that the server will never do this.
#: The causes are Twilio's own words:
#: 401 https://www.twilio.com/docs/api/errors/20003 and, for Advanced Features,
#:     https://www.twilio.com/docs/voice/voice-insights/frequently-asked-questions
#: 404 https://www.twilio.com/docs/api/errors/20404 and, for summaries that are not there yet,
#:     https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-summary-resource
#: 429 https://www.twilio.com/docs/api/errors/20429
_RULES: Final[Mapping[int, StatusRule]] = {
    400: StatusRule(
        BadRequestError, "Twilio did not accept a parameter of the request; see .code and .message."
    ),
    401: StatusRule(
        AuthenticationError,
        "Check the key and its secret, that the key belongs to this region, and that Voice "
        "Insights Advanced Features were on for the account when the call was made "
        "(https://www.twilio.com/docs/api/errors/20003).",
    ),
    403: StatusRule(
        PermissionDeniedError,
        "The credentials are known, but may not read this: check whether the key is restricted, or "
        "the account suspended (https://www.twilio.com/docs/api/errors/20403).",
    ),
    404: StatusRule(
        NotFoundError,
        "Check the conference SID and the account it belongs to; Voice Insights keeps a conference "
        "for 30 days. A summary can take up to 30 minutes after the end: if that is less ago, try "
        "again later (https://www.twilio.com/docs/api/errors/20404).",
    ),
    407: StatusRule(
        APIStatusError,
        "A proxy in between wants credentials: give proxy='http://user:password@host:port'.",
    ),
    408: StatusRule(
        APIStatusError,
        "The server waited too long for the request; try again later.",
        transient=True,
    ),
    429: StatusRule(
        RateLimitError,
        "Too many requests of the account were in flight at once; lower max_concurrency "
        "(https://www.twilio.com/docs/api/errors/20429).",
        transient=True,
    ),
    501: StatusRule(
        ServerError,
        "The server does not offer this: check base_url, and any proxy or gateway in between.",
    ),
    504: StatusRule(
        ServerError,
        f"The reply took too long: set a smaller page_size, which is answered sooner. {_SERVER}",
        transient=True,
    ),
    505: StatusRule(
        ServerError,
        "The server does not speak HTTP/1.1: check base_url, and any proxy or gateway in between.",
    ),
}
#: The first status of a class, and what those of it mean that are not above. What is past 599 is no
#: status of HTTP: "A client that receives a response with an invalid status code SHOULD process
#: the response as if it had a 5xx (Server Error) status code" (RFC 9110, 15).
_CLASSES: Final = (
    (500, StatusRule(ServerError, _SERVER, transient=True)),
    (400, StatusRule(APIStatusError, "See .code and .message for what Twilio says of it.")),
    (
        300,
        StatusRule(
            APIStatusError, "Redirects are not followed, as they would take the credentials along."
        ),
    ),
)
_NO_ANSWER: Final = StatusRule(
    APIStatusError,
    "This is no answer to a request: check base_url, and any proxy or gateway in between.",
)


def status_rule(status: int) -> StatusRule:
    """Return what an HTTP status that is no success means."""
    usual = (rule for first, rule in _CLASSES if status >= first)
    return _RULES.get(status) or next(usual, _NO_ANSWER)
