"""Properties of every list and every order of events.

Hypothesis makes the examples; see profiles.py. No test opens a socket or waits: the clock of the
loop jumps.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import re
import selectors
import threading

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aioparticipants import (
    BadRequestError,
    InsightsError,
    InvalidRequestError,
    PaginationError,
    RateLimitError,
    ResponseError,
    SessionClosedError,
    TransportError,
)
from aioparticipants._cursors import CursorCodec, Position
from aioparticipants._messages import Request
from aioparticipants._paging import End, Failed, Pager
from aioparticipants._resources import CONFERENCES, PARTICIPANTS
from aioparticipants._structuring import (
    participant,
)
from aioparticipants._tasks import SessionTasks

from .bodies import all_of, read
from .lists import list_of
from .profiles import examples
from .records import ANYTHING

SID = "CF" + "a" * 32
PATH = f"/v1/Conferences/{SID}/Participants"
HOST = "https://insights.twilio.com"
FIRST = Request(path=PATH, query="Label=a%2Bb&PageSize=50", conference_sid=SID)
CODEC = CursorCodec(FIRST, PARTICIPANTS.cursor_scope)


@attrs.frozen
class Kind:
    """A kind of list: its resource, and the request for its first page."""

    resource: object
    first: Request

    @property
    def codec(self):
        return CursorCodec(self.first, self.resource.cursor_scope)


OF_PARTICIPANTS = Kind(PARTICIPANTS, FIRST)
OF_CONFERENCES = Kind(
    CONFERENCES, Request(path="/v1/Conferences", query=FIRST.query, conference_sid=None)
)
kinds = pytest.mark.parametrize(
    "kind", [OF_PARTICIPANTS, OF_CONFERENCES], ids=["participants", "conferences"]
)


# --- A loop whose time passes at once ---


class _Jumping(selectors.DefaultSelector):
    """Advances the clock instead of sleeping; raises instead of waiting for ever."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        events = super().select(0)
        if not events and timeout is None:
            message = "the loop waits for something that will never come"
            raise AssertionError(message)
        if not events:
            self.now += max(timeout, 0.0)
        return events


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps: a wait takes no time, and an endless one fails at once."""

    def __init__(self):
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.now


def run(work):
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(work)


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


# --- Page graphs ---

END, ABSENT = "end", "absent"
HOSTILE = [
    f"https://evil.example@insights.twilio.com{PATH}?Page=1",
    f"{HOST}/v1/Conferences/CF{'b' * 32}/Participants?Page=1",
    f"{HOST}{PATH}",
    f"{HOST}{PATH}?Page=1#x",
    f"ftp://insights.twilio.com{PATH}?Page=1",
    f"{HOST}{PATH}?Page=1\r\nX: 1",
    f"https://[::1{PATH}?Page=1",
    " ",
]

#: Kinds of bad records: a wrong type; malformed JSON; malformed, and its end cannot be found.
MISFIT, MALFORMED, TORN = "misfit", "malformed", "torn"


def text_of(record):
    """Return the JSON text of a record, good or bad."""
    if not isinstance(record, tuple):
        return json.dumps(record)
    kind, label = record
    return {
        MISFIT: json.dumps({"label": label, "duration_seconds": "7"}),
        MALFORMED: f'{{"label": "{label}", "duration_seconds": NaN}}',
        TORN: f'{{"label": "{label}"]',
    }[kind]


def body_of(records, meta, *, meta_first=True, key="participants"):
    """Return the body of a page."""
    members = [f'"meta": {json.dumps(meta)}', f'"{key}": {array_of(records)}']
    return "{" + ", ".join(members if meta_first else reversed(members)) + "}"


def array_of(records):
    return f"[{', '.join(map(text_of, records))}]"


@attrs.frozen
class Node:
    """A page of a list: its records and its next link."""

    records: list
    """Each is an object, or the kind and the label of a bad one."""
    link: object
    """A page's number, or its query in another spelling; END; ABSENT; or a hostile link."""


def query_of(target):
    if isinstance(target, str):
        return target
    return FIRST.query if target == 0 else f"PageToken=PT{target}%2F==&Label=a%2Bb&PageSize=50"


def number_of(query):
    found = re.search("PageToken=PT([0-9]+)", query)
    return int(found[1]) if found else 0


def link_of(target, path=PATH):
    if target in {END, ABSENT}:
        return None
    path = path if target == 1 else path.lower()  # as SIDs are compared without regard to case
    return target if target in HOSTILE else f"{HOST}{path}?{query_of(target)}"


