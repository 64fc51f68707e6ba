"""Any conferences, in any mode and at any pace, against a reference."""

from __future__ import annotations

import asyncio
import functools

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioparticipants import InvalidRequestError, NotFoundError, ResponseError, TransportError
from aioparticipants._cursors import cursor_of
from aioparticipants._fan_out import _TURNS, FanOut
from aioparticipants._paging import Pager
from aioparticipants._requests import first_page
from aioparticipants._structuring import participant
from aioparticipants._tasks import SessionTasks

from .bodies import read
from .lists import list_of
from .test_properties import SETTINGS, run, turns

BAD = {"label": 7}


@attrs.frozen
class Conference:
    """A made-up conference: the sizes of its pages, and what is wrong with it, if anything is."""

    sid: str
    sizes: list
    pace: int
    """Turns of the loop that each page takes."""
    failing: object = None
    """The number of the page that fails."""
    failure: type = TransportError
    """How: a `ResponseError` comes of a bad record at the page's end."""

    def expected(self):
        """Return the labels that come, the error's class or None, and the pages handed out."""
        if not self.sid.startswith("CF"):
            return [], InvalidRequestError, 0
        numbers = range(len(self.sizes) if self.failing is None else self.failing)
        labels = [self.label(page, index) for page in numbers for index in range(self.sizes[page])]
        if self.failing is None:
            return labels, None, len(numbers)
        if self.failure is not ResponseError:
            return labels, self.failure, len(numbers)
        good = [self.label(self.failing, index) for index in range(self.sizes[self.failing])]
        return labels + good, ResponseError, len(numbers) + bool(good)

    def label(self, page, index):
        return f"{self.sid[-4:]} {page} {index}"

    def body(self, number):
        if number == self.failing and self.failure is not ResponseError:
            raise self.failure(self.sid)
        records = [{"label": self.label(number, index)} for index in range(self.sizes[number])]
        link = f"https://insights.twilio.com/v1/Conferences/{self.sid}/Participants?{number + 1}"
        return {
            "meta": {"next_page_url": None if number + 1 == len(self.sizes) else link},
            "participants": records + [BAD] * (number == self.failing),
        }


@st.composite
def conferences(draw):
    """Make up some conferences; no SID comes twice, and some are none."""
    made = []
    for number in range(draw(st.integers(0, 7))):
        sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
        failing = draw(st.none() | st.integers(0, len(sizes) - 1))
        failure = draw(st.sampled_from([TransportError, NotFoundError, ResponseError]))
        prefix = draw(st.sampled_from(["CF", "CF", "CF", "XX"]))
        pace = draw(st.integers(0, 5))
        made.append(Conference(f"{prefix}{number:032x}", sizes, pace, failing, failure))
    return made


class Server:
    """Serves made-up conferences, and opens their lists as a session does."""

    def __init__(self, made):
        self.made = {each.sid: each for each in made}
        self.tasks = SessionTasks()
        self.begun = 0

    def open_list(self, sid):
        self.begun += 1
        first = first_page(sid)
        pager = Pager(first, first, key="participants")

        async def fetch(request, departed):
            departed()
            await turns(self.made[sid].pace)
            number = 0 if request == first else int(request.query)
            return pager.page(request, read(self.made[sid].body(number)), None)

        return list_of(
            first,
            fetch=fetch,
            structure=participant,
            cursor=functools.partial(cursor_of, first),
            tasks=self.tasks,
        )


async def drained(items, data, look):
    """Read on whatever comes, at times impatiently; return what came, and how it ended."""
    found, ending = [], None
    while ending is None:
        patience = data.draw(st.none() | st.integers(0, 4))
        asking = asyncio.ensure_future(anext(items))
        if patience is not None:
            await turns(patience)
            asking.cancel()
        await asyncio.wait([asking])
        look()
        if asking.cancelled():
            await turns(1)
        elif asking.exception() is None:
            found.append(asking.result())
        else:
            ending = type(asking.exception())
        await turns(data.draw(st.integers(0, 3)))
    for _ in range(2):
        with pytest.raises(ending):
            await anext(items)
    return found, ending


def accounted_turns(fan_out):
    """Count the turns to be decoded that are free, those of tasks, and those of ready results.

    A turn that is none of these is lost, and whoever waits for one waits for ever.
    """
    crew = fan_out._crew
    ready = [taken.args[0] for _, taken in crew._ready if isinstance(taken, functools.partial)]
    held = sum(turn.come for turn in {*crew._running.values(), *ready})
    # One that is given back to somebody who waits is his before he runs.
    return crew._turns._value + held + granted(crew._turns)


def granted(semaphore):
    """Count the waiters of a semaphore that were woken, and have not run yet."""
    return sum(
        waiter.done() and not waiter.cancelled() for waiter in getattr(semaphore, "_waiters") or ()
    )


def judge_results(results, expected, *, whole):
    """Compare results with the reference; `whole`: all have to be there."""
    for each in results:
        labels, error, pages = expected[each.conference_sid]
        assert [record.label for record in each.participants] == labels
        assert (each.error and type(each.error)) is error
        assert each.pages == pages
    sids = [each.conference_sid for each in results]
    assert len({*sids}) == len(sids)
    assert not whole or {*sids} == {*expected}


def judge_records(records, failures, expected, *, whole):
    """Do the same with merged records, and the conferences that failed."""
    came = {sid: [each.label for each in records if each.label[:4] == sid[-4:]] for sid in expected}
    assert sum(map(len, came.values())) == len(records)
    for sid, (labels, _, _) in expected.items():
        assert came[sid] == (labels if whole else labels[: len(came[sid])])
    told = {each.conference_sid: (type(each.error), each.pages) for each in failures}
    assert len(told) == len(failures)
    if whole:
        assert told == {sid: each[1:] for sid, each in expected.items() if each[1] is not None}


@settings(SETTINGS, max_examples=150)
@given(
    conferences(),
    st.integers(1, 4),
    st.sampled_from(["isolate", "raise"]),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_any_fan_out_gives_what_the_reference_gives(
    made, concurrency, on_error, merging, asynchronous, data
):
    """Each conference comes once, right and whole, or with its error; none is begun too early."""
    expected = {each.sid: each.expected() for each in made}
    errors = [error for _, error, _ in expected.values() if error is not None]
    endings = errors if errors and on_error == "raise" else [StopAsyncIteration]

    async def later():
        for sid in expected:
            await turns(1)
            yield sid

    async def check():
        server = Server(made)
        fan_out = FanOut(
            later() if asynchronous else [*expected],
            server.open_list,
            concurrency=concurrency,
            on_error=on_error,
            tasks=server.tasks,
            starting=lambda: None,
        )

        def look():
            assert fan_out.in_flight <= concurrency
            assert fan_out.total in {None, len(made)}
            assert accounted_turns(fan_out) == _TURNS

        items = fan_out.participants() if merging else fan_out
        found, ending = await drained(items, data, look)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert fan_out._crew._turns._value == _TURNS  # all of them are free again
        assert ending in endings
        whole = ending is StopAsyncIteration
        if merging:
            judge_records(found, fan_out.failures, expected, whole=whole)
        else:
            judge_results(found, expected, whole=whole)
        if whole:
            assert server.begun == len(made) == fan_out.total == fan_out.done
            assert fan_out.failed == len(errors)
        else:
            assert fan_out.failed >= 1  # more, where they failed in one turn of the loop
            assert not any(getattr(each, "error", None) for each in found)
        await fan_out.aclose()

    run(check())
