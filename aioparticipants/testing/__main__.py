"""`python -m aioparticipants.testing`: FakeInsights as a process, for judges in other languages.

One line of JSON on stdout says where it listens; it serves until it is interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from typing import TYPE_CHECKING

from ._fake import FakeInsights

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m aioparticipants.testing", description="Serve FakeInsights on loopback."
    )
    parser.add_argument("--port", type=int, default=0, help="0 for a free one (default)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--conferences", type=int, default=1)
    parser.add_argument("--participants", type=int, default=130, help="in each conference")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    asyncio.run(_serve(parser.parse_args(arguments)))
    return 0


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with FakeInsights(seed=options.seed, latency=options.latency, port=options.port) as fake:
        sids = [fake.add_conference(options.participants) for _ in range(options.conferences)]
        print(  # noqa: T201 - what the caller waits for
            json.dumps(
                {
                    "base_url": fake.base_url,
                    "account_sid": fake.credentials[0],
                    "auth_token": fake.credentials[1],
                    "conference_sids": sids,
                }
            ),
            flush=True,
        )
        await stop.wait()


if __name__ == "__main__":
    raise SystemExit(main())
