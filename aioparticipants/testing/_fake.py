"""`FakeInsights`: a test server that behaves as the API does.

1. It is a real HTTP server on 127.0.0.1: nothing in the client is replaced.
2. Pages, page tokens, filters, authentication and error bodies follow the API's published
   description and Twilio's documentation. What those leave open is chosen here.
3. It logs every request, and fails on demand: the next requests, or every request beyond a
   maximum of concurrent ones.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
from typing import TYPE_CHECKING, Self

import attrs
from aiohttp import web

from .._credentials import Credentials
from ._bodies import RequestRefused, as_bytes, error_body
from ._pages import PageQuery
from ._records import copy_participants, make_participants, make_sid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..models import Participant

__all__ = ["FakeInsights", "SeenRequest"]


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
class _Fault:
    status: int
    body: bytes
    headers: Mapping[str, str]
    disconnect: bool


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
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        latency: float = 0.0,
        concurrency: int | None = None,
        port: int = 0,
    ) -> None:
        """See the class."""
        self.latency = latency
        self.concurrency = concurrency
        self.requests: list[SeenRequest] = []
        """The requests that were answered, in the order of the replies."""
        self._port = port
        self._rng = random.Random(seed)  # noqa: S311 - made-up data, not secrets
        self.credentials: tuple[str, str] = (
            make_sid(self._rng, "AC"),
            f"{self._rng.getrandbits(128):032x}",
        )
        """The made-up Account SID and Auth Token that the server accepts."""
        self._authorization = Credentials(*self.credentials).authorization()
        self._conferences: dict[str, list[dict[str, object]]] = {}
        self._pages: dict[tuple[str, str], bytes] = {}
        self._faults: list[_Fault] = []
        self._in_flight = 0
        self._runner: web.AppRunner | None = None
        self._base_url = ""
        self._last_base_url = ""

    @property
    def base_url(self) -> str:
        """Return `http://127.0.0.1:port`; raise RuntimeError if the server is not running."""
        if not self._base_url:
            message = "FakeInsights is not running: start it with `async with` first."
            raise RuntimeError(message)
        return self._base_url

    def add_conference(
        self,
        participants: int | Iterable[Participant | Mapping[str, object]] = 130,
        *,
        conference_sid: str | None = None,
    ) -> str:
        """Add a conference, and return its SID.

        For example:

            sid = fake.add_conference(participants=3)
            sid = fake.add_conference([{"participant_sid": "CP1", "label": "agent"}])

        Args:
            participants: how many participants to make up; or the participants themselves, as
                `Participant`s or as JSON that is served unchanged. They are copied.
            conference_sid: the SID of the conference, instead of a made-up one. An existing
                conference with this SID is replaced.

        Raises:
            TypeError: `participants` has another type, or one of them cannot be encoded as JSON.
            ValueError: the number is negative, or a participant cannot be encoded as JSON.
        """
        sid = conference_sid or make_sid(self._rng, "CF")
        if isinstance(participants, int) and not isinstance(participants, bool):
            records = make_participants(
                self._rng,
                participants,
                base_url=self.base_url,
                account_sid=self.credentials[0],
                conference_sid=sid,
            )
        else:
            records = copy_participants(participants)
        self._conferences[sid] = records
        self._pages.clear()
        return sid

    def records(self, conference_sid: str) -> list[Mapping[str, object]]:
        """Return a copy of a conference's participants, as the JSON that is served.

        For example:

            expected = [record["participant_sid"] for record in fake.records(sid)]
        """
        return [*copy.deepcopy(self._conferences[conference_sid])]

    def fail_next(
        self,
        status: int = 503,
        *,
        times: int = 1,
        retry_after: float | str | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        disconnect: bool = False,
    ) -> None:
        """Let the next requests fail. Faults are queued: each request takes one.

        For example:

            fake.fail_next(503)
            fake.fail_next(429, retry_after=1)

        Args:
            status: the HTTP status.
            times: how many requests fail this way.
            retry_after: the value of the `Retry-After` header.
            body: bytes (or `bytearray`, `memoryview`, …) that are sent unchanged; or a value that
                is encoded as JSON; None for Twilio's error body for the status.
            headers: further headers.
            disconnect: drop the connection instead of replying. aiohttp's client then sends a GET
                a second time by itself, so one attempt of a session takes two faults.

        Raises:
            TypeError: the body is neither bytes nor can be encoded as JSON.
        """
        retry_header = {} if retry_after is None else {"Retry-After": str(retry_after)}
        fault = _Fault(
            status=status,
            body=error_body(status) if body is None else as_bytes(body),
            headers={**retry_header, **(headers or {})},
            disconnect=disconnect,
        )
        self._faults += [fault] * times

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
        """Replace the base URL of an earlier start by the current one, in pages and records."""
        self._pages.clear()
        old = f"{self._last_base_url}/"
        for record in itertools.chain.from_iterable(self._conferences.values()):
            url = record.get("url")
            if self._last_base_url and isinstance(url, str) and url.startswith(old):
                record["url"] = f"{self._base_url}/{url.removeprefix(old)}"
        self._last_base_url = self._base_url

    async def _serve(self, request: web.Request) -> web.Response:
        """Answer a request, and log it."""
        self._in_flight += 1
        status = 0
        try:
            response = await self._answer(request)
            status = response.status
            return response
        finally:
            self._in_flight -= 1
            self.requests.append(
                SeenRequest(
                    method=request.method,
                    path=request.path,
                    query=dict(request.query),
                    user_agent=request.headers.get("User-Agent", ""),
                    authorized=self._is_authorized(request),
                    status=status,
                )
            )

    async def _answer(self, request: web.Request) -> web.Response:
        concurrent = self._in_flight
        if self.concurrency is not None and concurrent > self.concurrency:
            return self._response(429, error_body(429), concurrent)
        if self.latency:
            await asyncio.sleep(self.latency)
        if self._faults:
            fault = self._faults.pop(0)
            if fault.disconnect and request.transport is not None:
                request.transport.abort()
                raise asyncio.CancelledError
            return self._response(fault.status, fault.body, concurrent, fault.headers)
        try:
            return self._response(200, self._page(request), concurrent)
        except RequestRefused as refused:
            return self._response(refused.status, refused.body(), concurrent)

    def _response(
        self, status: int, body: bytes, concurrent: int, headers: Mapping[str, str] | None = None
    ) -> web.Response:
        return web.Response(
            status=status,
            body=body,
            headers={
                "Content-Type": "application/json",
                "Twilio-Request-Id": f"RQ{self._rng.getrandbits(128):032x}",
                "Twilio-Concurrent-Requests": str(concurrent),
                **(headers or {}),
            },
        )

    def _is_authorized(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == self._authorization

    def _page(self, request: web.Request) -> bytes:
        """Return the page that a request asks for; raise RequestRefused if it is not valid."""
        if not self._is_authorized(request):
            raise RequestRefused(401)
        sid = self._conference_of(request.path)
        if request.method != "GET":
            raise RequestRefused(405)
        key = (sid, request.query_string)
        if key not in self._pages:
            query = PageQuery.parse(request.query)
            self._pages[key] = query.page(self._conferences[sid], self.base_url + request.path)
        return self._pages[key]

    def _conference_of(self, path: str) -> str:
        match path.split("/"):
            case ["", "v1", "Conferences", sid, "Participants"] if sid in self._conferences:
                return sid
            case _:
                raise RequestRefused(404, f"The requested resource {path} was not found")
