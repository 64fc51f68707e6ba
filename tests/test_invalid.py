"""`on_invalid=` and `cursor_after`, over real sockets: one bad value never hides other records."""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime, timedelta

import pytest

from aioparticipants import (
    Conference,
    InsightsSession,
    InvalidRequestError,
    ResponseError,
    RetryPolicy,
)
from aioparticipants.testing import FakeInsights

COUNT, SIZE = 9, 3

#: Values of a label that make a record invalid JSON or UTF-8.
MALFORMED = {
    "not a number": b"NaN",
    "infinity": b"-Infinity",
    "control character": b'"a\x01b"',
    "broken UTF-8": b'"a\xff"',
    "many digits": b"1" * 5000,
    "nested too deeply": b"[" * 15_000 + b"]" * 15_000,
}
UNREADABLE = {name: b'{"label": %s}' % label for name, label in MALFORMED.items()}
UNREADABLE |= {"null": b"null", "number": b"7", "string": b'"}, {"'}
#: A record with values of the wrong type.
MISFIT = {
    "CP": b'{"participant_sid": "%s", "label": 7, "metrics": {"inbound": {"mos": "4.2"}}}',
    "CF": b'{"conference_sid": "%s", "friendly_name": 7, "detected_issues": {"x": "1"}}',
}
ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


class Damaged(FakeInsights):
    """A fake that serves other bytes in place of some records."""

    def __init__(self):
        super().__init__()
        self.damage: dict[str, bytes] = {}

    def _page(self, request):
        body = super()._page(request)
        for conference in self.conferences():
            people = self.records(conference["conference_sid"])
            for record in (conference, *people):
                damage = self.damage.get(record.get("participant_sid", record["conference_sid"]))
                if damage is not None:
                    body = body.replace(json.dumps(record).encode(), damage)
        return body


@pytest.fixture
async def fake():
    async with Damaged() as server:
        yield server


@pytest.fixture
async def session(fake):
    async with InsightsSession(
        fake.credentials, base_url=fake.base_url, retry=RetryPolicy(base_delay=0.001)
    ) as opened:
        yield opened


@pytest.fixture
def conference(fake):
    """Return a conference, and the SIDs of its participants."""
    sid = fake.add_conference(COUNT)
    return sid, [each["participant_sid"] for each in fake.records(sid)]


def damaged(fake, sid, how):
    """Let a record be damaged."""
    fake.damage[sid] = MISFIT[sid[:2]] % sid.encode() if how == "misfit" else UNREADABLE[how]


@pytest.fixture(params=["participants", "conferences"])
def listing(fake, session, request):
    """Return a list: its conference, the SIDs of its records, and a function that opens it."""
    if request.param == "participants":
        sid = fake.add_conference(COUNT)
        everyone = [each["participant_sid"] for each in fake.records(sid)]
        return sid, everyone, functools.partial(session.participants, sid)
    for minutes in range(COUNT):  # the newest first, as in a list
        fake.add_conference(0, create_time=datetime.now(UTC) - timedelta(minutes=minutes))
    everyone = [each["conference_sid"] for each in fake.conferences()]
    return None, everyone, functools.partial(session.conferences, created_after=ANY_TIME)


def sids(records):
    return [
        each.conference_sid if isinstance(each, Conference) else each.participant_sid
        for each in records
    ]


def key_of(sid):
    """Return the member of a page that has the records: those of a conference, or conferences."""
    return "conferences" if sid is None else "participants"


def at_each(*places):
    """Parametrise a test by the places of a list of participants, and one of conferences."""
    cases = [*(("participants", at) for at in places), ("conferences", places[1])]
    return pytest.mark.parametrize(("listing", "at"), cases, indirect=["listing"])


