"""A page's body: the envelope at once, and its records a few at a time, as they are taken.

1. JSON is strict UTF-8 (RFC 8259, 8.1); NaN and Infinity are no JSON (RFC 8259, 6). A body that
   does not end as an object does is refused before a record is handed out.
2. A body stays bytes, and all places in it are counted in bytes: no text of the whole is made, and
   no tree of it. To read a value, a window of the body is made a text; where the value is not seen
   to end in it, a larger one. The windows grow by a factor, so that the work stays linear.
3. The members before the records are read first, `meta` among them, as the API sends it. Where it
   comes last, it is read from the end: in JSON, a `"meta": {…}` right before the last brace is a
   member of the envelope. Where it is elsewhere, all records are walked through once, in steps.
4. Records are decoded in chunks, as they are reached, and let go with the chunk. A chunk ends at
   what stands between two records, `}, {` as the API writes it, or at the array's own bracket. That
   may stand within a record, too; but what is an array between two brackets, read from the start of
   a record, is whole records and nothing else. What is none is read record by record. The records
   of a small page are one chunk.
   (Measured, microseconds a record: 7.9 in chunks of 16 KiB, 9.0 in chunks of 4.)
5. A record counts once the comma or the bracket behind it is seen. So a body can prove bad
   half-way, be it JSON or UTF-8 that is broken: the records before that are good, and then comes a
   transient error. What follows the last record is looked at as its chunk is.
6. A member that is repeated counts as it came last, as `json` has it. But an envelope that repeats
   `meta` or the records is an error: by then half of it is used. Its further members are decoded,
   and left alone, up to a bound.
7. What decodes chunks faster (`_shapes`) is asked first, and may refuse.
8. Errors are raised outside `except` blocks, so that no chained exception holds the body.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, cast

import attrs

from .errors import ResponseError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = ["ChunkDecoder", "Envelope", "Records", "decoded", "envelope"]

#: Members of an envelope. The API sends two, and as many as this are read without a pause.
_MOST_MEMBERS: Final = 64
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

_SPACES: Final = re.compile(rb"[ \t\n\r]*")
#: A plain member's name, as far as its value.
_NAME: Final = re.compile(rb'"([a-z_]{1,64})"[ \t\n\r]*:[ \t\n\r]*')
#: What can follow a value. Without it, `1` might be the beginning of `1e5`.
_BEHIND_VALUES: Final = frozenset(" \t\n\r,:]}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def decoded(body: bytes | bytearray) -> Any:
    """Return what a body says in JSON; raise ValueError or RecursionError if it is none."""
    return _DECODER.decode(body.decode("utf-8"))


class ChunkDecoder(Protocol):
    """Decodes an array of records; returns None where `json` is to decide on them."""

    def __call__(self, array: bytes, /) -> list[object] | None: ...


@attrs.frozen
class Envelope:
    """A page's body, its records not decoded yet."""

    members: dict[str, Any] = attrs.field(repr=False)
    """What stands around the records, as far as it was read."""
    records: Records | None = attrs.field(repr=False)
    """None where there is no array of them."""


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
    reader = _Reader(body, key, window)
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
        return Envelope(members, None)
    end = body.rfind(b"}")
    if _skip(body, end + 1) != len(body):
        raise ValueError
    if "meta" not in members and (trailing := _trailing_meta(reader)) is not None:
        meta, end = trailing
        members = {**members, "meta": meta}
    close = body.rfind(b"]", start, end)
    if chunk is None:
        usual = _CHUNK if decode is None else _FAST_CHUNK
        chunk = _SMALL if close - start <= _SMALL else usual
    records = Records(reader, start, close, decode or _by_json, chunk)
    if "meta" not in members:
        yield from records.walk()
        if records.count is None:
            records.at(records.known)  # raises
    return Envelope(members, records)


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
            "Check base_url, and what stands between here and Twilio."
        )
        return ResponseError(message, path=self.path, transient=self.transient)


class _NoEnvelopeError(ValueError):
    """It may be JSON, but is no envelope, and will be none next time."""

    def __init__(self, words: str, path: str | None = None) -> None:
        super().__init__(words)
        self.fault = Fault(words, path, transient=False)


def _fault_of(error: ValueError | RecursionError) -> Fault:
    if isinstance(error, _NoEnvelopeError):
        return error.fault
    if isinstance(error, RecursionError):
        return Fault("is nested too deeply")
    return Fault("was cut off, or is not JSON in UTF-8")


# --- Values, and members ---


