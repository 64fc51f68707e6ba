"""stdout and stderr, which can be closed, full, or a pipe without a reader.

1. Data goes to stdout one page at a time, and is flushed after each page, so that the number of
   records written is always known. The rest of a page that could not be written is discarded:
   otherwise Python would write it again at exit, and report an error.
2. A message goes to stderr on one line, without characters that control a terminal. If stderr
   cannot be written to, the message is lost and the command continues. Messages never go to stdout.
3. A closed descriptor of a standard stream must not be reused for a socket: whatever is written to
   that stream would be sent to Twilio.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import IO, Any, TextIO

from .._sanitize import printable

__all__ = ["Output", "StdoutError", "open_closed_descriptors", "say"]

_STANDARD = 3  # stdin, stdout, stderr


class StdoutError(Exception):
    """stdout is closed or full, or cannot be written to for another reason."""


class Output:
    """stdout, and the position at which an interrupted list can be continued."""

    def __init__(self) -> None:
        self.is_writing = False
        """Whether a write is in progress: a write to a pipe can block forever."""
        self.records = 0
        """The number of records written, in complete pages."""
        self.cursor: str | None = None
        """Where the list continues; None before the first record and after the last."""
        self.cursor_after_bad_record: str | None = None
        """Where the list continues after the record that caused its failure."""
        self.limit: int | None = None
        """The maximum number of records, if there is one."""
        self._has_failed = False

    def check_open(self) -> None:
        """Raise `StdoutError` if stdout is closed; called before the first request is sent."""
        if _is_closed(sys.stdout):
            message = "stdout is closed, so nothing can be written."
            raise StdoutError(message)

    def write(self, text: str) -> None:
        """Write a text completely.

        Raises:
            StdoutError: stdout cannot be written to.
            BrokenPipeError: the reader of the pipe has closed it.
        """
        self.check_open()
        self.is_writing = True
        try:
            _write_all(sys.stdout, text)
        except BaseException as error:
            self._has_failed = True
            _discard(sys.stdout)
            if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
                raise
            message = f"cannot write to stdout: {error.strerror or error}."
        else:
            return
        finally:
            self.is_writing = False
        raise StdoutError(message)

    def records_written(self, count: int, cursor: str) -> None:
        """Record that `count` more records are written, and the cursor after them."""
        self.records += count
        self.cursor = cursor

    def finished(self) -> None:
        """Record that the list is complete."""
        self.cursor = None

    def resume_hint(self) -> str:
        """Return the options that continue the list; empty if a plain repetition does the same."""
        limit = "" if self.limit is None else f" --limit={self.limit - self.records}"
        cursors = {
            "to continue": self.cursor,
            "to continue after the bad record": self.cursor_after_bad_record,
        }
        ways = [f"{how}, add --resume={cursor}{limit}" for how, cursor in cursors.items() if cursor]
        if not ways:
            return ""
        part = ", and maybe part of the next page" if self._has_failed else ""
        return f" Records written: {self.records}{part}; {'; '.join(ways)}"


def say(line: str) -> None:
    """Write a line to stderr, if possible."""
    stream = sys.stderr
    if _is_closed(stream):
        return
    try:
        stream.write(f"{printable(line)}\n")
        stream.flush()
    except OSError:
        _discard(stream)


def open_closed_descriptors(below: int = _STANDARD) -> None:
    """Open the null device on each closed descriptor, so that no socket gets its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < below:
        pass
    os.close(descriptor)


def _write_all(stream: TextIO, text: str) -> None:
    stream.flush()  # text that other code wrote comes first
    binary: Any = getattr(stream, "buffer", None)
    if binary is None:  # a StringIO that replaces stdout
        stream.write(text)
        return
    rest = memoryview(text.encode(stream.encoding, "replace"))
    while rest:
        # In unbuffered mode this can write only a part, and a text stream would not notice it.
        count: int | None = binary.write(rest)
        if count is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        rest = rest[count:]
    binary.flush()


def _is_closed(stream: IO[str] | None) -> bool:
    return stream is None  # Python sets a standard stream to None if its descriptor is closed


def _discard(stream: IO[str]) -> None:
    """Redirect a stream to the null device, with what is left in its buffers."""
    with Path(os.devnull).open("wb") as null:
        os.dup2(null.fileno(), stream.fileno())
