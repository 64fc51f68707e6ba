"""A page's body: the envelope at once, and its records a few at a time, as they are taken.

1. JSON is strict UTF-8 (RFC 8259, 8.1), a byte order mark before it ignored, as that allows; NaN
   and Infinity are no JSON (RFC 8259, 6). A body that does not end as an object does, or that has
   no readable `meta`, is refused before a record is delivered, by a transient error.
2. A body stays bytes, and all places in it are counted in bytes: no text of the whole is made, and
   no tree of it. To read a value, a window of the body is made a text; where the value is not seen
   to end in it, a larger one. The windows grow by a factor, so that the work stays linear.
3. The members before the records are read first, `meta` among them, as the API sends it. Where it
   comes last, it is read from the end: in JSON, a `"meta": {…}` right before the last brace is a
   member of the envelope. Where it is elsewhere, all records are walked through once, in steps.
4. Records are decoded in chunks, as they are reached, and let go with the chunk; nobody goes back.
   A chunk ends at what stands between two records, `}, {` as the API writes it, or at the array's
   own bracket. That may stand within a record, too; but what is an array between two brackets, read
   from the start of a record, is whole records and nothing else. What is none is read record by
   record. The records of a small page are one chunk.
   (Measured, microseconds a record: 7.9 in chunks of 16 KiB, 9.0 in chunks of 4.)
5. A record counts once the comma or the bracket behind it is seen. So a body can prove bad
   half-way, be it JSON or UTF-8 that is broken: the records before that are good, and then comes an
   error with the place of the bad one. It is final, as the body came whole, and would come again.
6. Where only the words inside a record are bad (a NaN, a raw control character, broken UTF-8), its
   brackets still tell where it ends, and reading can go on behind it. That is asked of the bytes,
   in one pass, and believed only where all brackets and strings fit together: a missing quote or
   comma could else swallow good records.
7. A member that is repeated counts as it came last, as `json` has it. But an envelope that repeats
   `meta` or the records is an error: by then half of it is used. Its further members are decoded,
   and left alone, up to a bound. Records of null are no records.
8. What decodes chunks faster (`_shapes`) is asked first, and may refuse.
9. Errors are raised outside `except` blocks, so that no chained exception holds the body.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, cast

import attrs

from .errors import ResponseError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = ["ChunkDecoder", "Envelope", "Records", "decoded", "envelope"]

#: Members of an envelope. The API sends two, and as many as this are read without a pause.
_MOST_MEMBERS: Final = 64
#: Bytes of a malformed record that are searched for its end, and strings, marks and other words in
#: these. A real record has 1400 and 270. Half a microsecond a word: the longest search takes 20 ms.
_LONGEST_SEARCH: Final = 256 * 2**10
_MOST_TOKENS: Final = 32 * 2**10
#: Records that are walked through between two pauses: half a millisecond.
_STRIDE: Final = 32
#: Bytes in which a value is looked for first: a record is 1.4 KB. Then in so many times as many.
_WINDOW: Final = 4 * 2**10
_GROWTH: Final = 4
#: Bytes of a chunk: a tenth of a millisecond by `json`, and a fifth by what is faster. So few that
#: a page of 1000 takes little memory besides its body.
_CHUNK: Final = 16 * 2**10
_FAST_CHUNK: Final = 64 * 2**10
#: Bytes of records that are one chunk: a millisecond of real ones. (Measured, microseconds for a
#: page of 50: 1105 by `json` and 700 by what is faster in chunks as above, 1070 and 677 in one.)
_SMALL: Final = 128 * 2**10

_WHITE: Final = b" \t\n\r"
_SPACES: Final = re.compile(rb"[ \t\n\r]*")
#: A plain member's name, as far as its value.
_NAME: Final = re.compile(rb'"([a-z_]{1,64})"[ \t\n\r]*:[ \t\n\r]*')
#: What a value is made of, if its words are not looked at: strings, marks, and what is neither. The
#: last alternative is a string without an end. (Possessive, as nothing needs to be tried twice.)
_TOKENS: Final = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{},:]|[^][{},:" \t\n\r]+|"', re.DOTALL
)
_CLOSING: Final = {ord("{"): ord("}"), ord("["): ord("]")}
_COMMA, _COLON, _BRACKET = b",:]"
#: Stands for records of null: an array, and the end of its envelope.
_NO_RECORDS: Final = b"[]}"
#: What can follow a value. Without it, `1` might be the beginning of `1e5`.
_BEHIND_VALUES: Final = frozenset(" \t\n\r,:]}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def decoded(body: bytes | bytearray) -> Any:
    """Return what a body says in JSON; raise ValueError or RecursionError if it is none."""
    return _value_of(body.removeprefix(BOM_UTF8))


def _value_of(text: bytes | bytearray) -> Any:
    return _DECODER.decode(text.decode("utf-8"))


class ChunkDecoder(Protocol):
    """Decodes an array of records; returns None where `json` is to decide on them."""

    def __call__(self, array: bytes, /) -> list[object] | None: ...


@attrs.frozen
class Envelope:
    """A page's body, its records not decoded yet."""

    members: dict[str, Any] = attrs.field(repr=False)
    """What stands around the records, as far as it was read."""
    records: Records | None = attrs.field(repr=False)
    """None where there is neither an array of them nor null."""


