"""`FakeInsights`: the API on loopback, for tests of code that uses it.

1. It is a real HTTP server: nothing of the client is replaced.
2. Pages, tokens, filters, authentication and error bodies are as the API's published description
   and Twilio's documentation have them; what they leave open is chosen, and said beside it.
3. It tells what it saw, and fails on demand: the next requests, or all beyond a ceiling.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import itertools
import json
import random
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote, urlencode

import attrs
from aiohttp import web

from .._credentials import Credentials
from ._bodies import as_bytes, error_body
from ._records import copied_participants, make_participants, make_sid, moved

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..models import Participant

__all__ = ["FakeInsights", "SeenRequest"]

#: https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-participant-summary-resource
_DEFAULT_PAGE: Final = 50
_LARGEST_PAGE: Final = 1000


@attrs.frozen(kw_only=True)
class SeenRequest:
    """A request that arrived."""

    method: str
    path: str
    query: Mapping[str, str] = attrs.field(repr=False)
    """Decoded. It can hold a label, which is personal data, hence not in the repr."""
    user_agent: str
    authorized: bool
    """Whether it brought the right credentials."""
    status: int
    """What it was answered; 0 where the connection was dropped instead."""


@attrs.frozen(kw_only=True)
class _Fault:
    status: int
    body: bytes
    headers: Mapping[str, str]
    disconnect: bool


@attrs.frozen
class _Refusal(Exception):  # noqa: N818 - an answer rather than an error
    """A request that is answered with an error."""

    status: int
    message: str | None = None
    code: int | None = None


@attrs.frozen(kw_only=True)
class _Query:
    """A request's parameters, checked."""

    size: int
    start: int
    filters: Mapping[str, str]