@st.composite
def graphs(draw, *, odd_links=True, bad_records=True, repeating=True):
    """Make a list; most links lead to the next page, the others anywhere."""
    size = draw(st.integers(1, 5))
    repeating = repeating and draw(st.booleans())
    bad = [MISFIT, MALFORMED, TORN] if bad_records and draw(st.booleans()) else []
    pages = []
    for number in range(size):
        ahead = number + 1 if number + 1 < size else END
        anywhere = [
            *range(size + 1),  # the last of these is dangling
            f"PageToken=PT{draw(st.integers(0, size))}&Page=x",  # a page by another query
            draw(st.sampled_from(HOSTILE)),
            END,
            ABSENT,
        ]
        odd = odd_links and draw(st.integers(0, 3)) == 3
        link = draw(st.sampled_from(anywhere)) if odd else ahead
        labels = draw(st.lists(st.integers(0, 3), max_size=8))[:4]
        records = []
        for each in labels:
            label = f"{each}" if repeating else f"{number}.{each}"
            kind = draw(st.sampled_from([None, None, None, *bad])) if bad else None
            records.append({"label": label} if kind is None else (kind, label))
        pages.append(Node(records, link))
    return pages


@attrs.define
class Found:
    """The expected result of a list."""

    labels: list = attrs.field(factory=list)
    ending: object = None
    """END, or the class of the error."""
    asked: list = attrs.field(factory=list)
    problems: list = attrs.field(factory=list)
    """The query and index of each record that was skipped."""
    after: tuple | None = None
    """The query and index after the bad record at its end, if the list can be resumed there."""


def reference(pages, query=FIRST.query, offset=0, limit=None, *, keep=False):
    """Return the expected result of a list."""
    seen, latest = {FIRST.query, query}, None
    found, left = Found(ending=END if limit == 0 else None), math.inf if limit is None else limit
    while found.ending is None:
        found.asked.append(query)
        found.ending = refusal(pages, query, latest)
        if found.ending is not None:
            break
        node = pages[number_of(query)]
        latest, following = array_of(node.records), following_of(node, seen)
        stop = min(len(node.records), offset + left)
        bad_at = take_records(found, node.records[:stop], query, offset, keep=keep)
        if bad_at is not None:
            # The next page is requested ahead, unless a limit makes the stream scan this one
            # first, and the scan fails.
            torn = any(is_bad(each, TORN) for each in node.records[:stop])
            leads_on = following not in {END, PaginationError} and stop < offset + left
            found.asked += [following] if leads_on and not (torn and limit is not None) else []
            found.ending = ResponseError
            if not is_bad(node.records[bad_at], TORN):
                found.after = after_record(node, following, query, bad_at)
            break
        left -= stop - offset
        found.ending = END if not left or following == END else None
        if found.ending is None and following == PaginationError:
            found.ending = PaginationError
        query, offset = following, 0
    return found


def refusal(pages, query, latest):
    """Return the error of a page as a whole; `latest` is the array of the page before."""
    if number_of(query) >= len(pages):
        return BadRequestError
    node = pages[number_of(query)]
    if node.link == ABSENT:
        return ResponseError
    repeats = node.records and array_of(node.records) == latest
    return PaginationError if repeats else None


def take_records(found, records, query, offset, *, keep):
    """Add a page's records; return the index of the bad one that ends the list."""
    for place, record in enumerate(records[offset:], offset):
        if not isinstance(record, tuple):
            found.labels.append(record["label"])
        elif keep and not is_bad(record, TORN):
            found.problems.append((query, place))
        else:
            return place
    return None


def following_of(node, seen):
    """Return the query of the next page, the end or the error; note the query as seen."""
    if node.link == END:
        return END
    if node.link in HOSTILE or query_of(node.link) in seen:
        return PaginationError
    seen.add(query_of(node.link))
    return query_of(node.link)


def after_record(node, following, query, place):
    """Return the query and index after a record, on the next page for the last one."""
    if place + 1 == len(node.records) and following not in {END, PaginationError}:
        return following, 0
    return query, place + 1


def is_bad(record, *kinds):
    return isinstance(record, tuple) and record[0] in kinds


def place_of(cursor, kind=OF_PARTICIPANTS):
    """Return the query of a cursor's page, and the index on it."""
    goes_on = kind.codec.decode(cursor)
    return goes_on.request.query, goes_on.offset


