"""`python -m aioparticipants.testing`: FakeInsights as a process, for a shell or other languages.

1. stdout is one line of JSON with the address and the credentials; or, with `--env`, lines for a
   shell to `eval`. stdout is then closed, so that a command substitution ends.
2. Its clock is set to the time of the start, and the conferences are made up in the hours before:
   a program that asks for those of the last day finds them. `--now` makes a run repeatable.
3. It serves until SIGINT or SIGTERM. It ignores a SIGINT that its parent ignores: a shell does that
   for background jobs, so that Ctrl-C reaches only the program in the foreground.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shlex
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ._fake import FakeInsights
from ._store import checked_steps
from ._times import parsed_time, to_iso

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._store import SummaryStep

__all__ = ["main"]

_DESCRIPTION = """\
Serve FakeInsights, a test server for Twilio Voice Insights, on this machine.
stdout is one line of JSON with its address and credentials.
"""
_EXAMPLE = r"""
example, in a shell:
  eval "$(python -m aioparticipants.testing --env &)"
  python examples/one_conference.py "$CONFERENCE_SID"
  curl -u "$TWILIO_ACCOUNT_SID:$TWILIO_AUTH_TOKEN" \
    "$TWILIO_INSIGHTS_BASE_URL/v1/Conferences?CreatedAfter=$CREATED_AFTER"
  kill "$FAKE_INSIGHTS_PID"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM."""
    asyncio.run(_serve(_parser().parse_args(arguments)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aioparticipants.testing",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--port", type=int, default=0, metavar="N", help="port to listen on (default: a free one)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the made-up data (default: 0)")
    add(
        "--conferences", type=int, default=1, metavar="N", help="number of conferences (default: 1)"
    )
    add("--participants", type=int, default=130, metavar="N", help="per conference (default: 130)")
    add(
        "--latency",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="before each reply (default: 0)",
    )
    add(
        "--now",
        type=_time,
        metavar="TIME",
        help="time of the server's clock, such as 2026-03-03T00:00:00Z; the conferences are made "
        "up in the 15 hours before it (default: the time of the start)",
    )
    add(
        "--summary",
        type=_steps,
        default=("complete",),
        metavar="STEPS",
        help="what each GET of a conference finds, one after the other; the last one stays: "
        "404, in_progress, complete or timeout, with commas between (default: complete)",
    )
    add(
        "--env",
        action="store_true",
        help="print lines for a shell to eval instead of JSON: the variables that from_env() "
        "reads, CONFERENCE_SID (the first one), CONFERENCE_SIDS (all), CREATED_AFTER (the start "
        "of the 24 hours before the clock's time) and FAKE_INSIGHTS_PID",
    )
    return parser


def _time(text: str) -> datetime:
    time = parsed_time(text)
    if time is None:
        message = "must be ISO 8601 with a time zone, such as 2026-03-03T00:00:00Z"
        raise argparse.ArgumentTypeError(message)
    return time


def _steps(text: str) -> tuple[SummaryStep, ...]:
    try:
        return checked_steps([404 if each == "404" else each for each in text.split(",")])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with FakeInsights(
        seed=options.seed,
        latency=options.latency,
        port=options.port,
        now=options.now or datetime.now(UTC),
    ) as fake:
        sids = [
            fake.add_conference(options.participants, summary=options.summary)
            for _ in range(options.conferences)
        ]
        print((_shell_exports if options.env else _as_json)(fake, sids), flush=True)  # noqa: T201 - the caller reads it
        if options.env:
            _close_stdout()
        await stop.wait()


def _as_json(fake: FakeInsights, sids: list[str]) -> str:
    return json.dumps(
        {
            "base_url": fake.base_url,
            "account_sid": fake.credentials[0],
            "auth_token": fake.credentials[1],
            "conference_sids": sids,
            "created_after": _created_after(fake),
        }
    )


def _created_after(fake: FakeInsights) -> str:
    """Return the start of a window with all the conferences."""
    return to_iso(fake.now - timedelta(days=1))


def _shell_exports(fake: FakeInsights, sids: list[str]) -> str:
    variables = {
        "TWILIO_INSIGHTS_BASE_URL": fake.base_url,
        "TWILIO_ACCOUNT_SID": fake.credentials[0],
        "TWILIO_AUTH_TOKEN": fake.credentials[1],
        # from_env() prefers an API key: a real one must not be sent to the test server.
        "TWILIO_API_KEY": "",
        "CONFERENCE_SID": sids[0] if sids else "",
        "CONFERENCE_SIDS": " ".join(sids),
        "CREATED_AFTER": _created_after(fake),
        "FAKE_INSIGHTS_PID": str(os.getpid()),
    }
    return "\n".join(f"export {name}={shlex.quote(each)}" for name, each in variables.items())


def _close_stdout() -> None:
    """Redirect stdout to the null device, so that its reader sees the end of the file."""
    with contextlib.suppress(OSError), Path(os.devnull).open("wb") as null:
        os.dup2(null.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    raise SystemExit(main())
