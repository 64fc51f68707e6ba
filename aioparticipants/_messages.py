"""`Request` and `Response`: the two values that cross the I/O line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Request", "Response", "do_nothing"]

_REQUEST_ID: Final = re.compile(r"RQ[0-9a-zA-Z]{1,62}")


def do_nothing() -> None:
    """Do nothing."""


@attrs.frozen(kw_only=True)
class Request:
    """A GET, relative to the session's own base URL.

    Neither host nor credentials are part of it: the transport adds both, so that no reply can
    change where they go.
    """

    path: str
    """Absolute, already percent-encoded: `/v1/Conferences/CF…/Participants`."""
    query: str = attrs.field(repr=False)
    """Already percent-encoded, sent byte for byte. A label in it is PII, hence not in the repr."""
    conference_sid: str
    """The conference it asks about, for errors."""


@attrs.frozen(kw_only=True)
class Response:
    """A reply, read to its end."""

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    """Looked up without regard to case."""
    body: bytes | bytearray = attrs.field(repr=False)
    """Decompressed. Nobody changes it: a page's records are read of it as they are taken."""
    close_connection: Callable[[], object] = attrs.field(repr=False, eq=False, default=do_nothing)
    """Closes the connection that it came on at once, although that may be idle in the pool again.

    For a reply that answers another request: on that connection all later ones would, too.
    """

    @property
    def request_id(self) -> str | None:
        """Twilio's id of the request (`Twilio-Request-Id: RQ…`), where the reply names one."""
        named = self.headers.get("Twilio-Request-Id")
        # It goes into errors and pages as it is, and so must be an id, and nothing repeated in it.
        return named if named is not None and _REQUEST_ID.fullmatch(named) else None
