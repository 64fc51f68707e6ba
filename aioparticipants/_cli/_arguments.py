"""What the commands take, and how they explain themselves."""

from __future__ import annotations

import argparse

from .._version import __version__
from ._demo import demo
from ._list import list_participants

__all__ = ["parser"]

_EXAMPLE = """\
examples:
  python -m aioparticipants demo
  aioparticipants list CF0123456789abcdef0123456789abcdef --limit 20
"""
_DEMO_EXAMPLE = """\
example:
  python -m aioparticipants demo --conferences 12 --seed 7
"""
_LIST_EXAMPLE = """\
environment:
  TWILIO_API_KEY and TWILIO_API_SECRET (or TWILIO_API_KEY_SECRET), or
  TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN
  TWILIO_INSIGHTS_BASE_URL, or TWILIO_REGION and TWILIO_EDGE, where needed
  HTTPS_PROXY and NO_PROXY, where needed

example: all agents, to a file; and a list that failed, where it says how to go on
  aioparticipants list CF0123456789abcdef0123456789abcdef --label agent \\
      --format ndjson > agents.ndjson
  aioparticipants list CF0123456789abcdef0123456789abcdef --label agent \\
      --format ndjson --resume=AbCd... >> agents.ndjson
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; its result's `command` is what to run."""
    whole = argparse.ArgumentParser(
        prog="aioparticipants",
        description="Who was in the conference, and how good was the line? "
        "Participants of Twilio Voice Insights.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"aioparticipants {__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _demo_arguments(
        commands.add_parser(
            "demo",
            help="see the package at work on made-up conferences, on this machine",
            description="Start FakeInsights, a made-up Twilio, on this machine, and read "
            "conferences from it through the real client, in a few seconds. Needs no account "
            "and no network.",
            epilog=_DEMO_EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    _list_arguments(
        commands.add_parser(
            "list",
            help="list the participants of a conference",
            description="List the participants of a conference.",
            epilog=_LIST_EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    return whole


def _demo_arguments(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--participants", type=int, default=80, metavar="N", help="of the first conference (80)")
    add("--page-size", type=int, default=10, metavar="N", help="records a request (10)")
    add("--conferences", type=int, default=8, metavar="N", help="to read at once (8)")
    add("--latency", type=float, default=0.2, metavar="SECONDS", help="of each answer (0.2)")
    add("--seed", type=int, default=0, metavar="N", help="other conferences (0)")
    command.set_defaults(command=demo)


def _list_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("conference_sid", metavar="CF…", help="the conference's SID")
    add = command.add_argument_group("what to list").add_argument
    add("--participant-sid", metavar="CP…", help="only this participant")
    add("--label", help="only participants with this label")
    add("--events", help="only participants with this event, such as mute")
    add("--limit", type=int, metavar="N", help="records in all")
    add("--resume", metavar="CURSOR", help="go on where an earlier list stopped")
    add(
        "--on-invalid",
        choices=("raise", "keep"),
        default="raise",
        help="what to do at a value of the wrong type: raise (default) stops there, keep lists "
        "the record without it",
    )
    add = command.add_argument_group("how to ask").add_argument
    add("--page-size", type=int, metavar="N", help="records a request, 1 to 1000")
    add("--deadline", type=float, metavar="SECONDS", help="for the whole list")
    add("--timeout", type=float, metavar="SECONDS", help="for one attempt (30)")
    add("--max-concurrency", type=int, metavar="N", help="attempts in flight at once, at most (32)")
    add = command.add_argument_group("whom to ask").add_argument
    add("--region", help="a Twilio region, such as ie1, whose keys the credentials are")
    add("--edge", help="a Twilio edge, such as dublin")
    add("--base-url", metavar="URL", help="another origin, such as that of FakeInsights")
    add("--proxy", metavar="URL", help="an HTTP proxy; default: HTTPS_PROXY, but for NO_PROXY")
    command.add_argument(
        "--format",
        choices=("table", "ndjson"),
        default="table",
        help="ndjson: a line of JSON a record, as they come",
    )
    command.set_defaults(command=list_participants)
