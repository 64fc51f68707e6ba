"""The stream's promises, with an event loop and no socket."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import AsyncGenerator

import pytest

from aioparticipants import (
    InvalidRequestError,
    PageMeta,
    PaginationError,
    ResponseError,
    SessionClosedError,
    TransportError,
)
from aioparticipants._messages import Request
from aioparticipants._paging import RawPage
from aioparticipants._tasks import SessionTasks, wait_ignoring_cancellation

from .bodies import page_of, read
from .lists import list_of

SID = "CF" + "a" * 32


def request(number):
    return Request(path="/list", query=f"Page={number}", conference_sid=SID)


class Source:
    """A list whose pages are fetched when the test says so."""

    def __init__(self, *pages, follow=None, gated=False, free=0):
        self.pages = pages
        self.follow = follow
        self.free = free  # pages that the gate does not hold up
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.contexts: list[str] = []
        self.tasks = SessionTasks()
        self.gate = asyncio.Event()
        self.departs = True
        self.size: int | None = None
        if not gated:
            self.gate.set()

    async def fetch(self, asked, departed):
        number = int(asked.query.removeprefix("Page="))
        self.begun.append(number)
        self.contexts.append(VARIABLE.get())
        if self.departs:
            departed()
        try:
            if number >= self.free:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        page = self.pages[number]
        if isinstance(page, Exception):
            raise page
        following = request(number + 1) if number + 1 < len(self.pages) else self.follow
        return RawPage(
            request=asked,
            records=read(page_of([*page]), decode=None).records,
            meta=PageMeta(page=number, page_size=self.size),
            request_id=f"RQ{number}",
            following=following,
        )

    def stream(self, limit=None, place=0, offset=0):
        stream, _ = list_of(
            request(place),
            offset,
            fetch=self.fetch,
            structure=structured,
            cursor=lambda position: f"{position.request.query} #{position.offset}",
            key="things",
            limit=limit,
            tasks=self.tasks,
        )
        return stream


VARIABLE = contextvars.ContextVar("VARIABLE", default="outside")


def structured(raw, key, index):
    if raw == "bad":
        message = "not a thing"
        raise ResponseError(message, path=f"{key}[{index}]")
    return raw


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


async def drained(stream):
    return [record async for record in stream]


async def test_order_and_end():
    """Records come in order, each once; an empty page goes on; the end stays the end."""
    source = Source("abc", "", "d", "", "")
    stream = source.stream()

    assert await drained(stream) == [*"abcd"]
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert source.begun == [0, 1, 2, 3, 4]
    assert isinstance(stream, AsyncGenerator)


async def test_nothing_is_requested_before_the_first_record_is_asked_for():
    """A stream that nobody reads sends nothing."""
    source = Source("abc")
    stream = source.stream()
    await turns()

    assert source.begun == []
    assert repr(stream) == "<RecordStream of things: open, at record 0 of its page>"
    await stream.aclose()


async def test_one_page_ahead():
    """Page N+1 is asked for before record 1 of page N is handed out, and none beyond it."""
    source = Source("abc", "def", "ghi")
    stream = source.stream()

    assert await anext(stream) == "a"
    assert source.begun == [0, 1]
    await turns()
    assert source.begun == [0, 1]
    assert repr(stream) == "<RecordStream of things: open, at record 1 of its page>"
    assert [await anext(stream) for _ in range(3)] == [*"bcd"]
    assert source.begun == [0, 1, 2]
    await stream.aclose()


async def test_hand_over_does_not_wait_long_for_a_request_that_cannot_leave():
    """A page is handed out though the next request is stuck before it leaves."""
    source = Source("a", "b", gated=True, free=1)
    source.departs = False
    stream = source.stream()

    assert await anext(stream) == "a"
    assert source.begun == [0, 1]
    await stream.aclose()
    assert source.cancelled == [1]


@pytest.mark.parametrize(
    ("limit", "records", "begun"),
    [(0, "", []), (1, "a", [0]), (3, "abc", [0]), (4, "abcd", [0, 1]), (9, "abcdef", [0, 1])],
)
async def test_limit(limit, records, begun):
    """`limit` records come, and no page is asked for that it makes pointless."""
    source = Source("abc", "def")

    assert await source.stream(limit) == [*records]
    assert source.begun == begun


async def test_await_gives_a_list():
    """A stream can be awaited, also inside gather."""
    assert await asyncio.gather(Source("ab", "c").stream(), Source("d").stream()) == [
        [*"abc"],
        ["d"],
    ]


async def test_pages():
    """Pages come whole, with what they say of themselves; empty ones, too."""
    source = Source("abc", "", "d")
    pages = [page async for page in source.stream().pages()]

    assert [page.records for page in pages] == [("a", "b", "c"), (), ("d",)]
    assert [page.request_id for page in pages] == ["RQ0", "RQ1", "RQ2"]
    assert [page.meta.page for page in pages] == [0, 1, 2]


async def test_pages_share_the_position():
    """A page holds what was not handed out one by one, and `limit` cuts the last."""
    stream = Source("abc", "def").stream(limit=5)

    assert await anext(stream) == "a"
    assert [page.records async for page in stream.pages()] == [("b", "c"), ("d", "e")]


async def test_large_page_gives_the_loop_its_turns():
    """A page that is structured at once lets others run meanwhile, and a cancel loses nothing."""
    stream = Source("x" * 100).stream()
    pages = stream.pages()
    waiting = asyncio.create_task(anext(pages))
    await turns(4)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert waiting.cancelled()
    assert len((await anext(pages)).records) == 100


@pytest.mark.parametrize("mode", ["record", "page"])
async def test_closing_while_the_next_request_leaves(mode):
    """A stream that is closed in the midst of a hand-over hands out nothing."""
    source = Source("ab", "c", gated=True, free=1)
    source.departs = False
    stream = source.stream()
    waiting = asyncio.create_task(drained(stream if mode == "record" else stream.pages()))
    await turns(9)
    assert (source.begun, waiting.done()) == ([0, 1], False)

    await stream.aclose()

    with pytest.raises(InvalidRequestError, match="closed before its end") as caught:
        await waiting
    assert caught.value.cursor == stream.cursor


@pytest.mark.parametrize("mode", ["record", "page"])
async def test_no_consumer_holds_the_loop(mode):
    """A consumer that never waits lets others run between the records of one page."""
    stream = Source("x" * 200).stream()
    turns_taken = 0

    async def other():
        nonlocal turns_taken
        while True:
            turns_taken += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(other())
    assert await anext(stream) == "x"
    before = turns_taken
    if mode == "record":
        assert len(await drained(stream)) == 199
    else:
        assert len((await anext(stream.pages())).records) == 199
    assert turns_taken - before >= 5
    ticking.cancel()
    await asyncio.wait([ticking])


async def test_cancelled_while_the_loop_has_its_turn():
    """A consumer that is cancelled as it gives way loses nothing, and is refused a second asker."""
    stream = Source([str(number) for number in range(100)]).stream()
    first = [await anext(stream) for _ in range(32)]
    waiting = asyncio.create_task(anext(stream))
    await turns(1)
    assert not waiting.done()
    with pytest.raises(InvalidRequestError, match="Two tasks"):
        await anext(stream)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert waiting.cancelled()
    assert first + await drained(stream) == [str(number) for number in range(100)]


async def test_closed_while_the_loop_has_its_turn():
    """Whoever gives way as the stream is closed is told so."""
    stream = Source("x" * 100).stream()
    for _ in range(32):
        await anext(stream)
    waiting = asyncio.create_task(drained(stream))
    await turns(1)
    await stream.aclose()

    with pytest.raises(InvalidRequestError, match="closed before its end") as caught:
        await waiting
    assert caught.value.cursor == stream.cursor


async def test_a_page_says_how_long_it_can_be():
    """Where a page says that it is shorter than the limit, its records are not counted first."""
    source = Source("abc", "def")
    source.size = 3

    assert await source.stream(limit=5) == [*"abcde"]
    assert source.begun == [0, 1]
    source.begun.clear()
    assert await source.stream(limit=3) == [*"abc"]
    assert source.begun == [0]


async def test_closing_while_a_long_page_is_counted():
    """Whoever waits for the first of a page's records, while they are counted, is told so."""
    source = Source("x" * 40_000, "y")  # of fewer, all are looked at in one step
    stream = source.stream(limit=40_000)
    waiting = asyncio.create_task(drained(stream))
    await turns(5)
    assert (source.begun, waiting.done()) == ([0], False)
    await stream.aclose()

    with pytest.raises(InvalidRequestError, match="closed before its end") as caught:
        await waiting
    assert caught.value.cursor == stream.cursor


