"""`demo`: the real client on a made-up conference."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .._session import InsightsSession
from ..errors import InvalidRequestError
from ..testing import FakeInsights
from ._list import totals
from ._table import print_table

if TYPE_CHECKING:
    import argparse

    from ..models import Participant

__all__ = ["demo"]


async def demo(options: argparse.Namespace) -> None:
    """Stream a conference from FakeInsights, and print it."""
    if options.participants < 0:
        message = "--participants must be a whole number from 0."
        raise InvalidRequestError(message)
    async with FakeInsights(seed=options.seed) as fake:
        sid = fake.add_conference(options.participants)
        records: list[Participant] = []
        pages = 0
        began = time.monotonic()
        async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
            async for page in session.participants(sid, page_size=options.page_size).pages():
                records += page.records
                pages += 1
        seconds = time.monotonic() - began
        requests = len(fake.requests)
    print_table(records)
    print(totals(len(records), pages, seconds, requests=requests))
