"""Translates what an exchange with aiohttp raises into one of our errors. Sends nothing.

1. Every failure of an exchange becomes one of our errors. The only exception is a defect of this
   package, which propagates unchanged. The traceback shows whose an exception is: see
   `_raised_by_user` and `_is_defect`.
2. What the user's own part of the aiohttp session raises (a trace hook, a connector, a middleware,
   a cookie jar) is a failed attempt like any other. It is transient, as it says nothing about the
   next attempt. The message names its class but not its text, which may contain anything. The
   exception is our error's `__cause__`, with the user's own frames only: the variables of aiohttp's
   frames hold the request's headers.
3. aiohttp's errors show the request's headers and URL in their repr. So none of them is chained to
   ours, nor left in the chain of an exception that is.
4. Only a closed session is reported as a closed session: aiohttp raises a bare RuntimeError or
   ClientConnectionError in other cases, too.
5. Retrying cannot fix a refused certificate, or a proxy that asks for other credentials. Any other
   fault of a connection is transient, TLS faults included.
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

__all__ = ["cancellation_behind", "closed_meanwhile", "translated"]

_LATER: Final = "Try again later (https://status.twilio.com)."
_BETWEEN: Final = "any proxy or gateway in between"

#: Errors of aiohttp and of the system: what went wrong, and what to do about it. The first that
#: fits counts, as the classes overlap. All of them are transient.
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
        # From the call itself it means that the bytes were no HTTP; its status (400) is aiohttp's.
        aiohttp.ClientResponseError,
        "the reply was not HTTP",
        f"Check base_url, and {_BETWEEN}.",
    ),
    (OSError, "the connection was reset", _LATER),
)
#: The server's certificate was refused: its chain, name or dates; or its fingerprint, where the
#: owner of a borrowed session pins one.
_CERTIFICATE: Final = (aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch)

#: OpenSSL's reasons where the other side answers the handshake in plain text. The version of
#: OpenSSL and the first bytes of the answer decide which one it is.
_PLAIN_TEXT: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"}
)
#: The beginnings of its reasons where the other side sends an alert (RFC 8446, 6).
_ALERTS: Final = ("SSLV3_", "TLSV1_", "TLSV13_")
_REASON: Final = re.compile(r"[A-Z0-9_]{1,99}")

#: What to do about a proxy's own status, for those that need a hint of their own.
_PROXY_REMEDIES: Final = {
    407: "It asks for credentials, or for others: give proxy='http://user:password@host:port'.",
    403: "It does not allow this host: check what it allows, or give another proxy=.",
}

_PACKAGE: Final = "aioparticipants"
_AIOHTTP: Final = frozenset({"aiohttp", "aiosignal", _PACKAGE})
#: All trace hooks are called from this module.
_TRACING: Final = "aiohttp.tracing"
#: Modules that are not the user's: the standard library, aiohttp, and what aiohttp is built on.
_NOT_THE_USERS: Final = _AIOHTTP | sys.stdlib_module_names | {
    "aiodns", "aiohappyeyeballs", "attr", "attrs", "frozenlist", "idna", "multidict", "propcache",
    "pycares", "uvloop", "yarl",
}  # fmt: skip


def translated(
    error: Exception | asyncio.CancelledError,
    conference_sid: str | None,
    *,
    closed: bool,
    replied: bool = False,
) -> BaseException:
    """Return what to raise in place of the error of an exchange.

    Args:
        error: what the exchange raised.
        conference_sid: the conference that was asked for, if any.
        closed: whether the aiohttp session is closed.
        replied: whether the head of a reply had come.

    Returns:
        One of our errors. If it is a cancellation or a defect of ours, the error itself. If the
        user's part raised an error because it was cancelled, that cancellation.
    """
    if isinstance(error, asyncio.CancelledError):
        # A connector that is closed cancels its waiters, but not the task.
        return closed_meanwhile(conference_sid) if closed and not _is_cancelled() else error
    if (raised := _raised_by_user(error)) is not None:
        return cancellation_behind(raised) or _of_user(raised, conference_sid)
    if isinstance(error, InsightsError) or _is_defect(error):
        return error
    return _of_aiohttp(error, conference_sid, closed=closed, replied=replied)


def closed_meanwhile(conference_sid: str | None) -> SessionClosedError:
    """Return the error for an aiohttp session that is closed."""
    message = "The aiohttp session was closed: give the cursor to another one."
    return SessionClosedError(message, conference_sid=conference_sid)


# --- Which fault it is ---


def _of_aiohttp(
    error: Exception, conference_sid: str | None, *, closed: bool, replied: bool
) -> InsightsError:
    """Return our error for one that aiohttp or the system has raised."""
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
    """Return what went wrong, what to do about it, and whether retrying may help."""
    if isinstance(error, _CERTIFICATE):
        remedy = (
            "Check this machine's CA certificates and clock, and who else may answer for it; "
            "a CA of your own goes into ssl=, an ssl.SSLContext."
        )
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
    suffix = f": {reason}" if _REASON.fullmatch(reason) else ""
    if reason in _PLAIN_TEXT:
        remedy = f"Check base_url, and {_BETWEEN}."
        return f"the other side does not speak TLS at that port{suffix}", remedy
    alert = reason.startswith(_ALERTS)
    words = "the other side ended TLS with an alert" if alert else "TLS failed"
    return f"{words}{suffix}", f"Check which versions of TLS are allowed here, and {_BETWEEN}."


def _phase(error: Exception) -> str | None:
    """Return in which phase an attempt timed out, and what to do; None for other errors."""
    lookup = isinstance(error, aiohttp.ClientConnectorDNSError)
    timeout = error.os_error if isinstance(error, aiohttp.ClientConnectorDNSError) else error
    if not isinstance(timeout, TimeoutError):
        return None
    sets = "the session's `timeout` sets the seconds"
    # The frames that were waiting are in the traceback of the cause.
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
    """Return the exception that the user's own part of the aiohttp session raised, if one did.

    A trace hook has raised whatever passed through `aiohttp.tracing`. aiohttp wraps some of that:
    while it connects, it turns any OSError into a failed connection, and a TimeoutError into a
    connect timeout. So the causes are examined as well.

    Any other part has raised what comes from a module of the user's. Frames of the standard library
    count for their caller. Only the innermost frame counts, as monitoring tools wrap aiohttp's own
    functions. If such a part raises an error of aiohttp's, it is treated as aiohttp's.
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
    """Return whether an error was raised in this package, or in a builtin that it called."""
    return _top(_module(_frames(error)[-1])) == _PACKAGE


