"""The rules of the stream, with an event loop and no socket."""

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
from aioparticipants._paging import End, Failed, RawPage
from aioparticipants._tasks import SessionTasks, wait_ignoring_cancellation

from .bodies import page_of, read
from .lists import list_of

SID = "CF" + "a" * 32


def request(number):
    return Request(path="/list", query=f"Page={number}", conference_sid=SID)


END = End()


class Source:
    """A list whose pages are fetched when the test says so."""

    def __init__(self, *pages, follow=END, gated=False, free=0):
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

    async def fetch(self, asked, sent):
        number = int(asked.query.removeprefix("Page="))
        self.begun.append(number)
        self.contexts.append(VARIABLE.get())
        if self.departs:
            sent.set()
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

    def stream(self, limit=None, offset=0):
        return self.list(limit, offset)[0]

    def list(self, limit=None, offset=0):
        return list_of(
            request(0),
            offset,
            fetch=self.fetch,
            structure=structured,
            cursor=lambda position: f"{position.request.query} #{position.offset}",
            key="things",
            limit=limit,
            tasks=self.tasks,
        )


VARIABLE = contextvars.ContextVar("VARIABLE", default="outside")


async def ask_in_vain(stream):
    """Ask for a record, and be cancelled. No exception is kept: its traceback holds the stream."""
    asking = asyncio.ensure_future(anext(stream))
    await turns()
    asking.cancel()
    await asyncio.wait([asking])


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
    """Page N+1 is requested before record 1 of page N is delivered, and no page after it."""
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


async def test_delivery_does_not_wait_long_for_a_request_that_is_not_sent():
    """A page is delivered although the next request is never sent."""
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
    """`limit` records come, and no page is requested that is not needed for them."""
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
    """Pages come whole, with their metadata; empty ones too."""
    source = Source("abc", "", "d")
    pages = [page async for page in source.stream().pages()]

    assert [page.records for page in pages] == [("a", "b", "c"), (), ("d",)]
    assert [page.request_id for page in pages] == ["RQ0", "RQ1", "RQ2"]
    assert [page.meta.page for page in pages] == [0, 1, 2]


async def test_pages_share_the_position():
    """A page holds the records not delivered one by one, and `limit` shortens the last one."""
    stream = Source("abc", "def").stream(limit=5)

    assert await anext(stream) == "a"
    assert [page.records async for page in stream.pages()] == [("b", "c"), ("d", "e")]


async def test_a_large_page_lets_other_tasks_run():
    """While a page is structured other tasks run, and a cancellation loses nothing."""
    stream = Source("x" * 100).stream()
    pages = stream.pages()
    waiting = asyncio.create_task(anext(pages))
    await turns(4)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert waiting.cancelled()
    assert len((await anext(pages)).records) == 100


@pytest.mark.parametrize("mode", ["record", "page"])
async def test_no_consumer_blocks_the_loop(mode):
    """Under a consumer that never waits, other tasks run between the records of one page."""
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


async def test_cancelled_between_records():
    """A consumer that is cancelled between records loses nothing; a second one is refused."""
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


async def test_page_size_limits_the_counting():
    """If a page cannot reach the limit, its records are not counted before delivery."""
    source = Source("abc", "def")
    source.size = 3

    assert await source.stream(limit=5) == [*"abcde"]
    assert source.begun == [0, 1]
    source.begun.clear()
    assert await source.stream(limit=3) == [*"abc"]
    assert source.begun == [0]


@pytest.mark.parametrize("mode", ["record", "page"])
@pytest.mark.parametrize(
    ("records", "limit", "taken", "after"),
    [
        pytest.param("ab", None, 0, 9, id="the next request is sent"),
        # All of a shorter page is looked at in one step.
        pytest.param("x" * 40_000, 40_000, 0, 5, id="a long page is counted"),
        pytest.param("x" * 100, None, 32, 1, id="a page is structured"),
    ],
)
async def test_closed_while(records, limit, taken, after, mode):
    """A consumer that waits for whatever while the stream is closed gets an error, no record."""
    source = Source(records, "c", gated=True, free=1)
    source.departs = records != "ab"
    stream = source.stream(limit)
    for _ in range(taken):
        await anext(stream)
    waiting = asyncio.create_task(drained(stream if mode == "record" else stream.pages()))
    await turns(after)
    assert not waiting.done()
    await stream.aclose()

    with pytest.raises(InvalidRequestError, match="closed before its end") as caught:
        await waiting
    assert caught.value.cursor == stream.cursor


@pytest.mark.parametrize("mode", ["records", "pages"])
async def test_good_records_come_before_a_bad_one(mode):
    """Each record before a bad one is delivered, then its error, on each call."""
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


async def test_error_of_the_next_page_comes_after_the_records():
    """If a page fails while the one before is read, the error comes at the boundary."""
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


async def test_bad_next_link_comes_after_the_records():
    """The error of the next link comes after the page's records, unless `limit` ends the list."""
    loop = Failed(PaginationError("in a loop"))
    stream = Source("ab", follow=loop).stream()

    assert [await anext(stream), await anext(stream)] == [*"ab"]
    for _ in range(2):
        with pytest.raises(PaginationError):
            await anext(stream)
    assert await Source("ab", follow=loop).stream(limit=2) == [*"ab"]


