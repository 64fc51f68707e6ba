"""What an attempt fails with, as one of our errors. Knows aiohttp, and sends nothing.

1. Every failure of an exchange is one of our errors, or it is a defect of this package, which
   propagates as it is. Whose an exception is, its traceback says: see `_raised_by_user` and
   `_is_defect`.
2. What a part of the aiohttp session raises that is the user's own (a trace hook, a connector, a
   middleware, a cookie jar) is a failed attempt like any other, and transient, as it says nothing
   about the next one. The message names its class, and never its text, which may hold anything. The
   exception is our error's `__cause__`, with the user's own frames alone, as the variables of
   aiohttp's hold the request's headers.
3. aiohttp's errors hold the request's headers and URL in their repr, so none of them is chained,
   nor left in the chain of what is.
4. A closed session, and only that, is told as one: aiohttp raises a bare RuntimeError or
   ClientConnectionError in other cases, too.
5. Retrying cannot fix a refused certificate, or a proxy that wants other credentials. Any other
   fault of a connection, TLS included, is transient.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
from typing import TYPE_CHECKING, Final

import aiohttp

from .errors import (
    InsightsError,
    InvalidRequestError,
    RequestTimeoutError,
    SessionClosedError,
    TransportError,
    status_rule,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

__all__ = ["closed_meanwhile", "translated"]

_LATER: Final = "Try again later (https://status.twilio.com)."
_BETWEEN: Final = "any proxy or gateway in between"

#: Errors of aiohttp and of the system: in words, and what to do about it. The order counts, as the
#: classes overlap. All are transient but one: see `_CERTIFICATE`.
_FAULTS: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (
        aiohttp.ClientConnectorDNSError,
        "the host name could not be resolved",
        "Check region, edge and base_url, and this machine's DNS.",
    ),
    (
        aiohttp.ClientProxyConnectionError,
        "the proxy could not be reached",
        "Check proxy=, and the network up to it.",
    ),
    (
        aiohttp.ClientConnectorError,
        "the connection was refused or could not be made",
        "Check base_url, firewalls, and whether this network needs proxy=.",
    ),
    (
        aiohttp.ServerDisconnectedError,
        "the server closed the connection without a reply",
        _LATER,
    ),
    (
        aiohttp.ClientPayloadError,
        "the body of the reply was cut off or garbled",
        _LATER,
    ),
    (
        # Out of the call itself it means garbage on the wire; its status (400) is aiohttp's own.
        aiohttp.ClientResponseError,
        "the reply was not HTTP",
        f"Check base_url, and {_BETWEEN}.",
    ),
    (OSError, "the connection was reset", _LATER),
)
#: The server's certificate: by its chain, name or dates; or by the fingerprint that a lender wants.
_CERTIFICATE: Final = (aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch)

#: What OpenSSL says where the other side answers the handshake in plain text: which of them depends
#: on its version, and on the letters that it takes for the head of a record.
_PLAIN_TEXT: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"}
)
#: And where it ends TLS by an alert (RFC 8446, 6): all these begin in one of these ways.
_ALERTS: Final = ("SSLV3_", "TLSV1_", "TLSV13_")
_REASON: Final = re.compile(r"[A-Z0-9_]{1,99}")

#: What a proxy's own status means, where there is more to say than of others.
_PROXY_REMEDIES: Final = {
    407: "It wants credentials, or others: give proxy='http://user:password@host:port'.",
    403: "It does not allow this host: check what it allows, or give another proxy=.",
}

_PACKAGE: Final = "aioparticipants"
_AIOHTTP: Final = frozenset({"aiohttp", "aiosignal", _PACKAGE})
#: Every trace hook is called from here.
_TRACING: Final = "aiohttp.tracing"
#: Whose frames are nobody else's: the standard library's, aiohttp's, and what that is built on.
_NOT_THE_USERS: Final = _AIOHTTP | sys.stdlib_module_names | {
    "aiodns", "aiohappyeyeballs", "attr", "attrs", "frozenlist", "idna", "multidict", "propcache",
    "pycares", "uvloop", "yarl",
}  # fmt: skip


def translated(
    error: Exception | asyncio.CancelledError,
    conference_sid: str,
    *,
    closed: bool,
    replied: bool = False,
) -> BaseException:
    """Return what an exchange that raised an error is to raise.

    Args:
        error: what it raised.
        conference_sid: the conference it asked about.
        closed: whether the aiohttp session is closed.
        replied: whether the head of a reply had come.

    Returns:
        One of our errors; or the error itself, where it is a cancellation or our own defect; or the
        cancellation behind it, where a part of the user's answered that by an error.
    """
    if isinstance(error, asyncio.CancelledError):
        # A connector that is closed cancels what waits for it, and not the task.
        return closed_meanwhile(conference_sid) if closed and not _is_cancelled() else error
    if (raised := _raised_by_user(error)) is not None:
        return _cancellation_behind(raised) or _of_user(raised, conference_sid)
    if isinstance(error, InsightsError) or _is_defect(error):
        return error
    return _of_aiohttp(error, conference_sid, closed=closed, replied=replied)


def closed_meanwhile(conference_sid: str) -> SessionClosedError:
    """Return the error for an aiohttp session that is closed."""
    message = "The aiohttp session was closed: give the cursor to another one."
    return SessionClosedError(message, conference_sid=conference_sid)


# --- Which fault it is ---


def _of_aiohttp(
    error: Exception, conference_sid: str, *, closed: bool, replied: bool
) -> InsightsError:
    """Return our error for what aiohttp, or the system, has raised."""
    name = type(error).__name__
    if (phase := _phase(error)) is not None:
        message = f"The attempt timed out while {phase}"
        return RequestTimeoutError(message, conference_sid=conference_sid)
    if closed:
        return closed_meanwhile(conference_sid)
    refused = isinstance(error, (ValueError, aiohttp.NonHttpUrlClientError))
    if refused and not replied and not isinstance(error, OSError):  # as certificate errors are
        message = (
            "aiohttp did not accept the request. A borrowed session must have no auth of its own, "
            f"and no netrc entry for the host ({name})."
        )
        return InvalidRequestError(message, conference_sid=conference_sid)
    words, remedy, transient = _fault(error)
    message = f"No usable reply: {words} ({name}). {remedy}"
    return TransportError(message, transient=transient, conference_sid=conference_sid)


def _fault(error: Exception) -> tuple[str, str, bool]:
    """Return what went wrong, in words; what to do about it; and whether retrying may help."""
    if isinstance(error, _CERTIFICATE):
        remedy = "Check this machine's CA certificates and clock, and who else may answer for it."
        return "the server's certificate was refused", remedy, False
    if isinstance(error, aiohttp.ClientHttpProxyError):
        status = error.status
        remedy = _PROXY_REMEDIES.get(status, "Check proxy=, and what it allows.")
        return f"the proxy answered HTTP {status}", remedy, status_rule(status).transient
    for each in _chain(error, "__cause__"):
        if isinstance(each, ssl.SSLError):
            return *_tls_fault(getattr(each, "os_error", each)), True
    for kind, words, remedy in _FAULTS:
        if isinstance(error, kind):
            return words, remedy, True
    return (
        "the attempt failed",
        "Try again later, and check what else uses the aiohttp session.",
        True,
    )


def _tls_fault(error: ssl.SSLError) -> tuple[str, str]:
    """Return what went wrong with TLS, and what to do about it.

    `reason` is OpenSSL's own constant, such as `TLSV1_ALERT_PROTOCOL_VERSION`.
    """
    reason = str(getattr(error, "reason", None))
    told = f": {reason}" if _REASON.fullmatch(reason) else ""
    if reason in _PLAIN_TEXT:
        remedy = f"Check base_url, and {_BETWEEN}."
        return f"the other side does not speak TLS at that port{told}", remedy
    alert = reason.startswith(_ALERTS)
    words = "the other side broke TLS off with an alert" if alert else "TLS failed"
    return f"{words}{told}", f"Check which versions of TLS are allowed here, and {_BETWEEN}."


def _phase(error: Exception) -> str | None:
    """Return in which phase a timeout came, and what to do about it; None for other errors."""
    lookup = isinstance(error, aiohttp.ClientConnectorDNSError)
    timeout = error.os_error if isinstance(error, aiohttp.ClientConnectorDNSError) else error
    if not isinstance(timeout, TimeoutError):
        return None
    sets = "the session's `timeout` sets the seconds"
    # What was cut off is the cause, with the frames in which it waited.
    frames = [frame for each in _chain(error, "__cause__") for frame in _frames(each)]
    modules = {_module(frame) for frame in frames}
    if lookup or any(frame.f_code.co_name == "_resolve_host" for frame in frames):
        return f"resolving the host name (DNS); {sets}. Check this machine's DNS."
    if _TRACING in modules:
        return f"a trace hook ran; {sets}. Check what the hook waits for."
    if isinstance(error, aiohttp.ConnectionTimeoutError) or "aiohttp.connector" in modules:
        return f"connecting; {sets}. Check firewalls, and whether this network needs proxy=."
    return (
        f"waiting for the reply; {sets}. Set a smaller page_size, which is answered sooner, "
        "or a longer timeout."
    )


# --- Whose fault it is ---


def _raised_by_user(error: BaseException) -> BaseException | None:
    """Return what a part of the aiohttp session raised that is the user's own, if one did.

    Of a trace hook it is all that passed through `aiohttp.tracing`. aiohttp wraps some of it: while
    it connects, any OSError is a failed connection to it, and a TimeoutError a connect timeout. So
    the causes are looked at as well.

    Of another part it is what was raised in frames of somebody else; those of the standard library
    count for whoever called it. Only the innermost frame tells: tools that watch a program wrap
    aiohttp's own functions. What such a part raises of aiohttp's errors means what it means there.
    """
    for each in _chain(error, "__cause__"):
        if isinstance(each, Exception) and _is_of_hook(each):
            return each
    raised: BaseException | None = error
    if isinstance(error, aiohttp.ClientError):
        wraps = type(error) in {aiohttp.ClientOSError, aiohttp.ConnectionTimeoutError}
        raised = error.__cause__ if wraps else None
    return raised if raised is not None and _is_of_somebody_else(raised) else None


def _is_of_hook(error: BaseException) -> bool:
    return any(_module(frame) == _TRACING for frame in _frames(error))


def _is_of_somebody_else(error: BaseException) -> bool:
    known = {*_NOT_THE_USERS, _top(type(asyncio.get_running_loop()).__module__)}
    others = (_top(_module(frame)) for frame in reversed(_frames(error)))
    return next((top for top in others if top not in sys.stdlib_module_names), "") not in {
        "",
        *known,
    }


def _is_defect(error: BaseException) -> bool:
    """Tell whether an error was raised by a line of this package, or by a builtin in it."""
    return _top(_module(_frames(error)[-1])) == _PACKAGE


def _of_user(raised: BaseException, conference_sid: str) -> TransportError:
    """Return our error for what a part of the user's raised, and chain that where it is theirs."""
    part = (
        "a trace hook"
        if _is_of_hook(raised)
        else "a connector or another part of the aiohttp session"
    )
    name, chained = type(raised).__name__, not isinstance(raised, aiohttp.ClientError)
    told = ", which the error's __cause__ tells" if chained else ""
    error = TransportError(
        f"No usable reply: {part} raised {name}. Check why it did{told}.",
        conference_sid=conference_sid,
    )
    if chained:
        _hide_aiohttp(raised)
        error.__cause__ = raised
    return error


