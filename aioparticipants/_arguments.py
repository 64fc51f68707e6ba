"""Checks of arguments: each returns the value, or raises `InvalidRequestError` naming the argument.

1. Types are exact: a bool is an int to Python, and a mistake where a number is expected.
2. No message and no chained exception repeats a value: it can be a password or personal data.
3. A SID is matched whole against its form, as Twilio describes it (`CF[0-9a-fA-F]{32}`, digits in
   either case), so anything else never becomes part of a path.
"""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar, cast
from urllib.parse import urlsplit

from .errors import InvalidRequestError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = [
    "LOOPBACK",
    "checked_choice",
    "checked_seconds",
    "checked_sid",
    "checked_text",
    "checked_whole_number",
    "checked_window",
    "confidential_parts",
    "origin_parts",
    "time_after",
    "time_before",
]

T = TypeVar("T")

# `[0-9]`, as `\d` also matches Arabic digits; `fullmatch`, as `$` allows a newline at the end.
_SID_DIGITS: Final = re.compile(r"[0-9a-fA-F]{32}")
_URL_CHARACTERS: Final = re.compile(r"[!-\[\]-~]+")
# No `%`, which some resolvers decode, and none of the other characters that a URL's host may hold.
_HOST_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?")
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def checked_whole_number(
    value: T, name: str, *, least: int, most: int = sys.maxsize, optional: bool = False
) -> T:
    """Return a whole number from `least` to `most`; with `optional`, None too."""
    if optional and value is None:
        return value
    if type(value) is int and least <= cast("int", value) <= most:
        return value
    message = f"{name} must be a whole number from {least} to {most}{', or None' * optional}."
    raise InvalidRequestError(message)


def checked_seconds(value: T, name: str, *, positive: bool = False, optional: bool = False) -> T:
    """Return a finite number of seconds from 0, or above 0 if `positive`; or None, as above."""
    if optional and value is None:
        return value
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else -1
    # The largest float instead of infinity, as an int can be larger than any float.
    if 0 <= number <= sys.float_info.max and not (positive and number == 0):
        return value
    kind = "positive, finite number of seconds" if positive else "finite number of seconds from 0"
    message = f"{name} must be a {kind}{', or None' * optional}."
    raise InvalidRequestError(message)


def checked_text(value: object, name: str) -> str:
    """Return a str that is not empty and that UTF-8 can encode."""
    if not isinstance(value, str) or not value:
        message = f"{name} must be a non-empty str, or None for no filter."
        raise InvalidRequestError(message)
    # Matched, as the codec's own error would hold the value.
    if _SURROGATE.search(value):
        message = f"{name} must be text that UTF-8 can encode."
        raise InvalidRequestError(message)
    return value


def checked_sid(value: object, name: str, prefix: str) -> str:
    """Return a SID with this prefix."""
    if isinstance(value, str) and value.startswith(prefix) and _SID_DIGITS.fullmatch(value[2:]):
        return value
    message = f"{name} must be {prefix} followed by 32 hexadecimal digits."
    raise InvalidRequestError(message)


def _checked_time(value: object, name: str) -> datetime:
    """Return an aware datetime, in UTC."""
    # OverflowError: in UTC it is before year 1 or after 9999. ValueError: it is pandas.NaT.
    with suppress(OverflowError, ValueError):
        if isinstance(value, datetime) and value.utcoffset() is not None:
            return value.astimezone(UTC)
    message = (
        f"{name} must be an aware datetime, such as datetime(2026, 3, 2, tzinfo=UTC): "
        "a naive one could mean any time zone."
    )
    raise InvalidRequestError(message)


def time_after(value: object, name: str) -> str:
    """Return the start of a window as Twilio writes times, rounded down to a whole second."""
    return _utc_text(_checked_time(value, name))


def time_before(value: object, name: str) -> str:
    """Return the end of a window as Twilio writes times, rounded up to a whole second."""
    time = _checked_time(value, name)
    # Compared, as a pandas.Timestamp can have a fraction below a microsecond.
    if time > datetime.fromisoformat(_utc_text(time)):
        with suppress(OverflowError):  # it is the last second of the year 9999
            time += timedelta(seconds=1)
    return _utc_text(time)


def _utc_text(time: datetime) -> str:
    """Return a time in UTC as Twilio writes it, without the fraction of its second."""
    return f"{time.replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def checked_window(after: object, before: object) -> None:
    """Check that a window, whose ends can each be None, is not empty."""
    if after is None or before is None:
        return
    if _checked_time(after, "created_after") >= _checked_time(before, "created_before"):
        message = "created_after must be before created_before: the window is empty."
        raise InvalidRequestError(message)


def checked_choice(value: T, name: str, choices: tuple[T, T]) -> T:
    """Return one of two values."""
    if value in choices:  # a tuple, as the value may be unhashable
        return value
    message = f"{name} must be {choices[0]!r} or {choices[1]!r}."
    raise InvalidRequestError(message)


def origin_parts(url: object) -> SplitResult | None:
    """Return the parts of an http or https URL without path and query; None for anything else."""
    parts = _url_parts(url)
    return parts if parts is not None and parts.path in {"", "/"} else None


def confidential_parts(url: object) -> SplitResult | None:
    """Return the parts of a URL that secrets may be sent to; None for anything else.

    It is https, or http on a loopback host, and has no query, fragment or credentials.
    """
    parts = _url_parts(url)
    host = None if parts is None else parts.hostname
    plain = (
        parts is not None
        and host is not None
        and (":" in host or _HOST_NAME.fullmatch(host))
        and "@" not in parts.netloc
        and not cast("str", url).endswith(("?", "#"))
        and (parts.scheme == "https" or host in LOOPBACK)
    )
    return parts if plain else None


def _url_parts(url: object) -> SplitResult | None:
    """Return the parts of an http or https URL without a query; None for anything else."""
    # urlsplit drops tabs and newlines silently, so the characters are checked first.
    if not isinstance(url, str) or not _URL_CHARACTERS.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # which raises if it is not a number
    except ValueError:
        return None
    usable = parts.scheme in {"http", "https"} and host
    return parts if usable and not parts.query and not parts.fragment else None
