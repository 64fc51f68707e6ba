"""One attempt over aiohttp: sends a `Request`, returns a `Response` or raises one of our errors.

1. The URL is built from the session's own origin, and only then `Authorization` is added, to that
   one request: never as a default of a session, never after a redirect. A request that would go to
   another origin is not sent, whatever else may be wrong.
2. aiohttp's errors and replies show the request's headers and URL in their repr. So its errors are
   translated (`_transport_errors`), never chained to ours, and no frame of our errors' tracebacks
   holds a reply.
3. Every attempt has a total, a connect and a read timeout. aiohttp's own `connect` timeout is not
   used: it includes the time in the pool's queue, and would fail healthy hosts under load. The
   connect timeout bounds a DNS lookup, too; always the session's own one, not that of the attempt,
   as attempts share a lookup. A borrowed session has a resolver of its own, so there only the total
   bounds it.
4. At most 16 MiB of decompressed body are read; aiohttp itself has no such bound.
5. A token request goes to the credentials' own URL, by the same session, proxy and timeouts, and
   has no `Authorization`. At most 64 KiB of its reply are read.
6. The status decides: a refusal whose body cannot be read is that refusal, without details.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import platform
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver
from aiohttp.hdrs import AUTHORIZATION
from yarl import URL

from ._messages import Response, do_nothing
from ._tracebacks import stripped
from ._transport_errors import translated
from ._version import __version__
from .errors import InsightsError, InvalidRequestError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ssl import SSLContext

    from aiohttp.abc import ResolveResult
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

    from ._credentials import Authorization, ClientCredentials
    from ._messages import Request

__all__ = ["LARGEST_BODY", "USER_AGENT", "Sent", "Transport"]

#: Bytes of decompressed body. A full page of 1000 records is about 1.5 MB.
LARGEST_BODY: Final = 16 * 2**20

#: Bytes of the reply to a token request. A token has to fit into a header, of 8 to 16 KiB mostly.
_LARGEST_TOKEN_BODY: Final = 64 * 2**10

_SMALLER_PAGES: Final = "Set a smaller page_size."

#: Bytes to read of a body at once. Without a bound, aiohttp 3.14.0 decompresses everything into one
#: piece: https://osv.dev/PYSEC-2026-2111
_PIECE: Final = 64 * 2**10
#: The buffer of a long body has a multiple of so many bytes. And the most that is allocated because
#: of a header alone, as a header may lie.
_ROOM: Final = 256 * 2**10
_LARGEST_ROOM: Final = 2 * 2**20

#: Iterations of the event loop after which a request counts as sent, where nothing reports it. A
#: new plain connection needs six until its request is written.
_TURNS: Final = 8

USER_AGENT: Final = (
    f"aioparticipants/{__version__} ({platform.system()} {platform.machine()}) "
    f"aiohttp/{aiohttp.__version__} Python/{platform.python_version()}"
)


class Sent:
    """Whether the request of a call has been written, or has to wait before that."""

    def __init__(self) -> None:
        """Not yet. It belongs to the running event loop."""
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_set(self) -> bool:
        """Whether it was sent, or has to wait."""
        return self._future.done()

    def set(self) -> None:
        """Note that it was sent, or has to wait. To do so again changes nothing."""
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, task: asyncio.Task[Any], *, seconds: float) -> None:
        """Wait for `set()`, at most that many seconds, and no longer than `task` runs."""
        waiting: tuple[asyncio.Future[Any], ...] = (self._future, task)
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


#: Of the call that runs in this task; our connector sets it.
_sent: contextvars.ContextVar[Sent] = contextvars.ContextVar("_sent")


class Transport:
    """Sends requests to one origin, over an aiohttp session that it owns or borrows."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout: aiohttp.ClientTimeout,
        connections: int,
        http: aiohttp.ClientSession | None,
        proxy: str | None,
        trace_configs: Sequence[aiohttp.TraceConfig],
        ssl: SSLContext | None = None,
        user_agent: str | None = None,
    ) -> None:
        """Send to `base_url`; make an aiohttp session when `http` is None."""
        self._base_url = base_url
        self._origin = URL(base_url).origin()
        self._timeout = timeout
        self._connections = connections
        self._http = http
        self._owned = http is None
        self._resolver: _Resolver | None = None
        self._proxy = proxy
        self._ssl = ssl
        self._user_agent = USER_AGENT if user_agent is None else f"{USER_AGENT} {user_agent}"
        self._trace_configs = [*trace_configs]

    def check(self, request: Request) -> None:
        """Raise InvalidRequestError if a request would leave the session's own origin."""
        self._url(request)

    async def send(
        self,
        request: Request,
        authorization: Authorization,
        *,
        seconds: float,
        sent: Sent,
        timeouts: aiohttp.ClientTimeout | None = None,
    ) -> Response:
        """Make one attempt, of at most `seconds`, and read the whole reply.

        `timeouts` are those of this attempt; None for the transport's own.

        `sent` is set when the request has its connection, and is about to be written. With a
        borrowed session nothing reports that moment: there it is set a few iterations of the event
        loop later.

        Raises:
            TransportError: no usable reply came.
            ResponseError: the body is too large.
            SessionClosedError: the aiohttp session was closed.
            InvalidRequestError: the borrowed session cannot carry our requests.
        """
        http = self._session(sent)
        try:
            return await self._exchange(
                http, request, authorization, self._within(seconds, timeouts)
            )
        except (Exception, asyncio.CancelledError) as error:
            failure = translated(error, request.conference_sid, closed=http.closed)
            if failure is error and not isinstance(error, InsightsError):
                raise
        raise stripped(failure)

    async def request_token(self, credentials: ClientCredentials, *, seconds: float) -> Response:
        """Request an access token; raise as `send` does."""
        http = self._session(Sent())
        try:
            return await self._post(http, credentials, seconds)
        except (Exception, asyncio.CancelledError) as error:
            failure = translated(error, None, closed=http.closed)
            if failure is error and not isinstance(error, InsightsError):
                raise
        raise stripped(failure)

    @property
    def in_use(self) -> bool:
        """Whether it has opened an aiohttp session of its own, and not closed it."""
        return self._owned and self._http is not None and not self._http.closed

    async def aclose(self) -> None:
        """Close the aiohttp session, unless it is borrowed."""
        if self._owned and self._http is not None:
            await self._http.close()
        if self._resolver is not None:  # aiohttp only closes a resolver of its own
            await self._resolver.close()

    def _session(self, sent: Sent) -> aiohttp.ClientSession:
        """Return the aiohttp session, and arrange for `sent` to be set."""
        if self._http is None:
            self._http = self._new_session()
        if self._owned:
            _sent.set(sent)
        else:
            _set_after(_TURNS, sent)
        return self._http

    async def _exchange(
        self,
        http: aiohttp.ClientSession,
        request: Request,
        authorization: Authorization,
        timeouts: aiohttp.ClientTimeout,
    ) -> Response:
        async with http.get(
            self._url(request),  # not in a variable: a traceback's frames would show the label
            headers={
                "Accept": "application/json",
                "Authorization": authorization.header,
                "User-Agent": self._user_agent,
            },
            allow_redirects=False,
            raise_for_status=False,
            timeout=timeouts,
            proxy=self._proxy,
        ) as reply:
            close = _closer(reply)
            body = await _body(reply, request.conference_sid, http)
            if reply.status != HTTPStatus.OK:
                body = authorization.redacted(body)
            return Response(
                status=reply.status, headers=reply.headers, body=body, close_connection=close
            )

    async def _post(
        self, http: aiohttp.ClientSession, credentials: ClientCredentials, seconds: float
    ) -> Response:
        # What a borrowed session adds to each request would go to the token endpoint as well.
        if http.auth is not None or AUTHORIZATION in http.headers:
            message = "A borrowed session must have no auth and no Authorization header of its own."
            raise InvalidRequestError(message)
        url = credentials.token_request()[0]
        async with http.post(
            URL(url, encoded=True),
            data=credentials.token_request()[1],  # not in a variable: it has the secret
            headers={
                "Accept": "application/json",
                "Content-Type": "application/x-www-form-urlencoded",
                "User-Agent": self._user_agent,
            },
            allow_redirects=False,
            raise_for_status=False,
            timeout=self._within(seconds),
            proxy=self._proxy,
        ) as reply:
            body = await _body(reply, None, http, largest=_LARGEST_TOKEN_BODY)
            if reply.status >= HTTPStatus.MULTIPLE_CHOICES:
                body = credentials.redacted(body)
            return Response(status=reply.status, headers=reply.headers, body=body)

    def _url(self, request: Request) -> URL:
        """Return the URL of a request, which is always at the session's own origin."""
        # Of an empty query yarl drops the question mark.
        url = URL(f"{self._base_url}{request.path}?{request.query}", encoded=True)
        own = (self._origin.scheme, self._origin.raw_authority, request.path)
        if (url.scheme, url.raw_authority, url.raw_path) != own:
            message = "The request would leave the session's own origin; it was not sent."
            raise InvalidRequestError(message, conference_sid=request.conference_sid)
        return url

    def _within(
        self, seconds: float, timeouts: aiohttp.ClientTimeout | None = None
    ) -> aiohttp.ClientTimeout:
        timeouts = timeouts or self._timeout
        # client_timeout() has made sure that there is a total.
        if seconds >= (timeouts.total or seconds):
            return timeouts
        return attrs.evolve(timeouts, total=seconds)

    def _new_session(self) -> aiohttp.ClientSession:
        self._resolver = _Resolver(self._timeout.sock_connect)
        return aiohttp.ClientSession(
            connector=_Connector(
                limit=self._connections, resolver=self._resolver, ssl=self._ssl or True
            ),
            cookie_jar=aiohttp.DummyCookieJar(),  # no reply adds to the next request
            trust_env=False,  # a netrc entry for the host would clash with our Authorization
            trace_configs=self._trace_configs,
        )


