"""Participants that are made up from a seed, as JSON."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import attrs

from ._times import epoch_milliseconds, to_iso

if TYPE_CHECKING:
    import random

__all__ = ["REGIONS", "make_participants", "make_sid"]

REGIONS: Final = ("us1", "us1", "us1", "ie1", "de1", "au1", "jp1", "sg1", "br1", "in1")
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
    rng: random.Random,
    count: int,
    *,
    created: datetime,
    region: str,
    base_url: str,
    account_sid: str,
    conference_sid: str,
) -> list[dict[str, object]]:
    """Make up the participants of one conference.

    Args:
        rng: the source of the values.
        count: how many.
        created: when the conference was created. They join in the five minutes after.
        region: the region that mixes the conference.
        base_url: what the URLs of the records begin with.
        account_sid: the account of the conference.
        conference_sid: the SID of the conference.

    Raises:
        ValueError: the number is negative.
    """
    if count < 0:
        message = "The number of participants must be a whole number from 0."
        raise ValueError(message)
    conference = _Conference(
        rng=rng,
        account_sid=account_sid,
        sid=conference_sid,
        region=region,
        start=created,
        url=f"{base_url}/v1/Conferences/{conference_sid}/Participants",
    )
    return [conference.participant(is_first=index == 0) for index in range(count)]


@attrs.frozen(kw_only=True)
class _Conference:
    """A conference whose participants are made up."""

    rng: random.Random
    account_sid: str
    sid: str
    region: str
    start: datetime
    url: str

    def participant(self, *, is_first: bool) -> dict[str, object]:
        rng = self.rng
        sid = make_sid(rng, "CP")
        region = rng.choice(REGIONS)
        is_inbound = self._happens(0.4)
        joined = self.start + timedelta(seconds=rng.randrange(300))
        seconds = rng.randrange(20, 3600)
        queue_time = None if is_inbound else rng.randrange(200, 4000)
        return {
            "participant_sid": sid,
            "label": rng.choice(_LABELS),
            "conference_sid": self.sid,
            "call_sid": make_sid(rng, "CA"),
            "account_sid": self.account_sid,
            "call_direction": "inbound" if is_inbound else "outbound",
            "from": self._phone_number(),
            "to": self._phone_number(),
            "call_status": rng.choice(("completed", "completed", "completed", "busy", "noanswer")),
            "country_code": _COUNTRIES[region],
            "is_moderator": is_first,
            "join_time": to_iso(joined),
            "leave_time": to_iso(joined + timedelta(seconds=seconds)),
            "duration_seconds": seconds,
            "outbound_queue_length": None if is_inbound else 0,
            "outbound_time_in_queue": queue_time,
            "jitter_buffer_size": rng.choice((None, "off", "small", "medium", "large")),
            "is_coach": False,
            "coached_participants": None,
            "participant_region": region,
            "conference_region": self.region,
            "call_type": rng.choice(("carrier", "carrier", "client", "sip")),
            "processing_state": "complete",
            "properties": self._properties(is_inbound=is_inbound, is_first=is_first),
            "metrics": {"inbound": self._media(seconds), "outbound": self._media(seconds)},
            "events": self._events(joined, seconds),
            "url": f"{self.url}/{sid}",
        }

    def _happens(self, probability: float) -> bool:
        return self.rng.random() < probability

    def _phone_number(self) -> str:
        return f"+1500555{self.rng.randrange(10_000):04}"

    def _properties(self, *, is_inbound: bool, is_first: bool) -> dict[str, object]:
        return {
            "start_conference_on_enter": True,
            "end_conference_on_exit": is_first,
            # The published examples use both names, each in another record.
            self.rng.choice(("play_early_media", "early_media")): not is_inbound,
            "enter_muted": self._happens(0.1),
            "beep_on_enter": False,
            "beep_on_exit": False,
        }

    def _media(self, seconds: int) -> dict[str, object]:
        rng = self.rng
        received = seconds * 50
        is_bad = self._happens(0.15)
        lost = rng.randrange(received // 10) if is_bad else 0
        jitter = round(rng.uniform(0.1, 30.0 if is_bad else 3.0), 2)
        media: dict[str, object] = {
            "total_packets_lost": lost,
            "total_packets_received": received,
            # The published examples contain both 0 and 0.0.
            "packet_loss_percentage": round(100 * lost / (lost + received), 2) if lost else 0,
            "jitter": {"avg": jitter, "max": round(jitter * rng.uniform(1.0, 4.0), 2)},
            "latency": {"avg": 0, "max": 0},
            "mos": round(rng.uniform(2.0, 3.6) if is_bad else rng.uniform(4.1, 4.4), 2),
        }
        if self._happens(0.05):
            media["tags"] = ["silent"]
        return media

    def _events(self, joined: datetime, seconds: int) -> dict[str, list[int]] | None:
        rng = self.rng
        if self._happens(0.7):
            return None
        start = epoch_milliseconds(joined)
        return {
            name: sorted(start + rng.randrange(seconds * 1000) for _ in range(rng.randrange(1, 4)))
            for name in rng.sample(_EVENTS, rng.randrange(1, 3))
        }
