"""Resuming a list: each record is delivered once, whatever stopped the list before."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import pickle
from contextlib import asynccontextmanager

import attrs
import pytest

from aioparticipants import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    CursorExpiredError,
    DeadlineExceededError,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    PaginationError,
    RateLimitError,
    RequestTimeoutError,
    ResponseError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    TransportError,
)
from aioparticipants._cursors import (
    _BODY,
    _BODY_1,
    _HEAD,
    LONGEST_QUERY,
    CursorCodec,
    Position,
    _checksum,
)
from aioparticipants._resources import PARTICIPANTS

from .servers import http, last_page, raw

SID = "CF" + "a" * 32
CP = "CP" + "b" * 32
PATH = f"/v1/Conferences/{SID}/Participants"
ANYONE = ("AC1", "secret")
LABEL = "Ann Lee +15005550006 & co/ü"
TOKEN = "PT%2Fa%2bb==&x=a+b"


def first_page(sid, page_size=None, **filters):
    return PARTICIPANTS.first_request({"conference_sid": sid}, filters, page_size=page_size)


FIRST = first_page(SID, label=LABEL, page_size=50)


def encoded(first, query, offset, before=None):
    """Return the cursor of a place in the list that begins with a request."""
    position = Position(attrs.evolve(first, query=query), offset, before)
    return CursorCodec(first, PARTICIPANTS.cursor_scope).encode(position)


def decoded(first, cursor, **options):
    """Return the position that a list reads from a cursor."""
    position = CursorCodec(first, PARTICIPANTS.cursor_scope).decode(cursor, **options)
    assert attrs.evolve(position.request, query="") == attrs.evolve(first, query="")
    return position


def place_of(first, cursor, **options):
    """Return the query of the page that a cursor names, and the index on it."""
    position = decoded(first, cursor, **options)
    return position.request.query, position.offset


# --- The string ---


@pytest.mark.parametrize("query", [FIRST.query, f"PageSize=50&Page=1&PageToken={TOKEN}", "a&b=&=c"])
@pytest.mark.parametrize("offset", [0, 1, 999])
def test_round_trip(query, offset):
    """A cursor holds the page's query, byte for byte, and the index on it."""
    cursor = encoded(FIRST, query, offset)

    assert place_of(FIRST, cursor) == (query, offset)
    assert cursor.isascii()
    assert len(cursor) < 32 + 1.5 * len(query)


@pytest.mark.parametrize("name", ["Label", "Label%5B%5D", "filter"])
@pytest.mark.parametrize(
    "value",
    [
        "Ann%20Lee%20%2B15005550006%20%26%20co%2F%C3%BC",
        "Ann+Lee+%2b15005550006+%26+co/%c3%bc",
    ],
)
def test_no_label_in_a_cursor(name, value):
    """A label's value is cut out of a cursor, however the server wrote it, and is put back."""
    cursor = encoded(FIRST, f"Page=1&{name}={value}&PageToken={TOKEN}", 3)

    decoded = base64.urlsafe_b64decode(cursor)
    assert b"Ann" not in decoded
    assert b"555" not in decoded
    assert b"ANN" not in base64.urlsafe_b64decode(encoded(FIRST, "Label=ANN%20LEE&Page=1", 0))
    ours = "Ann%20Lee%20%2B15005550006%20%26%20co%2F%C3%BC"
    assert place_of(FIRST, cursor) == (f"Page=1&{name}={ours}&PageToken={TOKEN}", 3)


@pytest.mark.parametrize("first", [FIRST, first_page(SID, page_size=50)])
@pytest.mark.parametrize("query", ["Label=&Page=1", "Page=1&Label", "Label=&" * 900 + "Label&x="])
def test_a_label_without_a_value_is_left_alone(first, query):
    """If the server's label has no value, nothing is cut out or put back."""
    cursor = encoded(first, query, 3)

    assert place_of(first, cursor) == (query, 3)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (first_page("CF" + "b" * 32, label=LABEL), "another conference, or of other filters"),
        (first_page(SID, label=LABEL, participant_sid=CP), "other filters"),
        (first_page(SID, label=LABEL, events="hold"), "other filters"),
        (first_page(SID, label="Bob"), "another label"),
        (first_page(SID), "another label"),
    ],
)
def test_other_lists(first, words):
    """A cursor of another conference or filter is refused, without showing its label."""
    cursor = encoded(FIRST, FIRST.query, 0)

    with pytest.raises(InvalidRequestError, match=words) as caught:
        decoded(first, cursor)

    assert "Ann" not in repr(caught.value)
    assert caught.value.__context__ is None


