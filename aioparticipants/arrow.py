"""Records as Arrow data, for pyarrow, pandas, polars, DuckDB and Parquet files.

    polars.DataFrame(arrow.stream(participants))                       # of a list
    await arrow.table(session.participants(conference_sid))            # of a stream, in the loop
    await arrow.to_thread(polars.DataFrame, session.fan_out(sids))     # the same, in a thread

It needs pyarrow: `pip install 'aioparticipants[arrow]'`.

1. A row has the columns of `to_row()`. There is one schema for each class of records, whatever the
   records hold: text, 64-bit integers and floats, booleans, and timestamps in microseconds, UTC.
2. A source is an iterable or async iterable of records, pages or results of a fan-out: so a list, a
   `RecordStream`, a `FanOut` or its `participants()`. It is read once, except a list or another
   collection.
3. Memory is bounded: a source is read one batch at a time, when the consumer asks for it.
4. Good records come before an error. `batches`, `table` and `to_thread` raise the source's error as
   it is. A consumer of the Arrow C stream gets it as the text of an error of its own (pyarrow:
   `ArrowInvalid`, polars: `ComputeError`); `ArrowStream.error` is the original, and `async with`
   raises it. The source is closed after an error.
5. A conference of a fan-out that failed is an error, unless `on_error` is a function that is given
   its result. So is a result with records that could not be read at all.
6. The Arrow C stream is synchronous. An async source is read by its event loop, so the consumer has
   to be in another thread. In the loop's thread the two would wait for each other: that is an
   `InvalidRequestError`, before anything is read. DuckDB hides it, as it reads in threads of its
   own; so the schema is refused there, too, which it asks for in the caller's thread. Beyond that,
   a loop that does not run for 10 s counts as one that waits for the consumer.
7. pyarrow is imported when it is used, not with this module.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import CancelledError, wait
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, TypeVar, cast

from ._arguments import checked_whole_number
from ._fan_out import ConferenceResult, FanOut, MergedParticipants
from ._rows import columns_of, row_values
from ._stream import RecordStream
from ._tasks import ClosedAtEnd, running_loop, wait_ignoring_cancellation
from .errors import InsightsError, InvalidRequestError, ResponseError, copied
from .models import Conference, Page, Participant

if TYPE_CHECKING:
    from types import TracebackType

    import pyarrow as pa

__all__ = [
    "ArrowStream",
    "Batches",
    "OnError",
    "RecordClass",
    "Source",
    "batches",
    "schema",
    "stream",
    "table",
    "to_thread",
]

T = TypeVar("T")

RecordClass: TypeAlias = type[Participant] | type[Conference]
Item: TypeAlias = Participant | Conference | Page[Participant] | Page[Conference] | ConferenceResult
#: What can be read. A single page or result counts as a list of one.
Source: TypeAlias = (
    Iterable[Item] | AsyncIterable[Item] | Page[Participant] | Page[Conference] | ConferenceResult
)
#: What becomes of a conference of a fan-out that failed: it is raised, or its result is given to a
#: function.
OnError: TypeAlias = Literal["raise"] | Callable[[ConferenceResult], object]

_BATCH_SIZE: Final = 8192
#: Rows that become Arrow arrays at once. It takes a millisecond or two, and then other tasks run.
_CHUNK: Final = 256
#: Seconds between two looks at whether the event loop still runs.
_LOOK: Final = 0.2
#: Seconds without a turn of the event loop after which it counts as waiting for the consumer.
_PATIENCE: Final = 10.0
#: What ends a program or a task. (A consumer can raise other exceptions that are no `Exception`:
#: polars before 1.30 panics.)
_ENDINGS: Final = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)


def schema(record_class: RecordClass = Participant) -> pa.Schema:
    """Return the schema of the batches of a class of records.

    Raises:
        InvalidRequestError: there is no such class, or pyarrow is not installed.
    """
    _require_pyarrow()
    import pyarrow as pa  # noqa: PLC0415 - an extra

    types = {
        str: pa.string(),
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
        datetime: pa.timestamp("us", tz="UTC"),
    }
    columns = columns_of(_checked_class(record_class))
    return pa.schema([pa.field(each.name, types[each.type]) for each in columns])


def batches(
    source: Source,
    *,
    record_class: RecordClass | None = None,
    batch_size: int = _BATCH_SIZE,
    on_error: OnError = "raise",
) -> Batches:
    """Return the record batches of a source, as an async iterator. Nothing is read yet.

    Args:
        source: see the head of this module.
        record_class: `Participant` or `Conference`. Default: that of a `RecordStream`, and
            `Participant` for any other source, whether it is empty or not.
        batch_size: the most rows of a batch; only the last one has fewer.
        on_error: `"raise"`: the error of a conference that failed is raised, after its records
            before the failure. Or a function: it is called with the `ConferenceResult` of each
            conference that failed, or that has `problems`; the others go on.

    Raises:
        InvalidRequestError: an argument cannot be used, or pyarrow is not installed.
    """
    return Batches(source, record_class=record_class, batch_size=batch_size, on_error=on_error)


async def table(
    source: Source, *, record_class: RecordClass | None = None, on_error: OnError = "raise"
) -> pa.Table:
    """Read all of a source, in the event loop, and return a table. The source is closed then.

    The arguments are those of `batches`.

    Raises:
        InsightsError: what the source raises; or an argument cannot be used.
    """
    async with batches(source, record_class=record_class, on_error=on_error) as reading:
        import pyarrow as pa  # noqa: PLC0415 - an extra

        return pa.Table.from_batches([each async for each in reading], reading.schema)


def stream(
    source: Source,
    *,
    record_class: RecordClass | None = None,
    batch_size: int = _BATCH_SIZE,
    on_error: OnError = "raise",
) -> ArrowStream:
    """Return a source as an object that Arrow consumers take. Nothing is read yet.

    For a list: `polars.DataFrame(stream)`, `pyarrow.table(stream)`,
    `pandas.DataFrame.from_arrow(stream)`, `duckdb.sql("SELECT … FROM stream")`. For an async source
    call this in its event loop, and the consumer in another thread; `to_thread` does both.

    The arguments are those of `batches`.

    Raises:
        InvalidRequestError: an argument cannot be used; pyarrow is not installed; or the source is
            async, and no event loop is running.
    """
    return ArrowStream(source, record_class=record_class, batch_size=batch_size, on_error=on_error)


async def to_thread(
    consumer: Callable[[ArrowStream], T],
    source: Source,
    *,
    record_class: RecordClass | None = None,
    batch_size: int = _BATCH_SIZE,
    on_error: OnError = "raise",
) -> T:
    """Return `consumer(stream(source))`, called in another thread, while the loop reads the source.

    `await to_thread(polars.DataFrame, session.participants(conference_sid))`. When it returns or
    raises, the source is closed: the consumer has to read all that it needs before it returns. (A
    DuckDB relation and a RecordBatchReader read later: fetch their result.) If it is cancelled, the
    consumer's next read fails, and so its thread ends by itself; that is not waited for.

    Args:
        consumer: a function of an `ArrowStream`, such as `polars.DataFrame` or `pyarrow.table`.
        source: as for `batches`, also the other arguments.
        record_class: the class of the records.
        batch_size: the most rows of a batch.
        on_error: what becomes of conferences that failed.

    Raises:
        InsightsError: what the source raises; or an argument cannot be used.
        Exception: what the consumer raises.
    """
    reading = stream(source, record_class=record_class, batch_size=batch_size, on_error=on_error)
    async with reading:
        return await asyncio.to_thread(consumer, reading)


# --- Batches, in the event loop ---


class Batches(ClosedAtEnd, AsyncIterator["pa.RecordBatch"]):
    """The record batches of a source; made by `batches`.

    A cancelled wait loses nothing: ask again. After a batch, the `cursor` of a `RecordStream` that
    is its source names the record after that batch.

    Attributes:
        schema: the schema of each batch.

    Raises, while iterating:
        InsightsError: what the source raises, after the batches before it, and again by each
            further call; or an item is no record of the class.
        InvalidRequestError: two tasks asked at once, or it was closed.
    """

    def __init__(
        self,
        source: Source,
        *,
        record_class: RecordClass | None,
        batch_size: int,
        on_error: OnError,
    ) -> None:
        """See `batches`."""
        self._items_in = items = _Items(source, record_class, on_error)
        self._buffer = _Buffer(items.record_class, batch_size)
        self.schema: pa.Schema = self._buffer.schema
        self._source = source
        self._items = aiter(_async_items(items.source))
        self._records: Iterator[object] = iter(())
        self._failure: Exception | None = None
        self._ended = False
        self._closed = False
        self._busy = False

    async def __anext__(self) -> pa.RecordBatch:
        """Return the next batch."""
        if self._busy:
            message = "Two tasks asked for a batch at once; let one wait for the other."
            raise InvalidRequestError(message)
        self._busy = True
        try:
            await self._fill()
        finally:
            self._busy = False
        if self._closed:
            raise _closed()
        if self._buffer.count:
            return self._buffer.take()
        if self._failure is not None:
            await self._close_source()
            raise _raisable(self._failure)
        raise StopAsyncIteration

    async def _fill(self) -> None:
        """Read records until a batch is full, or the source has ended."""
        while not (self._closed or self._ended or self._buffer.is_full):
            try:
                await self._fill_chunk()
            except StopAsyncIteration:
                self._ended = True
            except Exception as error:  # noqa: BLE001 - raised once the records before it are out
                self._failure, self._ended = error, True
            else:
                await asyncio.sleep(0)  # a source that never suspends would hold the loop

    async def _fill_chunk(self) -> None:
        """Read up to a chunk of records; raise StopAsyncIteration at the end."""
        buffer, items = self._buffer, self._items_in
        items.report_failures()
        for _ in range(min(_CHUNK, buffer.room)):
            while (record := next(self._records, None)) is None:
                try:
                    item = await anext(self._items)
                except StopAsyncIteration:
                    items.report_failures()
                    raise
                self._records = items.records(item)
            buffer.add(record)

    async def aclose(self) -> None:
        """Close it, and the source; what was read and not delivered is dropped."""
        self._closed = True
        await self._close_source()

    async def _close_source(self) -> None:
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()

    async def __aenter__(self) -> Self:
        """Return itself; `aclose()` follows at the end of the block."""
        return self


class _AsyncItems(AsyncIterator[Item]):
    """The items of an iterable, as an async iterator."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)

    async def __anext__(self) -> Item:
        for item in self._items:
            return item
        raise StopAsyncIteration


