"""Faults: replies that a test orders in place of the real ones."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

import attrs

from ._pages import page_number

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Fault", "FaultQueue"]

#: The last segments of the paths of lists.
_LISTS: Final = frozenset({"Conferences", "Participants"})


@attrs.frozen(kw_only=True)
class Fault:
    """A reply in place of the real one, and which requests it is for."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    disconnect: bool
    conference_sid: str | None
    """Only requests for this conference; None for all."""
    page: int | None
    """Only requests for the page of this number; None for all."""
    path: str | None
    """Only requests whose path matches this pattern; None for all."""

    def is_for(self, path: str, query: Mapping[str, str]) -> bool:
        """Return whether a request takes the fault."""
        segments = path.split("/")
        return (
            (self.conference_sid is None or self.conference_sid in segments)
            and (self.page is None or (segments[-1] in _LISTS and self.page == page_number(query)))
            and (self.path is None or PurePosixPath(path).match(self.path))
        )


class FaultQueue:
    """Faults in the order of `fail_next`. A request takes the first one that is for it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def __len__(self) -> int:
        """Return the number of faults that no request has taken yet."""
        return len(self._faults)

    def add(self, fault: Fault, times: int) -> None:
        """Let a fault happen this many times."""
        self._faults += [fault] * times

    def take(self, path: str, query: Mapping[str, str]) -> Fault | None:
        """Remove and return the first fault that is for a request."""
        for index, fault in enumerate(self._faults):
            if fault.is_for(path, query):
                return self._faults.pop(index)
        return None
