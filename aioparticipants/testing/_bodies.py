"""Bodies of answers; Twilio's errors in their legacy form, `{code, message, more_info, status}`."""

from __future__ import annotations

import json
from typing import Final, cast

__all__ = ["as_bytes", "error_body"]

#: https://www.twilio.com/docs/api/errors: the code and words that go with a status.
_WORDS: Final = {
    400: (20001, "Invalid parameter"),
    401: (20003, "Authenticate"),
    403: (20403, "Forbidden"),
    404: (20404, "The requested resource was not found"),
    405: (20004, "Method not allowed"),
    429: (20429, "Too Many Requests"),
    500: (20500, "Internal Server Error"),
    503: (20503, "Service Unavailable"),
}


def error_body(status: int, message: str | None = None, *, code: int | None = None) -> bytes:
    """Return the JSON that Twilio sends with a status."""
    usual_code, usual_message = _WORDS.get(status, (20000 + status, f"HTTP {status}"))
    code = usual_code if code is None else code
    body = {
        "code": code,
        "message": usual_message if message is None else message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return json.dumps(body).encode()


def as_bytes(body: object) -> bytes:
    """Return the bytes of anything that has bytes, and the JSON of anything else."""
    try:
        return bytes(memoryview(cast("bytes", body)))
    except TypeError:
        return json.dumps(body).encode()
