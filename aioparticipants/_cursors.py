"""Cursors: where a list goes on, as a short string that a queue or a table can hold.

1. A cursor names a page, by its query, and the index on it of the next record not delivered. So
   resuming neither repeats a record nor misses one.
2. It holds a short hash of the SID of the record before. Twilio promises no order of records
   between two requests for one page. If another record is there now, the list has changed, and
   resuming by the index alone would lose some records and repeat others.
3. It is opaque: base64url (RFC 4648, 5) of a version, a checksum, three hashes, the index and the
   query. If part of it was lost or changed, it is refused before anything is sent.
4. It holds no host and no credential. If a filter's value is personal data, such as a label, the
   value is cut out of the query, and put back from the arguments of the call that resumes.
5. That call must have the same path and filters. SIDs are equal in either case of their digits
   (Twilio describes them as `CF[0-9a-fA-F]{32}`). Two bytes of a hash of the personal value are
   kept: enough to notice a wrong value (all but one in 65,536), and too few to find the value, as
   150,000 telephone numbers share each hash.
6. Every cursor of a list can be resumed: the bound on its length follows from the bound on the
   links that a list follows.
7. A page token belongs to the page size that it was made for: where it leads with another size is
   unknown. So another page size is accepted only if the cursor names the first page, which has no
   token, and if the index is on that page in the new size too.
8. Version 1, which had no hash of the record before, is still read. Since version 2 the checksum
   covers the version. Version 3 is that of a list in slices: it also has the state of the slices,
   see `_slices`. A cursor of either kind of list is refused by the other.
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

__all__ = ["LONGEST_QUERY", "CursorCodec", "CursorScope", "Position"]

#: Characters of the longest query of a page: a longer next link is not followed.
LONGEST_QUERY: Final = 64 * 1024

_VERSION: Final = 2
_VERSION_IN_SLICES: Final = 3
#: Version and checksum. The body follows: hashes of the list and of the personal value, the index,
#: since version 2 the hash of the record before, in version 3 the length of the state and the
#: state, and the query. The checksum covers the body.
_HEAD: Final = struct.Struct(">B4s")
_BODY_1: Final = struct.Struct(">6s2sI")
_BODY: Final = struct.Struct(">6s2sI4s")
_LENGTH: Final = struct.Struct(">H")
#: In place of the hash of the record before, if there is none.
_NO_HASH: Final = bytes(4)

#: In place of a personal value in a query: no URL can hold a space (RFC 3986, 2).
_CUT_OUT: Final = " "
#: All characters that a query can hold; a `#` would end it.
_QUERY: Final = re.compile(r"[!-\"$-\[\]-~]+")
_SID: Final = re.compile(r"[A-Z]{2}[0-9a-fA-F]{32}")
#: Where the name of a parameter, such as FriendlyName, has an underscore as an argument.
_WORD_STARTS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


@attrs.frozen(kw_only=True)
class CursorScope:
    """How the cursors of a resource treat the filters in a query."""

    sids: frozenset[str]
    """The parameters whose values are SIDs."""
    personal: str | None
    """The parameter whose value is personal data; None if there is none."""


@attrs.frozen
class Position:
    """Where a list goes on: the page and index of the next record not delivered."""

    request: Request
    """The request for the page."""
    offset: int = 0
    """The index on the page."""
    before: str | bytes | None = None
    """The SID of the record before on the page, or its hash from a cursor; None if unknown."""

    def matches(self, sid: str | None) -> bool:
        """Return whether `sid` can be the record before: true for any if that is unknown."""
        if self.before is None:
            return True
        return sid is not None and _hash_of_sid(sid) == self.hash_before()

    def hash_before(self) -> bytes:
        """Return the hash of the record before, four zero bytes if it is unknown."""
        if isinstance(self.before, str):
            return _hash_of_sid(self.before)
        return self.before or _NO_HASH


class CursorCodec:
    """Writes and reads the cursors of one list."""

    def __init__(
        self, first: Request, scope: CursorScope, *, longest_state: int | None = None
    ) -> None:
        """Take the list by `first`, the request for its first page, as the caller's filters say.

        Args:
            first: the request; for a list in slices, that for the list without slices.
            scope: how the filters are treated.
            longest_state: for a list in slices, the most bytes of `Request.state`; else None.
        """
        self._first = first
        self._scope = scope
        self._longest_state = longest_state

    def encode(self, position: Position) -> str:
        """Return the cursor of a position in the list."""
        of_list, of_personal, personal = self._identity(_lower)

        def cut(name: str, value: str) -> str:
            hidden = name == self._scope.personal or unquote_plus(value) == personal
            return _CUT_OUT if value and hidden else value

        version, state = _VERSION, b""
        if self._longest_state is not None:
            version, state = _VERSION_IN_SLICES, position.request.state
            state = _LENGTH.pack(len(state)) + state
        query = _with_values(position.request.query, cut).encode()
        body = _BODY.pack(of_list, of_personal, position.offset, position.hash_before())
        body += state + query
        head = _HEAD.pack(version, _checksum(version, body))
        return base64.urlsafe_b64encode(head + body).decode()

    def decode(self, cursor: str, *, page_size: int | None = None) -> Position:
        """Return the position that a cursor names.

        Args:
            cursor: what `encode` returned, for this list or for another one.
            page_size: the size that the caller asked for, and `first` has; None for the cursor's.

        Raises:
            InvalidRequestError: it is not a cursor; or it is one of another version, conference or
                filters; or its index in pages of that size is unknown; or one of the lists is in
                slices, and the other is not.
        """
        version, body = _body_of(cursor, longest=self.longest_cursor())
        self._check_kind(version)
        state = b""
        if version == 1:
            (of_list, of_personal, offset), before = _BODY_1.unpack_from(body), _NO_HASH
            rest = body[_BODY_1.size :]
        else:
            of_list, of_personal, offset, before = _BODY.unpack_from(body)
            rest = body[_BODY.size :]
        if version == _VERSION_IN_SLICES:
            state, rest = _split(rest)
        query = self._with_personal(rest.decode("ascii", "replace"), of_list, of_personal)
        if page_size is not None:
            query = self._with_page_size(query, offset, page_size)
        request = attrs.evolve(self._first, query=query, state=state)
        return Position(request, offset, None if before == _NO_HASH else before)

    def longest_cursor(self) -> int:
        """Return the length that no cursor of the list exceeds."""
        # The caller's filter can be of any length, and the query of the first page has it.
        query = LONGEST_QUERY + len(self._first.query)
        state = 0 if self._longest_state is None else _LENGTH.size + self._longest_state
        return (_HEAD.size + _BODY.size + state + query + 2) // 3 * 4

    def _check_kind(self, version: int) -> None:
        """Raise InvalidRequestError if a cursor's list is in slices, and this one not, or so."""
        if (version == _VERSION_IN_SLICES) == (self._longest_state is not None):
            return
        message = "resume is a cursor of a list without slices: leave slices out."
        if version == _VERSION_IN_SLICES:
            message = "resume is a cursor of a list in slices: give the slices of the first call."
        raise InvalidRequestError(message)

    def _with_personal(self, query: str, of_list: bytes, of_personal: bytes) -> str:
        """Return a cursor's query with the personal value put back, if it is of this list."""
        # Version 1 did not ignore the case of SIDs.
        for sid_form in (_lower, _unchanged):
            own_list, own_personal, personal = self._identity(sid_form)
            if of_list == own_list:
                break
        else:
            message = (
                "resume is a cursor of another list, of another conference, or of other filters: "
                "give the arguments of the first call."
            )
            raise InvalidRequestError(message)
        if of_personal != own_personal or (personal is None and _CUT_OUT in query):
            name = _WORD_STARTS.sub("_", self._scope.personal or "filter").lower()
            message = f"resume is a cursor of another {name}: give the {name} of the first call."
            raise InvalidRequestError(message)
        value = quote(personal or "", safe="")
        # A server can write the value in a third of our characters, and not in fewer. A longer
        # query is not ours; to build it could take gigabytes.
        longest = 3 * LONGEST_QUERY + len(self._first.query)
        if query.count(_CUT_OUT) * len(value) > longest:
            raise _not_a_cursor()
        query = query.replace(_CUT_OUT, value)
        if not _QUERY.fullmatch(query):
            raise _not_a_cursor()
        return query

    def _with_page_size(self, query: str, offset: int, page_size: int) -> str:
        """Return the query for the page with an index, in pages of the caller's size."""
        if dict(parse_qsl(query)).get("PageSize") == str(page_size):
            return query
        own = self._filters(self._first.query, _lower)
        if self._filters(query, _lower) == own and offset <= page_size:
            return self._first.query
        message = (
            "page_size cannot change here: the cursor's page is known only in the size that its "
            "list had. Leave page_size out to go on, or leave resume out to start over with it."
        )
        raise InvalidRequestError(message)

    def _identity(self, sid_form: Callable[[str], str]) -> tuple[bytes, bytes, str | None]:
        """Return hashes of the list's path and filters, and of its personal value; and that value.

        Args:
            sid_form: returns a SID in the form to hash.
        """
        path = _SID.sub(lambda found: sid_form(found[0]), self._first.path)
        filters = self._filters(self._first.query, sid_form)
        personal = dict(filters).get(self._scope.personal or "")
        others = [each for each in filters if each[0] != self._scope.personal]
        of_list = blake2b(repr((path, others)).encode(), digest_size=6).digest()
        named = repr((path, personal)).encode("utf-8", "surrogatepass")
        return of_list, blake2b(named, digest_size=2).digest(), personal

    def _filters(self, query: str, sid_form: Callable[[str], str]) -> list[tuple[str, str]]:
        """Return the parameters of a query but PageSize, which is the page's, not the list's."""
        return sorted(
            (name, sid_form(value) if name in self._scope.sids else value)
            for name, value in parse_qsl(query, keep_blank_values=True)
            if name != "PageSize"
        )


