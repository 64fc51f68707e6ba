"""The commands: `demo` shows the package at work, `list` uses it on real conferences.

1. Data goes to stdout; totals, progress, errors and hints go to stderr.
2. Exit codes: 0 done, 1 failed, 2 misused (arguments, SIDs, missing credentials), 130 interrupted
   (SIGINT), 143 terminated (SIGTERM). A reader that closes the pipe (`| head`) ends the command
   quietly, with 0.
3. However else a command ends, stderr gets one clear line, never a traceback; it says how to go on
   behind what was written, where there is something to go on to.
4. What the server said is shown without anything that a terminal would obey.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import TYPE_CHECKING

from ..errors import InsightsError, InvalidRequestError
from ._arguments import parser
from ._signals import Interruption
from ._streams import Output, StdoutError, fill_descriptors, say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["main"]

_DONE, _FAILED, _MISUSED = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code."""
    fill_descriptors()
    output = Output()
    interruption = Interruption(output)
    with interruption.installed(), asyncio.Runner() as runner:
        code, why = _run(arguments, output, interruption, runner)
        interruption.ended_with = code
        if why:
            say(f"aioparticipants: {why}{output.way_on()}")
    return code


def _run(
    arguments: Sequence[str] | None,
    output: Output,
    interruption: Interruption,
    runner: asyncio.Runner,
) -> tuple[int, str]:
    """Return the exit code, and why it is that one; nothing where there is nothing to tell."""
    try:
        options = _parsed(arguments, output)
        output.check()
        runner.run(interruption.watch(options.command(options, output)))
    except InvalidRequestError as error:
        return _MISUSED, str(error)
    except (InsightsError, StdoutError) as error:
        return _FAILED, str(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return interruption.exit_code, f"{interruption.word}."
    except BrokenPipeError:
        pass
    return _DONE, ""


def _parsed(arguments: Sequence[str] | None, output: Output) -> argparse.Namespace:
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):  # argparse ignores a failure to write its help
            return parser().parse_args(arguments)
    finally:
        if text := shown.getvalue():
            output.write(text)