class _Connector(aiohttp.TCPConnector):
    """Reports when a request has its connection, and refuses one that has unread data.

    1. From `connect` to the wire aiohttp does not wait, so the request is written before any other
       task runs, unless a hook of the user's own `TraceConfig` waits. (A `TraceConfig` of ours
       could report it, too, but slows down every request.)
    2. A kept connection may have received data that nobody asked for. aiohttp would take it for the
       reply to the next request, and so one conference for another:
       https://github.com/aio-libs/aiohttp/issues/13656
    """

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature, overridden
    ) -> Connection:
        """Return a connection that has no unread data."""
        connection = await super().connect(req, traces, timeout)
        # The attempt's total timeout ends this loop if a host sends first on every connection.
        while connection.protocol is not None and connection.protocol.should_close:
            connection.close()
            connection = await super().connect(req, traces, timeout)
        try:
            _sent.get().set()
        except BaseException:
            connection.close()
            raise
        return connection


class _Resolver(AbstractResolver):
    """aiohttp's own resolver with a timeout, as `sock_connect` does not include lookups."""

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
        # With an errno, as aiohttp would otherwise take it for a timeout of the connection.
        raise OSError(errno.ETIMEDOUT, "lookup timed out")

    async def close(self) -> None:
        """Close aiohttp's resolver."""
        await self._resolver.close()