def test_filters_alone_count():
    """Another page size is not another list: the cursor's own size is used."""
    cursor = encoded(FIRST, "PageSize=50&Page=1", 7)

    first = first_page(SID, label=LABEL, page_size=3)
    assert place_of(first, cursor) == ("PageSize=50&Page=1", 7)


GOOD = encoded(FIRST, FIRST.query, 5)


def made(version, query, first=FIRST, checksum=None):
    """Return a cursor that this package never writes."""
    size = _BODY_1.size if version == 1 else _BODY.size
    body = base64.urlsafe_b64decode(encoded(first, first.query, 5))[_HEAD.size :][:size] + query
    head = _HEAD.pack(version, _checksum(version, body) if checksum is None else checksum)
    return base64.urlsafe_b64encode(head + body).decode()


def with_version(version):
    """Return a good cursor with the number of another version, in which it would be readable."""
    good = base64.urlsafe_b64decode(encoded(FIRST, FIRST.query, 5, b"abcd"))
    return base64.urlsafe_b64encode(bytes([version]) + good[1:]).decode()


def short(version):
    """Return a cursor shorter than its fixed part, with the right checksum."""
    body = bytes(_BODY.size - 1)
    head = _HEAD.pack(version, _checksum(version, body))
    return base64.urlsafe_b64encode(head + body).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "PTabc==",
        GOOD[:-4],
        GOOD[:16],
        GOOD[4:],
        GOOD + "AAAA",
        GOOD + " ",
        GOOD + "\n",
        GOOD[:30] + ("-" if GOOD[30] == "A" else "A") + GOOD[31:],
        "A" * 200_000,
        made(2, b""),
        made(2, b"Page=1#x"),
        made(2, b"Page=1\r\nX: y"),
        made(2, b"Page=\xff"),
        made(2, b"Page=1", checksum=b"1234"),
        made(1, b"Page=\xff"),
        made(1, b"Page=1", checksum=b"1234"),
        with_version(1),
        with_version(3),
        short(2),
        made(2, b"Label= " * 9000),
        5,
        GOOD.encode(),
        [],
        True,
    ],
)
def test_not_a_cursor(cursor):
    """Anything else, a cut or a changed cursor is refused, and no exception shows it."""
    with pytest.raises(InvalidRequestError, match="resume is not a cursor") as caught:
        decoded(FIRST, cursor)

    assert caught.value.__context__ is None


@pytest.mark.parametrize("version", [0, 4, 255])
def test_other_versions(version):
    """A cursor of another version is refused, and the message names the version."""
    with pytest.raises(InvalidRequestError, match=f"version {version}; this package reads 1 to 3"):
        decoded(FIRST, made(version, b"Page=1"))


@pytest.mark.parametrize(
    ("cursor", "query", "offset"),
    [
        (
            "Af9n2SXxlBAScOrVcQAAAAdQYWdlU2l6ZT01MCZQYWdlPTEmTGFiZWw9ICZQYWdlVG9rZW49UFQlMkZhJTJiYj09",
            "PageSize=50&Page=1&Label=Ann%20Lee%20%2B15005550006%20%26%20co%2F%C3%BC&PageToken=PT%2Fa%2bb==",
            7,
        ),
        ("Ab016lbxlBAScOrVcQAAAABMYWJlbD0gJlBhZ2VTaXplPTUw", FIRST.query, 0),
    ],
)
def test_version_1(cursor, query, offset):
    """A cursor of version 1 is still read; it does not know the record before."""
    goes_on = decoded(FIRST, cursor)

    assert goes_on == Position(attrs.evolve(FIRST, query=query), offset)
    assert goes_on.matches(CP)
    assert goes_on.matches(None)


MIXED, MIXED_CP = "CF" + "aB" * 16, "CP" + "bC" * 16
LABELLED = {"label": LABEL, "page_size": 50}


