"""Values of decoded JSON: which type one has, what a field holds for it, and its immutable form.

1. Nothing is guessed: `"12"` is no int, `3.7` is no int and `"false"` is no bool.
2. What is wrong is a `MismatchError` with the path. It never shows the value, which may be personal
   data. Names in the path come from the server, so unprintable characters are escaped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, cast

from .models import FrozenMapping

if TYPE_CHECKING:
    from enum import StrEnum

__all__ = [
    "EARLIEST",
    "LATEST",
    "JsonText",
    "MismatchError",
    "OpenEnum",
    "OpenEnums",
    "are_integers",
    "are_texts",
    "are_times_in_milliseconds",
    "events_of",
    "events_to_json",
    "finite",
    "freeze",
    "integers_by_name",
    "json_given",
    "json_text",
    "member_path",
    "object_from_json",
    "strings_by_name",
    "strings_from_json",
    "time_from_json",
    "time_to_json",
    "to_plain",
    "wrong_type",
]

_NONE: Final = type(None)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
#: The first and the last moment of the years 1 to 9999, in milliseconds since 1970.
EARLIEST: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
LATEST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND

#: Levels of nesting of a value that is kept. So few that no later step can exhaust the stack.
_DEEPEST: Final = 64
#: Levels of nesting of a value that is written. `json.dumps` recurses, and a caller may be deep in
#: the stack already: Python's default limit is 1000 frames.
_DEEPEST_WRITTEN: Final = 256
#: How JSON writes them; `json.dumps` writes `Infinity`, which is not JSON.
_INFINITIES: Final[Mapping[object, str]] = {math.inf: "1e999", -math.inf: "-1e999"}

_TOO_DEEP: Final = "the value is nested too deeply"
_TEXTS: Final = frozenset({str})
_INTEGERS: Final = frozenset({int})
_JSON_NAMES: Final[Mapping[type, str]] = {
    _NONE: "null",
    bool: "a boolean",
    int: "an integer",
    float: "a number with a fraction",
    str: "a string",
    list: "an array",
    dict: "an object",
}


class MismatchError(Exception):
    """A value does not fit its field."""

    def __init__(self, fault: str, path: str = "", remark: str = "") -> None:
        """Say what is wrong, at which path, and, where all values are kept, how this one is."""
        super().__init__(fault)
        self.fault = fault
        self.path = path
        self.remark = remark


def wrong_type(accepted: Iterable[type], value: object, path: str = "") -> MismatchError:
    """Return the error that names the accepted types and the type of the value."""
    names = sorted(_JSON_NAMES[kind] for kind in accepted if kind is not _NONE)
    expected = names[0] if len(names) == 1 else "a number"  # an int is fine for a float
    found = type(value)
    return MismatchError(
        f"expected {expected}, found {_JSON_NAMES.get(found, found.__name__)}", path
    )


def _require(kind: type, value: object, path: str) -> None:
    if type(value) is not kind:
        raise wrong_type({kind}, value, path)


def member_path(name: str) -> str:
    """Return the path of a member inside its object, safe for a terminal and a line of a log."""
    if name.isprintable():
        return f".{name}"
    return "." + "".join(each if each.isprintable() else ascii(each)[1:-1] for each in name)


# --- From the type in JSON to the type of the field ---


def time_from_json(value: str | None) -> datetime | None:
    """Return an RFC 3339 time in UTC; digits beyond microseconds are cut off."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
        # RFC 3339 requires an offset; to guess one would be wrong half of the time.
        if time.tzinfo is not None:
            return time if time.tzinfo is UTC else time.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: in UTC it is before year 1 or after 9999
        pass
    if value.endswith("z"):  # RFC 3339, 5.6 allows it; Python does not
        return time_from_json(f"{value[:-1]}Z")
    message = "expected an ISO 8601 time with an offset"
    raise MismatchError(message)


def finite(value: float | None) -> float | None:
    """Return a number unless it is infinite: `1e999` is JSON, and infinity in Python."""
    if value is None or -math.inf < value < math.inf:
        return value
    message = "expected a finite number"
    raise MismatchError(message)


class OpenEnum(dict[str | None, str | None]):
    """The words of an enum, and the member for each; any other word stands for itself."""

    def __init__(self, kind: type[StrEnum]) -> None:
        """Look the members up once."""
        super().__init__({member.value: member for member in kind})
        self[None] = None

    def __missing__(self, word: str | None) -> str | None:
        """Return an unknown word as it is."""
        return word