async def test_closing_while_a_page_is_structured():
    """Whoever waits for a page while the stream is closed is told so."""
    stream = Source("x" * 100).stream()
    waiting = asyncio.create_task(drained(stream.pages()))
    await turns(4)
    await stream.aclose()

    with pytest.raises(InvalidRequestError, match="closed before its end") as caught:
        await waiting
    assert caught.value.cursor == stream.cursor


@pytest.mark.parametrize("mode", ["records", "pages"])
async def test_good_records_come_before_a_bad_one(mode):
    """Everything before a bad record is handed out, then its error, again and again."""
    source = Source("ab", ["c", "bad", "d"])
    stream = source.stream()
    good = []
    items = stream if mode == "records" else stream.pages()
    with pytest.raises(ResponseError) as caught:
        async for item in items:
            good += item if mode == "records" else item.records

    assert good == [*"abc"]
    assert caught.value.path == "things[1]"
    assert (caught.value.conference_sid, caught.value.request_id) == (SID, "RQ1")
    with pytest.raises(ResponseError) as again:
        await anext(stream)
    assert again.value is not caught.value
    assert vars(again.value) == vars(caught.value)
    assert "failed" in repr(stream)
    await stream.aclose()
    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await drained(stream)
    assert "closed" in repr(stream)


async def test_error_of_the_next_page_waits_its_turn():
    """A page that fails while the one before it is read is told at the boundary."""
    source = Source("abc", TransportError("reset"))
    stream = source.stream()
    good = []
    with pytest.raises(TransportError):
        async for record in stream:
            await turns()
            good.append(record)

    assert good == [*"abc"]
    with pytest.raises(TransportError):
        await anext(stream)


