"""One attempt over aiohttp: a `Request` goes out, a `Response` or one of our errors comes back.

1. The URL is built from the session's own origin, and only then `Authorization` is added, to this
   one request: never as a default of a session, never after a redirect. Whatever else may be wrong,
   a request that would leave that origin is not sent.
2. aiohttp's errors and replies hold the request's headers and URL in their repr. The errors are
   translated (`_transport_errors`), and never chained: each of ours is raised after the `except`
   block is left, and no frame of its traceback holds a reply.
3. Every attempt has a total, a connect and a read timeout. aiohttp's `connect` is left alone: it
   counts the time in the pool's queue, and would fail healthy hosts under load. The connect timeout
   bounds a DNS lookup, too; of a borrowed session, whose resolver is its owner's, only the total
   does.
4. At most 16 MiB of decompressed body are read; aiohttp itself has no such bound.
5. The status decides: a refusal whose body cannot be read is that refusal, with no more to say.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import platform
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver
from yarl import URL

from ._messages import Response, do_nothing
from ._transport_errors import translated
from ._version import __version__
from .errors import InsightsError, InvalidRequestError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp.abc import ResolveResult
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

    from ._credentials import Credentials
    from ._messages import Request

__all__ = ["LARGEST_BODY", "USER_AGENT", "Transport"]

#: Bytes of decompressed body. A full page of 1000 records is about 1.5 MB.
LARGEST_BODY: Final = 16 * 2**20

#: Bytes to take of a body at once. Without a bound, aiohttp 3.14.0 unpacks all there is into one
#: piece: https://osv.dev/PYSEC-2026-2111
_PIECE: Final = 64 * 2**10
#: Bytes that the room for a longer body is a multiple of; and the most to be made on the word of a
#: header alone, which may lie.
_ROOM: Final = 256 * 2**10
_LARGEST_ROOM: Final = 2 * 2**20

#: Turns of the loop that a new plain connection needs until its request leaves are six.
_TURNS: Final = 8

USER_AGENT: Final = (
    f"aioparticipants/{__version__} ({platform.system()} {platform.machine()}) "
    f"aiohttp/{aiohttp.__version__} Python/{platform.python_version()}"
)


class Transport:
    """Sends requests to one origin, over an aiohttp session that it owns or borrows."""

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        *,
        timeout: aiohttp.ClientTimeout,
        connections: int,
        http: aiohttp.ClientSession | None,
        proxy: str | None,
        trace_configs: Sequence[aiohttp.TraceConfig],
    ) -> None:
        """Send to `base_url` as `credentials`; make an aiohttp session when `http` is None."""
        self._base_url = base_url
        self._origin = URL(base_url).origin()
        self._credentials = credentials
        self._timeout = timeout
        self._connections = connections
        self._http = http
        self._owned = http is None
        self._resolver: _Resolver | None = None
        self._proxy = proxy
        self._trace_configs = [*trace_configs]

    async def send(
        self, request: Request, *, seconds: float, departed: Callable[[], None]
    ) -> Response:
        """Make one attempt, of at most `seconds`, and read the reply to its end.

        `departed` is called as the request has its connection, and is about to be written. Nothing
        tells of that moment with a borrowed session: there it is called a few turns of the loop
        later.

        Raises:
            TransportError: no usable reply came.
            ResponseError: the body is too large.
            SessionClosedError: the aiohttp session was closed.
            InvalidRequestError: the borrowed session cannot carry our requests.
        """
        http = self._session(departed)
        try:
            return await self._exchange(http, request, seconds)
        except (Exception, asyncio.CancelledError) as error:
            failure = translated(error, request.conference_sid, closed=http.closed)
            if failure is error and not isinstance(error, InsightsError):
                raise
        # Without the frames below: they hold the reply, whose repr shows the URL.
        raise failure.with_traceback(None)

    @property
    def in_use(self) -> bool:
        """Whether it holds an aiohttp session of its own that was not closed."""
        return self._owned and self._http is not None and not self._http.closed

    async def aclose(self) -> None:
        """Close the aiohttp session if it is ours."""
        if self._owned and self._http is not None:
            await self._http.close()
        if self._resolver is not None:  # aiohttp closes none but those that it made
            await self._resolver.close()

    def _session(self, departed: Callable[[], None]) -> aiohttp.ClientSession:
        """Return the session to send with, and have `departed` called in time."""
        if self._http is None:
            self._http = self._new_session()
        if self._owned:
            _departed.set(departed)
        else:
            _after(_TURNS, departed)
        return self._http

    async def _exchange(
        self, http: aiohttp.ClientSession, request: Request, seconds: float
    ) -> Response:
        async with http.get(
            self._url(request),  # no variable of its own: a traceback's frames would show the label
            headers={
                "Accept": "application/json",
                "Authorization": self._credentials.authorization(),
                "User-Agent": USER_AGENT,
            },
            allow_redirects=False,
            raise_for_status=False,
            timeout=self._within(seconds),
            proxy=self._proxy,
        ) as reply:
            close = _closer(reply)
            body = await _body(reply, request.conference_sid, http)
            if reply.status != HTTPStatus.OK:
                body = self._credentials.redacted(body)
            return Response(
                status=reply.status, headers=reply.headers, body=body, close_connection=close
            )

    def _url(self, request: Request) -> URL:
        """Return where a request goes: to the session's own origin, whatever made the request."""
        url = URL(f"{self._base_url}{request.path}?{request.query}", encoded=True)
        own = (self._origin.scheme, self._origin.raw_authority, request.path)
        if (url.scheme, url.raw_authority, url.raw_path) != own:
            message = "The request would leave the session's own origin; it was not sent."
            raise InvalidRequestError(message, conference_sid=request.conference_sid)
        return url

    def _within(self, seconds: float) -> aiohttp.ClientTimeout:
        # client_timeout() sees to it that there is a total.
        if seconds >= (self._timeout.total or seconds):
            return self._timeout
        return attrs.evolve(self._timeout, total=seconds)

    def _new_session(self) -> aiohttp.ClientSession:
        self._resolver = _Resolver(self._timeout.sock_connect)
        return aiohttp.ClientSession(
            connector=_Connector(limit=self._connections, resolver=self._resolver),
            cookie_jar=aiohttp.DummyCookieJar(),  # nothing that one reply sets rides on the next
            trust_env=False,  # a netrc entry for the host would clash with our Authorization
            trace_configs=self._trace_configs,
        )


