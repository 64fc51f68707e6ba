"""The clients that are compared. All of them look at each record, and at its inbound MOS.

A client is an async context manager. `mos(sid, page_size)` lists the participants of a conference.
`mos_of_all(sids, page_size, concurrency)` lists those of many conferences, if the client has a
method for that. Each measurement imports only what its own client needs.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path

PEER = "twilio-python"
FLOORS = ("aiohttp+json", "aiohttp+orjson", "aiohttp+msgspec")
#: This package with its four dependencies alone, and with the extra `speed`.
OURS, FAST = "ours", "ours[speed]"
#: The same, from another source tree.
BEFORE, BEFORE_FAST = "before", "before[speed]"
CONTENDERS = (PEER, *FLOORS, OURS, FAST)
#: The environment variable with the path of the other source tree.
OTHER_TREE = "AIOPARTICIPANTS_OTHER_TREE"


class Twilio:
    """twilio-python, used to read the metrics of each participant."""

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
    """Bind a process to one of the cores, if there is more than one."""
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(pid, {sorted(os.sched_getaffinity(0))[core]})


def prepare(name):
    """Let this process import what the contender may use, and nothing else."""
    if name in {OURS, BEFORE}:
        sys.modules["msgspec"] = None  # as if it were not installed
    if name in {BEFORE, BEFORE_FAST}:
        sys.path.insert(0, os.environ[OTHER_TREE])
        found = importlib.util.find_spec("aioparticipants").origin
        assert Path(found).is_relative_to(os.environ[OTHER_TREE]), found


def modules_of(name):
    """Return the modules that a user of a contender imports."""
    if name in FLOORS:
        return ("aiohttp", _decoder_of(name))
    return (Twilio if name == PEER else Ours).imports


def client(name, where, concurrency=16):
    """Return a contender's client."""
    if name in FLOORS:
        return Floor(where, concurrency, _decoder_of(name))
    return (Twilio if name == PEER else Ours)(where, concurrency)


def _decoder_of(name):
    return {"json": "json", "orjson": "orjson", "msgspec": "msgspec.json"}[name.split("+")[1]]
