"""`conferences`, `conference` and `participant`: what they send, and what comes of the replies.

The promises of a stream hold for conferences by the same code as for participants; `sweeps.py` has
the tests that both share.
"""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qsl

import pytest

from aioparticipants import (
    Conference,
    ConferenceStatus,
    ConferenceTag,
    DeadlineExceededError,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    Region,
    ResponseError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
)
from aioparticipants.instrumentation import ConferenceFinished, ListFinished, PageDelivered

from .servers import http, raw
from .telemetry import observed, of_type, until

SID, OTHER = "CF" + "a" * 32, "CF" + "b" * 32
CP, AC = "CP" + "1" * 32, "AC" + "2" * 32
DAY = datetime(2026, 3, 2, tzinfo=UTC)
CREDENTIALS = ("AC1", "token")
RETRY = RetryPolicy(max_attempts=2, base_delay=0.001)


class NoTime(datetime):
    """As `pandas.NaT`: a datetime that has no offset, not even None."""

    def utcoffset(self):
        raise ValueError


class NanosecondLater(datetime):
    """As a `pandas.Timestamp` with a nanosecond, which the fields of a datetime do not show."""

    def astimezone(self, tz=None):
        return self

    def __gt__(self, other):
        return self >= other

    def __hash__(self):
        return super().__hash__()


def page(*records, next_page_url=None):
    """Return the reply that is a page of conferences."""
    meta = {"next_page_url": next_page_url, "key": "conferences"}
    return http(json.dumps({"conferences": records, "meta": meta}).encode())


def reply(record, status="200 OK"):
    """Return the reply that is a single record."""
    return http(json.dumps(record).encode(), status)


def session_on(server, **options):
    return InsightsSession(CREDENTIALS, base_url=server.base_url, **{"retry": RETRY, **options})


def targets(server):
    """Return the path and the query of each request."""
    found = [head.split(" ")[1].partition("?") for head in server.heads]
    return [(path, dict(parse_qsl(query))) for path, _, query in found]


# --- What is sent ---


async def test_every_filter_is_sent_under_its_name():
    """Each argument becomes the parameter that the API's description names."""
    async with raw(page()) as server, session_on(server) as session:
        found = await session.conferences(
            created_after=DAY,
            created_before=DAY + timedelta(hours=3),
            conference_sid=SID,
            friendly_name="stand-up & café",
            status=ConferenceStatus.COMPLETED,
            mixer_region=Region.IE1,
            tags=ConferenceTag.LOW_MOS,
            subaccount=AC,
            detected_issues="call_quality",
            end_reason="last_participant_left",
            page_size=20,
        )

    assert found == []
    assert targets(server) == [
        (
            "/v1/Conferences",
            {
                "ConferenceSid": SID,
                "FriendlyName": "stand-up & café",
                "Status": "completed",
                "CreatedAfter": "2026-03-02T00:00:00Z",
                "CreatedBefore": "2026-03-02T03:00:00Z",
                "MixerRegion": "ie1",
                "Tags": "low_mos",
                "Subaccount": AC,
                "DetectedIssues": "call_quality",
                "EndReason": "last_participant_left",
                "PageSize": "20",
            },
        )
    ]