#: What to call as the request of this task is about to leave.
_departed: contextvars.ContextVar[Callable[[], None]] = contextvars.ContextVar("departed")


class _Connector(aiohttp.TCPConnector):
    """Tells when a request has its connection, and hands out none on which it would be misled.

    1. From there to the wire aiohttp does not wait, so that the request leaves before anybody else
       gets a turn; unless a hook of the user's own `TraceConfig` waits. (One of ours could tell,
       too, and takes 25 us a request.)
    2. On a kept connection something may have come that nobody asked for. It would be taken for
       the answer to the next request, and so one conference for another:
       https://github.com/aio-libs/aiohttp/issues/13656
    """

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature, overridden
    ) -> Connection:
        """Return a connection that has nothing to say yet."""
        connection = await super().connect(req, traces, timeout)
        # A host that talks first on every connection is given up with the attempt's total.
        while connection.protocol is not None and connection.protocol.should_close:
            connection.close()
            connection = await super().connect(req, traces, timeout)
        try:
            _departed.get()()
        except BaseException:
            connection.close()
            raise
        return connection


class _Resolver(AbstractResolver):
    """aiohttp's own resolver within bounds, which its `sock_connect` does not set."""

    def __init__(self, seconds: float | None) -> None:
        """Allow so many seconds for one lookup."""
        self._resolver = aiohttp.DefaultResolver()
        self._seconds = seconds

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._resolver.resolve(host, port, family)
        except TimeoutError:
            pass
        # It has a number, without which aiohttp would take it for a timeout of the connection.
        raise OSError(errno.ETIMEDOUT, "lookup timed out")

    async def close(self) -> None:
        """Close what it asks."""
        await self._resolver.close()


def _after(turns: int, departed: Callable[[], None]) -> None:
    if turns:
        asyncio.get_running_loop().call_soon(_after, turns - 1, departed)
    else:
        departed()


def _closer(reply: aiohttp.ClientResponse) -> Callable[[], object]:
    """Return what closes the connection that a reply came on, for good and at once.

    `reply.connection` is None as soon as the body is here, as it mostly is with the head: then the
    connection may be idle in the pool, or another request's. The reply still knows the protocol.
    """
    transport = getattr(getattr(reply, "_protocol", None), "transport", None)
    return cast("Callable[[], object]", getattr(transport, "abort", do_nothing))


async def _body(
    reply: aiohttp.ClientResponse, conference_sid: str, http: aiohttp.ClientSession
) -> bytes | bytearray:
    """Read the reply to its end. Where it is a refusal, its status counts, even with no body."""
    try:
        return await _read(reply, conference_sid)
    except Exception as error:
        failure = translated(error, conference_sid, closed=http.closed, replied=True)
        if not isinstance(failure, InsightsError):
            raise
    if reply.status != HTTPStatus.OK:
        return b""
    failure.request_id = Response(status=reply.status, headers=reply.headers, body=b"").request_id
    raise failure


async def _read(reply: aiohttp.ClientResponse, conference_sid: str) -> bytearray:
    # Filled in rather than joined, as the chunks and what is joined of them would be there twice.
    body, size = bytearray(_room_for(reply)), 0
    async for chunk in reply.content.iter_chunked(_PIECE):
        body[size : size + len(chunk)] = chunk
        size += len(chunk)
        if size > LARGEST_BODY:
            message = (
                f"The body of the reply is larger than {LARGEST_BODY} bytes. "
                "Set a smaller page_size."
            )
            raise ResponseError(message, conference_sid=conference_sid)
    del body[size:]
    return body


def _room_for(reply: aiohttp.ClientResponse) -> int:
    """Return the bytes to make room for at first.

    The room of a long body is rounded up, so that the next one fits into the memory that it leaves.
    (Measured, MB over start at PageSize 1000: 3.8, and 4.4 where each has a size of its own.)
    """
    announced = min(reply.content_length or 0, _LARGEST_ROOM)
    return -(-announced // _ROOM) * _ROOM if announced > _ROOM else announced