class GraphServer:
    """Serves a graph, and makes streams as a session does."""

    def __init__(self, pages, kind=OF_PARTICIPANTS):
        self.pages = pages
        self.kind = kind
        self.asked = []
        self.tasks = SessionTasks()

    def stream(self, resume=None, limit=None, *, keep=False):
        kind = self.kind
        place = Position(kind.first) if resume is None else kind.codec.decode(resume)
        pager = Pager(kind.first, place.request, resource=kind.resource)

        async def fetch(request, sent):
            self.asked.append(request.query)
            sent.set()
            body = self.body(request)
            await asyncio.sleep(0)
            return pager.page(request, read(body, kind.resource.key), "RQ1")

        stream, _ = list_of(
            place.request,
            place.offset,
            fetch=fetch,
            structure=participant,
            cursor=kind.codec.encode,
            key=kind.resource.key,
            record_sid="label",
            limit=limit,
            keep_invalid=keep,
            before=place.before,
            tasks=self.tasks,
        )
        return stream

    def body(self, request):
        number = number_of(request.query)
        if number >= len(self.pages):
            message = "Page token is invalid"
            raise BadRequestError(message, status=400)
        node = self.pages[number]
        meta = (
            {}
            if node.link == ABSENT
            else {"next_page_url": link_of(node.link, self.kind.first.path)}
        )
        return body_of(node.records, meta, meta_first=number % 2 == 0, key=self.kind.resource.key)


async def drained(stream, by_pages=False, kind=OF_PARTICIPANTS):
    """Return the rest of a stream's labels, and its end, which must repeat."""
    labels, failure, pages = [], None, stream.pages()
    try:
        if by_pages:
            async for page in pages:
                labels += [record.label for record in page.records]
        else:
            async for record in stream:
                labels.append(record.label)
    except InsightsError as error:
        failure = error
    expected = StopAsyncIteration if failure is None else type(failure)
    for items in (stream, pages, stream):
        with pytest.raises(expected) as caught:
            await anext(items)
        assert getattr(caught.value, "cursor", stream.cursor) == stream.cursor
    if failure is None:
        await cannot_start_again(stream, "used up")
        return labels, END
    assert (failure.cursor, failure.conference_sid) == (stream.cursor, kind.first.conference_sid)
    with pytest.raises(expected) as caught:
        await stream
    assert caught.value.cursor == stream.cursor
    return labels, type(failure)


async def cannot_start_again(stream, words):
    """Assert that a stream cannot be started again, and that each error says why, and where."""
    for begin in (stream.all, stream.__aenter__, stream.pages, stream.__aiter__):
        with pytest.raises(InvalidRequestError, match=words) as caught:
            await begin()
        assert caught.value.cursor == stream.cursor


@kinds
@examples(400)
@given(
    pages=graphs(),
    limit=st.none() | st.integers(0, 8),
    by_pages=st.booleans(),
    keep=st.booleans(),
)
def test_every_list_gives_what_the_reference_gives(kind, pages, limit, by_pages, keep):
    """For any pages and links, the records, the end and the requests are as expected."""

    async def check():
        server = GraphServer(pages, kind)
        async with server.stream(limit=limit, keep=keep) as stream:
            labels, ending = await drained(stream, by_pages, kind)
            asked = [*server.asked]  # the end or the error repeats without a request
        found = reference(pages, limit=limit, keep=keep)
        assert (labels, ending, asked) == (found.labels, found.ending, found.asked)
        assert [place_of(each.cursor, kind) for each in stream.problems] == found.problems
        assert [each.index for each in stream.problems] == [place for _, place in found.problems]
        assert server.asked == asked
        with pytest.raises(StopAsyncIteration if ending == END else InvalidRequestError):
            await anext(stream)
        await cannot_start_again(stream, "used up" if ending == END else "closed before its end")

    run(check())


@kinds
@examples(120)
@given(pages=graphs(), limit=st.none() | st.integers(0, 3))
def test_a_list_goes_on_at_every_cursor(kind, pages, limit):
    """The records before and after any cursor are the whole list, each once."""
    whole = reference(pages)
    expected, ending = whole.labels, whole.ending

    async def check():
        server = GraphServer(pages, kind)
        async with server.stream() as stream:
            cursors = [stream.cursor]
            for label in expected:
                assert (await anext(stream)).label == label
                cursors.append(stream.cursor)
            assert await drained(stream, kind=kind) == ([], ending)
            cursors.append(stream.cursor)
        cursors.append(stream.cursor)  # of a closed stream
        places = [*range(len(expected) + 1), len(expected), len(expected)]
        for place, cursor in zip(places, cursors, strict=True):
            query, offset = place_of(cursor, kind)
            async with server.stream(resume=cursor) as rest:
                assert rest.cursor == cursor
                found = await drained(rest, kind=kind)
            again = reference(pages, query, offset)
            assert found == (again.labels, again.ending)
            assert found[0][: len(expected) - place] == expected[place:]
            # A resumed list does not know the pages before. So it notices a loop at most one round
            # later, and does not notice that its first page repeats the page before.
            if ending is not PaginationError:
                assert found == (expected[place:], ending)
            async with server.stream(resume=cursor, limit=limit) as rest:
                found = await drained(rest, kind=kind)
            again = reference(pages, query, offset, limit)
            assert found == (again.labels, again.ending)

    run(check())