@pytest.mark.parametrize(
    ("filters", "query", "offset", "before", "cursor"),
    [
        (LABELLED, None, 0, None, "AuueuAW3FdXLY4L-xgAAAAAAAAAATGFiZWw9ICZQYWdlU2l6ZT01MA=="),
        (
            LABELLED,
            "PageSize=50&Page=1&Label=Ann+Lee+%2b15005550006+%26+co/%c3%bc&PageToken=" + TOKEN,
            7,
            MIXED_CP,
            "AoTJngK3FdXLY4L-xgAAAAdUR1vgUGFnZVNpemU9NTAmUGFnZT0xJkxhYmVsPSAmUGFnZVRva2VuPVBUJTJGYSUyYmI9PSZ4PWErYg==",
        ),
        (
            {"participant_sid": MIXED_CP, "events": "hold"},
            None,
            999,
            MIXED_CP,
            "AqBtSj-TM7HVpMw2rQAAA-dUR1vgUGFydGljaXBhbnRTaWQ9Q1BiQ2JDYkNiQ2JDYkNiQ2JDYkNiQ2JDYkNiQ2JDYkNiQyZFdmVudHM9aG9sZCZQYWdlU2l6ZT0xMDAw",
        ),
        ({}, None, 3, "CP1", "Ao2uzeG3FdXLY4I2rQAAAAO-RsSHUGFnZVNpemU9MTAwMA=="),
    ],
)
def test_recorded_cursors(filters, query, offset, before, cursor):
    """The bytes of a cursor are those of the releases before, which users have stored."""
    first = first_page(MIXED, **filters)

    assert encoded(first, query or first.query, offset, before) == cursor
    assert decoded(first, cursor).offset == offset


def test_version_1_with_sids_in_mixed_case():
    """A cursor of version 1 resumes with exactly the SIDs that it was made for."""
    cursor = (
        "AZV9n6j4R9NlM0uphAAAAAJQYXJ0aWNpcGFudFNpZD1DUGJDYkNiQ2JDYkNiQ2JDYkNiQ2JDYkNiQ2JDYkNiQ2JD"
        "JlBhZ2VTaXplPTEwMDA="
    )
    first = first_page("CF" + "aB" * 16, participant_sid="CP" + "bC" * 16)

    assert place_of(first, cursor) == (first.query, 2)


# --- The record before ---


def test_a_cursor_verifies_the_record_before():
    """A cursor tells the record before its position from any other, and from none."""
    goes_on = decoded(FIRST, encoded(FIRST, "Page=1&PageSize=50", 3, CP))

    assert (goes_on.request.query, goes_on.offset) == ("Page=1&PageSize=50", 3)
    assert goes_on.matches(CP)
    assert goes_on.matches("CP" + "B" * 32)
    assert not goes_on.matches("CP" + "b" * 31 + "c")
    assert not goes_on.matches("")
    assert not goes_on.matches(None)


@pytest.mark.parametrize("page_size", [None, 50])
def test_a_cursor_without_a_record_before_verifies_all(page_size):
    """If the cursor knows no record before its position, any is accepted."""
    goes_on = decoded(FIRST, encoded(FIRST, FIRST.query, 3, None), page_size=page_size)

    assert goes_on.before is None
    assert goes_on.matches(CP)
    assert goes_on.matches(None)


@pytest.mark.parametrize("before", [None, CP, "\ud800"])
def test_a_resumed_list_has_the_same_cursor(before):
    """Before a record is delivered, the cursor of a resumed list is the one it was resumed with."""
    cursor = encoded(FIRST, f"Page=1&Label=Ann&PageToken={TOKEN}", 3, before)

    goes_on = decoded(FIRST, cursor)
    assert encoded(FIRST, goes_on.request.query, goes_on.offset, goes_on.before) == cursor


# --- SIDs in either case ---


@pytest.mark.parametrize("made_for", [str.lower, str.upper])
@pytest.mark.parametrize("label", [None, LABEL])
def test_sids_in_either_case(made_for, label):
    """A cursor resumes with its conference's SID in either case."""

    def first(case, digits="aB" * 16):
        sid, participant = ("CF" + case(digits), "CP" + case(digits))
        return first_page(sid, participant_sid=participant, label=label)

    cursor = encoded(first(made_for), first(made_for).query, 4, CP)

    for case in (str.lower, str.upper, str):
        assert decoded(first(case), cursor).offset == 4
        assert decoded(first(case), cursor).request.path == first(case).path
        assert place_of(first(case), cursor, page_size=1000)[1] == 4
    with pytest.raises(InvalidRequestError, match="another conference"):
        decoded(first(str, "aC" * 16), cursor)


# --- Long ones ---