async def test_defects_are_not_hidden():
    """An exception of another package is raised unchanged."""
    with pytest.raises(ZeroDivisionError):
        await anext(Source(ZeroDivisionError()).stream())


async def test_cancelled_consumer_goes_on():
    """A timed-out wait keeps the page in flight: nothing is lost or requested twice."""
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
    """The second of two tasks gets an error, and the first one its record."""
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
    """After the block or aclose() no task is left, and a waiting consumer gets an error."""
    source = Source("abc", gated=True)
    async with source.stream() as stream:
        waiting = asyncio.create_task(drained(stream))
        await turns()

    assert source.cancelled == [0]
    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await waiting
    await stream.aclose()


async def test_closed_by_its_own_page():
    """A page whose own hook closes the stream goes on; the consumer gets its error first."""
    told, ended = asyncio.Event(), []

    class Closing(Source):
        async def fetch(self, asked, sent):
            await stream.aclose()
            await asyncio.wait_for(told.wait(), 10)
            ended.append("went on")
            return await super().fetch(asked, sent)

    stream = Closing("ab").stream()
    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await anext(stream)
    assert ended == []
    told.set()
    await turns()
    assert ended == ["went on"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closed_pages_fetch_nothing():
    """Closed pages request nothing more."""
    source = Source("ab", "c")
    stream, pages = source.list()
    await stream.aclose()

    assert await pages.next() == End()
    assert source.begun == []


async def test_closing_survives_cancellation_on_its_last_turn():
    """A cancellation on the last turn of closing is kept too."""
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
    """No reference cycle keeps a stream alive, not even after an error."""
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
    """What the task of a page holds is freed with it, without the garbage collector."""

    class Body(bytearray):
        """What was read so far."""

    bodies = []

    async def fetch(asked, sent):
        sent.set()
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


async def test_drop_in_another_thread(monkeypatch):
    """A stream dropped in another thread cancels its page on its own loop."""
    source, threads, loop = Source("abc", gated=True), set(), asyncio.get_running_loop()
    holder = [source.stream()]
    await ask_in_vain(holder[0])
    call_soon = loop.call_soon

    def noting(*arguments, **options):
        threads.add(threading.current_thread())
        return call_soon(*arguments, **options)

    # The debug mode of asyncio would raise in the wrong thread, and leave a task that never ends.
    monkeypatch.setattr(loop, "call_soon", noting)
    gc.disable()
    try:
        thread = threading.Thread(target=holder.clear)
        thread.start()
        thread.join()
        await turns(4)
        assert source.cancelled == [0]
        assert threads == {threading.current_thread()}
    finally:
        gc.enable()


def test_drop_after_the_loop_closed(recwarn, caplog):
    """A stream that outlives its loop is dropped without a warning or log line."""
    loop = asyncio.new_event_loop()

    async def begin():
        stream = Source("abc", gated=True).stream()
        await ask_in_vain(stream)
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


def test_closing_on_another_loop():
    """aclose() on another loop cancels the page without waiting for it."""
    loop = asyncio.new_event_loop()
    source = Source("abc", gated=True)
    stream = source.stream()
    loop.run_until_complete(ask_in_vain(stream))
    asyncio.run(stream.aclose())
    loop.run_until_complete(turns())
    loop.close()

    assert source.cancelled == [0]


async def test_session_closing():
    """A consumer gets SessionClosedError when the session closes, then and later."""
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
    """Records that have arrived come before SessionClosedError."""
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
    """If other code cancels a page task, that is an error, not a silent end."""
    source = Source("abc", gated=True)
    stream = source.stream()
    waiting = asyncio.create_task(anext(stream))
    await turns()
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "aioparticipants page"]
    task.cancel()

    with pytest.raises(TransportError, match="from outside"):
        await waiting


async def test_cancelled_before_its_first_step():
    """A page task that is cancelled before its first step wakes its consumer too."""
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
    """asend(None) returns the next record, other values are refused, athrow() closes."""
    stream = Source("abc").stream()

    assert await stream.asend(None) == "a"
    with pytest.raises(TypeError):
        await stream.asend(1)
    with pytest.raises(KeyError):
        await stream.athrow(KeyError)
    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await anext(stream)


async def test_athrow():
    """athrow() takes an exception, or a class, a value and a traceback, as a generator does."""
    try:
        raise ZeroDivisionError  # noqa: TRY301 - for its traceback
    except ZeroDivisionError as error:
        traceback = error.__traceback__
    for arguments in [
        (KeyError("x"),),
        (KeyError, "x"),
        (KeyError, KeyError("x")),
        (KeyError, KeyError("x"), None),
        (KeyError, KeyError("x"), traceback),
    ]:
        with pytest.raises(KeyError, match="x") as caught:
            await Source("abc").stream().athrow(*arguments)
        assert ("ZeroDivisionError" in str(caught.traceback[-1])) == (arguments[2:] == (traceback,))


async def test_resumed_far_into_a_page():
    """A list that is resumed far into a page goes on exactly there, while other tasks run."""
    source = Source([str(number) for number in range(100)], "ab")

    assert await source.stream(offset=70) == [*map(str, range(70, 100)), "a", "b"]
