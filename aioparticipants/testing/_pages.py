"""Pagination: the query of a page request, and the page that answers it.

https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-participant-summary-resource
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

import attrs

from ._bodies import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["PageQuery"]

_DEFAULT_SIZE: Final = 50
_MAX_SIZE: Final = 1000
#: The filters, and the member of a record that each one compares with.
_FILTERS: Final = {"ParticipantSid": "participant_sid", "Label": "label", "Events": "events"}


@attrs.frozen(kw_only=True)
class PageQuery:
    """The validated query of a page request."""

    size: int
    start: int
    """The index of the page's first record, among those that pass the filters."""
    filters: Mapping[str, str]

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> PageQuery:
        """Validate a query; raise RequestRefused where the API would answer with an error."""
        size = query.get("PageSize", str(_DEFAULT_SIZE))
        if not (size.isdecimal() and 1 <= int(size) <= _MAX_SIZE):
            raise RequestRefused(400, f"PageSize must be from 1 to {_MAX_SIZE}")
        token = query.get("PageToken")
        return cls(
            size=int(size),
            start=0 if token is None else _start_of(token),
            filters={name: query[name] for name in _FILTERS if name in query},
        )

    def page(self, records: Sequence[Mapping[str, object]], url: str) -> bytes:
        """Return the body of the page, of the records of a conference whose list is at `url`."""
        matching = [record for record in records if self._matches(record)]
        if self.start > len(matching):
            raise _invalid_token()
        end = self.start + self.size
        previous = max(0, self.start - self.size)
        meta = {
            "page": self.start // self.size,
            "page_size": self.size,
            "first_page_url": self._link(url, 0),
            "previous_page_url": self._link(url, previous) if self.start else None,
            "url": self._link(url, self.start),
            "next_page_url": self._link(url, end) if end < len(matching) else None,
            "key": "participants",
        }
        return json.dumps({"meta": meta, "participants": matching[self.start : end]}).encode()

    def _matches(self, record: Mapping[str, object]) -> bool:
        for name, wanted in self.filters.items():
            value = record.get(_FILTERS[name])
            # A record passes a filter for an event if it has any of that name.
            if not (wanted in value if isinstance(value, dict) else value == wanted):
                return False
        return True

    def _link(self, url: str, start: int) -> str:
        """Return the URL of the page that begins at `start`."""
        parameters = {
            **self.filters,
            "PageSize": str(self.size),
            "Page": str(start // self.size),
        }
        if start:
            parameters["PageToken"] = _token(start)
        return f"{url}?{urlencode(parameters, quote_via=quote, safe='')}"


def _token(start: int) -> str:
    """Return an opaque page token. It is valid in a URL only when percent-encoded."""
    return "PT" + base64.b64encode(f"from {start}".encode()).decode()


def _start_of(token: str) -> int:
    """Return the index that a page token stands for."""
    try:
        start = int(base64.b64decode(token.removeprefix("PT"), validate=True).split()[1])
    except (ValueError, IndexError):
        start = 0
    if token != _token(start):
        raise _invalid_token()
    return start


def _invalid_token() -> RequestRefused:
    return RequestRefused(400, "Page token is invalid", 21481)
