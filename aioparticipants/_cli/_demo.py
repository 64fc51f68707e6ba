"""`demo`: what the package does, on made-up conferences, in a few seconds.

1. All is as with Twilio, except the server: it is FakeInsights on this machine, with the latency of
   a remote server. A seed always gives the same conferences and tables.
2. The first part reads one long conference page by page, and works on each page. The next page is
   fetched during that work.
3. The second part reads several conferences concurrently. One of them has many participants with a
   low MOS. Two requests fail, and are retried.
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
from ._output import say
from ._table import Column, has_low_mos, participants_table, render, short_number, terminal_width

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from .._fan_out import ConferenceResult
    from ..instrumentation import Event
    from ..models import MediaMetrics, Participant
    from ._output import Output

__all__ = ["demo"]

#: Participants of each conference of the second part.
_PARTICIPANTS: Final = 25
#: How many participants of the bad conference are shown.
_SHOWN: Final = 10
#: A conference is bad if more than this share of its participants have a low MOS.
_BAD_SHARE: Final = 0.5
#: The share of participants with a low MOS in the conference that is made bad, and their region.
_MADE_BAD_SHARE: Final = 0.8
_BAD_REGION: Final = "in1"


async def demo(options: argparse.Namespace, output: Output) -> None:
    """Read made-up conferences from FakeInsights: tables to stdout, progress to stderr."""
    _check(options)
    async with FakeInsights(seed=options.seed, latency=options.latency) as fake:
        output.write(
            "Made-up data: a test server on this machine answers each request after "
            f"{options.latency:g} s.\nThis needs no account and no network.\n"
        )
        async with InsightsSession(
            fake.credentials, base_url=fake.base_url, on_event=_say_retry
        ) as session:
            await _read_one(session, fake, options, output)
            await _read_many(session, fake, options, output)


def _check(options: argparse.Namespace) -> None:
    for name in ("participants", "conferences", "latency"):
        if not getattr(options, name) >= 0:
            message = f"--{name} must be a number from 0."
            raise InvalidRequestError(message)


def _say_retry(event: Event) -> None:
    if isinstance(event, RetryScheduled):
        say(f"  {str(event.conference_sid)[:10]}… {event.reason}: retry in {event.delay:.1f} s")


async def _read_one(
    session: InsightsSession, fake: FakeInsights, options: argparse.Namespace, output: Output
) -> None:
    """Read a long conference, and compare the time with that of reading without prefetch."""
    sid = fake.add_conference(options.participants)
    output.write(f"\n1. One conference, with {options.latency:g} s of work on each page\n")
    pages = records = 0
    began = time.monotonic()
    async for page in session.participants(sid, page_size=options.page_size).pages():
        await asyncio.sleep(options.latency)  # the work
        pages, records = pages + 1, records + len(page.records)
        say(f"  page {pages}, {records} participants")
    seconds = time.monotonic() - began
    output.write(
        f"{records} participants, {pages} pages: {seconds:.1f} seconds, because the next page is "
        "fetched\nduring the work. Fetching and working in turn would take "
        f"{2 * pages * options.latency:.1f} seconds.\n"
    )


async def _read_many(
    session: InsightsSession, fake: FakeInsights, options: argparse.Namespace, output: Output
) -> None:
    """Read several conferences concurrently, with two failures, and show the bad conference."""
    sids = _add_conferences(fake, options)
    output.write(f"\n2. {len(sids)} conferences concurrently; two replies are 503 and 429\n")
    fake.fail_next(503)
    fake.fail_next(429, retry_after=1)
    results: dict[str, ConferenceResult] = {}
    replies_before, began = len(fake.requests), time.monotonic()
    async with session.fan_out(sids, page_size=options.page_size) as conferences:
        async for result in conferences:
            results[result.conference_sid] = result
            say(f"  {len(results)} of {conferences.total} conferences")
    seconds, replies = time.monotonic() - began, len(fake.requests) - replies_before
    in_order = [results[sid] for sid in sids]
    output.write(render(in_order, _COLUMNS, width=terminal_width(), highlighted=_is_bad))
    output.write(
        f"{sum(len(each.participants) for each in in_order)} participants, {replies} replies: "
        f"{seconds:.1f} seconds, with the waits before the retries.\n"
        f"One after another, the replies alone would take {replies * options.latency:.1f} seconds."
        "\n"
    )
    for result in filter(_is_bad, in_order):
        output.write(f"\n3. The lowest MOS of {result.conference_sid}\n")
        worst = sorted(result.participants, key=_lowest_mos)[:_SHOWN]
        output.write(participants_table(worst, width=terminal_width()))


def _add_conferences(fake: FakeInsights, options: argparse.Namespace) -> list[str]:
    """Add the conferences, make one of them bad, and return their SIDs."""
    sids = [fake.add_conference(_PARTICIPANTS) for _ in range(options.conferences)]
    rng = random.Random(options.seed)  # noqa: S311 - made-up data, not secrets
    for sid in rng.sample(sids, min(1, len(sids))):
        records = [_made_bad(rng, record) for record in fake.records(sid)]
        fake.add_conference(records, conference_sid=sid)
    return sids


def _made_bad(rng: random.Random, record: Mapping[str, object]) -> Mapping[str, object]:
    """Return most records with a low MOS and one region, and the others unchanged."""
    if rng.random() > _MADE_BAD_SHARE:
        return record
    bad = {
        "mos": round(rng.uniform(1.4, 3.2), 2),
        "packet_loss_percentage": round(rng.uniform(6.0, 19.0), 2),
        "jitter": {"avg": round(rng.uniform(20.0, 80.0), 2), "max": 240.0},
    }
    metrics = {**cast("dict[str, object]", record["metrics"]), "inbound": bad}
    return {**record, "participant_region": _BAD_REGION, "metrics": metrics}


# --- The table of conferences ---


def _with_low_mos(result: ConferenceResult) -> list[Participant]:
    return [each for each in result.participants if has_low_mos(each)]


def _is_bad(result: ConferenceResult) -> bool:
    return len(_with_low_mos(result)) > _BAD_SHARE * len(result.participants)


def _media(participant: Participant) -> list[MediaMetrics]:
    metrics = participant.metrics
    both = (metrics.inbound, metrics.outbound) if metrics else ()
    return [each for each in both if each is not None]


def _lowest_mos(participant: Participant) -> float:
    return min((each.mos for each in _media(participant) if each.mos is not None), default=5.0)


def _worst_mos(result: ConferenceResult) -> str:
    return short_number(min(map(_lowest_mos, result.participants), default=None))


def _worst_loss(result: ConferenceResult) -> str:
    media = (each for participant in result.participants for each in _media(participant))
    losses = (each.packet_loss_percentage for each in media)
    return short_number(max((each for each in losses if each is not None), default=None), "%")


def _most_common_region(result: ConferenceResult) -> str:
    regions = Counter(each.participant_region for each in _with_low_mos(result))
    return str(regions.most_common(1)[0][0]) if regions else "-"


_COLUMNS: Final[tuple[Column[ConferenceResult], ...]] = (
    Column(heading="conference", cell=lambda each: each.conference_sid, is_text=True),
    Column(heading="participants", cell=lambda each: str(len(each.participants))),
    Column(heading="low mos", cell=lambda each: str(len(_with_low_mos(each)))),
    Column(heading="worst mos", cell=_worst_mos),
    Column(heading="worst loss", cell=_worst_loss),
    Column(heading="mostly in", cell=_most_common_region, is_text=True),
    Column(heading="", cell=lambda each: "<-- bad" if _is_bad(each) else "", is_text=True),
)
