"""The one cattrs converter: decoded JSON to frozen records, and back.

1. Nothing is guessed: `"12"`, `3.7` and `"false"` are no int, no int and no bool. Every value's
   type is checked before a record is built, nested objects included, and a wrong one is a
   `ResponseError` with the JSON path; the value itself is never told, as it may be personal data.
2. null and absence are fine for every field. Unknown members are kept in `extra`, unknown enum
   words as strings. An int is fine where a float is due, and stays an int.
3. cattrs coerces (`int("12")` is 12), and looks up a hook again for every Optional value: at 27
   fields a record that would be most of the time. So it is told what it need not find out:

   - An object's keys and the types of its values are its *shape*. What is missing, unknown or of a
     wrong type is settled when a shape is first met; a later object of that shape needs one
     look-up. Plain values then pass as they are; only times, enums, floats (for infinity) and
     containers have a hook to go through.
   - For the keys of a shape cattrs generates one function that names just these, in one call.

   What a server can make this remember is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar, cast, get_args, get_origin

import attrs
import cattrs
from cattrs.gen import (
    make_dict_structure_fn_from_attrs,  # pyright: ignore[reportUnknownVariableType] - partly typed
    make_dict_unstructure_fn,
    override,
)

from .errors import ResponseError
from .models import (
    AvgMax,
    FrozenMapping,
    MediaMetrics,
    PageMeta,
    Participant,
    ParticipantMetrics,
    ParticipantProperties,
)

__all__ = ["page_meta", "participant", "unstructure_participant"]

T = TypeVar("T")

#: cattrs calls a hook with the value and the type that is wanted; ours know their type.
_Hook = Callable[[Any, Any], object]
_Build = Callable[[Any, type], Any]

#: Shapes remembered for a class. The API itself needs a handful.
_MOST_REMEMBERED: Final = 512
#: Characters of keys in a shape that is remembered. The 27 fields of a record have 345.
_LONGEST_REMEMBERED: Final = 4096
#: Functions generated for a class: one takes cattrs a millisecond, and memory.
_MOST_GENERATED: Final = 64

_NONE: Final = type(None)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

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


def participant(raw: object, path: str) -> Participant:
    """Return the record that a decoded JSON object holds.

    Args:
        raw: the object, as `json` decodes it.
        path: where it stands in the body, such as `participants[3]`.

    Raises:
        ResponseError: a value is of the wrong type; its `path` tells where.
    """
    return _structured(_participant, raw, path)


def page_meta(raw: object) -> PageMeta:
    """Return what the `meta` object of a page says; raise `ResponseError` for a wrong type."""
    return _structured(_page_meta, raw, "meta")


def unstructure_participant(record: Participant) -> dict[str, object]:
    """Return a record as the JSON object that it came from, ready for `json.dumps`.

    Names and forms are the API's: `from`, ISO 8601 times, events in epoch milliseconds. All 27
    fields are there, null where they are None; nested members that are None are left out.
    """
    return cast("dict[str, object]", _CONVERTER.unstructure(record))


def _structured(structure: Callable[[object], T], raw: object, path: str) -> T:
    try:
        _require(dict, raw, "")
        return structure(raw)
    except _MismatchError as mismatch:
        where, fault = path + mismatch.path, mismatch.fault
    except RecursionError:
        where, fault = path, "the value is nested too deeply"
    # Raised out here, so that no chained exception shows the value.
    message = f"The reply is not what the API promises: {where}: {fault}."
    raise ResponseError(message, path=where)


# --- Hooks: one value of the right JSON type to what the field holds ---


def _time(value: str | None, _: object) -> datetime | None:
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
        # RFC 3339 has an offset; a guessed one would be wrong half of the time.
        if time.tzinfo is not None:
            return time if time.tzinfo is UTC else time.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: in UTC it is before year 1 or after 9999
        pass
    message = "expected an ISO 8601 time with an offset"
    raise _MismatchError(message)


def _finite(value: float | None, _: object) -> float | None:
    if value is None or -math.inf < value < math.inf:
        return value
    message = "expected a finite number"  # 1e999 is JSON, and infinity to Python
    raise _MismatchError(message)


def _open_enum(kind: type[StrEnum]) -> _Hook:
    known = {word.value: word for word in kind}.get

    def member(value: str, _: object) -> str:
        return known(value, value)

    return member


def _strings(value: list[object] | None, _: object) -> tuple[object, ...] | None:
    if value is None:
        return None
    for index, item in enumerate(value):
        _require(str, item, f"[{index}]")
    return tuple(value)


def _events(value: dict[str, object] | None, _: object) -> Mapping[str, object] | None:
    if value is None:
        return None
    return FrozenMapping({name: _times(name, times) for name, times in value.items()})


def _times(name: str, value: object) -> tuple[datetime, ...]:
    _require(list, value, f".{name}")
    times: list[datetime] = []
    for index, item in enumerate(cast("list[object]", value)):
        _require(int, item, f".{name}[{index}]")
        times.append(_instant(cast("int", item), f".{name}[{index}]"))
    return tuple(times)


def _instant(milliseconds: int, path: str) -> datetime:
    try:
        return _EPOCH + milliseconds * _MILLISECOND  # exact, as fromtimestamp(ms / 1000) is not
    except OverflowError:
        fault = "expected milliseconds since 1970 within the years 1 to 9999"
    raise _MismatchError(fault, path)


def _require(kind: type, value: object, path: str) -> None:
    if type(value) is not kind:
        raise _MismatchError(_expected({kind}, type(value)), path)


def _expected(kinds: Iterable[type], found: type) -> str:
    names = [_JSON_NAMES[kind] for kind in kinds if kind is not _NONE]
    return f"expected {' or '.join(sorted(names))}, found {_JSON_NAMES[found]}"


def _frozen(value: object, _: object = None) -> object:
    """Return any JSON value, immutable all the way down."""
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return FrozenMapping({key: _frozen(item) for key, item in members.items()})
    if isinstance(value, list):
        return tuple(map(_frozen, cast("list[object]", value)))
    return _finite(value, None) if isinstance(value, float) else value


def _thawed(value: object) -> object:
    """Return what `_frozen` made of a JSON value, as it was."""
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return {key: _thawed(item) for key, item in members.items()}
    if isinstance(value, tuple):
        return [*map(_thawed, cast("tuple[object, ...]", value))]
    return value


# --- Fields and shapes ---


@attrs.frozen
class _Field:
    """What may stand in one field, and how it gets there."""

    attribute: attrs.Attribute[Any]
    accepts: frozenset[type]
    hook: _Hook | None

    @property
    def wire_name(self) -> str:
        """Return the name in JSON: Python keeps `from` for itself."""
        return self.attribute.name.rstrip("_")


def _field(attribute: attrs.Attribute[Any]) -> _Field:
    """Read a field's rules off its annotation, `X | None`."""
    kinds = [kind for kind in get_args(attribute.type) if kind is not _NONE]
    first = kinds[0]
    json_types, hook = _PLAIN.get(get_origin(first) or first, ((), None))
    if attrs.has(first):
        json_types, hook = (dict,), _CONVERTER.get_structure_hook(first)
    elif issubclass(get_origin(first) or first, StrEnum):
        json_types, hook = (str,), _open_enum(first)
    return _Field(attribute, frozenset((*json_types, _NONE)), hook)


