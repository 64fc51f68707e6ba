"""All errors of this package, in one tree.

InsightsError
├── InvalidRequestError (ValueError)      the caller's misuse; nothing was sent
├── SessionClosedError (RuntimeError)
├── TransportError (ConnectionError)      no usable reply
│   └── RequestTimeoutError (TimeoutError)
├── DeadlineExceededError (TimeoutError)
├── APIStatusError                        Twilio answered, with a status that is not success
│   ├── BadRequestError 400
│   │   └── CursorExpiredError            Twilio refused the page token of a cursor
│   ├── AuthenticationError 401
│   ├── PermissionDeniedError 403   NotFoundError 404
│   ├── RateLimitError 429
│   └── ServerError 5xx
├── ResponseError                         a 2xx that is not what the API promises
└── PaginationError                       a next link to another place, or a loop in the pagination

1. There is one class for each reaction of a caller. A class has a builtin parent where one fits.
2. Every error survives `pickle` and `copy`: the message is the only positional argument, and
   `BaseException.__reduce__` restores everything else from `__dict__`. `copied` also keeps the
   `__cause__`, an exception raised by the user's own code.
3. No error shows a credential, a phone number, a label, a conference's name or a query string. The
   server's own text (`APIStatusError.message`, `.details`) can repeat the caller's input, so it is
   kept in attributes and left out of `str` and `repr`.
4. One table says what each HTTP status means: its class, whether a retry may help, and the remedy.
   The errors' messages, their `transient` and the retry policy all use it. A second table has the
   remedies of those of Twilio's own codes that say more than the status does.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final, TypedDict, TypeVar, Unpack

import attrs

from ._field_docs import documented

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
    "remedy_of",
    "status_rule",
]


@documented
@attrs.frozen
class Attempt:
    """One attempt at a request, as in `InsightsError.attempts`."""

    outcome: str
    """`"HTTP 503"` (or another status), or the name of the error."""
    seconds: float
    """The duration of the attempt in seconds, without waiting for a slot."""
    delay: float | None = None
    """Seconds of the wait before the next attempt; None after the last."""


class _Circumstances(TypedDict, total=False):
    """The keyword arguments that all errors have in common."""

    conference_sid: str | None
    request_id: str | None
    attempts: Sequence[Attempt]
    cursor: str | None


class InsightsError(Exception):
    """The base class of all errors that this package raises.

    Attributes:
        conference_sid: the conference of the request, if known.
        request_id: Twilio's id of the last request (`Twilio-Request-Id`), if known. Twilio's
            support asks for it.
        attempts: the attempts at the request that failed, oldest first.
        cursor: where the list stopped, for `resume=`; None if the error does not come from a list.
        transient: True if the same request may succeed later. This package retries only transient
            errors; a worker may put the job back into its queue.
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
    """The caller made a mistake: a wrong SID, size, setting or use. Nothing was sent."""


class SessionClosedError(InsightsError, RuntimeError):
    """The session was closed before the call, or during it."""


class TransportError(InsightsError, ConnectionError):
    """No usable reply: refused, reset, cut off, an unknown host, or not HTTP.

    It also stands for an exception of the user's own code within a request, such as a trace hook, a
    connector, a shared limiter or a credentials provider. The message names its class, and
    `__cause__` is the exception.

    `transient` is False if retrying cannot fix it: the server's certificate was refused, or a
    proxy rejected the request (403, 407).
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
    """The `deadline` passed. `attempts` shows what the time was spent on."""

    transient = True


class APIStatusError(InsightsError):
    """Twilio answered with a status that is not success.

    Attributes:
        status: the HTTP status.
        code: Twilio's own error code (20003, 20429, …), never the status; None if the body has
            none. https://www.twilio.com/docs/api/errors lists the codes.
        message: the server's message. It can repeat the caller's input, so `str` leaves it out.
        more_info: the URL of Twilio's page about the code.
        details: all members of the error body, as the server sent them.
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
    """400: Twilio did not accept a parameter."""


class CursorExpiredError(BadRequestError):
    """400 on the first request of a resumed list: Twilio refused the cursor's page token.

    Twilio issues the page tokens, and they expire. Retrying cannot fix it: read the conference
    again without `resume`, from its first record.
    """


class AuthenticationError(APIStatusError):
    """401: wrong credentials, or Voice Insights Advanced Features are off for the account.

    `code` tells them apart: 20003 for wrong credentials; 17000 and 17007 for Advanced Features. A
    `PermissionDeniedError` or `NotFoundError` can have these codes, too.

    Also for a token request that is refused because of its client id or secret: there the status
    can be 400 or 403, too (RFC 6749, 5.2).
    """


class PermissionDeniedError(APIStatusError):
    """403: the credentials are valid, but not allowed to do this."""


class NotFoundError(APIStatusError):
    """404: the conference does not exist, is older than 30 days, or ended too recently.

    Twilio can take up to 30 minutes after the end of a conference to make its summaries: after a
    404 within that time, try again later. A 404 is not `transient`: a wrong SID gets the same
    answer, and a retry within a minute or two would not help.
    https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-summary-resource
    """


class RateLimitError(APIStatusError):
    """429: too many requests of the account were in flight (Twilio's error 20429)."""


class ServerError(APIStatusError):
    """5xx: a fault of Twilio, or of a proxy or gateway in between.

    HTTP has no status from 600 on; such a status is treated as a 5xx (RFC 9110, 15).
    """