class _Reader:
    """Reads the members of an envelope: up to the records, and then behind them."""

    def __init__(self, body: bytes | bytearray, key: str, window: int) -> None:
        self.body = body
        self.members: dict[str, Any] = {}
        self._key = key
        self._window = window
        self._names: list[str] = []

    def value(self, at: int) -> tuple[Any, int]:
        """Decode the value at a place; return it, and where it ends."""
        size = self._window
        while True:
            rest = at + size >= len(self.body)
            text = _text(self.body[at : at + size])
            try:
                value, end = _DECODER.raw_decode(text)
            except ValueError:
                if rest:
                    raise
            else:
                if rest or text[end : end + 1] in _BEHIND_VALUES:
                    return value, at + (end if text.isascii() else len(text[:end].encode()))
            size *= _GROWTH

    def begin(self) -> int | None:
        """Read up to the records; return where their array begins, None where there is none."""
        at = _skip(self.body, 0)
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
            if name == self._key and _is(body, at, b"["):
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
        if name in {self._key, "meta"} and name in self._names:
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
    """The records of a page, decoded by the chunk; to be taken in their order, and again."""

    def __init__(
        self, reader: _Reader, start: int, close: int, decode: ChunkDecoder, chunk: int
    ) -> None:
        """Read them from the bracket at `start` on, perhaps to the one at `close`."""
        self.known: int = 0
        """How many there are at least: those that were reached."""
        self.count: int | None = None
        """How many there are; None while the last one was not reached."""
        self._reader = reader
        self._body = reader.body
        self._start = start
        self._close = close
        self._decode = decode
        self._chunk = chunk
        self._fault: Fault | None = None
        # The records at hand, the index of the first, and the place of the mark behind the last.
        self._batch: list[object] = []
        self._first, self._behind = 0, start
        #: Where to begin again: an index, and the place of the mark before that record.
        self._marks = [(0, start)]
        #: What stands between two records, with their braces; as the API writes it, until known.
        self._between = b"}, {"
        self._guessing = True  # what stands between two, as no record was looked at by itself
        self._singly = range(0)  # where no chunk is tried, as there was none, or it was refused
        first = _skip(self._body, start + 1)
        if _is(self._body, first, b"]"):
            self._end(first)

    def at(self, index: int) -> object:
        """Return the record at `index`, decoded; it must be one of those `known`, or the next.

        Raises:
            ResponseError: there is none, as the body is bad from here on, or before.
        """
        place = index - self._first
        if 0 <= place < len(self._batch):
            return self._batch[place]
        fault = self._fault
        if fault is None or index < self.known:
            try:
                return self._reach(index)
            except (ValueError, RecursionError) as error:
                fault = self._fault = _fault_of(error)
        raise fault.error()

    def skip(self, index: int) -> bool:
        """Go past the record at `index`, which is malformed; tell whether that can be done."""
        return False

    def opening(self) -> bytes:
        """Return the first bytes of the array, in which the first record begins."""
        return bytes(self._body[self._start : self._start + _WINDOW])

    def look(self) -> tuple[int, bytes, bytes]:
        """Return what two arrays of the same records share: length, beginning and end."""
        start, end = self._start, max(self._close, self._start)
        opening = bytes(self._body[start : min(end, start + _WINDOW)])
        return end - start, opening, bytes(self._body[max(start, end - _WINDOW) : end])

    def walk(self, count: int | None = None) -> Iterator[None]:
        """Reach so many records, or all, as far as the body is good, with pauses in between."""
        paused = self.known
        while self.count is None and (count is None or self.known < count):
            try:
                self.at(self.known)
            except ResponseError:
                return  # it will be told where the consumer gets to it
            if self.known - paused >= _STRIDE:
                paused = self.known
                yield

    def _reach(self, index: int) -> object:
        """Return a record that is not at hand."""
        if index < self._first:
            mark = bisect_right(self._marks, index, key=lambda each: each[0]) - 1
            self._first, self._behind = self._marks[mark]
            self._batch = []
        while index >= self._first + len(self._batch):
            self._go_on()
        return self._batch[index - self._first]

    def _go_on(self) -> None:
        """Turn to the records behind those at hand."""
        first = self._first + len(self._batch)
        self._first, self._batch = first, []  # let go before more is decoded
        if self._behind >= self._marks[-1][1] + self._chunk:
            self._marks.append((first, self._behind))
        at = _skip(self._body, self._behind + 1)
        self._batch, self._behind = self._several(at) or self._one(at)
        reached = first + len(self._batch)
        if reached > self.known:
            self.known = reached
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
        record, end = self._reader.value(at)
        behind = _skip(body, end)
        if _is(body, behind, b","):
            after = _skip(body, behind + 1)
            if _is(body, end - 1, b"}") and _is(body, after, b"{"):
                self._between = bytes(body[end - 1 : after + 1])
        elif not _is(body, behind, b"]"):
            raise ValueError
        return [record], behind

    def _end(self, at: int) -> None:
        """Look at what follows the records; what is wrong there is told behind the last one."""
        try:
            self._reader.go_on(_skip(self._body, at + 1))
            self.count = self.known
        except (ValueError, RecursionError) as error:
            self._fault = _fault_of(error)
