"""The commands: `demo` shows the package at work, `list` reads real conferences.

1. Data goes to stdout; totals, progress, errors and hints go to stderr.
2. Exit codes: 0 success, 1 failure, 2 misuse (arguments, SIDs, missing credentials), 130
   interrupted (SIGINT), 143 terminated (SIGTERM). When the reader of a pipe closes it (`| head`),
   the command ends with 0 and no message.
3. In all other cases stderr gets one line, never a traceback. If the list can be continued after
   the records that were written, that line says how.
4. Text from the server is shown without characters that control a terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import TYPE_CHECKING

from ..errors import InsightsError, InvalidRequestError
from ._arguments import parser
from ._output import Output, StdoutError, open_closed_descriptors, say
from ._signals import SignalHandler

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["main"]

_SUCCESS, _FAILURE, _MISUSE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code."""
    open_closed_descriptors()
    output = Output()
    signals = SignalHandler(output)
    with signals.installed(), asyncio.Runner() as runner:
        code, message = _run(arguments, output, signals, runner)
        signals.final_code = code
        if message:
            say(f"aioparticipants: {message}{output.resume_hint()}")
    return code


def _run(
    arguments: Sequence[str] | None, output: Output, signals: SignalHandler, runner: asyncio.Runner
) -> tuple[int, str]:
    """Run a command; return the exit code, and the message for stderr, which can be empty."""
    try:
        options = _parse(arguments, output)
        output.check_open()
        runner.run(signals.run(options.command(options, output)))
    except InvalidRequestError as error:
        return _MISUSE, str(error)
    except (InsightsError, StdoutError) as error:
        return _FAILURE, str(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return signals.exit_code, f"{signals.description}."
    except BrokenPipeError:
        pass
    return _SUCCESS, ""


def _parse(arguments: Sequence[str] | None, output: Output) -> argparse.Namespace:
    help_text = io.StringIO()
    try:
        with contextlib.redirect_stdout(help_text):  # argparse ignores a failure to write its help
            return parser().parse_args(arguments)
    finally:
        if text := help_text.getvalue():
            output.write(text)