def envelope(
    body: bytes | bytearray,
    key: str,
    decode: ChunkDecoder | None,
    *,
    window: int = _WINDOW,
    chunk: int | None = None,
) -> Generator[None, None, Envelope]:
    """Read as much of a body as is needed before its first record, with pauses in between.

    Args:
        body: of a page. It is read later on, too, and must not change.
        key: the member that holds the records.
        decode: what decodes records faster than `json`, if there is such a thing.
        window: bytes in which a value is looked for first.
        chunk: bytes of records that are decoded at once, if they are not fewer.

    Raises:
        ResponseError: it is no JSON, and a transient error; or it is no envelope, and a final one.
    """
    reader = _Reader(body, key, window, [])
    try:
        return (yield from _envelope(reader, decode, chunk))
    except (ValueError, RecursionError) as error:
        fault = _fault_of(error)
    raise fault.error()


def _envelope(
    reader: _Reader, decode: ChunkDecoder | None, chunk: int | None
) -> Generator[None, None, Envelope]:
    body, members = reader.body, reader.members
    start = reader.begin()
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
        ahead = Records(reader.twin(), start, close, decode or _by_json, chunk)
        yield from ahead.walk()
        if ahead.end is None:
            raise ValueError
        behind = reader.twin()
        behind.go_on(_skip(body, ahead.end + 1))
        members = {**members, **behind.members}
    return Envelope(members, records)


def _no_records() -> Records:
    """Return no records, where the envelope was read to its end."""
    return Records(_Reader(_NO_RECORDS, "", _WINDOW, []), 0, 1, _by_json, _CHUNK)


def _trailing_meta(reader: _Reader) -> tuple[object, int] | None:
    """Return the value of a `meta` that is the last member, and where the comma before it is."""
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
    last = _is(body, colon, b":") and _is(body, end, b"}") and _skip(body, end + 1) == len(body)
    return (value, comma) if last else None


def _skip(body: bytes | bytearray, at: int) -> int:
    """Return where the white space at a place ends."""
    found = _SPACES.match(body, at)
    return found.end() if found else at


def _is(body: bytes | bytearray, at: int, mark: bytes) -> bool:
    """Tell whether a mark stands at a place."""
    return body.startswith(mark, at)


# --- What can be wrong ---


@attrs.frozen
class Fault:
    """What is wrong with a body. An error is made of it each time: a raised one holds frames."""

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