def _async_items(source: Iterable[Item] | AsyncIterable[Item]) -> AsyncIterable[Item]:
    return source if isinstance(source, AsyncIterable) else _AsyncItems(source)


# --- The Arrow C stream ---


class ArrowStream(ClosedAtEnd):
    """A source for Arrow consumers, by the Arrow PyCapsule interface; made by `stream`.

    https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html

    `async with` closes it, and raises `error` where the consumer raised an error of its own
    because of that. A consumer that stops early closes an async source, too.

    Attributes:
        schema: the schema of the stream.
        error: what the source raised; None while it has raised nothing.
    """

    def __init__(
        self,
        source: Source,
        *,
        record_class: RecordClass | None,
        batch_size: int,
        on_error: OnError,
    ) -> None:
        """See `stream`."""
        self._items = items = _Items(source, record_class, on_error)
        self._batch_size = checked_whole_number(batch_size, "batch_size", least=1)
        self.schema: pa.Schema = schema(items.record_class)
        self.error: Exception | None = None
        self._closed = False
        self._begun = False
        self._threads = None if items.is_sync else _ThreadReader(self._batches())

    def _batches(self) -> Batches:
        return Batches(
            self._items.source,
            record_class=self._items.record_class,
            batch_size=self._batch_size,
            on_error=self._items.on_error,
        )

    def __arrow_c_schema__(self) -> object:
        """Return the schema as a PyCapsule.

        Raises:
            InvalidRequestError: as for the stream.
        """
        self._check_usable()
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the stream as a PyCapsule. Nothing is read before the consumer takes a batch.

        Args:
            requested_schema: a schema as a PyCapsule; pyarrow casts to it where it can.

        Raises:
            InvalidRequestError: it was closed, or read before, and cannot be read again; or this
                is the thread of the event loop that has to read the source.
        """
        import pyarrow as pa  # noqa: PLC0415 - an extra

        self._check_usable()
        reader: Any = pa.RecordBatchReader.from_batches(self.schema, self._read())
        return reader.__arrow_c_stream__(requested_schema)

    def _check_usable(self) -> None:
        if self._closed:
            raise _closed()
        if self._begun and not self._items.is_collection:
            message = "The stream was read before: give a list to read it more than once."
            raise InvalidRequestError(message)
        if self._threads is not None:
            self._threads.check_thread()

    def _read(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches; a consumer that releases the stream closes the generator."""
        self._check_usable()
        self._begun = True
        try:
            if self._threads is None:
                yield from self._batches_of_iterable()
            else:
                yield from self._threads.batches()
        except Exception as error:
            self.error = error
            raise

    def _batches_of_iterable(self) -> Iterator[pa.RecordBatch]:
        items, failure = self._items, None
        buffer = _Buffer(items.record_class, self._batch_size)
        try:
            for item in cast("Iterable[object]", items.source):
                for record in items.records(item):
                    buffer.add(record)
                    if buffer.is_full:
                        yield buffer.take()
        except Exception as error:  # noqa: BLE001 - raised once the records before it are out
            failure = error
        if buffer.count:
            yield buffer.take()
        if failure is not None:
            raise failure

    async def aclose(self) -> None:
        """Close it, and an async source; a consumer in another thread gets an error."""
        self._closed = True
        if self._threads is not None:
            await self._threads.aclose()

    async def __aenter__(self) -> Self:
        """Return itself; `aclose()` follows at the end of the block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it, and raise its error instead of what the consumer made of it."""
        await super().__aexit__(kind, error, traceback)
        is_ending = isinstance(error, _ENDINGS) or error is self.error
        if self.error is not None and error is not None and not is_ending:
            raise _raisable(self.error) from error


