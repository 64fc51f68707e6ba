"""Arrow data of records: one schema, every record once, errors as they are, and no deadlock."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from contextlib import aclosing
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from aioparticipants import (
    Conference,
    ConferenceResult,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    Page,
    PageMeta,
    Participant,
    RecordProblem,
    ResponseError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    arrow,
)

from .conferences import Scripted, sid
from .servers import http, last_page, raw
from .telemetry import until
from .users import bad, made_up, sids_of

KEY = ("AC1", "token")

FAILED = ConferenceResult(
    conference_sid="CF2",
    participants=(Participant(label="before"),),
    error=NotFoundError("not found", status=404, cursor="c"),
)
UNREADABLE = ConferenceResult(
    conference_sid="CF3",
    participants=(Participant(label="good"),),
    problems=(RecordProblem(conference_sid="CF3", index=1, cursor="c", fault="null"),),
)


def labels(table):
    return table.column("label").to_pylist()


def sids_in(table):
    return table.column("participant_sid").to_pylist()


def read_in_thread(stream):
    """Read a stream as pyarrow does, in another thread."""
    return asyncio.to_thread(pa.table, stream)


@pytest.fixture
async def scripted():
    """Return a server that holds up the pages that a test names."""
    async with Scripted() as server:
        yield server


@pytest.fixture
async def connected(scripted):
    """Return a session for it."""
    async with InsightsSession(
        scripted.credentials, base_url=scripted.base_url, retry=RetryPolicy(max_attempts=1)
    ) as opened:
        yield opened


# --- The schema, and lists ---


def test_schema():
    """Each column has one Arrow type, by its type in a row."""
    types = {
        str: pa.string(),
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
        datetime: pa.timestamp("us", tz="UTC"),
    }
    for kind in (Participant, Conference):
        assert [(each.name, each.type) for each in arrow.schema(kind)] == [
            (each.name, types[each.type]) for each in kind.columns()
        ]


def test_list(fake):
    """A table of a list has the rows of its records, and the list can be read again."""
    records = [Participant(label="a", join_time=datetime(1, 1, 1, tzinfo=UTC)), Participant()]
    stream = arrow.stream(records)
    utc = [{**each.to_row()} for each in records]

    for _ in range(2):
        table = pa.table(stream)
        assert table.schema == arrow.schema(Participant) == stream.schema
        assert table.to_pylist() == utc
    assert pa.schema(stream) == stream.schema


def test_values_that_do_not_fit():
    """What a column cannot hold is in `extra`, as in a row."""
    record = Participant(label="\ud800", duration_seconds=2**64, metrics={"inbound": {"mos": 3}})

    [row] = pa.table(arrow.stream([record])).to_pylist()

    assert row == record.to_row()
    assert json.loads(row["extra"]) == {"label": "\ud800", "duration_seconds": 2**64}


@pytest.mark.parametrize(
    ("size", "batch_size"),
    [(0, 1), (3, 1), (1, 256), (255, 256), (256, 256), (257, 256), (600, 300), (700, 300)],
)
async def test_batches(size, batch_size):
    """All batches but the last are full, and have every record once, in order."""
    records = [Participant(duration_seconds=number) for number in range(size)]
    reader = pa.RecordBatchReader.from_stream(arrow.stream(records, batch_size=batch_size))
    of_sync = [*reader]
    of_async = [each async for each in arrow.batches(records, batch_size=batch_size)]

    for found in (of_sync, of_async):
        sizes = [each.num_rows for each in found]
        assert sizes == [batch_size] * (size // batch_size) + [size % batch_size] * (
            size % batch_size > 0
        )
        numbers = [number for each in found for number in each.column(13).to_pylist()]
        assert numbers == [*range(size)]


def test_empty_sources():
    """A source without records has the schema of its class, of participants unless it is named."""
    assert pa.table(arrow.stream([])).schema == arrow.schema(Participant)
    assert pa.table(arrow.stream((), record_class=Conference)).schema == arrow.schema(Conference)


def test_conferences():
    """A list of conferences is read as such where their class is named."""
    table = pa.table(arrow.stream([Conference(status="completed")], record_class=Conference))

    assert table.to_pylist() == [Conference(status="completed").to_row()]


def test_pages_and_results():
    """Pages and results are read for their records, alone or in a list."""
    page = Page(records=(Participant(label="a"),), meta=PageMeta(), request_id=None)
    result = ConferenceResult(conference_sid="CF1", participants=(Participant(label="b"),))

    assert labels(pa.table(arrow.stream(page))) == ["a"]
    assert labels(pa.table(arrow.stream(result))) == ["b"]
    assert labels(pa.table(arrow.stream([page, result, Participant(label="c")]))) == [*"abc"]


def test_generators_are_read_once():
    """A generator is not read before the first batch is asked for, and refuses a second time."""
    stream = arrow.stream(Participant(label=each) for each in "ab")
    unread = pa.RecordBatchReader.from_stream(stream)
    assert unread.schema == stream.schema

    assert labels(pa.table(stream)) == ["a", "b"]
    with pytest.raises(InvalidRequestError, match="read before"):
        pa.table(stream)
    with pytest.raises(pa.ArrowInvalid, match="read before"):
        unread.read_all()


def test_requested_schema():
    """A consumer can ask for other types."""
    wanted = pa.schema(
        [
            each.with_type(pa.large_string()) if each.type == pa.string() else each
            for each in arrow.schema()
        ]
    )
    reader = pa.RecordBatchReader.from_stream(arrow.stream([Participant(label="a")]), schema=wanted)

    assert reader.read_all().schema == wanted


def test_lists_of_something_else():
    """A record of another class is an error that says so, after the records before it."""
    stream = arrow.stream([Participant(label="a"), Conference()])
    reader = pa.RecordBatchReader.from_stream(stream)

    assert labels(reader.read_next_batch()) == ["a"]
    with pytest.raises(pa.ArrowInvalid, match="has a Conference, but its record_class is"):
        reader.read_next_batch()
    assert isinstance(stream.error, InvalidRequestError)
    with pytest.raises(pa.ArrowInvalid, match="has a NoneType"):
        pa.table(arrow.stream([None]))


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("CF1",), "source must be"),
        ((5,), "source must be"),
        (([], str), "record_class must be"),
        (([], None, 0), "batch_size must be"),
        (([], None, 10, "skip"), "on_error must be"),
        ((FAILED, Conference), "another one than that of the source"),
    ],
)
def test_arguments(arguments, fault):
    """An argument that cannot be used is an error before anything is read."""
    names = ("source", "record_class", "batch_size", "on_error")

    for open_source in (arrow.stream, arrow.batches):
        with pytest.raises(InvalidRequestError, match=fault):
            open_source(**dict(zip(names, arguments, strict=False)))


def test_without_pyarrow(monkeypatch):
    """Without pyarrow each function names the command that installs it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    for use in (arrow.schema, lambda: arrow.stream([]), lambda: arrow.batches([])):
        with pytest.raises(InvalidRequestError) as caught:
            use()
        assert "pip install 'aioparticipants[arrow]'" in str(caught.value)