_PLAIN: Final[Mapping[Any, tuple[tuple[type, ...], _Hook | None]]] = {
    str: ((str,), None),
    bool: ((bool,), None),
    int: ((int,), None),
    float: ((float, int), _finite),
    datetime: ((str,), _time),
    tuple: ((list,), _strings),
    Mapping: ((dict,), _events),
}


class _Structurer:
    """The hook of one class: looks up how to build from an object of this shape, and builds."""

    def __init__(self, kind: type) -> None:
        attrs.resolve_types(kind)
        every = attrs.fields(kind)
        self._kind = kind
        self._keeps_extra = hasattr(every, "extra")
        fields = [_field(each) for each in every if each.name != "extra"]
        self._fields = {field.wire_name: field for field in fields}
        self._twin = _mutable_twin(kind)
        self._generated: dict[tuple[str, ...], _Build] = {}
        self._complete = self._generate(tuple(self._fields))
        self._nulls: Mapping[str, object] = dict.fromkeys(self._fields)

    def hook(self) -> _Hook:
        """Return the function that cattrs calls: a closure, the cheapest thing there is to call."""
        builds: dict[tuple[object, ...], _Build] = {}
        kind, twin = self._kind, self._twin

        def structure(value: Any, _: object = None) -> Any:
            if value is None:
                return None
            shape = (*value, *map(type, value.values()))
            build = builds.get(shape)
            if build is None:
                build = self._new_build(value)
                if len(builds) < _MOST_REMEMBERED and sum(map(len, value)) <= _LONGEST_REMEMBERED:
                    builds[shape] = build
            try:
                record = build(value, twin)
            except _MismatchError:
                record = None
            if record is None:  # raised out here, so that it does not chain the one caught
                raise self._mismatch(value)
            record.__class__ = kind
            return record

        return structure

    def _new_build(self, value: dict[str, object]) -> _Build:
        """Return how to build from an object of such keys and types, or raise if it is no match."""
        for key, item in value.items():
            field = self._fields.get(key)
            if field is not None and type(item) not in field.accepts:
                raise _MismatchError(_expected(field.accepts, type(item)), f".{key}")
        known = tuple(key for key in self._fields if key in value)
        if known not in self._generated and len(self._generated) < _MOST_GENERATED:
            self._generated[known] = self._generate(known)
        build = self._generated.get(known, self._build_filling_in)
        unknown = [key for key in value if key not in self._fields]
        return _keeping_extra(build, unknown) if unknown and self._keeps_extra else build

    def _build_filling_in(self, value: Any, kind: type) -> Any:
        """Build from an object that lacks keys, of which no function of its own was generated."""
        return self._complete({**self._nulls, **value}, kind)

    def _generate(self, keys: tuple[str, ...]) -> _Build:
        """Let cattrs write the function that builds from an object with these keys."""
        fields = [self._fields[key] for key in keys]
        # Any, as pyright would else try an override on each of the function's own options.
        overrides: dict[str, Any] = {
            each.attribute.name: override(rename=each.wire_name, struct_hook=each.hook)
            for each in fields
        }
        generate = cast("Callable[..., _Build]", make_dict_structure_fn_from_attrs)
        return generate(
            # Required, as they are here, so that cattrs names all of them in one call. A converter
            # that is preferred to a hook makes it hand the value on as it is; none is ever called.
            [each.attribute.evolve(default=attrs.NOTHING, converter=_as_it_is) for each in fields],
            self._twin,
            _CONVERTER,
            _cattrs_prefer_attrib_converters=True,
            _cattrs_detailed_validation=False,
            _cattrs_use_linecache=False,  # it would keep every source for ever
            **overrides,
        )

    def _mismatch(self, value: dict[str, object]) -> _MismatchError:
        """Return what the building tripped over, with the path to it."""
        hooks = [
            (key, field.hook if (field := self._fields.get(key)) else _frozen) for key in value
        ]
        found = (_attempt(hook, value[key], key) for key, hook in hooks if hook is not None)
        return next(filter(None, found))


