"""Ctrl-C and SIGTERM: a command ends in order, or at once where that takes too long.

1. The first signal cancels the command, which cleans up as whatever is cancelled does.
2. A second one, or one while stdout is written to (a pipe can block for ever), raises
   `KeyboardInterrupt` where the program is; a third one ends the process on the spot.
3. So does any once it is known how the command ended: the process has nothing of worth to do any
   more then, and may still wait for a thread that looks up a host name.
4. A signal that the parent has the process ignore, as `nohup` and `&` do, is ignored.
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

    from ._streams import Output

__all__ = ["Interruption"]

#: What a shell makes of a process that a signal ended, and how that is told.
_WORDS: Final = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_BASE: Final = 128


class Interruption:
    """Ends a command on a signal; see the rules above."""

    def __init__(self, output: Output) -> None:
        self.ended_with: int | None = None
        """The exit code, once it is known how the command ended."""
        self._output = output
        self._signal: signal.Signals | None = None
        self._has_raised = False
        self._task: asyncio.Task[object] | None = None

    @property
    def word(self) -> str:
        """Return what happened, in a word."""
        return _WORDS[self._signal or signal.SIGINT]

    @property
    def exit_code(self) -> int:
        """Return the exit code that tells of it."""
        return _BASE + (self._signal or signal.SIGINT)

    @contextlib.contextmanager
    def installed(self) -> Generator[None]:
        """Answer signals within the block, in the main thread's program."""
        before = {number: signal.getsignal(number) for number in _WORDS}
        try:
            for number, handler in before.items():
                if handler is not signal.SIG_IGN:
                    signal.signal(number, self._on_signal)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def watch(self, command: Awaitable[None]) -> None:
        """Run a command so that a signal cancels it."""
        self._task = asyncio.current_task()
        await command

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.ended_with is not None:
            os._exit(self.ended_with)
        if self._has_raised:  # that is on its way out, and a second one would be told by nobody
            os._exit(_BASE + number)
        again = self._signal is not None
        self._signal = self._signal or signal.Signals(number)
        task = self._task
        if task is None or (not task.done() and (again or self._output.is_writing)):
            self._has_raised = True
            raise KeyboardInterrupt
        task.cancel()
        task.get_loop().call_soon_threadsafe(_nothing)  # it may sleep in its selector


def _nothing() -> None:
    """Wake the loop."""