@examples(100)
@given(graphs(odd_links=False, bad_records=False, repeating=False), st.data())
def test_a_list_in_any_pieces_is_the_list(pages, data):
    """A list read in pieces, each resumed at the last cursor, is the whole list."""
    expected = reference(pages).labels
    assert reference(pages).ending == END

    async def check():
        server = GraphServer(pages)
        cursor, found = None, []
        while len(found) < len(expected):
            count = data.draw(st.integers(1, 5))
            async with server.stream(resume=cursor, limit=count) as stream:
                labels, end = await drained(stream, data.draw(st.booleans()))
            assert end == END
            assert len(labels) == min(count, len(expected) - len(found))
            found += labels
            cursor = stream.cursor
        assert found == expected

    run(check())


@examples(120)
@given(graphs(odd_links=False, repeating=False), st.none() | st.integers(1, 4))
def test_a_list_goes_on_after_every_bad_record(pages, limit):
    """Resuming at each `cursor_after` gives the records that `keep` gives: all good ones, once."""
    expected = reference(pages, keep=True)

    async def check():
        server = GraphServer(pages)
        cursor, labels, ending = None, [], None
        bad = []
        while ending is None:
            async with server.stream(resume=cursor, limit=limit) as stream:
                found, end = await drained(stream)
                failure = await anext_error(stream)
            labels += found
            if end == ResponseError and failure.cursor_after:
                bad.append(place_of(failure.cursor))
                cursor = failure.cursor_after
                found = reference(pages, *place_of(failure.cursor))
                assert (found.labels, found.after) == ([], place_of(cursor))
            elif end == END and found:
                cursor = stream.cursor
            else:
                ending = end
        assert (labels, ending, bad) == (expected.labels, expected.ending, expected.problems)

        async with server.stream(keep=True) as stream:
            assert await drained(stream) == (labels, ending)
        for problem in stream.problems:
            async with server.stream(resume=problem.cursor) as rest:
                failure = await anext_error(rest)
            assert place_of(failure.cursor) == place_of(problem.cursor)
            assert (problem.conference_sid, problem.fault) == (SID, str(failure))

    run(check())


async def anext_error(stream):
    """Return the error that a stream raises next, None at its end."""
    try:
        await anext(stream)
    except StopAsyncIteration:
        return None
    except InsightsError as error:
        return error.with_traceback(None)
    message = "there is a record"
    raise AssertionError(message)


@pytest.mark.parametrize("after", range(12))
def test_cancelled_after_a_bad_record(after):
    """A stream goes on after a wait after a malformed record is cancelled, in any turn."""
    first = [(MALFORMED, "x"), *({"label": f"{number}"} for number in range(100))]
    server = GraphServer([Node(first, 1), Node([{"label": "100"}], END)])

    async def check():
        async with server.stream() as stream:
            failure = await anext_error(stream)
        async with server.stream(resume=failure.cursor_after, limit=80) as rest:
            waiting = asyncio.create_task(anext(rest))
            await turns(after)
            waiting.cancel()
            await asyncio.wait([waiting])
            found = [] if waiting.cancelled() else [waiting.result().label]
            found += [each.label async for each in rest]
        assert found == [f"{number}" for number in range(80)]

    run(check())


@examples(150)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=8, unique=True),
    st.lists(st.integers(0, 9), max_size=8, unique=True),
    st.integers(0, 8),
)
def test_a_changed_page_is_noticed(before, after, count):
    """A list is resumed only if the record before its cursor is still the same one."""
    offset = min(count, len(before))

    def server(labels):
        return GraphServer([Node([{"label": f"{each}"} for each in labels], END)])

    async def check():
        async with server(before).stream() as stream:
            for _ in range(offset):
                await anext(stream)
        async with server(after).stream(resume=stream.cursor) as rest:
            found = await drained(rest)
        if before[:offset][-1:] == after[:offset][offset - 1 :] or not offset:
            assert found == ([f"{each}" for each in after[offset:]], END)
        else:
            assert found == ([], PaginationError)

    run(check())


META_MEMBERS = ["page", "page_size", "first_page_url", "next_page_url", "url", "key", "new"]


