"""`InsightsSession`: lifecycle and wiring; the one place that knows every other room."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
import sys
import time
import warnings
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, TypedDict, Unpack, cast

from ._call import Fetcher, PageSource
from ._credentials import Credentials, credentials_from, credentials_from_env
from ._cursors import Resumed, cursor_of, resumed
from ._fan_out import FanOut
from ._limiter import Limiter
from ._paging import Pager
from ._prefetching import PagesAhead
from ._requests import (
    base_url_from,
    base_url_from_env,
    checked_limit,
    checked_proxy,
    first_page,
)
from ._resources import PARTICIPANTS
from ._retrying import Deadline, RetryPolicy, RetryQuota
from ._shared_limiter import shared_limiter
from ._stream import RecordStream
from ._tasks import ClosedAtEnd, SessionTasks, wait_ignoring_cancellation
from ._telemetry import ListTelemetry, SessionTelemetry, checked_tracer
from ._transport import Transport, checked_http, client_timeout
from .errors import InvalidRequestError
from .instrumentation import ConferenceFinished, LimitChanged

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence

    import aiohttp

    from ._messages import Request
    from ._scheduler import OnError
    from ._telemetry import Tracer
    from .instrumentation import Event, SessionStats
    from .models import Participant

__all__ = ["InsightsSession", "OnInvalid", "SessionOptions"]

#: What a value of a wrong type does to its list.
OnInvalid: TypeAlias = Literal["raise", "keep"]

#: Attempts in flight at once. Twilio refuses by concurrency, with a ceiling that no document names,
#: and about 100 an account by what is reported; the limiter begins far below, and finds out.
_MAX_CONCURRENCY: Final = 32
#: Seconds that closing may take: the tasks, what they give back, and the connections.
_CLOSING_SECONDS: Final = 30.0
#: A SID that is one, to see whether the filters of a fan-out can be used.
_SOME_SID: Final = "CF" + "0" * 32


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
    limiter: object
    on_event: Callable[[Event], object] | None
    tracer: Tracer | None


class InsightsSession(ClosedAtEnd):
    """A client of Twilio Voice Insights' conference participants.

    It can be built anywhere, also outside an event loop: nothing is opened before the first
    request. Close it with `async with` or `aclose()`. It serves any number of tasks of one loop.

    Args:
        credentials: `(username, password)`: Account SID and Auth Token, or API key SID and
            secret; or `Credentials`.
        base_url: the origin to talk to, https, or http on a loopback host; default
            `https://insights.twilio.com`.
        region: a Twilio region (`"ie1"`), whose keys the credentials must be; needs `edge`, but
            for us1, which is the default.
        edge: a Twilio edge (`"dublin"`); alone it means region us1.
        retry: when a failed request is tried again.
        timeout: seconds for one attempt in all, or an `aiohttp.ClientTimeout` with a total;
            default 30 in all, 10 to connect, 20 without a byte.
        max_concurrency: attempts in flight at once, at most, of the whole session. It begins with
            few, goes down when Twilio refuses (429), and up again as it does not.
        http: an `aiohttp.ClientSession` to borrow; it is never closed here. It must have no `auth`
            of its own. Its cookies and `trust_env` apply, as it is the owner's to set.
        proxy: the URL of an HTTP proxy; the environment's proxies are not used. With an http
            base URL it must be on a loopback host, as it sees what is sent.
        trace_configs: `aiohttp.TraceConfig`s for the session that is made here.
        limiter: a budget that others use, too, such as one that several processes share: an async
            context manager, or anything with an async `acquire` and a `release`. Each attempt takes
            of it, within the session's own limit.
        on_event: called with each `instrumentation.Event` as it happens; what it raises is logged.
        tracer: an OpenTelemetry `Tracer`, for a span around each list of participants.

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
        limiter: object = None,
        on_event: Callable[[Event], object] | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """See the class."""
        self._tasks = SessionTasks()
        if not _is_count(max_concurrency):
            message = f"max_concurrency must be a whole number from 1 to {sys.maxsize}."
            raise InvalidRequestError(message)
        if retry is not None and not isinstance(cast("object", retry), RetryPolicy):
            message = "retry must be a RetryPolicy."
            raise InvalidRequestError(message)
        checked_http(http, trace_configs)
        self._base_url = base_url_from(base_url, region=region, edge=edge)
        self._max_concurrency = max_concurrency
        # Told by way of a local name: a method of its own would make the session its own owner.
        own = Limiter(max_concurrency, changed=lambda limit, why: emit(_limit_changed(limit, why)))
        emit = SessionTelemetry(on_event, limit=own.limit)
        self._limiter, self._emit = own, emit
        self._tracer = checked_tracer(tracer)
        self._transport = Transport(
            self._base_url,
            credentials_from(credentials),
            timeout=client_timeout(timeout),
            connections=max_concurrency,
            http=http,
            proxy=checked_proxy(proxy, base_url=self._base_url),
            trace_configs=trace_configs,
        )
        policy = RetryPolicy() if retry is None else retry
        self._fetcher = Fetcher(
            transport=self._transport,
            limiter=own,
            shared=(
                contextlib.nullcontext if limiter is None else shared_limiter(limiter, self._tasks)
            ),
            retry=policy,
            quota=RetryQuota(policy.quota),
            # Processes that are forked with a session would share the state of any other.
            rng=random.SystemRandom(),
            emit=emit,
        )

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, **options: Unpack[SessionOptions]
    ) -> Self:
        """Return a session for the credentials in the environment.

        `TWILIO_API_KEY` and `TWILIO_API_SECRET` (or `TWILIO_API_KEY_SECRET`), else
        `TWILIO_ACCOUNT_SID` and `TWILIO_AUTH_TOKEN`. Unless `base_url`, `region` or `edge` say
        where to go: `TWILIO_INSIGHTS_BASE_URL`, else `TWILIO_REGION` and `TWILIO_EDGE`.

        Args:
            environ: the variables; None for those of the process.
            options: what the class takes.

        Raises:
            InvalidRequestError: a variable is missing, and is named; or an option cannot be used.
        """
        if environ is None:  # as a default it would show its secrets in help() and in signatures
            environ = os.environ
        named = (options.get("base_url"), options.get("region"), options.get("edge"))
        if named == (None, None, None):
            options["base_url"] = base_url_from_env(environ)
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
        on_invalid: OnInvalid = "raise",
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
                filters must be the same. Leave `page_size` out to go on with the cursor's own;
                another one is accepted only where the cursor names a place on the first page.
            on_invalid: `"raise"`: a value of a type that the API does not promise is an error at
                its record, and the error's `cursor_after` goes on behind that. `"keep"`: the field
                is None, the value as it came is in `extra`, and the record's `problems` says so; a
                record that cannot be read at all is noted in the stream's `problems`.

        Raises:
            InvalidRequestError: an argument cannot be used. What goes wrong later is raised while
                iterating: see `RecordStream`.
        """
        until = Deadline(deadline, clock=time.monotonic)
        limit = checked_limit(limit)
        first = first_page(
            conference_sid,
            participant_sid=participant_sid,
            label=label,
            events=events,
            page_size=page_size,
            limit=limit,
        )
        keep_invalid = _keeps_invalid(on_invalid)
        stream, _ = self._list(
            first,
            until,
            limit=limit,
            resume=resume,
            page_size=page_size,
            keep_invalid=keep_invalid,
        )
        return stream

    def fan_out(
        self,
        conference_sids: Iterable[str] | AsyncIterable[str],
        *,
        concurrency: int | None = None,
        on_error: OnError = "isolate",
        participant_sid: str | None = None,
        label: str | None = None,
        events: str | None = None,
        page_size: int | None = None,
        deadline: float | None = None,
        on_invalid: OnInvalid = "raise",
    ) -> FanOut:
        """Return the participants of many conferences, each as it completes. Nothing is sent yet.

        Args:
            conference_sids: any iterable or async iterable; SIDs are taken from it as there is room
                for them. What is no SID becomes a result with an `InvalidRequestError`.
            concurrency: conferences under way at once, or complete and not handed out; default
                `max_concurrency`. It bounds memory; attempts are bounded by the session's limit.
            on_error: `"isolate"`: a failing conference is a result with an error, and the others go
                on. `"raise"`: the first failure ends all, and is raised.
            participant_sid: only this participant of each.
            label: only participants with this label.
            events: only participants with this event.
            page_size: records a request, 1 to 1000; default 1000.
            deadline: seconds for all of it, from when the first result is asked for. A conference
                that is not complete by then is a result with a `DeadlineExceededError`.
            on_invalid: as for `participants`; what cannot be read at all is noted in the `problems`
                of the result, or of the fan-out where records are merged.

        Raises:
            InvalidRequestError: an argument cannot be used. What goes wrong later is told by the
                results, or raised while iterating: see `FanOut`.
        """
        if concurrency is None:
            concurrency = self._max_concurrency
        if not _is_count(concurrency):
            message = f"concurrency must be a whole number from 1 to {sys.maxsize}, or None."
            raise InvalidRequestError(message)
        if on_error not in ("isolate", "raise"):  # a tuple, as it may be unhashable
            message = "on_error must be 'isolate' or 'raise'."
            raise InvalidRequestError(message)
        keep_invalid = _keeps_invalid(on_invalid)
        until = Deadline(deadline, clock=time.monotonic)
        first = functools.partial(
            first_page,
            participant_sid=participant_sid,
            label=label,
            events=events,
            page_size=page_size,
        )
        first(_SOME_SID)

        def open_list(conference_sid: str) -> tuple[RecordStream[Participant], PagesAhead]:
            try:
                return self._list(first(conference_sid), until, keep_invalid=keep_invalid)
            except InvalidRequestError as error:
                name = type(error).__name__
                self._emit(
                    ConferenceFinished(
                        conference_sid=None, pages=0, records=0, seconds=0.0, error=name
                    )
                )
                raise

        return FanOut(
            conference_sids,
            open_list,
            concurrency=concurrency,
            on_error=on_error,
            tasks=self._tasks,
            deadline=until,
        )

    @property
    def stats(self) -> SessionStats:
        """Return what the session has done up to now; a snapshot."""
        return self._emit.stats

    async def aclose(self) -> None:
        """Close the session: when it returns, no task or socket of it is alive.

        Whoever waits for a record gets `SessionClosedError` at once. Closing twice does nothing. A
        callback of the session's own requests that calls it is not waited for, and can go on.
        """
        closing = asyncio.get_running_loop().create_task(
            self._close(asyncio.current_task()), name="aioparticipants closing"
        )
        await wait_ignoring_cancellation([closing], seconds=_CLOSING_SECONDS)
        if closing.done() and not closing.cancelled():
            closing.result()  # raises what is a defect

    async def _close(self, caller: asyncio.Task[object] | None) -> None:
        """Close it in a task of its own, which no cancellation of the caller's stops half-way."""
        try:
            await self._tasks.aclose(sparing=caller)
        finally:
            await self._transport.aclose()

    async def __aenter__(self) -> Self:
        """Return itself; `aclose()` follows at the end of the block."""
        return self

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

    def _list(
        self,
        first: Request,
        until: Deadline,
        *,
        keep_invalid: bool,
        limit: int | None = None,
        resume: str | None = None,
        page_size: int | None = None,
    ) -> tuple[RecordStream[Participant], PagesAhead]:
        """Return the list that begins with a request, or where it is resumed; and its pages."""
        start = Resumed(first, 0, None)
        if resume is not None:
            start = resumed(first, resume, page_size=page_size)
        pager = Pager(first, start.request, resource=PARTICIPANTS)
        telemetry = ListTelemetry(
            self._emit, first.conference_sid, clock=time.monotonic, tracer=self._tracer
        )
        source = PageSource(
            fetcher=self._fetcher,
            pager=pager,
            resource=PARTICIPANTS,
            until=until,
            resumed=None if resume is None else start.request,
        )
        pages = PagesAhead(
            start.request, fetch=source.fetch, tasks=self._tasks, telemetry=telemetry
        )
        stream = RecordStream(
            start,
            pages=pages,
            resource=PARTICIPANTS,
            cursor=functools.partial(cursor_of, first),
            limit=limit,
            keep_invalid=keep_invalid,
            telemetry=telemetry,
        )
        return stream, pages


def _keeps_invalid(on_invalid: OnInvalid) -> bool:
    if on_invalid not in ("raise", "keep"):  # a tuple, as it may be unhashable
        message = "on_invalid must be 'raise' or 'keep'."
        raise InvalidRequestError(message)
    return on_invalid == "keep"


def _limit_changed(limit: int, reason: str) -> LimitChanged:
    return LimitChanged(limit=limit, reason=reason)


def _is_count(value: object) -> bool:
    # A bool is one by isinstance. What is past any size would not fit a float, either.
    return type(value) is int and 1 <= value <= sys.maxsize
