"""`InsightsSession`: its lifecycle, and the wiring of all other modules."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import logging
import os
import random
import time
import warnings
from typing import TYPE_CHECKING, Final, Self, TypeVar, Unpack

import attrs

from ._arguments import checked_choice, checked_seconds, checked_whole_number, checked_window
from ._authorization import authorization_source
from ._call import SessionContext
from ._codecs import OnInvalid
from ._credentials import AnyCredentials, credentials_from_env
from ._fan_out import FanOut
from ._limiter import AdaptiveLimit, Limiter
from ._lists import ListFactory
from ._resources import CONFERENCE, CONFERENCES, CREATION, PARTICIPANT, PARTICIPANTS
from ._retrying import Deadline, RetryPolicy, RetryQuota, RetryRun
from ._settings import (
    MAX_CONCURRENCY,
    SessionOptions,
    Settings,
    base_url_from,
    base_url_from_env,
)
from ._shared_limiter import shared_limiter
from ._slices import MOST_SLICES
from ._tasks import ClosedAtEnd, SessionTasks, wait_ignoring_cancellation
from ._telemetry import SessionTelemetry
from ._transport import Transport
from ._waiting import SummaryWaits
from .errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from ssl import SSLContext
    from types import EllipsisType

    import aiohttp

    from ._limiter_protocols import SharedLimiter
    from ._opentelemetry import Tracer
    from ._resources import Resource
    from ._scheduler import OnError
    from ._sources import Source
    from ._stream import RecordStream
    from ._waiting import OnFailure
    from .errors import InsightsError
    from .instrumentation import Event, SessionStats
    from .models import Conference, Participant

__all__ = ["InsightsSession", "OnInvalid", "SessionOptions"]

T = TypeVar("T")

_LOGGER: Final = logging.getLogger("aioparticipants")

#: Seconds that closing may take: tasks, shared limiters and connections.
_CLOSING_SECONDS: Final = 30.0
#: Any SID: to check the filters of a fan-out before the first conference is known.
_ANY_SID: Final = "CF" + "0" * 32
#: Seconds for which a 404 means that there is no summary yet.
_GRACE_SECONDS: Final = 300.0


def _ignore(_error: InsightsError, /, *, conference_sid: str, seconds: float) -> None:
    """Do nothing."""


class InsightsSession(ClosedAtEnd):
    """A client of Twilio Voice Insights' conferences and their participants.

    It can be made anywhere, also outside an event loop: nothing is opened before the first request.
    Close it with `async with` or `aclose()`. All tasks of one event loop can share it.

    Args:
        credentials: `(username, password)`: Account SID and Auth Token, or API key SID and
            secret; or `Credentials`; or the `ClientCredentials` of an OAuth app; or a
            `CredentialsProvider`, an object with `async def authorization(self) -> str`.
        base_url: the origin to send requests to: https, or http on a loopback host. Default
            `https://insights.twilio.com`.
        region: a Twilio region (`"ie1"`). The credentials must be of that region. It needs `edge`,
            except for us1, the default, ie1 (dublin) and au1 (sydney).
        edge: a Twilio edge (`"dublin"`). Without `region`, it is an edge of us1.
        retry: when to retry a failed request.
        timeout: seconds for one attempt in all, or an `aiohttp.ClientTimeout` with a total.
            Default: 30 in all, 10 to connect, 20 without a byte.
        deadline: seconds for each list, single record, fan-out and wait, where the call itself
            gives no `deadline`; None for no bound but that of the retries.
        max_concurrency: the most attempts in flight at once, of the whole session. The session
            starts with few, sends fewer when Twilio answers 429, and more when it does not.
        user_agent: the name of your program, such as `"call-reports/1.4"`, to be added to the
            `User-Agent` header: at most 200 printable ASCII characters.
        http: an `aiohttp.ClientSession` to use, which is never closed here. It must have no `auth`.
            Its cookies and `trust_env` apply, as they are its owner's choice.
        proxy: the URL of an HTTP proxy; the environment's proxies are not used. With an http
            base URL it must be on a loopback host, as it sees all of each request.
        ssl: an `ssl.SSLContext` for https, to Twilio and to an https proxy, such as
            `ssl.create_default_context(cafile=...)` for a CA of your own. It must check
            certificates and host names. A borrowed session has its own, in its connector.
        trace_configs: `aiohttp.TraceConfig`s for the session's own `aiohttp.ClientSession`.
        limiter: a limiter shared with others, such as other processes: an async context manager
            (`ContextLimiter`), or an object with an async `acquire` and a `release`
            (`AcquireReleaseLimiter`). Each attempt acquires it, within the session's own limit.
        on_event: called with each `instrumentation.Event` as it happens. If it raises, that is
            logged.
        tracer: an OpenTelemetry `Tracer`, for a span around each list and each single record.

    Raises:
        InvalidRequestError: an argument cannot be used.
    """

    def __init__(
        self,
        credentials: AnyCredentials,
        *,
        base_url: str | None = None,
        region: str | None = None,
        edge: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | aiohttp.ClientTimeout | None = None,
        deadline: float | None = None,
        max_concurrency: int = MAX_CONCURRENCY,
        user_agent: str | None = None,
        http: aiohttp.ClientSession | None = None,
        proxy: str | None = None,
        ssl: SSLContext | None = None,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
        limiter: SharedLimiter | None = None,
        on_event: Callable[[Event], object] | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """See the class."""
        self._settings = settings = Settings(
            credentials=credentials,
            base_url=base_url_from(base_url, region=region, edge=edge),
            retry=RetryPolicy() if retry is None else retry,
            timeout=timeout,
            deadline=deadline,
            max_concurrency=max_concurrency,
            user_agent=user_agent,
            http=http,
            proxy=proxy,
            ssl=ssl,
            trace_configs=trace_configs,
            tracer=tracer,
        )
        #: The session that owns what this one uses; None if this one does.
        self._owner: InsightsSession | None = None
        self._tasks = SessionTasks()
        adaptive = AdaptiveLimit(settings.max_concurrency)
        self._telemetry = SessionTelemetry(on_event, limit=adaptive.limit)
        self._limiter = Limiter(adaptive, emit=self._telemetry.emit)
        shared = contextlib.nullcontext if limiter is None else shared_limiter(limiter, self._tasks)
        self._transport = Transport(
            settings.base_url,
            timeout=settings.timeout,
            connections=settings.max_concurrency,
            http=settings.http,
            proxy=settings.proxy,
            trace_configs=settings.trace_configs,
            ssl=settings.ssl,
            user_agent=settings.user_agent,
        )
        quota = RetryQuota(settings.retry.quota)
        # Forked processes would share the state of any other generator.
        rng = random.SystemRandom()
        self._context = SessionContext(
            transport=self._transport,
            timeouts=settings.timeout,
            authorization=authorization_source(
                settings.credentials,
                transport=self._transport,
                tasks=self._tasks,
                new_run=lambda: RetryRun(
                    settings.retry,
                    Deadline(None, clock=time.monotonic),
                    quota,
                    clock=time.monotonic,
                    rng=rng,
                ),
            ),
            limiter=self._limiter,
            shared=shared,
            policy=settings.retry,
            quota=quota,
            rng=rng,
            emit=self._telemetry.emit,
        )

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, **options: Unpack[SessionOptions]
    ) -> Self:
        """Return a session with the credentials of the environment.

        `TWILIO_API_KEY` and `TWILIO_API_SECRET` (or `TWILIO_API_KEY_SECRET`), else
        `TWILIO_ACCOUNT_SID` and `TWILIO_AUTH_TOKEN`, else `TWILIO_CLIENT_ID` and
        `TWILIO_CLIENT_SECRET` of an OAuth app, with `TWILIO_ACCOUNT_SID` and
        `TWILIO_OAUTH_TOKEN_URL` if they are set. If none of `base_url`, `region` and `edge` is
        given: `TWILIO_INSIGHTS_BASE_URL`, else `TWILIO_REGION` and `TWILIO_EDGE`.

        Args:
            environ: the variables; None for those of the process.
            options: the options of the class.

        Raises:
            InvalidRequestError: a variable is missing, which the message names; or an option
                cannot be used.
        """
        if environ is None:  # as a default, its secrets would be in help() and in signatures
            environ = os.environ
        named = (options.get("base_url"), options.get("region"), options.get("edge"))
        if named == (None, None, None):
            options["base_url"] = base_url_from_env(environ)
        return cls(credentials_from_env(environ), **options)

    def with_options(
        self,
        *,
        retry: RetryPolicy | EllipsisType | None = ...,
        timeout: float | aiohttp.ClientTimeout | EllipsisType | None = ...,
        deadline: float | EllipsisType | None = ...,
    ) -> Self:
        """Return a session with other options, that shares everything else with this one.

        For example, in a web handler that has two seconds:

            found = await session.with_options(deadline=2, timeout=1).participants(sid)

        Shared are connections, limits, retry quota, tasks and statistics; it costs no more than
        the object itself. It owns nothing, so `aclose()` and `async with` leave it and the first
        session open. Close the first one: that closes both, and all lists made from either.

        An option that is not given stays as it is. None is the default of the class.

        Args:
            retry: when to retry a failed request. Its `quota` has no effect: the retries are taken
                from the quota of the first session.
            timeout: as for the class. The time limit of a DNS lookup stays that of the first
                session, as requests share lookups.
            deadline: as for the class. A `deadline` of the call itself wins.

        Raises:
            InvalidRequestError: an option cannot be used.
        """
        settings = self._settings.with_options(retry=retry, timeout=timeout, deadline=deadline)
        other = copy.copy(self)
        other._adopt(settings, self._owner or self)  # noqa: SLF001 - of the same class
        return other

    def _adopt(self, settings: Settings, owner: InsightsSession) -> None:
        """Use other settings, and what `owner` owns."""
        self._owner = owner
        self._settings = settings
        self._context = attrs.evolve(
            self._context, policy=settings.retry, timeouts=settings.timeout
        )

    @property
    def options(self) -> SessionOptions:
        """The settings that another process can use: they pickle, and hold no secret.

            data = pickle.dumps(session.options)
            InsightsSession.from_env(**pickle.loads(data))  # in the other process

        Left out are the credentials, `http`, `ssl`, `trace_configs`, `limiter`, `on_event` and
        `tracer`; and a `proxy` whose URL has a username or password, so that one is to be given
        again. `region` and `edge` are in `base_url`.
        """
        return self._settings.options()

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
            page_size: records a request, 1 to 1000; default 1000, or `limit` if that is smaller.
            limit: records in all; None for all, 0 for none, which sends nothing.
            deadline: seconds for the whole list, from when the first record is asked for. All time
                counts: queueing, attempts, waits between them, and the consumer's own. Pages that
                arrived in time are delivered after the deadline too. None for the session's own.
            resume: the `cursor` of a stream or an error, to go on exactly there. Conference and
                filters must be the same. Leave `page_size` out to keep the cursor's own; another
                one is accepted only if the cursor names a record of the first page.
            on_invalid: `"raise"`: a value of a type that the API does not promise is an error at
                its record; the error's `cursor_after` names the record after it. `"keep"`: the
                field is None, the value is kept in `extra`, and the record's `problems` say so; a
                record that cannot be read at all is in the stream's `problems`.

        Raises:
            InvalidRequestError: an argument cannot be used. Other errors are raised while
                iterating: see `RecordStream`.
        """
        filters = {"participant_sid": participant_sid, "label": label, "events": events}
        lists = self._lists(PARTICIPANTS, filters, page_size, deadline, on_invalid)
        checked_whole_number(limit, "limit", least=0, optional=True)
        stream, _ = lists.open({"conference_sid": conference_sid}, limit=limit, resume=resume)
        return stream

    async def participant(
        self,
        conference_sid: str,
        participant_sid: str,
        *,
        events: str | None = None,
        metrics: str | None = None,
        deadline: float | None = None,
        on_invalid: OnInvalid = "raise",
    ) -> Participant:
        """Return one participant of a conference.

        https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-participant-summary-resource

        Args:
            conference_sid: CF and 32 hexadecimal digits.
            participant_sid: CP and 32 hexadecimal digits.
            events: sent as it is; Twilio describes it as "Conference events generated by
                application or participant activity".
            metrics: sent as it is; Twilio describes it as "Object. Contains participant call
                quality metrics".
            deadline: seconds for the whole call; None for the session's own.
            on_invalid: as for `participants`.

        Raises:
            InvalidRequestError: an argument cannot be used.
            NotFoundError: Twilio has no summary of it, or not yet.
            InsightsError: any other error that `RecordStream` names.
        """
        return await self._record(
            PARTICIPANT,
            {"events": events, "metrics": metrics},
            deadline,
            on_invalid,
            conference_sid=conference_sid,
            participant_sid=participant_sid,
        )

    def conferences(
        self,
        *,
        created_after: datetime | EllipsisType | None = ...,
        created_before: datetime | None = None,
        conference_sid: str | None = None,
        friendly_name: str | None = None,
        status: str | None = None,
        mixer_region: str | None = None,
        tags: str | None = None,
        subaccount: str | None = None,
        detected_issues: str | None = None,
        end_reason: str | None = None,
        slices: int | None = None,
        page_size: int | None = None,
        limit: int | None = None,
        deadline: float | None = None,
        resume: str | None = None,
        on_invalid: OnInvalid = "raise",
    ) -> RecordStream[Conference]:
        """Return the conferences of a window of time, as a stream. Nothing is sent yet.

        https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-summary-resource

        For example, those of the last week with bad audio:

            week = datetime.now(UTC) - timedelta(days=7)
            async for conference in session.conferences(created_after=week, tags="low_mos"):
                print(conference.conference_sid, conference.detected_issues)

        Args:
            created_after: the start of the window, an aware datetime; rounded down to a second. It
                is required, as Twilio would list the last 24 hours only. Say `created_after=None`
                if that is what you want, or give `conference_sid`. Twilio keeps 30 days.
            created_before: the end of the window; rounded up to a second. None for now.
            conference_sid: only this conference; CF and 32 hexadecimal digits.
            friendly_name: only conferences with this name.
            status: only conferences with this `ConferenceStatus`.
            mixer_region: only conferences mixed in this `Region`.
            tags: only conferences with this `ConferenceTag`.
            subaccount: only conferences of this subaccount; AC and 32 hexadecimal digits.
            detected_issues: only conferences with this kind of issue, such as `"call_quality"`.
            end_reason: only conferences with this `ConferenceEndReason`.
            slices: cut the window into so many slices, 1 to 1000, that are listed side by side; at
                most one a second. They are delivered one after another, the newest first, which is
                the order of the list without slices if Twilio lists the newest first. At most 32
                pages are held in memory. None, or 1, for one request after another.
            page_size: as for `participants`.
            limit: as for `participants`.
            deadline: as for `participants`.
            resume: the `cursor` of a stream or an error; the window, filters and slices must be the
                same.
            on_invalid: as for `participants`.

        Raises:
            InvalidRequestError: an argument cannot be used. Other errors are raised while
                iterating: see `RecordStream`.
        """
        if created_after is ...:
            if conference_sid is None:
                message = (
                    "conferences() needs created_after: without it Twilio lists the last 24 hours "
                    "only. If that is what you want, give created_after=None."
                )
                raise InvalidRequestError(message)
            created_after = None
        checked_window(created_after, created_before)
        filters = {
            "conference_sid": conference_sid,
            "friendly_name": friendly_name,
            "status": status,
            "created_after": created_after,
            "created_before": created_before,
            "mixer_region": mixer_region,
            "tags": tags,
            "subaccount": subaccount,
            "detected_issues": detected_issues,
            "end_reason": end_reason,
        }
        lists = self._lists(CONFERENCES, filters, page_size, deadline, on_invalid)
        checked_whole_number(limit, "limit", least=0, optional=True)
        checked_whole_number(slices, "slices", least=1, most=MOST_SLICES, optional=True)
        if slices is not None and slices > 1:
            if created_after is None:
                message = "slices needs created_after, as they are slices of the window."
                raise InvalidRequestError(message)
            return lists.open_in_slices({}, CREATION, slices, limit=limit, resume=resume)
        stream, _ = lists.open({}, limit=limit, resume=resume)
        if created_after is created_before is None:
            _LOGGER.info(
                "conferences() has no window: Twilio lists those of the last 24 hours only."
            )
        return stream

    async def conference(
        self,
        conference_sid: str,
        *,
        deadline: float | None = None,
        on_invalid: OnInvalid = "raise",
    ) -> Conference:
        """Return one conference.

        https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-summary-resource

        Args:
            conference_sid: CF and 32 hexadecimal digits.
            deadline: seconds for the whole call; None for the session's own.
            on_invalid: as for `participants`.

        Raises:
            InvalidRequestError: an argument cannot be used.
            NotFoundError: Twilio has no summary of it, or not yet.
            InsightsError: any other error that `RecordStream` names.
        """
        return await self._record(
            CONFERENCE, {}, deadline, on_invalid, conference_sid=conference_sid
        )

    def fan_out(
        self,
        source: Source,
        *,
        concurrency: int | None = None,
        on_error: OnError = "isolate",
        participant_sid: str | None = None,
        label: str | None = None,
        events: str | None = None,
        page_size: int | None = None,
        limit: int | None = None,
        wait: float | None = None,
        poll: float | None = None,
        grace: float = _GRACE_SECONDS,
        deadline: float | None = None,
        on_invalid: OnInvalid = "raise",
    ) -> FanOut:
        """Return the participants of many conferences, each as it completes. Nothing is sent yet.

        For example, those of all conferences since yesterday:

            yesterday = datetime.now(UTC) - timedelta(days=1)
            async with session.fan_out(session.conferences(created_after=yesterday)) as results:
                async for result in results:
                    print(result.conference.start_time, len(result.participants))

        Args:
            source: any iterable or async iterable of conference SIDs, `Conference` records, or
                pairs: a tuple of one of these and a context, which can be any object and comes back
                as the result's `context`. The next one is taken when `concurrency` allows another
                conference. For anything else the result has an `InvalidRequestError`. A stream
                (`session.conferences(…)`) is closed with the fan-out.
            concurrency: the most conferences that are being fetched, or complete and not delivered
                yet; default `max_concurrency`. It bounds memory; the session's limit bounds the
                attempts.
            on_error: `"isolate"`: a conference that fails is a result with an error, and the others
                go on. `"raise"`: the first failure ends all, and is raised.
            participant_sid: only this participant of each.
            label: only participants with this label.
            events: only participants with this event.
            page_size: records a request, 1 to 1000; default 1000, or `limit` if that is smaller.
            limit: records of each conference; None for all, 0 for none, which sends nothing.
            wait: seconds to wait for the summary of each conference, as `wait_until_complete` does,
                before its participants are read; None for no wait. If it is not finished by then,
                the result has a `DeadlineExceededError` and no participants. Nothing is asked about
                a `Conference` that is finished. Up to 1000 conferences that wait do not count
                towards `concurrency`, so the others go on.
            poll: as for `wait_until_complete`; only with `wait`.
            grace: as for `wait_until_complete`; only used with `wait`.
            deadline: seconds for all of it, from when the first result is asked for. A conference
                that is not complete by then is a result with a `DeadlineExceededError`. None for
                the session's own.
            on_invalid: as for `participants`; a record that cannot be read at all is in the
                `problems` of the result, or of the fan-out if records are merged.

        Raises:
            InvalidRequestError: an argument cannot be used. Other errors are in the results, or
                raised while iterating: see `FanOut`.
        """
        checked_whole_number(concurrency, "concurrency", least=1, optional=True)
        checked_choice(on_error, "on_error", ("isolate", "raise"))
        checked_whole_number(limit, "limit", least=0, optional=True)
        checked_seconds(wait, "wait", positive=True, optional=True)
        if poll is not None and wait is None:
            message = "poll needs wait: the seconds to wait for the summary of each conference."
            raise InvalidRequestError(message)
        filters = {"participant_sid": participant_sid, "label": label, "events": events}
        lists = self._lists(PARTICIPANTS, filters, page_size, deadline, on_invalid)
        lists.first_request({"conference_sid": _ANY_SID})  # raises if a filter cannot be used
        waits = self._waits(poll, grace, on_invalid, on_failure=lists.report_unread)
        return FanOut(
            source,
            functools.partial(lists.open_in_fan_out, limit=limit),
            new_wait=None if wait is None else waits.within(wait, lists.deadline),
            concurrency=concurrency or self._settings.max_concurrency,
            on_error=on_error,
            tasks=self._tasks,
            deadline=lists.deadline,
        )

    async def wait_until_complete(
        self,
        conference_sid: str,
        *,
        deadline: float | None = None,
        poll: float | None = None,
        grace: float = _GRACE_SECONDS,
        on_invalid: OnInvalid = "raise",
    ) -> Conference:
        """Wait until Twilio has finished the summary of a conference, and return it.

        It has when the `processing_state` is `complete`, or `timeout`: Twilio gives up after 24
        hours. 30 minutes after the end of the conference are normal. Each request goes through the
        session's limit, and nothing is held between them. Called again, it just goes on waiting.

        https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-summary-resource

        Args:
            conference_sid: CF and 32 hexadecimal digits.
            deadline: seconds to wait in all; None for the session's own.
            poll: seconds between two requests, on average: each wait is 0.5 to 1.5 times as long,
                so that many conferences do not ask at the same time. By default it is a fifth of
                the time since the first request, from 10 to 300 s: about 25 requests in 30 minutes.
            grace: seconds for which a 404 means "not yet", and for which a failure that may be
                short is tolerated (a 5xx or 429, a broken connection; each after its retries). They
                count from the first request, or from the first that fails after one that did not.
                With 0, each such error is raised.
            on_invalid: as for `participants`.

        Raises:
            InvalidRequestError: an argument cannot be used.
            DeadlineExceededError: the summary was not finished in time; the message says what
                Twilio last answered.
            NotFoundError: Twilio still had no summary after the grace period.
            SessionClosedError: the session was closed meanwhile.
            InsightsError: any other error that `RecordStream` names: at once, or, if it is
                `transient`, after the grace period.
        """
        waits = self._waits(poll, grace, on_invalid)
        return await waits.new(
            conference_sid,
            deadline=self._deadline(deadline),
            sleep=self._tasks.sleep,
        ).run()

    def _waits(
        self,
        poll: float | None,
        grace: float,
        on_invalid: OnInvalid,
        *,
        on_failure: OnFailure = _ignore,
    ) -> SummaryWaits:
        """Return what makes the waits of one call."""
        lists = self._lists(CONFERENCE, {}, None, None, on_invalid)

        async def ask(conference_sid: str, deadline: Deadline) -> Conference:
            return await attrs.evolve(lists, deadline=deadline).record(
                {"conference_sid": conference_sid}
            )

        return SummaryWaits(
            ask=ask,
            poll=poll,
            grace=grace,
            clock=time.monotonic,
            rng=self._context.rng,
            on_failure=on_failure,
        )

    async def _record(
        self,
        resource: Resource[T],
        filters: Mapping[str, object],
        deadline: float | None,
        on_invalid: OnInvalid,
        **sids: object,
    ) -> T:
        """Return a single record."""
        return await self._lists(resource, filters, None, deadline, on_invalid).record(sids)

    def _lists(
        self,
        resource: Resource[T],
        filters: Mapping[str, object],
        page_size: int | None,
        deadline: float | None,
        on_invalid: OnInvalid,
    ) -> ListFactory[T]:
        """Return what opens the lists of one call."""
        checked_choice(on_invalid, "on_invalid", ("raise", "keep"))
        return ListFactory(
            session=self._context,
            tasks=self._tasks,
            telemetry=self._telemetry,
            tracer=self._settings.tracer,
            resource=resource,
            filters=filters,
            page_size=page_size,
            deadline=self._deadline(deadline),
            keep_invalid=on_invalid == "keep",
        )

    def _deadline(self, seconds: float | None) -> Deadline:
        """Return the deadline of one call, or the session's own if the call has none."""
        return Deadline(
            self._settings.deadline if seconds is None else seconds, clock=time.monotonic
        )

    @property
    def stats(self) -> SessionStats:
        """Return the statistics of the session so far; a snapshot."""
        return self._telemetry.stats

    async def aclose(self) -> None:
        """Close the session: when it returns, none of its tasks and sockets is alive.

        A task that waits for a record gets `SessionClosedError` at once. Closing twice does
        nothing. If a callback of one of the session's own requests closes it, that callback is not
        waited for, and can go on. Of a session that `with_options` returned it closes nothing.
        """
        if self._owner is not None:
            return
        closing = asyncio.get_running_loop().create_task(
            self._close(asyncio.current_task()), name="aioparticipants closing"
        )
        await wait_ignoring_cancellation([closing], seconds=_CLOSING_SECONDS)
        if closing.done() and not closing.cancelled():
            closing.result()  # raises if it is a defect

    async def _close(self, caller: asyncio.Task[object] | None) -> None:
        """Close it, in a task that the caller's cancellation does not reach."""
        try:
            await self._tasks.aclose(sparing=caller)
        finally:
            await self._transport.aclose()

    async def __aenter__(self) -> Self:
        """Return itself; `aclose()` follows at the end of the block."""
        return self

    def __repr__(self) -> str:
        """Show the base URL, and no credentials."""
        state = "closed" if self._tasks.closed else "open"
        return f"<InsightsSession of {self._settings.base_url}: {state}>"

    def __del__(self) -> None:
        """Warn if the session was used and not closed."""
        # Absent if __init__ refused its arguments.
        transport = getattr(self, "_transport", None)
        owned = transport is not None and transport.in_use and self._owner is None
        if owned and not self._tasks.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