async def test_single_records_are_asked_for_by_their_path():
    """A single record has a path of its own, and no page size."""
    participant = {"participant_sid": CP, "conference_sid": SID}
    replies = reply({"conference_sid": SID}), reply(participant), reply(participant)
    async with raw(*replies) as server, session_on(server) as session:
        assert (await session.conference(SID)).conference_sid == SID
        assert (await session.participant(SID, CP)).participant_sid == CP
        await session.participant(SID, CP, events="hold", metrics="inbound")

    path = f"/v1/Conferences/{SID}"
    assert targets(server) == [
        (path, {}),
        (f"{path}/Participants/{CP}", {}),
        (f"{path}/Participants/{CP}", {"Events": "hold", "Metrics": "inbound"}),
    ]
    assert server.heads[0].startswith(f"GET {path} HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("time", "after", "before"),
    [
        (DAY, "2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z"),
        (DAY.replace(microsecond=1), "2026-03-02T00:00:00Z", "2026-03-02T00:00:01Z"),
        (
            datetime(2026, 3, 2, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            "2026-03-01T20:00:00Z",
            "2026-03-01T20:00:00Z",
        ),
        (
            datetime.max.replace(tzinfo=UTC),
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
        ),
        (datetime(31, 1, 2, tzinfo=UTC), "0031-01-02T00:00:00Z", "0031-01-02T00:00:00Z"),
        (NanosecondLater(2026, 3, 2, tzinfo=UTC), "2026-03-02T00:00:00Z", "2026-03-02T00:00:01Z"),
    ],
)
async def test_times_are_sent_in_utc_in_whole_seconds(time, after, before):
    """A window is sent in UTC, and never smaller than it was given."""
    async with raw(page()) as server, session_on(server) as session:
        await session.conferences(created_after=time)
        await session.conferences(created_after=None, created_before=time)

    assert [query for _, query in targets(server)] == [
        {"CreatedAfter": after, "PageSize": "1000"},
        {"CreatedBefore": before, "PageSize": "1000"},
    ]


# --- The window ---


async def test_a_window_is_required():
    """Without a window, which Twilio would take for the last 24 hours, nothing is sent."""
    async with session_on(await nowhere()) as session:
        with pytest.raises(InvalidRequestError, match="give created_after=None"):
            session.conferences(status="completed")
        with pytest.raises(InvalidRequestError, match="give created_after=None"):
            session.conferences(created_before=DAY)


async def test_the_window_of_twilio_is_logged(caplog):
    """Whoever asks for Twilio's own window is told in a log line what it is."""
    caplog.set_level(logging.INFO, "aioparticipants")
    async with raw(page()) as server, session_on(server) as session:
        await session.conferences(created_after=DAY)
        assert caplog.messages == []
        await session.conferences(created_after=None)
        await session.conferences(conference_sid=SID)

    assert [each.count("last 24 hours") for each in caplog.messages] == [1, 1]
    assert [query for _, query in targets(server)][1:] == [
        {"PageSize": "1000"},
        {"ConferenceSid": SID, "PageSize": "1000"},
    ]


async def nowhere():
    """Return a server that does not exist."""
    async with raw() as server:
        return server


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"created_after": DAY.replace(tzinfo=None)}, "created_after must be an aware datetime"),
        ({"created_after": DAY.date()}, "created_after must be an aware datetime"),
        ({"created_after": "2026-03-02T00:00:00Z"}, "created_after must be an aware datetime"),
        ({"created_after": 0}, "created_after must be an aware datetime"),
        ({"created_after": NoTime(2026, 3, 2)}, "created_after must be an aware datetime"),
        (
            {"created_after": datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))},
            "created_after must be an aware datetime",
        ),
        ({"created_before": DAY.replace(tzinfo=None)}, "created_before must be an aware datetime"),
        ({"created_before": DAY}, "the window is empty"),
        ({"created_before": DAY - timedelta(days=1)}, "the window is empty"),
        ({"conference_sid": "CF1"}, "conference_sid must be CF"),
        ({"subaccount": SID}, "subaccount must be AC"),
        ({"friendly_name": ""}, "friendly_name must be a non-empty str"),
        ({"status": 1}, "status must be a non-empty str"),
        ({"tags": ["low_mos"]}, "tags must be a non-empty str"),
        ({"mixer_region": b"us1"}, "mixer_region must be a non-empty str"),
        ({"detected_issues": True}, "detected_issues must be a non-empty str"),
        ({"end_reason": ""}, "end_reason must be a non-empty str"),
        ({"page_size": 1001}, "page_size must be a whole number"),
        ({"limit": -1}, "limit must be a whole number"),
        ({"deadline": -1}, "deadline must be"),
        ({"on_invalid": "drop"}, "on_invalid must be"),
        ({"resume": "no cursor"}, "resume is not a cursor"),
    ],
)
async def test_bad_arguments(arguments, words):
    """An argument that cannot be used is refused at once, and its value is not repeated."""
    async with session_on(await nowhere()) as session:
        with pytest.raises(InvalidRequestError, match=words) as caught:
            session.conferences(**{"created_after": DAY, **arguments})
    assert "2026-03-02T" not in str(caught.value)


