"""Fetch the conferences that a queue names: `python queue_worker.py CF… CF…`; SIGTERM stops it."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Protocol

import attrs

from aioparticipants import (
    ConferenceResult,
    CursorExpiredError,
    InsightsError,
    InsightsSession,
    NotFoundError,
    PaginationError,
    Participant,
    ResponseError,
)

SETTLING = 1800.0  # seconds: what Twilio may take for a conference's summaries, typically
TRIES = 48  # of which each waits so long: Twilio gives summaries up after 24 hours

#: Takes what a conference led to, and a note of each record in it that could not be read.
Store = Callable[[ConferenceResult, list[str]], Awaitable[None]]


class Queue(Protocol):
    """What is needed of a queue: SQS, Redis Streams and PostgreSQL can all do it."""

    async def take(self) -> str: ...
    def times_taken(self, sid: str) -> int: ...
    async def acknowledge(self, sid: str) -> None: ...
    async def put_back(self, sid: str, *, seconds: float) -> None: ...


async def work(session: InsightsSession, queue: Queue, store: Store, stop: asyncio.Event) -> None:
    """Serve the queue until told to stop, and then finish what was taken.

    If it is killed instead, what was not acknowledged is the queue's to hand out again.
    """
    async with session.fan_out(taken(queue, stop)) as results:
        async for result in results:
            whole, bad_records = await behind_bad_records(session, result)
            seconds = seconds_to_wait(whole, queue.times_taken(whole.conference_sid))
            if seconds is None:
                await store(whole, bad_records)
                await queue.acknowledge(whole.conference_sid)
            else:
                await queue.put_back(whole.conference_sid, seconds=seconds)


def seconds_to_wait(result: ConferenceResult, times_taken: int) -> float | None:
    """Return when to ask for a conference anew; None where that would change nothing."""
    error = result.error
    if error is not None and error.transient:
        return getattr(error, "retry_after", None) or 30.0
    if result.settled or times_taken >= TRIES:
        return None
    # Complete, and not settled; or not there yet; or a list that changed while it was read.
    may_pass = (NotFoundError, PaginationError, CursorExpiredError)
    return SETTLING if error is None or isinstance(error, may_pass) else None


async def behind_bad_records(
    session: InsightsSession, result: ConferenceResult
) -> tuple[ConferenceResult, list[str]]:
    """Return a result with the records behind those that could not be read; and notes of these."""
    participants, error, bad_records = [*result.participants], result.error, list[str]()
    while isinstance(error, ResponseError) and error.cursor_after:
        bad_records.append(str(error))
        rest, error = await rest_of(session, result.conference_sid, error.cursor_after)
        participants += rest
    return attrs.evolve(result, participants=tuple(participants), error=error), bad_records


async def rest_of(
    session: InsightsSession, sid: str, cursor: str
) -> tuple[list[Participant], InsightsError | None]:
    """Return the records from a cursor on, and why there are no more, if it is not the end."""
    participants = list[Participant]()
    try:
        async for page in session.participants(sid, resume=cursor).pages():
            participants += page.records
    except InsightsError as error:
        return participants, error
    return participants, None


async def taken(queue: Queue, stop: asyncio.Event) -> AsyncIterator[str]:
    """Take SIDs as the fan-out has room for them, until told to stop."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            taking = asyncio.ensure_future(queue.take())
            try:
                await asyncio.wait([taking, stopping], return_when=asyncio.FIRST_COMPLETED)
            finally:
                taking.cancel()  # does nothing to one that is done
            if taking.done():
                yield taking.result()
    finally:
        stopping.cancel()


class MemoryQueue:
    """Stands in for yours, so that this runs."""

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


async def show(result: ConferenceResult, bad_records: list[str]) -> None:
    print(result.conference_sid, len(result.participants), result.error or "complete", *bad_records)


async def main(session: InsightsSession, queue: Queue) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with session:
        await work(session, queue, show, stop)


if __name__ == "__main__":
    asyncio.run(main(InsightsSession.from_env(), MemoryQueue(sys.argv[1:])))