def test_pyarrow_is_not_imported_with_the_package():
    """The package, and this module too, import pyarrow only when they need it."""
    script = "import sys; from aioparticipants import arrow; print('pyarrow' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ran.stdout == "False\n"


# --- Results that failed ---


async def test_failed_results_are_raised():
    """A failed result is its error, after all records before it."""
    results = [ConferenceResult(conference_sid="CF1", participants=(Participant(),)), FAILED]
    with pytest.raises(NotFoundError) as caught:
        await arrow.table(results)
    assert caught.value.cursor == "c"

    stream = arrow.stream(results)
    reader = pa.RecordBatchReader.from_stream(stream)
    assert labels(reader.read_next_batch()) == [None, "before"]
    with pytest.raises(pa.ArrowInvalid, match="not found"):
        reader.read_next_batch()
    assert isinstance(stream.error, NotFoundError)


async def test_failed_results_are_given_to_a_function():
    """With `on_error` a function gets each result that is not complete, and the others go on."""
    results = [FAILED, UNREADABLE, ConferenceResult(conference_sid="CF1")]
    found = []

    table = await arrow.table(results, on_error=found.append)

    assert labels(table) == ["before", "good"]
    assert found == [FAILED, UNREADABLE]


async def test_results_with_unreadable_records_are_raised():
    """A result with records that could not be read is an error that says how to go on."""
    with pytest.raises(ResponseError, match=r"1 records could not be read.*on_error=") as caught:
        await arrow.table(UNREADABLE)

    assert caught.value.conference_sid == "CF3"


async def test_fan_out(fake, session):
    """A fan-out gives the records of all its conferences, by result or merged."""
    sids = [fake.add_conference(size) for size in (3, 0, 300)]
    records = sorted(each for one in sids for each in sids_of(fake.records(one)))

    assert sorted(sids_in(await arrow.table(session.fan_out(sids)))) == records
    assert sorted(sids_in(await arrow.table(session.fan_out(sids).participants()))) == records


