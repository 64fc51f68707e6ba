"""The arguments of the commands, and their help."""

from __future__ import annotations

import argparse
from typing import Any

from .._version import __version__
from ._demo import demo
from ._list import list_participants

__all__ = ["parser"]

_DESCRIPTION = """\
Read the participants of Twilio conferences, with the call quality of each one
(Twilio Voice Insights).
"""
_EXAMPLES = """\
examples:
  python -m aioparticipants demo
  aioparticipants list CF0123456789abcdef0123456789abcdef --limit 20
"""
_DEMO_DESCRIPTION = """\
Start FakeInsights, a test server with made-up data, on this machine, and read
conferences from it as from Twilio. Takes a few seconds; needs no account and
no network.
"""
_DEMO_EXAMPLE = """\
example:
  python -m aioparticipants demo --conferences 12 --seed 7
"""
_LIST_EXAMPLES = """\
environment variables:
  TWILIO_API_KEY and TWILIO_API_SECRET (or TWILIO_API_KEY_SECRET), or
  TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or
  TWILIO_CLIENT_ID and TWILIO_CLIENT_SECRET (OAuth): the credentials
  TWILIO_INSIGHTS_BASE_URL, or TWILIO_REGION and TWILIO_EDGE: optional
  HTTPS_PROXY and NO_PROXY: optional

examples: write all agents to a file; continue after a failure, with the
options that the error message gives
  aioparticipants list CF0123456789abcdef0123456789abcdef --label agent \\
      --format ndjson > agents.ndjson
  aioparticipants list CF0123456789abcdef0123456789abcdef --label agent \\
      --format ndjson --resume=AbCd... >> agents.ndjson
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; the attribute `command` of its result runs one."""
    top = argparse.ArgumentParser(
        prog="aioparticipants", **_help_texts(_DESCRIPTION, epilog=_EXAMPLES)
    )
    top.add_argument("--version", action="version", version=f"aioparticipants {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo_arguments(
        commands.add_parser(
            "demo",
            help="read made-up conferences from a test server on this machine",
            **_help_texts(_DEMO_DESCRIPTION, epilog=_DEMO_EXAMPLE),
        )
    )
    _add_list_arguments(
        commands.add_parser(
            "list",
            help="list the participants of a conference",
            **_help_texts("List the participants of a conference.", epilog=_LIST_EXAMPLES),
        )
    )
    return top


def _help_texts(description: str, *, epilog: str) -> dict[str, Any]:
    return {
        "description": description,
        "epilog": epilog,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _add_demo_arguments(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--participants", type=int, default=80, metavar="N", help="in conference 1 (default: 80)")
    add("--page-size", type=int, default=10, metavar="N", help="records per page (default: 10)")
    add("--conferences", type=int, default=8, metavar="N", help="read concurrently (default: 8)")
    add("--latency", type=float, default=0.2, metavar="SECONDS", help="per reply (default: 0.2)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the made-up data (default: 0)")
    command.set_defaults(command=demo)


def _add_list_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("conference_sid", metavar="CF…", help="SID of the conference")
    command.add_argument(
        "--format",
        choices=("table", "ndjson"),
        default="table",
        help="table (default), or ndjson: one JSON object per line, written page by page",
    )
    add = command.add_argument_group("records").add_argument
    add("--participant-sid", metavar="CP…", help="only this participant")
    add("--label", help="only participants with this label")
    add("--events", metavar="EVENT", help="only participants with this event, such as mute")
    add("--limit", type=int, metavar="N", help="at most N records")
    add("--resume", metavar="CURSOR", help="continue an earlier list at this cursor")
    add(
        "--on-invalid",
        choices=("raise", "keep"),
        default="raise",
        help="if a value has the wrong type: raise (default) stops there, keep lists the record "
        "without the value",
    )
    add = command.add_argument_group("requests").add_argument
    add("--page-size", type=int, metavar="N", help="records per request, 1 to 1000")
    add("--deadline", type=float, metavar="SECONDS", help="time limit for the whole list")
    add("--timeout", type=float, metavar="SECONDS", help="time limit per attempt (default: 30)")
    add("--max-concurrency", type=int, metavar="N", help="concurrent requests (default: 32)")
    add = command.add_argument_group("server and proxy").add_argument
    add("--region", help="Twilio region of the credentials, such as ie1")
    add("--edge", help="Twilio edge, such as dublin; needless in us1, ie1 and au1")
    add("--base-url", metavar="URL", help="another server, such as FakeInsights")
    add("--proxy", metavar="URL", help="HTTP proxy (default: HTTPS_PROXY, except for NO_PROXY)")
    command.set_defaults(command=list_participants)
