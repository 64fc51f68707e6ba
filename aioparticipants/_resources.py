"""The lists that the API has, each described by one value: where it is, and what its records are.

A further resource is a further value. Nothing else in the package names a path, a member of a page
or a class of records; whoever needs to know one of these is given the resource.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

import attrs

from . import _structuring
from ._msgspec import decode_participants
from .models import Participant

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._decoding import ChunkDecoder

__all__ = ["PARTICIPANTS", "Resource"]

T_co = TypeVar("T_co", covariant=True)


@attrs.frozen(kw_only=True)
class Resource(Generic[T_co]):
    """One list endpoint of the API."""

    path: str
    """The path of the list, as a template: `/v1/Conferences/{conference_sid}/Participants`."""
    key: str
    """The member of a page that holds the records."""
    record_sid: str
    """The member of a record that identifies it."""
    structure: Callable[[object, str, int], T_co]
    """Builds a record from its decoded JSON, the key and its index; raises ResponseError."""
    structure_keeping: Callable[[object, str, int], T_co]
    """Does the same, and keeps what does not fit instead of raising."""
    decode: ChunkDecoder | None
    """Decodes several records at once; None for the standard library."""

    def sid_of(self, record: object) -> str | None:
        """Return the SID of a record, be it structured or only decoded; None where it has none."""
        return _structuring.text_member(record, self.record_sid)


#: https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-participant-summary-resource
PARTICIPANTS: Final = Resource[Participant](
    path="/v1/Conferences/{conference_sid}/Participants",
    key="participants",
    record_sid="participant_sid",
    structure=_structuring.participant,
    structure_keeping=_structuring.participant_keeping,
    decode=decode_participants,
)
