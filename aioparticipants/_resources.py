"""The resources of the API, each described by one value: its path, parameters, and records.

Another resource is another value. Code that needs the path, the filters, the key of the records or
how a record is built is given the resource. How to add one is told in `.github/ARCHITECTURE.md`.

1. Values are percent-encoded here, once; the transport sends the query byte for byte.
2. A page holds 1 to 1000 records. The default is 1000, or `limit` if that is smaller: so a
   conference of 250 is one request, not five.
3. A single record is read as a list of one record, whose only page is the record itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

import attrs

from . import _structuring
from ._arguments import checked_sid, checked_text, checked_whole_number, time_after, time_before
from ._cursors import CursorScope
from ._messages import Request
from ._msgspec import decode_conferences, decode_participants
from .models import Conference, Participant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._decoding import ChunkDecoder

__all__ = [
    "CONFERENCE",
    "CONFERENCES",
    "CREATION",
    "LARGEST_PAGE",
    "PARTICIPANT",
    "PARTICIPANTS",
    "Filter",
    "Resource",
    "Window",
]

T_co = TypeVar("T_co", covariant=True)

#: https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-participant-summary-resource
LARGEST_PAGE: Final = 1000


@attrs.frozen(kw_only=True)
class Filter:
    """A parameter of a request: an argument of the caller's, and what it becomes.

    It is a query parameter, such as a filter of a list, or a part of the path.
    """

    argument: str
    """The name of the argument: `participant_sid`."""
    parameter: str
    """The name of the parameter: `ParticipantSid`."""
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


@attrs.frozen(kw_only=True)
class Window:
    """The two filters that are a window of time: what a list can be cut into slices by."""

    after: str
    """The parameter with the start of the window: `CreatedAfter`."""
    before: str
    """The parameter with its end."""
    member: str
    """The member of a record that is compared with them: `create_time`."""


def _cursor_scope(resource: Resource[object]) -> CursorScope:
    return CursorScope(
        sids=frozenset(each.parameter for each in resource.filters if each.sid_prefix is not None),
        personal=next((each.parameter for each in resource.filters if each.personal), None),
    )


@attrs.frozen(kw_only=True)
class Resource(Generic[T_co]):
    """One endpoint of the API: a list of records, or a single one."""

    action: str
    """What a request does, as the name of a span: `list conference participants`."""
    path: str
    """The path as a template, as Twilio writes it: `/v1/Conferences/{ConferenceSid}`."""
    path_parameters: tuple[Filter, ...] = ()
    """The parameters in the path; their values are SIDs."""
    filters: tuple[Filter, ...] = ()
    """The parameters of the query, in their order."""
    key: str
    """The member of a page that holds the records; for a single record, its name in errors."""
    is_single: bool = False
    """Whether the reply is a single record instead of a page."""
    record_class: type[T_co]
    """The class of its records."""
    record_sid: str
    """The member of a record that identifies it."""
    structure: Callable[[object, str, int | None], T_co]
    """Builds a record from its decoded JSON, the key and its index; raises ResponseError."""
    structure_keeping: Callable[[object, str, int | None], T_co]
    """Does the same, and keeps what does not fit instead of raising."""
    decode: ChunkDecoder | None = None
    """Decodes several records at once; None for the standard library."""
    cursor_scope: CursorScope = attrs.field(
        init=False, default=attrs.Factory(_cursor_scope, takes_self=True)
    )
    """How cursors treat the filters."""

    def first_request(
        self,
        sids: Mapping[str, object],
        filters: Mapping[str, object],
        *,
        page_size: int | None = None,
        limit: int | None = None,
    ) -> Request:
        """Return the request for the first page of a list, or for a single record.

        Args:
            sids: the value of each parameter in the path, by the name of its argument.
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
        if not self.is_single:
            checked_whole_number(page_size, "page_size", least=1, most=LARGEST_PAGE)
            query["PageSize"] = page_size
        names = {each.parameter: each.checked(sids[each.argument]) for each in self.path_parameters}
        return Request(
            path=self.path.format_map(names),
            query=urlencode(query, quote_via=quote, safe=""),
            conference_sid=names.get("ConferenceSid"),
        )

    def sid_of(self, record: object) -> str | None:
        """Return the SID of a record, structured or only decoded; None if it has none."""
        return _structuring.text_member(record, self.record_sid)


_CONFERENCE_SID: Final = Filter(
    argument="conference_sid", parameter="ConferenceSid", sid_prefix="CF"
)
_PARTICIPANT_SID: Final = Filter(
    argument="participant_sid", parameter="ParticipantSid", sid_prefix="CP"
)

#: https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-participant-summary-resource
PARTICIPANTS: Final = Resource[Participant](
    action="list conference participants",
    path="/v1/Conferences/{ConferenceSid}/Participants",
    path_parameters=(_CONFERENCE_SID,),
    filters=(
        _PARTICIPANT_SID,
        Filter(argument="label", parameter="Label", personal=True),
        Filter(argument="events", parameter="Events"),
    ),
    key="participants",
    record_class=Participant,
    record_sid="participant_sid",
    structure=_structuring.participant,
    structure_keeping=_structuring.participant_keeping,
    decode=decode_participants,
)

PARTICIPANT: Final = Resource[Participant](
    action="get conference participant",
    path="/v1/Conferences/{ConferenceSid}/Participants/{ParticipantSid}",
    path_parameters=(_CONFERENCE_SID, _PARTICIPANT_SID),
    filters=(
        Filter(argument="events", parameter="Events"),
        Filter(argument="metrics", parameter="Metrics"),
    ),
    key="participant",
    is_single=True,
    record_class=Participant,
    record_sid="participant_sid",
    structure=_structuring.participant,
    structure_keeping=_structuring.participant_keeping,
)

#: The window of a list of conferences.
CREATION: Final = Window(after="CreatedAfter", before="CreatedBefore", member="create_time")

#: https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-summary-resource
CONFERENCES: Final = Resource[Conference](
    action="list conferences",
    path="/v1/Conferences",
    filters=(
        _CONFERENCE_SID,
        Filter(argument="friendly_name", parameter="FriendlyName", personal=True),
        Filter(argument="status", parameter="Status"),
        Filter(argument="created_after", parameter="CreatedAfter", check=time_after),
        Filter(argument="created_before", parameter="CreatedBefore", check=time_before),
        Filter(argument="mixer_region", parameter="MixerRegion"),
        Filter(argument="tags", parameter="Tags"),
        Filter(argument="subaccount", parameter="Subaccount", sid_prefix="AC"),
        Filter(argument="detected_issues", parameter="DetectedIssues"),
        Filter(argument="end_reason", parameter="EndReason"),
    ),
    key="conferences",
    record_class=Conference,
    record_sid="conference_sid",
    structure=_structuring.conference,
    structure_keeping=_structuring.conference_keeping,
    decode=decode_conferences,
)

CONFERENCE: Final = Resource[Conference](
    action="get conference",
    path="/v1/Conferences/{ConferenceSid}",
    path_parameters=(_CONFERENCE_SID,),
    key="conference",
    is_single=True,
    record_class=Conference,
    record_sid="conference_sid",
    structure=_structuring.conference,
    structure_keeping=_structuring.conference_keeping,
)
