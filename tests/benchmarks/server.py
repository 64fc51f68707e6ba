"""A server for lists of any length, in a process of its own.

    python tests/benchmarks/server.py PARTICIPANTS CONFERENCES LATENCY

1. It serves participants that FakeInsights made up. All conferences have the same two thousand
   participants, repeatedly, so that a million participants need little memory. Consecutive pages
   differ, and records of several conferences have no conference SID: the package rejects the
   opposite.
2. It does not depend on the private parts of the package, so two source trees can be compared
   with one server.
3. It prints one line of JSON with its address and credentials, and serves until SIGTERM or SIGINT.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import subprocess
import sys

from aiohttp import web
from contenders import pin

from aioparticipants.testing import FakeInsights

#: The number of different participants: a multiple of each page size, and larger.
DIFFERENT = 2000


class Server:
    """The server's process, for the process that measures."""

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


class Lists:
    """The lists, and the handler that serves their pages."""

    def __init__(self, records, count, latency):
        self.records = records
        self.count = count
        self.latency = latency
        self.bodies = {}
        self.request_ids = itertools.count()

    async def handle(self, request):
        """Reply with the page that a request asks for."""
        if self.latency:
            await asyncio.sleep(self.latency)
        return web.Response(
            body=self.page(request),
            content_type="application/json",
            headers={"Twilio-Request-Id": f"RQ{next(self.request_ids):032x}"},
        )

    def page(self, request):
        size = int(request.query["PageSize"])
        start = int(request.query.get("PageToken", "PT0").removeprefix("PT"))
        end = min(start + size, self.count)

        def link(first):
            token = f"&PageToken=PT{first}" if first else ""
            query = f"PageSize={size}&Page={first // size}{token}"
            return f"http://{request.host}{request.path}?{query}"

        meta = {
            "page": start // size,
            "page_size": size,
            "first_page_url": link(0),
            "previous_page_url": link(start - size) if start else None,
            "url": link(start),
            "next_page_url": link(end) if end < self.count else None,
            "key": "participants",
        }
        records = self.encoded(start % DIFFERENT, end - start)
        return b'{"meta": %b, "participants": %b}' % (json.dumps(meta).encode(), records)

    def encoded(self, first, count):
        """Return some records as JSON; it is encoded once."""
        key = (first, count)
        if key not in self.bodies:
            self.bodies[key] = json.dumps(self.records[first : first + count]).encode()
        return self.bodies[key]


async def serve(participants, conferences, latency):
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with FakeInsights() as fake:
        sids = [fake.add_conference(DIFFERENT)]
        records = fake.records(sids[0])
        sids += [fake.add_conference(0) for _ in range(conferences - 1)]
    if conferences > 1:
        records = [{**each, "conference_sid": None} for each in records]
    app = web.Application()
    app.router.add_get("/{path:.*}", Lists(records, participants, latency).handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    where = {
        "base_url": f"http://{host}:{port}",
        "account_sid": fake.credentials[0],
        "auth_token": fake.credentials[1],
        "conference_sids": sids,
    }
    print(json.dumps(where), flush=True)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