@pytest.mark.parametrize("by", ["record", "page"])
@at_each(0, 1, 2, 4, 8)
@pytest.mark.parametrize("how", ["misfit", *UNREADABLE])
async def test_resuming_after_a_bad_record(fake, listing, how, at, by):
    """The error is final and comes after all good records; `cursor_after` resumes at the rest."""
    sid, everyone, opened = listing
    damaged(fake, everyone[at], how)
    found, errors, cursor = [], [], None
    while True:
        stream = opened(page_size=None if cursor else SIZE, resume=cursor)
        try:
            if by == "record":
                async for participant in stream:
                    found.append(participant)
            else:
                async for page in stream.pages():
                    found += page.records
            break
        except ResponseError as error:
            errors.append(error)
            cursor = error.cursor_after
            assert cursor is not None

    assert sids(found) == everyone[:at] + everyone[at + 1 :]
    [error] = errors
    assert error.path.startswith(f"{key_of(sid)}[{at % SIZE}]")
    assert (error.transient, error.conference_sid) == (False, sid)
    assert error.request_id is not None
    # The error's own cursor names the bad record itself, as long as it is bad.
    again = opened(resume=error.cursor)
    with pytest.raises(ResponseError) as caught:
        await anext(again)
    assert caught.value.cursor_after is not None
    fake.damage.clear()
    rest = await opened(resume=error.cursor)
    assert sids(rest) == everyone[at:]


async def test_a_page_is_not_fetched_again_for_a_bad_record(fake, session, listing):
    """A bad record never causes a second request for its page, nor a retry."""
    _, everyone, opened = listing
    damaged(fake, everyone[4], "not a number")
    with pytest.raises(ResponseError) as caught:
        [_ async for _ in opened(page_size=SIZE)]

    assert [each.query.get("Page", "0") for each in fake.requests] == ["0", "1", "2"][
        : len(fake.requests)
    ]
    assert caught.value.attempts == ()
    assert session.stats.retries == 0


@pytest.mark.parametrize("by", ["record", "page", "await"])
@at_each(0, 1, 4, 8)
@pytest.mark.parametrize("how", [*UNREADABLE])
async def test_passing_an_unreadable_record(fake, listing, how, at, by):
    """With "keep" the list goes on; each unreadable record is in `problems` with its index."""
    _, everyone, opened = listing
    damaged(fake, everyone[at], how)
    stream = opened(page_size=SIZE, on_invalid="keep")
    if by == "await":
        found = await stream
    elif by == "page":
        found = [each async for page in stream.pages() for each in page.records]
    else:
        found = []
        async for each in stream:
            # It is noted when the cursor passes it, not before.
            assert bool(stream.problems) == (everyone.index(*sids([each])) >= at - 1)
            found.append(each)
    await check_passed(fake, listing, at, found, stream.problems)


@pytest.mark.parametrize("by", ["fan-out", "merged"])
@pytest.mark.parametrize("at", [0, 1, 4, 8])
@pytest.mark.parametrize("how", [*UNREADABLE])
async def test_passing_one_in_a_fan_out(fake, session, conference, how, at, by):
    """So does a list in a fan-out; its `problems` are those of the result, or of the fan-out."""
    sid, everyone = conference
    damaged(fake, everyone[at], how)
    fan_out = session.fan_out([sid], page_size=SIZE, on_invalid="keep")
    if by == "merged":
        found = [each async for each in fan_out.participants()]
        problems = fan_out.problems
    else:
        [result] = await fan_out
        assert result.error is None
        found, problems = result.participants, result.problems
    opened = functools.partial(session.participants, sid)
    await check_passed(fake, (sid, everyone, opened), at, found, problems)


async def check_passed(fake, listing, at, found, problems):
    """Check that one record was passed, and that its problem names it."""
    sid, everyone, opened = listing
    assert sids(found) == everyone[:at] + everyone[at + 1 :]
    [problem] = problems
    assert (problem.conference_sid, problem.index) == (sid, at % SIZE)
    assert f"{key_of(sid)}[{at % SIZE}]" in problem.fault
    with pytest.raises(ResponseError):
        await anext(opened(resume=problem.cursor))
    fake.damage.clear()
    assert sids(await opened(resume=problem.cursor)) == everyone[at:]


