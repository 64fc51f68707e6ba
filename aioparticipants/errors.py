"""Everything that can go wrong, as one family.

InsightsError
├── InvalidRequestError (ValueError)      the caller's misuse; nothing was sent
├── SessionClosedError (RuntimeError)
├── TransportError (ConnectionError)      no usable reply
│   └── RequestTimeoutError (TimeoutError)
├── DeadlineExceededError (TimeoutError)
├── APIStatusError                        Twilio answered, with a status that is not success
│   ├── BadRequestError 400
│   │   └── CursorExpiredError            the page that a list was to be resumed on is gone
│   ├── AuthenticationError 401
│   ├── PermissionDeniedError 403   NotFoundError 404
│   ├── RateLimitError 429
│   └── ServerError 5xx
├── ResponseError                         a 2xx that is not what the API promises
└── PaginationError                       a next link that leads elsewhere or round in a circle

Rules of this file:

1. One class for each thing that a caller can do about it; builtin parents where they are natural.
2. Every error survives `pickle` and `copy`: the message is the only positional argument, all else
   lives in `__dict__`, so that `BaseException.__reduce__` restores it.
3. No error shows a credential, a phone number, a label or a query string. What the server said
   (`APIStatusError.message`, `.details`) can echo the caller's input; it is kept on attributes and
   stays out of `str` and `repr`.
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
    "TransportError",
    "copied",
    "status_error_class",
]

#: Asking again may help. 408 and 5xx are the usual transient statuses (RFC 9110, 15.5.9 and 15.6);
#: 429 is Twilio's 20429, "not processed, safe to retry":
#: https://www.twilio.com/docs/api/errors/20429
TRANSIENT_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})


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

    `transient` is False where the certificate was refused: asking again cannot mend that.
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
        self.transient: bool = status in TRANSIENT_STATUSES


class BadRequestError(APIStatusError):
    """400: the server did not accept a parameter."""


class CursorExpiredError(BadRequestError):
    """400 to the first request of a resumed list: Twilio does not accept its page token any more.

    Begin the conference anew, without `resume`.
    """


class AuthenticationError(APIStatusError):
    """401: wrong credentials, or Voice Insights Advanced Features are off for the account."""


class PermissionDeniedError(APIStatusError):
    """403: the credentials are known, and not allowed to do this."""


class NotFoundError(APIStatusError):
    """404: no such conference, or one that is older than 30 days."""


class RateLimitError(APIStatusError):
    """429: too many requests of the account in flight (Twilio's 20429)."""


class ServerError(APIStatusError):
    """5xx: the fault is Twilio's."""


class ResponseError(InsightsError):
    """A success whose body is not what the API promises.

    Attributes:
        path: where in the JSON body, as in `participants[3].duration_seconds`; None where the
            body as a whole is meant.
        cursor_after: where the list goes on behind a bad record, for `resume=`; None where no
            single record is meant, what follows it cannot be read, or the good records before it
            were not delivered (`await`, `all()`, and a fan-out with `on_error="raise"`).
        transient: True where the body was cut off or was no JSON at all.
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


_STATUS_CLASSES: Final[Mapping[int, type[APIStatusError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
}


def status_error_class(status: int) -> type[APIStatusError]:
    """Return the class that stands for an HTTP status."""
    usual = ServerError if status in range(500, 600) else APIStatusError
    return _STATUS_CLASSES.get(status, usual)
