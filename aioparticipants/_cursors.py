"""Cursors: where a list goes on, as a short string that a queue or a table can hold.

1. A cursor names a page, by its query, and a place on it: that of the next record not delivered.
   So resuming neither repeats a record nor misses one.
2. It holds a short hash of the SID of the record before that place. Twilio promises no order of
   records between two requests for one page: where another record stands there now, the list has
   changed, and going on by the place alone would lose some records and repeat others.
3. It is opaque, and base64url (RFC 4648, 5) of a version, a checksum, three hashes, the place and
   the query. What was cut off or changed on its way is refused before anything is sent.
4. It holds no host and no credential. A label is personal data: its value is cut out of the query,
   and put back from the arguments of the call that resumes.
5. That call must name the same conference and filters. SIDs are the same in either case of their
   digits (Twilio describes them as `CF[0-9a-fA-F]{32}`). Of the label two bytes of a hash are kept:
   enough to notice a wrong one (but one in 65,536), and too few to find out which it was, as
   150,000 telephone numbers share each value.
6. Whatever cursor a list hands out can be resumed: the bound on its length follows from the one on
   the links that a list follows.
7. A page token belongs to the page size it was made for: nothing says where it leads with another.
   So another page size is accepted only where the cursor names the first page, which has no token,
   and where the place is on that page in its new size, too.
8. Version 1, which had no hash of the record before, is still read. From version 2 on the checksum
   covers the version.
"""

from __future__ import annotations

import base64
import re
import struct
from hashlib import blake2b
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, unquote_plus

import attrs

from .errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._messages import Request

__all__ = ["LONGEST_QUERY", "Resumed", "cursor_of", "resumed"]

#: Characters of the longest query of a page: a longer next link is not followed.
LONGEST_QUERY: Final = 64 * 1024

_VERSION: Final = 2
#: Version and checksum; then, covered by it: conference and filters, label, place; and, from
#: version 2 on, the record before.
_HEAD: Final = struct.Struct(">B4s")
_BODY_1: Final = struct.Struct(">6s2sI")
_BODY: Final = struct.Struct(">6s2sI4s")
#: Stands where there is no hash of the record before.
_NO_HASH: Final = bytes(4)

#: Stands in a query for the label's value: no URL can hold it (RFC 3986, 2).
_CUT_OUT: Final = " "
#: What a query consists of; a `#` would end it.
_QUERY: Final = re.compile(r"[!-\"$-\[\]-~]+")


@attrs.frozen
class Resumed:
    """What a cursor says: where its list goes on."""

    request: Request
    """For the page."""
    offset: int
    """The place on the page, from 0."""
    before: bytes | None
    """The hash of the SID of the record right before the place; None where the cursor has none."""

    def verifies(self, sid: str | None) -> bool:
        """Tell whether the record before the place is the one that the cursor was made behind.

        Args:
            sid: of the record that is there now, at `offset - 1`; None where it has none.
        """
        return self.before is None or (sid is not None and _hash_of_record(sid) == self.before)


def cursor_of(first: Request, page: Request, offset: int, before: str | bytes | None = None) -> str:
    """Return the cursor of a record.

    Args:
        first: the request for the first page of the list, as the caller's filters make it.
        page: the request for the record's page.
        offset: the record's place on the page, from 0.
        before: the SID of the record right before it on that page, or `Resumed.before`, which
            stands for it; None where there is none.
    """
    of_list, of_label, label = _identity(first, _lower)

    def cut(name: str, value: str) -> str:
        personal = name == "Label" or unquote_plus(value) == label
        return _CUT_OUT if value and personal else value

    query = _with_values(page.query, cut).encode()
    known = _hash_of_record(before) if isinstance(before, str) else before or _NO_HASH
    body = _BODY.pack(of_list, of_label, offset, known) + query
    return base64.urlsafe_b64encode(_HEAD.pack(_VERSION, _checksum(_VERSION, body)) + body).decode()


def resumed(first: Request, cursor: str, *, page_size: int | None = None) -> Resumed:
    """Return the request for the page that a cursor names, and the place on it.

    Args:
        first: the request for the first page of the list, as this call's filters make it.
        cursor: what `cursor_of` returned.
        page_size: what the caller asked for; `first` has it, too. None for the cursor's own.

    Raises:
        InvalidRequestError: it is no cursor, or of another version, conference or filters; or
            nothing is known of its place in pages of that size.
    """
    version, body = _body_of(cursor, longest=_longest(first))
    if version == 1:
        (of_list, of_label, offset), before = _BODY_1.unpack_from(body), _NO_HASH
        query = body[_BODY_1.size :].decode("ascii", "replace")
    else:
        of_list, of_label, offset, before = _BODY.unpack_from(body)
        query = body[_BODY.size :].decode("ascii", "replace")
    query = _with_label(first, query, of_list, of_label)
    if page_size is not None:
        query = _with_page_size(first, query, offset, page_size)
    return Resumed(
        request=attrs.evolve(first, query=query),
        offset=offset,
        before=None if before == _NO_HASH else before,
    )


