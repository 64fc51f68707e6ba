"""FakeInsights as a process, with lists of any length that take no memory.

    python tests/benchmarks/server.py PARTICIPANTS CONFERENCES LATENCY

1. It is the package's own fake, but for one thing: all conferences have the same two thousand
   participants, over and over. So a million of them are made at once, and served from memory. No
   page is as the one before it, nor do records of several conferences name one of them: the client
   would refuse both.
2. One line of JSON on stdout says where it listens; it serves until it is terminated.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys

from contenders import pin

from aioparticipants.testing import FakeInsights
from aioparticipants.testing._fake import _checked, _Refusal
from aioparticipants.testing._records import make_participants, make_sid

#: Participants that are made; a page size has to divide it, and be smaller.
DIFFERENT = 2000


class LongLists(FakeInsights):
    """Serves lists without holding them."""

    def __init__(self, participants, conferences, latency):
        super().__init__(latency=latency)
        self.count = participants
        self.sids = [make_sid(self._rng, "CF") for _ in range(conferences)]
        self.arrays = {}

    async def start(self):
        await super().start()
        self.made = make_participants(
            random.Random(0),
            DIFFERENT,
            base_url=self.base_url,
            account_sid=self.credentials[0],
            conference_sid=self.sids[0],
        )
        if len(self.sids) > 1:
            self.made = [{**each, "conference_sid": None} for each in self.made]
        self._conferences = dict.fromkeys(self.sids, range(self.count))

    def _page(self, request):
        if not self._authorized(request):
            raise _Refusal(401)
        sid, query = self._conference_of(request.path), _checked(request.query)
        start, end = query.start, min(query.start + query.size, self.count)
        first = start % DIFFERENT
        key = (first, end - start)
        if key not in self.arrays:
            self.arrays[key] = json.dumps(self.made[first : first + end - start]).encode()
        meta = {
            "page": start // query.size,
            "page_size": query.size,
            "first_page_url": self._link(sid, query, 0),
            "previous_page_url": self._link(sid, query, start - query.size) if start else None,
            "url": self._link(sid, query, start),
            "next_page_url": self._link(sid, query, end) if end < self.count else None,
            "key": "participants",
        }
        return b'{"meta": %b, "participants": %b}' % (json.dumps(meta).encode(), self.arrays[key])

    async def _serve(self, request):
        self.requests.clear()  # nobody looks at them here
        return await super()._serve(request)


class Server:
    """The process, seen from the one that measures."""

    def __init__(self, participants, conferences=1, latency=0.0):
        command = [sys.executable, __file__, str(participants), str(conferences), str(latency)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.where = json.loads(self.process.stdout.readline())
        pin(1, self.process.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


async def serve(participants, conferences, latency):
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with LongLists(participants, conferences, latency) as fake:
        where = {
            "base_url": fake.base_url,
            "account_sid": fake.credentials[0],
            "auth_token": fake.credentials[1],
            "conference_sids": fake.sids,
        }
        print(json.dumps(where), flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
