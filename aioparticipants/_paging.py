"""From a reply to a page, and to the request for the next one.

1. The list ends where the next link is null or "", and nowhere else. After an empty page with a
   next link the list goes on. A page without `meta.next_page_url` is an error: a body that lost
   this member would otherwise end the list too early.
2. Only the query of a next link is used, byte for byte, as a page token is opaque. Scheme, host and
   port are always the session's own. So the credentials go nowhere else, and a link that names the
   public host also works behind a region, an edge or a proxy.
3. The path of the link must be the collection's own. Case is ignored, as SIDs are compared like
   that. A link that is no plain http(s) URL, or is too long for one, is refused.
4. A loop in the pagination is an error, and nothing is requested: a query that was seen before, a
   page that repeats the one before it, or too many empty pages in a row.
5. A bad next link is reported after the records of its page.
6. A page, or a single record, that names another conference is not the reply to its request: a
   surplus reply on a kept connection shifts all later ones, and a cache can mix up two. The page's
   own URLs name the conference, and so does the first record's `conference_sid`, where they are
   present. The same is true of the page of another resource, as its `meta.key` says, where other
   records are expected, and of a page where a single record is expected.
7. A single record has the member that identifies it, be it null, as the API sends all members.
   Otherwise any JSON object, such as a gateway's, would be a record of which nothing is known.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

import attrs

from . import _structuring
from ._cursors import LONGEST_QUERY
from ._messages import Request
from .errors import InsightsError, PaginationError, ResponseError
from .models import PageMeta

if TYPE_CHECKING:
    from ._decoding import Envelope, PageRecords, Records
    from ._resources import Resource

__all__ = ["End", "Failed", "Pager", "RawPage"]

#: Empty pages in a row, each with a next link. Twilio may filter a page after it has cut it, and a
#: conference has up to 250 participants. So a page size of 1 and a rare filter can give that many.
_MOST_EMPTY_PAGES: Final = 250

# urlsplit drops tabs and newlines, and some parsers take a backslash for a slash. A URL has none of
# these (RFC 3986, 2), so a link that does is refused before it is parsed.
_URL_CHARACTERS: Final = re.compile(r"[!-\[\]-~]+")


@attrs.frozen
class End:
    """No page follows."""


@attrs.frozen
class Failed:
    """No page follows, because of an error."""

    error: InsightsError


@attrs.frozen(kw_only=True)
class RawPage:
    """A page whose records are neither decoded nor structured yet."""

    request: Request
    records: PageRecords = attrs.field(repr=False)
    meta: PageMeta
    request_id: str | None
    following: Request | Failed | End
    """The request for the next page, or why there is none."""


class Pager:
    """Reads the pages of one list, in order, and remembers which ones it has seen."""

    def __init__(self, first: Request, start: Request, *, resource: Resource[object]) -> None:
        """Read a list from `start` on.

        Args:
            first: the request for the first page of the list.
            start: the request that is sent first; not the same where the list is resumed.
            resource: the kind of list.
        """
        self._resource = resource
        self._base: str | None = None  # the part before the query, of a link that was good
        #: Each query that was seen, and the query of the page whose next link had it.
        self._seen: dict[str, str | None] = {first.query: None, start.query: None}
        self._empty_pages = 0  # in a row, the latest page included
        self._latest: tuple[str, object] | None = None  # query and fingerprint of the latest page

    def page(self, request: Request, envelope: Envelope, request_id: str | None) -> RawPage:
        """Return the page in `envelope`, the reply to `request`.

        Raises:
            ResponseError: the body is no page or record, or (transient) is about another one.
            PaginationError: the page repeats the one before it.
        """
        try:
            if self._resource.is_single:
                return self._page_of_one(request, envelope, request_id)
            records, meta = self._parts(envelope)
            if request.conference_sid is not None and _is_of_another(
                request, request.conference_sid.lower(), records, meta
            ):
                raise _mixed_up(about="another conference")
            self._check_progress(request, records)
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

    def _check_progress(self, request: Request, records: Records) -> None:
        """Compare the page with the one before it, and count empty pages."""
        look = (request.query, records.fingerprint())
        before, self._latest = self._latest, look
        if records.count == 0:
            self._empty_pages += 1
            return
        self._empty_pages = 0
        # With the same query it is another attempt at the same page.
        if before is not None and before[0] != look[0] and before[1] == look[1]:
            message = (
                "The page repeats the one before it: the pagination is in a loop. "
                "Give the request_id to Twilio's support."
            )
            raise PaginationError(message)

    def _parts(self, envelope: Envelope) -> tuple[Records, PageMeta]:
        records, meta = envelope.records, envelope.members.get("meta")
        if records is None:
            if _is_page_of_another(envelope.members, self._resource.key):
                raise _mixed_up(about="another list")
            raise _not_a_page(path=self._resource.key, fault="an array is missing")
        if not isinstance(meta, dict):
            raise _not_a_page(path="meta", fault="an object is missing")
        if "next_page_url" not in meta:
            fault = "without it nothing says where the list ends"
            raise _not_a_page(path="meta.next_page_url", fault=fault)
        return records, _structuring.page_meta(cast("object", meta))

    def _page_of_one(self, request: Request, envelope: Envelope, request_id: str | None) -> RawPage:
        """Return the page for a single record.

        Raises:
            ResponseError: it is not one, or (transient) it is another one than was asked for.
        """
        resource, records = self._resource, cast("Records", envelope.records)
        record = cast("dict[str, object]", records.at(0))
        # The values in the path, by the names of their parameters in braces.
        values = dict(zip(resource.path.split("/"), request.path.split("/"), strict=True))
        for each in resource.path_parameters:
            found = _structuring.text_member(record, each.argument)
            if found is not None and found.lower() != values[f"{{{each.parameter}}}"].lower():
                raise _mixed_up(about=f"another {each.argument.removesuffix('_sid')}")
        if resource.record_sid not in record:
            if _is_page_of_another(record, resource.key):
                raise _mixed_up(about="a list")
            raise _not_a_record(resource.key, resource.record_sid)
        return RawPage(
            request=request,
            records=records,
            meta=PageMeta(),
            request_id=request_id,
            following=End(),
        )

    def _following(
        self, link: str | None, request: Request, request_id: str | None
    ) -> Request | Failed | End:
        if not link:
            return End()
        query = self._query_of(link, request.path)
        if query is None:
            message = (
                "The next link does not lead to the next page of this list; it was not followed, "
                "and its host was not contacted. Give the request_id to Twilio's support."
            )
        elif self._seen.setdefault(query, request.query) != request.query:
            message = (
                "The next link leads to a page already seen: the pagination is in a loop. "
                "Give the request_id to Twilio's support."
            )
        elif self._empty_pages > _MOST_EMPTY_PAGES:
            message = (
                f"More than {_MOST_EMPTY_PAGES} pages in a row were empty, each with a next link. "
                "To continue nevertheless, resume with the error's cursor."
            )
        else:
            return Request(path=request.path, query=query, conference_sid=request.conference_sid)
        return Failed(
            PaginationError(message, conference_sid=request.conference_sid, request_id=request_id)
        )

    def _query_of(self, link: str, path: str) -> str | None:
        """Return the query of a link whose path is `path`, None for any other link."""
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
        "Check base_url, and any proxy or gateway in between."
    )
    return ResponseError(message, path=path)


def _not_a_record(key: str, sid: str) -> ResponseError:
    message = (
        f"The body of the reply is not a {key}: it has no member {sid}. "
        "Check base_url, and any proxy or gateway in between."
    )
    return ResponseError(message, path=f"{key}.{sid}")


def _leads_to(link: str, path: str) -> bool:
    """Return whether a link is a plain http(s) URL with that path."""
    try:
        parts = urlsplit(link)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is not a number
        return False
    plain = parts.scheme in {"https", "http"} and "@" not in parts.netloc
    return usable and plain and parts.path.lower() == path.lower()


#: The conference that a URL names.
_CONFERENCE_IN_PATH: Final = re.compile(r"/Conferences/(CF[0-9a-fA-F]{32})(?![^/?])")
#: The member of a record that names it. Inside a JSON string its quotation marks would be escaped.
_CONFERENCE_IN_RECORD: Final = re.compile(
    rb'"conference_sid"[ \t\n\r]*:[ \t\n\r]*"(CF[0-9a-fA-F]{32})"'
)


def _is_of_another(request: Request, own: str, records: Records, meta: PageMeta) -> bool:
    """Return whether a page names another conference than `own`, the one that was asked for."""
    for address in (meta.url, meta.first_page_url):
        if address is not None and request.path not in address:
            named = _CONFERENCE_IN_PATH.search(address.partition("?")[0])
            if named is not None and named[1].lower() != own:
                return True
    found = _CONFERENCE_IN_RECORD.search(records.first_bytes())
    if found is None or found[1].decode("ascii").lower() == own:
        return False
    # What was found may belong to a nested object.
    return _first_conference(records) not in {own, None}


def _first_conference(records: Records) -> str | None:
    """Return the conference that the first record names, in lower case; None if it has none."""
    try:
        record = records.at(0)
    except ResponseError:
        return None  # raised when the consumer gets to the record
    sid = _structuring.text_member(record, "conference_sid")
    return None if sid is None else sid.lower()


def _is_page_of_another(members: dict[str, object], key: str) -> bool:
    """Return whether a body is a page of records with another key, as its own `meta` says."""
    meta = members.get("meta")
    name = cast("dict[str, object]", meta).get("key") if isinstance(meta, dict) else None
    return isinstance(name, str) and name != key and name in members


def _mixed_up(*, about: str) -> ResponseError:
    message = (
        f"The reply is about {about}, not about what was asked for: "
        "a proxy or cache in between mixes up replies. "
        "Check base_url, proxy=, and what else uses the borrowed aiohttp session."
    )
    return ResponseError(message, transient=True)
