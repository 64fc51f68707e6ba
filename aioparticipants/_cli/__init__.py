"""The commands: `demo` shows the package at work, `list` uses it on real conferences.

1. Data goes to stdout; totals of `list`, errors and hints go to stderr.
2. Exit codes: 0 done, 1 failed, 2 misused (arguments, SIDs, missing credentials), 130 interrupted.
   A reader that closes the pipe (`| head`) ends the command quietly, with 0.
3. An error is one clear line, never a traceback; a second one says how to go on, where that can be.
   So is a stdout that takes no more; and one that cannot encode a character gets another for it.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .._version import __version__
from ..errors import InsightsError, InvalidRequestError
from ._demo import demo
from ._list import list_participants

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_DONE, _FAILED, _MISUSED, _INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code."""
    options = _parser().parse_args(arguments)
    stdout: object = sys.stdout
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(errors="replace")
    try:
        asyncio.run(options.command(options))
        sys.stdout.flush()  # at exit it would be too late to tell of a failure
    except InvalidRequestError as error:
        return _told(error, _MISUSED)
    except InsightsError as error:
        return _told(error, _FAILED)
    except KeyboardInterrupt:
        return _told("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        _give_up_stdout()
    except OSError as error:
        _give_up_stdout()
        return _told(error, _FAILED)
    return _DONE


def _give_up_stdout() -> None:
    # Python flushes stdout once more at exit, and would complain.
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _told(what: object, code: int) -> int:
    for line in (what, *getattr(what, "__notes__", ())):
        print(f"aioparticipants: {line}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aioparticipants",
        description="Who was in the conference, and how good was the line? "
        "Participants of Twilio Voice Insights.",
    )
    parser.add_argument("--version", action="version", version=f"aioparticipants {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo_parser = commands.add_parser(
        "demo",
        help="stream a made-up conference from a server on this machine",
        description="Start FakeInsights on loopback, and stream a conference from it through the "
        "real client. Needs no account and no network.",
    )
    list_parser = commands.add_parser(
        "list",
        help="list the participants of a conference",
        description="List the participants of a conference. Credentials come from the "
        "environment: TWILIO_API_KEY and TWILIO_API_SECRET, or TWILIO_ACCOUNT_SID and "
        "TWILIO_AUTH_TOKEN; TWILIO_REGION and TWILIO_EDGE where needed.",
    )
    _demo_arguments(demo_parser)
    _list_arguments(list_parser)
    return parser


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--participants", type=int, default=23, metavar="N")
    parser.add_argument("--page-size", type=int, default=10, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another conference")
    parser.set_defaults(command=demo)


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("conference_sid", metavar="CF…", help="the conference's SID")
    parser.add_argument("--label", help="only participants with this label")
    parser.add_argument("--events", help="only participants with this event, such as mute")
    parser.add_argument("--page-size", type=int, metavar="N", help="records a request, 1 to 1000")
    parser.add_argument("--limit", type=int, metavar="N", help="records in all")
    parser.add_argument("--deadline", type=float, metavar="SECONDS", help="for the whole list")
    parser.add_argument("--resume", metavar="CURSOR", help="go on where an earlier list stopped")
    parser.add_argument("--base-url", metavar="URL", help="another origin to ask")
    parser.add_argument(
        "--format",
        choices=("table", "ndjson"),
        default="table",
        help="ndjson: a line of JSON a record, as they come",
    )
    parser.set_defaults(command=list_participants)