@pytest.mark.parametrize("sids", [("CF1", CP), (SID, "CP1"), (SID, None), (None, CP)])
async def test_bad_sids(sids):
    """A single record is only asked for by SIDs."""
    async with session_on(await nowhere()) as session:
        with pytest.raises(InvalidRequestError, match="32 hexadecimal digits"):
            await session.participant(*sids)
        if sids[0] != SID:
            with pytest.raises(InvalidRequestError, match="conference_sid must be CF"):
                await session.conference(sids[0])


# --- What comes of the replies ---


async def test_a_list_goes_on_where_its_cursor_says():
    """The cursor of a list resumes it, holds no name, and is refused by another list."""
    link = "https://insights.twilio.com/v1/Conferences?FriendlyName=secret&PageSize=2&PageToken=x"
    first = page({"conference_sid": SID}, {"conference_sid": OTHER}, next_page_url=link)
    last = page({"conference_sid": "CF" + "c" * 32})
    async with raw(first, last, first, last) as server, session_on(server) as session:
        window = {"created_after": DAY, "friendly_name": "secret"}
        async with session.conferences(**window, page_size=2) as stream:
            got = [await anext(stream)]
            cursor = stream.cursor
        rest = await session.conferences(**window, resume=cursor)
        for other in (
            {**window, "friendly_name": "other"},
            {**window, "created_after": DAY + timedelta(seconds=1)},
            {**window, "created_before": DAY + timedelta(days=1)},
        ):
            with pytest.raises(
                InvalidRequestError, match="resume is a cursor of another"
            ) as caught:
                session.conferences(**other, resume=cursor)
            named = "give the friendly_name of the first call" in str(caught.value)
            assert named is (other["friendly_name"] == "other")
        with pytest.raises(InvalidRequestError, match="resume is a cursor of another"):
            session.participants(SID, resume=cursor)

    assert [each.conference_sid[2] for each in (*got, *rest)] == ["a", "b", "c"]
    assert "secret" not in cursor


async def test_hosts_of_a_reply_are_never_contacted():
    """The host of a next link, and those of a record's `links`, get no request."""
    async with raw(page()) as stranger:
        away = f"{stranger.base_url}/v1/Conferences?PageToken=x"
        record = {"conference_sid": SID, "url": away, "links": {"conference_participants": away}}
        first = page(record, next_page_url=away)
        async with raw(first, page()) as server, session_on(server) as session:
            [found] = await session.conferences(created_after=DAY)

    assert found.links == {"conference_participants": away}
    assert len(server.heads) == 2
    assert stranger.heads == []


async def test_conferences_of_any_account_can_follow_each_other():
    """A list of conferences is not taken for the reply to another conference."""
    async with (
        raw(page({"conference_sid": SID}, {"conference_sid": OTHER})) as server,
        session_on(server) as session,
    ):
        found = await session.conferences(created_after=None)
    assert len(found) == 2


async def test_a_missing_summary_is_not_found():
    """A 404 is a NotFoundError that names the conference, and has no cursor."""
    body = {"code": 20404, "message": "not found", "status": 404}
    async with raw(reply(body, "404 Not Found")) as server, session_on(server) as session:
        with pytest.raises(NotFoundError) as caught:
            await session.conference(SID)
        with pytest.raises(NotFoundError) as of_participant:
            await session.participant(SID, CP)

    for error in (caught.value, of_participant.value):
        assert (error.code, error.conference_sid, error.cursor) == (20404, SID, None)
    assert len(server.heads) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        http(b'{"conference_sid": '),
        http(b""),
        http(b"<html>"),
        reply({"conference_sid": OTHER}),
        reply({"conference_sid": "CF", "participant_sid": CP}),
        reply({"conference_sid": SID, "participant_sid": "CP" + "9" * 32}),
        page({"conference_sid": SID}),
        http(b"", "503 Busy"),
        http(b"", "429 Busy"),
    ],
    ids=[
        "cut off", "empty", "HTML", "another conference", "part of a SID", "another participant",
        "a list", "503", "429",
    ],
)  # fmt: skip
async def test_what_is_tried_again(wrong):
    """A single record is fetched again as a page is."""
    good = reply({"participant_sid": CP, "conference_sid": "CF" + "A" * 32})
    async with raw(wrong, good) as server, session_on(server) as session:
        assert (await session.participant(SID, CP)).participant_sid == CP
    assert len(server.heads) == 2


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"1", b"null", b"[{}]"])
async def test_a_record_is_an_object(body):
    """A body that is JSON and no object is a final error."""
    async with raw(http(body)) as server, session_on(server) as session:
        with pytest.raises(ResponseError, match="JSON, but not an object"):
            await session.conference(SID)
    assert len(server.heads) == 1