def _body_of(cursor: object, *, longest: int) -> tuple[int, bytes]:
    """Return the version of a cursor, and the body that its checksum covers."""
    if not isinstance(cursor, str) or len(cursor) > longest:
        raise _not_a_cursor()
    try:
        decoded = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except ValueError:
        decoded = b""
    if len(decoded) < _HEAD.size + _BODY_1.size:
        raise _not_a_cursor()
    version, checksum = _HEAD.unpack_from(decoded)
    body = decoded[_HEAD.size :]
    if checksum != _checksum(version, body):
        raise _not_a_cursor()
    if not 1 <= version <= _VERSION_IN_SLICES:
        message = (
            f"resume is a cursor of version {version}; "
            f"this package reads 1 to {_VERSION_IN_SLICES}."
        )
        raise InvalidRequestError(message)
    if version != 1 and len(body) < _BODY.size:
        raise _not_a_cursor()
    return version, body


def _split(rest: bytes) -> tuple[bytes, bytes]:
    """Return the state and the query of a cursor of a list in slices."""
    if len(rest) < _LENGTH.size:
        raise _not_a_cursor()
    end = _LENGTH.size + _LENGTH.unpack_from(rest)[0]
    return rest[_LENGTH.size : end], rest[end:]


def _not_a_cursor() -> InvalidRequestError:
    return InvalidRequestError("resume is not a cursor, or part of it was lost or changed.")


def _lower(sid: str) -> str:
    """Return a SID with its digits in lower case, as Twilio writes them."""
    return sid[:2] + sid[2:].lower()


def _unchanged(sid: str) -> str:
    return sid


def _with_values(query: str, change: Callable[[str, str], str]) -> str:
    """Return a query with its values changed, and all else the same, byte for byte."""
    fields: list[str] = []
    for field in query.split("&"):
        name, equals, value = field.partition("=")
        fields.append(name + equals + change(unquote_plus(name), value))
    return "&".join(fields)


def _checksum(version: int, body: bytes) -> bytes:
    covered = body if version == 1 else bytes([version]) + body
    return blake2b(covered, digest_size=4).digest()


def _hash_of_sid(sid: str) -> bytes:
    """Return four bytes of a hash: one changed page in 4 billion is not noticed.

    More would make each cursor longer. The hash has nothing to hide, as a SID is no secret.
    """
    return blake2b(_lower(sid).encode("utf-8", "surrogatepass"), digest_size=4).digest()
