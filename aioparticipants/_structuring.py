"""The one cattrs converter: decoded JSON to frozen records, and back.

1. Nothing is guessed: `"12"`, `3.7` and `"false"` are no int, no int and no bool. Every value's
   type is checked before a record is built, nested objects included, and a wrong one is a
   `ResponseError` with the JSON path; the value itself is never told, as it may be personal data.
2. null and absence are fine for every field. Unknown members are kept in `extra`, unknown enum
   words as strings. An int is fine where a float is due, and stays an int.
3. Every value is checked while iterating, and not every one is built: nested records are nine of
   the ten objects that a participant consists of, and are built when they are first asked for.
4. cattrs coerces (`int("12")` is 12), and looks up a hook again for every Optional value, which
   would be most of the time. So it is told what it need not find out. What to do with an object
   depends on its keys alone, in their order, and is settled when these are first met: a compiled
   check, and a function by cattrs that names just these keys, in one call. Plain values pass as
   they are; times, enums and containers have a hook to go through.
5. The usual members are tried first, by one expression for the record and all that is nested in it:
   nothing is looked up for these. (Measured, microseconds a record, decoding apart: 8.6 before, 6.4
   so; of these 3 are the check of 53 values, and 2 the building.)
6. An object may come with its types checked, as `_shapes` lets msgspec do while it decodes.
7. An object that does not fit can be kept all the same, as `on_invalid="keep"` asks: it is read
   once more, value by value. What does not fit its field goes to `extra`, the field is None, and
   what is wrong is listed. Nothing is dropped, and an object that fits is never read twice.
8. What makes a record by hand goes through the same reading, where it gives a nested record or the
   events as a plain mapping: so no attribute can fail later.
9. A name that the server made up can hold anything. In paths, what is not printable is escaped.
10. What a server can make this remember is bounded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, cast, get_args, get_origin

import attrs
import cattrs
from cattrs.gen import (
    make_dict_structure_fn_from_attrs,  # pyright: ignore[reportUnknownVariableType] - partly typed
    make_dict_unstructure_fn,
    override,
)

from .errors import InvalidRequestError, ResponseError
from .models import (
    AvgMax,
    FrozenMapping,
    MediaMetrics,
    PageMeta,
    Participant,
    ParticipantMetrics,
    ParticipantProperties,
)

__all__ = [
    "members_of",
    "page_meta",
    "participant",
    "participant_keeping",
    "text_member",
    "unstructure_participant",
    "wire_fields",
    "wire_name",
]

#: cattrs calls a hook with the value and the type that is wanted; ours know their type.
_Hook = Callable[[Any, Any], object]
_Build = Callable[[Any, type], Any]
_Fits = Callable[[Any], bool]

#: Sets of keys, in their order, remembered for a class. The API itself needs a handful.
_MOST_REMEMBERED: Final = 512
#: Characters of keys that are remembered together. The 27 fields of a record have 345.
_LONGEST_REMEMBERED: Final = 4096
#: Levels of an unknown member: so few that what passed the check can be built on any stack.
_DEEPEST: Final = 64
#: Functions generated for a class: one takes cattrs a millisecond, and memory.
_MOST_GENERATED: Final = 64

#: What an object can come as besides a dict, its types checked, and how to get its members.
members_of: Final[dict[type, Callable[[Any], dict[str, Any]]]] = {}

_NONE: Final = type(None)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
#: The years 1 to 9999, in milliseconds.
_FIRST: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND

_TEXTS: Final = frozenset({str})
_INTEGERS: Final = frozenset({int})

#: As JSON has them: `json.dumps` would write what is no JSON.
_INFINITIES: Final[Mapping[object, str]] = {math.inf: "1e999", -math.inf: "-1e999"}

_JSON_NAMES: Final[Mapping[type, str]] = {
    _NONE: "null",
    bool: "a boolean",
    int: "an integer",
    float: "a number with a fraction",
    str: "a string",
    list: "an array",
    dict: "an object",
}


class _MismatchError(Exception):
    """A value that is not what its field promises; `path` grows outwards as it is raised on."""

    def __init__(self, fault: str, path: str = "") -> None:
        super().__init__(fault)
        self.fault = fault
        self.path = path


def participant(raw: object, path: str, index: int | None = None) -> Participant:
    """Return the record that a decoded JSON object holds.

    Args:
        raw: the object, as `json` decodes it.
        path: where it stands in the body, such as `participants`.
        index: its place there, if that is an array.

    Raises:
        ResponseError: a value is of the wrong type; its `path` tells where.
    """
    try:
        return _participant(raw)
    except _MismatchError as error:
        failure = error
    raise _response_error(failure, path if index is None else f"{path}[{index}]")


def participant_keeping(raw: object, path: str, index: int | None = None) -> Participant:
    """Return the record that a decoded JSON object holds, whatever is wrong with its values.

    A field whose value does not fit is None. The value as it came is in `extra` of the record that
    the field belongs to, under the field's name in JSON, and the record's `problems` say so. A
    value that cannot be kept as it is (an infinite number, or too many levels, in whatever member)
    is kept as its JSON text.

    Args:
        raw: the object, as `json` decodes it.
        path: where it stands in the body, such as `participants`.
        index: its place there, if that is an array.

    Raises:
        ResponseError: it is no object at all.
    """
    try:
        return _participant(raw)
    except _MismatchError as error:
        failure = error
    found: list[_MismatchError] = []
    record = _STRUCTURERS[Participant].keep(raw, found)
    if record is None:
        raise _response_error(failure, path if index is None else f"{path}[{index}]")
    problems = tuple(f"{each.path[1:]}: {each.fault}" for each in found)
    return attrs.evolve(cast("Participant", record), problems=problems)


def page_meta(raw: object) -> PageMeta:
    """Return what the `meta` object of a page says.

    Only `next_page_url` decides on anything. All else informs: where it is of the wrong type, it is
    None, and kept in `extra`.

    Raises:
        ResponseError: it is no object, or `next_page_url` is of the wrong type.
    """
    try:
        return _page_meta(raw)
    except _MismatchError as error:
        failure = error
    found: list[_MismatchError] = []
    meta = _STRUCTURERS[PageMeta].keep(raw, found)
    link = next((each for each in found if each.path == ".next_page_url"), None)
    if meta is not None and link is None:
        return cast("PageMeta", meta)
    raise _response_error(link or failure, "meta")


def text_member(record: object, name: str) -> str | None:
    """Return a record's member of that name, be it structured or not; None where it is no text."""
    if isinstance(record, dict):
        value = cast("dict[str, object]", record).get(name)
    else:
        value = getattr(record, name, None)
    return value if isinstance(value, str) else None


