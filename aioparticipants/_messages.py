"""`Request` and `Response`: the two values that cross the I/O line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Request", "Response", "do_nothing"]

_REQUEST_ID: Final = re.compile(r"RQ[0-9a-zA-Z]{1,62}")
# `[0-9]`, as `\d` and `int` also accept other digits; and no more of them than a count can have.
_COUNT: Final = re.compile(r"[0-9]{1,6}")


def do_nothing() -> None:
    """Do nothing."""


@attrs.frozen(kw_only=True)
class Request:
    """A GET, relative to the session's own base URL.

    It has neither host nor credentials: the transport adds both, so that no reply can change where
    the credentials are sent.
    """

    path: str
    """Absolute, already percent-encoded: `/v1/Conferences/CF…/Participants`."""
    query: str = attrs.field(repr=False)
    """Already percent-encoded, sent byte for byte; empty for none. A label in it is PII, hence not
    in the repr."""
    conference_sid: str | None
    """The conference that it asks for, to be named in errors; None for a list of conferences."""
    state: bytes = attrs.field(default=b"", repr=False)
    """What a cursor on this page has to hold beside the query: see `_slices`. Nothing is sent."""


@attrs.frozen(kw_only=True)
class Response:
    """A reply with its whole body."""

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    """Case-insensitive."""
    body: bytes | bytearray = attrs.field(repr=False)
    """Decompressed. Never changed: a page's records are decoded from it as they are needed."""
    close_connection: Callable[[], object] = attrs.field(repr=False, eq=False, default=do_nothing)
    """Closes the connection of the reply at once, even if it is idle in the pool again.

    Needed where a reply belongs to another request: all later replies on the connection would, too.
    """

    @property
    def request_id(self) -> str | None:
        """Twilio's id of the request (`Twilio-Request-Id: RQ…`), where the reply names one."""
        named = self.headers.get("Twilio-Request-Id")
        # It is shown in errors and pages, so nothing but an id is accepted.
        return named if named is not None and _REQUEST_ID.fullmatch(named) else None

    @property
    def concurrent_requests(self) -> int | None:
        """Twilio's count of the account's requests in flight; None without a usable one.

        The header is `Twilio-Concurrent-Requests` (https://www.twilio.com/docs/api/errors/20429).
        """
        count = self.headers.get("Twilio-Concurrent-Requests")
        return int(count) if count is not None and _COUNT.fullmatch(count) else None
