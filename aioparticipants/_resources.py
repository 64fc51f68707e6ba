"""The lists of the API, each described by one value: its path, filters, and records.

Another resource is another value. Code that needs the path, the filters, the key of the records or
how a record is built is given the resource.

1. Values are percent-encoded here, once; the transport sends the query byte for byte.
2. A page holds 1 to 1000 records. The default is 1000, or `limit` if that is smaller: so a
   conference of 250 is one request, not five.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

import attrs

from . import _structuring
from ._arguments import checked_sid, checked_text, checked_whole_number
from ._cursors import CursorScope
from ._messages import Request
from ._msgspec import decode_participants
from .models import Participant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._decoding import ChunkDecoder

__all__ = ["LARGEST_PAGE", "PARTICIPANTS", "Filter", "Resource"]

T_co = TypeVar("T_co", covariant=True)

#: https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-participant-summary-resource
LARGEST_PAGE: Final = 1000


@attrs.frozen(kw_only=True)
class Filter:
    """A filter of a list: an argument of the caller's, and the query parameter it becomes."""

    argument: str
    """The name of the argument: `participant_sid`."""
    parameter: str
    """The name of the query parameter: `ParticipantSid`."""
    sid_prefix: str | None = None
    """The prefix of the SIDs that are its values; None if they are not SIDs."""
    check: Callable[[object, str], str] = checked_text
    """Returns the value to send, from the argument and its name; not used for a SID."""
    personal: bool = False
    """Whether its value is personal data, and kept out of cursors. One filter at most is."""

    def checked(self, value: object) -> str:
        """Return the value to send.

        Raises:
            InvalidRequestError: the API cannot accept it.
        """
        if self.sid_prefix is not None:
            return checked_sid(value, self.argument, self.sid_prefix)
        return self.check(value, self.argument)


def _cursor_scope(resource: Resource[object]) -> CursorScope:
    return CursorScope(
        sids=frozenset(each.parameter for each in resource.filters if each.sid_prefix is not None),
        personal=next((each.parameter for each in resource.filters if each.personal), None),
    )


@attrs.frozen(kw_only=True)
class Resource(Generic[T_co]):
    """One list endpoint of the API."""

    path: str
    """The path of the list, as a template: `/v1/Conferences/{conference_sid}/Participants`."""
    filters: tuple[Filter, ...]
    """The filters, in the order of the query."""
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
    cursor_scope: CursorScope = attrs.field(
        init=False, default=attrs.Factory(_cursor_scope, takes_self=True)
    )
    """How cursors treat the filters."""

    def first_request(
        self,
        conference_sid: str,
        filters: Mapping[str, object],
        *,
        page_size: int | None = None,
        limit: int | None = None,
    ) -> Request:
        """Return the request for the first page of a list.

        Args:
            conference_sid: the conference whose list it is.
            filters: the value of each filter, by the name of its argument; None for no filter.
            page_size: records a page; None for the largest page that is of use.
            limit: records in all, already checked.

        Raises:
            InvalidRequestError: the API cannot accept an argument.
        """
        if page_size is None:
            page_size = min(LARGEST_PAGE, limit or LARGEST_PAGE)
        query: dict[str, object] = {
            each.parameter: each.checked(filters[each.argument])
            for each in self.filters
            if filters.get(each.argument) is not None
        }
        query["PageSize"] = checked_whole_number(page_size, "page_size", least=1, most=LARGEST_PAGE)
        sid = checked_sid(conference_sid, "conference_sid", "CF")
        return Request(
            path=self.path.format(conference_sid=sid),
            query=urlencode(query, quote_via=quote, safe=""),
            conference_sid=sid,
        )

    def sid_of(self, record: object) -> str | None:
        """Return the SID of a record, structured or only decoded; None if it has none."""
        return _structuring.text_member(record, self.record_sid)


#: https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-participant-summary-resource
PARTICIPANTS: Final = Resource[Participant](
    path="/v1/Conferences/{conference_sid}/Participants",
    filters=(
        Filter(argument="participant_sid", parameter="ParticipantSid", sid_prefix="CP"),
        Filter(argument="label", parameter="Label", personal=True),
        Filter(argument="events", parameter="Events"),
    ),
    key="participants",
    record_sid="participant_sid",
    structure=_structuring.participant,
    structure_keeping=_structuring.participant_keeping,
    decode=decode_participants,
)
