"""Cursors: where a list goes on, as a short string that a queue or a table can hold.

1. A cursor names a page, by its query, and a place on it: that of the next record not handed out.
   So resuming neither repeats a record nor misses one.
2. It is opaque, and base64url (RFC 4648, 5) of a version, a checksum, two hashes, the place and the
   query. What was cut off or changed on its way is refused before anything is sent.
3. It holds no host and no credential. A label is personal data: its value is cut out of the query,
   and put back from the arguments of the call that resumes.
4. That call must name the same conference and filters. Of the label two bytes of a hash are kept:
   enough to notice a wrong one (but one in 65,536), and too few to find out which it was, as
   150,000 telephone numbers share each value.
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

__all__ = ["cursor_of", "resumed"]

_VERSION: Final = 1
#: Version and checksum; then, summed up by it: conference and filters, label, place.
_HEAD: Final = struct.Struct(">B4s")
_BODY: Final = struct.Struct(">6s2sI")
#: Characters: beyond any that we make, it is not worth a look.
_LONGEST: Final = 16_384

#: Stands in a query for the label's value: no URL can hold it (RFC 3986, 2).
_CUT_OUT: Final = " "
#: What a query consists of; a `#` would end it.
_QUERY: Final = re.compile(r"[!-\"$-\[\]-~]+")


def cursor_of(first: Request, page: Request, offset: int) -> str:
    """Return the cursor of a record.

    Args:
        first: the request for the first page of the list, as the caller's filters make it.
        page: the request for the record's page.
        offset: the record's place on the page, from 0.
    """
    label = _filters(first).get("Label")

    def cut(name: str, value: str) -> str:
        personal = name == "Label" or unquote_plus(value) == label
        return _CUT_OUT if personal else value

    query = _with_values(page.query, cut).encode()
    body = _BODY.pack(_hash_of_list(first), _hash_of_label(first), offset) + query
    return base64.urlsafe_b64encode(_HEAD.pack(_VERSION, _checksum(body)) + body).decode()


def resumed(first: Request, cursor: str) -> tuple[Request, int]:
    """Return the request for the page that a cursor names, and the place on it.

    Args:
        first: the request for the first page of the list, as this call's filters make it.
        cursor: what `cursor_of` returned.

    Raises:
        InvalidRequestError: it is no cursor, or of another version, conference or filters.
    """
    body = _body_of(cursor)
    of_list, of_label, offset = _BODY.unpack_from(body)
    query = body[_BODY.size :].decode("ascii", "replace")
    if of_list != _hash_of_list(first):
        message = "resume is a cursor of another conference, or of other filters."
        raise InvalidRequestError(message)
    label = _filters(first).get("Label")
    if of_label != _hash_of_label(first) or (label is None and _CUT_OUT in query):
        message = "resume is a cursor of another label: give the label that the list began with."
        raise InvalidRequestError(message)
    query = query.replace(_CUT_OUT, quote(label or "", safe=""))
    if not _QUERY.fullmatch(query):
        raise _no_cursor()
    return attrs.evolve(first, query=query), offset


def _body_of(cursor: object) -> bytes:
    if not isinstance(cursor, str) or len(cursor) > _LONGEST:
        raise _no_cursor()
    try:
        decoded = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except ValueError:
        decoded = b""
    if len(decoded) < _HEAD.size + _BODY.size:
        raise _no_cursor()
    version, checksum = _HEAD.unpack_from(decoded)
    body = decoded[_HEAD.size :]
    if checksum != _checksum(body):
        raise _no_cursor()
    if version != _VERSION:
        message = f"resume is a cursor of version {version}; this package reads {_VERSION}."
        raise InvalidRequestError(message)
    return body


def _no_cursor() -> InvalidRequestError:
    return InvalidRequestError("resume is not a cursor, or was cut off or changed on its way.")


def _filters(first: Request) -> dict[str, str]:
    """Return what the list is filtered by, PageSize left out: it is the page's, not the list's."""
    return {name: value for name, value in parse_qsl(first.query) if name != "PageSize"}


def _with_values(query: str, change: Callable[[str, str], str]) -> str:
    """Return a query with its values changed, and all else as it was, byte for byte."""
    fields: list[str] = []
    for field in query.split("&"):
        name, equals, value = field.partition("=")
        fields.append(name + equals + change(unquote_plus(name), value))
    return "&".join(fields)


def _checksum(body: bytes) -> bytes:
    return blake2b(body, digest_size=4).digest()


def _hash_of_list(first: Request) -> bytes:
    filters = {name: value for name, value in _filters(first).items() if name != "Label"}
    named = repr((first.path, sorted(filters.items())))
    return blake2b(named.encode(), digest_size=6).digest()


def _hash_of_label(first: Request) -> bytes:
    named = repr((first.path, _filters(first).get("Label")))
    return blake2b(named.encode("utf-8", "surrogatepass"), digest_size=2).digest()