@examples(300)
@given(
    st.dictionaries(
        st.sampled_from(["participants", "meta", "x"]),
        ANYTHING
        | st.lists(ANYTHING, max_size=3)
        | st.dictionaries(
            st.sampled_from(META_MEMBERS),
            st.none() | st.sampled_from([*HOSTILE, f"{HOST}{PATH}?Page=1"]) | ANYTHING,
        ),
    )
)
def test_any_object_is_a_page_or_a_response_error(body):
    """Any body is a page, or an error with the path of a wrong or missing member."""
    page, failure = None, None
    try:
        envelope = read(body)
        page = Pager(FIRST, FIRST, resource=PARTICIPANTS).page(FIRST, envelope, "RQ1")
    except ResponseError as error:
        failure = error
    if failure is not None and failure.transient:
        assert failure.path is None
        if "about another list" in str(failure):
            assert isinstance(body["meta"]["key"], str)
            return
        if "about another conference" in str(failure):
            named = [body["meta"].get(name) for name in ("url", "first_page_url")]
            assert any("/Conferences/CF" in str(each) for each in named)
            return
        assert re.search("NaN|Infinity", json.dumps(body))  # which is no JSON
        return
    if failure is not None:
        assert re.match(r"(participants|meta)(\.|\Z)", failure.path)
        assert (failure.conference_sid, failure.request_id) == (SID, "RQ1")
        return
    assert all_of(page.records) == (body["participants"] or [])
    link = body["meta"]["next_page_url"]
    match page.following:
        case End():
            assert not link
        case Request(query=query):
            assert link == f"{HOST}{PATH}?{query}"
        case Failed(error=error):
            assert isinstance(error, PaginationError)


# --- Any order of events ---

#: The errors with which a page may fail. The last one stands for a bug.
FAULTS = {
    "transient": lambda: TransportError("reset"),
    "busy": lambda: RateLimitError("busy", status=429),
    "final": lambda: BadRequestError("bad", status=400),
    "defect": lambda: ZeroDivisionError("defect"),
}


@attrs.define
class Outcome:
    """The outcome of a call: records, the end, an error, or a cancellation."""

    kind: str
    records: tuple = ()
    error: Exception | None = None


async def outcome_of(call):
    """Await a record, a page or a list, and return the outcome, without frames."""
    try:
        found = await call
    except StopAsyncIteration:
        return Outcome("end")
    except asyncio.CancelledError:
        return Outcome("cancelled")
    except Exception as error:  # noqa: BLE001 - whatever it is, the model judges it
        kind = "error" if isinstance(error, InsightsError) else type(error).__name__
        return Outcome(kind, error=error.with_traceback(None))
    return Outcome("records", records=records_of(found))


async def timed_outcome_of(call, seconds):
    """Do the same within `asyncio.timeout`, which cancels the call."""
    try:
        async with asyncio.timeout(seconds):
            try:
                found = await call
            except StopAsyncIteration:
                return Outcome("end")
            except InsightsError as error:
                return Outcome("error", error=error.with_traceback(None))
            except ZeroDivisionError:
                return Outcome("ZeroDivisionError")
    except TimeoutError:
        return Outcome("cancelled")
    return Outcome("records", records=records_of(found))


def records_of(found):
    if isinstance(found, Number):
        return (found,)
    return (*found,) if isinstance(found, list) else found.records


#: Bad records: how far ahead, and of which kind.
BAD_RECORDS = st.dictionaries(
    st.integers(0, 5) | st.integers(0, 40),
    st.sampled_from([MISFIT, MISFIT, MALFORMED, MALFORMED, TORN]),
    max_size=4,
)


class Number(int):
    """A record, which is its index in the list."""

    @property
    def label(self):
        return f"{self}"


def number(raw, key, index):
    """Structure a record; it does not fit if it has more than a label."""
    if [*raw] != ["label"]:
        message = "does not fit"
        raise ResponseError(message, path=f"{key}[{index}]")
    return Number(raw["label"])


async def cancel_until_done(task):
    """Cancel a task on each turn of the loop, as anyio does."""
    while not task.done():
        task.cancel()
        await turns(1)