def unstructure_participant(record: Participant) -> dict[str, object]:
    """Return a record as the JSON object that it came from, ready for `json.dumps`.

    Names and forms are the API's: `from`, ISO 8601 times, events in epoch milliseconds. All 27
    fields are there, null where they are None; of the nested members, those that the API sends only
    now and then are left out. A value that was kept in `extra` stands where it came from.
    """
    return cast("dict[str, object]", _CONVERTER.unstructure(record))


def _response_error(mismatch: _MismatchError, path: str) -> ResponseError:
    """Return the error to raise, outside of any `except`: no chained one may show the value."""
    path += mismatch.path
    message = (
        f"The reply is not what the API promises: {path}: {mismatch.fault}. "
        "See whether a newer version of this package knows of it."
    )
    return ResponseError(message, path=path)


# --- Hooks: one value of the right JSON type to what the field holds ---


def _time(value: str | None, _: object) -> datetime | None:
    if value is None:
        return None
    try:
        # A space or `t` may stand for the `T`; what is finer than a microsecond is cut off.
        time = datetime.fromisoformat(value)
        # RFC 3339 has an offset; a guessed one would be wrong half of the time.
        if time.tzinfo is not None:
            return time if time.tzinfo is UTC else time.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: in UTC it is before year 1 or after 9999
        pass
    if value.endswith("z"):  # RFC 3339, 5.6 allows it, and Python does not know it
        return _time(f"{value[:-1]}Z", _)
    message = "expected an ISO 8601 time with an offset"
    raise _MismatchError(message)