@pytest.mark.parametrize("size", [13_000, 60_000, LONGEST_QUERY - 200])
@pytest.mark.parametrize("label", ["Ann", "é" * 9000, "a/b" * 20_000])
def test_long_page_tokens(size, label):
    """Whatever the length of page token and label, the cursor can be resumed."""
    first = first_page(SID, label=label, page_size=50)
    query = f"PageSize=50&Page=1&Label=Ann&PageToken={'t' * size}"
    cursor = encoded(first, query, 3, CP)

    goes_on = decoded(first, cursor)
    assert goes_on.request.query == query.replace("Label=Ann", first.query.partition("&")[0])
    assert encoded(first, goes_on.request.query, 3, CP) == cursor


@pytest.mark.parametrize("events", ["hold", "é" * 90_000])
def test_the_longest_cursor(events):
    """The cursor of the longest query is accepted, and a longer one is not."""
    first = first_page(SID, events=events, page_size=1)
    longest = max("t" * LONGEST_QUERY, first.query, key=len)
    cursor = encoded(first, longest, 3)

    assert place_of(first, cursor) == (longest, 3)
    assert place_of(first_page(SID, events=events), cursor) == (longest, 3)
    padded = cursor + "A" * (
        CursorCodec(first, PARTICIPANTS.cursor_scope).longest_cursor() + 1 - len(cursor)
    )
    with pytest.raises(InvalidRequestError, match="resume is not a cursor"):
        decoded(first, padded)


SLICED = CursorCodec(FIRST, PARTICIPANTS.cursor_scope, longest_state=100)


@pytest.mark.parametrize("state", [b"", b"\0 and\xff", bytes(100)], ids=len)
def test_the_state_of_a_list_in_slices(state):
    """A cursor of a list in slices also holds the state of its page, byte for byte."""
    position = Position(attrs.evolve(FIRST, state=state), 3, b"abcd")
    cursor = SLICED.encode(position)
    assert SLICED.decode(cursor) == position
    with pytest.raises(InvalidRequestError, match="a list in slices"):
        decoded(FIRST, cursor)
    longest = attrs.evolve(position.request, query="t" * (LONGEST_QUERY + len(FIRST.query)))
    cursor = SLICED.encode(Position(longest))
    assert (len(cursor) == SLICED.longest_cursor()) == (len(state) == 100)
    assert SLICED.decode(cursor).request == longest


@pytest.mark.parametrize("rest", [b"", b"\0", b"\0\3ab", b"\0\0"])
def test_a_state_that_was_cut(rest):
    """A cursor of a list in slices without its whole state or its query is refused."""
    with pytest.raises(InvalidRequestError, match="resume is not a cursor"):
        SLICED.decode(made(3, rest))


@pytest.mark.parametrize("version", [1, 2])
def test_cursors_of_a_list_without_slices(version):
    """A cursor of a list without slices is refused by one in slices."""
    with pytest.raises(InvalidRequestError, match="a list without slices"):
        SLICED.decode(made(version, b"Page=1"))


@pytest.mark.parametrize("size", [13_000, 60_000])
async def test_resume_at_a_long_page_token(size):
    """A list with long page tokens can be resumed at every record."""
    first = http(page_before(f"PageToken={'t' * size}", {"participant_sid": "CP0"}))
    last = http(last_page({"participant_sid": "CP1"}, {"participant_sid": "CP2"}))
    for count in range(4):
        async with serving(first, last) as session, session.participants(SID) as stream:
            found = await taken(stream, count)
        async with serving(*([] if count else [first]), last) as session:
            found += await taken(session.participants(SID, resume=stream.cursor))
        assert found == ["CP0", "CP1", "CP2"]


# --- With another page size ---


@pytest.mark.parametrize(
    ("query", "offset", "page_size", "expected"),
    [
        (FIRST.query, 7, None, FIRST.query),  # the cursor's own
        (FIRST.query, 7, 50, FIRST.query),
        (FIRST.query, 0, 1, FIRST.query.replace("=50", "=1")),
        (FIRST.query, 7, 7, FIRST.query.replace("=50", "=7")),
        (FIRST.query, 50, 1000, FIRST.query.replace("=50", "=1000")),
        ("PageSize=50&Page=1&PageToken=PT1", 7, 50, "PageSize=50&Page=1&PageToken=PT1"),
        ("PageSize=50&Page=1&PageToken=PT1", 7, None, "PageSize=50&Page=1&PageToken=PT1"),
    ],
)
def test_page_sizes_that_are_exact(query, offset, page_size, expected):
    """Another page size is used if the index in it is known: on the list's first page."""
    cursor = encoded(FIRST, query, offset, CP)
    first = first_page(SID, label=LABEL, page_size=page_size)

    goes_on = decoded(first, cursor, page_size=page_size)
    assert (goes_on.request.query, goes_on.offset) == (expected, offset)
    assert goes_on.matches(CP)
    assert not goes_on.matches(SID)