class FakeInsights:
    """A server that behaves as Voice Insights does, on 127.0.0.1 and a free port.

    Open it with `async with`, then lead a session to `base_url` with `credentials`.

    Args:
        seed: what conferences and participants are made from; the same seed gives the same.
        latency: seconds before each answer.
        concurrency: requests in flight beyond which it answers 429 with Twilio's 20429; None for
            no ceiling.
        port: 0 for a free one.
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
        """What arrived, in the order of its answers."""
        self._port = port
        self._rng = random.Random(seed)  # noqa: S311 - made-up data, not secrets
        self.credentials: tuple[str, str] = (
            make_sid(self._rng, "AC"),
            f"{self._rng.getrandbits(128):032x}",
        )
        """Account SID and Auth Token that it accepts; made up, like all the rest."""
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
        """Return `http://127.0.0.1:port`; raise RuntimeError while it does not run."""
        if not self._base_url:
            message = "FakeInsights is not running: open it with `async with` first."
            raise RuntimeError(message)
        return self._base_url

    def add_conference(
        self,
        participants: int | Iterable[Participant | Mapping[str, object]] = 130,
        *,
        conference_sid: str | None = None,
    ) -> str:
        """Add a conference, and return its SID.

        Args:
            participants: how many to make up; or the participants, as `Participant`s or as their
                JSON, which is served as it is. They are copied.
            conference_sid: the SID to give it, instead of a made-up one.

        Raises:
            TypeError: `participants` is something else, or one of them cannot be JSON.
            ValueError: their number is negative, or one of them cannot be JSON.
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
            records = copied_participants(participants)
        self._conferences[sid] = records
        self._pages.clear()
        return sid

    def records(self, conference_sid: str) -> list[Mapping[str, object]]:
        """Return the JSON of a conference's participants, as it is served; a copy."""
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
        """Answer the next requests with a fault; faults wait in line.

        Args:
            status: the HTTP status.
            times: how many requests.
            retry_after: the `Retry-After` header.
            body: bytes (or `bytearray`, `memoryview`, …), sent as they are; or anything that can
                be JSON; None for Twilio's error body of the status.
            headers: further headers.
            disconnect: drop the connection instead of answering. aiohttp's client repeats a GET
                once by itself then, so one attempt takes two of these.

        Raises:
            TypeError: the body is neither bytes nor can be JSON.
        """
        named = {} if retry_after is None else {"Retry-After": str(retry_after)}
        fault = _Fault(
            status=status,
            body=error_body(status) if body is None else as_bytes(body),
            headers={**named, **(headers or {})},
            disconnect=disconnect,
        )
        self._faults += [fault] * times

    async def start(self) -> None:
        """Listen. `async with` does it."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        # The requests in flight are cancelled at the end, or as their client leaves, rather than
        # waited for.
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        self._runner = runner
        host, port = runner.addresses[0][:2]
        self._base_url = f"http://{host}:{port}"
        self._lead_here()

    async def aclose(self) -> None:
        """Stop listening, and drop what is in flight."""
        runner, self._runner, self._base_url = self._runner, None, ""
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Stop it."""
        await self.aclose()

    def _lead_here(self) -> None:
        """Let links and addresses lead to this start's port, and not to an earlier one's."""
        self._pages.clear()
        for record in itertools.chain.from_iterable(self._conferences.values()):
            record.update(moved(record, self._last_base_url, self._base_url))
        self._last_base_url = self._base_url

    async def _serve(self, request: web.Request) -> web.Response:
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
                    authorized=self._authorized(request),
                    status=status,
                )
            )

    async def _answer(self, request: web.Request) -> web.Response:
        crowd = self._in_flight
        crowded = self.concurrency is not None and crowd > self.concurrency
        if self.latency and not crowded:
            await asyncio.sleep(self.latency)
        if crowded:
            return self._response(429, error_body(429), crowd)
        if self._faults:
            fault = self._faults.pop(0)
            if fault.disconnect and request.transport is not None:
                request.transport.abort()
                raise asyncio.CancelledError
            return self._response(fault.status, fault.body, crowd, fault.headers)
        try:
            return self._response(200, self._page(request), crowd)
        except _Refusal as refusal:
            body = error_body(refusal.status, refusal.message, code=refusal.code)
            return self._response(refusal.status, body, crowd)

    def _response(
        self, status: int, body: bytes, crowd: int, headers: Mapping[str, str] | None = None
    ) -> web.Response:
        return web.Response(
            status=status,
            body=body,
            headers={
                "Content-Type": "application/json",
                "Twilio-Request-Id": f"RQ{self._rng.getrandbits(128):032x}",
                "Twilio-Concurrent-Requests": str(crowd),
                **(headers or {}),
            },
        )

    def _authorized(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == self._authorization

    def _page(self, request: web.Request) -> bytes:
        if not self._authorized(request):
            raise _Refusal(401)
        sid = self._conference_of(request.path)
        if request.method != "GET":
            raise _Refusal(405)
        key = (sid, request.query_string)
        if key not in self._pages:
            self._pages[key] = self._new_page(sid, _checked(request.query))
        return self._pages[key]

    def _conference_of(self, path: str) -> str:
        match path.split("/"):
            case ["", "v1", "Conferences", sid, "Participants"] if sid in self._conferences:
                return sid
            case _:
                raise _Refusal(404, f"The requested resource {path} was not found")

    def _new_page(self, sid: str, query: _Query) -> bytes:
        records = [each for each in self._conferences[sid] if _matches(each, query.filters)]
        if query.start > len(records):
            raise _Refusal(400, "Page token is invalid", 21481)
        end = query.start + query.size
        before = query.start - query.size
        meta = {
            "page": query.start // query.size,
            "page_size": query.size,
            "first_page_url": self._link(sid, query, 0),
            "previous_page_url": self._link(sid, query, max(0, before)) if query.start else None,
            "url": self._link(sid, query, query.start),
            "next_page_url": self._link(sid, query, end) if end < len(records) else None,
            "key": "participants",
        }
        return json.dumps({"meta": meta, "participants": records[query.start : end]}).encode()

    def _link(self, sid: str, query: _Query, start: int) -> str:
        parameters = {
            **query.filters,
            "PageSize": str(query.size),
            "Page": str(start // query.size),
        }
        if start:
            parameters["PageToken"] = _token(start)
        encoded = urlencode(parameters, quote_via=quote, safe="")
        return f"{self.base_url}/v1/Conferences/{sid}/Participants?{encoded}"


def _token(start: int) -> str:
    """Return a page token: opaque, and not safe in a URL unless it is encoded."""
    return "PT" + base64.b64encode(f"from {start}".encode()).decode()


def _checked(query: Mapping[str, str]) -> _Query:
    size = query.get("PageSize", str(_DEFAULT_PAGE))
    if not (size.isdecimal() and 1 <= int(size) <= _LARGEST_PAGE):
        raise _Refusal(400, f"PageSize must be from 1 to {_LARGEST_PAGE}")
    token = query.get("PageToken")
    return _Query(
        size=int(size),
        start=0 if token is None else _start(token),
        filters={
            name: query[name] for name in ("ParticipantSid", "Label", "Events") if name in query
        },
    )


def _start(token: str) -> int:
    try:
        words = base64.b64decode(token.removeprefix("PT"), validate=True).decode().split()
        if words[0] == "from" and token == _token(int(words[1])):
            return int(words[1])
    except (ValueError, IndexError):
        pass
    raise _Refusal(400, "Page token is invalid", 21481)


def _matches(record: Mapping[str, object], filters: Mapping[str, str]) -> bool:
    events = record.get("events")
    return (
        filters.get("ParticipantSid") in {None, record.get("participant_sid")}
        and filters.get("Label") in {None, record.get("label")}
        and ("Events" not in filters or (isinstance(events, dict) and filters["Events"] in events))
    )