def _finite(value: float | None, _: object) -> float | None:
    if value is None or -math.inf < value < math.inf:
        return value
    message = "expected a finite number"  # 1e999 is JSON, and infinity to Python
    raise _MismatchError(message)


class _Words(dict[str | None, str | None]):
    """The words of an open enum: one that is not known is itself."""

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__({word.value: word for word in kind})
        self[None] = None

    def __missing__(self, word: str | None) -> str | None:
        return word


def _strings(value: list[object] | None, _: object) -> tuple[object, ...] | None:
    if value is None:
        return None
    for index, item in enumerate(value):
        _require(str, item, f"[{index}]")
    return tuple(value)


def _events(value: dict[str, object] | None, _: object) -> Mapping[str, object] | None:
    if value is None:
        return None
    return FrozenMapping({name: _times(_member(name), times) for name, times in value.items()})


def _times(path: str, value: object) -> tuple[datetime, ...]:
    _require(list, value, path)
    times: list[datetime] = []
    for index, item in enumerate(cast("list[object]", value)):
        _require(int, item, f"{path}[{index}]")
        times.append(_instant(cast("int", item), f"{path}[{index}]"))
    return tuple(times)


def _instant(milliseconds: int, path: str) -> datetime:
    try:
        return _EPOCH + milliseconds * _MILLISECOND  # exact, as fromtimestamp(ms / 1000) is not
    except OverflowError:
        fault = "expected milliseconds since 1970 within the years 1 to 9999"
    raise _MismatchError(fault, path)


def _are_texts(values: list[object]) -> bool:
    return _TEXTS.issuperset(map(type, values))


def _are_instants(lists: Iterable[list[int]]) -> bool:
    """Tell whether all are what their type says, and milliseconds that `_times` would take."""
    for times in lists:
        if type(times) is not list or not _INTEGERS.issuperset(map(type, times)):
            return False
        if times and not _FIRST <= min(times) <= max(times) <= _LAST:
            return False
    return True


def _require(kind: type, value: object, path: str) -> None:
    if type(value) is not kind:
        raise _MismatchError(_expected({kind}, type(value)), path)


def _expected(kinds: Iterable[type], found: type) -> str:
    names = sorted(_JSON_NAMES[kind] for kind in kinds if kind is not _NONE)
    due = names[0] if len(names) == 1 else "a number"  # an int is fine where a float is due
    return f"expected {due}, found {_JSON_NAMES.get(found, found.__name__)}"


def _member(name: str) -> str:
    """Return the path of a member inside an object, fit for a terminal and a line of a log."""
    if name.isprintable():
        return f".{name}"
    return "." + "".join(each if each.isprintable() else ascii(each)[1:-1] for each in name)


def _frozen(value: object, depth: int = 0) -> object:
    """Return any JSON value, immutable all the way down."""
    if depth > _DEEPEST:
        message = "the value is nested too deeply"
        raise _MismatchError(message)
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return FrozenMapping({key: _frozen(item, depth + 1) for key, item in members.items()})
    if isinstance(value, list):
        return tuple(_frozen(item, depth + 1) for item in cast("list[object]", value))
    return _finite(value, None) if isinstance(value, float) else value


def _kept(value: object) -> tuple[object, str]:
    """Return any JSON value, immutable, and a remark where it is its text that is kept."""
    try:
        return _frozen(value), ""
    except _MismatchError:
        return _json_text(value), "; its JSON text is kept"


def _json_text(value: object) -> str:
    """Return the JSON text of a value, however deep it is: `json.dumps` would recurse."""
    pieces: list[str] = []
    left: list[object] = [value]  # what is still to be written, the last one first; bytes as it is
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


def _thawed(value: object) -> object:
    """Return what `_frozen` made of a JSON value, as it was."""
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return {key: _thawed(item) for key, item in members.items()}
    if isinstance(value, tuple):
        return [*map(_thawed, cast("tuple[object, ...]", value))]
    return value


# --- Fields, and the objects of one class ---