@pytest.mark.parametrize(
    ("query", "offset", "page_size"),
    [
        (FIRST.query, 7, 6),  # it lies on the second page of that size
        ("PageSize=50&Page=1&PageToken=PT1", 0, 49),
        ("PageSize=50&Page=1&PageToken=PT1", 7, 1000),
        (FIRST.query + "&Page=1", 0, 20),
        (FIRST.query + "&PageToken=", 0, 20),
        ("Page=1&PageToken=PT1", 0, 50),  # of a size that nothing says
    ],
)
def test_page_sizes_that_are_not_exact(query, offset, page_size):
    """A page size in which the index is unknown is refused, with a remedy."""
    cursor = encoded(FIRST, query, offset, CP)
    first = first_page(SID, label=LABEL, page_size=page_size)

    with pytest.raises(InvalidRequestError, match="Leave page_size out to go on") as caught:
        decoded(first, cursor, page_size=page_size)
    assert place_of(first, cursor)[1] == offset
    assert "Ann" not in str(caught.value)


@pytest.mark.parametrize("count", range(13))
@pytest.mark.parametrize("page_size", [1, 2, 5, 7, 1000])
async def test_resume_with_a_page_size(fake, session, count, page_size):
    """A list is resumed in pages of the caller's size, or that is refused."""
    sid = fake.add_conference(participants=12)
    everyone = sids(fake.records(sid))
    async with session.participants(sid, page_size=5) as stream:
        first = await taken(stream, count)
    fake.requests.clear()

    if page_size == 5 or count < min(5, page_size + 1):
        rest = session.participants(sid, resume=stream.cursor, page_size=page_size)
        assert first + await taken(rest) == everyone
        assert {seen.query["PageSize"] for seen in fake.requests} == {str(page_size)}
    else:
        with pytest.raises(InvalidRequestError, match="page_size cannot change"):
            session.participants(sid, resume=stream.cursor, page_size=page_size)
        assert fake.requests == []


def test_a_cursor_with_a_label_that_the_list_lacks():
    """A cursor with a label cut out is refused by a list without a label."""
    bare = first_page(SID)

    with pytest.raises(InvalidRequestError, match="another label"):
        decoded(bare, made(2, b"Label= &Page=1", first=bare))


# --- Streams that go on ---


def sids(records):
    return [each["participant_sid"] for each in records]


@asynccontextmanager
async def serving(*replies, **options):
    """Yield a session whose server answers the n-th request with the n-th reply."""
    async with raw(*replies) as server:
        async with InsightsSession(ANYONE, base_url=server.base_url, **options) as session:
            yield session


async def read_on(stream, by_page, found):
    """Append the SIDs of the next records to `found`, until the stream ends or fails."""
    if by_page:
        async for page in stream.pages():
            found += [each.participant_sid for each in page.records]
    else:
        async for record in stream:
            found.append(record.participant_sid)


async def taken(stream, count=None):
    """Return the SIDs of the next records, at most `count`."""
    found = []
    while count is None or len(found) < count:
        try:
            found.append((await anext(stream)).participant_sid)
        except StopAsyncIteration:
            break
    return found


@pytest.mark.parametrize("count", range(14))
async def test_resume_at_every_record(fake, session, count):
    """A list that stopped after any record, on any page, is resumed with the next one."""
    sid = fake.add_conference(participants=12)
    everyone = sids(fake.records(sid))
    async with session.participants(sid, page_size=5) as stream:
        first = await taken(stream, count)
        before = stream.cursor

    assert stream.cursor == before
    async with session.participants(sid, resume=before) as rest:
        assert rest.cursor == before
        assert first + await taken(rest) == everyone
    assert not await session.participants(sid, resume=rest.cursor)


def pages_of(count, size):
    """Return the replies with the pages of a list, and the SIDs in them."""
    records = [{"participant_sid": f"CP{index}"} for index in range(count)]
    starts = [*range(0, count, size)]
    replies = [
        http(last_page(*records[start:]))
        if start == starts[-1]
        else http(page_before(f"Page={start}", *records[start : start + size]))
        for start in starts
    ]
    return replies, sids(records)


