"""The one cattrs converter: decoded JSON to frozen records. The way back is in `_record_codecs`.

1. The type of each value is checked before a record is built, also in nested objects. A wrong type
   is a `ResponseError` with the JSON path. See `_json_values` for the rules of single values.
2. null and a missing member are fine for every field, and mean the same. Unknown members are kept
   in `extra`, unknown words of enums as strings. An int is fine for a float, and stays an int.
3. All values are checked, but nested records are built on demand; see `_on_demand`.
4. There are two ways to a record. The fast way is for objects that are as usual: a compiled check
   of all values, then a function that cattrs generated. Any other object goes the careful way: it
   is read value by value, and each value that does not fit is listed as a problem. The first
   problem is raised, or, with `on_invalid="keep"`, all are listed in the record.
5. msgspec can check the types while it decodes: `_msgspec` then gives Structs instead of dicts, and
   they need no check here.
6. cattrs would coerce values (`int("12")` is 12) and choose a hook for each value at run time. So
   each value is checked before, and reaches the record as it is or through an attrs converter.
7. The mappings that a user gives for nested records go the careful way, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast, get_args, get_origin

import attrs
import cattrs
from cattrs.gen import (
    make_dict_structure_fn_from_attrs,  # pyright: ignore[reportUnknownVariableType] - partly typed
    override,
)

from ._json_values import (
    JsonText,
    MismatchError,
    OpenEnum,
    OpenEnums,
    are_integers,
    are_texts,
    are_times_in_milliseconds,
    events_of,
    events_to_json,
    finite,
    freeze,
    integers_by_name,
    json_given,
    json_text,
    member_path,
    object_from_json,
    strings_by_name,
    strings_from_json,
    time_from_json,
    time_to_json,
    to_plain,
    wrong_type,
)
from ._on_demand import builders
from .errors import InvalidRequestError, ResponseError
from .models import (
    AvgMax,
    Conference,
    ConferenceTag,
    FrozenMapping,
    MediaMetrics,
    PageMeta,
    Participant,
    ParticipantMetrics,
    ParticipantProperties,
)

__all__ = [
    "CONVERTER",
    "STRUCTURERS",
    "Field",
    "Problems",
    "Structurer",
    "conference",
    "conference_keeping",
    "failure",
    "page_meta",
    "participant",
    "participant_keeping",
    "read_page_meta",
    "struct_members",
    "text_member",
    "wire_fields",
    "wire_name",
    "with_problems",
]

T = TypeVar("T")

#: The classes of msgspec's Structs, and for each the function that returns the members of one.
struct_members: Final[dict[type, Callable[[Any], dict[str, Any]]]] = {}

Problems: TypeAlias = Sequence[MismatchError]

_NONE: Final = type(None)
#: Fields of ours that are not members of the API's JSON.
_OURS: Final = frozenset({"extra", "problems"})
#: Members of each class that the API leaves out where other members would be null.
_OMITTED: Final[Mapping[type, frozenset[str]]] = {
    MediaMetrics: frozenset({"tags"}),
    ParticipantProperties: frozenset({"play_early_media", "early_media"}),
}


def page_meta(raw: object) -> PageMeta:
    """Return the `meta` object of a page.

    Only `next_page_url` has to fit. Any other member of the wrong type is None, and its value is
    kept in `extra`.

    Raises:
        ResponseError: it is not an object, or `next_page_url` is of the wrong type.
    """
    meta, problem = read_page_meta(raw)
    if problem is not None:
        raise _response_error(problem, "meta")
    return cast("PageMeta", meta)


def read_page_meta(raw: object) -> tuple[PageMeta | None, MismatchError | None]:
    """Return the `meta` object of a page, and what is so wrong that the page cannot be used."""
    meta, problems = _page_metas.read(raw)
    for problem in problems:
        if meta is None or problem.path == ".next_page_url":
            return meta, problem
    return cast("PageMeta", meta), None


def text_member(record: object, name: str) -> str | None:
    """Return a member of a record, structured or only decoded; None if it is not a string."""
    if isinstance(record, dict):
        value = cast("dict[str, object]", record).get(name)
    else:
        value = getattr(record, name, None)
    return value if isinstance(value, str) else None


def _response_error(mismatch: MismatchError, path: str) -> ResponseError:
    """Return the error to raise; outside of `except`, as a chained error could show the value."""
    path += mismatch.path
    message = (
        f"The reply is not what the API promises: {path}: {mismatch.fault}. "
        "See whether a newer version of this package knows of it."
    )
    return ResponseError(message, path=path)


def with_problems(record: Any, problems: Problems) -> Any:
    """Return a record that says what is wrong with it, if its class has a field for that."""
    if not problems or not hasattr(record, "problems"):
        return record
    words = tuple(f"{each.path[1:]}: {each.fault}{each.remark}" for each in problems)
    return attrs.evolve(record, problems=words)


# --- Fields ---


@attrs.frozen
class _Kind:
    """What fields of one type accept and hold."""

    accepts: frozenset[type]
    """The types that decoded JSON may have."""
    test: str
    """The same as an expression. `{}` is replaced by the value, which is `v` after its first use.
    None need not pass it."""
    convert: Callable[[Any], object] | None = None
    """From the JSON type to the field's; raises `MismatchError`. None: the field holds it as is."""
    to_json: Callable[[Any], object] | None = None
    """The way back."""


