"""The methods that all records have: to plain dicts and JSON, and back.

1. `_codecs` does the work, and is asked when a method is called.
2. `__slots__` is empty, so that records have no slot and no `__dict__` more than their fields.
3. `_pydantic` imports pydantic, so it is called only by the methods that pydantic calls.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, Self, cast

import attrs

from . import _pydantic
from ._codecs import codec_of
from .errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

    from ._codecs import OnInvalid

__all__ = ["RecordMethods"]

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _escaped(surrogate: re.Match[str]) -> str:
    return f"\\u{ord(surrogate[0]):04x}"


class RecordMethods:
    """What a record can do besides holding its fields."""

    __slots__ = ()

    def to_dict(self) -> dict[str, object]:
        """Return the record as the JSON object that the API sends, made of plain dicts and lists.

        Names and forms are the API's: `from`, not `from_`; times in UTC such as
        `2021-10-08T02:58:51.25Z`, with the fewest digits that are exact; events in milliseconds
        since 1970; numbers as they came. Members that this package does not know, and the values
        that `on_invalid="keep"` kept, are in their places. A member that was absent is null; those
        that the API sends only now and then (`tags`, `early_media`, `play_early_media`) are left
        out instead. `problems` is not a member.

            json.dumps(participant.to_dict(), allow_nan=False)

        A value that was kept as its JSON text becomes that value again, unless Python cannot write
        it as JSON: an infinite number (`1e999`), or more than 256 levels.

        Nothing is masked: the result contains personal data.

        Raises:
            InvalidRequestError: the record was made by hand, with a time that has no offset or with
                a number that is not finite.
        """
        return codec_of(type(self)).to_dict(self)

    def to_json(self) -> str:
        """Return `to_dict()` as JSON text: compact, on one line, not escaped to ASCII.

            print(participant.to_json(), file=ndjson)  # a file that was opened with utf-8

        UTF-8 can always encode it. Of all characters only a lone surrogate is escaped.

        Raises:
            InvalidRequestError: the record was made by hand, with a value that JSON cannot hold.
        """
        record = self.to_dict()
        try:
            text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError):
            message = f"The {type(self).__name__} has a value that JSON cannot hold."
            raise InvalidRequestError(message) from None
        return _SURROGATE.sub(_escaped, text)

    @classmethod
    def from_dict(cls, mapping: Mapping[str, object], *, on_invalid: OnInvalid = "raise") -> Self:
        """Return the record for a mapping as the API or `to_dict()` gives it.

            Participant.from_dict(json.loads(line))

        `Participant.from_dict(participant.to_dict()) == participant` for every record that fits.
        For one with `problems` it is so with `on_invalid="keep"`. (The exception is a value that
        `to_dict()` could only give as text.)

        Args:
            mapping: the JSON object. An absent member is None, an unknown one is kept in `extra`.
            on_invalid: `"raise"`: a value of the wrong type is an error. `"keep"`: its field is
                None, the value is in `extra`, and `problems` says what is wrong.

        Raises:
            InvalidRequestError: a value is of the wrong type, or nothing that JSON can hold. The
                message has its path, such as `metrics.inbound.mos`, and never the value.
        """
        record = codec_of(cls).from_dict(mapping, on_invalid)
        if type(record) is cls:
            return record
        # A class that the user derived from ours.
        kind = cast("type[attrs.AttrsInstance]", type(record))
        return cls(**{each.alias: getattr(record, each.name) for each in attrs.fields(kind)})

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler, /
    ) -> CoreSchema:
        """Return how pydantic validates and serialises it: as `from_dict` and `to_dict` do."""
        return _pydantic.core_schema_of(cls, source, handler)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        """Return how pydantic describes it in JSON Schema and OpenAPI."""
        return _pydantic.json_schema_of(cls, core_schema, handler)
