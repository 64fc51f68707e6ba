"""`FakeInsights`: a test server that behaves as the API does.

1. It is a real HTTP server on 127.0.0.1: nothing in the client is replaced.
2. Pages, page tokens, filters, authentication and error bodies follow the API's published
   description and Twilio's documentation. What those leave open is chosen here.
3. It logs every request, and fails on demand: the next requests, those for a conference, a page or
   a path, or every request beyond a maximum of concurrent ones.
4. It has a clock of its own, which stands still, so that tests are repeatable.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

import attrs
from aiohttp import web

from .._credentials import ClientCredentials, Credentials
from ._bodies import RequestRefused, as_bytes, error_body
from ._faults import Fault, FaultQueue
from ._fields import MadeUp
from ._filters import Clock, checked_bounds
from ._given import copy_conference, copy_participants
from ._participants import REGIONS, make_participants, make_sid
from ._store import ConferenceStore, Get, StoredConference, checked_steps
from ._summaries import make_summary
from ._times import checked_time, parsed_time
from ._tokens import TOKEN_PATH, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Unpack

    from ..models import Conference, Participant
    from ._fields import MadeUpFields
    from ._filters import Inclusive
    from ._store import SummaryStep

__all__ = ["FakeInsights", "SeenRequest"]

#: Whether a request carried the right credentials when it arrived.
_AUTHORIZED: Final = web.RequestKey("_AUTHORIZED", bool)

#: A fixed day, so that a seed always gives the same records.
_NOW: Final = datetime(2026, 3, 3, tzinfo=UTC)
#: How long before the clock's time conferences are made up: all have ended by then.
_EARLIEST: Final = timedelta(hours=15)
_SPREAD: Final = timedelta(hours=8)


@attrs.frozen(kw_only=True)
class SeenRequest:
    """A request that the server received, in the log `FakeInsights.requests`.

    For example:

        assert [request.status for request in fake.requests] == [503, 200]
        assert fake.requests[0].query["PageSize"] == "50"
    """

    method: str
    path: str
    query: Mapping[str, str] = attrs.field(repr=False)
    """The decoded query. It can hold a label, which is personal data, so the repr omits it."""
    user_agent: str
    authorized: bool
    """Whether the request carried the right credentials."""
    status: int
    """The status of the reply; 0 if the connection was dropped instead."""


@attrs.frozen(kw_only=True)
class _Settings:
    """What a server is started with."""

    seed: int
    latency: float
    concurrency: int | None
    now: datetime


class FakeInsights:
    """A server on 127.0.0.1 that behaves as Voice Insights does, for tests.

    Start it with `async with`, then point a session at its `base_url` with its `credentials`:

        async with FakeInsights() as fake:
            sid = fake.add_conference(participants=120)
            async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
                participants = await session.participants(sid)
        assert len(participants) == 120

    In a shell, or for a program in another language: `python -m aioparticipants.testing --help`.

    Args:
        seed: the seed of the made-up conferences, participants and credentials; the same seed
            gives the same ones.
        latency: seconds before each reply.
        concurrency: the maximum of concurrent requests. Beyond it, the reply is 429 with Twilio's
            error code 20429. None for no maximum.
        port: the port to listen on; 0 for a free one.
        now: the time of the server's clock, an aware datetime. Conferences are made up in the 15
            hours before it. By default it is a fixed time, 2026-03-03 00:00 UTC. For code that
            asks for recent conferences by the real clock, give `datetime.now(UTC)`.

    Raises:
        TypeError: `now` is not a datetime.
        ValueError: `now` has no time zone.
    """

    latency: float
    """Seconds before each reply."""
    concurrency: int | None
    """The maximum of concurrent requests; None for none."""
    token_lifetime: float
    """Seconds that the access tokens are valid that are issued from now on; 3600 at first."""
    requests: list[SeenRequest]
    """The requests that were answered, in the order of the replies."""

    def __init__(
        self,
        *,
        seed: int = 0,
        latency: float = 0.0,
        concurrency: int | None = None,
        port: int = 0,
        now: datetime | None = None,
    ) -> None:
        """See the class."""
        self._initial = _Settings(
            seed=seed,
            latency=latency,
            concurrency=concurrency,
            now=_NOW if now is None else checked_time(now, "now"),
        )
        self._begin()
        self._port = port
        self._authorization = Credentials(*self.credentials).authorization()
        self._tokens = Tokens(random.Random(f"{seed} tokens"))  # noqa: S311 - made-up data
        self._in_flight = 0
        self._runner: web.AppRunner | None = None
        self._base_url = ""
        self._last_base_url = ""

    def _begin(self) -> None:
        """Set what `reset` sets again."""
        seed = self._initial.seed
        self._rng = random.Random(seed)  # noqa: S311 - made-up data, not secrets
        self._request_ids = random.Random(seed)  # noqa: S311 - request ids, not secrets
        self.credentials: tuple[str, str] = (
            make_sid(self._rng, "AC"),
            f"{self._rng.getrandbits(128):032x}",
        )
        """The made-up Account SID and Auth Token that the server accepts."""
        self.latency = self._initial.latency
        self.concurrency = self._initial.concurrency
        self._inclusive: Inclusive = "neither"
        self.token_lifetime = 3600
        self._now = self._initial.now
        self._store = ConferenceStore(self.credentials[0])
        self._faults = FaultQueue()
        self.requests = []

    def reset(self) -> None:
        """Forget the conferences, the faults and the requests, and undo all settings.

        The address and the credentials stay, so that one server can serve all tests of a session.
        Conferences that are added now are the same as after the start. For example:

            fake.reset()
            assert fake.conferences() == fake.requests == []
        """
        self._begin()

    @property
    def now(self) -> datetime:
        """The time of the server's clock, which stands still; assign another to move it.

        A list of conferences without dates has those of the 24 hours before. For example:

            fake.now += timedelta(days=2)

        Raises:
            TypeError: the time is not a datetime.
            ValueError: the time has no time zone.
        """
        return self._now

    @now.setter
    def now(self, time: datetime) -> None:
        self._now = checked_time(time, "now")

    @property
    def inclusive(self) -> Inclusive:
        """Which bounds of a window list a conference that was created exactly then.

        `neither` (the default), `left` (`CreatedAfter`), `right` (`CreatedBefore`) or `both`;
        assign another to change it. Twilio does not say what it does, so test with each. For
        example:

            fake.inclusive = "both"

        Raises:
            ValueError: another word is assigned.
        """
        return self._inclusive

    @inclusive.setter
    def inclusive(self, bounds: Inclusive) -> None:
        self._inclusive = checked_bounds(bounds)

    @property
    def base_url(self) -> str:
        """Return `http://127.0.0.1:port`; raise RuntimeError if the server is not running."""
        if not self._base_url:
            message = "FakeInsights is not running: start it with `async with` first."
            raise RuntimeError(message)
        return self._base_url

    @property
    def client_credentials(self) -> ClientCredentials:
        """Return the made-up `ClientCredentials` of an OAuth app, for which the server has tokens.

        The token requests (`POST /v2/token`) are in `requests`, and take faults of `fail_next`,
        like all others. They do not count towards `concurrency`. For example:

            InsightsSession(fake.client_credentials, base_url=fake.base_url)

        Raises:
            RuntimeError: the server is not running.
        """
        return ClientCredentials(
            self._tokens.client_id,
            self._tokens.client_secret,
            token_url=self.base_url + TOKEN_PATH,
        )

    def revoke_tokens(self) -> None:
        """Accept none of the access tokens issued so far: requests with them get 401."""
        self._tokens.revoke()

    def add_conference(
        self,
        participants: int | Iterable[Participant | Mapping[str, object]] = 130,
        *,
        conference_sid: str | None = None,
        conference: Conference | Mapping[str, object] | None = None,
        summary: Sequence[SummaryStep] = ("complete",),
        **fields: Unpack[MadeUpFields],
    ) -> str:
        """Add a conference, and return its SID.

        For example:

            sid = fake.add_conference(participants=3)
            sid = fake.add_conference(5, label="agent", mos=1.2, friendly_name="Support")
            sid = fake.add_conference(2, summary=[404, "in_progress", "complete"])
            sid = fake.add_conference([{"participant_sid": "CP1", "label": "agent"}])

        Args:
            participants: how many participants to make up; or the participants themselves, as
                `Participant`s or as JSON that is served unchanged. They are copied.
            conference_sid: the SID of the conference, instead of a made-up one. An existing
                conference with this SID is replaced.
            conference: the conference itself, as a `Conference` or as JSON that is served
                unchanged; None to make it up, to fit the participants.
            summary: what a GET of the conference finds, one step for each GET: 404, `in_progress`
                (without what Twilio aggregates, and with half of the participants), `complete` or
                `timeout`. The last step stays. The participants and the list of conferences show
                the step that was served last.
            **fields: fields of the `Conference` and of each `Participant` that are made up, such
                as `status`, `create_time` or `label`; and metrics of each participant, under the
                names of its flat row: `inbound_mos`, or `mos` for both directions. A field that
                both records have changes both. Values are not checked, and can be wrong.

        Raises:
            TypeError: an argument has another type, or cannot be encoded as JSON; a field is
                unknown, or belongs to a record that is given.
            ValueError: the number is negative, a value cannot be encoded as JSON, a datetime has
                no time zone, or a step is unknown.
        """
        wanted = MadeUp.of(fields)
        steps = checked_steps(summary)
        given = None if conference is None else copy_conference(conference)
        sid = conference_sid or _sid_of(given) or make_sid(self._rng, "CF")
        region, created = self._region(wanted), self._creation_time(wanted)
        if isinstance(participants, int) and not isinstance(participants, bool):
            records = self._made_up_participants(participants, sid, region, created, wanted)
        else:
            _check_unused(wanted.only_for_participants(), "participants")
            records = copy_participants(participants)
        make: Callable[[], dict[str, object]]
        if given is None:
            make = functools.partial(self._made_up_summary, records, sid, created, wanted)
        else:
            _check_unused([*wanted.conference], "conference")
            make = given.copy
        self._store.put(sid, StoredConference(participants=records, make_summary=make, steps=steps))
        return sid

    def _region(self, wanted: MadeUp) -> str:
        """Return the region that mixes a conference: as the test says, or any."""
        made_up = self._rng.choice(REGIONS)
        given = wanted.conference.get("mixer_region")
        return given if isinstance(given, str) else made_up

    def _creation_time(self, wanted: MadeUp) -> datetime:
        """Return when a conference is created: as the test says, or some hours ago."""
        ago = _EARLIEST - timedelta(seconds=self._rng.randrange(int(_SPREAD.total_seconds())))
        return parsed_time(wanted.conference.get("create_time")) or self._now - ago

    def _made_up_participants(
        self, count: int, sid: str, region: str, created: datetime, wanted: MadeUp
    ) -> list[dict[str, object]]:
        records = make_participants(
            self._rng,
            count,
            created=created,
            region=region,
            base_url=self.base_url,
            account_sid=self.credentials[0],
            conference_sid=sid,
        )
        for record in records:
            wanted.apply_to(record)
        return records

    def _made_up_summary(
        self,
        participants: Sequence[Mapping[str, object]],
        sid: str,
        created: datetime,
        wanted: MadeUp,
    ) -> dict[str, object]:
        # Its own generator: it is called later, and must not change what is made up meanwhile.
        rng = random.Random(f"{self._initial.seed} {sid}")  # noqa: S311 - made-up data, not secrets
        made = make_summary(
            rng,
            participants,
            created=created,
            base_url=self.base_url,
            account_sid=self.credentials[0],
            conference_sid=sid,
        )
        return {**made, **wanted.conference}

    def conferences(self) -> list[Mapping[str, object]]:
        """Return copies of all conferences, as the JSON that is served in the end.

        They come in the order in which they were added, with the last step of their `summary`.
        For example:

            expected = {each["conference_sid"] for each in fake.conferences()}
        """
        return [*copy.deepcopy(self._store.in_the_end())]

    def records(self, conference_sid: str) -> list[Mapping[str, object]]:
        """Return a copy of a conference's participants, as the JSON that is served in the end.

        For example:

            expected = [record["participant_sid"] for record in fake.records(sid)]

        Raises:
            KeyError: there is no such conference.
        """
        conference = self._store[conference_sid]
        return [*copy.deepcopy(conference.shown_participants(conference.steps[-1]))]

    def fail_next(
        self,
        status: int = 503,
        *,
        times: int = 1,
        retry_after: float | str | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        disconnect: bool = False,
        conference_sid: str | None = None,
        page: int | None = None,
        path: str | None = None,
    ) -> None:
        """Let the next requests fail. Faults are queued: each request takes the first for it.

        For example:

            fake.fail_next(503)
            fake.fail_next(429, retry_after=1)
            fake.fail_next(500, conference_sid=sid, page=2)
            fake.fail_next(404, path="/v1/Conferences/*", times=3)

        Args:
            status: the HTTP status.
            times: how many requests fail this way.
            retry_after: the value of the `Retry-After` header.
            body: bytes (or `bytearray`, `memoryview`, …) that are sent unchanged; or a value that
                is encoded as JSON; None for Twilio's error body for the status.
            headers: further headers.
            disconnect: drop the connection instead of replying. aiohttp's client then sends a GET
                a second time by itself, so one attempt of a session takes two faults.
            conference_sid: only requests for this conference or its participants.
            page: only requests for this page of a list, counted from 0 as in `meta.page`.
            path: only requests for this path. `*` stands for any one segment:
                `/v1/Conferences/*/Participants`.

        Raises:
            TypeError: the body is neither bytes nor can be encoded as JSON.
            ValueError: the page is negative, or the path does not begin with `/`.
        """
        if page is not None and page < 0:
            message = f"page must be a whole number from 0, not {page}."
            raise ValueError(message)
        if path is not None and not path.startswith("/"):
            message = "path must begin with a slash, such as /v1/Conferences/*/Participants."
            raise ValueError(message)
        retry_header = {} if retry_after is None else {"Retry-After": str(retry_after)}
        fault = Fault(
            status=status,
            body=error_body(status) if body is None else as_bytes(body),
            headers={**retry_header, **(headers or {})},
            disconnect=disconnect,
            conference_sid=conference_sid,
            page=page,
            path=path,
        )
        self._faults.add(fault, times)

    @property
    def pending_faults(self) -> int:
        """The number of faults that no request has taken yet.

        At the end of a test it shows a fault that was never met, as with a wrong SID. For example:

            assert not fake.pending_faults
        """
        return len(self._faults)

    async def start(self) -> None:
        """Start to listen. `async with` does this."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        # When the server stops or the client disconnects, requests in flight are cancelled.
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        self._runner = runner
        host, port = runner.addresses[0][:2]
        self._base_url = f"http://{host}:{port}"
        self._rewrite_urls()

    async def aclose(self) -> None:
        """Stop the server, and drop the requests in flight. `async with` does this."""
        runner, self._runner, self._base_url = self._runner, None, ""
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        """Start the server."""
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Stop the server."""
        await self.aclose()

    def _rewrite_urls(self) -> None:
        """Replace the base URL of an earlier start by the current one in all records."""
        if self._last_base_url:
            self._store.move(self._last_base_url, self._base_url)
        self._last_base_url = self._base_url

    async def _serve(self, request: web.Request) -> web.Response:
        """Answer a request, and log it."""
        counted = request.path != TOKEN_PATH  # Twilio's tokens come from another host
        self._in_flight += counted
        # Before any latency: a token may expire meanwhile.
        request[_AUTHORIZED] = self._is_authorized(request)
        log = self.requests  # a request that is still open after `reset` is not logged in the new
        status = 0
        try:
            response = await self._answer(request)
            status = response.status
            return response
        finally:
            self._in_flight -= counted
            log.append(
                SeenRequest(
                    method=request.method,
                    path=request.path,
                    query=dict(request.query),
                    user_agent=request.headers.get("User-Agent", ""),
                    authorized=request[_AUTHORIZED],
                    status=status,
                )
            )

    async def _answer(self, request: web.Request) -> web.Response:
        concurrent = self._in_flight
        if self.concurrency is not None and concurrent > self.concurrency:
            return self._response(429, error_body(429), concurrent)
        if self.latency:
            await asyncio.sleep(self.latency)
        fault = self._faults.take(request.path, request.query)
        if fault is not None:
            if fault.disconnect and request.transport is not None:
                request.transport.abort()
                raise asyncio.CancelledError
            return self._response(fault.status, fault.body, concurrent, fault.headers)
        if request.path == TOKEN_PATH:
            return self._response(*await self._token(request), concurrent)
        try:
            return self._response(200, self._page(request), concurrent)
        except RequestRefused as refused:
            return self._response(refused.status, refused.body(), concurrent, refused.headers())

    def _response(
        self, status: int, body: bytes, concurrent: int, headers: Mapping[str, str] | None = None
    ) -> web.Response:
        return web.Response(
            status=status,
            body=body,
            headers={
                "Content-Type": "application/json",
                "Twilio-Request-Id": f"RQ{self._request_ids.getrandbits(128):032x}",
                "Twilio-Concurrent-Requests": str(concurrent),
                **(headers or {}),
            },
        )

    def _is_authorized(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        return given == self._authorization or self._tokens.accepts(given)

    async def _token(self, request: web.Request) -> tuple[int, bytes]:
        if request.method != "POST":
            return 405, error_body(405)
        form = await request.post()
        request[_AUTHORIZED] = self._tokens.is_client(form)
        return self._tokens.answer(form, lifetime=self.token_lifetime)

    def _page(self, request: web.Request) -> bytes:
        """Return the body that a request asks for; raise RequestRefused if it is not valid."""
        if not request[_AUTHORIZED]:
            raise RequestRefused(401)
        answer = self._store.resource(request.path)
        if request.method != "GET":
            raise RequestRefused(405)
        return answer(
            Get(
                base_url=self.base_url,
                path=request.path,
                query_string=request.query_string,
                query=request.query,
                clock=Clock(now=self._now, inclusive=self._inclusive),
            )
        )


def _sid_of(given: Mapping[str, object] | None) -> str | None:
    sid = given.get("conference_sid") if given else None
    return sid if isinstance(sid, str) else None


def _check_unused(names: Sequence[str], given: str) -> None:
    if names:
        message = f"{names[0]} changes what is made up, but {given} is given."
        raise TypeError(message)