@pytest.mark.parametrize("merged", [False, True])
async def test_fan_out_with_failures(fake, session, merged):
    """A conference that fails is raised, or given to a function: also where records are merged."""
    sids = [fake.add_conference(3), "CF0"]

    def source():
        fan_out = session.fan_out(sids)
        return fan_out.participants() if merged else fan_out

    with pytest.raises(InvalidRequestError, match="32 hexadecimal digits"):
        await arrow.table(source())
    failures = []
    assert (await arrow.table(source(), on_error=failures.append)).num_rows == 3
    assert [each.conference_sid for each in failures] == ["CF0"]


async def test_problems_of_merged_records():
    """Merged records name those that could not be read, as their fan-out does."""
    page = http(last_page({"label": "a"}, None, {"label": "b"}))
    async with raw(page) as server, InsightsSession(KEY, base_url=server.base_url) as session:
        merged = session.fan_out([sid(1)], on_invalid="keep").participants()

        assert labels(await arrow.table(merged)) == ["a", "b"]
        assert [each.index for each in merged.problems] == [1]
        assert merged.failures == ()


# --- Streams, in the loop ---


async def test_stream(fake, session):
    """A stream's records become batches, each of whole size, and its class needs no mention."""
    one = fake.add_conference(700)
    stream = session.participants(one, page_size=90)

    sizes = [each.num_rows async for each in arrow.batches(stream, batch_size=300)]

    assert sizes == [300, 300, 100]
    assert sids_in(await arrow.table(session.participants(one))) == sids_of(fake.records(one))


async def test_stream_of_conferences(fake, session):
    """A stream of conferences has their schema without being told, also if it is empty."""
    fake.add_conference(2)
    full = await arrow.table(session.conferences(created_after=None))
    early = datetime(2000, 1, 1, tzinfo=UTC)
    empty = session.conferences(created_after=early, created_before=early.replace(day=2))

    assert full.num_rows == 1
    assert full.schema == (await arrow.table(empty)).schema == arrow.schema(Conference)
    with pytest.raises(InvalidRequestError, match="another one than that of the source"):
        arrow.batches(session.conferences(created_after=None), record_class=Participant)


async def test_cursor_after_a_batch(fake, session):
    """After a batch the stream's cursor names the record after it."""
    one = fake.add_conference(50)
    stream = session.participants(one)

    async with arrow.batches(stream, batch_size=20) as batches:
        first = await anext(batches)
        cursor = stream.cursor
    rest = await arrow.table(session.participants(one, resume=cursor))

    assert sids_in(first) + sids_in(rest) == sids_of(fake.records(one))


async def test_error_of_a_stream(fake, session):
    """The error of a stream comes as it is, after every good record before it, and again."""
    records = made_up(fake, 5)
    one = fake.add_conference([*records[:3], bad(records[3]), records[4]])
    batches = arrow.batches(session.participants(one))

    assert sids_in(await anext(batches)) == sids_of(records[:3])
    for _ in range(2):
        with pytest.raises(ResponseError) as caught:
            await anext(batches)
    rest = await arrow.table(session.participants(one, resume=caught.value.cursor_after))
    assert sids_in(rest) == sids_of(records[4:])


async def test_error_of_a_generator():
    """The error of any async source comes as it is, after the records before it, and again."""

    async def source():
        yield Participant(label="a")
        message = "mine"
        raise ValueError(message)

    batches = arrow.batches(source())
    assert labels(await anext(batches)) == ["a"]
    for _ in range(2):
        with pytest.raises(ValueError, match="mine"):
            await anext(batches)


async def test_cancelled_wait_loses_nothing(scripted, connected):
    """A wait for a batch that is cancelled loses no record: the next one has them all."""
    one = scripted.add_conference(60, conference_sid=sid(1))
    page = scripted.hold(one, 1)
    batches = arrow.batches(connected.participants(one, page_size=25))
    waiting = asyncio.ensure_future(anext(batches))
    await until(lambda: (one, 1) in scripted.asked)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    page.set()

    assert sids_in(await anext(batches)) == sids_of(scripted.records(one))
    with pytest.raises(StopAsyncIteration):
        await anext(batches)


async def test_two_tasks_at_once(scripted, connected):
    """A second task that asks meanwhile is refused, and the first gets its batch."""
    one = scripted.add_conference(3, conference_sid=sid(1))
    page = scripted.hold(one)
    batches = arrow.batches(connected.participants(one))
    first = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)

    with pytest.raises(InvalidRequestError, match="Two tasks asked"):
        await anext(batches)
    page.set()
    assert (await first).num_rows == 3