@attrs.frozen
class _Field:
    """What may stand in one field, and how it gets there."""

    attribute: attrs.Attribute[Any]
    accepts: frozenset[type]
    """The types that `json` makes of what may stand there."""
    test: str
    """The same as an expression, `{}` standing for the value and `v` for later mentions of it."""
    hook: _Hook | None
    """What the value goes through as the record is built; None where it passes as it is."""
    words: _Words | None
    """Where an enum's words are looked up instead: in half of the time that a hook takes."""
    inner: _Structurer | None
    """How to check and build the nested object that it is."""

    @property
    def on_demand(self) -> Callable[[dict[str, Any]], object] | None:
        """Return what builds the value when it is first asked for; None if that is done at once."""
        if self.hook is _events:
            return lambda value: _events(value, None)
        return self.inner.build if self.inner else None

    def given(self, value: object) -> object:
        """Return what a value given by hand is held as, or raise `InvalidRequestError`."""
        try:
            return self.inner.given(value) if self.inner else _events_given(value)
        except _MismatchError as error:
            failure = error
        name = f"{self.attribute.name}{failure.path}"
        message = (
            f"A record's {name}: {failure.fault}. "
            "Give what the field holds, or a mapping as the API's JSON has it."
        )
        raise InvalidRequestError(message)

    @property
    def wire_name(self) -> str:
        """Return the name in JSON."""
        return wire_name(self.attribute)

    @property
    def building(self) -> _Hook | None:
        """Return what the value, checked before, goes through as a record is built."""
        return None if self.on_demand or self.hook is _finite else self.hook

    def test_of(self, holder: str, *, quick: bool) -> str:
        """Return an expression for whether the object of that name has what may stand here.

        A quick one raises KeyError where a nested object has not the usual keys. It tests them in
        place: there are eight in a record, and calls would take as long as all of the tests.
        """
        value = f"{holder}[{self.wire_name!r}]"
        if quick and self.wire_name in _OMITTED:
            value = f"{holder}.get({self.wire_name!r})"
        if self.inner is None:
            return f"({self.test.format(f'v := {value}')} or v is None)"
        own = f"{holder}_{self.attribute.name}"
        inside = self.inner.quick_test(own) if quick else f"fits_{self.inner.name}({own})"
        return f"({self.test.format(f'{own} := {value}')} and {inside} or {own} is None)"

    def mismatch(self, value: object) -> _MismatchError | None:
        """Return what is wrong with a value, None if nothing is."""
        if type(value) in members_of:
            return None
        if type(value) not in self.accepts:
            return _MismatchError(_expected(self.accepts, type(value)))
        if self.inner is not None and isinstance(value, dict):
            return self.inner.mismatch(cast("dict[str, object]", value))
        return _attempt(self.hook, value)


def wire_name(attribute: attrs.Attribute[Any]) -> str:
    """Return a field's name in JSON: Python keeps `from` for itself."""
    return attribute.name.rstrip("_")


def wire_fields(kind: type) -> list[attrs.Attribute[Any]]:
    """Return the fields of a class that are members of the API's JSON."""
    return [each for each in attrs.fields(kind) if each.name not in _OURS]


#: Fields that say something of a record, and are no members of its JSON.
_OURS: Final = frozenset({"extra", "problems"})


def _field(attribute: attrs.Attribute[Any]) -> _Field:
    """Read a field's rules off its annotation, `X | None`."""
    kinds = [kind for kind in get_args(attribute.type) if kind is not _NONE]
    kind = get_origin(kinds[0]) or kinds[0]
    inner = _STRUCTURERS.get(kind)
    if inner is not None:
        either: frozenset[type] = frozenset({dict, _NONE})
        return _Field(attribute, either, "({}).__class__ is dict", None, None, inner)
    if issubclass(kind, StrEnum):
        return _Field(attribute, _TEXT, "({}).__class__ is str", None, _Words(kind), None)
    return _Field(attribute, *_PLAIN[kind], None, None)