def _of_user(raised: BaseException, conference_sid: str | None) -> TransportError:
    """Return our error for what the user's part raised, with that as its cause if it is theirs."""
    part = (
        "a trace hook"
        if _is_of_hook(raised)
        else "a connector or another part of the aiohttp session"
    )
    name, chained = type(raised).__name__, not isinstance(raised, aiohttp.ClientError)
    hint = ": see the error's __cause__" if chained else ""
    error = TransportError(
        f"No usable reply: {part} raised {name}. Check why it did{hint}.",
        conference_sid=conference_sid,
    )
    if chained:
        _hide_aiohttp(raised)
        error.__cause__ = raised
    return error


def _hide_aiohttp(raised: BaseException) -> None:
    """Remove aiohttp's errors from an exception's chain, and its frames from the tracebacks."""
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
    """Return the inner part of a traceback, after the last frame of aiohttp and this package."""
    parts = _parts(trace)
    modules = [_module(each.tb_frame) for each in parts]
    theirs = [n for n, module in enumerate(modules) if _top(module) in _AIOHTTP]
    # A hook may use aiohttp itself; the frames inside the hook are the user's.
    start = modules.index(_TRACING) if _TRACING in modules else max(theirs, default=-1)
    return next((parts[n] for n in range(start + 1, len(parts)) if n not in theirs), None)


def cancellation_behind(raised: BaseException) -> asyncio.CancelledError | None:
    """Return the cancellation of this task, if the user's part raised an error because of it."""
    found = (e for e in _chain(raised, "__context__") if isinstance(e, asyncio.CancelledError))
    return next(found, None) if _is_cancelled() else None


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _chain(error: BaseException, link: str) -> Iterator[BaseException]:
    """Yield an error, and those that `link` (`__cause__` or `__context__`) leads to."""
    seen = set[int]()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        yield each
        seen.add(id(each))
        each = getattr(each, link)


def _parts(trace: TracebackType | None) -> list[TracebackType]:
    """Return the parts of a traceback, the innermost last."""
    parts: list[TracebackType] = []
    while trace is not None:
        parts.append(trace)
        trace = trace.tb_next
    return parts


def _frames(error: BaseException) -> list[FrameType]:
    """Return the frames of an error's traceback, the innermost last."""
    return [part.tb_frame for part in _parts(error.__traceback__)]


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _top(module: str) -> str:
    return module.partition(".")[0]
