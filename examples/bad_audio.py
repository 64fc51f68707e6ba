"""Print the conferences of the last 24 hours with bad audio: `python bad_audio.py`.

A conference that ended a moment ago has no complete summary yet. It is waited for, 30 minutes at
most, while the others are read. The exit code is 1 if a conference could not be read.
"""

import asyncio
import sys
from datetime import UTC, datetime, timedelta

from aioparticipants import InsightsSession, Participant

BAD_MOS = 3.5  # below it, most people are not satisfied


def worst_mos(participant: Participant) -> float | None:
    """Return the lower MOS of the participant's two directions; None if neither was measured."""
    metrics = participant.metrics
    media = (metrics.inbound, metrics.outbound) if metrics else ()
    return min((each.mos for each in media if each and each.mos is not None), default=None)


async def main(session: InsightsSession, now: datetime) -> int:
    async with session:
        conferences = session.conferences(created_after=now - timedelta(days=1))
        async with session.fan_out(conferences, wait=1800) as results:
            async for result in results:
                if result.error:
                    print(f"{result.conference_sid}: {result.error}", file=sys.stderr)
                measured = [worst_mos(each) for each in result.participants]
                bad = [mos for mos in measured if mos is not None and mos < BAD_MOS]
                if bad:
                    print(
                        f"{result.conference_sid}: {len(bad)} of {len(measured)} participants "
                        f"with bad audio, the worst with a MOS of {min(bad):.1f}"
                    )
    print(f"{results.done} conferences, {results.failed} could not be read", file=sys.stderr)
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(InsightsSession.from_env(), datetime.now(UTC))))