def _with_label(first: Request, query: str, of_list: bytes, of_label: bytes) -> str:
    """Return a cursor's query with the label put back, if the cursor is of this list."""
    # Version 1 counted the case of SIDs.
    for sid in (_lower, _as_it_is):
        own_list, own_label, label = _identity(first, sid)
        if of_list == own_list:
            break
    else:
        message = "resume is a cursor of another conference, or of other filters."
        raise InvalidRequestError(message)
    if of_label != own_label or (label is None and _CUT_OUT in query):
        message = "resume is a cursor of another label: give the label that the list began with."
        raise InvalidRequestError(message)
    value = quote(label or "", safe="")
    # A server may write the label in a third of the characters that we do, and not in fewer. What
    # would be longer than that allows is not ours; put together, it could take gigabytes.
    if query.count(_CUT_OUT) * len(value) > 3 * LONGEST_QUERY + len(first.query):
        raise _no_cursor()
    query = query.replace(_CUT_OUT, value)
    if not _QUERY.fullmatch(query):
        raise _no_cursor()
    return query


def _with_page_size(first: Request, query: str, offset: int, page_size: int) -> str:
    """Return a query for the page with a place, in pages of the size that the caller asked for."""
    if dict(parse_qsl(query)).get("PageSize") == str(page_size):
        return query
    is_first = _filters(query, _lower) == _filters(first.query, _lower)
    if is_first and offset <= page_size:
        return first.query
    message = (
        "page_size cannot change here: the cursor's page is known only in the size that its list "
        "had. Leave page_size out to go on, or leave resume out to begin anew with it."
    )
    raise InvalidRequestError(message)


def _body_of(cursor: object, *, longest: int) -> tuple[int, bytes]:
    """Return the version of a cursor, and what its checksum covers."""
    if not isinstance(cursor, str) or len(cursor) > longest:
        raise _no_cursor()
    try:
        decoded = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except ValueError:
        decoded = b""
    if len(decoded) < _HEAD.size + _BODY_1.size:
        raise _no_cursor()
    version, checksum = _HEAD.unpack_from(decoded)
    body = decoded[_HEAD.size :]
    if checksum != _checksum(version, body):
        raise _no_cursor()
    if version not in {1, _VERSION}:
        message = f"resume is a cursor of version {version}; this package reads 1 and {_VERSION}."
        raise InvalidRequestError(message)
    if version == _VERSION and len(body) < _BODY.size:
        raise _no_cursor()
    return version, body


def _longest(first: Request) -> int:
    """Return the length that no cursor of a list exceeds."""
    # A filter that the caller gave can be of any length, and the first page's query has it.
    query = LONGEST_QUERY + len(first.query)
    return (_HEAD.size + _BODY.size + query + 2) // 3 * 4


def _no_cursor() -> InvalidRequestError:
    return InvalidRequestError("resume is not a cursor, or was cut off or changed on its way.")


def _identity(first: Request, sid: Callable[[str], str]) -> tuple[bytes, bytes, str | None]:
    """Return hashes of a list's conference and filters, and of its label; and the label.

    Args:
        first: the request for the first page of the list.
        sid: writes a SID as it is to be hashed.
    """
    path = first.path.replace(first.conference_sid, sid(first.conference_sid))
    filters = _filters(first.query, sid)
    label = dict(filters).get("Label")
    named = repr((path, [each for each in filters if each[0] != "Label"]))
    of_list = blake2b(named.encode(), digest_size=6).digest()
    named = repr((path, label))
    of_label = blake2b(named.encode("utf-8", "surrogatepass"), digest_size=2).digest()
    return of_list, of_label, label


def _filters(query: str, sid: Callable[[str], str]) -> list[tuple[str, str]]:
    """Return what a query asks for, PageSize left out: it is the page's, not the list's."""
    return sorted(
        (name, sid(value) if name == "ParticipantSid" else value)
        for name, value in parse_qsl(query, keep_blank_values=True)
        if name != "PageSize"
    )


def _lower(sid: str) -> str:
    """Return a SID with its digits in lower case, as Twilio writes them."""
    return sid[:2] + sid[2:].lower()


def _as_it_is(sid: str) -> str:
    return sid


def _with_values(query: str, change: Callable[[str, str], str]) -> str:
    """Return a query with its values changed, and all else as it was, byte for byte."""
    fields: list[str] = []
    for field in query.split("&"):
        name, equals, value = field.partition("=")
        fields.append(name + equals + change(unquote_plus(name), value))
    return "&".join(fields)


def _checksum(version: int, body: bytes) -> bytes:
    covered = body if version == 1 else bytes([version]) + body
    return blake2b(covered, digest_size=4).digest()


def _hash_of_record(sid: str) -> bytes:
    """Return four bytes of a hash: of 4 billion changed pages one is not noticed.

    More would make each cursor longer; it has no secret to keep, as a SID is none.
    """
    return blake2b(_lower(sid).encode("utf-8", "surrogatepass"), digest_size=4).digest()
