"""Records as flat rows: one value for each column, and the same columns for each record of a class.

1. The columns of a class follow from its fields, in their order; the columns of a nested record
   stand in its place. A column has the names in JSON, joined by `_`: `inbound_jitter_max`. The
   names `properties` and `metrics` are left out, as what is inside has names of its own.
2. A value is a str, an int, a float, a bool, an aware datetime in UTC, or None. A float is a float
   where JSON said `3`, too, and a word of an enum is a plain str. Arrays and objects are JSON text
   in the API's form: so `events` are milliseconds since 1970.
3. Nothing is lost. What has no column is in the column `extra`, a JSON object with the names and
   levels of the API: unknown members, those of nested records too; values that did not fit their
   field; and values that do not fit their column: an integer beyond 64 bits, an integer that no
   float equals, a text that UTF-8 cannot encode (a lone surrogate). The column `problems` names the
   latter two kinds.
4. Users can make records with values of any type. Where a field's type is another one than the
   column's, that is an `InvalidRequestError`, as is a time without an offset.
5. There are two ways to a row, as in `_structuring`. The fast way is one compiled expression, which
   converts the values that need it. Only a value that does not fit its column goes the careful way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, get_args, get_origin

import attrs

from ._field_docs import documented, field_docs
from .errors import InvalidRequestError

if TYPE_CHECKING:
    import builtins

__all__ = ["Column", "Row", "Tabular", "columns_of", "row_of", "row_values"]

#: What a row holds.
Value: TypeAlias = str | int | float | bool | datetime | None
#: The values by the names of their columns.
Row: TypeAlias = dict[str, Value]

_NONE: Final = type(None)
#: Names that are left out of the names of columns.
_UNNAMED: Final = frozenset({"properties", "metrics"})
#: The columns at the end, which are fields of each record, too; with what they hold.
_LAST: Final[Mapping[str, str]] = {
    "extra": "All that has no column, as a JSON object with the names and levels of the API's: "
    "unknown members, and values that do not fit their field or their column.",
    "problems": "What is wrong with the values in `extra` that do not fit, as a JSON array.",
}
#: Every 64-bit integer is from the negative of this on, and below it.
_2_TO_63: Final = 2**63


@documented
@attrs.frozen(kw_only=True)
class Column:
    """A column of the rows that records become; see `Participant.to_row`."""

    name: str
    """Its name, which is the key in a row: `inbound_jitter_max`."""
    type: builtins.type[str | int | float | bool | datetime]
    """The type of its values that are not None: `str`, `int`, `float`, `bool` or `datetime`."""
    is_json: bool = False
    """Whether its values are JSON text."""
    path: tuple[str, ...] = ()
    """Where the API's JSON has the value: `("metrics", "inbound", "jitter", "max")`. Empty for
    `extra` and `problems`."""
    fields: tuple[tuple[builtins.type, str], ...] = attrs.field(default=(), repr=False)
    """The class and the name of each field on the way to the value."""

    @property
    def description(self) -> str:
        """What the values mean, with their unit: the texts below the fields in the source."""
        if not self.path:
            return _LAST[self.name]
        texts = [
            field_docs(holder).get(name, "") for holder, name in self.fields if name not in _UNNAMED
        ]
        return " ".join(" ".join(texts).split())

    @property
    def attribute(self) -> str:
        """The same place in a record: `metrics.inbound.jitter.max`, or `from_`."""
        return ".".join(name for _, name in self.fields)


class Tabular:
    """The methods of records that become rows."""

    __slots__ = ()

    def to_row(self) -> Row:
        """Return the record as one flat row: a dict with the same keys for each record.

        The values are str, int, float, bool, aware datetimes in UTC, or None; `columns()` says
        which column has which type, and what it means. Nested values have columns such as
        `inbound_mos` and `inbound_jitter_max`; `events`, `tags` and others with a structure of
        their own are JSON text. `extra` is the JSON text of all that has no column, or None.

        Raises:
            InvalidRequestError: the record was made by hand, with a value of the wrong type.
        """
        return row_of(self)

    @classmethod
    def columns(cls) -> tuple[Column, ...]:
        """Return the columns of `to_row()`, in their order."""
        return columns_of(cls)


def row_of(record: object) -> Row:
    """Return the row of a record; see `Tabular.to_row`."""
    layout = _layout(cast("type", type(record)))
    return dict(zip(layout.names, layout.values(record), strict=True))


def row_values(record_class: type) -> Callable[[Any], tuple[Value, ...]]:
    """Return the function that returns the values of a record of this class, without the names.

    It raises InvalidRequestError, as `to_row` does.
    """
    return _layout(record_class).values


def columns_of(record_class: type) -> tuple[Column, ...]:
    """Return the columns of a class of records."""
    return _layout(record_class).columns


# --- Columns, from fields ---


def _held(field: attrs.Attribute[Any]) -> Any:
    """Return the class of a field's values, from its annotation `X | None` or `Enum | str | None`.

    It is a nested class of records, the type of a column, or tuple or Mapping.
    """
    held = next(each for each in get_args(field.type) if each is not _NONE)
    return get_origin(held) or held


def _columns(holder: type, way: tuple[tuple[type, str], ...] = ()) -> Iterator[Column]:
    """Yield the columns of a class, which is at the end of a way of fields."""
    attrs.resolve_types(holder)
    for field in attrs.fields(holder):
        held, fields = _held_or_none(field), (*way, (holder, field.name))
        if held is None:
            continue
        if attrs.has(held):
            yield from _columns(held, fields)
            continue
        path = tuple(name.rstrip("_") for _, name in fields)  # `from_` is `from` in JSON
        kind = next((each for each in _KINDS if issubclass(held, each)), None)
        yield Column(
            name="_".join(each for each in path if each not in _UNNAMED),
            type=str if kind is None else kind,
            is_json=kind is None,
            path=path,
            fields=fields,
        )


def _held_or_none(field: attrs.Attribute[Any]) -> Any:
    return None if field.name in _LAST else _held(field)


# --- From the field's value to the column's ---


class _MisfitError(Exception):
    """A value is of the right type, but the column cannot hold it."""


def _wrong_type(value: object, expected: str) -> InvalidRequestError:
    message = f"expected {expected}, found {type(value).__name__}"
    return InvalidRequestError(message)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _wrong_type(value, "a str")
    try:
        value.encode()
    except UnicodeEncodeError:
        fault = "UTF-8 cannot encode the text"
    else:
        return str(value)  # a plain one, where it is the member of an enum
    raise _MisfitError(fault)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(value, "a bool")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(value, "an int")
    if not -_2_TO_63 <= value < _2_TO_63:
        fault = "the integer does not fit into 64 bits"
        raise _MisfitError(fault)
    return int(value)


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _wrong_type(value, "a number")
    with suppress(OverflowError):
        number = float(value)
        if isinstance(value, float) or number == value:
            return number
    fault = "no float equals the integer"
    raise _MisfitError(fault)


def _time(value: object) -> datetime:
    if isinstance(value, datetime) and value.utcoffset() is not None:
        with suppress(OverflowError):  # in UTC it is before year 1 or after 9999
            return value.astimezone(UTC)
    raise _wrong_type(value, "a datetime with an offset")


def _json_default(value: object) -> object:
    """Return what the encoder of `json` knows for a value that it does not."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    if isinstance(value, datetime):  # of an event
        return (value - _EPOCH) // _MILLISECOND
    raise _wrong_type(value, "a JSON value")


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = datetime.resolution * 1000
# In ASCII, which can hold a lone surrogate.
_encode: Final = json.JSONEncoder(
    allow_nan=False, separators=(",", ":"), default=_json_default
).encode


