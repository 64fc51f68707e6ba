"""One page, by as many attempts as it takes: slots, deadlines and retries around the transport.

1. Each attempt takes a slot of the session's limiter, and within it of a shared one, where there is
   one. Both are free again as the reply is there; nothing is held during a wait.
2. The deadline, and no other bound, cuts an attempt off from outside, whatever it waits for.
3. An attempt has succeeded once its reply is a page of the very list that was asked for, as far as
   that can be seen before its records are decoded. What answers for another conference has failed,
   and its connection is closed, as the next answer on it would be wrong, too.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from typing import TYPE_CHECKING, TypeVar, cast

import attrs

from ._responses import page_envelope
from ._retrying import RetryRun
from .errors import BadRequestError, CursorExpiredError, InsightsError
from .instrumentation import RequestFinished, RequestStarted, RetryDenied, RetryScheduled

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator

    from ._limiter import Limiter
    from ._messages import Request, Response
    from ._paging import Pager, RawPage
    from ._resources import Resource
    from ._retrying import Deadline, RetryPolicy, RetryQuota
    from ._shared_limiter import SharedLimiter
    from ._transport import Transport
    from .errors import Attempt
    from .instrumentation import Event

__all__ = ["Fetcher", "PageSource"]

T = TypeVar("T")

_TOO_MANY, _SERVER_ERRORS = 429, 500  # the one status, and the first of the class


@attrs.frozen(kw_only=True)
class Fetcher:
    """What all lists of a session have in common, to fetch their pages with."""

    transport: Transport
    limiter: Limiter
    shared: SharedLimiter
    """Gives a context for each attempt, within its slot."""
    retry: RetryPolicy
    quota: RetryQuota
    rng: random.Random
    emit: Callable[[Event], None]

    async def page(
        self,
        request: Request,
        pager: Pager,
        *,
        resource: Resource[object],
        until: Deadline,
        departed: Callable[[], None],
    ) -> RawPage:
        """Return the page that answers a request, retrying as the policy allows.

        Args:
            request: for a page.
            pager: of its list.
            resource: whose list it is.
            until: the end of the time for the whole list.
            departed: called once the request is on the wire, or cannot be yet.

        Raises:
            InsightsError: what the last attempt failed with, or the deadline passed.
        """
        run = RetryRun(self.retry, until, self.quota, clock=time.monotonic, rng=self.rng)
        until.start()
        left = until.left()
        failure: InsightsError | None = None
        if left > 0:
            timer = asyncio.timeout(None if left == math.inf else left)
            try:
                async with timer:
                    return await run.result_of(
                        functools.partial(self._attempt, request, pager, resource, run, departed),
                        sleep=asyncio.sleep,
                        before_sleep=functools.partial(_waiting, self.emit, request, run, departed),
                    )
            except (InsightsError, TimeoutError) as error:
                # Asked of the timer: a TimeoutError can come from anywhere.
                if timer.expired():
                    failure = None
                elif isinstance(error, InsightsError):
                    failure = error
                else:
                    raise
        if run.denied is not None:
            self.emit(
                RetryDenied(
                    conference_sid=request.conference_sid,
                    attempt=len(run.attempts),
                    reason=run.denied,
                )
            )
        raise run.final_error(failure)

    async def _attempt(
        self,
        request: Request,
        pager: Pager,
        resource: Resource[object],
        run: RetryRun,
        departed: Callable[[], None],
    ) -> RawPage:
        if self.limiter.full:
            departed()  # it cannot leave yet, and nobody should wait for that
        async with self.limiter.slot() as slot, self.shared():
            seconds = run.begin()
            response = await self.send(request, len(run.attempts) + 1, seconds, departed)
            if response.status == _TOO_MANY:
                slot.rate_limited()
            elif response.status < _SERVER_ERRORS:
                slot.succeeded()
        reading = page_envelope(response, request, resource=resource, now=time.time)
        envelope = await _unhurried(reading)
        try:
            return pager.page(request, envelope, response.request_id)
        except InsightsError as error:
            failure = error.with_traceback(None)
        if failure.transient:
            response.close_connection()
        raise failure

    async def send(
        self, request: Request, attempt: int, seconds: float, departed: Callable[[], None]
    ) -> Response:
        """Make an attempt, and tell of its beginning and its end."""
        sid, began = request.conference_sid, time.monotonic()
        finished = functools.partial(RequestFinished, conference_sid=sid, attempt=attempt)
        self.emit(RequestStarted(conference_sid=sid, attempt=attempt))
        try:
            response = await self.transport.send(request, seconds=seconds, departed=departed)
        except BaseException as error:
            # The latter where its loop was closed under it, and nothing will run it any more.
            cancelled = isinstance(error, (asyncio.CancelledError, GeneratorExit))
            outcome = "cancelled" if cancelled else type(error).__name__
            self.emit(finished(outcome=outcome, seconds=time.monotonic() - began))
            raise
        self.emit(
            finished(
                outcome=f"HTTP {response.status}",
                status=response.status,
                seconds=time.monotonic() - began,
                bytes=len(response.body),
                request_id=response.request_id,
            )
        )
        return response


@attrs.frozen(kw_only=True)
class PageSource:
    """Fetches the pages of one list."""

    fetcher: Fetcher
    pager: Pager
    resource: Resource[object]
    until: Deadline
    resumed: Request | None
    """The request that a resumed list begins with; None for a list from its start."""

    async def fetch(self, request: Request, departed: Callable[[], None]) -> RawPage:
        """Return the page that answers a request; see `Fetcher.page`.

        Raises:
            CursorExpiredError: Twilio does not know the page that the list was to be resumed on.
        """
        try:
            return await self.fetcher.page(
                request, self.pager, resource=self.resource, until=self.until, departed=departed
            )
        except BadRequestError as error:
            failure = error.with_traceback(None)
        if request is self.resumed and "PageToken=" in request.query:
            failure = _cursor_expired(failure)
        raise failure


def _cursor_expired(error: BadRequestError) -> CursorExpiredError:
    message = (
        f"HTTP {error.status}: Twilio does not accept the page token of the cursor any more. "
        "Begin the conference anew, without resume."
    )
    return CursorExpiredError(
        message,
        status=error.status,
        code=error.code,
        message=error.message,
        more_info=error.more_info,
        details=error.details,
        retry_after=error.retry_after,
        conference_sid=error.conference_sid,
        request_id=error.request_id,
        attempts=error.attempts,
    )


def _waiting(
    emit: Callable[[Event], None],
    request: Request,
    run: RetryRun,
    departed: Callable[[], None],
    attempt: Attempt,
) -> None:
    """Tell of the wait after an attempt. No method, as a controller is a circle, and holds this."""
    departed()
    emit(
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
