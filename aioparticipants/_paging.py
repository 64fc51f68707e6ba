"""From a reply to a page and the next request, or the end.

1. The end is a next link of null or "", and nothing else. An empty page with a next link goes on; a
   page with no `meta.next_page_url` at all is an error, as a body that lost it would end the list
   early.
2. Of a next link only the query is taken, byte for byte: a page token is opaque. Scheme, host and
   port are always the session's own, so the credentials go nowhere else, and a link that names the
   public host still pages behind a region, an edge or a proxy.
3. The link's path must be the collection's own, but for upper and lower case, as SIDs are compared
   so; a link that is no plain http(s) URL, or is too long to be one, is refused.
4. A list that goes round in a loop is an error rather than a request: a query seen before, a page
   that repeats the one before it, or too many empty pages in a row.
5. What is wrong with the next link is told after the records of its page.
6. A page that says it is of another conference is not the answer to its request, but to another:
   one surplus reply on a kept connection shifts all later ones, and a cache can confuse two. Its
   own addresses tell, and the first record's `conference_sid`, where they are there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

import attrs

from . import _structuring
from ._cursors import LONGEST_QUERY
from ._messages import Request
from .errors import PaginationError, ResponseError

if TYPE_CHECKING:
    from ._decoding import Envelope, Records
    from ._resources import Resource
    from .models import PageMeta

__all__ = ["Pager", "RawPage"]

#: Empty pages in a row, each with a next link. Twilio may filter a page after it was cut out, and a
#: conference has up to 250 participants: so many at most with a page size of 1 and a rare filter.
_MOST_EMPTY_PAGES: Final = 250

# urlsplit drops tabs and newlines, and some parsers take a backslash for a slash: neither is
# allowed in a URL (RFC 3986, 2), so neither gets as far as being parsed.
_URL_CHARACTERS: Final = re.compile(r"[!-\[\]-~]+")


@attrs.frozen(kw_only=True)
class RawPage:
    """A page as it came: its records are neither decoded nor structured yet."""

    request: Request
    records: Records = attrs.field(repr=False)
    meta: PageMeta
    request_id: str | None
    following: Request | PaginationError | None
    """The request for the next page, why there can be none, or None at the end."""


class Pager:
    """Reads the pages of one list, in order, and remembers which it has seen."""

    def __init__(self, first: Request, place: Request, *, resource: Resource[object]) -> None:
        """Read a list from `place` on.

        Args:
            first: the request for the first page of the list.
            place: the request that is made first; another one where the list is resumed.
            resource: whose list it is.
        """
        self._resource = resource
        self._base: str | None = None  # what stands before the query of a link that was good
        #: Queries that were seen, and whose next link each was.
        self._seen: dict[str, str | None] = {first.query: None, place.query: None}
        self._empty_pages = 0  # in a row, up to the latest
        self._latest: tuple[str, object] | None = None  # the query and look of the latest page

    def page(self, request: Request, envelope: Envelope, request_id: str | None) -> RawPage:
        """Return the page in `envelope`, the reply to `request`.

        Raises:
            ResponseError: the body has not the shape of a page; or, transient, it is one of another
                conference.
            PaginationError: it repeats the page before it.
        """
        try:
            records, meta = self._parts(envelope)
            if _is_of_another(request, records, meta):
                raise _wrong_conference()
            self._note(request, records)
        except (ResponseError, PaginationError) as error:
            error.conference_sid, error.request_id = request.conference_sid, request_id
            raise
        return RawPage(
            request=request,
            records=records,
            meta=meta,
            request_id=request_id,
            following=self._following(meta.next_page_url, request, request_id),
        )

    def _note(self, request: Request, records: Records) -> None:
        """Compare a page with the one before it."""
        look = (request.query, records.fingerprint())
        before, self._latest = self._latest, look
        if records.count == 0:
            self._empty_pages += 1
            return
        self._empty_pages = 0
        # The same request again is another attempt at it.
        if before is not None and before[0] != look[0] and before[1] == look[1]:
            message = (
                "The page repeats the one before it: the list goes round in a loop. "
                "Give the request_id to Twilio's support."
            )
            raise PaginationError(message)

    def _parts(self, envelope: Envelope) -> tuple[Records, PageMeta]:
        records, meta = envelope.records, envelope.members.get("meta")
        if records is None:
            raise _not_a_page(path=self._resource.key, fault="an array is missing")
        if not isinstance(meta, dict):
            raise _not_a_page(path="meta", fault="an object is missing")
        if "next_page_url" not in meta:
            fault = "without it nothing says where the list ends"
            raise _not_a_page(path="meta.next_page_url", fault=fault)
        return records, _structuring.page_meta(cast("object", meta))

    def _following(
        self, link: str | None, request: Request, request_id: str | None
    ) -> Request | PaginationError | None:
        if not link:
            return None
        query = self._query_of(link, request.path)
        if query is None:
            message = (
                "The next link does not lead to the next page of this list; it was not followed, "
                "and its host was not contacted. Give the request_id to Twilio's support."
            )
        elif self._seen.setdefault(query, request.query) != request.query:
            message = (
                "The next link leads to a page already seen: the list goes round in a loop. "
                "Give the request_id to Twilio's support."
            )
        elif self._empty_pages > _MOST_EMPTY_PAGES:
            message = (
                f"More than {_MOST_EMPTY_PAGES} pages in a row were empty, each with a next link. "
                "To go on all the same, resume with the error's cursor."
            )
        else:
            return Request(path=request.path, query=query, conference_sid=request.conference_sid)
        return PaginationError(
            message, conference_sid=request.conference_sid, request_id=request_id
        )

    def _query_of(self, link: str, path: str) -> str | None:
        """Return the query of a link whose path is `path`, None if that is not what it is."""
        if len(link) > LONGEST_QUERY or not _URL_CHARACTERS.fullmatch(link) or "#" in link:
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
    return usable and plain and parts.path.lower() == path.lower()


#: The conference that an address is about.
_CONFERENCE_IN_PATH: Final = re.compile(r"/Conferences/(CF[0-9a-fA-F]{32})(?![^/?])")
#: The same member of a record. Within a string its quotation marks would stand behind a backslash.
_CONFERENCE_IN_RECORD: Final = re.compile(
    rb'"conference_sid"[ \t\n\r]*:[ \t\n\r]*"(CF[0-9a-fA-F]{32})"'
)


def _is_of_another(request: Request, records: Records, meta: PageMeta) -> bool:
    """Tell whether a page says that it is of another conference than the one asked for."""
    own = request.conference_sid.lower()
    for address in (meta.url, meta.first_page_url):
        if address is not None and request.path not in address:
            named = _CONFERENCE_IN_PATH.search(address.partition("?")[0])
            if named is not None and named[1].lower() != own:
                return True
    found = _CONFERENCE_IN_RECORD.search(records.first_bytes())
    if found is None or found[1].decode("ascii").lower() == own:
        return False
    return _first_conference(records) not in {own, None}


def _first_conference(records: Records) -> str | None:
    """Return the conference of the first record; what was found may be a member of a member."""
    try:
        record = records.at(0)
    except ResponseError:
        return None  # told when the consumer gets to it
    sid = _structuring.text_member(record, "conference_sid")
    return None if sid is None else sid.lower()


def _wrong_conference() -> ResponseError:
    message = (
        "The reply is the page of another conference than was asked for: "
        "something between here and Twilio confuses two answers, such as a cache. "
        "Check base_url, proxy=, and what else uses the borrowed aiohttp session."
    )
    return ResponseError(message, transient=True)