@pytest.mark.parametrize("body", [b'{}], "x": [{}', b"{}, {}", b"{}]}"])
async def test_a_record_is_one_object(body):
    """A body with more than one object is not JSON, and never a record."""
    async with raw(http(body)) as server, session_on(server) as session:
        with pytest.raises(ResponseError, match="is not JSON"):
            await session.conference(SID)
    assert len(server.heads) == 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"status": "ok"},
        {"code": 20404, "message": "not found", "status": 404},
        {"meta": {"key": "things"}},
        {"meta": "things"},
        {"meta": {"key": ["things"]}, "things": []},
    ],
)
@pytest.mark.parametrize("on_invalid", ["raise", "keep"])
async def test_a_record_has_a_sid(body, on_invalid):
    """An object without the member that identifies a record is no record, even an empty one."""
    async with raw(reply(body)) as server, session_on(server) as session:
        with pytest.raises(ResponseError, match="no member conference_sid") as caught:
            await session.conference(SID, on_invalid=on_invalid)
        with pytest.raises(ResponseError, match="no member participant_sid"):
            await session.participant(SID, CP, on_invalid=on_invalid)

    assert (caught.value.path, caught.value.transient) == ("conference.conference_sid", False)
    assert (caught.value.conference_sid, caught.value.cursor) == (SID, None)
    assert len(server.heads) == 2


async def test_a_record_may_name_another_participant():
    """A conference with a member `participant_sid`, which no path of a conference has, is fine."""
    record = {"conference_sid": SID, "participant_sid": CP}
    async with raw(reply(record)) as server, session_on(server) as session:
        assert (await session.conference(SID)).extra == {"participant_sid": CP}


async def test_a_huge_record_is_refused():
    """A single record of a length that the API cannot mean is refused before it is decoded."""
    for size, fits in [(2**20, True), (2**20 + 1, False)]:
        body = b'{"conference_sid": null}'.ljust(size)
        async with raw(http(body)) as server, session_on(server) as session:
            if fits:
                assert await session.conference(SID) == Conference()
            else:
                with pytest.raises(ResponseError, match="too long for a single record"):
                    await session.conference(SID)
        assert len(server.heads) == 1


def nested(depth):
    """Return the body of a conference with so many levels in its `tag_info`."""
    deep = b"[" * depth + b"]" * depth
    return b'{"conference_sid": null, "tag_info": {"x": %s}}' % deep


async def test_a_deep_value_in_a_single_record():
    """A value nested too deeply is an error with its path, or kept as its JSON text."""
    async with raw(http(nested(65))) as server, session_on(server) as session:
        with pytest.raises(ResponseError, match="nested too deeply") as caught:
            await session.conference(SID)
        kept = await session.conference(SID, on_invalid="keep")
    assert caught.value.path == "conference.tag_info"
    assert kept.extra["tag_info"] == f'{{"x": {"[" * 65}{"]" * 65}}}'


@pytest.mark.parametrize("on_invalid", ["raise", "keep"])
async def test_a_body_too_deep_to_decode(on_invalid):
    """A single record deeper than `json` can decode is a ResponseError, whatever is kept."""
    async with raw(http(nested(200_000))) as server, session_on(server) as session:
        with pytest.raises(ResponseError, match="nested too deeply"):
            await session.conference(SID, on_invalid=on_invalid)


async def test_the_page_of_another_list_is_a_failed_attempt():
    """A page of participants, in place of one of conferences, is requested again."""
    body = {"participants": [{}], "meta": {"key": "participants", "next_page_url": None}}
    other = http(json.dumps(body).encode())
    good = page({"conference_sid": SID})
    async with raw(other, good) as server, session_on(server) as session:
        [found] = await session.conferences(created_after=DAY)
    assert found.conference_sid == SID
    assert len(server.heads) == 2


async def test_a_byte_order_mark_is_ignored():
    """A record may come after a byte order mark, as a page may."""
    async with raw(http(b'\xef\xbb\xbf {"conference_sid": null} ')) as server:
        async with session_on(server) as session:
            assert await session.conference(SID) == Conference()


