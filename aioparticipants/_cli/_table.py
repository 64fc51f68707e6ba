"""Tables that fit the terminal. Participants with a low MOS are coloured if rich is installed.

1. Written to a pipe or a file, a table has all columns, and complete values.
2. On a terminal, it has the columns that fit, the most important ones first. A value is cut, and
   ends with an ellipsis, only if those columns do not fit or the value is very long.
3. It has no characters that control a terminal, except colours.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import attrs

from .._sanitize import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..models import AvgMax, MediaMetrics, Participant

__all__ = [
    "Column",
    "has_low_mos",
    "participants_table",
    "render",
    "short_number",
    "terminal_width",
]

T = TypeVar("T")

#: A mean opinion score below which many users are dissatisfied (ITU-T G.107, Annex B).
_LOW_MOS: Final = 3.6
_GAP: Final = "  "
_ELLIPSIS: Final = "…"


@attrs.frozen(kw_only=True)
class Column(Generic[T]):
    """A column of a table of `T`s."""

    heading: str
    cell: Callable[[T], str]
    rank: int = 0
    """0 for a column that is always shown. The others are added in the order of their ranks, while
    they fit; columns of one rank are added together."""
    cap: int = 10
    """The width to which long values are cut where space is scarce."""
    is_text: bool = False
    """Text is aligned left, a number right."""


def terminal_width() -> int | None:
    """Return the width of the terminal; None if stdout is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def render(
    items: Sequence[T],
    columns: Sequence[Column[T]],
    *,
    width: int | None,
    highlighted: Callable[[T], bool],
) -> str:
    """Return a table with headings, not wider than the terminal's `width`, if there is one."""
    cells = {
        column.heading: [column.heading, *(printable(column.cell(item)) for item in items)]
        for column in columns
    }
    natural = {heading: max(map(_width, column)) for heading, column in cells.items()}
    widths = natural if width is None else _fitted(columns, natural, width)
    shown = [column for column in columns if column.heading in widths]
    lines = [
        _GAP.join(
            _padded(cells[column.heading][row], widths[column.heading], is_text=column.is_text)
            for column in shown
        ).rstrip()
        for row in range(len(items) + 1)
    ]
    if width is not None:
        lines = _coloured(lines, ["bold", *("red" if highlighted(item) else "" for item in items)])
    return "".join(f"{line}\n" for line in lines)


def _coloured(lines: list[str], styles: list[str]) -> list[str]:
    """Return the lines in the given styles, or unchanged without the extra `cli`."""
    try:
        from rich.console import Console  # noqa: PLC0415 - in the extra `cli` only
        from rich.text import Text  # noqa: PLC0415 - in the extra `cli` only
    except ImportError:
        return lines
    console = Console(highlight=False)
    with console.capture() as captured:
        for line, style in zip(lines, styles, strict=True):
            # A Text, because rich would interpret markup in a str, such as a label.
            console.print(Text(line, style=style), soft_wrap=True)
    return captured.get().splitlines()


def _fitted(columns: Sequence[Column[T]], natural: dict[str, int], width: int) -> dict[str, int]:
    """Return the widths of the columns that fit."""
    least = {
        column.heading: min(natural[column.heading], max(column.cap, len(column.heading)))
        for column in columns
    }
    widths: dict[str, int] = {}
    left = width + len(_GAP)
    by_rank = sorted(columns, key=lambda column: column.rank)
    for rank, group in itertools.groupby(by_rank, key=lambda column: column.rank):
        needed = {column.heading: least[column.heading] for column in group}
        room = sum(needed.values()) + len(_GAP) * len(needed)
        if rank and room > left:
            break
        widths |= needed
        left -= room
    # What is left widens the columns, SIDs last.
    for column in sorted(columns, key=lambda column: -column.rank):
        if column.heading in widths:
            more = max(0, min(left, natural[column.heading] - widths[column.heading]))
            widths[column.heading] += more
            left -= more
    return widths


def _width(text: str) -> int:
    """Return the number of terminal columns that a text occupies."""
    return sum(map(_width_of, text)) if not text.isascii() else len(text)


def _width_of(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _padded(text: str, width: int, *, is_text: bool) -> str:
    if _width(text) > width:
        text = _cut(text, width - 1) + _ELLIPSIS
    padding = " " * (width - _width(text))
    return text + padding if is_text else padding + text


def _cut(text: str, width: int) -> str:
    text = text[:width]  # a very long text would take long below
    while _width(text) > width:
        text = text[:-1]
    return text


# --- Participants ---


def participants_table(participants: Sequence[Participant], *, width: int | None) -> str:
    """Return a table of participants and their call quality."""
    return render(participants, _PARTICIPANTS, width=width, highlighted=has_low_mos)


def has_low_mos(participant: Participant) -> bool:
    """Return whether the MOS of a participant is low, in either direction."""
    media = (_inbound(participant), _outbound(participant))
    return any(each and each.mos is not None and each.mos < _LOW_MOS for each in media)


def short_number(value: float | None, unit: str = "") -> str:
    """Return a number with at most two decimals; a dash for None."""
    if value is None:
        return "-"
    return (str(value) if isinstance(value, int) else f"{value:.2f}") + unit


def _inbound(participant: Participant) -> MediaMetrics | None:
    return participant.metrics.inbound if participant.metrics else None


def _outbound(participant: Participant) -> MediaMetrics | None:
    return participant.metrics.outbound if participant.metrics else None


def _text(value: str | None) -> str:
    return "-" if value is None else value


def _mos(media: MediaMetrics | None) -> str:
    return short_number(media.mos if media else None)


def _loss(media: MediaMetrics | None) -> str:
    return short_number(media.packet_loss_percentage if media else None, "%")


def _jitter(media: MediaMetrics | None) -> str:
    figures: AvgMax | None = media.jitter if media else None
    return short_number(figures.avg if figures else None)


def _joined(participant: Participant) -> str:
    time = participant.join_time
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


_PARTICIPANTS: Final[tuple[Column[Participant], ...]] = (
    Column(heading="participant", cell=lambda each: _text(each.participant_sid), is_text=True),
    Column(heading="label", cell=lambda each: _text(each.label), rank=2, is_text=True),
    Column(
        heading="call",
        cell=lambda each: f"{_text(each.call_type)} {_text(each.call_direction)}",
        rank=4,
        cap=16,
        is_text=True,
    ),
    Column(heading="region", cell=lambda each: _text(each.participant_region), cap=6, is_text=True),
    Column(heading="joined (UTC)", cell=_joined, rank=3, cap=19, is_text=True),
    Column(heading="seconds", cell=lambda each: short_number(each.duration_seconds), rank=1),
    Column(heading="mos in", cell=lambda each: _mos(_inbound(each)), cap=6),
    Column(heading="loss in", cell=lambda each: _loss(_inbound(each)), cap=7),
    Column(heading="jitter in", cell=lambda each: _jitter(_inbound(each)), rank=5),
    Column(heading="mos out", cell=lambda each: _mos(_outbound(each)), cap=7),
    Column(heading="loss out", cell=lambda each: _loss(_outbound(each)), cap=8),
    Column(heading="jitter out", cell=lambda each: _jitter(_outbound(each)), rank=5),
)
