"""`demo`: what the package is for, on made-up conferences, in a few seconds.

1. Everything is as it would be with Twilio, but for the server: it is FakeInsights on this machine,
   with the latency that a far one has. A seed gives the same conferences, and the same tables.
2. First one long conference, page by page, with some work for each page: it takes as long as the
   longer of the two, as the next page is fetched meanwhile.
3. Then several conferences at once, of which one has bad lines; and two answers are refusals, as
   they happen: they are waited out, and nothing is lost by them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, cast

from .._session import InsightsSession
from ..errors import InvalidRequestError
from ..instrumentation import RetryScheduled
from ..testing import FakeInsights
from ._streams import say
from ._table import Column, is_bad, participants_table, render, short_number, terminal_width

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from .._fan_out import ConferenceResult
    from ..instrumentation import Event
    from ..models import MediaMetrics, Participant
    from ._streams import Output

__all__ = ["demo"]

#: Participants of each of the conferences that are read at once.
_CROWD: Final = 25
#: Lines of the worst conference that are shown.
_SHOWN: Final = 10
#: Of a conference's participants, the share whose lines are bad that makes it a bad one.
_TOO_MANY: Final = 0.5
#: Of the made-up bad conference's participants, the share with a bad line, and where they are.
_SPOILED: Final = 0.8
_REGION: Final = "in1"


async def demo(options: argparse.Namespace, output: Output) -> None:
    """Read made-up conferences from FakeInsights: tables to stdout, progress to stderr."""
    _check(options)
    async with FakeInsights(seed=options.seed, latency=options.latency) as fake:
        output.write(
            f"Made-up data: FakeInsights answers on this machine, after {options.latency:g} s "
            "each.\nNo account, no network, and nobody real.\n"
        )
        async with InsightsSession(
            fake.credentials, base_url=fake.base_url, on_event=_tell_of_retries
        ) as session:
            await _one_conference(session, fake, options, output)
            await _many_conferences(session, fake, options, output)


def _check(options: argparse.Namespace) -> None:
    for name in ("participants", "conferences", "latency"):
        if not getattr(options, name) >= 0:
            message = f"--{name} must be a number from 0."
            raise InvalidRequestError(message)


def _tell_of_retries(event: Event) -> None:
    if isinstance(event, RetryScheduled):
        say(f"  {event.conference_sid[:10]}… {event.reason}: again in {event.delay:.1f} s")


async def _one_conference(
    session: InsightsSession, fake: FakeInsights, options: argparse.Namespace, output: Output
) -> None:
    """Read a long conference, and compare the time with that of one thing after the other."""
    sid = fake.add_conference(options.participants)
    output.write("\n1. A long conference, page by page, with some work on each page\n")
    pages = records = 0
    began = time.monotonic()
    async for page in session.participants(sid, page_size=options.page_size).pages():
        await asyncio.sleep(options.latency)  # the work
        pages, records = pages + 1, records + len(page.records)
        say(f"  page {pages}, {records} participants")
    seconds = time.monotonic() - began
    one_by_one = 2 * pages * options.latency
    output.write(
        f"{records} participants, {pages} pages: {seconds:.1f} seconds, as each page was fetched "
        f"during\nthe work on the one before. One after the other, it would be {one_by_one:.1f} "
        "seconds.\n"
    )


async def _many_conferences(
    session: InsightsSession, fake: FakeInsights, options: argparse.Namespace, output: Output
) -> None:
    """Read several conferences at once through two refusals, and show the one with bad lines."""
    sids = _conferences(fake, options)
    output.write(f"\n2. {len(sids)} conferences at once, through a 503 and a 429\n")
    fake.fail_next(503)
    fake.fail_next(429, retry_after=1)
    results: dict[str, ConferenceResult] = {}
    before = len(fake.requests)
    began = time.monotonic()
    async with session.fan_out(sids, page_size=options.page_size) as conferences:
        async for result in conferences:
            results[result.conference_sid] = result
            say(f"  {len(results)} of {conferences.total} conferences")
    seconds = time.monotonic() - began
    in_order = [results[sid] for sid in sids]
    output.write(render(in_order, _CONFERENCES, width=terminal_width(), stands_out=_is_bad_one))
    answers = len(fake.requests) - before
    output.write(
        f"{sum(len(each.participants) for each in in_order)} participants, {answers} answers: "
        f"{seconds:.1f} seconds, with the waits.\nOne after the other, the answers alone would be "
        f"{answers * options.latency:.1f} seconds.\n"
    )
    for result in filter(_is_bad_one, in_order):
        output.write(f"\n3. The worst lines of {result.conference_sid}\n")
        worst = sorted(result.participants, key=_worst_score)[:_SHOWN]
        output.write(participants_table(worst, width=terminal_width()))


def _conferences(fake: FakeInsights, options: argparse.Namespace) -> list[str]:
    """Add the conferences, one of which has bad lines from one region, and return their SIDs."""
    sids = [fake.add_conference(_CROWD) for _ in range(options.conferences)]
    rng = random.Random(options.seed)  # noqa: S311 - made-up data, not secrets
    for sid in rng.sample(sids, min(1, len(sids))):
        records = [_spoiled(rng, record) for record in fake.records(sid)]
        fake.add_conference(records, conference_sid=sid)
    return sids


def _spoiled(rng: random.Random, record: Mapping[str, object]) -> Mapping[str, object]:
    """Return the record of most participants as if they came by a bad line from one region."""
    if rng.random() > _SPOILED:
        return record
    bad = {
        "mos": round(rng.uniform(1.4, 3.2), 2),
        "packet_loss_percentage": round(rng.uniform(6.0, 19.0), 2),
        "jitter": {"avg": round(rng.uniform(20.0, 80.0), 2), "max": 240.0},
    }
    metrics = {**cast("dict[str, object]", record["metrics"]), "inbound": bad}
    return {**record, "participant_region": _REGION, "metrics": metrics}


# --- The table of conferences ---


def _bad_lines(result: ConferenceResult) -> list[Participant]:
    return [each for each in result.participants if is_bad(each)]


def _is_bad_one(result: ConferenceResult) -> bool:
    return len(_bad_lines(result)) > _TOO_MANY * len(result.participants)


def _media(participants: Iterable[Participant]) -> list[MediaMetrics]:
    metrics = [each.metrics for each in participants if each.metrics is not None]
    return [way for each in metrics for way in (each.inbound, each.outbound) if way is not None]


def _worst_score(participant: Participant) -> float:
    return min((each.mos for each in _media([participant]) if each.mos is not None), default=5.0)


def _worst_mos(result: ConferenceResult) -> str:
    return short_number(min(map(_worst_score, result.participants), default=None))


def _worst_loss(result: ConferenceResult) -> str:
    found = [each.packet_loss_percentage for each in _media(result.participants)]
    return short_number(max((each for each in found if each is not None), default=None), "%")


def _worst_region(result: ConferenceResult) -> str:
    regions = Counter(each.participant_region for each in _bad_lines(result))
    return str(regions.most_common(1)[0][0]) if regions else "-"


_CONFERENCES: Final[tuple[Column[ConferenceResult], ...]] = (
    Column(heading="conference", cell=lambda each: each.conference_sid, is_text=True),
    Column(heading="participants", cell=lambda each: str(len(each.participants))),
    Column(heading="bad lines", cell=lambda each: str(len(_bad_lines(each)))),
    Column(heading="worst mos", cell=_worst_mos),
    Column(heading="worst loss", cell=_worst_loss),
    Column(heading="mostly from", cell=_worst_region, is_text=True),
    Column(heading="", cell=lambda each: "<-- bad" if _is_bad_one(each) else "", is_text=True),
)