class _NoEnvelopeError(ValueError):
    """It may be JSON, but is no envelope, and will be none next time."""

    def __init__(self, words: str, path: str | None = None) -> None:
        super().__init__(words)
        self.fault = Fault(words, path, transient=False)


def _fault_of(error: ValueError | RecursionError) -> Fault:
    """Return what is wrong with a body of which no record was delivered yet."""
    if isinstance(error, _NoEnvelopeError):
        return error.fault
    if isinstance(error, RecursionError):
        return Fault("is nested too deeply")
    return Fault("was cut off, or is not JSON in UTF-8")


def _fault_behind(error: ValueError | RecursionError) -> Fault:
    """Return what is wrong with a body behind its last record."""
    fault = _fault_of(error)
    return attrs.evolve(fault, words=f"{fault.words}, behind its last record", transient=False)


def _fault_at(error: ValueError | RecursionError, path: str) -> Fault:
    """Return what is wrong with a body at one of its records."""
    deep = isinstance(error, RecursionError)
    words = "is nested too deeply" if deep else "is not JSON in UTF-8"
    return Fault(f"{words} at {path}", path, transient=False)


# --- Values, and members ---


class _Reader:
    """Reads the members of an envelope: up to the records, and then behind them."""

    def __init__(self, body: bytes | bytearray, key: str, window: int, names: list[str]) -> None:
        self.body = body
        self.key = key
        self.members: dict[str, Any] = {}
        """Those that this has read."""
        self._window = window
        self._names = names  # of the members that were read

    def twin(self) -> _Reader:
        """Return a reader that goes on where this one would."""
        return _Reader(self.body, self.key, self._window, [*self._names])

    def value(self, at: int) -> tuple[Any, int]:
        """Decode the value at a place; return it, and where it ends."""
        size = self._window
        while (found := self._value_within(at, size)) is None:
            size *= _GROWTH
        return found

    def short_value(self, at: int) -> tuple[Any, int] | None:
        """Do as `value`; return None where it is not seen to end in a few windows."""
        sizes = (self._window, self._window * _GROWTH, self._window * _GROWTH**2)
        return next(filter(None, (self._value_within(at, size) for size in sizes)), None)

    def _value_within(self, at: int, size: int) -> tuple[Any, int] | None:
        """Decode a value that is seen to end within so many bytes; return None if it is not."""
        rest = at + size >= len(self.body)
        text = _text(self.body[at : at + size])
        try:
            value, end = _DECODER.raw_decode(text)
        except json.JSONDecodeError:  # all else is wrong whatever follows: a NaN, too many digits
            if rest:
                raise
            return None
        if rest or text[end : end + 1] in _BEHIND_VALUES:
            return value, at + (end if text.isascii() else len(text[:end].encode()))
        return None

    def begin(self) -> int | None:
        """Read up to the records; return where their array begins, None where there is none."""
        at = _skip(self.body, len(BOM_UTF8) if self.body.startswith(BOM_UTF8) else 0)
        if not _is(self.body, at, b"{"):
            decoded(self.body)
            words = "is JSON, but not an object"
            raise _NoEnvelopeError(words)
        return self.go_on(at, b"{")

    def go_on(self, at: int, due: bytes = b",") -> int | None:
        """Read on where a comma is due, or the end; return the same."""
        body = self.body
        while _is(body, at, due):
            at = _skip(body, at + 1)
            if due == b"{" and _is(body, at, b"}"):
                break
            name, at = self._name(at)
            if name == self.key and _is(body, at, b"["):
                return at
            self.members[name], at = self.value(at)
            at, due = _skip(body, at), b","
        if not _is(body, at, b"}") or _skip(body, at + 1) != len(body):
            raise ValueError
        return None

    def _name(self, at: int) -> tuple[str, int]:
        """Read a member's name and colon; return the name, and where the value begins."""
        if (plain := _NAME.match(self.body, at)) is not None:
            name, at = plain[1].decode("ascii"), plain.end()
        else:
            name, at = self._any_name(at)
        if name in {self.key, "meta"} and name in self._names:
            words = "is not a page: a member is there twice"
            raise _NoEnvelopeError(words, name)
        if len(self._names) == _MOST_MEMBERS:
            words = "is not a page: it has too many members"
            raise _NoEnvelopeError(words)
        self._names.append(name)
        return name, at

    def _any_name(self, at: int) -> tuple[str, int]:
        if not _is(self.body, at, b'"'):
            raise ValueError
        name, at = self.value(at)
        at = _skip(self.body, at)
        if not _is(self.body, at, b":"):
            raise ValueError
        return name, _skip(self.body, at + 1)