def _json(value: object) -> str:
    """Return the JSON text of an array or an object."""
    if not isinstance(value, (tuple, list, Mapping)):
        raise _wrong_type(value, "a tuple or a mapping")
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, InvalidRequestError):
            raise
    message = "expected what JSON can hold, and not deeper than Python's stack"
    raise InvalidRequestError(message)


@attrs.frozen
class _Kind:
    """How values become those of a column of one type."""

    expression: str
    """An expression of the value `v`, which is not None, that converts it if it is as usual, and
    gives any other to `convert`."""
    convert: Callable[[object], Value]
    """Converts any value; raises `_MisfitError`, or InvalidRequestError without the field."""


#: By the type of a column; bool first, as it is a subclass of int.
_KINDS: Final[Mapping[Any, _Kind]] = {
    bool: _Kind("v if v.__class__ is bool else _flag(v)", _flag),
    str: _Kind(
        # The words of our enums are ASCII.
        "v if v.__class__ is str and v.isascii() else str(v) if v.__class__ in ENUMS else _text(v)",
        _text,
    ),
    int: _Kind(
        "v if v.__class__ is int and -0x8000000000000000 <= v < 0x8000000000000000 "
        "else _integer(v)",
        _integer,
    ),
    float: _Kind(
        # Up to 2 to the power of 53, each integer equals a float.
        "v if v.__class__ is float else "
        "v + 0.0 if v.__class__ is int and -0x20000000000000 <= v <= 0x20000000000000 "
        "else _number(v)",
        _number,
    ),
    datetime: _Kind(
        "v if v.__class__ is datetime and v.tzinfo is UTC else _time(v)",
        _time,
    ),
}
_JSON: Final = _Kind("_json(v)", _json)


