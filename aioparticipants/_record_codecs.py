"""Records and pages as JSON objects, and back: the codecs of their classes.

1. `to_dict` gives what the API sent, member for member; cattrs' functions and the rules for each
   type are those of `_structuring`.
2. `from_dict` reads a mapping that somebody else made, by the same rules as a reply. What is wrong
   with it is the caller's mistake: an `InvalidRequestError` with the path, and never the value.
3. The mapping is copied first, so that a record does not change with it.
"""

from __future__ import annotations

from functools import cache
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, get_args

import attrs
from cattrs.gen import make_dict_unstructure_fn, override

from ._arguments import checked_choice
from ._codecs import Member, codecs
from ._field_docs import field_docs
from ._json_values import MismatchError, json_given, member_path, to_plain, wrong_type
from ._record_methods import RecordMethods
from ._structuring import (
    CONVERTER,
    STRUCTURERS,
    failure,
    read_page_meta,
    with_problems,
)
from .errors import InvalidRequestError
from .models import Conference, Page, PageMeta, Participant, RecordProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ._codecs import OnInvalid
    from ._structuring import Field, Structurer

__all__ = ["FlatCodec", "GivenMembers", "decoded", "from_dict_error", "read_record", "read_records"]

T = TypeVar("T")

#: The member of a page that has the records, and their class.
_RECORDS_BY_KEY: Final[Mapping[str, type]] = {
    "participants": Participant,
    "conferences": Conference,
}


# --- What a caller gives ---


class GivenMembers:
    """The members of an object that a caller gives, each of them checked as it is taken."""

    def __init__(self, value: object, path: str = "") -> None:
        """Take decoded JSON; raise MismatchError if it is not an object."""
        if not isinstance(value, dict):
            raise wrong_type({dict}, value, path)
        self._members = cast("dict[str, object]", value)
        self._path = path

    def __contains__(self, name: str) -> bool:
        """Return whether there is a member of this name."""
        return name in self._members

    def get(self, name: str) -> object:
        """Return a member; None if it is missing."""
        return self._members.get(name)

    def take(self, name: str, *kinds: type[T]) -> T:
        """Return a member of one of these types; raise MismatchError if it is of another.

        A missing member is null.
        """
        value = self._members.get(name)
        if type(value) in kinds:
            return cast("T", value)
        raise wrong_type(kinds, value, self._path + member_path(name))

    def take_object(self, name: str) -> dict[str, object]:
        """Return a member that is an object."""
        return cast("dict[str, object]", self.take(name, dict))

    def take_list(self, name: str) -> list[object]:
        """Return a member that is an array."""
        return cast("list[object]", self.take(name, list))


def decoded(kind: type, given: object) -> object:
    """Return a copy of what a caller gives for a `kind`, as decoded JSON.

    Raises:
        InvalidRequestError: it has a value that JSON cannot hold.
    """
    try:
        return json_given(given, keep_deep=True)
    except MismatchError as error:
        problem = MismatchError(error.fault, error.path)
    raise from_dict_error(kind, problem)


def from_dict_error(kind: type, problem: MismatchError) -> InvalidRequestError:
    """Return the error to raise; outside of `except`, as a chained error could show the value."""
    place = f"{problem.path.removeprefix('.')}: " if problem.path else ""
    message = (
        f"{kind.__name__}.from_dict: {place}{problem.fault}. "
        "Give decoded JSON, as the API sends it or to_dict() returns it."
    )
    return InvalidRequestError(message)


def read_records(
    kind: type, items: Sequence[object], path: str, on_invalid: OnInvalid
) -> tuple[Any, ...]:
    """Return the records of an array.

    Raises:
        MismatchError: a record does not fit, or with `"keep"` is not an object.
    """
    return tuple(
        read_record(kind, item, f"{path}[{index}]", on_invalid) for index, item in enumerate(items)
    )


