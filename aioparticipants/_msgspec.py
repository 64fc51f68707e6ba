"""Records decoded by msgspec, with the extra `speed`: several at once, their types checked.

1. msgspec decodes an object to a Struct: a class with the fields of the record, and for each the
   JSON types that `_structuring` accepts. It is as strict: `1.0` is no int, 0 no bool.
2. Where one object of a chunk does not fit its Struct (a wrong type, an unknown field), msgspec
   decodes the whole chunk to dicts and lists, and `_structuring` finds out what is wrong.
3. msgspec refuses some JSON that `json` accepts: lone surrogates, numbers out of range. Then `json`
   decides. Whatever msgspec accepts, it decodes to the same values as `json`.
4. Users never see a Struct: cattrs builds the record from its members, as from those of a dict.
5. Without msgspec, `decode_participants` and `decode_conferences` are None.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_origin

import attrs

from . import _structuring
from ._json_values import EARLIEST, LATEST
from .models import Conference, Participant

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

    from ._decoding import ChunkDecoder
else:
    msgspec = None
    with suppress(ImportError):
        import msgspec

__all__ = ["chunk_decoder", "decode_conferences", "decode_participants"]

_NONE: Final = type(None)


def _struct(kind: type) -> type:
    """Return the Struct for a class of records, known to `_structuring`."""
    fields = [
        (_structuring.wire_name(each), _json_type(each.type) | None, None)
        for each in _structuring.wire_fields(kind)
    ]
    struct = msgspec.defstruct(kind.__name__, fields, forbid_unknown_fields=True, gc=False)
    _structuring.struct_members[struct] = msgspec.structs.asdict
    return struct


def _json_type(annotation: Any) -> Any:
    """Return the type in JSON of a field that is annotated `X | None`, without null."""
    kind = next(each for each in get_args(annotation) if each is not _NONE)
    origin: Any = get_origin(kind) or kind
    if attrs.has(origin):
        return _struct(origin)
    if origin is Mapping:
        return GenericAlias(dict, (str, _json_type_of_members(get_args(kind)[1])))
    if origin is tuple:
        return list[str]
    if origin is float:
        return int | float
    return str if issubclass(origin, (StrEnum, datetime)) else origin


def _json_type_of_members(kind: Any) -> Any:
    """Return the type in JSON of the members of a field that is a mapping."""
    if get_origin(kind) is tuple:  # the times of events
        return list[Annotated[int, msgspec.Meta(ge=EARLIEST, le=LATEST)]]
    return Any if kind is object else kind


def chunk_decoder(*kinds: Any) -> ChunkDecoder:
    """Return a function that decodes records to the first of `kinds` that all of a chunk fit."""
    arrays: list[Any] = [GenericAlias(list, kind) for kind in kinds]
    decoders: list[Callable[[bytes], list[object]]] = [
        msgspec.json.Decoder(array).decode for array in arrays
    ]

    def decode_chunk(array: bytes, /) -> list[object] | None:
        for decode in decoders:
            try:
                return decode(array)
            # msgspec raises its own errors, and UnicodeDecodeError.
            except (msgspec.MsgspecError, ValueError, RecursionError):
                pass
        return None

    return decode_chunk


def _decoder_of(kind: type) -> ChunkDecoder | None:
    return chunk_decoder(_struct(kind), Any) if sys.modules.get("msgspec") else None


decode_participants: ChunkDecoder | None = _decoder_of(Participant)
decode_conferences: ChunkDecoder | None = _decoder_of(Conference)