class _ThreadReader:
    """Lets other threads read batches in the event loop."""

    def __init__(self, reading: Batches) -> None:
        """Use the running loop.

        Raises:
            InvalidRequestError: none is running.
        """
        loop = running_loop()
        if loop is None:
            message = (
                "An async source is read by its event loop, and none is running here: make the "
                "stream in a coroutine, and consume it in another thread (arrow.to_thread)."
            )
            raise InvalidRequestError(message)
        self._loop = loop
        self._batches = reading
        self._tasks = set[asyncio.Task[Any]]()
        self._latest_turn = 0.0  # of the loop, as far as the waiting thread knows

    def check_thread(self) -> None:
        """Raise InvalidRequestError in the loop's own thread, or if the loop has ended."""
        if running_loop() is self._loop:
            raise _loop_blocked()
        if not self._loop.is_running():
            raise _loop_ended()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches, each read in the loop while this thread waits."""
        is_over = False
        try:
            while (batch := self._next()) is not None:
                yield batch
            is_over = True
        finally:
            if not is_over:
                self._close_soon()

    def _next(self) -> pa.RecordBatch | None:
        self.check_thread()
        reading = self._read()
        try:
            future = asyncio.run_coroutine_threadsafe(reading, self._loop)
        except RuntimeError:  # it was closed meanwhile
            reading.close()
            raise _loop_ended() from None
        self._latest_turn = time.monotonic()
        try:
            while not wait((future,), timeout=_LOOK).done:
                self._check_loop()
            return future.result()
        except CancelledError:
            raise _closed() from None
        finally:
            future.cancel()  # where this thread was interrupted

    def _check_loop(self) -> None:
        """Raise InvalidRequestError if the loop has ended, or waits for this thread."""
        if not self._loop.is_running():
            raise _loop_ended()
        if time.monotonic() - self._latest_turn > _PATIENCE:
            raise _loop_blocked()
        with suppress(RuntimeError):  # closed this moment, which the next look finds
            self._loop.call_soon_threadsafe(self._note_turn)

    def _note_turn(self) -> None:
        self._latest_turn = time.monotonic()

    async def _read(self) -> pa.RecordBatch | None:
        """Return the next batch; None at the end."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._tasks.add(task)
        try:
            return await anext(self._batches, None)
        finally:
            self._tasks.discard(task)

    def _close_soon(self) -> None:
        """Close the source, from any thread; not waited for, as this may be the garbage collector.

        A loop that is closed has nothing left to close.
        """
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._start_closing)

    def _start_closing(self) -> None:
        task = self._loop.create_task(self._batches.aclose(), name="aioparticipants closing")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Cancel what is being read, and close the source."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        try:
            await wait_ignoring_cancellation(tasks)
        finally:
            await self._batches.aclose()


