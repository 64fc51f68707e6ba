"""SIGINT (Ctrl-C) and SIGTERM: the command cleans up and ends, or ends at once if that is too slow.

1. The first signal cancels the command's task.
2. A second signal, or one during a write to stdout (which can block forever on a pipe), raises
   `KeyboardInterrupt` in the running code. A third one ends the process immediately.
3. After the command has ended, a signal also ends the process immediately: only a thread that looks
   up a host name can still be running then.
4. A signal that the parent process set to be ignored, as `nohup` and `&` do, is ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator
    from types import FrameType

    from ._output import Output

__all__ = ["SignalHandler"]

_DESCRIPTIONS: Final = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
#: A shell adds this to the signal's number for the exit code of a process that a signal ended.
_EXIT_CODE_BASE: Final = 128


class SignalHandler:
    """Ends a command on a signal; see the rules above."""

    def __init__(self, output: Output) -> None:
        self.final_code: int | None = None
        """The exit code of the command, once it has ended."""
        self._output = output
        self._signal: signal.Signals | None = None
        self._has_raised = False
        self._task: asyncio.Task[object] | None = None

    @property
    def description(self) -> str:
        """Return "interrupted" or "terminated"."""
        return _DESCRIPTIONS[self._signal or signal.SIGINT]

    @property
    def exit_code(self) -> int:
        """Return the exit code of a command that a signal ended."""
        return _EXIT_CODE_BASE + (self._signal or signal.SIGINT)

    @contextlib.contextmanager
    def installed(self) -> Generator[None]:
        """Handle signals within the block. Only the main thread can do this."""
        previous = {number: signal.getsignal(number) for number in _DESCRIPTIONS}
        try:
            for number, handler in previous.items():
                if handler is not signal.SIG_IGN:
                    signal.signal(number, self._on_signal)
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    async def run(self, command: Awaitable[None]) -> None:
        """Run a command that a signal cancels."""
        self._task = asyncio.current_task()
        await command

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.final_code is not None:
            os._exit(self.final_code)
        if self._has_raised:  # a KeyboardInterrupt is already propagating
            os._exit(_EXIT_CODE_BASE + number)
        is_repeated = self._signal is not None
        self._signal = self._signal or signal.Signals(number)
        task = self._task
        if task is None or (not task.done() and (is_repeated or self._output.is_writing)):
            self._has_raised = True
            raise KeyboardInterrupt
        task.cancel()
        task.get_loop().call_soon_threadsafe(_wake)  # the loop may be waiting in its selector


def _wake() -> None:
    """Do nothing: the call alone wakes the loop."""
