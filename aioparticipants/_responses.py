"""What a reply means: the envelope of a page, or an error.

1. Only 200 is success. Redirects are not followed, as they would take the credentials along.
2. The HTTP status decides the class of the error, by the table in `errors`; the body only adds
   details. Bodies come as Twilio's legacy `{code, message, more_info, status}`, as RFC 9457 problem
   details with every member optional, as `{"errors": [{code, message, infoUrl}]}`, as a CDN's HTML,
   or empty.
3. A body that is cut off or no JSON is transient: the same request may well succeed. `_decoding`
   decides what JSON is, and how much of a body is read at once.
4. No error has a chained exception that holds the body.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, TypeVar, cast

from ._decoding import decoded, envelope, record_envelope
from ._tracebacks import stripped
from .errors import ResponseError, remedy_of, status_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from ._decoding import Envelope
    from ._messages import Request, Response
    from ._resources import Resource
    from .errors import APIStatusError

__all__ = ["error_members", "member", "page_envelope", "reply_time", "retry_after"]

_T = TypeVar("_T")

_OK: Final = 200
#: RFC 9110, 15.3.
_SUCCESSES: Final = range(200, 300)

# RFC 9110, 10.2.3 allows whole seconds and a date; servers also send decimals. Nothing matches that
# `float` would turn into nan or inf.
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_LONGEST_HEADER: Final = 64


def page_envelope(
    response: Response,
    request: Request,
    *,
    resource: Resource[object],
    now: Callable[[], float],
) -> Generator[None, None, Envelope]:
    """Return the envelope of a page; of an unusual one it is read in steps, with a `yield` each.

    A single record is returned as a page of one record.

    Args:
        response: the reply.
        request: the request that it answers, to be named in errors.
        resource: the kind of the list.
        now: the time in seconds since the epoch, for a `Retry-After` that is a date.

    Raises:
        APIStatusError: the status is not a success.
        ResponseError: the body is not an envelope, as far as that shows before its records.
    """
    if response.status == _OK:
        try:
            if resource.is_single:
                return record_envelope(response.body)
            return (yield from envelope(response.body, resource.key, resource.decode))
        except ResponseError as error:
            error.conference_sid, error.request_id = request.conference_sid, response.request_id
            stripped(error)
            raise
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
    """Return the seconds that `Retry-After` asks to wait, None if it is absent or invalid.

    A date is compared with the reply's own `Date` if there is one, so that a wrong clock on either
    side does no harm. A date in the past is 0. (RFC 9110, 10.2.3 and 5.6.7: three forms of date.)
    """
    value = headers.get("Retry-After", "").strip()
    if not value or len(value) > _LONGEST_HEADER:
        return None
    if _SECONDS.fullmatch(value):
        return float(value)
    date = _timestamp(value)
    if date is None:
        return None
    return max(0.0, date - reply_time(headers, now=now))


def reply_time(headers: Mapping[str, str], *, now: Callable[[], float]) -> float:
    """Return the time of a reply in seconds since the epoch: by its own `Date`, else by `now`."""
    sent = _timestamp(headers.get("Date", ""))
    return now() if sent is None else sent


def _timestamp(value: str) -> float | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # OverflowError: a number is too large for a date
        return None
    # The third form, that of asctime, has no time zone; all three are in UTC.
    return date.replace(tzinfo=UTC).timestamp()


def _status_error(response: Response, request: Request, now: Callable[[], float]) -> APIStatusError:
    status, rule = response.status, status_rule(response.status)
    members = error_members(response.body)
    code = member(members, int, "code")
    named = f"HTTP {status}" if code is None else f"HTTP {status}, Twilio error {code}"
    return rule.kind(
        f"{named}. {remedy_of(status, code)}",
        status=status,
        code=code,
        message=member(members, str, "message", "detail", "title"),
        more_info=member(members, str, "more_info", "moreInfo", "infoUrl", "type"),
        details=members,
        retry_after=retry_after(response.headers, now=now),
        conference_sid=request.conference_sid,
        request_id=response.request_id,
    )


def error_members(body: bytes | bytearray) -> dict[str, object]:
    """Return the members of an error body, those of the first of its `errors` included."""
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


def member(members: Mapping[str, object], kind: type[_T], *names: str) -> _T | None:
    """Return the first member that has the right type; an error body may have any type anywhere."""
    for name in names:
        value = members.get(name)
        if type(value) is kind:  # not isinstance, as a bool is an int, too
            return value
    return None