def _kind(column: Column) -> _Kind:
    return _JSON if column.is_json else _KINDS[column.type]


# --- Rows ---


class _Layout:
    """How the records of one class become rows."""

    def __init__(self, record_class: type) -> None:
        last = [
            Column(name=name, type=str, is_json=True, fields=((record_class, name),))
            for name in _LAST
        ]
        self._record_class = record_class
        self._own = [*_columns(record_class)]
        self.columns: Final[tuple[Column, ...]] = (*self._own, *last)
        self.names: Final[tuple[str, ...]] = tuple(each.name for each in self.columns)
        self._usual_values = self._compiled()

    def values(self, record: object) -> tuple[Value, ...]:
        """Return the values of a record's columns.

        Raises:
            InvalidRequestError: the record was made by hand, with a value of the wrong type.
        """
        try:
            return self._usual_values(record)
        except (_MisfitError, InvalidRequestError):
            return self._values_carefully(record)

    # --- The fast way ---

    def _compiled(self) -> Callable[[Any], tuple[Value, ...]]:
        """Return a function that returns the values, where each fits its column.

        It is compiled from one expression, as the tests in `_structuring` are: a loop with a call
        for each of the sixty values would take twice the time. All names in the expression are from
        this file and the classes of records.
        """
        names: dict[str, object] = {
            **{each.convert.__name__: each.convert for each in (*_KINDS.values(), _JSON)},
            "UTC": UTC,
            "datetime": datetime,
            "ENUMS": frozenset(_enums(self._record_class)),
            "NO_MEMBERS": attrs.fields_dict(self._record_class)["extra"].default,
            "extra": self._extra,
        }
        values = _expression(self._record_class, "r")
        extra = f"None if {_has_no_extra(self._record_class, 'r')} else _json(extra(r))"
        problems = "None if not r.problems else _json(r.problems)"
        source = f"lambda r: ({values}, {extra}, {problems})"
        compiled = eval(source, names)  # noqa: S307 - no word of it comes from outside
        return cast("Callable[[Any], tuple[Value, ...]]", compiled)

    # --- The careful way ---

    def _values_carefully(self, record: object) -> tuple[Value, ...]:
        """Return the values, None for each that does not fit, which is in `extra` then."""
        values: list[Value] = []
        problems = [*cast("tuple[str, ...]", attrgetter("problems")(record))]
        extra = self._extra(record)
        for column in self._own:
            value = _value_at(record, column)
            try:
                values.append(None if value is None else _kind(column).convert(value))
            except _MisfitError as misfit:
                values.append(None)
                _put(extra, column.path, value)
                problems.append(f"{'.'.join(column.path)}: {misfit}; it is in extra")
            except InvalidRequestError as error:
                raise _field_error(column.attribute, str(error)) from None
        try:
            return (*values, _json(extra) if extra else None, _json(problems) if problems else None)
        except InvalidRequestError as error:
            place = "extra"
            raise _field_error(place, str(error)) from None

    def _extra(self, record: object) -> _Members:
        """Return all members of a record that have no column, at their places."""
        return _extra_of(self._record_class, record)


