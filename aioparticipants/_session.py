"""`InsightsSession`: lifecycle and wiring; the one place that knows every other room."""

from __future__ import annotations

import asyncio
import functools
import math
import os
import random
import time
import warnings
from typing import TYPE_CHECKING, Final, Self, TypedDict, Unpack, cast

from . import _structuring
from ._credentials import Credentials, credentials_from, credentials_from_env
from ._cursors import cursor_of, resumed
from ._paging import Pager, RawPage
from ._requests import base_url_from, checked_limit, checked_proxy, first_page
from ._responses import page_envelope
from ._retrying import Deadline, RetryPolicy, RetryRun
from ._speed import find_participants
from ._stream import PageTasks, RecordStream, settle, unhurried
from ._transport import Transport, checked_http, client_timeout
from .errors import InsightsError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import aiohttp

    from ._decoding import Envelope, Finder
    from ._messages import Request
    from .errors import ResponseError
    from .models import Participant

__all__ = ["InsightsSession", "SessionOptions"]

#: Attempts in flight at once. Twilio refuses by concurrency, with a ceiling that no document names;
#: this stays well below what a default account is reported to allow.
_MAX_CONCURRENCY: Final = 16

_PARTICIPANTS: Final = "participants"


class SessionOptions(TypedDict, total=False):
    """What `InsightsSession` takes besides the credentials."""

    base_url: str | None
    region: str | None
    edge: str | None
    retry: RetryPolicy
    timeout: float | aiohttp.ClientTimeout | None
    max_concurrency: int
    http: aiohttp.ClientSession | None
    proxy: str | None
    trace_configs: Sequence[aiohttp.TraceConfig]


