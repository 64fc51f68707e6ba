"""A server of conferences that were created between the seconds which their records show."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import attrs

from aioparticipants.testing import FakeInsights
from aioparticipants.testing._bodies import RequestRefused
from aioparticipants.testing._faults import FaultQueue
from aioparticipants.testing._pages import PageQuery

BASE = datetime(2026, 3, 2, 9, tzinfo=UTC)
_SECOND = timedelta(seconds=1)

#: How a time becomes whole seconds, or does not.
FORMS = {"exact": lambda seconds: seconds, "down": math.floor, "up": math.ceil, "nearest": round}


def at(seconds):
    """Return a time of the test's window."""
    return BASE + timedelta(seconds=seconds)


@attrs.define(slots=False)
class Rules:
    """How the server compares the times, and what it shows."""

    inclusive: str = "neither"
    """As `FakeInsights.inclusive`."""
    compared: str = "exact"
    """The form in which a creation time is compared with the filters."""
    shown: str = "down"
    """The form in which the records have it."""
    fault: object = lambda query: None
    """Returns the status to refuse a query with, or None."""
    gate: object = lambda query: None
    """Returns the event that a query waits for, or None."""
    altered: object = lambda body: body
    """Returns the body to send, from the right one."""


class StampingServer(FakeInsights):
    """A server whose list of conferences is what a test puts into `seconds` and `untimed`."""

    def __init__(self):
        super().__init__()
        self.rules = Rules()
        self.seconds = []
        """When each conference was created, in seconds after `BASE`."""
        self.untimed = []
        """Records without a readable creation time: they are in every window, and come last."""

    def begin(self, seconds, untimed=(), **rules):
        """Have these conferences only, in the order of the list, and have seen no request."""
        self.rules = Rules(**rules)
        self.seconds, self.untimed = sorted(seconds, reverse=True), [*untimed]
        self.requests.clear()

    def reset_faults(self, **faults):
        """Let the next requests fail in this way, or none."""
        self._faults = FaultQueue()
        if faults:
            self.fail_next(**faults)

    async def _answer(self, request):
        if event := self.rules.gate(dict(request.query)):
            await event.wait()
        return await super()._answer(request)

    def _page(self, request):
        if request.path != "/v1/Conferences":
            return super()._page(request)
        query = dict(request.query)
        if status := self.rules.fault(query):
            raise RequestRefused(status)
        asked = PageQuery.parse(query)
        after, before = (
            _seconds(asked.filters.get(name)) for name in ("CreatedAfter", "CreatedBefore")
        )
        records = [
            record_of(index, FORMS[self.rules.shown](each))
            for index, each in enumerate(self.seconds)
            if self._is_between(FORMS[self.rules.compared](each), after, before)
        ]
        page = asked.page("conferences", [*records, *self.untimed], self.base_url + request.path)
        return self.rules.altered(page)

    def _is_between(self, time, after, before):
        if time in {after, before}:
            return self.rules.inclusive in {"both", "left" if time == after else "right"}
        return (after is None or time > after) and (before is None or time < before)


def _seconds(text):
    return None if text is None else (datetime.fromisoformat(text) - BASE) / _SECOND


def sid(number):
    """Return the SID of the conference with a number."""
    return f"CF{number:032x}"


def record_of(number, seconds):
    """Return the record of a conference."""
    return {"conference_sid": sid(number), "create_time": f"{at(seconds):%Y-%m-%dT%H:%M:%SZ}"}
