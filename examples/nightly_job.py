"""Fetch a file of conferences: `python nightly_job.py sids.txt out.ndjson`; run it again to go on.

Each line of the output is one complete conference, with its participants as JSON objects in the
API's own form. The other conferences are in
out.ndjson.unfinished: those that failed, with the records before the failure and the cursor to
continue from; and those whose summaries Twilio has not finished, which the next run fetches from
the start. No record is lost or written twice, even if a run is killed. The exit code is 1 while
conferences are unfinished.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterable
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

PATIENCE = 24 * 3600  # seconds until Twilio stops working on summaries; then they are final
USELESS_CURSOR = (CursorExpiredError, PaginationError, InvalidRequestError)


@attrs.define
class Conference:
    """What is known of a conference; a line of either file."""

    conference_sid: str
    since: float = attrs.field(factory=time.time)  # of the first run that wanted it
    participants: list[object] = attrs.field(factory=list)
    in_progress: bool = False
    bad_records: list[object] = attrs.field(factory=list)
    error: str | None = "not fetched yet"
    cursor: str | None = None

    def add(self, result: ConferenceResult) -> None:
        """Add the records of a result, and note the cursor to continue from."""
        self.participants += [each.to_dict() for each in result.participants]
        if result.participants and not attrs.evolve(result, error=None).settled:
            self.in_progress = True
        self.error = str(result.error) if result.error else None
        self.cursor = result.error.cursor if result.error else None
        if behind := cursor_after(result):
            self.bad_records.append({"error": self.error, "cursor": self.cursor})
            self.cursor = behind

    def is_done(self) -> bool:
        settled = self.participants and not self.in_progress
        return self.error is None and bool(settled or time.time() - self.since > PATIENCE)

    def start_again(self) -> None:
        self.participants, self.bad_records, self.cursor = [], [], None
        self.in_progress = False

    def line(self) -> str:
        return json.dumps(attrs.asdict(self)) + "\n"


def cursor_after(result: ConferenceResult) -> str | None:
    """Return the cursor behind the bad record that ended a list, if that is what ended it."""
    return result.error.cursor_after if isinstance(result.error, ResponseError) else None


async def rest_of(session: InsightsSession, conference: Conference) -> ConferenceResult:
    """Return the rest of a conference, from its cursor on."""
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
    """Add a result and the records behind bad ones; start again, once, if a cursor is useless."""
    may_start_again = True
    while True:
        resumed = conference.cursor is not None
        conference.add(result)
        if resumed and may_start_again and isinstance(result.error, USELESS_CURSOR):
            conference.start_again()
            may_start_again = False
        elif not cursor_after(result):
            return
        result = await rest_of(session, conference)


def done_in(output: Path) -> set[str]:
    """Return the conferences in the output, and remove a line that was only written in part."""
    found, size = set[str](), 0
    with output.open("a+b") as file:
        file.seek(0)
        for line in file:
            if line.endswith(b"\n"):
                found.add(json.loads(line)["conference_sid"])
                size += len(line)
        file.truncate(size)
    return found


def unfinished_in(path: Path) -> dict[str, Conference]:
    lines = path.read_text().splitlines() if path.exists() else []
    conferences = [Conference(**json.loads(line)) for line in lines]
    return {each.conference_sid: each for each in conferences}


def write_unfinished(path: Path, conferences: Iterable[Conference]) -> None:
    """Replace the file in one step, so that it is complete at any time."""
    new = path.with_name(f"{path.name}.new")
    with new.open("w") as file:
        for each in conferences:
            # Records that may still change are not kept, nor are those without a cursor.
            if each.in_progress or each.cursor is None:
                each.start_again()
            file.write(each.line())
    new.replace(path)


async def main(session: InsightsSession, sids: Iterable[str], output: Path) -> int:
    done, rest = done_in(output), output.with_name(f"{output.name}.unfinished")
    before = unfinished_in(rest)
    todo = {sid: before.get(sid) or Conference(sid) for sid in sids if sid not in done}
    started = [each for each in todo.values() if each.cursor]
    fresh = [each.conference_sid for each in todo.values() if not each.cursor]
    wanted = len(todo)

    with output.open("a") as file:

        async def save(conference: Conference, result: ConferenceResult) -> None:
            await complete(session, conference, result)
            if conference.is_done():
                file.write(conference.line())
                file.flush()
                del todo[conference.conference_sid]
            elif conference.error is None:
                conference.error = "Twilio has not finished the summaries"
            print(f"{conference.conference_sid}: {conference.error or 'done'}", file=sys.stderr)

        try:
            async with session:
                for conference in started:  # few: those that failed half-way
                    await save(conference, await rest_of(session, conference))
                async with session.fan_out(fresh) as results:
                    async for result in results:
                        await save(todo[result.conference_sid], result)
        finally:
            write_unfinished(rest, todo.values())

    stats = session.stats
    print(
        f"{wanted - len(todo)} of {wanted} conferences done, {len(todo)} unfinished; "
        f"{stats.requests} requests, {stats.retries} retries, {stats.rate_limited} rate-limited",
        file=sys.stderr,
    )
    return 1 if todo else 0


if __name__ == "__main__":
    wanted = Path(sys.argv[1]).read_text().split()
    sys.exit(asyncio.run(main(InsightsSession.from_env(), wanted, Path(sys.argv[2]))))