_TEXT: Final[frozenset[type]] = frozenset({str, _NONE})
_PLAIN: Final[Mapping[Any, tuple[frozenset[type], str, _Hook | None]]] = {
    str: (_TEXT, "({}).__class__ is str", None),
    bool: (frozenset({bool, _NONE}), "({}).__class__ is bool", None),
    int: (frozenset({int, _NONE}), "({}).__class__ is int", None),
    # 1e999 is JSON, and infinity to Python; times 0 it is no number.
    float: (
        frozenset({float, int, _NONE}),
        "({}).__class__ is float and v * 0.0 == 0.0 or v.__class__ is int",
        _finite,
    ),
    datetime: (_TEXT, "({}).__class__ is str", _time),
    tuple: (frozenset({list, _NONE}), "({}).__class__ is list and texts(v)", _strings),
    Mapping: (frozenset({dict, _NONE}), "({}).__class__ is dict and instants(v.values())", _events),
}


@attrs.frozen
class _Plan:
    """What to do with the objects that have one and the same keys."""

    fits: _Fits
    """Tells whether every value is of its field's type, nested ones included."""
    build: _Build
    """Builds the record of an object that fits."""


class _Structurer:
    """Checks the objects of one class, and builds their records.

    What to do depends on an object's keys alone, in their order, and is remembered for these.
    """

    def __init__(self, kind: type) -> None:
        attrs.resolve_types(kind)
        self.name: str = kind.__name__
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self.kind: type = kind
        self._fields = {field.wire_name: field for field in map(_field, wire_fields(kind))}
        self._generated: dict[tuple[str, ...], _Plan] = {}
        self._complete = self._new_plan(tuple(self._fields))
        usual = tuple(name for name in self._fields if name not in _OMITTED)
        self._usual = len(usual)
        #: Tried first: for the usual members, and for all, by their number.
        self._builds = {len(usual): self._new_plan(usual).build}
        self._builds[len(self._fields)] = self._complete.build
        self._fits_usual = _compiled(self.quick_test("o"))
        self._nulls: Mapping[str, object] = dict.fromkeys(self._fields)
        for field in self._fields.values():
            build = field.on_demand
            if build is not None:
                name = field.attribute.name
                setattr(kind, name, _on_demand(getattr(kind, name), build, field.given))

    def structure(self, value: dict[str, object], _: object = None) -> Any:
        """Return the record of an object, or raise `_MismatchError`."""
        if value.__class__ is not dict:
            members = members_of.get(value.__class__)
            if members is not None:
                return self._structure_checked(members(value))
            _require(dict, value, "")
        try:
            fits = len(value) == self._usual and self._fits_usual(value)
        except KeyError:
            fits = False  # it, or a nested one, has as many members as usual, and others
        try:
            if fits or self.fits(value):
                return self.build(value)
        except _MismatchError:
            pass  # raised out here, so that it does not chain the one caught
        raise self.mismatch(value) or AssertionError

    def _structure_checked(self, value: dict[str, Any]) -> Any:
        """Return the record of an object whose types were checked as it was decoded."""
        events = value.get("events")
        try:
            if events is None or _are_instants(events.values()):
                return self.build(value)
        except _MismatchError:
            pass
        raise self.mismatch(value) or AssertionError

    def build(self, value: dict[str, object]) -> Any:
        """Return the record of an object that was found to fit."""
        build = self._builds.get(len(value)) or self._plan(value).build
        try:
            record = build(value, self.kind)
        except KeyError:  # it has as many members as usual, and others
            record = self._plan(value).build(value, self.kind)
        record.__class__ = self.kind
        return record

    def fits(self, value: Mapping[str, object]) -> bool:
        """Tell whether an object fits, whatever its keys."""
        return self._plan(value).fits(value)

    def quick_test(self, holder: str) -> str:
        """Return an expression like `_Field.test_of`, for an object of this class."""
        sometimes = [name for name in self._fields if name in _OMITTED]
        there = "".join(f" + ({name!r} in {holder})" for name in sometimes)
        members = f"len({holder}) == {len(self._fields) - len(sometimes)}{there}"
        tests = [each.test_of(holder, quick=True) for each in self._fields.values()]
        return f"({' and '.join([members, *tests])})"

    def _plan(self, value: Mapping[str, object]) -> _Plan:
        """Return what to do with an object that has these keys, and remember it."""
        return self._plans.get((*value,)) or self._remembered_plan(value)

    def _remembered_plan(self, value: Mapping[str, object]) -> _Plan:
        known = tuple(key for key in self._fields if key in value)
        if known not in self._generated and len(self._generated) < _MOST_GENERATED:
            self._generated[known] = self._new_plan(known)
        plan = self._generated.get(known) or _Plan(
            fits=lambda value: self.mismatch(value) is None,
            build=lambda value, kind: self._complete.build({**self._nulls, **value}, kind),
        )
        unknown = [key for key in value if key not in self._fields]
        if unknown:
            plan = _keeping_extra(plan, unknown)
        if len(self._plans) < _MOST_REMEMBERED and sum(map(len, value)) <= _LONGEST_REMEMBERED:
            self._plans[*value,] = plan
        return plan

    def mismatch(self, value: Mapping[str, object]) -> _MismatchError | None:
        """Return what is wrong with an object, and where; None if nothing is."""
        for key, field, item in self._in_order(value):
            found = field.mismatch(item) if field else _unknown_mismatch(item)
            if found is not None:
                return _MismatchError(found.fault, f"{_member(key)}{found.path}")
        return None

    def keep(self, value: object, problems: list[_MismatchError], path: str = "") -> Any:
        """Return the record of any object, and add what does not fit; return None for no object."""
        members = members_of.get(value.__class__)
        value = value if members is None else members(value)
        if value.__class__ is not dict:
            return None
        fitting, kept = dict[str, object](self._nulls), dict[str, object]()
        for key, field, item in self._in_order(cast("dict[str, object]", value)):
            here = path + _member(key)
            if field and field.inner and isinstance(item, dict):
                fitting[key] = field.inner.keep(cast("object", item), problems, here)
                continue
            found = field.mismatch(item) if field else _unknown_mismatch(item)
            if field and found is None:
                fitting[key] = item
                continue
            kept[key], remark = _kept(item)
            if found is not None:
                problems.append(_MismatchError(found.fault + remark, here + found.path))
        record = self._complete.build(fitting, self.kind)
        record.extra = FrozenMapping(kept)
        record.__class__ = self.kind
        return record

    def given(self, value: object) -> object:
        """Return what is given by hand for a nested record; raise `_MismatchError` where wrong."""
        if value is None or isinstance(value, self.kind):
            return value
        problems: list[_MismatchError] = []
        record = self.keep(_plain(value, ""), problems)
        if record is None:
            _require(dict, value, "")
        if problems:
            raise problems[0]
        return record

    def _in_order(self, value: Mapping[str, object]) -> Iterator[tuple[str, _Field | None, object]]:
        """Go through the members of an object, in the order of the fields, unknown ones last."""
        # So that the same is told of all of its spellings.
        known = [key for key in self._fields if key in value]
        for key in [*known, *(key for key in value if key not in self._fields)]:
            yield key, self._fields.get(key), value[key]

    def _new_plan(self, keys: tuple[str, ...]) -> _Plan:
        """Compile the check, and let cattrs write the function that builds, for these keys."""
        fields = [self._fields[key] for key in keys]
        # Any, as pyright would else try an override on each of the function's own options.
        overrides: dict[str, Any] = {
            each.attribute.name: override(rename=each.wire_name, struct_hook=each.building)
            for each in fields
        }
        generate = cast("Callable[..., _Build]", make_dict_structure_fn_from_attrs)
        build = generate(
            # Required and positional, so that cattrs names them all in one plain call. A converter
            # that is preferred to a hook makes it hand the value on as it is; a pipe of none does.
            [
                each.attribute.evolve(
                    default=attrs.NOTHING, kw_only=False, converter=attrs.converters.pipe()
                )
                for each in fields
            ],
            _mutable_twin(self.kind, fields),
            _CONVERTER,
            _cattrs_prefer_attrib_converters=True,
            _cattrs_detailed_validation=False,
            _cattrs_use_linecache=False,  # it would keep every source for ever
            **overrides,
        )
        tests = [each.test_of("o", quick=False) for each in fields]
        return _Plan(fits=_compiled(" and ".join(tests) or "True"), build=build)


