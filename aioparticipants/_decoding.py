"""The body of a page: the members around the records at once, the records in chunks, as needed.

1. JSON is strict UTF-8 (RFC 8259, 8.1); a byte order mark at the start is ignored, as that section
   allows. NaN and Infinity are not JSON (RFC 8259, 6). A body that does not end like an object, or
   has no readable `meta`, is refused by a transient error before any record is delivered.
2. A body stays bytes, and all positions are counted in bytes: there is never a text or a tree of
   the whole body. To read a value, a window of the body is decoded to text; if the value may not
   end within it, a larger window. The windows grow by a factor, so the work stays linear.
3. The members before the records are read first. The API sends `meta` there. If `meta` is the last
   member, it is read from the end: in JSON, a `"meta": {…}` right before the last brace is a member
   of the envelope. If it is anywhere else, all records are scanned once, with pauses.
4. Records are decoded in chunks, as they are reached, and released with the chunk; nobody goes
   back. A chunk starts at a record, and ends at a separator, `}, {` as the API writes it, or at the
   array's own bracket. The separator may also occur within a record. But if a chunk in brackets is
   an array, it consists of whole records. If it is not, its records are decoded one by one. The
   records of a small page are one chunk.
5. A record counts only once the comma or bracket after it is found. So a body can turn out to be
   malformed in the middle: the records before that are good, then comes an error with the path of
   the malformed one. It is final, as the body is complete, and would come again.
6. Where only words inside a record are malformed (a NaN, a raw control character, broken UTF-8),
   its brackets still show where it ends, and reading can go on after it. One pass over the bytes
   finds the end. It counts only if all brackets and strings match: after a missing quote or comma,
   good records could be skipped otherwise.
7. Of a repeated member the last one counts, as for `json`. But an envelope that repeats `meta` or
   the records is an error, as the first one is in use by then. Other members are decoded and
   ignored, up to a limit. If the records are null, there are none.
8. A faster decoder of chunks (`_msgspec`) is tried first, and may refuse; then `json` decides.
9. A single record is decoded at once, without a pause: it is a thousandth of a page. A longer one
   than any that the API can mean is refused unread, as it would hold the event loop for too long.
10. Errors are raised outside `except` blocks, so that no chained exception refers to the body.
"""

from __future__ import annotations

import json
import re
import sys
from codecs import BOM_UTF8
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, Self, cast

import attrs

from .errors import ResponseError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

__all__ = [
    "ChunkDecoder",
    "Envelope",
    "PageRecords",
    "Records",
    "array_items",
    "decoded",
    "envelope",
    "record_envelope",
]

#: Members of an envelope; they are read without a pause. The API sends two.
_MOST_MEMBERS: Final = 64
#: The limits of the search for the end of a malformed record: its bytes, and its tokens. A real
#: record has 1400 and 270. The search does not pause, so it must be short.
_LONGEST_SEARCH: Final = 256 * 2**10
_MOST_TOKENS: Final = 32 * 2**10
#: Records that are scanned between two pauses.
_STRIDE: Final = 32
#: Bytes of the first window for a value, more than a real record has, and the factor of growth.
_WINDOW: Final = 4 * 2**10
_GROWTH: Final = 4
#: Bytes of a chunk, by `json` and by a faster decoder: much less than a page, to save memory.
_CHUNK: Final = 16 * 2**10
_FAST_CHUNK: Final = 64 * 2**10
#: Records of at most so many bytes are decoded in one chunk.
_SMALL: Final = 128 * 2**10
#: Bytes of the longest single record: one of a participant with events has a few thousand.
_LONGEST_RECORD: Final = 2**20

