"""`Call`: the fetching of one page, retrying as the policy allows.

1. Each attempt acquires a slot of the session's limiter, and then of the shared limiter if there is
   one. Both are released as soon as the reply has been read. No slot is held during a wait, neither
   before a retry nor for credentials (with one exception, see `_attempt`). After a 401 the
   credentials are renewed once, if they can be.
2. Only the deadline cuts an attempt off from outside, whatever the attempt is waiting for.
3. An attempt has succeeded once its reply is a page of the list that was asked for, as far as that
   shows before its records are decoded. A reply about another conference, list or participant is
   a failed attempt. Its connection is closed, because every later reply on it would be wrong, too.
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
from ._tracebacks import stripped
from ._transport import Sent
from .errors import (
    AuthenticationError,
    BadRequestError,
    CursorExpiredError,
    InsightsError,
    PermissionDeniedError,
)
from .instrumentation import RequestFinished, RequestStarted, RetryDenied, RetryScheduled

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Generator

    import aiohttp
    import tenacity

    from ._authorization import AuthorizationSource
    from ._credentials import Authorization
    from ._limiter import Limiter
    from ._messages import Request, Response
    from ._paging import Pager, RawPage
    from ._resources import Resource
    from ._retrying import Deadline, RetryPolicy, RetryQuota
    from ._shared_limiter import PermitFactory
    from ._transport import Transport
    from .instrumentation import Event

__all__ = ["Call", "ListContext", "SessionContext", "run_cooperatively"]

T = TypeVar("T")

_UNAUTHORIZED, _TOO_MANY = 401, 429
_SERVER_ERRORS = 500  # the first status of a class


@attrs.frozen(kw_only=True)
class SessionContext:
    """What the calls of all lists of a session share."""

    transport: Transport
    timeouts: aiohttp.ClientTimeout
    """The time limits of one attempt."""
    authorization: AuthorizationSource
    limiter: Limiter
    shared: PermitFactory
    """Gives an async context manager for each attempt."""
    policy: RetryPolicy
    quota: RetryQuota
    rng: random.Random
    emit: Callable[[Event], None]


@attrs.frozen(kw_only=True)
class ListContext:
    """What the calls of one list share."""

    session: SessionContext
    pager: Pager
    resource: Resource[object]
    deadline: Deadline
    resumed: Request | None
    """The first request of a list that is resumed; None for a list from its start."""

    def call(self, request: Request) -> Call:
        """Return the call that fetches the page which `request` asks for."""
        return Call(request, self)


class Call:
    """The fetching of one page."""

    def __init__(self, request: Request, listing: ListContext) -> None:
        """Send nothing yet. A call is made in the event loop that it runs in."""
        session = listing.session
        self.sent: Sent = Sent()
        """Whether the request has been written, or has to wait before that."""
        self._request = request
        self._list = listing
        self._session = session
        self._run = RetryRun(
            session.policy, listing.deadline, session.quota, clock=time.monotonic, rng=session.rng
        )
        self._has_renewed = False

    async def page(self) -> RawPage:
        """Return the page, retrying as the policy allows; to be called once.

        Raises:
            DeadlineExceededError: the deadline of the list has passed.
            CursorExpiredError: Twilio does not know the page that the list was to be resumed on.
            InsightsError: what the last attempt failed with.
        """
        deadline = self._list.deadline
        deadline.start()
        left = deadline.left()
        if left == 0:
            raise self._run.deadline_exceeded()
        timer = asyncio.timeout(None if left == math.inf else left)
        failure: InsightsError | None = None
        try:
            async with timer:
                try:
                    with self._run.recorded():
                        return await self._attempt()
                except InsightsError as error:
                    first = stripped(error)
                return await self._retry(first)
        except (InsightsError, TimeoutError) as error:
            if not timer.expired():
                if not isinstance(error, InsightsError):
                    raise  # a defect
                failure = self._final_error(error)
        raise stripped(failure or self._run.deadline_exceeded())

    async def _retry(self, first: InsightsError) -> RawPage:
        """Return the page, by the attempts that tenacity allows after the first one has failed.

        The first attempt is made without a controller, as most pages need no retry, and a
        controller for each of them costs too much (tests/benchmarks/split.py). tenacity judges it
        like any other.
        """
        retrying = self._run.controller(sleep=asyncio.sleep, before_sleep=self._before_sleep)
        async for attempt in retrying:
            with attempt:
                if attempt.retry_state.attempt_number == 1:
                    raise first  # that attempt has been made
                with self._run.recorded():
                    return await self._attempt()
        raise first  # pragma: no cover - tenacity returns or raises

    async def _attempt(self) -> RawPage:
        """Acquire a slot, send the request, and return the page that its reply is."""
        source = self._session.authorization
        at_hand = source.current()
        authorization = await self._waiting(source.get) if at_hand is None else at_hand
        while True:
            if self._session.limiter.full:
                self.sent.set()  # it has to queue, and nobody should wait for that
            async with self._session.limiter.slot() as slot, self._session.shared():
                at_hand = source.current()
                if at_hand is None and source.retries:
                    # The token has expired in the queue. To queue again could take as long again,
                    # and without a token no other call can use the slot either.
                    at_hand = await self._waiting(source.get)
                authorization = at_hand or authorization
                response = await self._send(self._run.attempt_started(), authorization)
                if response.status == _TOO_MANY:
                    slot.rate_limited()
                elif response.status < _SERVER_ERRORS:
                    slot.succeeded()
            if response.status != _UNAUTHORIZED:
                authorization.accepted = True
                break
            renewed = await self._renewed(authorization)
            if renewed is None:
                break
            authorization = renewed
        reading = page_envelope(
            response, self._request, resource=self._list.resource, now=time.time
        )
        envelope = await run_cooperatively(reading)
        try:
            return self._list.pager.page(self._request, envelope, response.request_id)
        except InsightsError as error:
            if error.transient:
                response.close_connection()
            raise

    async def _renewed(self, refused: Authorization) -> Authorization | None:
        """Return another header after a 401, once a page; None if there is none."""
        if self._has_renewed:
            return None
        self._has_renewed = True
        source, outcome = self._session.authorization, f"HTTP {_UNAUTHORIZED}"
        try:
            renewed = await self._waiting(functools.partial(source.renewed, refused))
        except InsightsError:
            self._run.record_refusal(outcome)
            raise
        if renewed is not None:
            self._run.record_refusal(outcome)
            self._emit_retry()
        return renewed

    async def _waiting(self, ask: Callable[[float | None], Awaitable[T]]) -> T:
        """Wait for what the source of the header returns."""
        self._session.transport.check(self._request)  # before any secret is asked for
        retries = self._session.authorization.retries
        if retries:
            self.sent.set()  # it takes a request of its own
        try:
            return await ask(self._session.timeouts.total)
        except InsightsError as error:
            error.conference_sid = self._request.conference_sid
            if retries:
                self._run.stop()
            raise

    async def _send(self, seconds: float, authorization: Authorization) -> Response:
        """Send the request, and emit the events of the attempt's start and end."""
        began = time.monotonic()
        self._session.emit(
            RequestStarted(
                conference_sid=self._request.conference_sid,
                attempt=len(self._run.attempts) + 1,
                path=self._list.resource.path,
            )
        )
        try:
            response = await self._session.transport.send(
                self._request,
                authorization,
                timeouts=self._session.timeouts,
                seconds=seconds,
                sent=self.sent,
            )
        except BaseException as error:
            # GeneratorExit: the event loop was closed, and nothing runs the task any more.
            cancelled = isinstance(error, (asyncio.CancelledError, GeneratorExit))
            self._emit_finished("cancelled" if cancelled else type(error).__name__, began)
            raise
        self._emit_finished(f"HTTP {response.status}", began, response)
        return response

    def _emit_finished(self, outcome: str, began: float, response: Response | None = None) -> None:
        self._session.emit(
            RequestFinished(
                conference_sid=self._request.conference_sid,
                attempt=len(self._run.attempts) + 1,
                outcome=outcome,
                seconds=time.monotonic() - began,
                status=None if response is None else response.status,
                bytes=0 if response is None else len(response.body),
                request_id=None if response is None else response.request_id,
                concurrent_requests=None if response is None else response.concurrent_requests,
                path=self._list.resource.path,
            )
        )

    def _before_sleep(self, _state: tenacity.RetryCallState) -> None:
        """Note and report the retry that follows; tenacity calls it before the wait."""
        self.sent.set()  # nobody should wait for a request that is put off
        self._run.record_retry()
        self._emit_retry()

    def _emit_retry(self) -> None:
        latest = self._run.attempts[-1]
        self._session.emit(
            RetryScheduled(
                conference_sid=self._request.conference_sid,
                attempt=len(self._run.attempts),
                reason=latest.outcome,
                delay=latest.delay or 0.0,
                path=self._list.resource.path,
            )
        )

    def _final_error(self, error: InsightsError) -> InsightsError:
        """Return what the page fails with, where its last attempt failed with `error`."""
        failure = self._run.final_error(error)
        if self._run.denied:
            self._session.emit(
                RetryDenied(
                    conference_sid=self._request.conference_sid,
                    attempt=len(self._run.attempts),
                    reason=self._run.attempts[-1].outcome,
                    path=self._list.resource.path,
                )
            )
        refused = isinstance(failure, (AuthenticationError, PermissionDeniedError))
        advice = self._session.authorization.advice
        if refused and advice and not self._run.stopped:
            failure.args = (f"{failure} {advice}",)
        if (
            isinstance(failure, BadRequestError)
            and self._request is self._list.resumed
            and "PageToken=" in self._request.query
        ):
            return _cursor_expired(failure)
        return failure


def _cursor_expired(error: BadRequestError) -> CursorExpiredError:
    message = (
        f"HTTP {error.status}: Twilio does not accept the page token of the cursor any more. "
        "Start the list again from its first record, without resume."
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


async def run_cooperatively(steps: Generator[None, None, T]) -> T:
    """Return the result of a generator; the event loop runs other tasks after each `yield`."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("T", end.value)
        await asyncio.sleep(0)
