"""Conferences on a server whose answers a test can hold up or replace, and how to read them all."""

from __future__ import annotations

import asyncio
import re

import pytest

from aioparticipants import InvalidRequestError
from aioparticipants.testing import FakeInsights
from aioparticipants.testing._bodies import error_body


class Scripted(FakeInsights):
    """A fake that holds up, or refuses, the pages that a test names."""

    def __init__(self):
        super().__init__()
        self.asked: list[tuple[str, int]] = []
        self.gates: dict[tuple[str, int], asyncio.Event] = {}
        self.statuses: dict[tuple[str, int], int] = {}

    async def _answer(self, request):
        page = request.path.split("/")[3], int(request.query.get("Page", 0))
        self.asked.append(page)
        if page in self.gates:
            await self.gates[page].wait()
        if page in self.statuses:
            status = self.statuses[page]
            return self._response(status, error_body(status), 1)
        return await super()._answer(request)

    def hold(self, sid, page=0):
        """Hold up a page until the event that is returned is set."""
        self.gates[sid, page] = asyncio.Event()
        return self.gates[sid, page]


def sid(number):
    """Return the SID of that number."""
    return f"CF{number:032x}"


def add(fake, *sizes):
    """Add conferences of so many participants, and return their SIDs."""
    return [
        fake.add_conference(size, conference_sid=sid(number)) for number, size in enumerate(sizes)
    ]


def ids(records):
    """Return the participants' SIDs."""
    return [each.participant_sid for each in records]


def served_ids(fake, conference_sid):
    """Return the SIDs of the participants that the server has of a conference."""
    return [each["participant_sid"] for each in fake.records(conference_sid)]


async def drained(items):
    """Return everything that an async iterable gives."""
    return [each async for each in items]


async def is_over(items):
    """Return how a fan-out refuses to begin anew: it is used up, or was closed before its end."""
    with pytest.raises(InvalidRequestError) as caught:
        await drained(items)
    return re.search("used up|closed before its end", str(caught.value))[0]
