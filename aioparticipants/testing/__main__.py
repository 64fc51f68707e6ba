"""`python -m aioparticipants.testing`: FakeInsights as a process, for a shell or other languages.

1. The first line of stdout, and the only one, is JSON that says where it listens; or, with `--env`,
   stdout is lines for a shell to `eval`, and then ends, so that a command substitution does, too.
2. It serves until SIGINT or SIGTERM. A SIGINT that its parent ignores, as a shell has what runs in
   the background do, is ignored here, too: a Ctrl-C is meant for another program then.
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
from pathlib import Path
from typing import TYPE_CHECKING

from ._fake import FakeInsights

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_EXAMPLE = """\
example, in a shell:
  eval "$(python -m aioparticipants.testing --env &)"
  python examples/one_conference.py "$CONFERENCE_SID"
  kill "$FAKE_INSIGHTS_PID"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m aioparticipants.testing",
        description="Serve FakeInsights, a made-up Twilio Voice Insights, on this machine. A line "
        "of JSON on stdout says where.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="0 for a free one (default)")
    parser.add_argument("--seed", type=int, default=0, help="other conferences, other credentials")
    parser.add_argument("--conferences", type=int, default=1, help="how many to make up")
    parser.add_argument("--participants", type=int, default=130, help="in each conference")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument(
        "--env",
        action="store_true",
        help="print lines for a shell to eval, instead of JSON: the variables that from_env() "
        "reads, CONFERENCE_SID (the first), CONFERENCE_SIDS (all), and FAKE_INSIGHTS_PID",
    )
    asyncio.run(_serve(parser.parse_args(arguments)))
    return 0


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with FakeInsights(seed=options.seed, latency=options.latency, port=options.port) as fake:
        sids = [fake.add_conference(options.participants) for _ in range(options.conferences)]
        print((_for_a_shell if options.env else _as_json)(fake, sids), flush=True)  # noqa: T201 - what the caller waits for
        if options.env:
            _end_stdout()
        await stop.wait()


def _as_json(fake: FakeInsights, sids: list[str]) -> str:
    return json.dumps(
        {
            "base_url": fake.base_url,
            "account_sid": fake.credentials[0],
            "auth_token": fake.credentials[1],
            "conference_sids": sids,
        }
    )


def _for_a_shell(fake: FakeInsights, sids: list[str]) -> str:
    variables = {
        "TWILIO_INSIGHTS_BASE_URL": fake.base_url,
        "TWILIO_ACCOUNT_SID": fake.credentials[0],
        "TWILIO_AUTH_TOKEN": fake.credentials[1],
        "TWILIO_API_KEY": "",  # a real one would come before the account's, and be sent here
        "CONFERENCE_SID": sids[0] if sids else "",
        "CONFERENCE_SIDS": " ".join(sids),
        "FAKE_INSIGHTS_PID": str(os.getpid()),
    }
    return "\n".join(f"export {name}={shlex.quote(each)}" for name, each in variables.items())


def _end_stdout() -> None:
    """Let whoever reads stdout find its end, although the process goes on."""
    with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    raise SystemExit(main())
