"""What an error loses before it is raised to another module.

1. The frames of a traceback, and the exceptions that Python chains to an error by itself
   (`__context__`), hold what nobody may see (headers, a label, a body) and what has to be freed
   (bodies, tasks, a stream). So an error is raised without both.
2. Its `__cause__` stays: that is only ever set on purpose, to an exception of the user's own code.
3. Python chains an error to any other one that is being handled. So an error that takes the place
   of another one is raised after the `except` block, not inside it.
"""

from __future__ import annotations

from typing import TypeVar

__all__ = ["stripped"]

E = TypeVar("E", bound=BaseException)


def stripped(error: E) -> E:
    """Return the same error, without its traceback and its `__context__`, to be raised."""
    error.__context__ = None
    return error.with_traceback(None)
