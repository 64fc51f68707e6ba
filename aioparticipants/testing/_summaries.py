"""The summary of a conference: made up to fit its participants, or still being aggregated.

1. What follows from the participants is computed from them: times, counts, issues and tags. The
   rest comes from the seed.
2. The thresholds of the tags are those of Twilio's call tags, as it publishes none for conferences:
   https://www.twilio.com/docs/voice/insights/api/voice-insights-call-tags
3. `tag_info` has both forms that Twilio publishes: an object for `start_failure`, an array for
   `duplicate_identity`.
4. While a summary is `in_progress`, the figures that Twilio aggregates are null, and only half of
   the participants are listed. After a `timeout` the figures stay null.
   https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-summary-resource
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Final

from .._structuring import participant_keeping
from ._participants import REGIONS
from ._times import to_iso

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping, Sequence

    from ..models import AvgMax, MediaMetrics, Participant

__all__ = ["UNFINISHED", "make_summary", "unfinished_participants", "unfinished_summary"]

#: For each state of a summary that is not complete, the status of the conference.
UNFINISHED: Final[Mapping[str, str]] = {
    "in_progress": "in_progress",
    "timeout": "summary_timeout",
}

#: What Twilio learns at the end of a conference, or computes after it.
_AGGREGATED: Final = (
    "end_time", "duration_seconds", "connect_duration_seconds", "max_concurrent_participants",
    "unique_participants", "end_reason", "ended_by", "detected_issues", "tags", "tag_info",
)  # fmt: skip
#: The end reasons, and how often each one is drawn.
_END_REASONS: Final = {
    "last_participant_left": 6,
    "participant_with_end_conference_on_exit_left": 2,
    "conference_ended_via_api": 1,
    "last_participant_kicked": 1,
    "participant_with_end_conference_on_exit_kicked": 1,
}
_BY_LAST: Final = frozenset({"last_participant_left", "last_participant_kicked"})
#: For each issue, the tag that goes with it.
_ISSUE_TAGS: Final = {
    "call_quality": "quality_warnings",
    "region_configuration": "region_configuration_issues",
    "participant_behavior": "participant_behavior_issues",
}
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_LOW_MOS: Final = 3.5
_HIGH_PACKET_LOSS: Final = 5
_HIGH_JITTER: Final = (5, 30)  # average and maximum, both
_HIGH_LATENCY: Final = 150


# --- A summary that is made up ---


def make_summary(
    rng: random.Random,
    participants: Sequence[Mapping[str, object]],
    *,
    created: datetime,
    base_url: str,
    account_sid: str,
    conference_sid: str,
) -> dict[str, object]:
    """Make up the summary of a conference with these participants.

    Args:
        rng: the source of what does not follow from the participants.
        participants: the JSON of the participants, which need not be valid.
        created: when it was created, unless a participant joined earlier.
        base_url: what its URL and links begin with.
        account_sid: its account.
        conference_sid: its SID.
    """
    # A value of the wrong type counts as absent.
    people = [participant_keeping(dict(each), "participants") for each in participants]
    times = _times(people, created)
    started = times["start_time"] is not None
    regions = [str(each.conference_region) for each in people if each.conference_region]
    mixer = regions[0] if regions and started else None
    requested = rng.choice((None, None, None, mixer, mixer, mixer and rng.choice(REGIONS)))
    reason = rng.choices([*_END_REASONS], [*_END_REASONS.values()])[0]
    url = f"{base_url}/v1/Conferences/{conference_sid}"
    return {
        "conference_sid": conference_sid,
        "account_sid": account_sid,
        "friendly_name": f"Support {rng.randrange(10_000):04}" if _happens(rng, 0.9) else None,
        **times,
        "status": "completed" if started else "not_started",
        "max_participants": 250,
        "max_concurrent_participants": _most_at_once(people),
        "unique_participants": len({_caller_id(each, index) for index, each in enumerate(people)}),
        "end_reason": reason,
        "ended_by": _ended_by(people, reason),
        "mixer_region": mixer,
        "mixer_region_requested": requested,
        "recording_enabled": _happens(rng, 0.3),
        "processing_state": "complete",
        **_findings(rng, people, started=started, in_region=requested in {None, mixer}),
        "url": url,
        "links": {"conference_participants": f"{url}/Participants"},
    }


def _happens(rng: random.Random, probability: float) -> bool:
    return rng.random() < probability


def _times(people: Sequence[Participant], created: datetime) -> dict[str, object]:
    joins = sorted(each.join_time for each in people if each.join_time)
    leaves = [each.leave_time for each in people if each.leave_time]
    created = min([created, *joins])
    # A conference starts when the second participant joins.
    started = joins[1] if len(joins) > 1 else None
    ended = max([created, *joins, *leaves])
    return {
        "create_time": to_iso(created),
        "start_time": started and to_iso(started),
        "end_time": to_iso(ended),
        "duration_seconds": int((ended - created).total_seconds()),
        "connect_duration_seconds": int((ended - started).total_seconds()) if started else 0,
    }


def _most_at_once(people: Iterable[Participant]) -> int:
    changes = [(each.join_time, 1) for each in people if each.join_time and each.leave_time]
    changes += [(each.leave_time, -1) for each in people if each.join_time and each.leave_time]
    return max(accumulate(change for _, change in sorted(changes)), default=0)


def _caller_id(participant: Participant, index: int) -> object:
    """Return the number or name by which a participant is counted."""
    is_outbound = participant.call_direction == "outbound"
    return (participant.to if is_outbound else participant.from_) or index


def _ended_by(people: Sequence[Participant], reason: str) -> str | None:
    if reason == "conference_ended_via_api" or not people:
        return None
    if reason in _BY_LAST:
        return max(people, key=lambda each: each.leave_time or _LONG_AGO).call_sid
    return people[0].call_sid  # the moderator


def _findings(
    rng: random.Random, people: Sequence[Participant], *, started: bool, in_region: bool
) -> dict[str, object]:
    """Return the issues that Twilio would detect, their tags, and the details of the tags."""
    details = _behavior(rng, people, started=started)
    quality = [_quality_tags(each) for each in people]
    silent = any("silent" in (media.tags or ()) for each in people for media in _media(each))
    issues = {
        "call_quality": sum(map(bool, quality)),
        "region_configuration": int(not in_region),
        "participant_behavior": len(details) + silent,
    }
    tags = {*details, *chain.from_iterable(quality), *(["detected_silence"] if silent else [])}
    tags.update(tag for issue, tag in _ISSUE_TAGS.items() if issues[issue])
    return {
        "detected_issues": issues,
        "tags": sorted(tags) or None,
        "tag_info": details or None,
    }


def _behavior(
    rng: random.Random, people: Sequence[Participant], *, started: bool
) -> dict[str, object]:
    """Return the tags that have details, with these."""
    if not started:
        return {"start_failure": {"reason": "no_concurrent_participants"}}
    if _happens(rng, 0.85):
        return {}
    sids = [each.participant_sid for each in people[:2]]
    identity = f"user{rng.randrange(1000):03}"
    return {
        "duplicate_identity": [{"participant_identity": identity, "participant_sids": sids}],
    }


def _media(participant: Participant) -> list[MediaMetrics]:
    metrics = participant.metrics
    both = (metrics.inbound, metrics.outbound) if metrics else ()
    return [each for each in both if each]


def _quality_tags(participant: Participant) -> set[str]:
    return {
        tag
        for media in _media(participant)
        for tag, is_bad in {
            "high_packet_loss": (media.packet_loss_percentage or 0) > _HIGH_PACKET_LOSS,
            "high_jitter": _is_high(media.jitter),
            "high_latency": media.latency is not None and (media.latency.avg or 0) > _HIGH_LATENCY,
            "low_mos": media.mos is not None and media.mos < _LOW_MOS,
        }.items()
        if is_bad
    }


def _is_high(jitter: AvgMax | None) -> bool:
    average, maximum = _HIGH_JITTER
    return jitter is not None and (jitter.avg or 0) >= average and (jitter.max or 0) >= maximum


# --- A summary that is still being aggregated ---


def unfinished_summary(summary: Mapping[str, object], state: str) -> dict[str, object]:
    """Return what is served of a summary in the state `in_progress` or `timeout`."""
    return {
        **summary,
        **dict.fromkeys(_AGGREGATED),
        "status": UNFINISHED[state],
        "processing_state": state,
    }


def unfinished_participants(
    participants: Sequence[Mapping[str, object]], state: str
) -> list[dict[str, object]]:
    """Return what is served of participants in the state `in_progress` or `timeout`."""
    listed = participants[: len(participants) // 2] if state == "in_progress" else participants
    return [{**each, "metrics": None, "processing_state": state} for each in listed]
