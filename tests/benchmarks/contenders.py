"""Who is compared. All do the same: look at each record of a list, and at its inbound MOS.

A contender is an async context manager: a client, which lists a conference's participants by
`mos(sid, page_size)`, and those of many by `mos_of_all(sids, page_size, concurrency)`, if it can.
What it imports is imported in the process that measures it, and in no other.
"""

from __future__ import annotations

import importlib
import os
import sys

PEER = "twilio-python"
FLOORS = ("aiohttp+json", "aiohttp+orjson", "aiohttp+msgspec")
OURS, FAST = "ours", "ours[speed]"
CONTENDERS = (PEER, *FLOORS, OURS, FAST)


class Twilio:
    """twilio-python, used as a user of its metrics does."""

    imports = ("twilio.rest", "twilio.http.async_http_client")

    def __init__(self, where, concurrency):
        self.where = where

    async def __aenter__(self):
        from twilio.http.async_http_client import AsyncTwilioHttpClient
        from twilio.rest import Client

        self.http = AsyncTwilioHttpClient()
        await self.http.__aenter__()
        where = self.where
        client = Client(where["account_sid"], where["auth_token"], http_client=self.http)
        client.insights.base_url = where["base_url"]
        self.conferences = client.insights.v1.conferences
        return self

    async def __aexit__(self, *exc):
        await self.http.__aexit__(*exc)

    async def mos(self, sid, page_size):
        listing = self.conferences(sid).conference_participants
        async for record in await listing.stream_async(page_size=page_size):
            yield record.metrics["inbound"]["mos"]


class Floor:
    """A bare loop over aiohttp: no retries, no checks, no types, one page after another."""

    def __init__(self, where, concurrency, decoder="json"):
        self.where = where
        self.decoder = decoder

    async def __aenter__(self):
        import aiohttp

        module = importlib.import_module(self.decoder)
        self.loads = module.decode if self.decoder == "msgspec.json" else module.loads
        where = self.where
        login = aiohttp.encode_basic_auth(where["account_sid"], where["auth_token"])
        self.http = aiohttp.ClientSession(headers={"Authorization": login})
        return self

    async def __aexit__(self, *_exc):
        await self.http.close()

    async def mos(self, sid, page_size):
        path = f"/v1/Conferences/{sid}/Participants?PageSize={page_size}"
        link = self.where["base_url"] + path
        while link:
            async with self.http.get(link) as reply:
                page = self.loads(await reply.read())
            for record in page["participants"]:
                yield record["metrics"]["inbound"]["mos"]
            link = page["meta"]["next_page_url"]


class Ours:
    """This package."""

    imports = ("aioparticipants",)

    def __init__(self, where, concurrency):
        from aioparticipants import InsightsSession

        self.session = InsightsSession(
            (where["account_sid"], where["auth_token"]),
            base_url=where["base_url"],
            max_concurrency=concurrency,
        )

    async def __aenter__(self):
        await self.session.__aenter__()
        return self

    async def __aexit__(self, *exc):
        await self.session.__aexit__(*exc)

    async def mos(self, sid, page_size):
        async for record in self.session.participants(sid, page_size=page_size):
            yield record.metrics.inbound.mos

    async def mos_of_all(self, sids, page_size, concurrency):
        async for result in self.session.fan_out(
            sids, page_size=page_size, concurrency=concurrency
        ):
            assert result.error is None
            for record in result.participants:
                yield record.metrics.inbound.mos


def pin(core, pid=0):
    """Give a process a core of its own, where there are two."""
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(pid, {sorted(os.sched_getaffinity(0))[core]})


def modules_of(name):
    """Return what a user of a contender imports."""
    if name in FLOORS:
        return ("aiohttp", _decoder_of(name))
    return (Twilio if name == PEER else Ours).imports


def prepare(name):
    """See to it that this process has what the contender may use, and nothing more."""
    if name == OURS:
        sys.modules["msgspec"] = None  # as if it were not installed: the four packages alone


def client(name, where, concurrency=16):
    """Return a contender's client."""
    if name in FLOORS:
        return Floor(where, concurrency, _decoder_of(name))
    return (Twilio if name == PEER else Ours)(where, concurrency)


def _decoder_of(name):
    return {"json": "json", "orjson": "orjson", "msgspec": "msgspec.json"}[name.split("+")[1]]