def page_before(query, *records):
    """Return the body of a page whose next link has this query."""
    meta = {"next_page_url": f"https://insights.twilio.com{PATH}?{query}"}
    return json.dumps({"participants": records, "meta": meta}).encode()


@pytest.mark.parametrize("failing", range(4))
@pytest.mark.parametrize("by_page", [False, True])
async def test_resume_after_every_failing_page(failing, by_page):
    """Whichever page fails, the error's cursor resumes at it; no record is lost or repeated."""
    pages, everyone = pages_of(20, 5)
    pages.insert(failing, http(b"{}", "404 Not Found"))
    found = []
    async with serving(*pages) as session:
        stream = session.participants(SID)
        with pytest.raises(NotFoundError) as caught:
            await read_on(stream, by_page, found)
        assert found == everyone[: 5 * failing]
        assert caught.value.cursor == stream.cursor
        rest = session.participants(SID, resume=caught.value.cursor)
        assert found + await taken(rest) == everyone
        await stream.aclose()


@pytest.mark.parametrize("failing", [1, 2, 3])
@pytest.mark.parametrize("before", [0, 3])
async def test_resume_a_list_that_was_awaited(failing, before):
    """An awaited list that failed delivered nothing, so its cursor names all of it."""
    pages, everyone = pages_of(20, 5)
    pages[failing] = http(b"{}", "404 Not Found")
    async with serving(*pages) as session:
        stream = session.participants(SID)
        found = await taken(stream, before)
        for _ in range(2):  # the second call raises the same
            with pytest.raises(NotFoundError) as caught:
                await stream
            assert caught.value.cursor == stream.cursor
        await stream.aclose()
        with pytest.raises(InvalidRequestError, match="closed before its end") as closed:
            await stream
        assert closed.value.cursor == stream.cursor
    async with serving(*pages_of(20, 5)[0]) as session:
        rest = await taken(session.participants(SID, resume=stream.cursor))
    assert found + rest == everyone


async def test_resume_a_list_whose_await_was_cancelled(fake, session):
    """A timeout around an awaited list loses no record, and never gives a short list."""
    sid = fake.add_conference(participants=3)
    stream = session.participants(sid, page_size=1)
    asking = asyncio.ensure_future(stream.all())
    while len(fake.requests) < 2:  # noqa: ASYNC110 - turns of the loop
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    with pytest.raises(InvalidRequestError, match="cursor") as caught:
        await anext(stream)
    assert caught.value.cursor == stream.cursor
    assert len(await session.participants(sid, resume=stream.cursor)) == 3


@pytest.mark.parametrize("bad", range(7))
@pytest.mark.parametrize("by_page", [False, True])
async def test_resume_at_every_bad_record(fake, session, bad, by_page):
    """The error of a bad record has a cursor that names this record."""
    records = [{"participant_sid": f"CP{index}"} for index in range(7)]
    broken = [*records]
    broken[bad] = {**records[bad], "duration_seconds": "12"}
    sid = fake.add_conference(broken)
    found = []
    stream = session.participants(sid, page_size=3)
    with pytest.raises(ResponseError, match=rf"participants\[{bad % 3}\]") as caught:
        await read_on(stream, by_page, found)

    assert found == sids(records[:bad])
    assert caught.value.cursor == stream.cursor
    await stream.aclose()
    assert stream.cursor == caught.value.cursor
    fake.add_conference(records, conference_sid=sid)  # mended
    assert found + await taken(session.participants(sid, resume=stream.cursor)) == sids(records)


@pytest.mark.parametrize("bad", range(3))
async def test_an_awaited_list_skips_no_good_record(fake, session, bad):
    """If no record was delivered, no cursor skips the good ones before a bad one."""
    records = [{"participant_sid": f"CP{index}"} for index in range(3)]
    records[bad] |= {"duration_seconds": "12"}
    sid = fake.add_conference(records)
    stream = session.participants(sid)
    for _ in range(2):
        with pytest.raises(ResponseError) as caught:
            await stream
        assert caught.value.cursor == stream.cursor
        assert (caught.value.cursor_after is None) == (bad > 0)
        with pytest.raises(ResponseError) as caught:
            await session.fan_out([sid], on_error="raise")
        assert (caught.value.cursor, caught.value.cursor_after) == (None, None)
    assert place_of(first_page(sid), stream.cursor)[1] == 0
    await stream.aclose()