def _mutable_twin(kind: type) -> type:
    """Return a class with the very slots of a frozen one, and a plain `__init__`.

    A frozen `__init__` goes through `object.__setattr__` for each field. Filled in as its twin and
    then given its own class, a record costs a fifth less, and is as frozen as any. (Measured: 26 us
    a record without, 20.5 with, where json.loads of it takes 10.)
    """
    fields = {
        each.name: attrs.field(default=each.default, kw_only=True) for each in attrs.fields(kind)
    }
    return attrs.make_class(kind.__name__, fields, slots=True, weakref_slot=False, eq=False)


def _keeping_extra(build: _Build, unknown: list[str]) -> _Build:
    def build_with_extra(value: Any, kind: type) -> Any:
        record = build(value, kind)
        record.extra = FrozenMapping({key: _frozen(value[key]) for key in unknown})
        return record

    return build_with_extra


def _attempt(hook: _Hook, value: object, key: str) -> _MismatchError | None:
    """Return the mismatch that a hook finds in a member, under the member's name."""
    try:
        hook(value, None)
    except _MismatchError as inner:
        return _MismatchError(inner.fault, f".{key}{inner.path}")
    return None


def _as_it_is(value: T) -> T:
    return value  # pragma: no cover - a mark for cattrs, see `_generate`


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
    fields = [each for each in attrs.fields(kind) if each.name != "extra"]
    overrides: dict[str, Any] = {
        each.name: override(
            rename=each.name.rstrip("_"),
            omit_if_default=each.name in _OMITTED,
            unstruct_hook=_TO_JSON.get(each.name),
        )
        for each in fields
    }
    own: Callable[[Any], dict[str, object]] = make_dict_unstructure_fn(
        kind, _CONVERTER, extra=override(omit=True), **overrides
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
# Inner classes first: the outer ones look their hooks up.
for _kind in (AvgMax, MediaMetrics, ParticipantMetrics, ParticipantProperties, Participant):
    _CONVERTER.register_structure_hook(_kind, _Structurer(_kind).hook())
    _CONVERTER.register_unstructure_hook(_kind, _unstructurer(_kind))
_CONVERTER.register_structure_hook(PageMeta, _Structurer(PageMeta).hook())

# Looked up once: `converter.structure` would do it for every record.
_participant: Final = cast(
    "Callable[[object], Participant]", _CONVERTER.get_structure_hook(Participant)
)
_page_meta: Final = cast("Callable[[object], PageMeta]", _CONVERTER.get_structure_hook(PageMeta))