def _hide_aiohttp(raised: BaseException) -> None:
    """Take aiohttp's errors out of an exception's chain, and its frames out of the tracebacks."""
    seen, queue = set[int](), [raised]
    while queue:
        each = queue.pop()
        seen.add(id(each))
        each.__traceback__ = _users_frames(each.__traceback__)
        if isinstance(each.__cause__, aiohttp.ClientError):
            each.__cause__ = None
        if isinstance(each.__context__, aiohttp.ClientError):
            each.__context__ = None
        linked = (each.__cause__, each.__context__)
        queue += [one for one in linked if one is not None and id(one) not in seen]


def _users_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback in which aiohttp, and this package, have no frame any more."""
    parts = _parts(trace)
    modules = [_module(each.tb_frame) for each in parts]
    theirs = [n for n, module in enumerate(modules) if _top(module) in _AIOHTTP]
    # A hook may use aiohttp itself: what is inside of it is the user's.
    start = modules.index(_TRACING) if _TRACING in modules else max(theirs, default=-1)
    return next((parts[n] for n in range(start + 1, len(parts)) if n not in theirs), None)


def _cancellation_behind(raised: BaseException) -> asyncio.CancelledError | None:
    """Return the cancellation of this task that a part of the user's answered by an error."""
    found = (e for e in _chain(raised, "__context__") if isinstance(e, asyncio.CancelledError))
    return next(found, None) if _is_cancelled() else None


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _chain(error: BaseException, link: str) -> Iterator[BaseException]:
    """Yield an error and what `link` leads to from it, one after another."""
    seen = set[int]()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        yield each
        seen.add(id(each))
        each = getattr(each, link)


def _parts(trace: TracebackType | None) -> list[TracebackType]:
    """Return a traceback and each of those that it goes on with, the innermost last."""
    parts: list[TracebackType] = []
    while trace is not None:
        parts.append(trace)
        trace = trace.tb_next
    return parts


def _frames(error: BaseException) -> list[FrameType]:
    """Return the frames that an error came through, the innermost last."""
    return [part.tb_frame for part in _parts(error.__traceback__)]


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _top(module: str) -> str:
    return module.partition(".")[0]
