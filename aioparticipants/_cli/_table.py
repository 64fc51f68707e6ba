"""Participants as a table: by rich where it is installed, in plain text otherwise."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..models import AvgMax, MediaMetrics, Participant

__all__ = ["print_table"]

_HEADINGS = (
    "participant", "label", "call", "region", "joined (UTC)", "seconds",
    "in: mos", "loss %", "jitter ms", "out: mos", "loss %", "jitter ms",
)  # fmt: skip
_FIRST_NUMBER = _HEADINGS.index("seconds")


def print_table(participants: Sequence[Participant]) -> None:
    """Print a table of participants with the quality of their lines to stdout."""
    rows = [_row(participant) for participant in participants]
    try:
        from ._rich import print_rows  # noqa: PLC0415 - needs the extra `cli`, which may be missing
    except ImportError:
        _print_plain(rows)
    else:
        print_rows(rows, _HEADINGS, _FIRST_NUMBER)


def _print_plain(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    for row in (_HEADINGS, *rows):
        cells = [
            cell.ljust(width) if index < _FIRST_NUMBER else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _row(participant: Participant) -> tuple[str, ...]:
    metrics = participant.metrics
    joined = participant.join_time
    return (
        _shortened(participant.participant_sid),
        _printable(participant.label),
        f"{_printable(participant.call_type)} {_printable(participant.call_direction)}",
        _printable(participant.participant_region),
        f"{joined:%Y-%m-%d %H:%M:%S}" if joined else "-",
        _number(participant.duration_seconds),
        *_quality(metrics.inbound if metrics else None),
        *_quality(metrics.outbound if metrics else None),
    )


def _quality(media: MediaMetrics | None) -> tuple[str, str, str]:
    if media is None:
        return "-", "-", "-"
    return _number(media.mos), _number(media.packet_loss_percentage), _average(media.jitter)


def _average(figures: AvgMax | None) -> str:
    return _number(figures.avg if figures else None)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _shortened(sid: str | None) -> str:
    return "-" if sid is None else f"{sid[:10]}…"


def _printable(text: str | None) -> str:
    """Return a text with nothing in it that a terminal would obey."""
    if text is None:
        return "-"
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
