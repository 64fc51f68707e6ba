"""Read thousands of conferences in every wrong way, then check that nothing is left behind.

    python tests/soak/soak.py [--seconds N] [--seed S]

A FakeInsights server runs in a process of its own, so that everything counted here is the client's.
It fails at random: 503, 429, 500, 404, dropped connections, 429 above a ceiling, pages that are cut
off, malformed, or of another conference. Forty consumers share one session. Each reads conference
after conference, each time in a random way: to the end, by pages, with a break, an exception, a
timeout, one cancellation or one in each cycle of the loop, two `anext` at once, dropped, closed by
another task, or as a fan-out. In the same ways it reads lists of conferences; and single records,
awaited or cancelled. Every two seconds the session is closed and replaced.

A consumer that reads to the end, over any number of errors and cursors, must get each record once.
The exit code is 1 if that fails, or if tasks, sockets, file descriptors, connections or objects
have grown.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aioparticipants import (
    Conference,
    DeadlineExceededError,
    InsightsError,
    InsightsSession,
    InvalidRequestError,
    RetryPolicy,
)
from aioparticipants.testing import FakeInsights

CONSUMERS = 40
#: Requests that succeed between two faults.
BETWEEN_FAULTS = 5
#: Conferences to choose from, by their number of participants: up to 13 pages of 20.
SIZES = (0, 1, 20, 21, 60, 130, 250)
#: Conferences without participants, for a list of conferences of several pages.
EMPTY = 60
PAGE_SIZE = 20
#: Above it the server answers 429; the session starts below and grows beyond it.
CEILING = 14
#: Objects that may be added to some 70,000. Slowly filling caches stay far below it.
MARGIN = 1000
#: Seconds between two closings of the session.
LIFE = 2.0
#: Seconds that the consumers get to finish.
PATIENCE = 10.0

ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
#: Stands for the list of conferences, where participants are listed by their conference.
CONFERENCES = "conferences"

LAST = {"next_page_url": None}
OF_ANOTHER = {"participants": [{"conference_sid": "CF" + "f" * 32}], "meta": LAST}
PARTLY_MALFORMED = (
    b'{"participants": [{"label": NaN}, {"label": "left over"}], "meta": {"next_page_url": null}}'
)
#: The most requests in a row that fail so, and the arguments of `FakeInsights.fail_next`.
FAULTS = (
    (8, {"status": 503}),
    (1, {"status": 429, "retry_after": 0}),
    (1, {"status": 429, "retry_after": "nonsense"}),
    (2, {"status": 500, "body": b"<html>"}),
    (3, {"disconnect": True}),
    (1, {"status": 200, "body": b'{"participants": [{"label"'}),
    (1, {"status": 404}),
    (1, {"status": 200, "body": {"participants": [{"label": 7}], "meta": {}}}),
    (1, {"status": 200, "body": PARTLY_MALFORMED}),
    (1, {"status": 200, "body": OF_ANOTHER}),
)


# --- The server's process ---


async def serve(seed):
    """Serve until stdin ends, failing at random; then print the number of requests."""
    rng = random.Random(seed)
    requests = since_fault = 0
    async with FakeInsights(seed=seed, concurrency=CEILING) as fake:
        now, sids = datetime.now(UTC), {}
        sizes = [*SIZES, *[0] * EMPTY]
        added = [
            fake.add_conference(size, create_time=now - timedelta(minutes=minutes))
            for minutes, size in enumerate(sizes)
        ]
        for sid in added[: len(SIZES)]:
            sids[sid] = [record["participant_sid"] for record in fake.records(sid)]
        sids[CONFERENCES] = added  # the newest first, as in a list
        about = {"base_url": fake.base_url, "credentials": fake.credentials, "sids": sids}
        print(json.dumps(about), flush=True)
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        while not ended.done():
            await asyncio.sleep(rng.uniform(0.0, 0.03))
            requests += len(fake.requests)
            since_fault += len(fake.requests)
            fake.requests.clear()
            # By requests, not by time: a slow client would get nothing but faults, and stay slow.
            if since_fault >= BETWEEN_FAULTS:
                most, fault = rng.choice(FAULTS)
                times = rng.randint(1, most)
                fake.fail_next(**fault, times=times)
                since_fault = -times
            fake.latency = rng.choice([0.0, 0.0, 0.0, 0.01])
        requests += len(fake.requests)
    print(json.dumps(requests), flush=True)


# --- The consumers ---


class ConsumerError(Exception):
    """Raised by the code of a consumer."""


class Soak:
    """The consumers, their session, and what was counted."""

    def __init__(self, about, rng):
        self.about = about
        self.rng = rng
        self.counts = Counter()
        self.wrong = []
        self.stop = False
        self.session = self.new_session()

    def new_session(self):
        return InsightsSession(
            tuple(self.about["credentials"]),
            base_url=self.about["base_url"],
            timeout=5.0,
            retry=RetryPolicy(max_attempts=3, base_delay=0.002),
        )

    async def run(self, seconds):
        """Let all consumers read for a while, then finish and close everything."""
        self.stop = False
        self.session = self.new_session()
        consumers = [asyncio.create_task(self.consume()) for _ in range(CONSUMERS)]
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(LIFE, left))
            if left > LIFE:
                await self.replace_session()
        self.stop = True
        # A session that got many 429s in a row may send rarely, for a minute or more.
        while (await asyncio.wait(consumers, timeout=PATIENCE))[1]:
            self.counts["replaced as they were slow"] += 1
            await self.replace_session()
        await asyncio.gather(*consumers)
        for _ in range(4):
            await asyncio.sleep(0)
        await self.close(self.session, abort=False)

    async def replace_session(self):
        old, self.session = self.session, self.new_session()
        await self.close(old, abort=True)

    async def close(self, session, *, abort):
        """Close a session, and note the connections that it did not release."""
        http = session._transport._http
        if http is not None and not abort:
            self.counts["acquired"] += len(http.connector._acquired)
        await session.aclose()
        self.counts["sessions"] += 1
        self.counts["aborted"] += abort
        if http is not None and not http.closed:
            self.wrong.append("a session that was closed left its connections open")

    async def consume(self):
        ways = [
            *(self.to_the_end, self.by_pages, self.with_a_break, self.with_an_error),
            *(self.with_a_timeout, self.cancelled, self.two_at_once, self.dropped, self.awaited),
            *(self.fanned_out, self.merged, self.keeping, self.closed_by_another, self.single),
        ]
        while not self.stop:
            sid, expected = self.rng.choice([*self.about["sids"].items()])
            way = self.rng.choice(ways)
            self.counts["lists of conferences"] += sid == CONFERENCES
            try:
                await way(self.session, sid, expected)
            except ConsumerError:
                pass
            except InsightsError as error:
                self.counts[type(error).__name__] += 1
            self.counts["conferences"] += 1
            await asyncio.sleep(0)

    def stream(self, session, sid, **options):
        if sid == CONFERENCES:
            return session.conferences(created_after=ANY_TIME, page_size=PAGE_SIZE, **options)
        return session.participants(sid, page_size=PAGE_SIZE, **options)

    def check(self, found, expected, what):
        self.counts["records"] += len(found)
        if found != expected:
            self.wrong.append(f"{what}: {len(found)} records of {len(expected)}, or others")

    async def to_the_end(self, _session, sid, expected):
        """Resume at each error's cursor, in the session of that time."""
        found, cursor = [], None
        while len(found) <= len(expected):
            try:
                async with self.stream(self.session, sid, resume=cursor) as stream:
                    async for record in stream:
                        found.append(sid_of(record))
                break
            except InsightsError as error:
                self.counts["resumed"] += 1
                cursor = error.cursor or cursor
                await asyncio.sleep(0)
        self.check(found, expected, "resumed at each error")
        self.counts["whole"] += 1

    async def single(self, session, sid, expected):
        """Get a single record, and cancel some of the calls."""
        own = self.rng.choice([*expected]) if expected else None
        if sid == CONFERENCES:
            call = session.conference(own)
        elif own is None:
            call, own = session.conference(sid), sid
        else:
            call = session.participant(sid, own)
        getting = asyncio.create_task(call)
        if self.rng.random() < 0.3:
            await asyncio.sleep(self.rng.choice([0, 0, 0.002, 0.01]))
            getting.cancel()
        await asyncio.wait([getting])
        if getting.cancelled():
            self.counts["single records cancelled"] += 1
        elif getting.exception() is not None:
            raise getting.exception().with_traceback(None)
        else:
            self.check([sid_of(getting.result())], [own], "a single record")
            self.counts["single records"] += 1

    async def by_pages(self, session, sid, expected):
        found = []
        async with self.stream(session, sid) as stream:
            async for page in stream.pages():
                found += [sid_of(record) for record in page.records]
        self.check(found, expected, "by pages")

    async def awaited(self, session, sid, expected):
        limit = self.rng.choice([None, 0, 1, 25, 999])
        deadline = self.rng.choice([None, 0.01, 5.0])
        try:
            found = await self.stream(session, sid, limit=limit, deadline=deadline)
        except DeadlineExceededError:
            self.counts["deadlines"] += 1
            return
        self.check([sid_of(record) for record in found], expected[:limit], "awaited")

    async def keeping(self, session, sid, expected):
        """Skip malformed records: a list without problems is complete."""
        async with self.stream(session, sid, on_invalid="keep") as stream:
            found = [sid_of(record) async for record in stream]
        if stream.problems:
            self.counts["kept"] += 1
        else:
            self.check(found, expected, "keeping")

    async def closed_by_another(self, session, sid, expected):
        """Close a stream that another task reads: a list that it cuts short raises an error."""
        stream, found = self.stream(session, sid), []

        async def read():
            async for record in stream:
                found.append(sid_of(record))

        reading = asyncio.create_task(read())
        await asyncio.sleep(self.rng.choice([0, 0.002, 0.01]))
        await stream.aclose()
        try:
            await reading
        except InvalidRequestError:
            self.counts["closed by another"] += 1
            expected = expected[: len(found)]
        self.check(found, expected, "closed by another")

    async def with_a_break(self, session, sid, expected):
        found, enough = [], self.rng.randrange(1, 60)
        async for record in self.stream(session, sid):
            found.append(sid_of(record))
            if len(found) == enough:
                break
        self.check(found, expected[:enough], "with a break")

    async def with_an_error(self, session, sid, expected):
        seen, enough = 0, self.rng.randrange(1, 60)
        async with self.stream(session, sid) as stream:
            async for _ in stream:
                seen += 1
                if seen == enough:
                    raise ConsumerError

    async def with_a_timeout(self, session, sid, expected):
        """Time out now and then, and lose no record."""
        found = []
        async with self.stream(session, sid) as stream:
            while True:
                try:
                    async with asyncio.timeout(self.rng.uniform(0.0, 0.01)):
                        async for record in stream:
                            found.append(sid_of(record))
                    break
                except InsightsError:  # some of them are TimeoutErrors
                    raise
                except TimeoutError:
                    self.counts["timeouts"] += 1
        self.check(found, expected, "with timeouts")

    async def cancelled(self, session, sid, expected):
        async def read():
            if self.rng.random() < 0.5:
                return [record async for record in self.stream(session, sid)]
            return await self.stream(session, sid)

        reading = asyncio.create_task(read())
        for _ in range(self.rng.randrange(40)):
            await asyncio.sleep(0)
        await asyncio.sleep(self.rng.choice([0, 0, 0.002, 0.01]))
        reading.cancel()
        if self.rng.random() < 0.5:  # as anyio does
            while not reading.done():
                reading.cancel()
                await asyncio.sleep(0)
        await asyncio.wait([reading])
        if reading.cancelled():
            self.counts["cancelled"] += 1
        elif reading.exception() is not None:
            raise reading.exception().with_traceback(None)

    async def two_at_once(self, session, sid, expected):
        async with self.stream(session, sid) as stream:
            asking = [asyncio.create_task(_next(stream)) for _ in range(2)]
            await asyncio.wait(asking)
            found = []
            for each in asking:
                result = each.result()
                if result is None:
                    self.check(found, expected, "two at once")
                    return
                if isinstance(result, InvalidRequestError):
                    self.counts["two at once"] += 1
                elif isinstance(result, InsightsError):
                    raise result
                else:
                    found.append(sid_of(result))
            found += [sid_of(record) async for record in stream]
        self.check(found, expected, "two at once")

    def several(self, session):
        """Return a fan-out over some conferences, which may repeat."""
        known = [each for each in self.about["sids"] if each != CONFERENCES]
        sids = self.rng.choices(known, k=self.rng.randrange(1, 9))
        return session.fan_out(
            sids,
            concurrency=self.rng.randrange(1, 5),
            on_error=self.rng.choice(["isolate", "isolate", "raise"]),
            page_size=PAGE_SIZE,
            deadline=self.rng.choice([None, None, 0.05]),
        )

    async def fanned_out(self, session, sid, expected):
        """Read a fan-out: each result is complete, or a correct beginning with an error."""
        enough = self.rng.choice([9, 9, 1, 3])
        async with self.several(session) as conferences:
            async for result in conferences:
                found = [record.participant_sid for record in result.participants]
                whole = self.about["sids"][result.conference_sid]
                self.check(found, whole[: len(found)] if result.error else whole, "fanned out")
                self.counts["isolated"] += result.error is not None
                if conferences.done >= enough:
                    break
        self.counts["fanned out"] += 1

    async def merged(self, session, sid, expected):
        """Read the merged records of a fan-out, and drop it after some."""
        enough = self.rng.choice([9999, 9999, 30])
        conferences, found = self.several(session), Counter()
        async for record in conferences.participants():
            found[sid_of(record)] += 1
            if found.total() == enough:
                break
        else:
            self.check([conferences.done, conferences.in_flight], [conferences.total, 0], "merged")
        self.counts["records"] += found.total()
        self.counts["merged"] += 1

    async def dropped(self, session, sid, expected):
        """Drop a stream with a page in flight."""
        stream = self.stream(session, sid)
        with contextlib.suppress(StopAsyncIteration, TimeoutError):
            async with asyncio.timeout(self.rng.choice([0, 0.001, 1])):
                await anext(stream)
        self.counts["dropped"] += 1