async def test_resume_by_page(fake, session):
    """Between pages the cursor names the next page; a resumed page has its remaining records."""
    sid = fake.add_conference(participants=10)
    everyone = sids(fake.records(sid))
    stream = session.participants(sid, page_size=4)
    await taken(stream, 1)

    pages = stream.pages()
    assert len((await anext(pages)).records) == 3
    halfway = stream.cursor
    rest = session.participants(sid, resume=halfway)
    assert [[each.participant_sid for each in page.records] async for page in rest.pages()] == [
        everyone[4:8],
        everyone[8:],
    ]
    within = session.participants(sid, resume=halfway)
    await taken(within, 3)
    last = session.participants(sid, resume=within.cursor).pages()
    assert [[each.participant_sid for each in page.records] async for page in last] == [
        everyone[7:8],
        everyone[8:],
    ]
    at_the_end = session.participants(sid, resume=rest.cursor)
    assert [page async for page in at_the_end.pages()] == []
    await stream.aclose()
    await within.aclose()


@pytest.mark.parametrize("limit", [0, 1, 4, 5, 6, 12])
async def test_resume_beyond_a_limit(fake, session, limit):
    """A list that `limit` ended is resumed there, with a limit of its own."""
    sid = fake.add_conference(participants=12)
    everyone = sids(fake.records(sid))
    async with session.participants(sid, page_size=5, limit=limit) as stream:
        first = await taken(stream)

    rest = session.participants(sid, resume=stream.cursor, limit=5)
    assert first + await taken(rest) == everyone[: limit + 5]
    last = session.participants(sid, resume=rest.cursor)
    assert await taken(last) == everyone[limit + 5 :]


async def test_resume_with_filters(fake, session):
    """A filtered list is resumed with the same filters, and its cursors do not show the label."""
    records = [{"participant_sid": f"CP{each}", "label": LABEL} for each in range(5)]
    sid = fake.add_conference([*records, {"participant_sid": "CP9", "label": "else"}])
    async with session.participants(sid, label=LABEL, page_size=2) as stream:
        first = await taken(stream, 3)

    assert b"Ann" not in base64.urlsafe_b64decode(stream.cursor)
    rest = session.participants(sid, label=LABEL, resume=stream.cursor)
    assert first + await taken(rest) == sids(records)
    sent = len(fake.requests)
    with pytest.raises(InvalidRequestError, match="another label"):
        session.participants(sid, resume=stream.cursor)
    with pytest.raises(InvalidRequestError, match="another conference"):
        session.participants(SID, label=LABEL, resume=stream.cursor)
    assert len(fake.requests) == sent


@pytest.mark.parametrize("count", [1, 3, 5, 7])
@pytest.mark.parametrize("how", ["shorter", "in another order"])
async def test_a_page_that_changed(fake, session, how, count):
    """If the page to resume on has changed, that is an error, not a silent gap."""
    sid = fake.add_conference(participants=8)
    records = fake.records(sid)
    async with session.participants(sid, page_size=4) as stream:
        await taken(stream, count)

    shorter = records[: count - 1]
    changed = shorter if how == "shorter" else [*reversed(records)]
    words = "shorter than it was" if how == "shorter" else "another record"
    fake.add_conference(changed, conference_sid=sid)
    rest = session.participants(sid, resume=stream.cursor)
    for _ in range(2):
        with pytest.raises(PaginationError, match=f"list changed.*{words}") as caught:
            await anext(rest)
        assert caught.value.cursor == stream.cursor
    await rest.aclose()
    fake.add_conference(records, conference_sid=sid)
    assert len(await session.participants(sid, resume=stream.cursor)) == 8 - count


async def test_a_page_token_that_is_refused(fake, session):
    """Only the page token of a cursor expires. Any other page that is refused is a bad request."""
    sid = fake.add_conference(participants=9)
    async with session.participants(sid, page_size=2) as stream:
        await anext(stream)
        on_first_page = stream.cursor
        await anext(stream)
        await anext(stream)
        on_second_page = stream.cursor

    for cursor, error in [
        (on_first_page, BadRequestError),
        (on_second_page, CursorExpiredError),
    ]:
        fake.fail_next(400)
        with pytest.raises(BadRequestError) as raised:
            await session.participants(sid, resume=cursor)
        assert type(raised.value) is error
    async with session.participants(sid, resume=on_second_page) as stream:
        await anext(stream)
        fake.fail_next(400)  # a later page
        with pytest.raises(BadRequestError) as raised:
            while True:
                await anext(stream)
    assert type(raised.value) is BadRequestError


