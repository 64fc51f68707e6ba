"""Pagination: the page that a query asks for, and its links.

https://www.twilio.com/docs/usage/twilios-response#pagination
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

import attrs

from ._bodies import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["PAGING", "PageQuery", "page_number"]

#: The parameters of every list.
PAGING: Final = frozenset({"PageSize", "Page", "PageToken"})
_DEFAULT_SIZE: Final = 50
_MAX_SIZE: Final = 1000


@attrs.frozen(kw_only=True)
class PageQuery:
    """The validated query of a page request."""

    size: int
    start: int
    """The index of the page's first record, among those that pass the filters."""
    filters: Mapping[str, str]
    """The other parameters. The links have them too."""

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> PageQuery:
        """Validate a query; raise RequestRefused where the API would answer with an error."""
        size = query.get("PageSize", str(_DEFAULT_SIZE))
        if not (re.fullmatch("[0-9]{1,4}", size) and 1 <= int(size) <= _MAX_SIZE):
            raise RequestRefused(400, f"PageSize must be from 1 to {_MAX_SIZE}")
        if not re.fullmatch("[0-9]+", query.get("Page", "0")):  # its value is of no importance
            raise RequestRefused(400, "Page must be a whole number from 0")
        token = query.get("PageToken")
        return cls(
            size=int(size),
            start=0 if token is None else _start_of(token),
            filters={name: value for name, value in query.items() if name not in PAGING},
        )

    def page(self, key: str, records: Sequence[Mapping[str, object]], url: str) -> bytes:
        """Return the body of the page, of the records that pass the filters.

        Args:
            key: the name of the page's array.
            records: the records of the whole list.
            url: the URL of the list.
        """
        if self.start > len(records):
            raise _invalid_token()
        end = self.start + self.size
        previous = max(0, self.start - self.size)
        meta = {
            "page": self.start // self.size,
            "page_size": self.size,
            "first_page_url": self._link(url, 0),
            "previous_page_url": self._link(url, previous) if self.start else None,
            "url": self._link(url, self.start),
            "next_page_url": self._link(url, end) if end < len(records) else None,
            "key": key,
        }
        return json.dumps({"meta": meta, key: records[self.start : end]}).encode()

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


def page_number(query: Mapping[str, str]) -> int | None:
    """Return the number of the page that a query asks for, from 0; None if it is not valid."""
    try:
        asked = PageQuery.parse(query)
    except RequestRefused:
        return None
    return asked.start // asked.size


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
