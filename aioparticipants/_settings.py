"""The settings of a session: each argument checked once, all in one frozen value. Opens nothing.

1. The base URL is an origin, and https, or http on a loopback host. For a region and an edge, the
   host is built from words that are matched whole, so neither can name another host.
2. Each attempt has a time limit in all, to connect, and between bytes, whatever the caller gives.
3. A proxy sees all of a plain http request: with an http base URL it must be on a loopback host
   too, and so with an http token URL. Of an https request it sees the host and the port alone
   (RFC 9110, 9.3.6).
4. Certificates and host names are always checked: no `ssl.SSLContext` is accepted that does not.
5. Settings that leave the process (`Settings.options`) hold no secret: no credentials, and no proxy
   whose URL has any.
"""

from __future__ import annotations

import re
from ssl import CERT_REQUIRED, SSLContext
from typing import TYPE_CHECKING, Final, TypedDict, cast

import aiohttp
import attrs

from ._arguments import (
    LOOPBACK,
    checked_seconds,
    checked_whole_number,
    confidential_parts,
    origin_parts,
)
from ._credentials import (
    ClientCredentials,
    Credentials,
    CredentialsProvider,
    credentials_from,
)
from ._opentelemetry import checked_tracer
from ._retrying import RetryPolicy
from .errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import EllipsisType

    from ._limiter_protocols import SharedLimiter
    from ._opentelemetry import Tracer
    from .instrumentation import Event

__all__ = [
    "MAX_CONCURRENCY",
    "SessionOptions",
    "Settings",
    "base_url_from",
    "base_url_from_env",
    "checked_proxy",
    "checked_ssl",
    "checked_user_agent",
    "client_timeout",
]

#: The default of `max_concurrency`. Twilio refuses by concurrency, and no document names the
#: ceiling: about 100 an account, by reports. The limiter starts far below and finds it out.
MAX_CONCURRENCY: Final = 32

#: Seconds: one attempt in all, to connect (TLS included), and without a byte arriving.
_TOTAL, _CONNECT, _READ = 30.0, 10.0, 20.0

_HOST: Final = "insights.twilio.com"
_PUBLIC_REGION: Final = "us1"
#: The edges of the regions that need no `edge=`, by Twilio's list of regional API domains:
#: https://www.twilio.com/docs/global-infrastructure/edge-locations/legacy-regions
_EDGES: Final = {"ie1": "dublin", "au1": "sydney"}
_HOST_WORD: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
# RFC 9110, 10.1.5 has a grammar of products and comments. Servers do not check it, so only what
# cannot be a header, or a reasonable one, is refused.
_USER_AGENT: Final = re.compile(r"[!-~]([ -~]{0,198}[!-~])?")


class SessionOptions(TypedDict, total=False):
    """All arguments of `InsightsSession` except the credentials, for `from_env(**options)`.

    `InsightsSession.options` returns those that another process can use.
    """

    base_url: str | None
    region: str | None
    edge: str | None
    retry: RetryPolicy
    timeout: float | aiohttp.ClientTimeout | None
    deadline: float | None
    max_concurrency: int
    user_agent: str | None
    http: aiohttp.ClientSession | None
    proxy: str | None
    ssl: SSLContext | None
    trace_configs: Sequence[aiohttp.TraceConfig]
    limiter: SharedLimiter | None
    on_event: Callable[[Event], object] | None
    tracer: Tracer | None


def client_timeout(given: float | aiohttp.ClientTimeout | None) -> aiohttp.ClientTimeout:
    """Return the time limits of one attempt: `given` in all, and a default for what is not given.

    Raises:
        InvalidRequestError: the total is not a positive number of seconds.
    """
    total = _TOTAL if given is None else given
    base = aiohttp.ClientTimeout(sock_connect=_CONNECT)  # aiohttp's own default is longer
    if isinstance(given, aiohttp.ClientTimeout):
        total, base = cast("float", given.total), given
    checked_seconds(total, "timeout (one attempt in all)", positive=True)
    for part in ("connect", "sock_connect", "sock_read", "ceil_threshold"):
        checked_seconds(getattr(base, part), f"timeout.{part}", optional=True)
    return attrs.evolve(
        base,
        total=float(cast("float", total)),
        sock_connect=base.sock_connect or _CONNECT,
        sock_read=base.sock_read or _READ,
    )