def _compiled(test: str) -> _Fits:
    """Return a function that applies a test to an object, `o`.

    It is compiled as attrs and cattrs compile theirs, from the names and tests of this file alone:
    a look-up and a call for each of the fifty values of a record would take twice as long.
    """
    names: dict[str, object] = {"texts": _are_texts, "instants": _are_instants}
    for inner in _STRUCTURERS.values():
        names[f"fits_{inner.name}"] = inner.fits
    return cast("_Fits", eval(f"lambda o: {test}", names))  # noqa: S307 - of this file's words alone


def _on_demand(
    slot: Any, build: Callable[[dict[str, Any]], object], check: Callable[[object], object]
) -> property:
    """Return the attribute of what is built when it is first asked for, and checked long before.

    Nested records are nine of the ten objects of a participant, and most users look at few of them.
    Stored is what came, as the record is made; the class itself refuses all later changes. What is
    made by hand (or a copy) puts its values through here, and they are checked at once; what came
    from the API was filled in as its twin, and does not.
    (Measured: 6.4 us a record, and 7.9 where one figure deep inside is read.)
    """
    get, put = slot.__get__, slot.__set__

    def built(record: object) -> object:
        value = get(record)
        if value.__class__ is dict:  # as it came
            value = build(cast("dict[str, Any]", value))
            put(record, value)
        elif value.__class__ in members_of:
            value = build(members_of[value.__class__](value))
            put(record, value)
        return value

    def put_checked(record: object, value: object) -> None:
        put(record, check(value))

    return property(built, put_checked)