def _words_to_json(words: Sequence[str] | None) -> list[str] | None:
    return None if words is None else [*map(str, words)]


_TEXT: Final[frozenset[type]] = frozenset({str, _NONE})
_IS_TEXT: Final = "({}).__class__ is str"
_KINDS: Final[Mapping[Any, _Kind]] = {
    str: _Kind(_TEXT, _IS_TEXT),
    bool: _Kind(frozenset({bool, _NONE}), "({}).__class__ is bool"),
    int: _Kind(frozenset({int, _NONE}), "({}).__class__ is int"),
    float: _Kind(
        frozenset({float, int, _NONE}),
        # Infinity times 0 is not 0.
        "({}).__class__ is float and v * 0.0 == 0.0 or v.__class__ is int",
        finite,
        finite,  # a number that a user gives is stored without a check
    ),
    datetime: _Kind(_TEXT, _IS_TEXT, time_from_json, time_to_json),
    tuple: _Kind(
        frozenset({list, _NONE}),
        "({}).__class__ is list and are_texts(v)",
        strings_from_json,
        to_plain,
    ),
    tuple[ConferenceTag | str, ...]: _Kind(
        frozenset({list, _NONE}),
        "({}).__class__ is list and are_texts(v)",
        OpenEnums(ConferenceTag),
        _words_to_json,
    ),
    Mapping[str, tuple[datetime, ...]]: _Kind(
        frozenset({dict, _NONE}),
        "({}).__class__ is dict and are_times(v.values())",
        events_of,
        events_to_json,
    ),
    Mapping[str, int]: _Kind(
        frozenset({dict, _NONE}),
        "({}).__class__ is dict and are_integers(v.values())",
        integers_by_name,
        to_plain,
    ),
    Mapping[str, str]: _Kind(
        frozenset({dict, _NONE}),
        "({}).__class__ is dict and are_texts(v.values())",
        strings_by_name,
        to_plain,
    ),
    Mapping[str, object]: _Kind(
        frozenset({dict, _NONE}), "({}).__class__ is dict", object_from_json, to_plain
    ),
}
_NESTED: Final = _Kind(frozenset({dict, _NONE}), "({}).__class__ is dict")


def _word_to_json(word: str | None) -> str | None:
    return None if word is None else str(word)  # a plain string, not the enum's member