def base_url_from(base_url: str | None, *, region: str | None, edge: str | None) -> str:
    """Return the origin that every request goes to: `https://host`, with no slash at the end.

    A region has its own host, `insights.{edge}.{region}.twilio.com`, and its own API keys:
    https://www.twilio.com/docs/global-infrastructure/understanding-twilio-regions
    The region us1 has the public host, so it needs no edge; those of ie1 and au1 are known.

    Raises:
        InvalidRequestError: the arguments name no safe origin.
    """
    if base_url is not None:
        if region is not None or edge is not None:
            message = "Give base_url, or region and edge: not both."
            raise InvalidRequestError(message)
        return _origin(base_url)
    if edge is None and region in (None, _PUBLIC_REGION):  # a tuple, as it may be unhashable
        return f"https://{_HOST}"
    region_word = _host_word(_PUBLIC_REGION if region is None else region, "region")
    edge = _EDGES.get(region_word) if edge is None else edge
    if edge is None:
        # Hosts with a region and no edge were switched off on 2026-04-28.
        message = (
            "This region needs its edge too, as in region='jp1', edge='tokyo'. "
            f"Only these need none: {', '.join([_PUBLIC_REGION, *_EDGES])}."
        )
        raise InvalidRequestError(message)
    return f"https://insights.{_host_word(edge, 'edge')}.{region_word}.twilio.com"


def base_url_from_env(environ: Mapping[str, str]) -> str:
    """Return the origin that the environment names, as `base_url_from` does.

    `TWILIO_INSIGHTS_BASE_URL`, else `TWILIO_REGION` and `TWILIO_EDGE`. An empty variable counts as
    missing.

    Raises:
        InvalidRequestError: the variables name no safe origin; the message names them.
    """
    base_url = environ.get("TWILIO_INSIGHTS_BASE_URL") or None
    region, edge = environ.get("TWILIO_REGION") or None, environ.get("TWILIO_EDGE") or None
    if base_url is not None:  # it wins: the others are for Twilio's own SDKs
        region = edge = None
    try:
        return base_url_from(base_url, region=region, edge=edge)
    except InvalidRequestError as error:
        message = str(error)
    read = "TWILIO_REGION and TWILIO_EDGE" if base_url is None else "TWILIO_INSIGHTS_BASE_URL"
    message = f"{message} It was read from {read}."
    raise InvalidRequestError(message)


def checked_proxy(proxy: str | None, *, base_url: str, name: str = "base_url") -> str | None:
    """Return `proxy` if it is None, or an HTTP proxy's URL that may see requests to `base_url`.

    Args:
        proxy: the proxy.
        base_url: where the requests go.
        name: the argument that says so.

    Raises:
        InvalidRequestError: it is neither.
    """
    if proxy is None:
        return None
    parts = origin_parts(proxy)
    if parts is None:
        message = "proxy must be the URL of an HTTP proxy: http://[user:password@]host[:port]."
        raise InvalidRequestError(message)
    if base_url.startswith("http:") and parts.hostname not in LOOPBACK:
        message = (
            "A proxy sees the headers of plain http: proxy must be on a loopback host, as the http "
            f"{name} is; or give an https {name}."
        )
        raise InvalidRequestError(message)
    return proxy


def checked_ssl(context: object) -> SSLContext | None:
    """Return `context` if it is None, or if it checks certificates and host names.

    Raises:
        InvalidRequestError: it is anything else.
    """
    if context is None:
        return None
    if not isinstance(context, SSLContext):
        message = (
            "ssl must be an ssl.SSLContext, such as ssl.create_default_context(cafile=...), "
            "or None."
        )
        raise InvalidRequestError(message)
    if context.verify_mode != CERT_REQUIRED or not context.check_hostname:
        message = (
            "ssl must check the server's certificate and host name, else anyone in between could "
            "read the credentials: use ssl.create_default_context(cafile=...), with its "
            "verify_mode and check_hostname as they are."
        )
        raise InvalidRequestError(message)
    return context


def checked_user_agent(suffix: object) -> str | None:
    """Return `suffix` if it is None, or text that can be added to the `User-Agent` header.

    Raises:
        InvalidRequestError: it is anything else.
    """
    if suffix is None or (isinstance(suffix, str) and _USER_AGENT.fullmatch(suffix)):
        return suffix
    message = (
        "user_agent must be 1 to 200 printable ASCII characters with no space at either end, "
        "such as 'call-reports/1.4', or None."
    )
    raise InvalidRequestError(message)