@pytest.mark.parametrize("by", ["stream", "fan-out"])
async def test_keeping_a_wrong_value(fake, session, conference, by):
    """With "keep" a field of the wrong type is None, in `problems`, and its value in `extra`."""
    sid, everyone = conference
    damaged(fake, everyone[4], "misfit")
    if by == "stream":
        stream = session.participants(sid, on_invalid="keep")
        found = await stream
        assert stream.problems == ()
    else:
        [result] = await session.fan_out([sid], on_invalid="keep")
        found = result.participants
        assert result.problems == ()

    assert sids(found) == everyone
    kept = found[4]
    assert (kept.label, kept.extra["label"]) == (None, 7)
    assert (kept.metrics.inbound.mos, kept.metrics.inbound.extra["mos"]) == (None, "4.2")
    assert [each.split(":")[0] for each in kept.problems] == ["label", "metrics.inbound.mos"]
    assert all(each.problems == () for each in found if each is not kept)


async def test_cursors_around_unreadable_records(fake, listing):
    """With "keep" the cursor is exact before and after an unreadable record."""
    _, everyone, opened = listing
    damaged(fake, everyone[1], "not a number")
    damaged(fake, everyone[3], "null")
    good = [each for each in everyone if each not in fake.damage]
    stream = opened(on_invalid="keep", page_size=5)
    cursors = [stream.cursor]
    for expected in good:
        assert sids([await anext(stream)])[0] == expected
        cursors.append(stream.cursor)
    for taken, cursor in enumerate(cursors):
        rest = opened(resume=cursor, on_invalid="keep")
        assert sids(await rest) == good[taken:]


@pytest.mark.parametrize("limit", range(COUNT + 1))
async def test_a_limit_counts_unreadable_records(fake, listing, limit):
    """`limit` counts all records of the list, readable or not."""
    _, everyone, opened = listing
    damaged(fake, everyone[1], "not a number")
    stream = opened(page_size=SIZE, limit=limit, on_invalid="keep")
    found = await stream

    assert sids(found) == [each for each in everyone[:limit] if each != everyone[1]]
    assert len(stream.problems) == (limit > 1)
    assert len(fake.requests) == -(-limit // SIZE)


async def test_a_record_without_an_end(fake, session, conference):
    """A record whose end cannot be found is an error in both modes."""
    sid, everyone = conference
    fake.damage[everyone[1]] = b'{"label": "never ends}'
    for on_invalid in ("raise", "keep"):
        stream = session.participants(sid, page_size=SIZE, on_invalid=on_invalid)
        found = []
        with pytest.raises(ResponseError) as caught:
            async for each in stream:
                found.append(each)
        assert sids(found) == everyone[:1]
        assert (caught.value.cursor_after, caught.value.transient) == (None, False)
        assert stream.problems == ()


async def test_an_awaited_list_skips_nothing(fake, listing):
    """An awaited list delivered no record, so its error's cursor skips none."""
    _, everyone, opened = listing
    damaged(fake, everyone[4], "misfit")
    with pytest.raises(ResponseError) as caught:
        await opened(page_size=SIZE)
    assert caught.value.cursor_after is None
    fake.damage.clear()
    assert sids(await opened(resume=caught.value.cursor)) == everyone


async def test_a_failed_await_has_no_problems(fake, listing):
    """An awaited list that failed has no `problems`, as it delivered nothing."""
    _, everyone, opened = listing
    damaged(fake, everyone[0], "null")
    fake.damage[everyone[4]] = b'{"label": "never ends}'
    stream = opened(page_size=SIZE, on_invalid="keep")
    with pytest.raises(ResponseError):
        await stream
    assert stream.problems == ()


async def test_closing_keeps_the_problems(fake, listing):
    """A closed stream keeps its `problems`, without those of records after its position."""
    _, everyone, opened = listing
    damaged(fake, everyone[1], "null")
    damaged(fake, everyone[5], "null")
    async with opened(on_invalid="keep") as stream:
        for _ in range(3):
            await anext(stream)
    assert [each.index for each in stream.problems] == [1]


@pytest.mark.parametrize("wrong", ["KEEP", None, True, "", ["keep"]])
async def test_other_modes(session, wrong):
    """Anything but "raise" and "keep" is refused before anything is sent."""
    for make in (session.participants, session.fan_out):
        with pytest.raises(InvalidRequestError, match="'raise' or 'keep'"):
            make("CF" + "a" * 32, on_invalid=wrong)