async def test_bad_next_link_waits_its_turn():
    """What is wrong with the next link is told after the page's records, unless limit ends it."""
    circle = PaginationError("round")
    stream = Source("ab", follow=circle).stream()

    assert [await anext(stream), await anext(stream)] == [*"ab"]
    for _ in range(2):
        with pytest.raises(PaginationError):
            await anext(stream)
    assert await Source("ab", follow=circle).stream(limit=2) == [*"ab"]


async def test_defects_are_not_hidden():
    """An exception that is none of ours comes through as it is."""
    with pytest.raises(ZeroDivisionError):
        await anext(Source(ZeroDivisionError()).stream())


async def test_cancelled_consumer_goes_on():
    """A timed-out wait keeps the page in flight: nothing is lost, nothing asked for twice."""
    source = Source("abc", gated=True)
    stream = source.stream()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await anext(stream)
    source.gate.set()

    assert await drained(stream) == [*"abc"]
    assert source.begun == [0]
    assert source.cancelled == []


async def test_two_at_once():
    """A second asker gets an error, and the first its record."""
    source = Source("abc", gated=True)
    stream = source.stream()
    first = asyncio.create_task(anext(stream))
    await turns()
    with pytest.raises(InvalidRequestError, match="Two tasks"):
        await anext(stream)
    with pytest.raises(InvalidRequestError, match="Two tasks"):
        await anext(stream.pages())
    with pytest.raises(InvalidRequestError, match="Two tasks"):
        await stream
    source.gate.set()

    assert await first == "a"
    assert await drained(stream) == [*"bc"]


async def test_closing_ends_the_page_in_flight():
    """After the block, or aclose(), no task is left; whoever waited is told so."""
    source = Source("abc", gated=True)
    async with source.stream() as stream:
        waiting = asyncio.create_task(drained(stream))
        await turns()

    assert source.cancelled == [0]
    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await waiting
    await stream.aclose()