def _mutable_twin(kind: type, given: Sequence[_Field]) -> type:
    """Return a class with the very slots of a frozen one, and a plain `__init__`.

    A frozen `__init__` goes through `object.__setattr__` for each field. Filled in as its twin and
    then given its own class, a record costs a fifth less, and is as frozen as any. The fields that
    are `given` come first, in this order, and by position: 27 keywords cost more than all else.
    (Measured, the 27 fields of a participant: 3.9 us frozen, 2.1 by keyword, 0.9 by position.)
    """
    own: dict[str, Any] = {
        each.attribute.name: attrs.field(
            converter=None if each.words is None else each.words.__getitem__
        )
        for each in given
    }
    for each in attrs.fields(kind):
        own.setdefault(each.name, attrs.field(default=each.default))
    return attrs.make_class(kind.__name__, own, slots=True, weakref_slot=False, eq=False)


def _keeping_extra(plan: _Plan, unknown: list[str]) -> _Plan:
    def fits(value: Any) -> bool:
        return plan.fits(value) and all(_unknown_mismatch(value[key]) is None for key in unknown)

    def build(value: Any, kind: type) -> Any:
        record = plan.build(value, kind)
        record.extra = FrozenMapping({key: _frozen(value[key]) for key in unknown})
        return record

    return _Plan(fits=fits, build=build)


def _plain(value: object, path: str, depth: int = 0) -> object:
    """Return what is given by hand, its containers as `json` makes them."""
    if depth > _DEEPEST:
        message = "the value is nested too deeply"
        raise _MismatchError(message, path)
    if isinstance(value, Mapping):
        members = _named(cast("Mapping[object, object]", value), path).items()
        return {key: _plain(item, path + _member(key), depth + 1) for key, item in members}
    if isinstance(value, (list, tuple)):
        items = enumerate(cast("Sequence[object]", value))
        return [_plain(item, f"{path}[{index}]", depth + 1) for index, item in items]
    if value.__class__ in _JSON_NAMES:
        return value
    message = f"expected a JSON value, found {value.__class__.__name__}"
    raise _MismatchError(message, path)


def _named(value: Mapping[object, object], path: str) -> dict[str, object]:
    """Return a mapping given by hand, if its keys are names."""
    for key in value:
        _require(str, key, path)
    return cast("dict[str, object]", dict(value))