@attrs.frozen
class Field:
    """One field of a record."""

    name: str
    wire_name: str
    annotation: Any
    kind: _Kind
    nested: Structurer[Any] | None
    """Structures the nested object that the field holds; None for other fields."""
    omitted: bool
    """Whether the API leaves the member out where others would be null."""

    @classmethod
    def of(cls, attribute: attrs.Attribute[Any], omitted: Collection[str]) -> Field:
        """Read a field's rules from its annotation, `X | None`."""
        types = [each for each in get_args(attribute.type) if each is not _NONE]
        held = get_origin(types[0]) or types[0]
        nested = STRUCTURERS.get(held)
        if nested is not None:
            kind = _NESTED
        elif issubclass(held, StrEnum):
            kind = _Kind(_TEXT, _IS_TEXT, OpenEnum(held).__getitem__, _word_to_json)
        else:
            kind = _KINDS.get(types[0]) or _KINDS[held]
        name = wire_name(attribute)
        return cls(attribute.name, name, attribute.type, kind, nested, name in omitted)

    @property
    def converter(self) -> Callable[[Any], object] | None:
        """Return the attrs converter that a checked value goes through as a record is built."""
        # Events are built on demand, and a number that was checked is finite.
        later = self.kind.convert in {events_of, finite}
        return None if later else self.kind.convert

    def test(self, holder: str) -> str:
        """Return an expression that says whether this member of the object `holder` fits."""
        value = f"{holder}[{self.wire_name!r}]"
        if self.omitted:
            value = f"{holder}.get({self.wire_name!r})"
        if self.nested is None:
            return f"({self.kind.test.format(f'v := {value}')} or v is None)"
        inner = f"{holder}_{self.name}"
        fits = (
            f"{self.kind.test.format(f'{inner} := {value}')} and {self.nested.nested_test(inner)}"
        )
        return f"({fits} or {inner} is None)"

    def mismatch(self, value: object) -> MismatchError | None:
        """Return what is wrong with a value that is not a nested object; None if it fits."""
        if value.__class__ not in self.kind.accepts:
            return wrong_type(self.kind.accepts, value)
        return failure(self.kind.convert, value) if self.kind.convert else None


def failure(convert: Callable[[Any], object], value: object) -> MismatchError | None:
    """Return the error of a conversion, without its traceback; None if it succeeds."""
    try:
        convert(value)
    except MismatchError as error:
        return MismatchError(error.fault, error.path)
    return None


def wire_name(attribute: attrs.Attribute[Any]) -> str:
    """Return a field's name in JSON: `from_` is `from` there."""
    return attribute.name.rstrip("_")


def wire_fields(kind: type) -> list[attrs.Attribute[Any]]:
    """Return the fields of a class that are members of the API's JSON."""
    return [each for each in attrs.fields(kind) if each.name not in _OURS]


# --- Records ---