async def test_closing_batches(scripted, connected):
    """Closing ends the source, also under a task that waits for a batch."""
    one = scripted.add_conference(3, conference_sid=sid(1))
    scripted.hold(one)
    stream = connected.participants(one)
    batches = arrow.batches(stream)
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)

    await batches.aclose()

    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await waiting
    with pytest.raises(InvalidRequestError, match="closed before its end"):
        await anext(batches)
    with pytest.raises(InvalidRequestError, match="closed"):
        await anext(stream)


async def test_the_loop_runs_meanwhile():
    """Other tasks run while a list, which never suspends, becomes a table."""
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await arrow.table([Participant()] * 3000)
    counting.cancel()

    assert turns > 3000 / 256 - 1


# --- Streams, in another thread ---


async def test_thread(fake, session):
    """A consumer in another thread gets all records, while the loop reads them."""
    one = fake.add_conference(700)

    stream = arrow.stream(session.participants(one, page_size=100), batch_size=150)
    table = await read_in_thread(stream)

    assert sids_in(table) == sids_of(fake.records(one))
    assert sids_in(await arrow.to_thread(pa.table, session.participants(one))) == sids_in(table)
    with pytest.raises(InvalidRequestError, match="read before"):
        await read_in_thread(stream)


async def test_thread_of_the_loop(fake, session):
    """In the loop's own thread the stream and its schema are refused; nothing is requested."""
    stream = arrow.stream(session.participants(fake.add_conference(3)))

    with pytest.raises(InvalidRequestError, match=r"await arrow\.to_thread"):
        pa.table(stream)
    with pytest.raises(InvalidRequestError, match=r"await arrow\.to_thread"):
        pa.schema(stream)
    assert fake.requests == []
    assert (await read_in_thread(stream)).num_rows == 3


async def test_loop_that_waits_for_the_consumer(fake, session, monkeypatch):
    """A loop whose thread waits for the consumer's thread is found out: an error, no deadlock."""
    monkeypatch.setattr(arrow, "_PATIENCE", 0.3)
    stream = arrow.stream(session.participants(fake.add_conference(3)))
    found = []

    def consume():
        try:
            pa.table(stream)
        except pa.ArrowInvalid as error:
            found.append(error)

    thread = threading.Thread(target=consume)
    thread.start()
    thread.join()  # the mistake

    assert "cannot run while its thread waits" in str(found[0])
    assert isinstance(stream.error, InvalidRequestError)
    await stream.aclose()


async def test_slow_source_is_waited_for(scripted, connected, monkeypatch):
    """A source that takes longer than the patience is waited for, as long as the loop runs."""
    monkeypatch.setattr(arrow, "_PATIENCE", 0.3)
    one = scripted.add_conference(3, conference_sid=sid(1))
    page = scripted.hold(one)
    reading = asyncio.ensure_future(arrow.to_thread(pa.table, connected.participants(one)))
    await asyncio.sleep(0.7)
    page.set()

    assert (await reading).num_rows == 3


def test_without_a_loop(fake):
    """An async source cannot become a stream where no loop runs; a list can."""

    async def source():
        yield Participant()

    def make():
        with pytest.raises(InvalidRequestError, match="none is running here"):
            arrow.stream(source())
        return pa.table(arrow.stream([Participant()])).num_rows

    assert make() == 1


def test_loop_that_has_ended():
    """A stream whose loop has ended says so, closed or not."""

    async def source():
        yield Participant()

    async def make():
        return arrow.stream(source())

    loop = asyncio.new_event_loop()
    stopped = loop.run_until_complete(make())
    with pytest.raises(InvalidRequestError, match="does not run"):
        pa.table(stopped)
    loop.close()
    with pytest.raises(InvalidRequestError, match="does not run"):
        pa.table(stopped)


def test_loop_that_is_closed_this_moment():
    """A loop that is closed right before the stream is read is an error that says so."""

    class Loop(asyncio.SelectorEventLoop):
        is_late = False

        def is_running(self):
            return self.is_late or super().is_running()

    async def source():
        yield Participant()

    async def make():
        return arrow.stream(source())

    loop = Loop()
    stream = loop.run_until_complete(make())
    loop.close()
    loop.is_late = True

    with pytest.raises(pa.ArrowInvalid, match="does not run"):
        pa.table(stream)


