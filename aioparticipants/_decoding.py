"""A page's body: the envelope at once, and its records one by one, as they are taken.

1. JSON is strict UTF-8 (RFC 8259, 8.1); NaN and Infinity are no JSON (RFC 8259, 6). A body that is
   not UTF-8, or does not end as an object does, is refused before a record is handed out.
2. The members before the records are read first, `meta` among them, as the API sends it. Where it
   comes last, it is read from the end: in JSON, a `"meta": {…}` right before the last brace is a
   member of the envelope. Where it is elsewhere, all records are walked through once, in steps.
3. A record is decoded as it is taken, and then let go: no tree of a page is ever alive, and no call
   takes longer than its record does. It counts once the comma or the bracket behind it is seen.
4. So a body can prove bad half-way: the records before that are good, and then comes a transient
   error. What follows the last record is looked at as that one is taken.
5. A member that is repeated counts as it came last, as `json` has it. But an envelope that repeats
   `meta` or the records is an error: by then half of it is used. Its further members are decoded,
   and left alone, up to a bound.
6. What finds the records faster (`_finding`) is asked first, and may refuse.
7. Errors are raised outside `except` blocks, so that no chained exception holds the body.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, cast

import attrs

from .errors import ResponseError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = ["Envelope", "Finder", "Records", "decoded", "envelope", "fault_of"]

#: Members of an envelope. The API sends two, and as many as this are read without a pause.
_MOST_MEMBERS: Final = 64
#: Records that are walked through between two pauses: half a millisecond.
_STRIDE: Final = 32

_SPACE: Final = " \t\n\r"
_SPACES: Final = re.compile(r"[ \t\n\r]*")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def decoded(body: bytes) -> Any:
    """Return what a body says in JSON; raise ValueError or RecursionError if it is none."""
    return _DECODER.decode(body.decode("utf-8"))


class Records(Protocol):
    """The records of a page, to be taken in their order, and again."""

    @property
    def known(self) -> int:
        """How many there are at least: those that were reached."""
        ...

    @property
    def count(self) -> int | None:
        """How many there are; None while the last one was not reached."""
        ...

    def at(self, index: int) -> object:
        """Return the record at `index`, decoded; it must be one of those `known`, or the next.

        Raises:
            ResponseError: there is none, as the body is bad from here on, or before.
        """
        ...

    def walk(self, count: int | None = None) -> Iterator[None]:
        """Reach so many records, or all, as far as the body is good, with pauses in between."""
        ...


class Finder(Protocol):
    """Finds the records in an array of them; returns None where `json` is to do it."""

    def __call__(self, array: memoryview, /) -> Records | None: ...


@attrs.frozen
class Envelope:
    """A page's body, its records not decoded yet."""

    members: dict[str, Any] = attrs.field(repr=False)
    """What stands around the records, as far as it was read."""
    records: Records | None = attrs.field(repr=False)
    """None where there is no array of them."""


def envelope(body: bytes, key: str, find: Finder | None) -> Generator[None, None, Envelope]:
    """Read as much of a body as is needed before its first record, with pauses in between.

    Args:
        body: of a page.
        key: the member that holds the records.
        find: a faster way to the records than `json`, if there is one.

    Raises:
        ResponseError: it is no JSON, and a transient error; or it is no envelope, and a final one.
    """
    try:
        return (yield from _envelope(body, key, find))
    except (ValueError, RecursionError) as error:
        fault = fault_of(error)
    raise fault.error()


def _envelope(body: bytes, key: str, find: Finder | None) -> Generator[None, None, Envelope]:
    text = body.decode("utf-8")
    reader = _Reader(text, key)
    start = reader.begin()
    if start is None:
        return Envelope(reader.members, None)
    end = len(text.rstrip(_SPACE)) - 1
    if text[end] != "}":
        raise ValueError
    if "meta" in reader.members:
        meta = reader.members["meta"]
    elif (trailing := _trailing_meta(text)) is not None:
        meta, end = trailing
    else:
        records = _Walked(reader, start)
        yield from records.walk()
        if records.count is None:
            records.at(records.known)  # raises
        return Envelope(reader.members, records)
    # Offsets in bytes, counted from both ends, as those in the text are of characters.
    first, last = len(text[:start].encode()), len(body) - len(text[end:].encode())
    found = None if find is None else find(memoryview(body)[first:last])
    members = {**reader.members, "meta": meta}
    return Envelope(members, _Walked(reader, start) if found is None else found)


