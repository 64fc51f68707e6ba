"""From a reply to a page and the next request, or the end.

1. The end is a next link of null, and nothing else. An empty page with a next link goes on; a page
   with no `meta.next_page_url` at all is an error, as a body that lost it would end the list early.
2. Of a next link only the query is taken, byte for byte: a page token is opaque. Scheme, host and
   port are always the session's own, so the credentials go nowhere else, and a link that names the
   public host still pages behind a region, an edge or a proxy.
3. The link's path must be the collection's own; a link that is no plain http(s) URL is refused.
4. A query seen before in this list is a circle, and an error rather than a request.
5. What is wrong with the next link is told after the records of its page.
6. A page can be fetched again, if its body proves bad: its next link is then no circle.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol, cast
from urllib.parse import urlsplit

import attrs

from . import _structuring
from ._messages import Request
from .errors import PaginationError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ._decoding import Envelope, Records
    from .models import PageMeta

__all__ = ["Again", "Pager", "RawPage"]

# urlsplit drops tabs and newlines, and some parsers take a backslash for a slash: neither is
# allowed in a URL (RFC 3986, 2), so neither gets as far as being parsed.
_URL_CHARACTERS: Final = re.compile(r"[!-\[\]-~]+")


class Again(Protocol):
    """Fetches a page again whose body proved bad, as a further attempt at it.

    `departed` is called once the request is on the wire, or cannot be yet.
    """

    def __call__(
        self, damage: ResponseError, departed: Callable[[], None], /
    ) -> Coroutine[object, object, RawPage]: ...


@attrs.frozen(kw_only=True)
class RawPage:
    """A page as it came: its records are neither decoded nor structured yet."""

    request: Request
    records: Records = attrs.field(repr=False)
    meta: PageMeta
    request_id: str | None
    following: Request | PaginationError | None
    """The request for the next page, why there can be none, or None at the end."""
    again: Again = attrs.field(repr=False)
    """Where the stream turns to if the body proves bad."""


class Pager:
    """Reads the pages of one list, in order, and remembers which it has seen."""

    def __init__(self, first: Request, place: Request, *, key: str) -> None:
        """Read a list from `place` on.

        Args:
            first: the request for the first page of the list.
            place: the request that is made first; another one where the list is resumed.
            key: the member of the body that holds the records.
        """
        self._key = key
        self._base: str | None = None  # what stands before the query of a link that was good
        #: Queries that were seen, and whose next link each was.
        self._seen: dict[str, str | None] = {first.query: None, place.query: None}

    def page(
        self, request: Request, envelope: Envelope, request_id: str | None, *, again: Again
    ) -> RawPage:
        """Return the page in `envelope`, the reply to `request`; `again` fetches it again.

        Raises:
            ResponseError: the body has not the shape of a page.
        """
        try:
            records, meta = self._parts(envelope)
        except ResponseError as error:
            error.conference_sid, error.request_id = request.conference_sid, request_id
            raise
        return RawPage(
            request=request,
            records=records,
            meta=meta,
            request_id=request_id,
            following=self._following(meta.next_page_url, request, request_id),
            again=again,
        )

    def _parts(self, envelope: Envelope) -> tuple[Records, PageMeta]:
        records, meta = envelope.records, envelope.members.get("meta")
        if records is None:
            raise _not_a_page(path=self._key, fault="an array is missing")
        if not isinstance(meta, dict):
            raise _not_a_page(path="meta", fault="an object is missing")
        if "next_page_url" not in meta:
            fault = "without it nothing says where the list ends"
            raise _not_a_page(path="meta.next_page_url", fault=fault)
        return records, _structuring.page_meta(cast("object", meta))

    def _following(
        self, link: str | None, request: Request, request_id: str | None
    ) -> Request | PaginationError | None:
        if link is None:
            return None
        query = self._query_of(link, request.path)
        if query is None:
            message = (
                "The next link does not lead to the next page of this list; it was not followed, "
                "and its host was not contacted. Give the request_id to Twilio's support."
            )
        elif self._seen.setdefault(query, request.query) != request.query:
            message = (
                "The next link leads to a page already seen: the list goes round in a circle. "
                "Give the request_id to Twilio's support."
            )
        else:
            return Request(path=request.path, query=query, conference_sid=request.conference_sid)
        return PaginationError(
            message, conference_sid=request.conference_sid, request_id=request_id
        )

    def _query_of(self, link: str, path: str) -> str | None:
        """Return the query of a link whose path is `path`, None if that is not what it is."""
        if not _URL_CHARACTERS.fullmatch(link) or "#" in link:
            return None
        base, _, query = link.partition("?")
        if base != self._base and not _leads_to(base, path):
            return None
        self._base = base
        return query or None


def _not_a_page(*, path: str, fault: str) -> ResponseError:
    message = (
        f"The body of the reply is not a page: {path}: {fault}. "
        "Check base_url, and what stands between here and Twilio."
    )
    return ResponseError(message, path=path)


def _leads_to(link: str, path: str) -> bool:
    """Tell whether a link is a plain http(s) URL of that path."""
    try:
        parts = urlsplit(link)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        return False
    plain = parts.scheme in {"https", "http"} and "@" not in parts.netloc
    return usable and plain and parts.path == path