# --- From items to batches ---


class _Items:
    """A source, and the records in its items.

    Attributes:
        source: the source; a list, where it is a single page or result.
        record_class: the class of its records.
        on_error: what becomes of a conference that failed.
        is_sync: whether it can be read in any thread.
        is_collection: whether it can be read more than once.
    """

    def __init__(self, source: Source, record_class: RecordClass | None, on_error: OnError) -> None:
        """Check the arguments.

        Raises:
            InvalidRequestError: one cannot be used, or pyarrow is not installed.
        """
        _require_pyarrow()
        if on_error != "raise" and not callable(on_error):
            message = "on_error must be 'raise', or a function that is given a ConferenceResult."
            raise InvalidRequestError(message)
        self.record_class = _class_of(source, record_class)
        self.source = _checked_source(source)
        self.on_error: OnError = on_error
        self.is_sync: bool = isinstance(self.source, Iterable)
        self.is_collection: bool = self.is_sync and not isinstance(self.source, Iterator)
        self._merged = source if isinstance(source, MergedParticipants) else None
        self._reported = 0

    def records(self, item: object) -> Iterator[object]:
        """Yield the records of an item; then raise what is wrong with it."""
        if isinstance(item, Page):
            yield from map(self._checked, cast("Page[object]", item).records)
        elif isinstance(item, ConferenceResult):
            yield from map(self._checked, item.participants)
            self._report(item)
        else:
            yield self._checked(item)

    def _checked(self, record: object) -> object:
        if isinstance(record, self.record_class):
            return record
        name = self.record_class.__name__
        message = (
            f"The source has a {type(record).__name__}, but its record_class is {name}: "
            "give record_class= where that is wrong."
        )
        raise InvalidRequestError(message)

    def report_failures(self) -> None:
        """Report the conferences that failed, where their records are merged."""
        if self._merged is not None:
            for failure in self._merged.failures[self._reported :]:
                self._reported += 1
                self._report(failure)

    def _report(self, result: ConferenceResult) -> None:
        if result.error is None and not result.problems:
            return
        if self.on_error != "raise":
            self.on_error(result)
            return
        if result.error is not None:
            raise copied(result.error)
        message = (
            f"{len(result.problems)} records could not be read; the result's problems say why. "
            "Give on_error=, a function that is given the result, to go on without them."
        )
        raise ResponseError(message, conference_sid=result.conference_sid)