def _trailing_meta(text: str) -> tuple[object, int] | None:
    """Return the value of a `meta` that is the last member, and where the comma before it is."""
    name = text.rfind('"meta"')
    comma = text.rfind(",", 0, max(name, 0))
    if comma < 0 or text[comma + 1 : name].strip(_SPACE):
        return None
    try:
        colon = _skip(text, name + len('"meta"'))
        value, end = _DECODER.raw_decode(text, _skip(text, colon + 1))
    except (ValueError, RecursionError):
        return None
    end = _skip(text, end)
    last = text[colon] == ":" and text[end : end + 1] == "}" and _skip(text, end + 1) == len(text)
    return (value, comma) if last else None


def _skip(text: str, at: int) -> int:
    """Return where the white space at a place ends."""
    return cast("re.Match[str]", _SPACES.match(text, at)).end()


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


def fault_of(error: ValueError | RecursionError) -> Fault:
    if isinstance(error, _NoEnvelopeError):
        return error.fault
    if isinstance(error, RecursionError):
        return Fault("is nested too deeply")
    return Fault("was cut off, or is not JSON in UTF-8")


# --- By the standard library ---


class _Reader:
    """Reads the members of an envelope: up to the records, and then behind them."""

    def __init__(self, text: str, key: str) -> None:
        self.text = text
        self.members: dict[str, Any] = {}
        self._key = key
        self._names: list[str] = []

    def begin(self) -> int | None:
        """Read up to the records; return where their array begins, None where there is none."""
        at = _skip(self.text, 0)
        if self.text[at : at + 1] != "{":
            _DECODER.decode(self.text)
            words = "is JSON, but not an object"
            raise _NoEnvelopeError(words)
        return self.go_on(at, "{")

    def go_on(self, at: int, due: str = ",") -> int | None:
        """Read on where a comma is due, or the end; return the same."""
        text = self.text
        while text[at : at + 1] == due:
            at = _skip(text, at + 1)
            if due == "{" and text[at : at + 1] == "}":
                break
            name, at = self._name(at)
            if name == self._key and text[at : at + 1] == "[":
                return at
            self.members[name], at = _DECODER.raw_decode(text, at)
            at, due = _skip(text, at), ","
        if text[at : at + 1] != "}" or _skip(text, at + 1) != len(text):
            raise ValueError
        return None

    def _name(self, at: int) -> tuple[str, int]:
        """Read a member's name and colon."""
        text = self.text
        if text[at : at + 1] != '"':
            raise ValueError
        name, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        if text[at : at + 1] != ":":
            raise ValueError
        if name in {self._key, "meta"} and name in self._names:
            words = "is not a page: a member is there twice"
            raise _NoEnvelopeError(words, name)
        if len(self._names) == _MOST_MEMBERS:
            words = "is not a page: it has too many members"
            raise _NoEnvelopeError(words)
        self._names.append(name)
        return name, _skip(text, at + 1)


class _Walked:
    """Records that `json` decodes, each from where the one before it ended."""

    def __init__(self, reader: _Reader, start: int) -> None:
        self.known = 0
        self.count: int | None = None
        self._reader = reader
        self._text = reader.text
        self._fault: Fault | None = None
        first = _skip(self._text, start + 1)
        self._starts = [first]
        if self._text[first : first + 1] == "]":
            self._end(first + 1)

    def at(self, index: int) -> object:
        """Return a record, see `Records`."""
        fault = self._fault
        if fault is None or index < self.known:
            try:
                record, end = _DECODER.raw_decode(self._text, self._starts[index])
                if index == self.known:
                    self._pass(end)
            except (ValueError, RecursionError) as error:
                fault = self._fault = fault_of(error)
            else:
                return record
        raise fault.error()

    def walk(self, count: int | None = None) -> Iterator[None]:
        """Reach records, see `Records`."""
        while self.count is None and (count is None or self.known < count):
            try:
                self.at(self.known)
            except ResponseError:
                return  # it will be told where the consumer gets to it
            if self.known % _STRIDE == 0:
                yield

    def _pass(self, end: int) -> None:
        """Note that a record is whole, and where the next one begins."""
        text = self._text
        # As nearly always; to look for what else there may be takes four times as long.
        if text.startswith(", {", end):
            self._starts.append(end + 2)
            self.known += 1
            return
        end = _skip(text, end)
        if text[end : end + 1] == ",":
            self._starts.append(_skip(text, end + 1))
            self.known += 1
        elif text[end : end + 1] == "]":
            self.known += 1
            self._end(end + 1)
        else:
            raise ValueError

    def _end(self, at: int) -> None:
        """Look at what follows the records; what is wrong there is told behind the last one."""
        try:
            self._reader.go_on(_skip(self._text, at))
            self.count = self.known
        except (ValueError, RecursionError) as error:
            self._fault = fault_of(error)
