"""Fetch a file of conferences: `python nightly_job.py sids.txt out.ndjson`; run it again to go on.

Each line of the output is one conference, whole. The others are in out.ndjson.unfinished: those
that failed, with the records that came before and the cursor to go on from; and those of which
Twilio has not finished the summaries, to be asked for anew. The next run goes on with both: nothing
is lost or there twice, also where a run was killed. While there are any, the exit code is 1.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from aioparticipants import (
    ConferenceResult,
    CursorExpiredError,
    InsightsError,
    InsightsSession,
    InvalidRequestError,
    PaginationError,
    Participant,
    ResponseError,
)

PATIENCE = 24 * 3600  # seconds: Twilio gives summaries up then, so they are taken as they are
CURSOR_OF_NO_USE = (CursorExpiredError, PaginationError, InvalidRequestError)


@attrs.define
class Conference:
    """What is known of a conference; a line of either file."""

    conference_sid: str
    since: float = attrs.field(factory=time.time)  # when it was first wanted
    participants: list[object] = attrs.field(factory=list)
    in_progress: bool = False
    bad_records: list[object] = attrs.field(factory=list)
    error: str | None = "not asked for"
    cursor: str | None = None

    def add(self, result: ConferenceResult) -> None:
        """Add the records that came, and note where to go on: behind a bad record."""
        self.participants += result.participants
        if result.participants and not attrs.evolve(result, error=None).settled:
            self.in_progress = True
        self.error = str(result.error) if result.error else None
        self.cursor = result.error.cursor if result.error else None
        if isinstance(result.error, ResponseError) and result.error.cursor_after:
            self.bad_records.append({"error": self.error, "cursor": self.cursor})
            self.cursor = result.error.cursor_after

    def is_done(self) -> bool:
        settled = self.participants and not self.in_progress
        return self.error is None and bool(settled or time.time() - self.since > PATIENCE)

    def begin_anew(self) -> None:
        self.participants, self.bad_records, self.cursor = [], [], None
        self.in_progress = False

    def line(self) -> str:
        return json.dumps(attrs.asdict(self), default=plain) + "\n"


def plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


async def rest_of(session: InsightsSession, conference: Conference) -> ConferenceResult:
    """Return what is left of a conference, from its cursor on."""
    sid, participants, error = conference.conference_sid, list[Participant](), None
    try:
        async for page in session.participants(sid, resume=conference.cursor).pages():
            participants += page.records
    except InsightsError as failure:
        error = failure
    return ConferenceResult(conference_sid=sid, participants=tuple(participants), error=error)


async def complete(
    session: InsightsSession, conference: Conference, result: ConferenceResult
) -> None:
    """Add a result, and what is behind its bad records; all anew, once, if its cursor is no use."""
    may_begin_anew = True
    while True:
        resumed = conference.cursor is not None
        conference.add(result)
        if resumed and may_begin_anew and isinstance(result.error, CURSOR_OF_NO_USE):
            conference.begin_anew()
            may_begin_anew = False
        elif not (isinstance(result.error, ResponseError) and result.error.cursor_after):
            return
        result = await rest_of(session, conference)


def done_in(output: Path) -> set[str]:
    """Return the conferences that are whole; cut off a line that was not written to its end."""
    found, whole = set[str](), 0
    with output.open("a+b") as file:
        file.seek(0)
        for line in file:
            if line.endswith(b"\n"):
                found.add(json.loads(line)["conference_sid"])
                whole += len(line)
        file.truncate(whole)
    return found


def unfinished_in(path: Path) -> dict[str, Conference]:
    lines = path.read_text().splitlines() if path.exists() else []
    return {
        each.conference_sid: each for each in (Conference(**json.loads(line)) for line in lines)
    }


def write_unfinished(path: Path, conferences: Iterable[Conference]) -> None:
    """Replace the file at once, so that there is always a whole one."""
    new = path.with_name(f"{path.name}.new")
    with new.open("w") as file:
        for each in conferences:
            # Records that may change are not kept, nor those that nothing says how to go on from.
            if each.in_progress or each.cursor is None:
                each.begin_anew()
            file.write(each.line())
    new.replace(path)


async def main(session: InsightsSession, sids: Iterable[str], output: Path) -> int:
    done, rest = done_in(output), output.with_name(f"{output.name}.unfinished")
    before = unfinished_in(rest)
    todo = {sid: before.get(sid) or Conference(sid) for sid in sids if sid not in done}
    begun = [each for each in todo.values() if each.cursor]
    fresh = [each.conference_sid for each in todo.values() if not each.cursor]

    with output.open("a") as file:

        async def close(conference: Conference, result: ConferenceResult) -> None:
            await complete(session, conference, result)
            if conference.is_done():
                file.write(conference.line())
                file.flush()
                del todo[conference.conference_sid]
            elif conference.error is None:
                conference.error = "Twilio has not finished the summaries"
            print(f"{conference.conference_sid}: {conference.error or 'done'}", file=sys.stderr)

        wanted = len(todo)
        try:
            async with session:
                for conference in begun:  # seldom many: the failures in the middle of a conference
                    await close(conference, await rest_of(session, conference))
                async with session.fan_out(fresh) as results:
                    async for result in results:
                        await close(todo[result.conference_sid], result)
        finally:
            write_unfinished(rest, todo.values())

    stats = session.stats
    print(
        f"{wanted - len(todo)} of {wanted} conferences done, {len(todo)} unfinished; "
        f"{stats.requests} requests, {stats.retries} of them again, {stats.rate_limited} refused",
        file=sys.stderr,
    )
    return 1 if todo else 0


if __name__ == "__main__":
    wanted = Path(sys.argv[1]).read_text().split()
    sys.exit(asyncio.run(main(InsightsSession.from_env(), wanted, Path(sys.argv[2]))))
