"""One page, by as many attempts as it takes: slots, deadlines and retries around the transport.

1. Each attempt takes a slot of the session's limiter, and within it of a shared one, where there is
   one. Both are free again as the reply is there; nothing is held during a wait.
2. The deadline, and no other bound, cuts an attempt off from outside, whatever it waits for.
3. A page whose body proves bad after the fact is fetched again by the run that fetched it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs

from ._responses import page_envelope
from ._retrying import RetryRun
from .errors import InsightsError
from .events import RequestFinished, RequestStarted, RetryDenied, RetryScheduled

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator
    from contextlib import AbstractAsyncContextManager

    from ._decoding import ChunkDecoder, Envelope
    from ._limiter import Limiter
    from ._messages import Request, Response
    from ._paging import Pager, RawPage
    from ._retrying import Deadline, RetryPolicy, RetryQuota
    from ._transport import Transport
    from .errors import Attempt, ResponseError
    from .events import Event

__all__ = ["Fetcher", "PageSource"]

T = TypeVar("T")

_TOO_MANY, _SERVER_ERRORS = 429, 500  # the one status, and the first of the class


@attrs.frozen(kw_only=True)
class Fetcher:
    """What all lists of a session have in common, to fetch their pages with."""

    transport: Transport
    limiter: Limiter
    shared: Callable[[], AbstractAsyncContextManager[Any]]
    """Gives a context for each attempt, within its slot."""
    retry: RetryPolicy
    quota: RetryQuota
    rng: random.Random
    tell: Callable[[Event], None]
    decode: ChunkDecoder | None
    """What decodes records; None for `json`."""

    def run(self, until: Deadline) -> RetryRun:
        """Return a run of attempts, none of them made yet."""
        return RetryRun(self.retry, until, self.quota, clock=time.monotonic, rng=self.rng)

    async def envelope(
        self,
        request: Request,
        key: str,
        run: RetryRun,
        until: Deadline,
        departed: Callable[[], None],
    ) -> tuple[Envelope, str | None]:
        """Return the envelope that answers a request, and its id, after as many attempts.

        Args:
            request: for a page.
            key: the member of the body that holds the records.
            run: the attempts made, and those to make.
            until: the end of the time for the whole list.
            departed: called once the request is on the wire, or cannot be yet.

        Raises:
            InsightsError: what the last attempt failed with, or the deadline passed.
        """
        left = until.left()
        failure: InsightsError | TimeoutError = TimeoutError()
        if left > 0:
            try:
                async with asyncio.timeout(left) if left < math.inf else contextlib.nullcontext():
                    return await run.result_of(
                        functools.partial(self._attempt, request, key, run, departed),
                        sleep=asyncio.sleep,
                        before_sleep=functools.partial(_waiting, self.tell, request, run, departed),
                    )
            except (InsightsError, TimeoutError) as error:
                failure = error
        if run.denied is not None:
            self.tell(
                RetryDenied(
                    conference_sid=request.conference_sid,
                    attempt=len(run.attempts),
                    reason=run.denied,
                )
            )
        raise run.verdict(failure)

    async def _attempt(
        self, request: Request, key: str, run: RetryRun, departed: Callable[[], None]
    ) -> tuple[Envelope, str | None]:
        if self.limiter.full:
            departed()  # it cannot leave yet, and nobody should wait for that
        async with self.limiter.slot() as slot, self.shared():
            seconds = run.begin()
            response = await self.send(request, len(run.attempts) + 1, seconds, departed)
            if response.status == _TOO_MANY:
                slot.refused()
            elif response.status < _SERVER_ERRORS:
                slot.succeeded()
        reading = page_envelope(response, request, key=key, decode=self.decode, now=time.time)
        return await _unhurried(reading), response.request_id

    async def send(
        self, request: Request, attempt: int, seconds: float, departed: Callable[[], None]
    ) -> Response:
        """Make an attempt, and tell of its beginning and its end."""
        sid, began = request.conference_sid, time.monotonic()
        finished = functools.partial(RequestFinished, conference_sid=sid, attempt=attempt)
        self.tell(RequestStarted(conference_sid=sid, attempt=attempt))
        try:
            response = await self.transport.send(request, seconds=seconds, departed=departed)
        except BaseException as error:
            # The latter where its loop was closed under it, and nothing will run it any more.
            cancelled = isinstance(error, (asyncio.CancelledError, GeneratorExit))
            outcome = "cancelled" if cancelled else type(error).__name__
            self.tell(finished(outcome=outcome, seconds=time.monotonic() - began))
            raise
        self.tell(
            finished(
                outcome=f"HTTP {response.status}",
                status=response.status,
                seconds=time.monotonic() - began,
                bytes=len(response.body),
                request_id=response.request_id,
            )
        )
        return response


@attrs.frozen
class PageSource:
    """Fetches the pages of one list."""

    fetcher: Fetcher
    pager: Pager
    key: str
    until: Deadline

    async def fetch(self, request: Request, departed: Callable[[], None]) -> RawPage:
        """Return the page that answers a request; see `Fetcher.envelope`."""
        return await self._page(request, self.fetcher.run(self.until), departed)

    async def _again(
        self,
        request: Request,
        run: RetryRun,
        damage: ResponseError,
        departed: Callable[[], None],
        /,
    ) -> RawPage:
        """Return a page once more, after what came of the last attempt proved bad."""
        run.undo(damage)
        return await self._page(request, run, departed)

    async def _page(self, request: Request, run: RetryRun, departed: Callable[[], None]) -> RawPage:
        envelope, request_id = await self.fetcher.envelope(
            request, self.key, run, self.until, departed
        )
        again = functools.partial(self._again, request, run)
        return self.pager.page(request, envelope, request_id, again=again)


def _waiting(
    tell: Callable[[Event], None],
    request: Request,
    run: RetryRun,
    departed: Callable[[], None],
    attempt: Attempt,
) -> None:
    """Tell of the wait after an attempt. No method, as a controller is a circle, and holds this."""
    departed()
    tell(
        RetryScheduled(
            conference_sid=request.conference_sid,
            attempt=len(run.attempts),
            reason=attempt.outcome,
            delay=attempt.delay or 0.0,
        )
    )


async def _unhurried(steps: Generator[None, None, T]) -> T:
    """Return what the steps lead to, and give the loop a turn after each."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("T", end.value)
        await asyncio.sleep(0)
