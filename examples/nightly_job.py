"""Fetch a file of conferences: `python nightly_job.py sids.txt out.ndjson`; run it again to go on.

Each line of the output is a part of one conference: all of it, or what came before an error, with
the cursor to go on from. So a run that failed or was killed is resumed by the next one, and nothing
is lost or there twice. What failed is listed in out.ndjson.failed, and makes the exit code 1.
"""

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from aioparticipants import ConferenceResult, InsightsError, InsightsSession, Participant


def plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


def line_of(result: ConferenceResult) -> str:
    line = {
        "conference_sid": result.conference_sid,
        "error": str(result.error) if result.error else None,
        "cursor": result.error.cursor if result.error else None,
        "participants": [attrs.asdict(each) for each in result.participants],
    }
    return json.dumps(line, default=plain) + "\n"


class Progress:
    """What is known of each conference: its last error and cursor, and whether it has records."""

    def __init__(self, output: Path) -> None:
        """Read it from the output, and cut off a line that was not written to its end."""
        self.error: dict[str, str | None] = {}
        self.cursor: dict[str, str | None] = {}
        self.has_records: set[str] = set()
        whole = 0
        with output.open("a+b") as file:
            file.seek(0)
            for line in file:
                if line.endswith(b"\n"):
                    self.note(line)
                    whole += len(line)
            file.truncate(whole)

    def note(self, line: str | bytes) -> None:
        part = json.loads(line)
        sid = part["conference_sid"]
        self.error[sid] = part["error"]
        self.cursor[sid] = part["cursor"] or self.cursor.get(sid)
        if part["participants"]:
            self.has_records.add(sid)

    def is_done(self, sid: str) -> bool:
        return self.error.get(sid, "not begun") is None


async def rest_of(session: InsightsSession, sid: str, cursor: str | None) -> ConferenceResult:
    participants, error = list[Participant](), None
    try:
        async for page in session.participants(sid, resume=cursor).pages():
            participants += page.records
    except InsightsError as failure:
        error = failure
    return ConferenceResult(conference_sid=sid, participants=tuple(participants), error=error)


async def main(session: InsightsSession, sids: Iterable[str], output: Path) -> int:
    progress = Progress(output)
    todo = [sid for sid in dict.fromkeys(sids) if not progress.is_done(sid)]
    begun = [sid for sid in todo if sid in progress.has_records]
    fresh = [sid for sid in todo if sid not in progress.has_records]

    with output.open("a") as file:

        def write(result: ConferenceResult) -> None:
            line = line_of(result)
            file.write(line)
            file.flush()
            progress.note(line)
            print(f"{result.conference_sid}: {result.error or 'done'}", file=sys.stderr)

        async with session:
            for sid in begun:  # seldom many: the failures in the middle of a conference
                write(await rest_of(session, sid, progress.cursor[sid]))
            async with session.fan_out(fresh) as results:
                async for result in results:
                    write(result)

    failed = {sid: progress.error[sid] for sid in todo if not progress.is_done(sid)}
    with output.with_name(f"{output.name}.failed").open("w") as file:
        for sid, error in failed.items():
            line = {"conference_sid": sid, "error": error, "cursor": progress.cursor[sid]}
            file.write(json.dumps(line) + "\n")
    stats = session.stats
    print(
        f"{len(todo) - len(failed)} of {len(todo)} conferences done, {len(failed)} failed; "
        f"{stats.requests} requests, {stats.retries} of them again, {stats.refused} refused",
        file=sys.stderr,
    )
    return 1 if failed else 0


if __name__ == "__main__":
    wanted = Path(sys.argv[1]).read_text().split()
    sys.exit(asyncio.run(main(InsightsSession.from_env(), wanted, Path(sys.argv[2]))))
