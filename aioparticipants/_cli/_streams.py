"""stdout and stderr as they can be: closed, full, or a pipe that nobody reads any more.

1. Data goes to stdout a page at a time, and each is flushed, so that it is known at any moment what
   was written. What is left of a page that could not be written whole is discarded: Python would
   try it again at exit, and complain.
2. A message goes to stderr in one line, with nothing in it that a terminal obeys. Where stderr
   takes none, it is lost, and the command goes on; it never goes to stdout instead.
3. A descriptor of a standard stream that is closed is no socket's to take: who writes to it would
   write to Twilio.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import IO, Any, TextIO

from .._sanitize import printable

__all__ = ["Output", "StdoutError", "fill_descriptors", "say"]

_STANDARD = 3  # stdin, stdout, stderr


class StdoutError(Exception):
    """stdout is closed, full, or broken in another way than by its reader."""


class Output:
    """stdout, and how to go on behind what was written to it."""

    def __init__(self) -> None:
        self.is_writing = False
        """Whether a write is under way: one to a pipe can take for ever."""
        self.records = 0
        """Records that were written, in whole pages."""
        self.cursor: str | None = None
        """Where the list goes on behind them; None before the first, and after the last."""
        self.cursor_behind: str | None = None
        """Where it goes on behind a record that ended it."""
        self.limit: int | None = None
        """Records that were to be written in all, where there is a limit."""
        self._is_cut = False

    def check(self) -> None:
        """Raise `StdoutError` where there is nothing to write to: sooner than after a request."""
        if _is_missing(sys.stdout):
            message = "stdout is closed, so there is nothing to write to."
            raise StdoutError(message)

    def write(self, text: str) -> None:
        """Write a text to its end.

        Raises:
            StdoutError: it cannot be written.
            BrokenPipeError: nobody reads it any more.
        """
        self.check()
        self.is_writing = True
        try:
            _write_all(sys.stdout, text)
        except BaseException as error:
            self._is_cut = True
            _discard(sys.stdout)
            if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
                raise
            message = f"stdout takes no more: {error.strerror or error}."
        else:
            return
        finally:
            self.is_writing = False
        raise StdoutError(message)

    def written(self, records: int, cursor: str) -> None:
        """Note that so many more records are written, and where the list goes on."""
        self.records += records
        self.cursor = cursor

    def finished(self) -> None:
        """Note that there is nothing to go on to."""
        self.cursor = None

    def way_on(self) -> str:
        """Return how to go on behind what is written; nothing where it is by the same command."""
        left = "" if self.limit is None else f" --limit={self.limit - self.records}"
        ways = {"go on": self.cursor, "go on behind the bad record": self.cursor_behind}
        told = [f"{way} with --resume={place}{left}" for way, place in ways.items() if place]
        part = ", and maybe a part of the next page" if self._is_cut else ""
        return f" Records written: {self.records}{part}; {', or '.join(told)}" if told else ""


def say(line: str) -> None:
    """Write a line to stderr, if that takes one."""
    stream = sys.stderr
    if _is_missing(stream):
        return
    try:
        stream.write(f"{printable(line)}\n")
        stream.flush()
    except OSError:
        _discard(stream)


def fill_descriptors(below: int = _STANDARD) -> None:
    """Let those descriptors that are closed lead to nowhere, so that nothing else takes them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < below:
        pass
    os.close(descriptor)


def _write_all(stream: TextIO, text: str) -> None:
    stream.flush()  # what somebody else wrote comes first
    binary: Any = getattr(stream, "buffer", None)
    if binary is None:  # a StringIO in its place
        stream.write(text)
        return
    rest = memoryview(text.encode(stream.encoding, "replace"))
    while rest:
        # Where Python runs unbuffered, this can write a part, and a text stream would not notice
        # that the rest is missing.
        count: int | None = binary.write(rest)
        if count is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        rest = rest[count:]
    binary.flush()


def _is_missing(stream: IO[str] | None) -> bool:
    return stream is None  # which is what Python makes of one that was closed


def _discard(stream: IO[str]) -> None:
    """Let what is left in a stream's buffers, and all that follows, go nowhere."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