def sid_of(record):
    """Return the SID of a participant or conference."""
    is_conference = isinstance(record, Conference)
    return record.conference_sid if is_conference else record.participant_sid


async def _next(stream):
    try:
        return await anext(stream)
    except StopAsyncIteration:
        return None
    except InsightsError as error:
        return error.with_traceback(None)


# --- Figures ---


def figures():
    """Return the figures that must not grow."""
    gc.collect()
    links = []
    descriptors = Path("/proc/self/fd")
    for entry in descriptors.iterdir() if descriptors.is_dir() else ():
        with contextlib.suppress(OSError):  # the descriptor of the listing
            links.append(os.readlink(entry))  # noqa: PTH115 - a socket is not a path
    return {
        "tasks": len(asyncio.all_tasks()),
        "sockets": sum(link.startswith("socket:") for link in links),
        "fds": len(links),
        "gc objects": len(gc.get_objects()),
    }


async def settle():
    """Let the transports of closed connections end."""
    for _ in range(10):
        await asyncio.sleep(0.01)


async def soak(seconds, seed):
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--serve", "--seed", str(seed)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    lost = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: lost.append(context))
    run = Soak(json.loads(await server.stdout.readline()), random.Random(seed))
    # Warm up first, so that imports and caches do not count as leaks.
    await run.run(max(1.0, seconds / 10))
    await settle()
    run.counts.clear()
    before = figures()
    began = time.monotonic()
    await run.run(seconds)
    took = time.monotonic() - began
    await settle()
    after = figures()
    server.stdin.close()
    requests = json.loads(await server.stdout.readline())
    await server.wait()
    return report(run, before, after, lost, requests, took)