_WHITE: Final = b" \t\n\r"
_SPACES: Final = re.compile(rb"[ \t\n\r]*")
#: A member's plain name, up to its value.
_NAME: Final = re.compile(rb'"([a-z_]{1,64})"[ \t\n\r]*:[ \t\n\r]*')
#: The tokens of a value: strings, marks, and other words. The last alternative is the quotation
#: mark of a string without an end. (Possessive, so that a match never backtracks.)
_TOKENS: Final = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{},:]|[^][{},:" \t\n\r]+|"', re.DOTALL
)
_CLOSING: Final = {ord("{"): ord("}"), ord("["): ord("]")}
_COMMA, _COLON, _BRACKET = b",:]"
#: The body to read where the records are null: an empty array, and the end of the envelope.
_NO_RECORDS: Final = b"[]}"
#: A number ends only before one of these: `1` may be the beginning of `1e5`.
_AFTER_VALUES: Final = frozenset(" \t\n\r,:]}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


#: The indexes of any number of records.
_ALL: Final = range(sys.maxsize)
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def decoded(body: bytes | bytearray) -> Any:
    """Decode a whole body; raise ValueError or RecursionError if it is not JSON."""
    return _value_of(body.removeprefix(BOM_UTF8))


def _value_of(text: bytes | bytearray) -> Any:
    return _DECODER.decode(text.decode("utf-8"))


def array_items(body: bytes) -> Iterator[object]:
    """Yield the items of a body that is an array, and a ResponseError for a malformed item.

    Raises:
        ResponseError: the rest of the body cannot be read: it was cut off, or it is no array.
    """
    # With the bracket of an envelope after the array, this is what `Records` reads.
    text = body.removeprefix(BOM_UTF8).rstrip(_WHITE) + b"}"
    records = Records(
        _Reader(text, "", _WINDOW, []), _skip(text, 0), len(text) - 2, _by_json, _SMALL
    )
    index = 0
    while index != records.count:
        try:
            item = records.at(index)
        except ResponseError as error:
            if not records.skip(index):
                raise
            item = error
        yield item
        index += 1
    if records.end != len(text) - 2:  # members of an envelope come after it
        raise _fault_after_records(ValueError()).error()


class ChunkDecoder(Protocol):
    """Decodes an array of records; returns None where `json` must decide."""

    def __call__(self, array: bytes, /) -> list[object] | None: ...


class PageRecords(Protocol):
    """The records of a page, to be read in their order: all of them, or those that a slice has."""

    @property
    def known(self) -> int:
        """The number of records found so far."""
        ...

    @property
    def count(self) -> int | None:
        """The number of all records; None until the last one is found."""
        ...

    @property
    def indexes(self) -> Sequence[int]:
        """The index in the body, of each record: for the path of an error."""
        ...

    def at(self, index: int, /) -> object:
        """Return a decoded record; raise as `Records.at` does."""
        ...

    def skip(self, index: int, /) -> bool:
        """Skip a malformed record; return whether that is possible."""
        ...

    def scan(self, count: int, /) -> Iterator[None]:
        """Decode up to `count` records."""
        ...

    def scan_ahead(self, count: int, /) -> Iterator[None]:
        """Find out whether there are `count` records."""
        ...


@attrs.frozen
class Envelope:
    """A page's body, its records not decoded yet."""

    members: dict[str, Any] = attrs.field(repr=False)
    """The members around the records, as far as they were read."""
    records: Records | None = attrs.field(repr=False)
    """None if they are missing, or neither an array nor null."""


def envelope(
    body: bytes | bytearray,
    key: str,
    decode: ChunkDecoder | None,
    *,
    window: int = _WINDOW,
    chunk: int | None = None,
) -> Generator[None, None, Envelope]:
    """Read what is needed of a body before its first record; a generator that yields as a pause.

    Args:
        body: the body of a page. It is read later, too, and must not change.
        key: the member that has the records.
        decode: decodes records faster than `json`; None if nothing does.
        window: bytes of the first window for a value.
        chunk: bytes of a chunk; None for the usual size.

    Raises:
        ResponseError: it is not JSON (transient), or not an envelope (final).
    """
    reader = _Reader(body, key, window, [])
    try:
        return (yield from _envelope(reader, decode, chunk))
    except (ValueError, RecursionError) as error:
        fault = _fault_before_records(error)
    raise fault.error()


def record_envelope(body: bytes | bytearray) -> Envelope:
    """Return the envelope of a page whose only record is the whole body.

    Raises:
        ResponseError: it is not JSON (transient), or too long or not an object (final).
    """
    try:
        if len(body) > _LONGEST_RECORD:
            words = f"is longer than {_LONGEST_RECORD} bytes: too long for a single record"
            raise _NotAPageError(words)
        record = decoded(body)
        if not isinstance(record, dict):
            words = "is JSON, but not an object"
            raise _NotAPageError(words)
        return Envelope({}, _no_records().with_only(cast("object", record)))
    except (ValueError, RecursionError) as error:
        fault = _fault_before_records(error)
    raise fault.error()


def _envelope(
    reader: _Reader, decode: ChunkDecoder | None, chunk: int | None
) -> Generator[None, None, Envelope]:
    body, members = reader.body, reader.members
    start = reader.read_to_records()
    if start is None:
        null = members.get(reader.key, ...) is None
        return Envelope(members, _no_records() if null else None)
    end = body.rfind(b"}")
    if _skip(body, end + 1) != len(body):
        raise ValueError
    if "meta" not in members and (trailing := _trailing_meta(reader)) is not None:
        meta, end = trailing
        members = {**members, "meta": meta}
    close = body.rfind(b"]", start, end)
    if close < 0:
        raise ValueError
    if chunk is None:
        usual = _CHUNK if decode is None else _FAST_CHUNK
        chunk = _SMALL if close - start <= _SMALL else usual
    records = Records(reader, start, close, decode or _by_json, chunk)
    if "meta" not in members:
        ahead = Records(reader.copy(), start, close, decode or _by_json, chunk)
        yield from ahead.scan()
        if ahead.end is None:
            raise ValueError
        rest = reader.copy()
        rest.read_members(_skip(body, ahead.end + 1))
        members = {**members, **rest.members}
    return Envelope(members, records)


def _no_records() -> Records:
    """Return the records of an envelope where these are null."""
    return Records(_Reader(_NO_RECORDS, "", _WINDOW, []), 0, 1, _by_json, _CHUNK)


def _trailing_meta(reader: _Reader) -> tuple[object, int] | None:
    """Return the value of a `meta` that is the last member, and the position of its comma."""
    body = reader.body
    name = body.rfind(b'"meta"')
    comma = body.rfind(b",", 0, max(name, 0))
    if comma < 0 or _skip(body, comma + 1) != name:
        return None
    colon = _skip(body, name + len(b'"meta"'))
    try:
        value, end = reader.value(_skip(body, colon + 1))
    except (ValueError, RecursionError):
        return None
    end = _skip(body, end)
    last = (
        body.startswith(b":", colon)
        and body.startswith(b"}", end)
        and _skip(body, end + 1) == len(body)
    )
    return (value, comma) if last else None


def _skip(body: bytes | bytearray, at: int) -> int:
    """Return the position after the white space at a position."""
    found = _SPACES.match(body, at)
    return found.end() if found else at


# --- What can be wrong ---


@attrs.frozen
class Fault:
    """What is wrong with a body. Each raise takes a new error, as a raised one refers to frames."""

    words: str
    path: str | None = None
    transient: bool = True

    def error(self) -> ResponseError:
        """Return the error to raise."""
        message = (
            f"The body of the reply {self.words}. "
            "Check base_url, and any proxy or gateway in between."
        )
        return ResponseError(message, path=self.path, transient=self.transient)


class _NotAPageError(ValueError):
    """The body may be JSON, but is not an envelope; retrying cannot fix it."""

    def __init__(self, words: str, path: str | None = None) -> None:
        super().__init__(words)
        self.fault = Fault(words, path, transient=False)


def _fault_before_records(error: ValueError | RecursionError) -> Fault:
    """Return what is wrong with a body, found before its first record."""
    if isinstance(error, _NotAPageError):
        return error.fault
    if isinstance(error, RecursionError):
        return Fault("is nested too deeply")
    return Fault("was cut off, or is not JSON in UTF-8")


def _fault_after_records(error: ValueError | RecursionError) -> Fault:
    """Return what is wrong with a body, found after its last record."""
    fault = _fault_before_records(error)
    return attrs.evolve(fault, words=f"{fault.words}, after its last record", transient=False)


def _fault_in_record(error: ValueError | RecursionError, path: str) -> Fault:
    """Return what is wrong with a body, found in one of its records."""
    deep = isinstance(error, RecursionError)
    words = "is nested too deeply" if deep else "is not JSON in UTF-8"
    return Fault(f"{words} at {path}", path, transient=False)


# --- Values, and members ---


class _Reader:
    """Reads the members of an envelope, first up to the records, later those after them."""

    def __init__(self, body: bytes | bytearray, key: str, window: int, names: list[str]) -> None:
        self.body = body
        self.key = key
        self.members: dict[str, Any] = {}
        """The members that this reader has read."""
        self._window = window
        self._names = names  # of all members that were read

    def copy(self) -> _Reader:
        """Return a reader that can read the same members as this one next."""
        return _Reader(self.body, self.key, self._window, [*self._names])

    def value(self, at: int) -> tuple[Any, int]:
        """Decode the value at a position; return it, and the position after it."""
        size = self._window
        while (found := self._value_within(at, size)) is None:
            size *= _GROWTH
        return found

    def short_value(self, at: int) -> tuple[Any, int] | None:
        """Do the same for a value that ends within a few windows; return None for a longer one."""
        sizes = (self._window, self._window * _GROWTH, self._window * _GROWTH**2)
        return next(filter(None, (self._value_within(at, size) for size in sizes)), None)

    def _value_within(self, at: int, size: int) -> tuple[Any, int] | None:
        """Decode a value that ends within `size` bytes; return None if it may be longer."""
        rest = at + size >= len(self.body)
        text = _text(self.body[at : at + size])
        try:
            value, end = _DECODER.raw_decode(text)
        except json.JSONDecodeError:  # other errors are final, such as a NaN or too many digits
            if rest:
                raise
            return None
        if rest or text[end : end + 1] in _AFTER_VALUES:
            return value, at + (end if text.isascii() else len(text[:end].encode()))
        return None

    def read_to_records(self) -> int | None:
        """Read the members before the records; return the position of their array, if there is."""
        at = _skip(self.body, len(BOM_UTF8) if self.body.startswith(BOM_UTF8) else 0)
        if not self.body.startswith(b"{", at):
            decoded(self.body)
            words = "is JSON, but not an object"
            raise _NotAPageError(words)
        return self.read_members(at, b"{")

    def read_members(self, at: int, expected: bytes = b",") -> int | None:
        """Read the members after an `expected` mark, or the end; return the same."""
        body = self.body
        while body.startswith(expected, at):
            at = _skip(body, at + 1)
            if expected == b"{" and body.startswith(b"}", at):
                break
            name, at = self._name(at)
            if name == self.key and body.startswith(b"[", at):
                return at
            self.members[name], at = self.value(at)
            at, expected = _skip(body, at), b","
        if not body.startswith(b"}", at) or _skip(body, at + 1) != len(body):
            raise ValueError
        return None

    def _name(self, at: int) -> tuple[str, int]:
        """Read a member's name and colon; return the name, and the position of the value."""
        if (plain := _NAME.match(self.body, at)) is not None:
            name, at = plain[1].decode("ascii"), plain.end()
        else:
            name, at = self._any_name(at)
        if name in {self.key, "meta"} and name in self._names:
            words = "is not a page: a member occurs twice"
            raise _NotAPageError(words, name)
        if len(self._names) == _MOST_MEMBERS:
            words = "is not a page: it has too many members"
            raise _NotAPageError(words)
        self._names.append(name)
        return name, at

    def _any_name(self, at: int) -> tuple[str, int]:
        if not self.body.startswith(b'"', at):
            raise ValueError
        name, at = self.value(at)
        at = _skip(self.body, at)
        if not self.body.startswith(b":", at):
            raise ValueError
        return name, _skip(self.body, at + 1)


def _text(piece: bytes | bytearray) -> str:
    """Decode a piece of a body, up to invalid UTF-8 or an incomplete character at its end."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError as error:
        return piece[: error.start].decode("utf-8")


# --- Records ---


def _by_json(array: bytes) -> list[object] | None:
    """Decode records by the standard library."""
    try:
        return cast("list[object]", decoded(array))
    except (ValueError, RecursionError):
        return None


class Records:
    """The records of a page, decoded in chunks; to be read in their order."""

    def __init__(
        self, reader: _Reader, start: int, close: int, decode: ChunkDecoder, chunk: int
    ) -> None:
        """Read the records after the mark at `start`; the array probably ends at `close`."""
        self.known: int = 0
        """The number of records found so far, by decoding or by scanning ahead."""
        self.count: int | None = None
        """The number of all records; None until the last one is found."""
        self.end: int | None = None
        """The position of the bracket after the last record; None until it is reached."""
        self.indexes: Sequence[int] = _ALL
        self._reader = reader
        self._body = reader.body
        self._start = start
        self._close = close
        self._decode = decode
        self._chunk = chunk
        #: What is wrong with the record after the batch, or after the last one.
        self._fault: Fault | None = None
        # The decoded records, the index of the first, and the position of the mark after the last.
        self._batch: list[object] = []
        self._first, self._mark = 0, start
        #: The separator of two records with their braces; as the API writes it, until one is found.
        self._separator = b"}, {"
        self._separator_is_a_guess = True
        self._no_chunk_in = range(0)  # positions where there was no chunk, or it was refused
        first = _skip(self._body, start + 1)
        if self._body.startswith(b"[", start) and self._body.startswith(b"]", first):
            self._finish(first)

    def with_only(self, record: object) -> Self:
        """Return itself, with a decoded record in place of none."""
        self._batch, self.known, self.count = [record], 1, 1
        return self

    def at(self, index: int) -> object:
        """Return the decoded record at `index`, which is in the batch or after it.

        Records of earlier chunks are released.

        Raises:
            ResponseError: it is malformed, or one before it is that was not skipped, or the
                envelope after the last record. It is final.
            IndexError: it was released, or there are fewer records.
        """
        at = index - self._first
        if 0 <= at < len(self._batch):
            return self._batch[at]
        fault = self._fault
        if at < 0 or (fault is None and self.end is not None):
            raise IndexError(index)
        if fault is None:
            try:
                while index >= self._next:
                    self._decode_next()
                return self._batch[index - self._first]
            except (ValueError, RecursionError) as error:
                path = f"{self._reader.key}[{self._first}]"
                fault = self._fault = _fault_in_record(error, path)
        raise fault.error()

    def skip(self, index: int) -> bool:
        """Skip the malformed record at `index`, for which `at` has just raised.

        Return whether that is possible: whether its end can be found.
        """
        if self._fault is None or self.end is not None or index != self._next:
            return False
        mark = _mark_after(self._body, _skip(self._body, self._mark + 1))
        if mark is None:
            return False
        self._fault = None
        self._first, self._mark = index + 1, mark
        self._count_batch()
        return True

    def first_bytes(self) -> bytes:
        """Return the beginning of the array, with at least that of the first record."""
        return bytes(self._body[self._start : self._start + _WINDOW])

    def fingerprint(self) -> tuple[int, bytes, bytes]:
        """Return what is equal for two arrays of the same records: length, beginning and end."""
        start, end = self._start, max(self._close, self._start)
        opening = bytes(self._body[start : min(end, start + _WINDOW)])
        return end - start, opening, bytes(self._body[max(start, end - _WINDOW) : end])

    def scan(self, count: int | None = None) -> Iterator[None]:
        """Decode up to `count` records, or all; a generator that yields as a pause.

        Malformed ones are skipped, and count. It stops at one that cannot be skipped, for which
        `at` then raises.
        """
        paused = self._next
        while self.end is None and (count is None or self._next < count):
            try:
                self.at(self._next)
            except ResponseError:
                if not self.skip(self._next):
                    return
            if self._next - paused >= _STRIDE:
                paused = self._next
                yield

    def scan_ahead(self, count: int) -> Iterator[None]:
        """Find out whether there are `count` records, and update `known`; yields as a pause.

        The batch stays where it is. Records after it are decoded again later.
        """
        if not self._batch and self.end is None:
            with suppress(ResponseError):  # it is raised when the consumer reaches it
                self.at(self._next)
        if self.known >= count or self.end is not None:
            return
        passed = self._next
        ahead = Records(self._reader.copy(), self._mark, self._close, self._decode, self._chunk)
        yield from ahead.scan(count - passed)
        self.known = passed + ahead.known
        self.count = None if ahead.count is None else self.known

    @property
    def _next(self) -> int:
        """The index of the record after the batch."""
        return self._first + len(self._batch)

    def _decode_next(self) -> None:
        """Replace the batch by the records after it."""
        self._first, self._batch = self._next, []  # released before more is decoded
        at = _skip(self._body, self._mark + 1)
        self._batch, self._mark = self._chunk_at(at) or self._record_at(at)
        self._count_batch()

    def _count_batch(self) -> None:
        """Count the records of the batch, and find out whether they are the last."""
        self.known = max(self.known, self._next)
        if self._body.startswith(b"]", self._mark):
            self._finish(self._mark)

    def _chunk_at(self, at: int) -> tuple[list[object], int] | None:
        """Return a chunk of records, and the position of the mark after it; None if it is none."""
        if at in self._no_chunk_in:
            return None
        end = at + self._chunk
        stop = self._close
        if not at < stop <= end:
            stop = self._body.rfind(self._separator, at, end) + 1
            if not stop and self._separator_is_a_guess:
                self._separator_is_a_guess = False  # the record that is read now shows the real one
                return None
        found = None
        if stop:
            found = self._decode(b"".join((b"[", memoryview(self._body)[at:stop], b"]")))
        if found is None:
            self._no_chunk_in = range(at, end)
            return None
        return found, _skip(self._body, stop)

    def _record_at(self, at: int) -> tuple[list[object], int]:
        """Return a single record, and the position of the mark after it."""
        body = self._body
        record, end = self._reader.short_value(at) or self._long_record(at)
        mark = _skip(body, end)
        if body.startswith(b",", mark):
            after = _skip(body, mark + 1)
            if body.startswith(b"}", end - 1) and body.startswith(b"{", after):
                self._separator = bytes(body[end - 1 : after + 1])
        elif not body.startswith(b"]", mark):
            raise ValueError
        return [record], mark

    def _long_record(self, at: int) -> tuple[Any, int]:
        """Return a record that is malformed or longer than a few windows, and the position after.

        Its end is searched for first: to decode larger and larger windows for each malformed record
        would be quadratic work.
        """
        mark = _mark_after(self._body, at)
        if mark is None:
            return self._reader.value(at)
        text = self._body[at:mark].rstrip(_WHITE)
        return _value_of(text), at + len(text)

    def _finish(self, at: int) -> None:
        """Read the members after the records; `at` raises for a fault there."""
        self.end = at
        try:
            self._reader.read_members(_skip(self._body, at + 1))
            self.count = self._next
        except (ValueError, RecursionError) as error:
            self._fault = _fault_after_records(error)


def _mark_after(body: bytes | bytearray, at: int) -> int | None:
    """Return the position of the comma or bracket after a record, by its strings and brackets.

    None if these do not match, or the record is too long for the search: its end is then unknown.
    """
    closing = bytearray()  # the brackets that must still be closed, the outermost first
    ended = False  # a string, an array or an object has just ended, and a mark must follow
    for found in islice(_TOKENS.finditer(body, at, at + _LONGEST_SEARCH), _MOST_TOKENS):
        mark = body[found.start()]
        if mark == _COMMA and not closing:
            return found.start()
        if mark in b"]}":
            if not closing:
                return found.start() if mark == _BRACKET else None
            if closing.pop() != mark:
                return None
        elif mark == _COLON:
            if not closing.endswith(b"}"):
                return None
        elif mark != _COMMA and (ended or found[0] == b'"'):
            return None
        elif mark in _CLOSING:
            closing.append(_CLOSING[mark])
        ended = mark in b'"]}'
    return None