async def test_a_loop_is_found_after_resuming():
    """A next link to the list's first page is a loop, also if the list was resumed."""
    links = (("Page=1", "CP1"), *[("Page=2", "CP2")] * 2, ("PageSize=1000", "CP3"))
    pages = (http(page_before(link, {"participant_sid": sid})) for link, sid in links)
    async with serving(*pages) as session:  # the second page is requested ahead
        async with session.participants(SID) as stream:
            await taken(stream, 1)
        async with session.participants(SID, resume=stream.cursor) as rest:
            await taken(rest, 2)
            with pytest.raises(PaginationError, match="pagination is in a loop"):
                await taken(rest)


# --- Errors carry it ---


@pytest.mark.parametrize(
    ("reply", "options", "error"),
    [
        (http(b"", "401 Unauthorized"), {}, AuthenticationError),
        (http(b"", "302 Found", "Location: http://x/"), {}, APIStatusError),
        (http(b"", "429 Too Many", "Retry-After: 900"), {}, RateLimitError),
        (http(b"", "503 Unavailable"), {}, ServerError),
        (None, {}, TransportError),
        (b"nonsense\r\n\r\n", {}, TransportError),
        (..., {"deadline": 0.7}, DeadlineExceededError),
        (..., {}, RequestTimeoutError),
        (http(b"{}"), {}, ResponseError),
        (http(b"{"), {}, ResponseError),
        (http(page_before("Page=2").replace(b"Participants", b"x")), {}, PaginationError),
    ],
)
async def test_every_error_carries_the_cursor(reply, options, error):
    """Errors of all kinds carry the cursor, also when copied or pickled."""
    (first, last), everyone = pages_of(4, 2)
    # aiohttp itself asks once more where a connection breaks.
    one = RetryPolicy(max_attempts=1)
    async with serving(first, reply, reply, retry=one, timeout=1) as session:
        stream = session.participants(SID, **options)
        found = await taken(stream, 2)
        for _ in range(2):
            with pytest.raises(error) as caught:
                await anext(stream)
            assert caught.type is error
            assert caught.value.cursor == stream.cursor
        await stream.aclose()
    for kept in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert kept.cursor == stream.cursor
        assert kept.conference_sid == SID
    async with serving(last) as session:
        assert found + await taken(session.participants(SID, resume=stream.cursor)) == everyone


async def test_misuse_and_closing_carry_the_cursor(fake):
    """After two tasks asked at once, or the session was closed, the cursor can be resumed."""
    sid = fake.add_conference(participants=3)
    fake.latency = 0.01
    async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
        stream = session.participants(sid, page_size=1)
        found = await taken(stream, 1)
        asking = asyncio.ensure_future(taken(stream, 1))
        await asyncio.sleep(0)
        with pytest.raises(InvalidRequestError, match="at once") as misuse:
            await anext(stream)
        found += await asking
        asking = asyncio.ensure_future(taken(stream, 1))
        await asyncio.sleep(0)
        await session.aclose()
        with pytest.raises(SessionClosedError) as closed:
            await asking
        with pytest.raises(SessionClosedError) as again:
            await anext(stream)
    async with InsightsSession(fake.credentials, base_url=fake.base_url) as other:
        everyone = sids(fake.records(sid))
        assert misuse.value.cursor != closed.value.cursor == again.value.cursor == stream.cursor
        assert found + await taken(other.participants(sid, resume=stream.cursor)) == everyone
        assert await taken(other.participants(sid, resume=misuse.value.cursor)) == everyone[1:]
    await stream.aclose()


async def test_an_error_before_anything_was_asked_for_has_no_cursor(session):
    """An error raised before there is a list carries no cursor."""
    with pytest.raises(InvalidRequestError) as caught:
        session.participants("CF1")

    assert caught.value.cursor is None


async def test_a_cursor_outlives_the_session():
    """Another session can resume from the string alone, also with the SID in capitals."""
    page = http(last_page({"participant_sid": "CP1"}, {"participant_sid": "CP2"}))
    async with serving(page) as session, session.participants(SID) as stream:
        assert await taken(stream, 1) == ["CP1"]
    async with serving(page) as session:
        rest = session.participants("CF" + "A" * 32, resume=stream.cursor)
        assert await taken(rest) == ["CP2"]