def _text(piece: bytes | bytearray) -> str:
    """Return a piece of a body as text, up to where it is no UTF-8, or ends within a character."""
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
    """The records of a page, decoded by the chunk; to be taken in their order."""

    def __init__(
        self, reader: _Reader, start: int, close: int, decode: ChunkDecoder, chunk: int
    ) -> None:
        """Read them from the mark at `start` on, perhaps to the bracket at `close`."""
        self.known: int = 0
        """How many there are at least: those that were reached, and those that were seen ahead."""
        self.count: int | None = None
        """How many there are; None while the last one was neither reached nor seen."""
        self.end: int | None = None
        """Where the bracket behind the last one is; None while that was not reached."""
        self._reader = reader
        self._body = reader.body
        self._start = start
        self._close = close
        self._decode = decode
        self._chunk = chunk
        #: What is wrong with the record behind those at hand, or behind the last one.
        self._fault: Fault | None = None
        # The records at hand, the index of the first, and the place of the mark behind the last.
        self._batch: list[object] = []
        self._first, self._behind = 0, start
        #: What stands between two records, with their braces; as the API writes it, until known.
        self._between = b"}, {"
        self._guessing = True  # what stands between two, as no record was looked at by itself
        self._singly = range(0)  # where no chunk is tried, as there was none, or it was refused
        first = _skip(self._body, start + 1)
        if _is(self._body, start, b"[") and _is(self._body, first, b"]"):
            self._end(first)

    def at(self, index: int) -> object:
        """Return the record at `index`, decoded: one of those at hand, or any behind these.

        Those before it are let go, but for what was decoded with it.

        Raises:
            ResponseError: it is malformed, or one before it is, and was not skipped; or the
                envelope is, behind the last record. It is final.
            IndexError: it was let go, or there are not as many.
        """
        place = index - self._first
        if 0 <= place < len(self._batch):
            return self._batch[place]
        fault = self._fault
        if place < 0 or (fault is None and self.end is not None):
            raise IndexError(index)
        if fault is None:
            try:
                while index >= self._next:
                    self._go_on()
                return self._batch[index - self._first]
            except (ValueError, RecursionError) as error:
                path = f"{self._reader.key}[{self._first}]"
                fault = self._fault = _fault_at(error, path)
        raise fault.error()

    def skip(self, index: int) -> bool:
        """Go past the malformed record at `index`, for which `at` has just raised.

        Return whether the rest can be read: whether it can be told where that record ends.
        """
        if self._fault is None or self.end is not None or index != self._next:
            return False
        mark = _mark_behind(self._body, _skip(self._body, self._behind + 1))
        if mark is None:
            return False
        self._fault = None
        self._first, self._behind = index + 1, mark
        self._reached()
        return True

    def opening(self) -> bytes:
        """Return the first bytes of the array, in which the first record begins."""
        return bytes(self._body[self._start : self._start + _WINDOW])

    def look(self) -> tuple[int, bytes, bytes]:
        """Return what two arrays of the same records share: length, beginning and end."""
        start, end = self._start, max(self._close, self._start)
        opening = bytes(self._body[start : min(end, start + _WINDOW)])
        return end - start, opening, bytes(self._body[max(start, end - _WINDOW) : end])

    def walk(self, count: int | None = None) -> Iterator[None]:
        """Go past so many records, or all, with pauses in between.

        Malformed ones count, too, where the rest can be read. If it cannot, this goes no further,
        and `at` tells why.
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

    def look_ahead(self, count: int) -> Iterator[None]:
        """Find out whether there are so many, with pauses in between; see `known`.

        No record is passed. What is seen beyond those at hand is decoded once more later on.
        """
        if not self._batch and self.end is None:
            with suppress(ResponseError):  # it is raised where the consumer gets to it
                self.at(self._next)
        if self.known >= count or self.end is not None:
            return
        passed = self._next
        ahead = Records(self._reader.twin(), self._behind, self._close, self._decode, self._chunk)
        yield from ahead.walk(count - passed)
        self.known = passed + ahead.known
        self.count = None if ahead.count is None else self.known

    @property
    def _next(self) -> int:
        """The index of the record behind those at hand."""
        return self._first + len(self._batch)

    def _go_on(self) -> None:
        """Turn to the records behind those at hand."""
        self._first, self._batch = self._next, []  # let go before more is decoded
        at = _skip(self._body, self._behind + 1)
        self._batch, self._behind = self._several(at) or self._one(at)
        self._reached()

    def _reached(self) -> None:
        """Count those at hand, and see whether they are the last."""
        self.known = max(self.known, self._next)
        if _is(self._body, self._behind, b"]"):
            self._end(self._behind)

    def _several(self, at: int) -> tuple[list[object], int] | None:
        """Return a chunk of records, and where the mark behind it is; None where it is none."""
        if at in self._singly:
            return None
        end = at + self._chunk
        stop = self._close
        if not at < stop <= end:
            stop = self._body.rfind(self._between, at, end) + 1
            if not stop and self._guessing:
                self._guessing = False
                return None
        found = None
        if stop:
            found = self._decode(b"".join((b"[", memoryview(self._body)[at:stop], b"]")))
        if found is None:
            self._singly = range(at, end)
            return None
        return found, _skip(self._body, stop)

    def _one(self, at: int) -> tuple[list[object], int]:
        """Return a record, and where the mark behind it is."""
        body = self._body
        record, end = self._reader.short_value(at) or self._long_value(at)
        behind = _skip(body, end)
        if _is(body, behind, b","):
            after = _skip(body, behind + 1)
            if _is(body, end - 1, b"}") and _is(body, after, b"{"):
                self._between = bytes(body[end - 1 : after + 1])
        elif not _is(body, behind, b"]"):
            raise ValueError
        return [record], behind

    def _long_value(self, at: int) -> tuple[Any, int]:
        """Return a record that is malformed, or longer than a window, and where it ends."""
        # To make ever larger windows of the rest for each malformed record would be quadratic.
        mark = _mark_behind(self._body, at)
        if mark is None:
            return self._reader.value(at)
        text = self._body[at:mark].rstrip(_WHITE)
        return _value_of(text), at + len(text)

    def _end(self, at: int) -> None:
        """Look at what follows the records; what is wrong there is told behind the last one."""
        self.end = at
        try:
            self._reader.go_on(_skip(self._body, at + 1))
            self.count = self._next
        except (ValueError, RecursionError) as error:
            self._fault = _fault_behind(error)


def _mark_behind(body: bytes | bytearray, at: int) -> int | None:
    """Return where the comma or bracket behind a record is, by its strings and brackets alone.

    None where these do not fit together, or where it is too long to be searched: then nothing tells
    where the record ends.
    """
    closing = bytearray()  # the brackets that are still to come, the outermost first
    over = False  # a string, an array or an object has just ended, and a mark must follow
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
        elif mark != _COMMA and (over or found[0] == b'"'):
            return None
        elif mark in _CLOSING:
            closing.append(_CLOSING[mark])
        over = mark in b'"]}'
    return None