def _set_after(turns: int, sent: Sent) -> None:
    """Set `sent` after that many iterations of the event loop."""
    if turns:
        asyncio.get_running_loop().call_soon(_set_after, turns - 1, sent)
    else:
        sent.set()


def _closer(reply: aiohttp.ClientResponse) -> Callable[[], object]:
    """Return a function that closes the connection of a reply at once.

    `reply.connection` is None as soon as the body has come, mostly together with the head: then the
    connection is back in the pool, or another request has it. The reply still knows its protocol.
    """
    transport = getattr(getattr(reply, "_protocol", None), "transport", None)
    return cast("Callable[[], object]", getattr(transport, "abort", do_nothing))


async def _body(
    reply: aiohttp.ClientResponse,
    conference_sid: str | None,
    http: aiohttp.ClientSession,
    *,
    largest: int = LARGEST_BODY,
) -> bytes | bytearray:
    """Read the whole body. If that fails, a refusal still counts as one, with an empty body."""
    try:
        return await _read(reply, conference_sid, largest)
    except Exception as error:
        failure = translated(error, conference_sid, closed=http.closed, replied=True)
        if not isinstance(failure, InsightsError):
            raise
    if reply.status != HTTPStatus.OK:
        return b""
    failure.request_id = Response(status=reply.status, headers=reply.headers, body=b"").request_id
    raise failure


async def _read(
    reply: aiohttp.ClientResponse, conference_sid: str | None, largest: int
) -> bytearray:
    # Not joined from chunks, as that needs the memory twice.
    body, size = bytearray(_room_for(reply)), 0
    async for chunk in reply.content.iter_chunked(_PIECE):
        body[size : size + len(chunk)] = chunk
        size += len(chunk)
        if size > largest:
            message = f"The body of the reply is larger than {largest} bytes. {_SMALLER_PAGES}"
            raise ResponseError(message, conference_sid=conference_sid)
    del body[size:]
    return body


def _room_for(reply: aiohttp.ClientResponse) -> int:
    """Return how many bytes to allocate at first.

    For a long body the number is rounded up, so that the allocator can reuse the memory of one body
    for the next.
    """
    announced = min(reply.content_length or 0, _LARGEST_ROOM)
    return -(-announced // _ROOM) * _ROOM if announced > _ROOM else announced
