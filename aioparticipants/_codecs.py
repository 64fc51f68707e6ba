"""How each class of records becomes JSON, and what its JSON consists of: a registry of codecs.

`models` defines records and cannot build or write them; the modules above it can. They register
themselves here, and the methods of a record (`_record_methods`) find them when they are called. So
a record has no reference to its codec, and building it costs no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Codec", "Member", "OnInvalid", "codec_of", "codecs"]

#: What to do with a value of a wrong type: in a list, or in a mapping.
OnInvalid: TypeAlias = Literal["raise", "keep"]


@attrs.frozen(kw_only=True)
class Member:
    """One member of the JSON object that a record becomes."""

    name: str
    """Its name in JSON."""
    annotation: Any
    """The annotation of the field that holds it."""
    text: str
    """What it means."""
    is_always_present: bool = True
    """Whether `to_dict` has it even if it is null."""


class Codec(Protocol):
    """Writes and reads the records of one class."""

    def to_dict(self, record: Any, /) -> dict[str, object]:
        """Return a record as a JSON object of plain dicts, lists, strings and numbers.

        Raises:
            InvalidRequestError: the record was made by hand, with a value that JSON cannot hold.
        """
        ...

    def from_dict(self, given: object, on_invalid: OnInvalid, /) -> Any:
        """Return the record for a mapping.

        Raises:
            InvalidRequestError: a value does not fit; the message has its path.
        """
        ...

    def members(self, arguments: Sequence[type] = (), /) -> Sequence[Member]:
        """Return what the JSON object consists of; for a generic class, with these arguments."""
        ...


#: The codec of each class.
codecs: Final[dict[type, Codec]] = {}


def codec_of(kind: type) -> Codec:
    """Return the codec of a class, or of the class that it is derived from."""
    return next(codecs[each] for each in kind.__mro__ if each in codecs)
