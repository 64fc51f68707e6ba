"""What a reply means: a page's envelope, or the error that says why not.

1. Only 200 is success. Redirects are not followed: a redirect would take the credentials along.
2. The HTTP status decides what kind of error it is; the body only adds to it. Bodies come as
   Twilio's legacy `{code, message, more_info, status}`, as RFC 9457 problem details with every
   member optional, as `{"errors": [{code, message, infoUrl}]}`, as a CDN's HTML, or as nothing.
3. A body that is cut off or is no JSON is transient: the same request may well succeed. What JSON
   is, and how much of a body is read at once, is `_decoding`'s to say.
4. Errors are raised outside `except` blocks, so that no chained exception holds the body.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, TypeVar, cast

from ._decoding import decoded, envelope
from .errors import ResponseError, status_error_class

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from ._decoding import ChunkDecoder, Envelope
    from ._messages import Request, Response
    from .errors import APIStatusError

__all__ = ["page_envelope", "retry_after"]

_T = TypeVar("_T")

_OK: Final = 200
#: The classes of statuses: RFC 9110, 15.
_SUCCESSES, _REDIRECTS, _SERVER_ERRORS = range(200, 300), range(300, 400), range(500, 600)

#: What to do about it, by status. The causes are Twilio's own words:
#: 401 https://www.twilio.com/docs/api/errors/20003 and, for Advanced Features,
#:     https://www.twilio.com/docs/voice/voice-insights/frequently-asked-questions
#: 429 https://www.twilio.com/docs/api/errors/20429
_REMEDIES: Final[Mapping[int, str]] = {
    400: "Twilio did not accept a parameter of the request; see .code and .message.",
    401: (
        "Check the key and its secret, that the key belongs to this region, and that Voice "
        "Insights Advanced Features were on for the account when the call was made "
        "(https://www.twilio.com/docs/api/errors/20003)."
    ),
    403: (
        "The credentials are known, but may not read this: check whether the key is restricted, or "
        "the account suspended (https://www.twilio.com/docs/api/errors/20403)."
    ),
    404: (
        "Check the conference SID and the account it belongs to; Voice Insights keeps a "
        "conference for 30 days (https://www.twilio.com/docs/api/errors/20404)."
    ),
    429: (
        "Too many requests of the account were in flight at once; lower max_concurrency "
        "(https://www.twilio.com/docs/api/errors/20429)."
    ),
}
_REDIRECT: Final = "Redirects are not followed, as they would take the credentials along."
_BETWEEN: Final = "Check base_url, and what stands between here and Twilio."
_SERVER: Final = "The fault is Twilio's; try again later (https://status.twilio.com)."

# RFC 9110, 10.2.3 knows whole seconds and a date; servers also send decimals. Nothing that
# `float` would turn into nan or inf matches.
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_LONGEST_HEADER: Final = 64


def page_envelope(
    response: Response,
    request: Request,
    *,
    key: str,
    decode: ChunkDecoder | None,
    now: Callable[[], float],
) -> Generator[None, None, Envelope]:
    """Read the envelope of the page that a success is, with pauses for a page that is unusual.

    Args:
        response: the reply.
        request: what it answers, for the errors.
        key: the member that holds the records.
        decode: what decodes them; None for `json`.
        now: the time in seconds since the epoch, for a `Retry-After` that names a date.

    Raises:
        APIStatusError: the status is not success.
        ResponseError: the body is not an envelope, as far as can be seen before its records.
    """
    if response.status == _OK:
        try:
            return (yield from envelope(response.body, key, decode))
        except ResponseError as error:
            failure = error.with_traceback(None)
        failure.conference_sid, failure.request_id = request.conference_sid, response.request_id
        raise failure
    if response.status in _SUCCESSES:
        message = f"The API promises 200 with a body, and answered {response.status}. {_BETWEEN}"
        raise ResponseError(
            message, conference_sid=request.conference_sid, request_id=response.request_id
        )
    raise _status_error(response, request, now)


def retry_after(headers: Mapping[str, str], *, now: Callable[[], float]) -> float | None:
    """Return the seconds that `Retry-After` asks to wait, None where it is absent or nonsense.

    A date counts from the reply's own `Date`, where there is one, so that a wrong clock on either
    side does no harm. A date in the past is 0. (RFC 9110, 10.2.3 and 5.6.7: three forms of date.)
    """
    value = headers.get("Retry-After", "").strip()
    if not value or len(value) > _LONGEST_HEADER:
        return None
    if _SECONDS.fullmatch(value):
        return float(value)
    until = _timestamp(value)
    if until is None:
        return None
    sent = _timestamp(headers.get("Date", ""))
    return max(0.0, until - (now() if sent is None else sent))


def _timestamp(value: str) -> float | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # the latter: a number in it is past any calendar
        return None
    # The third form, asctime's, names no zone; all three mean UTC.
    return date.replace(tzinfo=UTC).timestamp()


def _status_error(response: Response, request: Request, now: Callable[[], float]) -> APIStatusError:
    status = response.status
    members = _error_members(response.body)
    code = _member(members, int, "code")
    named = f"HTTP {status}" if code is None else f"HTTP {status}, Twilio error {code}"
    return status_error_class(status)(
        f"{named}. {_remedy(status)}",
        status=status,
        code=code,
        message=_member(members, str, "message", "detail", "title"),
        more_info=_member(members, str, "more_info", "moreInfo", "infoUrl", "type"),
        details=members,
        retry_after=retry_after(response.headers, now=now),
        conference_sid=request.conference_sid,
        request_id=response.request_id,
    )


def _remedy(status: int) -> str:
    if status in _REDIRECTS:
        return _REDIRECT
    if status in _SERVER_ERRORS:
        return _SERVER
    return _REMEDIES.get(status, "See .code and .message for what Twilio says of it.")


def _error_members(body: bytes | bytearray) -> dict[str, object]:
    """Return the members of an error body; of `{"errors": [...]}`, the first error's among them."""
    try:
        parsed = decoded(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(parsed, dict):
        return {}
    members = cast("dict[str, object]", parsed)
    errors = members.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        return {**cast("dict[str, object]", errors[0]), **members}
    return members


def _member(members: Mapping[str, object], kind: type[_T], *names: str) -> _T | None:
    """Return the first member of that type; error bodies promise nothing about theirs."""
    for name in names:
        value = members.get(name)
        if type(value) is kind:  # exactly: a bool is no int here
            return value
    return None