class ResponseError(InsightsError):
    """A 2xx reply whose body is not what the API promises; or such a push (`event_streams`).

    Attributes:
        path: the place in the JSON body, such as `participants[3].duration_seconds`; None if the
            whole body is wrong.
        cursor_after: the cursor after the bad record, for `resume=`; None if no single record is
            bad, if the records after it cannot be read, or if the good records before it were not
            delivered (`await`, `all()`, and a fan-out with `on_error="raise"`).
        transient: True if the body was cut off or malformed before its first record, or was about
            another conference, list or participant.
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
    """A next link leads to another place than the list, or to a page already seen (a loop)."""


E = TypeVar("E", bound=BaseException)


def copied(error: E) -> E:
    """Return a copy of an error, without its traceback but with its `__cause__`.

    An error that is kept and raised again must be copied: its traceback refers to the frames that
    it passed through.
    """
    duplicate = copy.copy(error)  # without the `__cause__`
    duplicate.__cause__ = error.__cause__
    return duplicate


@attrs.frozen
class StatusRule:
    """What an HTTP status means."""

    kind: type[APIStatusError]
    """The error class."""
    remedy: str
    """What to do about it, in whole sentences."""
    transient: bool = False
    """Whether the same request may succeed later; only then it is retried."""


_SERVER: Final = "The fault is Twilio's; try again later (https://status.twilio.com)."

#: The statuses with a rule of their own; all others follow `_CLASSES`.
#: 401 https://www.twilio.com/docs/api/errors/20003 and, about Advanced Features,
#:     https://www.twilio.com/docs/voice/voice-insights/frequently-asked-questions
#: 404 https://www.twilio.com/docs/api/errors/20404 and, about summaries that come later,
#:     https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-summary-resource
#: 408 the server stopped waiting for the request; a client may send it again (RFC 9110, 15.5.9)
#: 429 https://www.twilio.com/docs/api/errors/20429: "not processed, safe to retry"
#: 501 and 505: the server will never do this, so a retry cannot help
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
        "The credentials are valid, but not allowed to read this: check whether the key is "
        "restricted, or the account suspended (https://www.twilio.com/docs/api/errors/20403).",
    ),
    404: StatusRule(
        NotFoundError,
        "Check the conference SID and the account it belongs to; Voice Insights keeps a conference "
        "for 30 days. A summary can take up to 30 minutes after the end: if the conference ended "
        "more recently, try again later (https://www.twilio.com/docs/api/errors/20404).",
    ),
    407: StatusRule(
        APIStatusError,
        "A proxy in between asks for credentials: give proxy='http://user:password@host:port'.",
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
        f"The reply took too long: set a smaller page_size, which is faster. {_SERVER}",
        transient=True,
    ),
    505: StatusRule(
        ServerError,
        "The server does not speak HTTP/1.1: check base_url, and any proxy or gateway in between.",
    ),
}
#: The first status of each class, with the rule for all statuses of the class that are not above.
#: 5xx: most are transient, also those that load balancers and CDNs add (509, 520 to 530, 599).
#: From 600 on: "A client that receives a response with an invalid status code SHOULD process the
#: response as if it had a 5xx (Server Error) status code" (RFC 9110, 15).
_CLASSES: Final = (
    (500, StatusRule(ServerError, _SERVER, transient=True)),
    (400, StatusRule(APIStatusError, "See .code and .message for Twilio's explanation.")),
    (
        300,
        StatusRule(
            APIStatusError,
            "Redirects are not followed, because they would send the credentials elsewhere.",
        ),
    ),
)
_NOT_FINAL: Final = StatusRule(
    APIStatusError,
    "This status is no answer to a request: check base_url, and any proxy or gateway in between.",
)


#: Remedies by Twilio's code, each from Twilio's page about it.
#: 20003 is the code of the test server, and of any Twilio API, for credentials that are refused.
_CODES: Final[Mapping[int, str]] = {
    17000: (
        "Voice Insights Advanced Features are off for the account, or the conference belongs to "
        "another account: a parent account can read its subaccounts, but a subaccount neither its "
        "parent nor another subaccount. Turn Advanced Features on, which makes later calls "
        "readable, or use the credentials of the account that made the call "
        "(https://www.twilio.com/docs/api/errors/17000)."
    ),
    17007: (
        "The call ended before Voice Insights Advanced Features were turned on for the account, so "
        "it cannot be read. Calls made while they are on can be "
        "(https://www.twilio.com/docs/api/errors/17007)."
    ),
    20003: (
        "Twilio refused the credentials: they are wrong, deleted, or of another region than "
        "base_url. Check the Account SID and its Auth Token, or the API key and its secret, for "
        "the region, and whether the account is active "
        "(https://www.twilio.com/docs/api/errors/20003)."
    ),
}
_CLIENT_ERRORS: Final = range(400, 500)


def status_rule(status: int) -> StatusRule:
    """Return what an HTTP status that is not success means."""
    of_class = (rule for first, rule in _CLASSES if status >= first)
    return _RULES.get(status) or next(of_class, _NOT_FINAL)


def remedy_of(status: int, code: int | None) -> str:
    """Return what to do about a status, where Twilio's own code, if there is one, may say more."""
    rule = status_rule(status)
    if code is None or status not in _CLIENT_ERRORS or rule.transient:
        return rule.remedy
    return _CODES.get(code, rule.remedy)
