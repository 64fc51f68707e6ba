"""Print who was in a conference: `python one_conference.py CF…`, credentials in the environment."""

import asyncio
import sys

from aioparticipants import InsightsSession


async def main(session: InsightsSession, conference_sid: str) -> None:
    async with session:
        async for participant in session.participants(conference_sid):
            metrics = participant.metrics
            mos = metrics.inbound.mos if metrics and metrics.inbound else None
            print(participant.participant_sid, participant.participant_region, mos)


if __name__ == "__main__":
    asyncio.run(main(InsightsSession.from_env(), sys.argv[1]))