class InsightsSession:
    """A client of Twilio Voice Insights' conference participants.

    It can be built anywhere, also outside an event loop: nothing is opened before the first
    request. Close it with `async with` or `aclose()`. It serves any number of tasks of one loop.

    Args:
        credentials: `(username, password)`: Account SID and Auth Token, or API key SID and
            secret; or `Credentials`.
        base_url: the origin to talk to, https, or http on a loopback host; default
            `https://insights.twilio.com`.
        region: a Twilio region (`"ie1"`), whose keys the credentials must be; needs `edge`.
        edge: a Twilio edge (`"dublin"`); alone it means region us1.
        retry: when a failed request is tried again.
        timeout: seconds for one attempt in all, or an `aiohttp.ClientTimeout` with a total;
            default 30 in all, 10 to connect, 20 without a byte.
        max_concurrency: attempts in flight at once, of the whole session.
        http: an `aiohttp.ClientSession` to borrow; it is never closed here. It must have no `auth`
            of its own. Its cookies and `trust_env` apply, as it is the owner's to set.
        proxy: the URL of an HTTP proxy; the environment's proxies are not used. With an http
            base URL it must be on a loopback host, as it sees what is sent.
        trace_configs: `aiohttp.TraceConfig`s for the session that is made here.

    Raises:
        InvalidRequestError: an argument cannot be used.
    """

    def __init__(
        self,
        credentials: Credentials | tuple[str, str],
        *,
        base_url: str | None = None,
        region: str | None = None,
        edge: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | aiohttp.ClientTimeout | None = None,
        max_concurrency: int = _MAX_CONCURRENCY,
        http: aiohttp.ClientSession | None = None,
        proxy: str | None = None,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
    ) -> None:
        """See the class."""
        self._tasks = PageTasks()
        self._find: Finder | None = find_participants
        whole = type(cast("object", max_concurrency)) is int  # a bool is one by isinstance
        _require(whole and max_concurrency >= 1, _CONCURRENCY_ADVICE)
        _require(retry is None or isinstance(cast("object", retry), RetryPolicy), _RETRY_ADVICE)
        checked_http(http, trace_configs)
        self._base_url = base_url_from(base_url, region=region, edge=edge)
        self._retry = RetryPolicy() if retry is None else retry
        self._slots = asyncio.Semaphore(max_concurrency)
        self._rng = random.Random()  # noqa: S311 - jitter, not a secret
        self._transport = Transport(
            self._base_url,
            credentials_from(credentials),
            timeout=client_timeout(timeout),
            connections=max_concurrency,
            http=http,
            proxy=checked_proxy(proxy, base_url=self._base_url),
            trace_configs=trace_configs,
        )

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] = os.environ, **options: Unpack[SessionOptions]
    ) -> Self:
        """Return a session for the credentials in the environment.

        `TWILIO_API_KEY` and `TWILIO_API_SECRET`, else `TWILIO_ACCOUNT_SID` and
        `TWILIO_AUTH_TOKEN`; `TWILIO_REGION` and `TWILIO_EDGE` unless `options` say where to go.

        Raises:
            InvalidRequestError: a variable is missing, and is named; or an option cannot be used.
        """
        if not {"base_url", "region", "edge"} & options.keys():
            options["region"] = environ.get("TWILIO_REGION") or None
            options["edge"] = environ.get("TWILIO_EDGE") or None
        return cls(credentials_from_env(environ), **options)

    def participants(
        self,
        conference_sid: str,
        *,
        participant_sid: str | None = None,
        label: str | None = None,
        events: str | None = None,
        page_size: int | None = None,
        limit: int | None = None,
        deadline: float | None = None,
        resume: str | None = None,
    ) -> RecordStream[Participant]:
        """Return the participants of a conference, as a stream. Nothing is sent yet.

        https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-participant-summary-resource

        Args:
            conference_sid: CF and 32 hexadecimal digits.
            participant_sid: only this participant; CP and 32 hexadecimal digits.
            label: only participants with this label.
            events: only participants with this event, such as `"hold"` or `"mute"`.
            page_size: records a request, 1 to 1000; default 1000, or `limit` where that is smaller.
            limit: records in all; None for every one, 0 for none, which sends nothing.
            deadline: seconds for the whole list, from when the first record is asked for, whatever
                they go by on: queueing, attempts, waits between them, and the consumer itself.
                Pages that arrived in time are handed out after it, too.
            resume: the `cursor` of a stream or an error, to go on exactly there. Conference and
                filters must be the same; the page size is the cursor's.

        Raises:
            InvalidRequestError: an argument cannot be used. What goes wrong later is raised while
                iterating: see `RecordStream`.
        """
        limit = checked_limit(limit)
        first = first_page(
            conference_sid,
            participant_sid=participant_sid,
            label=label,
            events=events,
            page_size=page_size,
            limit=limit,
        )
        place, offset = (first, 0) if resume is None else resumed(first, resume)
        pager = Pager(first, place, key=_PARTICIPANTS)
        until = Deadline(deadline, clock=time.monotonic)

        return RecordStream(
            place,
            offset,
            fetch=functools.partial(self._page, pager, until),
            structure=_structuring.participant,
            cursor=functools.partial(cursor_of, first),
            key=_PARTICIPANTS,
            limit=limit,
            tasks=self._tasks,
        )

    async def aclose(self) -> None:
        """Close the session: when it returns, no task or socket of it is alive.

        Whoever waits for a record gets `SessionClosedError` at once. Closing twice does nothing.
        """
        try:
            await self._tasks.aclose()
        finally:
            closing = asyncio.get_running_loop().create_task(self._transport.aclose())
            await settle([cast("asyncio.Task[object]", closing)])

    async def __aenter__(self) -> Self:
        """Return itself; `aclose()` follows at the end of the block."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close it."""
        await self.aclose()

    def __repr__(self) -> str:
        """Show where it leads, and no credentials."""
        state = "closed" if self._tasks.closed else "open"
        return f"<InsightsSession of {self._base_url}: {state}>"

    def __del__(self) -> None:
        """Warn where the session was used and not closed."""
        # __init__ may have refused its arguments.
        transport = getattr(self, "_transport", None)
        if transport is not None and transport.in_use and not self._tasks.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)

    async def _page(
        self, pager: Pager, until: Deadline, request: Request, departed: Callable[[], None]
    ) -> RawPage:
        """Return the page that answers a request."""
        run = RetryRun(self._retry, until, clock=time.monotonic, rng=self._rng)
        return await self._run(pager, until, request, run, departed)

    async def _page_again(
        self,
        pager: Pager,
        until: Deadline,
        request: Request,
        run: RetryRun,
        damage: ResponseError,
        departed: Callable[[], None],
        /,
    ) -> RawPage:
        """Return a page once more, after what came of the last attempt proved bad."""
        run.undo(damage)
        return await self._run(pager, until, request, run, departed)

    async def _run(
        self,
        pager: Pager,
        until: Deadline,
        request: Request,
        run: RetryRun,
        departed: Callable[[], None],
    ) -> RawPage:
        envelope, request_id = await self._fetch(request, run, until, departed)
        again = functools.partial(self._page_again, pager, until, request, run)
        return pager.page(request, envelope, request_id, again=again)

    async def _fetch(
        self, request: Request, run: RetryRun, until: Deadline, departed: Callable[[], None]
    ) -> tuple[Envelope, str | None]:
        """Return the envelope that answers a request, and its id, after as many attempts."""
        controller = run.controller(asyncio.sleep, before_sleep=departed)
        left = until.left()
        failure: InsightsError | TimeoutError = TimeoutError()
        if left > 0:
            try:
                async with asyncio.timeout(None if left == math.inf else left):
                    return await controller(self._attempt, request, run, departed)
            except (InsightsError, TimeoutError) as error:
                failure = error
        raise run.verdict(failure)

    async def _attempt(
        self, request: Request, run: RetryRun, departed: Callable[[], None]
    ) -> tuple[Envelope, str | None]:
        run.admit()
        if self._slots.locked():
            departed()  # it cannot leave yet, and nobody should wait for that
        async with self._slots:
            response = await self._transport.send(request, seconds=run.begin(), departed=departed)
        reading = page_envelope(
            response, request, key=_PARTICIPANTS, find=self._find, now=time.time
        )
        return await unhurried(reading), response.request_id


_CONCURRENCY_ADVICE: Final = "max_concurrency must be a whole number from 1."
_RETRY_ADVICE: Final = "retry must be a RetryPolicy."


def _require(condition: bool, advice: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not condition:
        raise InvalidRequestError(advice)
