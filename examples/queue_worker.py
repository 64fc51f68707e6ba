"""Fetch the conferences that a queue names: `python queue_worker.py CF… CF…`; SIGTERM stops it."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Protocol

from aioparticipants import ConferenceResult, InsightsSession, NotFoundError

SETTLING = 1800.0  # seconds that Twilio may take to complete a conference's summaries, typically
TRIES = 48  # together a day: after 24 hours Twilio stops working on summaries


class Queue(Protocol):
    """What the worker needs of a queue: SQS, Redis Streams and PostgreSQL can all do it."""

    async def take(self) -> str: ...
    def times_taken(self, sid: str) -> int: ...  # including this time
    async def acknowledge(self, sid: str) -> None: ...
    async def put_back(self, sid: str, *, seconds: float) -> None: ...


async def work(
    session: InsightsSession,
    queue: Queue,
    store: Callable[[ConferenceResult], Awaitable[None]],
    stop: asyncio.Event,
) -> None:
    """Serve the queue until `stop` is set, and then finish what was taken.

    If the worker is killed instead, the queue delivers again what was not acknowledged. A value
    that Twilio does not promise is kept with its record, and hides no other record.
    """
    async with session.fan_out(taken(queue, stop), on_invalid="keep") as results:
        async for result in results:
            sid = result.conference_sid
            seconds = seconds_to_wait(result, queue.times_taken(sid))
            if seconds is None:
                await store(result)
                await queue.acknowledge(sid)
            else:
                await queue.put_back(sid, seconds=seconds)


def seconds_to_wait(result: ConferenceResult, times_taken: int) -> float | None:
    """Return the seconds until the conference is worth another try; None if it is not."""
    error = result.error
    if error is not None and error.transient:
        return getattr(error, "retry_after", None) or 30.0
    # Soon after its end a conference may be missing or empty, and its summaries may still change.
    may_settle = not result.settled and (error is None or isinstance(error, NotFoundError))
    return SETTLING if may_settle and times_taken < TRIES else None


async def taken(queue: Queue, stop: asyncio.Event) -> AsyncIterator[str]:
    """Take SIDs when the fan-out has room for them, until `stop` is set."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            taking = asyncio.ensure_future(queue.take())
            try:
                await asyncio.wait([taking, stopping], return_when=asyncio.FIRST_COMPLETED)
            finally:
                taking.cancel()  # has no effect on a task that is done
            if taking.done():
                yield taking.result()
    finally:
        stopping.cancel()


class MemoryQueue:
    """A queue in memory, so that this example runs. Put your own in its place."""

    def __init__(self, sids: Iterable[str]) -> None:
        self.waiting: asyncio.Queue[str] = asyncio.Queue()
        self.counts = Counter[str]()
        for sid in sids:
            self.waiting.put_nowait(sid)

    async def take(self) -> str:
        sid = await self.waiting.get()
        self.counts[sid] += 1
        return sid

    def times_taken(self, sid: str) -> int:
        return self.counts[sid]

    async def acknowledge(self, sid: str) -> None:
        print(f"{sid} is done", file=sys.stderr)

    async def put_back(self, sid: str, *, seconds: float) -> None:
        print(f"{sid} again in {seconds} s", file=sys.stderr)
        asyncio.get_running_loop().call_later(seconds, self.waiting.put_nowait, sid)


async def show(result: ConferenceResult) -> None:
    print(result.conference_sid, len(result.participants), result.error or "complete")
    for problem in result.problems:
        print(result.conference_sid, problem.fault, problem.cursor)


async def main(session: InsightsSession, queue: Queue) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with session:
        await work(session, queue, show, stop)


if __name__ == "__main__":
    asyncio.run(main(InsightsSession.from_env(), MemoryQueue(sys.argv[1:])))
