"""The libraries that take Arrow data: each gets every record of a list, a stream and a fan-out."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aioparticipants import InvalidRequestError, Participant, ResponseError, arrow

from .users import bad, made_up, sids_of


def with_pandas(source):
    return pd.DataFrame.from_arrow(source)


def with_duckdb(source):
    # DuckDB finds the variable by its name.
    return duckdb.sql("SELECT participant_sid, join_time, inbound_mos FROM source").to_arrow_table()


def with_parquet(source):
    """Write a file batch by batch, and read it."""
    file = pa.BufferOutputStream()
    reader = pa.RecordBatchReader.from_stream(source)
    with pq.ParquetWriter(file, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    return pq.read_table(pa.BufferReader(file.getvalue()))


CONSUMERS = {
    "pyarrow": pa.table,
    "polars": pl.DataFrame,
    "pandas": with_pandas,
    "duckdb": with_duckdb,
    "parquet": with_parquet,
}
each_consumer = pytest.mark.parametrize("consume", CONSUMERS.values(), ids=CONSUMERS)


def rows_of(data):
    """Return what a consumer has, as Python values."""
    return pa.table(data).select(["participant_sid", "join_time", "inbound_mos"]).to_pylist()


def rows_wanted(records):
    return [
        {
            "participant_sid": each["participant_sid"],
            "join_time": datetime.fromisoformat(each["join_time"]),
            "inbound_mos": float(each["metrics"]["inbound"]["mos"]),
        }
        for each in records
    ]


@each_consumer
async def test_list(fake, session, consume):
    """A list is read in any thread, the loop's as well."""
    one = fake.add_conference(300)
    participants = await session.participants(one)

    assert rows_of(consume(arrow.stream(participants))) == rows_wanted(fake.records(one))


@each_consumer
async def test_empty_list(consume):
    """A list without records has all columns."""
    data = consume(arrow.stream([]))

    assert rows_of(data) == []
    assert pa.table(data).column("join_time").type.tz is not None


@each_consumer
async def test_stream(fake, session, consume):
    """A stream is read in another thread, one batch after the other."""
    one = fake.add_conference(300)
    source = session.participants(one, page_size=70)

    data = await arrow.to_thread(consume, source, batch_size=50)

    assert rows_of(data) == rows_wanted(fake.records(one))
    one = fake.add_conference(3)
    data = await asyncio.to_thread(consume, arrow.stream(session.participants(one)))
    assert rows_of(data) == rows_wanted(fake.records(one))


async def test_consumer_that_reads_too_late(fake, session):
    """A consumer that returns before it has read is an error that says so, not an empty result."""
    source = session.participants(fake.add_conference(3))

    reader = await arrow.to_thread(pa.RecordBatchReader.from_stream, source)

    with pytest.raises(pa.ArrowInvalid, match="read all before it returns"):
        await asyncio.to_thread(reader.read_all)


@each_consumer
async def test_fan_out(fake, session, consume):
    """A fan-out is read in another thread."""
    sids = [fake.add_conference(20) for _ in range(5)]

    data = await arrow.to_thread(consume, session.fan_out(sids))

    found = sorted(each["participant_sid"] for each in rows_of(data))
    assert found == sorted(each for one in sids for each in sids_of(fake.records(one)))


@each_consumer
async def test_error(fake, session, consume):
    """The error of a source comes out of `to_thread` as it is, not as the consumer's own."""
    records = made_up(fake, 3)
    one = fake.add_conference([*records[:2], bad(records[2])])

    with pytest.raises(ResponseError) as caught:
        await arrow.to_thread(consume, session.participants(one))

    assert caught.value.path == "participants[2].label"


@each_consumer
async def test_thread_of_the_loop(fake, session, consume):
    """In the loop's own thread a stream is an error of the consumer's that says what to do."""
    stream = arrow.stream(session.participants(fake.add_conference(3)))

    with pytest.raises((InvalidRequestError, duckdb.Error), match=r"await arrow\.to_thread"):
        consume(stream)
    assert fake.requests == []


# --- What the README and the guide say ---


def test_rows_in_pandas():
    """`pandas.DataFrame` of rows has the columns; of the records themselves it has only one."""
    participants = [Participant(label="a", join_time=datetime(2021, 1, 2, tzinfo=UTC))]

    frame = pd.DataFrame([each.to_row() for each in participants])

    assert [*frame.columns] == [each.name for each in Participant.columns()]
    assert frame["label"].to_list() == ["a"]
    assert frame["join_time"].to_list() == [datetime(2021, 1, 2, tzinfo=UTC)]
    assert pd.DataFrame(participants).shape == (1, 1)


def test_rows_in_polars():
    """`polars.DataFrame` of rows has the columns, and `arrow.stream` their types too."""
    participants = [Participant(label="a")]

    frame = pl.DataFrame([each.to_row() for each in participants])

    assert frame.columns == [each.name for each in Participant.columns()]
    assert pl.DataFrame(arrow.stream(participants)).schema["inbound_mos"] == pl.Float64


def test_streams_are_no_frames_of_objects():
    """A stream given to `pandas.DataFrame` is an error, not a frame with one column."""
    with pytest.raises(ValueError, match="DataFrame constructor"):
        pd.DataFrame(arrow.stream([Participant()]))