class _Buffer:
    """Records on their way into a batch.

    Attributes:
        schema: the schema of the batch.
        count: the number of records.
    """

    def __init__(self, record_class: RecordClass, size: int) -> None:
        """Begin an empty batch of up to `size` rows."""
        self.schema: pa.Schema = schema(record_class)
        self.count = 0
        self._size = checked_whole_number(size, "batch_size", least=1)
        self._values = row_values(record_class)
        self._rows: list[tuple[object, ...]] = []
        self._chunks: list[pa.RecordBatch] = []

    @property
    def room(self) -> int:
        """How many more records the batch takes."""
        return self._size - self.count

    @property
    def is_full(self) -> bool:
        """Whether it takes no more."""
        return self.count >= self._size

    def add(self, record: object) -> None:
        """Add a record.

        Raises:
            InvalidRequestError: it was made by hand, with a value of the wrong type.
        """
        self._rows.append(self._values(record))
        self.count += 1
        if len(self._rows) == _CHUNK:
            self._pack()

    def _pack(self) -> None:
        """Make arrays of the rows."""
        import pyarrow as pa  # noqa: PLC0415 - an extra

        arrow = cast("Any", pa)  # the stubs' arrays have type parameters that no schema knows
        columns = zip(zip(*self._rows, strict=True), self.schema.types, strict=True)
        arrays = [arrow.array(values, type=kind) for values, kind in columns]
        self._chunks.append(arrow.RecordBatch.from_arrays(arrays, schema=self.schema))
        self._rows.clear()

    def take(self) -> pa.RecordBatch:
        """Return the batch, and begin the next one."""
        import pyarrow as pa  # noqa: PLC0415 - an extra

        if self._rows:
            self._pack()
        [batch] = pa.Table.from_batches(self._chunks).combine_chunks().to_batches()
        self._chunks.clear()
        self.count = 0
        return batch