def _origin(base_url: str) -> str:
    parts = confidential_parts(base_url)
    if parts is None or origin_parts(base_url) is None:
        message = (
            "base_url must be an origin: https://host[:port], or http on a loopback host; "
            "no path, query, fragment or credentials."
        )
        raise InvalidRequestError(message)
    host = str(parts.hostname)
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + ("" if parts.port is None else f":{parts.port}")


def _host_word(value: object, name: str) -> str:
    if isinstance(value, str) and _HOST_WORD.fullmatch(value):
        return value
    message = f"{name} must be a word of a-z, 0-9 and inner hyphens, at most 32 long."
    raise InvalidRequestError(message)


@attrs.frozen(kw_only=True, eq=False, repr=False)  # its repr would show a proxy's password
class Settings:
    """The settings of a session, checked; `InsightsSession` says what they mean.

    `on_event` and `limiter` are not among them: the objects that use these check them.

    Raises:
        InvalidRequestError: a value cannot be used.
    """

    credentials: Credentials | ClientCredentials | CredentialsProvider = attrs.field(
        converter=credentials_from
    )
    base_url: str
    """What `base_url_from` returned."""
    retry: RetryPolicy
    timeout: aiohttp.ClientTimeout = attrs.field(converter=client_timeout)
    deadline: float | None
    max_concurrency: int
    user_agent: str | None
    http: aiohttp.ClientSession | None
    proxy: str | None
    ssl: SSLContext | None
    trace_configs: Sequence[aiohttp.TraceConfig]
    tracer: Tracer | None

    def __attrs_post_init__(self) -> None:
        """Check the values that are used as they are given."""
        checked_seconds(self.deadline, "deadline", positive=True, optional=True)
        checked_whole_number(self.max_concurrency, "max_concurrency", least=1)
        checked_user_agent(self.user_agent)
        checked_ssl(self.ssl)
        checked_proxy(self.proxy, base_url=self.base_url)
        if isinstance(self.credentials, ClientCredentials):
            checked_proxy(self.proxy, base_url=self.credentials.token_url, name="token_url")
        checked_tracer(self.tracer)
        _require(self.retry, RetryPolicy, "retry must be a RetryPolicy.")
        if self.http is not None:
            _require(
                self.http, aiohttp.ClientSession, "http must be an aiohttp.ClientSession, or None."
            )
        wrong = "trace_configs must be a list or tuple of aiohttp.TraceConfigs."
        _require(self.trace_configs, (list, tuple), wrong)
        for each in self.trace_configs:
            _require(each, aiohttp.TraceConfig, wrong)
        if self.http is not None and self.trace_configs:
            message = "Give trace_configs to the borrowed aiohttp session itself."
            raise InvalidRequestError(message)
        if self.http is not None and self.ssl is not None:
            message = (
                "Give ssl to the connector of the borrowed aiohttp session: "
                "aiohttp.TCPConnector(ssl=...)."
            )
            raise InvalidRequestError(message)

    def with_options(
        self,
        *,
        retry: RetryPolicy | EllipsisType | None,
        timeout: float | aiohttp.ClientTimeout | EllipsisType | None,
        deadline: float | EllipsisType | None,
    ) -> Settings:
        """Return settings with other options; `...` leaves one as it is.

        The retry quota stays that of these settings, as it is shared: errors and `options` name it.

        Raises:
            InvalidRequestError: an option cannot be used.
        """
        policy = self.retry if retry is ... else RetryPolicy() if retry is None else retry
        _require(policy, RetryPolicy, "retry must be a RetryPolicy.")
        if policy.quota != self.retry.quota:
            policy = attrs.evolve(policy, quota=self.retry.quota)
        return attrs.evolve(
            self,
            retry=policy,
            timeout=self.timeout if timeout is ... else timeout,
            deadline=self.deadline if deadline is ... else deadline,
        )

    def options(self) -> SessionOptions:
        """Return the settings that another process can use, and that hold no secret."""
        options: SessionOptions = {
            "base_url": self.base_url,
            "retry": self.retry,
            "timeout": self.timeout,
            "deadline": self.deadline,
            "max_concurrency": self.max_concurrency,
            "user_agent": self.user_agent,
        }
        if self.proxy is not None and "@" not in self.proxy:  # a username can be a secret, too
            options["proxy"] = self.proxy
        return options


def _require(value: object, kind: type | tuple[type, ...], message: str) -> None:
    if not isinstance(value, kind):
        raise InvalidRequestError(message)
