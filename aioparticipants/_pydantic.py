"""What pydantic 2 asks of a class of records: how to validate, serialise and describe it.

1. pydantic is imported by these functions only, and only pydantic calls them.
2. Validation takes a record, or a mapping as `from_dict` does. Serialisation is `to_dict`, so what
   is written is the same everywhere.
3. pydantic describes a schema by what it would validate itself. So the validator wraps a schema of
   the members, which is used for no value.
4. A class is a component of its own, under its name. Its members have the texts of its fields.
5. Enums are open. In the schema such a member is a string, with the known words as its examples:
   all tools that generate code take that, and only some take `anyOf` of an enum and a string.
6. Every nullable member may be absent in what is read. In what is written, it is null instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from enum import StrEnum
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Final, Optional, Union, cast, get_args, get_origin

from ._codecs import codec_of

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

    from ._codecs import Member

__all__ = ["core_schema_of", "json_schema_of"]

_NONE: Final = type(None)
#: In the metadata of a schema: the name and the members of its class.
_ABOUT: Final = "aioparticipants"


def core_schema_of(kind: Any, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
    """Return how to validate and serialise a class; `source` is the annotation, or `Page[…]`."""
    from pydantic_core import core_schema as schemas  # noqa: PLC0415 - no dependency

    # Only a page has an argument: the class of its records.
    arguments = tuple(each for each in get_args(source) if isinstance(each, type))

    def validated(value: object, _inner: object) -> object:
        record: Any = value if isinstance(value, kind) else kind.from_dict(value)
        if arguments and not all(isinstance(each, arguments) for each in record.records):
            message = f"expected a {_name(kind, *arguments)}"
            raise ValueError(message)
        return record

    validated.__name__ = kind.__name__  # pydantic's errors show it
    members = codec_of(kind).members(arguments)
    fields = {
        each.name: schemas.typed_dict_field(
            handler.generate_schema(_json_annotation(each.annotation))
        )
        for each in members
    }
    return schemas.no_info_wrap_validator_function(
        validated,
        schemas.typed_dict_schema(fields, extra_behavior="allow"),
        ref=_reference(kind, *arguments),
        metadata={_ABOUT: (_name(kind, *arguments), members)},
        serialization=schemas.plain_serializer_function_ser_schema(kind.to_dict),
    )


def json_schema_of(
    kind: type, core_schema: CoreSchema, handler: GetJsonSchemaHandler
) -> JsonSchemaValue:
    """Return the description of a class for JSON Schema and OpenAPI."""
    members: list[Member]
    name, members = cast("Any", core_schema)["metadata"][_ABOUT]
    schema = handler.resolve_ref_schema(handler(core_schema))
    properties = schema["properties"]
    for each in members:
        properties[each.name].pop("title", None)
        properties[each.name]["description"] = each.text
    is_written = handler.mode == "serialization"
    required = [
        each.name
        for each in members
        if each.is_always_present and (is_written or not _is_nullable(each.annotation))
    ]
    text = inspect.getdoc(kind) or ""
    return schema | {"title": name, "description": text, "required": required}


def _name(kind: type, *arguments: type) -> str:
    inner = ", ".join(each.__name__ for each in arguments)
    return f"{kind.__name__}[{inner}]" if inner else kind.__name__


def _is_nullable(annotation: Any) -> bool:
    return _NONE in get_args(annotation)


def _reference(kind: type, *arguments: type) -> str:
    """Return the name by which pydantic knows a schema; it makes the component's name of it."""
    inner = ",".join(map(_reference, arguments))
    return f"{kind.__module__}.{kind.__qualname__}:{id(kind)}" + (f"[{inner}]" if inner else "")


def _json_annotation(annotation: Any) -> Any:
    """Return the annotation in JSON of a member, for that of its field."""
    types = get_args(annotation)
    if _NONE in types:
        others = tuple(each for each in types if each is not _NONE)
        return Optional[_json_annotation(Union[others])]  # noqa: UP007, UP045 - `|` takes no tuple of types
    origin: Any = get_origin(annotation)
    if origin is tuple:
        return GenericAlias(list, (_json_annotation(types[0]),))
    if origin is Mapping:
        # Lists of times by name are the events, in milliseconds since 1970.
        inner = list[int] if get_origin(types[1]) is tuple else types[1]
        return GenericAlias(dict, (str, inner))
    enums = [each for each in types if isinstance(each, type) and issubclass(each, StrEnum)]
    return _open_string(enums[0]) if enums else annotation


def _open_string(enum: type[StrEnum]) -> Any:
    from pydantic import Field  # noqa: PLC0415 - no dependency

    return Annotated[str, Field(examples=[each.value for each in enum])]
