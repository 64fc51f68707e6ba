"""Times: as the API writes and reads them, and the aware datetimes that a test gives."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["checked_time", "epoch_milliseconds", "parsed_time", "to_iso"]


def to_iso(time: datetime) -> str:
    """Return a time as the API stamps it: in UTC, to the second."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def epoch_milliseconds(time: datetime) -> int:
    """Return a time as the API writes those of events."""
    return round(time.timestamp() * 1000)


def parsed_time(text: object) -> datetime | None:
    """Return the time that a text in ISO 8601 with a time zone stands for; None if it is none."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if time.tzinfo is None else time


def checked_time(time: object, name: str) -> datetime:
    """Return an aware datetime that a test gives.

    Raises:
        TypeError: it is not a datetime.
        ValueError: it has no time zone.
    """
    if not isinstance(time, datetime):
        message = f"{name} must be a datetime, not {type(time).__name__}."
        raise TypeError(message)
    if time.tzinfo is None:
        message = f"{name} must have a time zone, such as datetime.now(UTC); it has none."
        raise ValueError(message)
    return time
