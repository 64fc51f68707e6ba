"""Count a conference's bad lines page by page: `python by_page.py CF…`."""

import asyncio
import sys

from aioparticipants import InsightsError, InsightsSession, Participant

BAD = 3.6  # a mean opinion score below which many callers are dissatisfied (ITU-T G.107, Annex B)


def is_bad(participant: Participant) -> bool:
    metrics = participant.metrics
    sides = (metrics.inbound, metrics.outbound) if metrics else ()
    return any(side and side.mos is not None and side.mos < BAD for side in sides)


async def main(session: InsightsSession, conference_sid: str) -> None:
    async with session:
        try:
            async for page in session.participants(conference_sid, page_size=50).pages():
                bad = sum(map(is_bad, page.records))
                print(f"page {page.meta.page}: {bad} of {len(page.records)} bad lines")
        except InsightsError as error:
            print(f"failed after {len(error.attempts)} attempts: {error}", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(InsightsSession.from_env(), sys.argv[1]))
