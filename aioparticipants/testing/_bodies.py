"""Bodies of error replies, in Twilio's legacy form: `{code, message, more_info, status}`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, cast

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RequestRefused", "as_bytes", "error_body"]

#: https://www.twilio.com/docs/api/errors: Twilio's error code and message for each status.
_ERRORS: Final = {
    400: (20001, "Invalid parameter"),
    401: (20003, "Authenticate"),
    403: (20403, "Forbidden"),
    404: (20404, "The requested resource was not found"),
    405: (20004, "Method not allowed"),
    429: (20429, "Too Many Requests"),
    500: (20500, "Internal Server Error"),
    503: (20503, "Service Unavailable"),
}


#: Headers that HTTP wants with a status: RFC 9110, sections 11.6.1 and 15.5.6.
_HEADERS: Final = {
    401: {"WWW-Authenticate": 'Basic realm="Twilio API"'},
    405: {"Allow": "GET"},
}


@attrs.frozen
class RequestRefused(Exception):  # noqa: N818 - the server's normal reply to a bad request
    """The request is answered with an error reply."""

    status: int
    message: str | None = None
    code: int | None = None

    def body(self) -> bytes:
        """Return the body of the error reply."""
        return error_body(self.status, self.message, code=self.code)

    def headers(self) -> Mapping[str, str]:
        """Return the headers that belong to the status."""
        return _HEADERS.get(self.status, {})


def error_body(status: int, message: str | None = None, *, code: int | None = None) -> bytes:
    """Return the JSON that Twilio sends with an error status."""
    usual_code, usual_message = _ERRORS.get(status, (20000 + status, f"HTTP {status}"))
    code = usual_code if code is None else code
    body = {
        "code": code,
        "message": usual_message if message is None else message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return json.dumps(body).encode()


def as_bytes(body: object) -> bytes:
    """Return bytes, or another object that holds bytes, as bytes; encode all else as JSON."""
    try:
        return bytes(memoryview(cast("bytes", body)))
    except TypeError:
        return json.dumps(body).encode()
