"""Where the `Authorization` header of an attempt comes from, for each kind of credentials.

1. `current()` is the header that is at hand, and costs no turn of the event loop. Only where there
   is none, a call waits for `get()`. It does so before it asks for a slot of the limiter: a slot
   stands for a request to Twilio, and would be held for nothing. (Only a token that expires while
   the call queues is replaced with the slot held.)
2. A token is requested by one task of the session (single flight), however many calls wait for it.
   A waiter that is cancelled leaves the task alone; closing the session cancels it. Its attempts
   follow the session's retry policy, and draw on its quota.
3. A token is renewed when a fifth of its lifetime is left, by a task in the background: calls go on
   with the present one, also if that fails, until it expires. The lifetime counts from before the
   token was requested, by a clock that never goes back.
4. After a 401, `renewed` returns another header, or None if there is none to try. A call asks for
   it once. If another call has already got another token, that one is used. The refused token is
   not given up meanwhile, as Twilio also answers 401 for a conference.
5. If Twilio refuses the new token as well, before any other answer to it, a further one would not
   help: the 401 stands, for all calls. After a pause another token is tried.
6. What gets a header (a provider, a trace hook of the token request) must not use the session: its
   call would wait for that header, or ask the provider again, without end. It gets an error.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import math
import time
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from ._credentials import (
    Authorization,
    ClientCredentials,
    Credentials,
    checked_authorization,
)
from ._oauth import access_token, of_token_request
from ._tasks import session_closed
from ._tracebacks import stripped
from ._transport_errors import cancellation_behind
from .errors import (
    APIStatusError,
    InsightsError,
    InvalidRequestError,
    RequestTimeoutError,
    TransportError,
    copied,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._credentials import CredentialsProvider
    from ._oauth import AccessToken
    from ._retrying import RetryRun
    from ._tasks import SessionTasks
    from ._transport import Transport

__all__ = ["AuthorizationSource", "Constant", "Provided", "Tokens", "authorization_source"]

_LOGGER: Final = logging.getLogger("aioparticipants")

#: The name of the task that requests a token, for whoever looks at a loop's tasks.
_TASK: Final = "aioparticipants token"

#: The shares of a token's lifetime after which it is renewed, and to wait after that has failed.
_RENEW_AFTER: Final = 0.8
_PAUSE_SHARE: Final = 0.02
#: Seconds to wait at least, after a renewal has failed, or has not helped.
_FAILED_PAUSE: Final = 1.0
_REFUSED_PAUSE: Final = 30.0


class _Getting:
    """Marks the context in which a source gets a header, and that of all tasks started there."""

    __slots__ = ("_outer", "_source")

    def __init__(self, source: object) -> None:
        """Mark the current context, until the end of the `with` block."""
        self._source: object = source
        self._outer = _getting.get()

    def __enter__(self) -> None:
        """Set the mark."""
        _getting.set(self)

    def __exit__(self, *_exc: object) -> None:
        """Remove the mark, also for tasks that go on."""
        self._source = None
        _getting.set(self._outer)

    def includes(self, source: object) -> bool:
        """Return whether `source` gets a header here."""
        return self._source is source or (self._outer is not None and self._outer.includes(source))


_getting: Final[contextvars.ContextVar[_Getting | None]] = contextvars.ContextVar(
    "_getting", default=None
)


def _refuse_reentry(source: object) -> None:
    """Raise InvalidRequestError if this call comes from what gets a header for `source`."""
    mark = _getting.get()
    if mark is not None and mark.includes(source):
        message = (
            "What gets the session's credentials uses the session itself, which waits for them: "
            "give the credentials provider or trace hook a client of its own."
        )
        raise InvalidRequestError(message)


class AuthorizationSource(Protocol):
    """Gives each attempt its `Authorization` header."""

    retries: bool
    """Whether it sends requests of its own, and has retried what `get` fails with."""
    advice: str
    """What to add to the message where Twilio refuses what it gave (401, 403)."""

    def current(self) -> Authorization | None:
        """Return the header that is at hand, None if `get` must be awaited."""
        ...

    async def get(self, seconds: float | None, /) -> Authorization:
        """Wait for a header; `seconds` is what one attempt may take."""
        ...

    async def renewed(
        self, refused: Authorization, seconds: float | None, /
    ) -> Authorization | None:
        """Return another header after a 401; None if there is none to try."""
        ...


def authorization_source(
    credentials: Credentials | ClientCredentials | CredentialsProvider,
    *,
    transport: Transport,
    tasks: SessionTasks,
    new_run: Callable[[], RetryRun],
) -> AuthorizationSource:
    """Return the source for credentials.

    Args:
        credentials: as they were given to the session.
        transport: sends token requests.
        tasks: the session's tasks.
        new_run: returns what judges the attempts at one token request.
    """
    match credentials:
        case Credentials():
            return Constant(credentials)
        case ClientCredentials():
            return Tokens(credentials, transport=transport, tasks=tasks, new_run=new_run)
        case _:
            return Provided(credentials)


class Constant:
    """One header for all attempts: HTTP Basic."""

    retries: bool = False
    advice: str = ""

    def __init__(self, credentials: Credentials) -> None:
        """Build the header once."""
        self._authorization = Authorization(
            credentials.authorization(), password=credentials.password
        )

    def current(self) -> Authorization:
        """Return the header."""
        return self._authorization

    async def get(self, _seconds: float | None = None, /) -> Authorization:
        """Return the header."""
        return self._authorization

    async def renewed(self, _refused: Authorization, _seconds: float | None = None, /) -> None:
        """Return None: there is no other."""


class Provided:
    """The headers of a `CredentialsProvider`, which is asked for each attempt."""

    retries: bool = False
    advice: str = ""

    def __init__(self, provider: CredentialsProvider) -> None:
        """Ask `provider`."""
        self._provider = provider

    def current(self) -> None:
        """Return None: the provider keeps what is to be kept."""

    async def get(self, seconds: float | None, /) -> Authorization:
        """Ask the provider, and wait at most `seconds` for it.

        Raises:
            TransportError: the provider raised an exception, which is the error's `__cause__`.
            RequestTimeoutError: it did not answer in time.
            InvalidRequestError: it returned nothing that can be sent, or uses the session itself.
            InsightsError: whatever error of this package it raised.
        """
        _refuse_reentry(self)
        timer = asyncio.timeout(seconds)
        try:
            with _Getting(self):
                async with timer:
                    return checked_authorization(await self._answer())
        except InsightsError:
            raise
        except Exception as error:
            if not timer.expired():
                if (cancelled := cancellation_behind(error)) is not None:
                    raise cancelled from None  # it answers its cancellation by an error
                raise _provider_failed(error) from error
        except asyncio.CancelledError as error:
            # Not a cancellation of this task: what the provider waits for was cancelled.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise _provider_failed(error) from error
        message = (
            f"The credentials provider did not answer within {seconds} s; the session's "
            "`timeout` sets the seconds. Check what it waits for."
        )
        raise RequestTimeoutError(message)

    async def renewed(
        self, refused: Authorization, seconds: float | None, /
    ) -> Authorization | None:
        """Ask the provider once more; return None if it has no other header."""
        latest = await self.get(seconds)
        return None if latest.header == refused.header else latest

    async def _answer(self) -> object:
        answer: object = self._provider.authorization()
        if not inspect.isawaitable(answer):
            message = "The credentials provider's authorization() must be `async def`."
            raise InvalidRequestError(message)
        return await answer


def _provider_failed(error: BaseException) -> TransportError:
    message = (
        f"The credentials provider failed ({type(error).__name__}): see the error's __cause__, "
        "and whether what it asks can be reached."
    )
    return TransportError(message)


@attrs.frozen
class _Token:
    """A token, with the times at which it is renewed, and at which it has expired."""

    authorization: Authorization = attrs.field(repr=False)
    renew_at: float
    expires_at: float
    pause: float
    """Seconds to wait after a renewal has failed."""


class Tokens:
    """The access tokens for client credentials: one at a time, for all calls of a session."""

    retries: bool = True
    advice: str = (
        "The request had an OAuth token. No page of Twilio's says that Voice Insights accepts one: "
        "check the scopes and the account of the OAuth app, or use an API key."
    )

    def __init__(
        self,
        credentials: ClientCredentials,
        *,
        transport: Transport,
        tasks: SessionTasks,
        new_run: Callable[[], RetryRun],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Request no token yet; `clock` gives seconds that never go back."""
        self._credentials = credentials
        self._transport = transport
        self._tasks = tasks
        self._new_run = new_run
        self._clock = clock
        self._token: _Token | None = None
        self._task: asyncio.Task[_Token] | None = None
        #: When a renewal ahead of the expiry, and one after a 401, may be tried again.
        self._next_renewal = self._next_forced = -math.inf
        #: The header that a renewal after a 401 has brought.
        self._forced: Authorization | None = None

    def current(self) -> Authorization | None:
        """Return the header of the token unless it has expired; renew it if it is time to."""
        token = self._token
        if token is None:
            return None
        now = self._clock()
        if now >= token.renew_at:
            if now >= token.expires_at:
                return None
            if now >= self._next_renewal and not self._is_requesting and not self._tasks.closed:
                _ = self._start()  # in the background
        return token.authorization

    async def get(self, _seconds: float | None = None, /) -> Authorization:
        """Return the header, and request a token if there is none that has not expired.

        The token request has the time limits of the session that made this, as all calls share it.

        Raises:
            InsightsError: the token request failed; or the session is closed.
        """
        return self.current() or (await self._requested()).authorization

    async def renewed(
        self, refused: Authorization, _seconds: float | None = None, /
    ) -> Authorization | None:
        """Return the header of another token than the refused one, if there is one to try.

        Raises:
            InsightsError: the token request failed; or the session is closed.
        """
        latest = self.current()
        if latest is not None and latest.header != refused.header:
            return latest  # another call has got it
        if self._is_in_vain(refused):
            return None
        latest = (await self._requested()).authorization
        self._forced, self._next_forced = latest, self._clock() + _REFUSED_PAUSE
        return None if latest.header == refused.header else latest

    def _is_in_vain(self, refused: Authorization) -> bool:
        """Return whether the refused token came of a refusal itself, and was never accepted."""
        forced = self._forced
        if forced is None or forced.header != refused.header or forced.accepted:
            return False
        return self._clock() < self._next_forced

    @property
    def _is_requesting(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _requested(self) -> _Token:
        """Wait for the token that is being requested, or for a new one."""
        _refuse_reentry(self)
        task = self._task if self._task is not None and self._is_requesting else self._start()
        await asyncio.wait([task])  # not the task itself, as a waiter may be cancelled alone
        if task.cancelled():
            if self._tasks.closed:
                raise session_closed()
            message = (
                "The task that requested an OAuth token was cancelled from outside; "
                "see what cancels all tasks."
            )
            raise TransportError(message)
        failure = task.exception()
        if isinstance(failure, InsightsError):
            raise copied(failure)  # as each waiter adds what it knows
        return task.result()  # raises a defect

    def _start(self) -> asyncio.Task[_Token]:
        """Start the task that requests a token."""
        self._task = self._tasks.start(self._request, contextvars.copy_context(), _TASK)
        return self._task

    async def _request(self) -> _Token:
        """Request a token, and keep it; retry as the policy allows."""
        run = self._new_run()
        retrying = run.controller(
            sleep=asyncio.sleep, before_sleep=lambda _state: run.record_retry()
        )
        try:
            with _Getting(self):
                async for attempt in retrying:
                    with attempt, run.recorded():
                        return await self._attempt(run.attempt_started())
            raise AssertionError  # pragma: no cover - tenacity returns or raises
        except InsightsError as error:
            failure = run.final_error(error)
        raise stripped(self._failed(failure))

    async def _attempt(self, seconds: float) -> _Token:
        began = self._clock()
        try:
            response = await self._transport.request_token(self._credentials, seconds=seconds)
            token = access_token(response, now=time.time)
        except InsightsError as error:
            failure = of_token_request(error)
        else:
            return self._kept(token, began)
        raise stripped(failure)

    def _kept(self, token: AccessToken, began: float) -> _Token:
        _LOGGER.debug("OAuth: a token for %.0f s was issued", token.lifetime)
        self._token = _Token(
            token.authorization,
            renew_at=began + _RENEW_AFTER * token.lifetime,
            expires_at=began + token.lifetime,
            pause=max(_FAILED_PAUSE, _PAUSE_SHARE * token.lifetime),
        )
        return self._token

    def _failed(self, failure: InsightsError) -> InsightsError:
        """Note that the token request has failed, and return the error."""
        status = f" {failure.status}" if isinstance(failure, APIStatusError) else ""
        name, token, now = type(failure).__name__, self._token, self._clock()
        if token is None or now >= token.expires_at:
            return failure
        asked = failure.retry_after if isinstance(failure, APIStatusError) else None
        self._next_renewal = now + max(token.pause, asked or 0.0)
        _LOGGER.warning(
            "OAuth: renewing the token failed (%s%s); it is used until it expires, in %.0f s",
            name,
            status,
            token.expires_at - now,
        )
        return failure