class Structurer(Generic[T]):
    """Builds the records of one class."""

    def __init__(self, kind: type[T]) -> None:
        attrs.resolve_types(cast("type", kind))
        self.kind: Any = kind
        omitted = _OMITTED.get(kind, frozenset())
        fields = [Field.of(each, omitted) for each in wire_fields(kind)]
        self.fields = {field.wire_name: field for field in fields}
        self._nulls: Mapping[str, object] = dict.fromkeys(self.fields)
        self._count = len(self.fields)
        self._fits = self._compiled_test()
        usual = [field for field in fields if not field.omitted]
        #: By the number of members: what creates a record of all members, or of the usual ones.
        self._create = {self._count: _creating_function(kind, self.fields.values())}
        if len(usual) < self._count:
            self._create[len(usual)] = _creating_function(kind, usual)

    def record(self, raw: object, path: str, index: int | None = None) -> T:
        """Return the record for a decoded JSON object.

        Args:
            raw: the object, as `json` or `_msgspec` decodes it.
            path: its path in the body, or that of its array, such as `participants`.
            index: its index, if that is an array.

        Raises:
            ResponseError: a value is of the wrong type; its `path` says where.
        """
        record, problems = self.read(raw)
        if problems:
            raise _response_error(problems[0], path if index is None else f"{path}[{index}]")
        return cast("T", record)

    def record_keeping(self, raw: object, path: str, index: int | None = None) -> T:
        """Return the record for a decoded JSON object, whatever is wrong with its values.

        A field whose value does not fit is None. The value is kept in `extra` of the record that
        the field belongs to, under the field's name in JSON, and `problems` says what is wrong. A
        value that cannot be made immutable (an infinite number, or too many levels) is kept as its
        JSON text.

        Args:
            raw: the object, as `json` or `_msgspec` decodes it.
            path: its path in the body, or that of its array, such as `participants`.
            index: its index, if that is an array.

        Raises:
            ResponseError: it is not an object.
        """
        record, problems = self.read(raw)
        if record is None:
            raise _response_error(problems[0], path if index is None else f"{path}[{index}]")
        return cast("T", with_problems(record, problems))

    def _compiled_test(self) -> Callable[[dict[str, Any]], bool]:
        """Return a function that says whether all values of a complete object fit.

        It is compiled from one expression, as attrs and cattrs compile theirs: a loop with a call
        for each of the fifty values of a participant would take several times as long. All names in
        the expression are from this file and the classes of records, none from the API.
        """
        names = {
            "are_integers": are_integers,
            "are_texts": are_texts,
            "are_times": are_times_in_milliseconds,
        }
        source = f"lambda o: {self._test('o')}"
        compiled = eval(source, names)  # noqa: S307 - no word of it comes from outside
        return cast("Callable[[dict[str, Any]], bool]", compiled)

    def _test(self, holder: str) -> str:
        return " and ".join(field.test(holder) for field in self.fields.values())

    def nested_test(self, holder: str) -> str:
        """Return an expression that says whether the nested object `holder` is as usual, and fits.

        It raises KeyError where the object has as many members as usual, but others.
        """
        omitted = [name for name, field in self.fields.items() if field.omitted]
        present = "".join(f" + ({name!r} in {holder})" for name in sorted(omitted))
        count = f"len({holder}) == {len(self.fields) - len(omitted)}{present}"
        return f"({count} and {self._test(holder)})"

    def read(self, value: object) -> tuple[Any, Problems]:
        """Return the record for an object, and what does not fit; None for another value."""
        try:
            if value.__class__ is dict:
                members = cast("dict[str, Any]", value)
                if len(members) != self._count:
                    members = {**self._nulls, **members}
                if self._fits(members):
                    return self.build(members), ()
            elif value.__class__ in struct_members:
                return self.build(value), ()
        except (KeyError, MismatchError):
            pass
        return self._read_carefully(value)

    def build(self, raw: Any, /) -> Any:
        """Return the record for a dict or a Struct that fits; a record is returned as it is.

        Raises:
            MismatchError: it does not fit all the same: a string is not a time, or an unknown
                member cannot be made immutable.
        """
        if raw.__class__ is dict:
            members = raw
        elif (members_of := struct_members.get(raw.__class__)) is not None:
            members = members_of(raw)
        else:
            return raw
        create = self._create.get(len(members))
        if create is not None:  # an object that fits and has as many members has the usual ones
            record = create(members, self.kind)
            record.__class__ = self.kind
            return record
        members = {**self._nulls, **members}
        record = self._create[self._count](members, self.kind)
        if len(members) > self._count:
            unknown = [name for name in members if name not in self._nulls]
            record.extra = FrozenMapping({name: freeze(members[name]) for name in unknown})
        record.__class__ = self.kind
        return record

    def _read_carefully(self, value: object) -> tuple[Any, Problems]:
        members = _members_of(value)
        if members is None:
            return None, [wrong_type({dict}, value)]
        problems: list[MismatchError] = []
        return self.read_members(members, problems, ""), problems

    def read_members(
        self, members: dict[str, object], problems: list[MismatchError], path: str
    ) -> Any:
        """Return the record for the object at `path`, and add what does not fit to `problems`."""
        fitting, kept = dict[str, object](self._nulls), dict[str, object]()
        unknown = [name for name in members if name not in self.fields]
        for name in (*self.fields, *unknown):
            value, field = members.get(name), self.fields.get(name)
            nested = _members_of(value) if field and field.nested else None
            if field and field.nested and nested is not None:
                fitting[name] = field.nested.read_members(
                    nested, problems, path + member_path(name)
                )
                continue
            problem = field.mismatch(value) if field else failure(freeze, value)
            if field and problem is None:
                fitting[name] = value
                continue
            kept[name], remark = _kept(value)
            if problem is not None:
                place = path + member_path(name) + problem.path
                problems.append(MismatchError(problem.fault, place, remark))
        record = self._create[self._count](fitting, self.kind)
        record.extra = FrozenMapping(kept)
        record.__class__ = self.kind
        return record

    def check(self, value: object, name: str, /) -> object:
        """Return the record that a user gives for the field `name`, perhaps as a mapping."""
        if value is None or isinstance(value, self.kind):
            return value
        try:
            record, problems = self.read(json_given(value))
        except MismatchError as error:
            record, problems = None, [error]
        if problems:
            raise _field_error(name, problems[0])
        return record


