"""The conferences that the server has, and what it answers to a GET of a resource.

A conference can have steps: what is served of it changes with each GET of the conference itself.
Its participants and the list of conferences show the step that was served last; before the first
GET, the first step.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

import attrs

from ._bodies import RequestRefused
from ._filters import (
    CONFERENCE_FILTERS,
    PARTICIPANT_FILTERS,
    checked_query,
    conferences_that_match,
    participants_that_match,
)
from ._pages import PAGING, PageQuery
from ._summaries import UNFINISHED, unfinished_participants, unfinished_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from multidict import MultiMapping

    from ._filters import Clock

__all__ = ["ConferenceStore", "Get", "StoredConference", "SummaryStep", "checked_steps"]

SummaryStep: TypeAlias = Literal[404, "in_progress", "complete", "timeout"]

#: The step at which there is no summary yet.
_ABSENT: Final = 404
_STEPS: Final = (_ABSENT, "in_progress", "complete", "timeout")
#: What they do is published nowhere, and the published example shows a whole record. So they are
#: accepted and change nothing.
_PARTICIPANT_QUERY: Final = frozenset({"Events", "Metrics"})


def checked_steps(steps: object) -> tuple[SummaryStep, ...]:
    """Return the steps of a summary.

    Raises:
        TypeError: they are not an iterable.
        ValueError: there is none, or one is not a step.
    """
    if not isinstance(steps, Iterable) or isinstance(steps, str):
        message = f"summary must be a list of steps, not {type(steps).__name__}."
        raise TypeError(message)
    given = tuple(cast("Iterable[object]", steps))
    if given and all(each in _STEPS for each in given):
        return cast("tuple[SummaryStep, ...]", given)
    message = f"summary must be a list of {', '.join(map(repr, _STEPS))}; it is {list(given)!r}."
    raise ValueError(message)


@attrs.define(kw_only=True, slots=False)
class StoredConference:
    """A conference, and how far its summary is."""

    participants: list[dict[str, object]]
    make_summary: Callable[[], dict[str, object]]
    """Called once, when the summary is first needed: most tests need none."""
    steps: Sequence[SummaryStep] = ("complete",)
    _served: int = attrs.field(default=0, init=False)
    """The number of GETs of the conference that were answered."""

    @functools.cached_property
    def summary(self) -> dict[str, object]:
        """The summary, once it is complete."""
        return self.make_summary()

    def go_on(self) -> None:
        """Go to the next step, for a GET of the conference."""
        self._served += 1

    @property
    def step(self) -> SummaryStep:
        """The current step."""
        index = max(self._served - 1, 0)
        return self.steps[min(index, len(self.steps) - 1)]

    def shown(self, step: SummaryStep | None = None) -> dict[str, object]:
        """Return the summary as it is served at a step, by default the current one."""
        step = self.step if step is None else step
        if step in UNFINISHED:
            return unfinished_summary(self.summary, cast("str", step))
        return self.summary

    def shown_participants(self, step: SummaryStep | None = None) -> list[dict[str, object]]:
        """Return the participants as they are served at a step, by default the current one."""
        step = self.step if step is None else step
        if step in UNFINISHED:
            return unfinished_participants(self.participants, cast("str", step))
        return [] if step == _ABSENT else self.participants


@attrs.frozen(kw_only=True)
class Get:
    """A GET request."""

    base_url: str
    path: str
    query_string: str
    clock: Clock
    query: MultiMapping[str] = attrs.field(eq=False)
    """What `query_string` says."""

    @property
    def url(self) -> str:
        """The URL without the query."""
        return self.base_url + self.path


class ConferenceStore:
    """All conferences of the server.

    Args:
        account_sid: the account whose credentials the server accepts.
    """

    def __init__(self, account_sid: str) -> None:
        self._account_sid = account_sid
        self._conferences: dict[str, StoredConference] = {}
        self._replies: dict[Get, bytes] = {}

    def put(self, conference_sid: str, conference: StoredConference) -> None:
        """Add a conference, or replace the one with this SID."""
        self._conferences.pop(conference_sid, None)  # so that it counts as added now
        self._conferences[conference_sid] = conference
        self._replies.clear()

    def __getitem__(self, conference_sid: str) -> StoredConference:
        """Return the conference with this SID."""
        return self._conferences[conference_sid]

    def in_the_end(self) -> list[dict[str, object]]:
        """Return the summaries as they are served at their last step, in the order of adding."""
        stored = self._conferences.values()
        return [each.shown(each.steps[-1]) for each in stored if each.steps[-1] != _ABSENT]

    def move(self, old: str, new: str) -> None:
        """Let the URLs in all records lead to another base URL."""
        self._replies.clear()
        for conference in self._conferences.values():
            for record in (conference.summary, *conference.participants):
                _move(record, old, new)
                links = record.get("links")
                if isinstance(links, dict):
                    _move(cast("dict[str, object]", links), old, new)

    def resource(self, path: str) -> Callable[[Get], bytes]:
        """Return what answers a GET of a path; raise RequestRefused if there is nothing."""
        match path.split("/"):
            case ["", "v1", "Conferences"]:
                return self._list
            case ["", "v1", "Conferences", sid] if sid in self._conferences:
                return functools.partial(self._summary, sid)
            case ["", "v1", "Conferences", sid, "Participants"] if self._is_shown(sid):
                return functools.partial(self._participants, sid)
            case ["", "v1", "Conferences", sid, "Participants", own] if self._is_shown(sid):
                return functools.partial(self._participant, sid, own)
            case _:
                raise _not_found(path)

    def _is_shown(self, sid: str) -> bool:
        return sid in self._conferences and self._conferences[sid].step != _ABSENT

    def _list(self, get: Get) -> bytes:
        def records(filters: Mapping[str, str]) -> list[dict[str, object]]:
            shown = (each.shown() for sid, each in self._conferences.items() if self._is_shown(sid))
            return conferences_that_match(
                shown, filters, account_sid=self._account_sid, clock=get.clock
            )

        return self._page(get, "conferences", CONFERENCE_FILTERS, records)

    def _participants(self, sid: str, get: Get) -> bytes:
        records = self._conferences[sid].shown_participants
        return self._page(
            get,
            "participants",
            PARTICIPANT_FILTERS,
            lambda filters: participants_that_match(records(), filters),
        )

    def _page(
        self,
        get: Get,
        key: str,
        filters: Collection[str],
        records: Callable[[Mapping[str, str]], list[dict[str, object]]],
    ) -> bytes:
        """Return a page. The same request is answered from memory until a conference changes."""
        if get not in self._replies:
            asked = PageQuery.parse(checked_query(get.query, PAGING | {*filters}))
            self._replies[get] = asked.page(key, records(asked.filters), get.url)
        return self._replies[get]

    def _summary(self, sid: str, get: Get) -> bytes:
        checked_query(get.query, ())
        conference = self._conferences[sid]
        before = conference.step
        conference.go_on()
        if conference.step != before:
            self._replies.clear()
        if conference.step == _ABSENT:
            raise _not_found(get.path)
        return json.dumps(conference.shown()).encode()

    def _participant(self, sid: str, own: str, get: Get) -> bytes:
        checked_query(get.query, _PARTICIPANT_QUERY)
        for record in self._conferences[sid].shown_participants():
            if record.get("participant_sid") == own:
                return json.dumps(record).encode()
        raise _not_found(get.path)


def _move(record: dict[str, object], old: str, new: str) -> None:
    for name, value in record.items():
        if isinstance(value, str) and value.startswith(f"{old}/"):
            record[name] = new + value.removeprefix(old)


def _not_found(path: str) -> RequestRefused:
    return RequestRefused(404, f"The requested resource {path} was not found")