def read_record(kind: type, item: object, path: str, on_invalid: OnInvalid) -> Any:
    """Return a record; raise MismatchError as above."""
    record, problems = STRUCTURERS[kind].read(item)
    if problems and (record is None or on_invalid == "raise"):
        raise MismatchError(problems[0].fault, f"{path}{problems[0].path}")
    return with_problems(record, problems)


# --- Codecs ---


class _RecordCodec:
    """Writes and reads the records of one class of the API's."""

    def __init__(self, structurer: Structurer[Any]) -> None:
        self._structurer = structurer
        self._kind: type = structurer.kind

    def to_dict(self, record: object, /) -> dict[str, object]:
        """Return a record as a JSON object."""
        try:
            return _unstructuring_function(self._structurer)(record)
        except MismatchError:
            problem = next(_unwritable(self._structurer, record))
        message = f"{self._kind.__name__}{problem.path}: {problem.fault}."
        raise InvalidRequestError(message)

    def from_dict(self, given: object, on_invalid: OnInvalid, /) -> object:
        """Return the record for a mapping."""
        checked_choice(on_invalid, "on_invalid", ("raise", "keep"))
        record, problems = self._structurer.read(decoded(self._kind, given))
        if problems and (record is None or on_invalid == "raise"):
            raise from_dict_error(self._kind, problems[0])
        return with_problems(record, problems)

    def members(self, _arguments: Sequence[type] = (), /) -> list[Member]:
        """Return what the JSON object consists of."""
        texts = field_docs(self._kind)
        return [
            Member(
                name=each.wire_name,
                annotation=each.annotation,
                text=texts.get(each.name, ""),
                is_always_present=not each.omitted,
            )
            for each in self._structurer.fields.values()
        ]


@cache  # generated when it is first used, so that importing the package costs less
def _unstructuring_function(structurer: Structurer[Any]) -> Callable[[Any], dict[str, object]]:
    overrides: dict[str, Any] = {
        each.name: override(
            rename=each.wire_name, omit_if_default=each.omitted, unstruct_hook=_to_json(each)
        )
        for each in structurer.fields.values()
    }
    ours = {each.name for each in attrs.fields(structurer.kind)} - overrides.keys()
    overrides |= dict.fromkeys(ours, override(omit=True))
    own: Callable[[Any], dict[str, object]] = make_dict_unstructure_fn(
        structurer.kind, CONVERTER, **overrides
    )

    def unstructure(record: Any) -> dict[str, object]:
        members = own(record)
        if record.extra:
            members |= cast("dict[str, object]", to_plain(record.extra))
        return members

    return unstructure


def _to_json(field: Field) -> Callable[[Any], object] | None:
    """Return what makes JSON of the value of a field; None if it is JSON."""
    if field.nested is None:
        return field.kind.to_json
    unstructure = _unstructuring_function(field.nested)
    return lambda record: None if record is None else unstructure(record)


def _unwritable(structurer: Structurer[Any], record: object) -> Iterator[MismatchError]:
    """Yield what is wrong with a record, made by hand, that could not be written."""
    for field in structurer.fields.values():
        value = getattr(record, field.name)
        problems: Iterable[MismatchError] = ()
        if field.nested and value is not None:
            problems = _unwritable(field.nested, value)
        elif field.kind.to_json and (problem := failure(field.kind.to_json, value)):
            problems = [problem]
        for each in problems:
            yield MismatchError(each.fault, member_path(field.name) + each.path)