class _EventsBuilder:
    """Builds the field `events` of a participant."""

    build = staticmethod(events_of)

    def check(self, value: object, name: str, /) -> object:
        """Return the times that a user gives, perhaps as milliseconds."""
        try:
            return events_of(value)
        except MismatchError as error:
            problem = error
        raise _field_error(name, problem)


def _field_error(name: str, problem: MismatchError) -> InvalidRequestError:
    message = (
        f"A record's {name}{problem.path}: {problem.fault}. "
        "Give what the field holds, or a mapping as the API's JSON has it."
    )
    return InvalidRequestError(message)


def _members_of(value: object) -> dict[str, object] | None:
    """Return the members of an object, which is a dict or a Struct; None for another value."""
    if value.__class__ is dict:
        return cast("dict[str, object]", value)
    members = struct_members.get(value.__class__)
    return None if members is None else members(value)


def _kept(value: object) -> tuple[object, str]:
    """Return a JSON value to keep in `extra`, and a remark if it is kept as text."""
    try:
        return freeze(value), ""
    except MismatchError:
        return JsonText(json_text(value)), "; its JSON text is kept"


def _creating_function(kind: type, fields: Collection[Field]) -> Callable[[Any, type], Any]:
    """Return the function by which cattrs makes a record from the members of an object.

    It makes an object of another class that has the same slots and can change; setting the object's
    `__class__` makes it a record. This is several times as fast as to call the frozen class, whose
    `__init__` takes the fields by keyword and calls `object.__setattr__` for each.
    """
    slots: dict[str, Any] = {each.name: attrs.field(converter=each.converter) for each in fields}
    slots |= {
        each.name: attrs.field(default=each.default)
        for each in attrs.fields(kind)
        if each.name not in slots
    }
    # With the same bases, as Python else refuses to set the class.
    twin = attrs.make_class(
        kind.__name__, slots, bases=kind.__bases__, slots=True, weakref_slot=False, eq=False
    )
    # Any, as pyright would else try an override on each of the function's own options.
    overrides: dict[str, Any] = {each.name: override(rename=each.wire_name) for each in fields}
    # To cattrs each attribute has a converter, as it then passes the value on without a hook.
    attributes = [
        each.evolve(converter=attrs.converters.pipe())
        for each in attrs.fields(twin)
        if each.name in overrides
    ]
    generate = cast("Callable[..., Callable[[Any, type], Any]]", make_dict_structure_fn_from_attrs)
    return generate(
        attributes,
        twin,
        CONVERTER,
        _cattrs_prefer_attrib_converters=True,
        _cattrs_detailed_validation=False,
        **overrides,
    )


# --- The converter ---


CONVERTER: Final = cattrs.Converter()
STRUCTURERS: Final[dict[Any, Structurer[Any]]] = {}
# Nested classes first: the fields of the others look them up.
for _kind in (
    AvgMax,
    MediaMetrics,
    ParticipantMetrics,
    ParticipantProperties,
    Participant,
    Conference,
    PageMeta,
):
    STRUCTURERS[_kind] = builders[_kind] = Structurer(_kind)
builders[FrozenMapping] = _EventsBuilder()

_participants: Final[Structurer[Participant]] = STRUCTURERS[Participant]
_conferences: Final[Structurer[Conference]] = STRUCTURERS[Conference]
_page_metas: Final = STRUCTURERS[PageMeta]

participant: Final = _participants.record
participant_keeping: Final = _participants.record_keeping
conference: Final = _conferences.record
conference_keeping: Final = _conferences.record_keeping