# --- Arguments, and errors ---


def _require_pyarrow() -> None:
    try:
        importlib.import_module("pyarrow")
    except ImportError:
        pass
    else:
        return
    message = "pyarrow is not installed: pip install 'aioparticipants[arrow]'."
    raise InvalidRequestError(message)


def _checked_class(record_class: object) -> RecordClass:
    if record_class is Participant or record_class is Conference:
        return record_class
    message = "record_class must be Participant or Conference."
    raise InvalidRequestError(message)


def _class_of(source: object, record_class: RecordClass | None) -> RecordClass:
    """Return the class of a source's records."""
    known: object = None
    if isinstance(source, RecordStream):
        known = cast("RecordStream[object]", source).record_class
    elif isinstance(source, (FanOut, MergedParticipants, ConferenceResult)):
        known = Participant
    if record_class is None:
        return Participant if known is None else _checked_class(known)
    if known is not None and known is not record_class:
        message = "record_class is another one than that of the source: leave it out."
        raise InvalidRequestError(message)
    return _checked_class(record_class)


def _checked_source(source: object) -> Iterable[Item] | AsyncIterable[Item]:
    if isinstance(source, (Page, ConferenceResult)):
        return cast("list[Item]", [source])
    if isinstance(source, (AsyncIterable, Iterable)) and not isinstance(source, (str, bytes)):
        return cast("Iterable[Item] | AsyncIterable[Item]", source)
    message = "source must be an iterable or async iterable of records, pages or results."
    raise InvalidRequestError(message)


def _raisable(error: Exception) -> Exception:
    """Return an error that is kept, to raise it once more."""
    return copied(error) if isinstance(error, InsightsError) else error


def _closed() -> InvalidRequestError:
    message = (
        "It was closed before its end. A consumer has to read all before it returns: fetch the "
        "result of a DuckDB query, and read all of a RecordBatchReader."
    )
    return InvalidRequestError(message)


def _loop_blocked() -> InvalidRequestError:
    message = (
        "The event loop that has to read the source cannot run while its thread waits for the "
        "consumer: await arrow.to_thread(consumer, source), or arrow.table(source)."
    )
    return InvalidRequestError(message)


def _loop_ended() -> InvalidRequestError:
    message = "The event loop that has to read the source does not run: make a new stream in one."
    return InvalidRequestError(message)