def test_loop_that_ends_meanwhile():
    """A consumer whose loop stops while it waits gets an error."""
    loop = asyncio.new_event_loop()
    asked = threading.Event()

    async def source():
        asked.set()
        await asyncio.Event().wait()
        yield Participant()

    async def make():
        return arrow.stream(source())

    stream = loop.run_until_complete(make())
    running = threading.Thread(target=loop.run_forever)
    running.start()

    def stop():
        asked.wait()
        loop.call_soon_threadsafe(loop.stop)

    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(pa.ArrowInvalid, match="does not run"):
        while True:
            pa.table(stream)
    stopping.join()
    running.join()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def test_error_in_a_thread(fake, session):
    """`to_thread` raises the source's own error; the consumer's is its cause."""
    records = made_up(fake, 5)
    one = fake.add_conference([*records[:3], bad(records[3]), records[4]])

    with pytest.raises(ResponseError) as caught:
        await arrow.to_thread(pa.table, session.participants(one))

    assert isinstance(caught.value.__cause__, pa.ArrowInvalid)
    assert caught.value.cursor_after is not None
    fake.fail_next(500, times=99)
    with pytest.raises(ServerError):
        await arrow.to_thread(pa.table, session.participants(one))


async def test_error_in_a_thread_without_a_block(fake, session):
    """Without a block the consumer's error has the text, and the stream has the error."""
    stream = arrow.stream(session.participants(fake.add_conference([bad(*made_up(fake, 1))])))

    with pytest.raises(pa.ArrowInvalid, match=r"participants\[0\].label"):
        await read_in_thread(stream)

    assert isinstance(stream.error, ResponseError)


async def test_error_of_the_consumer(fake, session):
    """An error of the consumer's own is raised as it is, and the source is closed."""
    source = session.participants(fake.add_conference(30))

    def consume(stream):
        pa.RecordBatchReader.from_stream(stream).read_next_batch()
        raise LookupError

    with pytest.raises(LookupError):
        await arrow.to_thread(consume, source, batch_size=10)
    with pytest.raises(InvalidRequestError, match="closed"):
        await anext(source)


async def test_consumer_that_stops_early(fake, session):
    """A consumer that reads one batch and drops the stream closes the source."""
    source = session.participants(fake.add_conference(30), page_size=10)

    def consume(stream):
        return pa.RecordBatchReader.from_stream(stream).read_next_batch().num_rows

    assert await asyncio.to_thread(consume, arrow.stream(source, batch_size=10)) == 10
    with pytest.raises(InvalidRequestError, match="closed"):
        while True:
            await anext(source)


async def test_cancelled_consumer(scripted, connected):
    """A cancelled `to_thread` closes the source, and its thread ends by itself."""
    one = scripted.add_conference(60, conference_sid=sid(1))
    scripted.hold(one, 1)
    source = connected.participants(one, page_size=25)
    ended = threading.Event()

    def consume(stream):
        try:
            return pa.table(stream)
        finally:
            ended.set()

    reading = asyncio.ensure_future(arrow.to_thread(consume, source))
    await until(lambda: (one, 1) in scripted.asked)
    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await asyncio.to_thread(ended.wait, 30)
    with pytest.raises(InvalidRequestError, match="closed"):
        await anext(source)


async def test_closed_stream(fake):
    """A stream that was closed refuses to be read, a list as well."""
    async with arrow.stream([Participant()]) as stream:
        assert pa.table(stream).num_rows == 1

    with pytest.raises(InvalidRequestError, match="closed before its end"):
        pa.table(stream)


async def test_session_that_is_closed_meanwhile(scripted):
    """A session that is closed under a consumer ends it with an error."""
    session = InsightsSession(scripted.credentials, base_url=scripted.base_url)
    one = scripted.add_conference(60, conference_sid=sid(1))
    scripted.hold(one)
    reading = asyncio.ensure_future(arrow.to_thread(pa.table, session.participants(one)))
    await until(lambda: (one, 0) in scripted.asked)

    await session.aclose()

    with pytest.raises(SessionClosedError):
        await reading


async def test_async_generators_are_closed(fake):
    """An async generator that is not read to its end is closed, as a stream is."""
    closed = []

    async def source():
        try:
            for _ in range(100):
                yield Participant()
        finally:
            closed.append(True)

    async with arrow.batches(source(), batch_size=10) as batches:
        await anext(batches)

    assert closed == [True]
    async with aclosing(source()) as items:
        assert (await arrow.table(items)).num_rows == 100