def strings_from_json(value: list[object] | None) -> tuple[object, ...] | None:
    """Return an array of strings as a tuple."""
    if value is None:
        return None
    for index, item in enumerate(value):
        _require(str, item, f"[{index}]")
    return tuple(value)


class OpenEnums:
    """Converts an array of words to members of an enum; unknown words stand for themselves."""

    def __init__(self, kind: type[StrEnum]) -> None:
        """Look the members up once."""
        self._words = OpenEnum(kind)

    def __call__(self, value: list[object] | None) -> tuple[str | None, ...] | None:
        """Return the members as a tuple."""
        words = cast("tuple[str, ...] | None", strings_from_json(value))
        return None if words is None else tuple(map(self._words.__getitem__, words))


def object_from_json(value: dict[str, object] | None) -> object:
    """Return any object, immutable at all levels."""
    return None if value is None else freeze(value)


def integers_by_name(value: dict[str, object] | None) -> FrozenMapping[object] | None:
    """Return an object whose members are integers."""
    return _members_of_type(int, value)


def strings_by_name(value: dict[str, object] | None) -> FrozenMapping[object] | None:
    """Return an object whose members are strings."""
    return _members_of_type(str, value)


def _members_of_type(kind: type, value: dict[str, object] | None) -> FrozenMapping[object] | None:
    if value is None:
        return None
    for name, item in value.items():
        _require(kind, item, member_path(name))
    return FrozenMapping(value)


