"""FakeInsights, read by twilio-python: Twilio's own client finds what the server says it serves."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta

import pytest

from aioparticipants.testing import FakeInsights

#: Fields that twilio-python makes datetimes of.
TIMES = {"create_time", "start_time", "end_time", "join_time", "leave_time"}
SUBACCOUNT = "AC" + "5" * 32
DAY = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
async def fake():
    """Run a server with conferences of every kind."""
    async with FakeInsights() as server:
        for hour in range(24):
            server.add_conference(hour % 4, create_time=DAY + timedelta(hours=hour))
        server.add_conference(5, label="agent", mos=1.2, friendly_name="a b&c=d/é")
        server.add_conference(3, mixer_region="au1", end_reason="conference_ended_via_api")
        server.add_conference(2, tags=["duplicate_identity"], account_sid=SUBACCOUNT)
        server.add_conference(2, summary=["timeout"])
        yield server


@pytest.fixture
async def insights(fake):
    """Return twilio-python's Voice Insights, which sends its requests to the server."""
    with warnings.catch_warnings():
        # twilio-python uses a deprecated part of aiohttp, and leaves its session open.
        warnings.simplefilter("ignore")
        from twilio.http.async_http_client import AsyncTwilioHttpClient
        from twilio.rest import Client

        async with AsyncTwilioHttpClient() as http_client:
            client = Client(*fake.credentials, http_client=http_client)
            client.insights.base_url = fake.base_url
            yield client.insights.v1


def as_json(record, names):
    """Return a record of twilio-python's as the JSON that it was made of."""
    found = {}
    for name in names:
        value = getattr(record, "_from" if name == "from" else name)
        found[name] = f"{value:%Y-%m-%dT%H:%M:%SZ}" if name in TIMES and value else value
    return found


def assert_same(theirs, served):
    """Compare records of twilio-python's with JSON, field by field, in any order."""
    found = [as_json(each, served[0]) for each in theirs]
    key = "participant_sid" if "participant_sid" in served[0] else "conference_sid"
    assert sorted(found, key=lambda each: each[key]) == sorted(served, key=lambda each: each[key])


#: Each filter of the list, and the test that a conference has to pass.
FILTERS = [
    ({}, lambda each: True),
    ({"friendly_name": "a b&c=d/é"}, lambda each: each["friendly_name"] == "a b&c=d/é"),
    ({"status": "not_started"}, lambda each: each["status"] == "not_started"),
    ({"status": "summary_timeout"}, lambda each: each["status"] == "summary_timeout"),
    (
        {"created_after": "2026-03-02T12:30:00+01:00"},
        lambda each: each["create_time"] > "2026-03-02T11:30:00Z",
    ),
    (
        {"created_before": "2026-03-02T12:30:00Z"},
        lambda each: each["create_time"] < "2026-03-02T12:30:00Z",
    ),
    (
        {"created_after": "2026-03-02T04:00:00Z", "created_before": "2026-03-02T12:00:00Z"},
        lambda each: "2026-03-02T04:00:00Z" < each["create_time"] < "2026-03-02T12:00:00Z",
    ),
    ({"mixer_region": "au1"}, lambda each: each["mixer_region"] == "au1"),
    ({"tags": "low_mos"}, lambda each: "low_mos" in (each["tags"] or ())),
    (
        {"detected_issues": "call_quality"},
        lambda each: each["detected_issues"] and each["detected_issues"]["call_quality"] > 0,
    ),
    (
        {"end_reason": "conference_ended_via_api"},
        lambda each: each["end_reason"] == "conference_ended_via_api",
    ),
]


@pytest.mark.parametrize("page_size", [1, 7, None])
@pytest.mark.parametrize(
    ("filters", "passes"),
    FILTERS,
    ids=lambda each: ",".join(each) if isinstance(each, dict) else "",
)
async def test_conferences(fake, insights, filters, passes, page_size):
    """It lists the conferences that pass a filter, field by field, the newest first."""
    served = [
        each for each in fake.conferences() if each["account_sid"] != SUBACCOUNT and passes(each)
    ]
    if not any(name.startswith("created") for name in filters):  # the last 24 hours
        served = [each for each in served if each["create_time"] > "2026-03-02T00:00:00Z"]
    assert 0 < len(served) < len(fake.conferences())

    theirs = await insights.conferences.list_async(page_size=page_size, **filters)

    assert_same(theirs, served)
    created = [each.create_time for each in theirs]
    assert created == sorted(created, reverse=True)


async def test_one_conference(fake, insights):
    """It fetches a conference, alone or by the filter for its SID, even an old one."""
    fake.now += timedelta(days=10)
    for served in fake.conferences():
        sid = served["conference_sid"]
        assert_same([await insights.conferences(sid).fetch_async()], [served])
        if served["account_sid"] != SUBACCOUNT:
            assert_same(await insights.conferences.list_async(conference_sid=sid), [served])


async def test_a_subaccount(fake, insights):
    """It lists the conferences of a subaccount."""
    served = [each for each in fake.conferences() if each["account_sid"] == SUBACCOUNT]

    assert_same(await insights.conferences.list_async(subaccount=SUBACCOUNT), served)


@pytest.mark.parametrize("page_size", [50, 1000, None])
async def test_participants(fake, insights, page_size):
    """It lists the participants of a conference, and fetches each one, field by field."""
    sid = fake.add_conference(participants=120)
    served = fake.records(sid)
    resource = insights.conferences(sid).conference_participants

    theirs = await resource.list_async(page_size=page_size)
    assert [as_json(each, served[0]) for each in theirs] == served
    agents = await resource.list_async(label="agent", events="mute", page_size=page_size)
    assert_same(
        agents,
        [each for each in served if each["label"] == "agent" and "mute" in (each["events"] or ())],
    )
    one = served[7]
    assert_same(await resource.list_async(participant_sid=one["participant_sid"]), [one])
    context = insights.conferences(sid).conference_participants(one["participant_sid"])
    assert_same([await context.fetch_async(events="mute", metrics="mos")], [one])