class _PageCodec:
    """Writes and reads pages."""

    def to_dict(self, page: Page[object], /) -> dict[str, object]:
        """Return a page as a JSON object."""
        records = [*map(self._record_to_dict, page.records)]
        return {"meta": page.meta.to_dict(), _key_of(page): records}

    @staticmethod
    def _record_to_dict(record: object) -> dict[str, object]:
        if isinstance(record, RecordMethods):
            return record.to_dict()
        message = f"Page.records: expected records of this package, found {type(record).__name__}."
        raise InvalidRequestError(message)

    def from_dict(self, given: object, on_invalid: OnInvalid, /) -> Page[object]:
        """Return the page for a mapping."""
        checked_choice(on_invalid, "on_invalid", ("raise", "keep"))
        raw = decoded(Page, given)
        try:
            return self._read(raw, on_invalid)
        except MismatchError as error:
            problem = MismatchError(error.fault, error.path)
        raise from_dict_error(Page, problem)

    @staticmethod
    def _read(raw: object, on_invalid: OnInvalid) -> Page[object]:
        page = GivenMembers(raw)
        meta, problem = read_page_meta(page.take_object("meta"))
        if problem is not None:
            raise MismatchError(problem.fault, f".meta{problem.path}")
        keys = [key for key in _RECORDS_BY_KEY if key in page]
        if len(keys) != 1:
            message = f"expected one of the members {' and '.join(_RECORDS_BY_KEY)}"
            raise MismatchError(message)
        key = keys[0]
        records = read_records(_RECORDS_BY_KEY[key], page.take_list(key), f".{key}", on_invalid)
        return Page(records=records, meta=cast("PageMeta", meta), request_id=None)

    def members(self, arguments: Sequence[type] = (), /) -> list[Member]:
        """Return what the JSON object consists of: with records of one class, or of any."""
        texts = field_docs(Page)
        kinds = {key: kind for key, kind in _RECORDS_BY_KEY.items() if kind in arguments}
        return [
            Member(name="meta", annotation=PageMeta, text=texts.get("meta", "")),
            *(
                Member(
                    name=key,
                    annotation=GenericAlias(list, (kind,)),
                    text=texts.get("records", ""),
                    is_always_present=bool(kinds),
                )
                for key, kind in (kinds or _RECORDS_BY_KEY).items()
            ),
        ]


def _key_of(page: Page[object]) -> str:
    """Return the member that has the records of a page: by their class, else by its `meta`."""
    for key, kind in _RECORDS_BY_KEY.items():
        if isinstance(page.records[0], kind) if page.records else page.meta.key == key:
            return key
    return "participants"


class FlatCodec:
    """Writes and reads objects of an attrs class whose fields are strings, numbers and booleans.

    Members that the class has no field for are ignored.
    """

    def __init__(self, kind: type) -> None:
        """Take the class; each of its fields is annotated `X` or `X | None`."""
        self._kind = kind
        self._types: Mapping[str, tuple[type, ...]] = {
            each.name: _json_types(each.type) for each in attrs.fields(attrs.resolve_types(kind))
        }

    def to_dict(self, item: Any, /) -> dict[str, object]:
        """Return an object as a JSON object."""
        return attrs.asdict(item)

    def from_dict(self, given: object, _on_invalid: OnInvalid, /) -> Any:
        """Return the object for a mapping."""
        raw = decoded(self._kind, given)
        try:
            return self.read(raw, "")
        except MismatchError as error:
            problem = MismatchError(error.fault, error.path)
        raise from_dict_error(self._kind, problem)

    def read(self, raw: object, path: str) -> Any:
        """Return the object for decoded JSON; raise MismatchError if it does not fit."""
        members = GivenMembers(raw, path)
        return self._kind(
            **{name: members.take(name, *types) for name, types in self._types.items()}
        )

    def members(self, _arguments: Sequence[type] = (), /) -> list[Member]:
        """Return what the JSON object consists of."""
        texts = field_docs(self._kind)
        return [
            Member(name=each.name, annotation=each.type, text=texts.get(each.name, ""))
            for each in attrs.fields(self._kind)
        ]


def _json_types(annotation: Any) -> tuple[type, ...]:
    types: tuple[type, ...] = get_args(annotation) or (annotation,)
    return (*types, int) if float in types else types


for _kind, _structurer in STRUCTURERS.items():
    codecs[_kind] = _RecordCodec(_structurer)
codecs[Page] = _PageCodec()
codecs[RecordProblem] = FlatCodec(RecordProblem)
