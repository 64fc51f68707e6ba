"""Participants: made from a seed, so that they could be real, or taken from a test."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, cast

from .._structuring import unstructure_participant
from ..models import Participant

if TYPE_CHECKING:
    import random

__all__ = ["copied_participants", "make_participants", "make_sid", "moved"]

#: A day in the past, so that a seed gives the same records for ever.
_DAY: Final = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
_REGIONS: Final = ("us1", "us1", "us1", "ie1", "de1", "au1", "jp1", "sg1", "br1", "in1")
_COUNTRIES: Final = {
    "us1": "US", "ie1": "IE", "de1": "DE", "au1": "AU",
    "jp1": "JP", "sg1": "SG", "br1": "BR", "in1": "IN",
}  # fmt: skip
_LABELS: Final = ("agent", "customer", "supervisor", None)
_EVENTS: Final = ("mute", "hold", "unmute")


def make_sid(rng: random.Random, prefix: str) -> str:
    """Return a SID: the prefix and 32 hexadecimal digits."""
    return f"{prefix}{rng.getrandbits(128):032x}"


def make_participants(
    rng: random.Random, count: int, *, base_url: str, account_sid: str, conference_sid: str
) -> list[dict[str, object]]:
    """Return that many participants of one conference, as the API's JSON has them."""
    if count < 0:
        message = "The number of participants must be a whole number from 0."
        raise ValueError(message)
    region = rng.choice(_REGIONS)
    began = _DAY + timedelta(seconds=rng.randrange(8 * 3600))
    return [
        _participant(rng, index, base_url, account_sid, conference_sid, region, began)
        for index in range(count)
    ]


def copied_participants(given: object) -> list[dict[str, object]]:
    """Return participants as JSON has them: a copy, as the caller may go on to change its own.

    Raises:
        TypeError: it is no iterable of `Participant`s and mappings, or one cannot be JSON.
        ValueError: one cannot be JSON.
    """
    kind = _kind(given)
    if isinstance(given, Iterable) and not isinstance(given, (Mapping, str, bytes)):
        each_given = cast("Iterable[object]", given)
        return [_copied(each, index) for index, each in enumerate(each_given)]
    message = (
        "participants must be a number of them to make up, or an iterable of Participants and "
        f"mappings, not {kind}."
    )
    raise TypeError(message)


def _copied(given: object, index: int) -> dict[str, object]:
    if not isinstance(given, (Participant, Mapping)):
        message = f"participants[{index}] must be a Participant or a mapping, not {_kind(given)}."
        raise TypeError(message)
    try:
        if isinstance(given, Participant):
            given = unstructure_participant(given)
        copied: dict[str, object] = json.loads(json.dumps(given, default=_as_dict))
    except (TypeError, ValueError) as error:
        message = f"participants[{index}] cannot be JSON: {error}"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(message) from error
    return copied


def _kind(value: object) -> str:
    return type(value).__name__


def _as_dict(value: object) -> dict[str, object]:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    message = f"{_kind(value)} is nothing that JSON has."
    raise TypeError(message)


def moved(record: Mapping[str, object], old: str, new: str) -> dict[str, object]:
    """Return the address of a record of a server that moved; nothing where it led elsewhere."""
    url = record.get("url")
    if not old or not isinstance(url, str) or not url.startswith(f"{old}/"):
        return {}
    return {"url": new + url.removeprefix(old)}


def _participant(
    rng: random.Random,
    index: int,
    base_url: str,
    account_sid: str,
    conference_sid: str,
    conference_region: str,
    began: datetime,
) -> dict[str, object]:
    sid = make_sid(rng, "CP")
    region = rng.choice(_REGIONS)
    inbound = rng.random() < 0.4  # noqa: PLR2004 - most participants are called
    joined = began + timedelta(seconds=rng.randrange(300))
    seconds = rng.randrange(20, 3600)
    queued = None if inbound else rng.randrange(200, 4000)
    return {
        "participant_sid": sid,
        "label": rng.choice(_LABELS),
        "conference_sid": conference_sid,
        "call_sid": make_sid(rng, "CA"),
        "account_sid": account_sid,
        "call_direction": "inbound" if inbound else "outbound",
        "from": f"+1500555{rng.randrange(10_000):04}",
        "to": f"+1500555{rng.randrange(10_000):04}",
        "call_status": rng.choice(("completed", "completed", "completed", "busy", "noanswer")),
        "country_code": _COUNTRIES[region],
        "is_moderator": index == 0,
        "join_time": _iso(joined),
        "leave_time": _iso(joined + timedelta(seconds=seconds)),
        "duration_seconds": seconds,
        "outbound_queue_length": None if inbound else 0,
        "outbound_time_in_queue": queued,
        "jitter_buffer_size": rng.choice((None, "off", "small", "medium", "large")),
        "is_coach": False,
        "coached_participants": None,
        "participant_region": region,
        "conference_region": conference_region,
        "call_type": rng.choice(("carrier", "carrier", "client", "sip")),
        "processing_state": "complete",
        "properties": {
            "start_conference_on_enter": True,
            "end_conference_on_exit": index == 0,
            # The published examples have the one name in one record, the other in the next.
            rng.choice(("play_early_media", "early_media")): not inbound,
            "enter_muted": rng.random() < 0.1,  # noqa: PLR2004 - few
            "beep_on_enter": False,
            "beep_on_exit": False,
        },
        "metrics": {"inbound": _media(rng, seconds), "outbound": _media(rng, seconds)},
        "events": _events(rng, joined, seconds),
        "url": f"{base_url}/v1/Conferences/{conference_sid}/Participants/{sid}",
    }


def _iso(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _media(rng: random.Random, seconds: int) -> dict[str, object]:
    received = seconds * 50
    bad = rng.random() < 0.15  # noqa: PLR2004 - some lines are bad
    lost = rng.randrange(received // 10) if bad else 0
    jitter = round(rng.uniform(0.1, 30.0 if bad else 3.0), 2)
    media: dict[str, object] = {
        "total_packets_lost": lost,
        "total_packets_received": received,
        # The published examples have 0 and 0.0 side by side.
        "packet_loss_percentage": round(100 * lost / (lost + received), 2) if lost else 0,
        "jitter": {"avg": jitter, "max": round(jitter * rng.uniform(1.0, 4.0), 2)},
        "latency": {"avg": 0, "max": 0},
        "mos": round(rng.uniform(2.0, 3.6) if bad else rng.uniform(4.1, 4.4), 2),
    }
    if rng.random() < 0.05:  # noqa: PLR2004 - few are silent
        media["tags"] = ["silent"]
    return media


def _events(rng: random.Random, joined: datetime, seconds: int) -> dict[str, list[int]] | None:
    if rng.random() < 0.7:  # noqa: PLR2004 - most do nothing
        return None
    start = int(joined.timestamp()) * 1000
    return {
        name: sorted(start + rng.randrange(seconds * 1000) for _ in range(rng.randrange(1, 4)))
        for name in rng.sample(_EVENTS, rng.randrange(1, 3))
    }