async def test_closed_by_its_own_page():
    """A page whose own hook closes the stream goes on; whoever waits is told before it ends."""
    source, told = Source("ab", gated=True), asyncio.Event()
    stream = source.stream()

    async def closes():
        await stream.aclose()
        source.gate.set()
        await asyncio.wait_for(told.wait(), 10)
        return "went on"

    fetch, ended = source.fetch, []

    async def fetch_and_close(asked, departed):
        ended.append(await closes())
        return await fetch(asked, departed)

    stream._pages._fetch = fetch_and_close
    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await anext(stream)
    assert ended == []
    told.set()
    await turns()
    assert ended == ["went on"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closed_pages_fetch_nothing():
    """Pages that were closed are at their end, and ask for nothing more."""
    source = Source("ab", "c")
    stream = source.stream()
    await stream.aclose()

    assert await stream._pages.next() is None
    assert source.begun == []


async def test_closing_survives_cancellation():
    """A closer that is cancelled, and again, still leaves nothing, and is cancelled at the end."""
    done = asyncio.Event()

    async def stubborn():
        try:
            await asyncio.Event().wait()
        finally:
            await done.wait()

    work = asyncio.create_task(stubborn())
    await turns()
    work.cancel()
    closer = asyncio.create_task(wait_ignoring_cancellation([work]))
    for _ in range(2):
        await turns()
        closer.cancel()
    await turns()
    assert not closer.done()
    done.set()
    await asyncio.wait([closer])

    assert work.done()
    assert closer.cancelled()


async def test_closing_survives_cancellation_on_its_last_turn():
    """A cancellation on the closer's very last turn is kept, too."""
    closer = asyncio.create_task(wait_ignoring_cancellation([]))
    await asyncio.sleep(0)
    closer.cancel()
    await asyncio.wait([closer])

    assert closer.cancelled()


async def test_break_is_clean():
    """Leaving a bare loop ends the page in flight within three turns."""
    source = Source("abc", "def")
    async for _ in source.stream():
        source.gate.clear()
        break
    await turns(3)

    assert source.begun == [0, 1]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_drop_needs_no_collector():
    """The last reference is enough: no cycle keeps a stream alive, not even after an error."""
    gc.disable()
    try:
        source = Source("abc", "def", gated=True)
        stream = source.stream()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await anext(stream)
        del stream
        await turns(3)
        assert source.cancelled == [0]
    finally:
        gc.enable()


@pytest.mark.parametrize("how", ["closed", "dropped", "failed"])
async def test_what_a_page_has_read_needs_no_collector(how):
    """What the task of a page holds goes with it, and waits for no collector."""

    class Body(bytearray):
        """What was read so far."""

    bodies = []

    async def fetch(asked, departed):
        departed()
        body = Body()
        bodies.append(weakref.ref(body))
        await asyncio.sleep(0 if how == "failed" else 60)
        message = f"cut off after {len(body)}"
        raise TransportError(message)

    gc.disable()
    try:
        stream, pages = list_of(
            *(request(0), 0), fetch=fetch, structure=structured, cursor=str, tasks=SessionTasks()
        )
        await pages.look_ahead()
        await turns(3)
        if how == "closed":
            await stream.aclose()
        del stream, pages
        await turns(5)
        assert [body() for body in bodies] == [None]
    finally:
        gc.enable()


async def test_drop_in_another_thread():
    """A stream dropped in another thread cancels its page on its own loop."""
    asyncio.get_running_loop().set_debug(True)  # it then notices calls from the wrong thread
    source = Source("abc", gated=True)
    holder = [source.stream()]
    # No exception is caught here: its traceback would hold the stream.
    asking = asyncio.ensure_future(anext(holder[0]))
    await turns()
    asking.cancel()
    await asyncio.wait([asking])
    del asking
    gc.disable()
    try:
        thread = threading.Thread(target=holder.clear)
        thread.start()
        thread.join()
        await turns(4)
        assert source.cancelled == [0]
    finally:
        gc.enable()


def test_drop_after_the_loop_closed(recwarn, caplog):
    """A stream that outlives its loop is dropped without a sound."""
    loop = asyncio.new_event_loop()

    async def begin():
        source = Source("abc", gated=True)
        stream = source.stream()
        asking = asyncio.ensure_future(anext(stream))
        await turns()
        asking.cancel()
        await asyncio.wait([asking])
        return stream

    stream = loop.run_until_complete(begin())
    loop.close()
    del stream
    gc.collect()

    assert [str(warning.message) for warning in recwarn] == []
    assert caplog.records == []


def test_run_ends_with_a_suspended_stream():
    """asyncio.run ends cleanly around a stream that is half read."""
    kept = []

    async def main():
        source = Source("abc", "def")
        stream = source.stream()
        await anext(stream)
        kept.append(stream)

    asyncio.run(main())
    with pytest.raises(InvalidRequestError, match="another event loop"):
        asyncio.run(_exhaust(kept[0]))
    asyncio.run(kept[0].aclose())


async def _exhaust(stream):
    async for _ in stream:
        pass


def test_closing_on_another_loop_while_the_first_stands():
    """aclose() on another loop abandons the page there instead of hanging."""
    loop = asyncio.new_event_loop()
    source = Source("abc", gated=True)
    stream = source.stream()

    async def begin():
        asking = asyncio.ensure_future(anext(stream))
        await turns()
        asking.cancel()
        await asyncio.wait([asking])

    loop.run_until_complete(begin())
    asyncio.run(stream.aclose())
    loop.run_until_complete(turns())
    loop.close()

    assert source.cancelled == [0]


async def test_session_closing():
    """Whoever waits while the session closes gets SessionClosedError, then and later."""
    source = Source("abc", gated=True)
    stream = source.stream()
    waiting = asyncio.create_task(drained(stream))
    await turns()
    await source.tasks.aclose()

    with pytest.raises(SessionClosedError):
        await waiting
    with pytest.raises(SessionClosedError):
        await anext(stream)
    with pytest.raises(SessionClosedError):
        await anext(source.stream())


async def test_session_closing_keeps_the_good_records():
    """Records that are already here come before SessionClosedError."""
    source = Source("abc", "def", "ghi")
    stream = source.stream()
    assert await anext(stream) == "a"
    await source.tasks.aclose()
    got = []
    with pytest.raises(SessionClosedError):
        async for record in stream:
            got.append(record)

    assert got == [*"bcdef"]


async def test_cancelled_from_outside():
    """A page task that a stranger cancels is an error, not a silent end."""
    source = Source("abc", gated=True)
    stream = source.stream()
    waiting = asyncio.create_task(anext(stream))
    await turns()
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "aioparticipants page"]
    task.cancel()

    with pytest.raises(TransportError, match="from outside"):
        await waiting