@cache
def _layout(record_class: type) -> _Layout:
    return _Layout(record_class)


def _expression(holder: type, variable: str) -> str:
    """Return an expression for the values of the fields of the record in a variable."""
    return ", ".join(
        _nested_expression(held, variable, field.name)
        if attrs.has(held)
        else _value_expression(held, f"{variable}.{field.name}")
        for field in attrs.fields(holder)
        if (held := _held_or_none(field)) is not None
    )


def _enums(holder: type) -> Iterator[type[StrEnum]]:
    """Yield the enums of the fields of a class; nested records have none."""
    for field in attrs.fields(holder):
        held = _held_or_none(field)
        if held is not None and issubclass(held, StrEnum):
            yield held


def _nested_expression(held: type, variable: str, name: str) -> str:
    inner = f"{variable}_{name}"
    width = sum(1 for _ in _columns(held))
    return (
        f"*(({_expression(held, inner)}) if ({inner} := {variable}.{name}) is not None "
        f"else {(None,) * width})"
    )


def _value_expression(held: type, place: str) -> str:
    kind = next((_KINDS[each] for each in _KINDS if issubclass(held, each)), _JSON)
    return f"None if (v := {place}) is None else {kind.expression}"


def _nested_fields(holder: type) -> Iterator[tuple[str, type]]:
    """Yield the name and the class of each field that holds a nested record."""
    for field in attrs.fields(holder):
        held = _held_or_none(field)
        if held is not None and attrs.has(held):
            yield field.name, held


def _has_no_extra(holder: type, variable: str) -> str:
    """Return an expression that says whether no record, nested ones included, has an `extra`."""
    own = f"({variable}.extra is NO_MEMBERS or not {variable}.extra)"
    nested = (
        f"({variable}_{name} is None or {_has_no_extra(held, f'{variable}_{name}')})"
        for name, held in _nested_fields(holder)
    )
    return " and ".join((own, *nested))


class _Members(dict[str, object]):
    """An object inside `extra` that was made here; an object of the record's own never changes."""


def _extra_of(holder: type, record: object) -> _Members:
    """Return the members that a record has no fields for, and those of its nested records."""
    found = _Members()
    for name, held in _nested_fields(holder):
        nested = getattr(record, name)
        if nested is not None and (inner := _extra_of(held, nested)):
            found[name] = inner
    own = cast("Mapping[str, object]", attrgetter("extra")(record))
    for name in own:
        _put(found, (name,), own[name])
    return found


def _put(members: _Members, path: tuple[str, ...], value: object) -> None:
    """Put a value into an object, at a path where nothing is.

    Raises:
        InvalidRequestError: a record made by hand has a field and the same member in its `extra`.
    """
    *way, last = path
    for name in way:
        inner = members.setdefault(name, _Members())
        if not isinstance(inner, _Members):
            raise _twice(path)
        members = inner
    if last in members:
        raise _twice(path)
    members[last] = value


def _twice(path: tuple[str, ...]) -> InvalidRequestError:
    fault = "the record has a field for it, which has a value, too: give one of them"
    return _field_error(".".join(("extra", *path)), fault)


def _value_at(record: object, column: Column) -> object:
    """Return the value of a column in a record, not converted."""
    for _, name in column.fields:
        if record is None:
            return None
        record = getattr(record, name)
    return record


def _field_error(place: str, fault: str) -> InvalidRequestError:
    message = f"A record's {place}: {fault}. Give what the field holds, as its documentation says."
    return InvalidRequestError(message)