def report(run, before, after, lost, requests, took):
    """Print the figures, and return the exit code."""
    counts = run.counts
    print(
        f"{counts['conferences']} conferences, {counts['records']} records checked, "
        f"{requests} requests (warm-up included), {took:.1f} s"
    )
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    for name, figure in before.items():
        print(f"{name:>20} {figure:>8} before {after[name]:>8} after")
    print(f"{'connections acquired':>20} {0:>8} before {counts['acquired']:>8} after")
    wrong = [f"{name} grew" for name in ("tasks", "sockets", "fds") if after[name] > before[name]]
    if after["gc objects"] > before["gc objects"] + MARGIN:
        wrong.append("gc objects grew")
    if counts["acquired"]:
        wrong.append("connections stay acquired")
    wrong += [f"lost: {context.get('message')}" for context in lost]
    needed = (
        *("whole", "resumed", "aborted", "timeouts", "cancelled", "dropped", "two at once"),
        *("fanned out", "isolated", "merged", "lists of conferences"),
        *("single records", "single records cancelled"),
    )
    wrong += [f"never happened: {name}" for name in needed if not counts[name]]
    wrong += run.wrong
    for each in dict.fromkeys(wrong):
        print(f"WRONG: {each}")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(
        description="Read thousands of conferences in every wrong way."
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.seed))
        return 0
    return asyncio.run(soak(options.seconds, options.seed))


if __name__ == "__main__":
    raise SystemExit(main())
