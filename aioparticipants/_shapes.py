"""The types of a participant, for msgspec to check as it decodes: the extra `speed`.

1. msgspec decodes an object to a shape of the record's class: the same fields, and the JSON types
   that `_structuring` accepts for them. It is as strict: `1.0` is no int, 0 no bool.
2. What is no shape (a wrong type, a field that is not known) is decoded as ever, and `_structuring`
   tells what is wrong with it, or keeps it.
3. A shape is not handed out. cattrs builds the record from its members, as it does from a dict's.

(Measured, microseconds a record: 4.6 to decode it, check it and build it, 8.7 by way of a dict.)
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

import attrs
from msgspec import defstruct
from msgspec.structs import asdict

from . import _structuring
from ._finding import finder
from .models import Participant

if TYPE_CHECKING:
    from ._decoding import Finder

__all__ = ["find_participants"]

_NONE: Final = type(None)


def _shape(kind: type) -> type:
    """Return the shape of a class of records, and let `_structuring` know of it."""
    fields = [
        (_structuring.wire_name(each), _json_type(each.type) | None, None)
        for each in attrs.fields(kind)
        if each.name != "extra"
    ]
    shape = defstruct(kind.__name__, fields, forbid_unknown_fields=True, gc=False)
    _structuring.members_of[shape] = asdict
    return shape


def _json_type(annotation: Any) -> Any:
    """Return what `X | None` is in JSON, null apart."""
    kind = next(each for each in get_args(annotation) if each is not _NONE)
    origin: Any = get_origin(kind) or kind
    if attrs.has(origin):
        return _shape(origin)
    if origin is Mapping:
        return dict[str, list[int]]
    if origin is tuple:
        return list[str]
    if origin is float:
        return int | float
    return str if issubclass(origin, (StrEnum, datetime)) else origin


find_participants: Finder = finder(_shape(Participant), Any)
