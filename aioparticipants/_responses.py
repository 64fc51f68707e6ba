"""What a reply means: a page's envelope, or the error that says why not.

1. Only 200 is success. Redirects are not followed: a redirect would take the credentials along.
2. The HTTP status decides what kind of error it is, by the table in `errors`; the body only adds to
   it. Bodies come as Twilio's legacy `{code, message, more_info, status}`, as RFC 9457 problem
   details with every member optional, as `{"errors": [{code, message, infoUrl}]}`, as a CDN's HTML,
   or as nothing.
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
from .errors import ResponseError, status_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from ._decoding import Envelope
    from ._messages import Request, Response
    from ._resources import Resource
    from .errors import APIStatusError

__all__ = ["page_envelope", "retry_after"]

_T = TypeVar("_T")

_OK: Final = 200
#: Statuses that say that all went well: RFC 9110, 15.3.
_SUCCESSES: Final = range(200, 300)

# RFC 9110, 10.2.3 knows whole seconds and a date; servers also send decimals. Nothing that
# `float` would turn into nan or inf matches.
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_LONGEST_HEADER: Final = 64


def page_envelope(
    response: Response,
    request: Request,
    *,
    resource: Resource[object],
    now: Callable[[], float],
) -> Generator[None, None, Envelope]:
    """Read the envelope of the page that a success is, with pauses for a page that is unusual.

    Args:
        response: the reply.
        request: what it answers, for the errors.
        resource: whose records it holds.
        now: the time in seconds since the epoch, for a `Retry-After` that names a date.

    Raises:
        APIStatusError: the status is not success.
        ResponseError: the body is not an envelope, as far as can be seen before its records.
    """
    if response.status == _OK:
        try:
            return (yield from envelope(response.body, resource.key, resource.decode))
        except ResponseError as error:
            failure = error.with_traceback(None)
        failure.conference_sid, failure.request_id = request.conference_sid, response.request_id
        raise failure
    if response.status in _SUCCESSES:
        message = (
            f"The API promises 200 with a body, and answered {response.status}. "
            "Check base_url, and any proxy or gateway in between."
        )
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
    status, rule = response.status, status_rule(response.status)
    members = _error_members(response.body)
    code = _member(members, int, "code")
    named = f"HTTP {status}" if code is None else f"HTTP {status}, Twilio error {code}"
    return rule.kind(
        f"{named}. {rule.remedy}",
        status=status,
        code=code,
        message=_member(members, str, "message", "detail", "title"),
        more_info=_member(members, str, "more_info", "moreInfo", "infoUrl", "type"),
        details=members,
        retry_after=retry_after(response.headers, now=now),
        conference_sid=request.conference_sid,
        request_id=response.request_id,
    )


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