class Life(RuleBasedStateMachine):
    """One list of numbers, read by streams, and any events in any order.

    The records are 0, 1, 2 … The model is the number of those that were delivered or passed over:
    the next one to come must be that number, or the next good one after bad ones.
    """

    def __init__(self):
        super().__init__()
        gc.disable()  # a dropped stream must be freed by its reference count alone
        self.loop = Loop()
        self.lost = []
        self.loop.set_exception_handler(lambda _loop, context: self.lost.append(context))
        self.stream = self.pages = None
        self.came = 0

    @initialize(
        # 40 is more than a stream structures without yielding to the loop.
        sizes=st.lists(st.sampled_from([0, 1, 2, 3, 40]), min_size=1, max_size=6),
        limit=st.none() | st.integers(0, 6),
        keep=st.booleans(),
        bad=BAD_RECORDS,
    )
    def begin(self, sizes, limit, keep, bad):
        self.starts = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
        self.faults, self.bad = {}, bad
        self.before, self.after, self.cleanup, self.departs = 0, 1, 0, True
        self.fetching, self.most_fetching = 0, 0
        self.cursor = None
        self.tasks = SessionTasks()
        self.gate = asyncio.Event()
        self.gate.set()
        self.new_stream(limit, keep)

    # The server

    def new_stream(self, limit, keep):
        place = Position(FIRST) if self.cursor is None else CODEC.decode(self.cursor)
        pager = Pager(FIRST, place.request, resource=PARTICIPANTS)
        self.came = self.resumed_at = self.number_at(place.request.query, place.offset)
        self.stop = math.inf if limit is None else self.came + limit
        self.keep, self.closed, self.used_up = keep, False, False
        self.sticky = self.cursor_after = None
        self.failed, self.fetched = {}, set()
        self.served_bad = {}  # the bad records of the pages that this stream has

        # It must not refer to the stream, as a page's task must not keep its stream alive.
        async def fetch(request, sent):
            page = number_of(request.query)
            assert page not in self.fetched  # nothing is fetched twice
            self.fetching += 1
            self.most_fetching = max(self.fetching, self.most_fetching)
            try:
                await turns(self.before)
                if self.departs:
                    sent.set()
                await turns(self.after)
                await self.gate.wait()
                if page in self.faults:
                    fault = FAULTS[self.faults.pop(page)]()
                    if isinstance(fault, InsightsError):
                        self.failed[page] = type(fault)
                    raise fault
                self.fetched.add(page)
                return pager.page(request, read(self.body(page)), "RQ1")
            finally:
                try:
                    await turns(self.cleanup)
                finally:
                    self.fetching -= 1

        self.stream, _ = list_of(
            place.request,
            place.offset,
            fetch=fetch,
            structure=number,
            cursor=CODEC.encode,
            record_sid="label",
            limit=limit,
            keep_invalid=keep,
            before=place.before,
            tasks=self.tasks,
        )
        self.pages = self.stream.pages()
        self.cursor = self.stream.cursor

    def body(self, page):
        numbers = range(self.starts[page], self.starts[page + 1])
        # Delivered records stay good: another test is about pages that change.
        bad = {each: self.bad[each] for each in numbers if each >= self.came and each in self.bad}
        self.served_bad |= bad
        records = [
            (bad[each], f"{each}") if each in bad else {"label": f"{each}"} for each in numbers
        ]
        last = page == len(self.starts) - 2
        return body_of(records, {"next_page_url": None if last else link_of(page + 1)})

    # The model

    def number_at(self, query, offset):
        return self.starts[number_of(query)] + offset

    def position(self, cursor=None):
        return self.number_at(*place_of(cursor or self.stream.cursor))

    def skipped(self, start, stop):
        """Tell whether all records of a range are bad and skipped."""
        return all(
            self.keep and self.served_bad.get(each) in {MISFIT, MALFORMED}
            for each in range(start, stop)
        )

    def expect(self, outcome):
        """Compare the outcome of a call with the model."""
        if outcome.kind == "cancelled":
            return
        if self.used_up:
            assert outcome.kind == "end"
        elif self.closed:
            self.expect_misuse(outcome.error, "closed before its end")
        elif outcome.kind == "records":
            self.expect_records(outcome.records)
        elif outcome.kind == "end":
            self.expect_end()
        elif outcome.kind == "error":
            self.expect_error(outcome.error)
        else:
            assert outcome.kind == "ZeroDivisionError"

    def expect_records(self, records):
        assert self.sticky is None
        for each in records:
            assert each not in self.served_bad
            assert self.skipped(self.came, each)
            self.came = each + 1
        assert self.came <= self.stop
        for page in self.failed:
            assert self.came <= max(self.starts[page], self.resumed_at)

    def expect_end(self):
        last_page = len(self.starts) - 2
        assert self.sticky is None
        end = min(self.stop, self.starts[-1])
        assert self.skipped(self.came, end)
        assert end == self.stop or last_page in self.fetched
        self.used_up = True

    def expect_misuse(self, error, words):
        assert type(error) is InvalidRequestError
        assert words in str(error)
        assert error.cursor == self.stream.cursor

    def expect_error(self, error):
        assert error.cursor == self.stream.cursor
        place = self.position()
        assert self.skipped(self.came, place)
        if self.sticky is not None:
            assert type(error) is self.sticky
        elif self.tasks.closed and type(error) is SessionClosedError:
            pass
        elif place in self.served_bad:
            self.expect_bad_record(error, place)
        else:
            # A later page can fail only if this one did not.
            [(page, kind)] = self.failed.items()
            assert (type(error), place) == (kind, max(self.starts[page], self.resumed_at))
        self.sticky = type(error)

    def expect_bad_record(self, error, place):
        kind, page = self.served_bad[place], max(self.fetched & self.pages_with(place))
        assert (type(error), error.transient) == (ResponseError, False)
        assert error.path == f"participants[{place - self.starts[page]}]"
        assert not self.keep or kind == TORN
        assert (error.cursor_after is None) == (kind == TORN)
        if error.cursor_after is not None:
            assert self.position(error.cursor_after) == place + 1
            self.cursor_after = error.cursor_after

    def pages_with(self, place):
        pages = range(len(self.starts) - 1)
        return {each for each in pages if self.starts[each] <= place < self.starts[each + 1]}

    def run(self, work):
        return self.loop.run_until_complete(work)

    def call(self, mode):
        return anext(self.stream if mode == "record" else self.pages)

    # The events

    usable = precondition(lambda self: self.stream is not None)
    modes = st.sampled_from(["record", "record", "page"])

    @rule(
        before=st.integers(0, 2),
        after=st.integers(0, 4),
        cleanup=st.sampled_from([0, 1, 5]),
        departs=st.sampled_from([True, True, True, False]),
    )
    def change_the_server(self, before, after, cleanup, departs):
        self.before, self.after, self.cleanup, self.departs = before, after, cleanup, departs

    @rule(ahead=st.integers(0, 2), kind=st.sampled_from([*FAULTS]))
    def make_a_page_fail(self, ahead, kind):
        pages = range(len(self.starts) - 1)
        here = max((each for each in pages if self.starts[each] <= self.came), default=0)
        self.faults[here + ahead] = kind

    @rule(bad=BAD_RECORDS)
    def make_records_bad(self, bad):
        self.bad = {self.came + ahead: kind for ahead, kind in bad.items()}

    @usable
    @rule(
        count=st.integers(1, 8),
        mode=modes,
        pause=st.integers(0, 3),
        going_on=st.sampled_from([True, True, False]),
    )
    def take(self, count, mode, pause, going_on):
        if going_on and (self.closed or self.sticky or self.used_up):
            if self.bad.get(self.came) == TORN:
                del self.bad[self.came]
            self.resume(None, keep=self.keep, closing=True, past=True)
        for _ in range(count):
            self.expect(self.run(outcome_of(self.call(mode))))
            self.run(turns(pause))

    @usable
    @rule(
        after=st.none() | st.integers(0, 20),
        level=st.booleans(),
        held=st.booleans(),
    )
    def await_all(self, after, level, held):
        async def asked():
            if held and after is not None:
                self.gate.clear()
            waiting = asyncio.create_task(outcome_of(self.stream.all()))
            if after is not None:
                await turns(1 + after)
                waiting.cancel()
                if level:
                    await cancel_until_done(waiting)
            await asyncio.wait([waiting])
            self.gate.set()
            return Outcome("cancelled") if waiting.cancelled() else waiting.result()

        place, problems = self.stream.cursor, self.stream.problems
        outcome = self.run(asked())
        if self.used_up or self.closed:
            self.expect_misuse(outcome.error, "used up" if self.used_up else "closed before its")
        elif outcome.kind == "records":
            self.expect_records(outcome.records)
            self.expect_end()
            self.closed = True
        else:  # nothing of it was delivered
            assert (self.stream.cursor, self.stream.problems) == (place, problems)
            self.came = self.position(place)
            self.expect_failed_list(outcome)

    def expect_failed_list(self, outcome):
        error = outcome.error
        if outcome.kind == "error":
            assert error.cursor == self.stream.cursor
            kinds = {self.sticky} if self.sticky else {*self.failed.values()}
            if not self.sticky and self.served_bad:
                kinds |= {ResponseError}
            if not self.sticky and self.tasks.closed:
                kinds |= {SessionClosedError}
            assert type(error) in kinds
            self.sticky = type(error)
            after = getattr(error, "cursor_after", None)
            assert after is None or self.position(after) == self.came + 1
        else:
            assert outcome.kind in {"cancelled", "ZeroDivisionError"}
            self.sticky = InvalidRequestError

    @usable
    @rule()
    def start_again(self):
        stream = self.stream
        if self.used_up or self.closed:
            words = "used up" if self.used_up else "closed before its end"
            self.run(cannot_start_again(stream, words))
        else:
            assert aiter(stream) is stream
            self.pages = stream.pages()

    @usable
    @rule(
        mode=modes,
        after=st.integers(0, 9),
        again=st.none() | st.integers(0, 3) | st.just("level"),
        held=st.booleans(),
    )
    def cancel_a_wait(self, mode, after, again, held):
        async def cancelled():
            if held:
                self.gate.clear()
            waiting = asyncio.create_task(outcome_of(self.call(mode)))
            await turns(1 + after)
            waiting.cancel()
            if again == "level":
                await cancel_until_done(waiting)
            elif again is not None:
                await turns(again)
                waiting.cancel()
            await asyncio.wait([waiting])
            self.gate.set()
            return Outcome("cancelled") if waiting.cancelled() else waiting.result()

        self.expect(self.run(cancelled()))

    @usable
    @rule(mode=modes, seconds=st.sampled_from([0, 0, 0.1, 1]), held=st.booleans())
    def let_a_wait_time_out(self, mode, seconds, held):
        if held:
            self.gate.clear()
        self.expect(self.run(timed_outcome_of(self.call(mode), seconds)))
        self.gate.set()

    @usable
    @rule(modes=st.tuples(modes, modes), after=st.integers(0, 9), held=st.booleans())
    def call_twice_at_once(self, modes, after, held):
        async def both():
            if held:
                self.gate.clear()
            first = asyncio.create_task(outcome_of(self.call(modes[0])))
            await turns(1 + after)
            pending = not first.done()
            if not pending:
                self.expect(first.result())
                self.gate.set()
            second = await outcome_of(self.call(modes[1]))
            self.gate.set()
            if pending:
                self.expect_misuse(second.error, "at once")
                self.expect(await first)
            else:
                self.expect(second)

        self.run(both())

    @usable
    @rule(
        waiting=st.none() | modes,
        held=st.booleans(),
        cancel=st.none() | st.integers(1, 6),
        level=st.booleans(),
        session=st.booleans(),
    )
    def close(self, waiting, held, cancel, level, session):
        async def expected(mode):
            self.expect(await outcome_of(self.call(mode)))

        async def closing():
            # The model changes with the first step of the closing task, and with no other.
            self.closed = self.closed or not session
            await (self.tasks if session else self.stream).aclose()

        async def closed():
            if held:
                self.gate.clear()
            waiter = None
            if waiting is not None:
                waiter = asyncio.create_task(expected(waiting))
                await turns(3)
            closer = asyncio.create_task(closing())
            if cancel is not None:
                await turns(cancel)
            interrupted = cancel is not None and closer.cancel()
            if interrupted and level:
                await cancel_until_done(closer)
            await asyncio.wait([closer])
            assert closer.cancelled() == interrupted
            assert self.fetching == 0
            if waiter is not None:
                await waiter
            self.gate.set()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        self.run(closed())

    @usable
    @rule(elsewhere=st.booleans(), asking=st.booleans())
    def drop(self, elsewhere, asking):
        async def dropped():
            self.gate.clear()  # a page in flight stays there unless it is cancelled
            if asking:
                waiting = asyncio.create_task(outcome_of(anext(self.stream)))
                await turns(3)
                waiting.cancel()
                self.expect(await waiting)
                del waiting
            self.cursor = self.stream.cursor
            holder = [self.stream, self.pages]
            self.stream = self.pages = None
            if elsewhere:
                # While the loop runs, so that its debug mode notices calls from another thread.
                dropping = threading.Thread(target=holder.clear)
                dropping.start()
                dropping.join()
            holder.clear()
            await turns(3 + self.cleanup + elsewhere)
            assert self.fetching == 0
            assert asyncio.all_tasks() == {asyncio.current_task()}
            self.gate.set()

        self.run(dropped())

    @rule(
        limit=st.none() | st.integers(0, 6),
        keep=st.booleans(),
        closing=st.booleans(),
        past=st.booleans(),
    )
    def resume(self, limit, keep, closing, past):
        if self.stream is not None and closing:
            self.run(self.stream.aclose())
        self.stream = self.pages = None
        self.run(turns(4 + self.cleanup))
        if self.tasks.closed:
            self.tasks = SessionTasks()
        if past and self.cursor_after is not None:
            self.cursor = self.cursor_after
        self.new_stream(limit, keep)

    # What is true at any time

    @invariant()
    def the_cursor_is_at_the_next_record(self):
        if self.stream is not None:
            self.cursor = self.stream.cursor
        assert self.skipped(self.came, self.position(self.cursor))

    @invariant()
    def skipped_records_are_in_problems(self):
        if self.stream is not None:
            found = [self.position(each.cursor) for each in self.stream.problems]
            passed = range(self.resumed_at, self.position())
            assert found == [each for each in passed if each in self.served_bad and self.keep]

    @invariant()
    def one_page_task_at_most(self):
        alive = asyncio.all_tasks(self.loop)
        assert len(alive) <= (self.stream is not None and not self.closed)
        assert self.most_fetching <= 1

    def teardown(self):
        try:
            if hasattr(self, "tasks"):
                self.faults.clear()
                self.bad.clear()
                self.gate.set()
                self.resume(None, keep=False, closing=True, past=False)
                rest = self.run(_all_of(self.stream))
                assert rest == [*range(self.came, self.starts[-1])]
                self.stream = self.pages = None
                self.run(turns(4))
                assert asyncio.all_tasks(self.loop) == set()
            gc.collect(0)  # all that is new, as nothing was collected meanwhile
            self.run(turns(1))
            assert self.lost == []
        finally:
            gc.enable()
            self.loop.close()


async def _all_of(stream):
    return await stream


def test_any_order_of_events():
    """In any order of events, no record is lost or repeated, and nothing is left after."""
    run_state_machine_as_test(Life, settings=examples(150, stateful_step_count=30))