def events_of(value: object) -> Mapping[str, tuple[datetime, ...]] | None:
    """Return the times of events: milliseconds since 1970 in JSON, a user can give datetimes."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise wrong_type({dict}, value)
    events = _with_names(cast("Mapping[object, object]", value), "").items()
    return FrozenMapping({name: _times(member_path(name), times) for name, times in events})


def _with_names(value: Mapping[object, object], path: str) -> dict[str, object]:
    """Return the members of a mapping if all keys are strings."""
    for key in value:
        _require(str, key, path)
    return cast("dict[str, object]", dict(value))


def _times(path: str, value: object) -> tuple[datetime, ...]:
    if not isinstance(value, (list, tuple)):
        raise wrong_type({list}, value, path)
    items = enumerate(cast("Sequence[object]", value))
    return tuple(_time(f"{path}[{index}]", item) for index, item in items)


def _time(path: str, value: object) -> datetime:
    if not isinstance(value, datetime):
        _require(int, value, path)
        return _time_of_milliseconds(cast("int", value), path)
    time = _in_utc(value, path)
    # As exact as the API's own, so that it comes back from JSON as it is.
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def _in_utc(time: datetime, path: str) -> datetime:
    if time.utcoffset() is not None:
        with suppress(OverflowError):  # in UTC it is before year 1 or after 9999
            return time.astimezone(UTC)
    message = "expected a time with an offset"
    raise MismatchError(message, path)


def _time_of_milliseconds(milliseconds: int, path: str) -> datetime:
    try:
        return _EPOCH + milliseconds * _MILLISECOND  # exact, unlike fromtimestamp(ms / 1000)
    except OverflowError:
        fault = "expected milliseconds since 1970 within the years 1 to 9999"
    raise MismatchError(fault, path)


def are_texts(values: Iterable[object]) -> bool:
    """Tell whether all values are strings."""
    return _TEXTS.issuperset(map(type, values))


def are_integers(values: Iterable[object]) -> bool:
    """Tell whether all values are integers."""
    return _INTEGERS.issuperset(map(type, values))


def are_times_in_milliseconds(lists: Iterable[list[int]]) -> bool:
    """Tell whether `events_of` accepts all of these."""
    for times in lists:
        if type(times) is not list or not _INTEGERS.issuperset(map(type, times)):
            return False
        if times and not EARLIEST <= min(times) <= max(times) <= LATEST:
            return False
    return True


# --- Any JSON value, immutable and back ---


def freeze(value: object, depth: int = 0) -> object:
    """Return a JSON value that is immutable at all levels."""
    if depth > _DEEPEST:
        raise MismatchError(_TOO_DEEP)
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return FrozenMapping({key: freeze(item, depth + 1) for key, item in members.items()})
    if isinstance(value, list):
        return tuple(freeze(item, depth + 1) for item in cast("list[object]", value))
    return finite(value) if isinstance(value, float) else value


def to_plain(value: object) -> object:
    """Return the JSON value that was kept: dicts and lists again, and values for JSON texts."""
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return {key: to_plain(item) for key, item in members.items()}
    if isinstance(value, (list, tuple)):
        return [*map(to_plain, cast("Sequence[object]", value))]
    return value.restored() if isinstance(value, JsonText) else value


class JsonText(str):
    """The JSON text of a value that cannot be kept itself."""

    __slots__ = ()

    def restored(self) -> object:
        """Return the value, or the text as a plain string if Python cannot write the value."""
        try:
            value: object = json.loads(self)
        except (ValueError, RecursionError):
            return str(self)
        return value if _is_writable(value) else str(self)


def _is_writable(value: object) -> bool:
    """Tell whether `json.dumps` can write a value: finite, and far from the recursion limit."""
    level = [value]
    for _ in range(_DEEPEST_WRITTEN):
        inner: list[object] = []
        for each in level:
            if isinstance(each, float) and not math.isfinite(each):
                return False
            inner += _items_of(each)
        level = inner
    return not level


def _items_of(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return cast("dict[str, object]", value).values()
    return cast("list[object]", value) if isinstance(value, list) else ()


def json_text(value: object) -> str:
    """Return the JSON text of a value of any depth; `json.dumps` would recurse."""
    pieces: list[str] = []
    left: list[object] = [value]  # still to be written, the next one last; bytes are ready text
    while left:
        each = left.pop()
        if isinstance(each, bytes):
            pieces.append(each.decode())
        elif isinstance(each, dict):
            inner: list[object] = []
            for key, item in cast("dict[str, object]", each).items():
                inner += [b", ", f"{json.dumps(key)}: ".encode(), item]
            left += [b"}", *inner[:0:-1], b"{"]
        elif isinstance(each, list):
            inner = []
            for item in cast("list[object]", each):
                inner += [b", ", item]
            left += [b"]", *inner[:0:-1], b"["]
        else:
            pieces.append(_INFINITIES.get(each) or json.dumps(each))
    return "".join(pieces)


def json_given(value: object, path: str = "", depth: int = 0, *, keep_deep: bool = False) -> object:
    """Return a copy of a value that a user gives as decoded JSON, of dicts and lists.

    Raises:
        MismatchError: it is no JSON value, or has too many levels. With `keep_deep`, levels matter
            only where they exceed what `json` can write.
    """
    if depth > _DEEPEST:
        if keep_deep:
            return _deep_copy(value, path)
        raise MismatchError(_TOO_DEEP, path)
    if isinstance(value, Mapping):
        members = _with_names(cast("Mapping[object, object]", value), path).items()
        return {
            key: json_given(item, path + member_path(key), depth + 1, keep_deep=keep_deep)
            for key, item in members
        }
    if isinstance(value, (list, tuple)):
        items = enumerate(cast("Sequence[object]", value))
        return [
            json_given(item, f"{path}[{index}]", depth + 1, keep_deep=keep_deep)
            for index, item in items
        ]
    if value.__class__ in _JSON_NAMES:
        return value
    message = f"expected a JSON value, found {value.__class__.__name__}"
    raise MismatchError(message, path)


def _deep_copy(value: object, path: str) -> object:
    try:
        copied: object = json.loads(json.dumps(value))
    except RecursionError:
        fault = _TOO_DEEP
    except (TypeError, ValueError):  # the latter: it contains itself
        fault = "expected a JSON value"
    else:
        return copied
    raise MismatchError(fault, path)


# --- From the field back to JSON ---


def events_to_json(events: Mapping[str, tuple[datetime, ...]] | None) -> object:
    """Return the milliseconds since 1970 of each event."""
    if events is None:
        return None
    return {
        name: [(time - _EPOCH) // _MILLISECOND for time in each] for name, each in events.items()
    }


def time_to_json(time: datetime | None) -> str | None:
    """Return a time as the API writes it: in UTC, with the fewest digits that are exact."""
    if time is None:
        return None
    if time.tzinfo is not UTC:
        time = _in_utc(time, "")
    text = time.isoformat().removesuffix("+00:00")
    return f"{text.rstrip('0') if time.microsecond else text}Z"
