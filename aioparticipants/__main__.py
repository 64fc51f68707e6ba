"""`python -m aioparticipants`, and the console script `aioparticipants`."""

from ._cli import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