async def test_cancelled_before_its_first_step():
    """A page task that is cancelled before it has begun wakes its consumer as well."""
    source = Source("abc")
    stream = source.stream()
    waiting = asyncio.create_task(anext(stream))

    def cancel():
        tasks = asyncio.all_tasks()
        (task,) = [task for task in tasks if task.get_name() == "aioparticipants page"]
        task.cancel()

    asyncio.get_running_loop().call_soon(cancel)  # after the consumer's step, before the page's
    with pytest.raises(TransportError, match="from outside"):
        await waiting
    assert source.begun == []


async def test_context():
    """Every page is fetched in the context that the stream was made in."""
    VARIABLE.set("maker")
    source = Source("a", "b")
    stream = source.stream()
    VARIABLE.set("reader")

    assert await stream == [*"ab"]
    assert source.contexts == ["maker", "maker"]


async def test_generator_protocol():
    """asend(None) asks, other values are refused, athrow() closes and raises."""
    stream = Source("abc").stream()

    assert await stream.asend(None) == "a"
    with pytest.raises(TypeError):
        await stream.asend(1)
    with pytest.raises(KeyError):
        await stream.athrow(KeyError)
    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await anext(stream)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((KeyError("x"),), "x"),
        ((KeyError, "x"), "x"),
        ((KeyError, KeyError("x")), "x"),
        ((KeyError, KeyError("x"), None), "x"),
    ],
)
async def test_athrow_forms(arguments, text):
    """athrow() takes an exception, or a class and a value, as a generator does."""
    with pytest.raises(KeyError, match=text):
        await Source("abc").stream().athrow(*arguments)


async def test_athrow_traceback():
    """athrow() keeps the traceback that it is given."""
    try:
        raise KeyError  # noqa: TRY301 - for its traceback
    except KeyError as error:
        traceback = error.__traceback__
    with pytest.raises(ValueError, match="x") as caught:
        await Source("abc").stream().athrow(ValueError, ValueError("x"), traceback)

    assert "test_athrow_traceback" in str(caught.traceback[-1])


async def test_resumed_far_into_a_page():
    """A list that is resumed far into a page goes on exactly there, as others run meanwhile."""
    source = Source([str(number) for number in range(100)], "ab")

    assert await source.stream(offset=70) == [*map(str, range(70, 100)), "a", "b"]