async def test_a_wrong_value_in_a_single_record():
    """A wrong value is an error with its path, or kept if the caller says so."""
    record = {"conference_sid": SID, "duration_seconds": "76", "tags": ["low_mos", "new"]}
    async with raw(reply(record)) as server, session_on(server) as session:
        with pytest.raises(ResponseError) as caught:
            await session.conference(SID)
        kept = await session.conference(SID, on_invalid="keep")

    assert (caught.value.path, caught.value.cursor) == ("conference.duration_seconds", None)
    assert caught.value.cursor_after is None
    assert kept.problems == ("duration_seconds: expected an integer, found a string",)
    assert (kept.extra, kept.tags) == ({"duration_seconds": "76"}, (ConferenceTag.LOW_MOS, "new"))


async def test_open_enums_and_open_objects():
    """Words and members that nobody foresaw come through, immutable."""
    record = {
        "status": "paused",
        "mixer_region": "mars1",
        "tags": [],
        "tag_info": {"low_mos": {"severity": 2, "who": ["CA1"]}, "other": 1.5},
        "detected_issues": {"call_quality": 3, "weather": 1},
        "new": {"a": [1]},
    }
    async with raw(page(record)) as server, session_on(server) as session:
        [found] = await session.conferences(created_after=DAY)

    assert (found.status, found.mixer_region, found.tags) == ("paused", "mars1", ())
    assert found.tag_info == {"low_mos": {"severity": 2, "who": ("CA1",)}, "other": 1.5}
    assert found.detected_issues == {"call_quality": 3, "weather": 1}
    assert found.extra == {"new": {"a": (1,)}}
    assert hash(found)


def test_a_name_is_masked():
    """The repr of a conference hides its name."""
    assert "board" not in repr(Conference(friendly_name="board meeting"))


# --- Time, closing, telemetry ---


async def test_a_deadline_bounds_a_single_record():
    """A single record is not waited for beyond its deadline."""
    async with raw(...) as server, session_on(server) as session:
        with pytest.raises(DeadlineExceededError):
            await session.conference(SID, deadline=0.01)
        with pytest.raises(DeadlineExceededError):
            await session.participant(SID, CP, deadline=0.01)
        assert session.stats.in_flight == 0


async def test_closing_the_session_ends_a_single_record():
    """Whoever waits for a single record while the session closes gets a SessionClosedError."""
    async with raw(...) as server:
        session = session_on(server)
        waiting = asyncio.ensure_future(session.conference(SID))
        await until(lambda: server.heads)
        await session.aclose()
        with pytest.raises(SessionClosedError):
            await waiting


async def test_cancelling_a_single_record_leaves_nothing():
    """A cancelled call ends its request, and the session goes on."""
    async with raw(..., reply({"conference_sid": None})) as server, session_on(server) as session:
        waiting = asyncio.ensure_future(session.conference(SID))
        await until(lambda: server.heads)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert session.stats.in_flight == 0
        assert await session.conference(SID) == Conference()


async def test_events_name_the_path():
    """Events have the template of their path, and a list that is no conference's its own event."""
    events = []
    busy = http(b"", "503 Busy")
    async with (
        raw(page({}), reply({"conference_sid": SID}), *[busy] * 4) as server,
        observed(server, events, credentials=CREDENTIALS) as session,
    ):
        await session.conferences(created_after=DAY)
        await session.conference(SID)
        with pytest.raises(ServerError):
            await session.participant(SID, CP)
        stats = session.stats

    one = "/v1/Conferences/{ConferenceSid}"
    assert [
        (each.path, each.conference_sid, each.records, each.error)
        for each in of_type(ListFinished, events)
    ] == [
        ("/v1/Conferences", None, 1, None),
        (one, SID, 1, None),
        (f"{one}/Participants/{{ParticipantSid}}", SID, 0, "ServerError"),
    ]
    assert [each.path for each in of_type(PageDelivered, events)] == ["/v1/Conferences", one]
    assert {each.path for each in events if hasattr(each, "path")} == {
        "/v1/Conferences",
        one,
        f"{one}/Participants/{{ParticipantSid}}",
    }
    assert of_type(ConferenceFinished, events) == []
    assert (stats.conferences, stats.conferences_failed, stats.pages) == (0, 0, 2)