def _events_given(value: object) -> Mapping[str, tuple[datetime, ...]] | None:
    """Return the events given by hand: times, or as the API's JSON has them."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise _MismatchError(_expected({dict}, type(value)))
    events = _named(cast("Mapping[object, object]", value), "").items()
    return FrozenMapping({name: _times_given(_member(name), times) for name, times in events})


def _times_given(path: str, value: object) -> tuple[datetime, ...]:
    if not isinstance(value, (list, tuple)):
        raise _MismatchError(_expected({list}, type(value)), path)
    items = enumerate(cast("Sequence[object]", value))
    return tuple(_time_given(f"{path}[{index}]", item) for index, item in items)


def _time_given(path: str, value: object) -> datetime:
    if not isinstance(value, datetime):
        _require(int, value, path)
        return _instant(cast("int", value), path)
    if value.utcoffset() is not None:
        with suppress(OverflowError):  # in UTC it is before year 1, or after 9999
            return value.astimezone(UTC)
    message = "expected a time with an offset"
    raise _MismatchError(message, path)


def _attempt(hook: _Hook | None, value: object) -> _MismatchError | None:
    """Return the mismatch that a hook finds in a value."""
    try:
        if hook is not None:
            hook(value, None)
    except _MismatchError as mismatch:
        return _MismatchError(mismatch.fault, mismatch.path)
    return None


def _unknown_mismatch(value: object) -> _MismatchError | None:
    return _attempt(lambda each, _: _frozen(each), value)


# --- The converter ---


def _instants_to_json(times: Mapping[str, tuple[datetime, ...]] | None) -> object:
    if times is None:
        return None
    return {
        name: [(time - _EPOCH) // _MILLISECOND for time in each] for name, each in times.items()
    }


def _time_to_json(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat().replace("+00:00", "Z")


def _word_to_json(word: str | None) -> str | None:
    return None if word is None else str(word)  # a plain one, not the StrEnum's member


def _unstructurer(kind: type) -> Callable[[Any], dict[str, object]]:
    overrides: dict[str, Any] = {
        each.name: override(
            rename=wire_name(each),
            omit_if_default=each.name in _OMITTED,
            unstruct_hook=_TO_JSON.get(each.name),
        )
        for each in wire_fields(kind)
    }
    overrides |= dict.fromkeys(_OURS, override(omit=True))
    own: Callable[[Any], dict[str, object]] = make_dict_unstructure_fn(
        kind, _CONVERTER, **overrides
    )

    def unstructure(record: Any) -> dict[str, object]:
        return {**own(record), **cast("dict[str, object]", _thawed(record.extra))}

    return unstructure


#: Members that the API sends only now and then: absent rather than null.
_OMITTED: Final = frozenset({"tags", "play_early_media", "early_media"})
_TO_JSON: Final[Mapping[str, Callable[[Any], object]]] = {
    "join_time": _time_to_json,
    "leave_time": _time_to_json,
    "events": _instants_to_json,
    "coached_participants": _thawed,
    "tags": _thawed,
    "call_direction": _word_to_json,
    "call_status": _word_to_json,
    "call_type": _word_to_json,
    "conference_region": _word_to_json,
    "jitter_buffer_size": _word_to_json,
    "participant_region": _word_to_json,
    "processing_state": _word_to_json,
}

_CONVERTER: Final = cattrs.Converter()
_STRUCTURERS: Final[dict[Any, _Structurer]] = {}
# Inner classes first: the outer ones look them up.
for _kind in (
    AvgMax,
    MediaMetrics,
    ParticipantMetrics,
    ParticipantProperties,
    Participant,
    PageMeta,
):
    _STRUCTURERS[_kind] = _Structurer(_kind)
    _CONVERTER.register_structure_hook(_kind, _STRUCTURERS[_kind].structure)
    _CONVERTER.register_unstructure_hook(_kind, _unstructurer(_kind))

# Looked up once: `converter.structure` would do it for every record.
_participant: Final[Callable[[Any], Participant]] = _STRUCTURERS[Participant].structure
_page_meta: Final[Callable[[Any], PageMeta]] = _STRUCTURERS[PageMeta].structure
