"""FakeInsights' conferences: lists, filters, slow summaries, made-up fields and faults for some."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest

from aioparticipants import InsightsSession, NotFoundError, ServerError, models
from aioparticipants.testing import FakeInsights
from aioparticipants.testing._fields import MadeUpFields

LIST = "/v1/Conferences"
SID = "CF" + "0" * 32
SUBACCOUNT = "AC" + "5" * 32
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


async def listed(get, query=""):
    """Return the SIDs on a page of conferences."""
    status, body, _ = await get(LIST + query)
    assert status == 200, body
    return [each["conference_sid"] for each in body["conferences"]]


def add_hourly(fake, count):
    """Add conferences that were created at full hours from noon on; return their SIDs."""
    return [
        fake.add_conference(0, create_time=NOON + timedelta(hours=hour)) for hour in range(count)
    ]


# --- What is served ---


async def test_conferences_are_complete_and_varied(fake, session):
    """Made-up conferences have all members, some of them null, and are valid."""
    for count in (0, 1, 2, 130, *[3] * 60):
        fake.add_conference(count)
    served = fake.conferences()

    found = await session.conferences(created_after=None)

    assert len(found) == 64
    names = {each.name for each in attrs.fields(models.Conference)} - {"extra", "problems"}
    assert {frozenset(each) for each in served} == {frozenset(names)}
    assert {name for each in served for name, value in each.items() if value is None} == {
        "friendly_name", "start_time", "ended_by", "mixer_region", "mixer_region_requested",
        "tags", "tag_info",
    }  # fmt: skip
    details = [each["tag_info"] for each in served if each["tag_info"]]
    assert {type(each) for info in details for each in info.values()} == {dict, list}
    issues = {kind for each in served for kind, count in each["detected_issues"].items() if count}
    assert issues == {"call_quality", "region_configuration", "participant_behavior"}
    assert len({each["end_reason"] for each in served}) == 5


async def test_conferences_fit_their_participants(fake, session):
    """Times, counts, the end and the region of a conference follow from its participants."""
    for count in (0, 1, 2, 3, 40, 41, 42, 43, 44):
        sid = fake.add_conference(count)
        conference, people = await session.conference(sid), await session.participants(sid)

        joins = sorted(each.join_time for each in people)
        leaves = [each.leave_time for each in people]
        assert conference.create_time <= min([*joins, conference.end_time])
        assert conference.start_time == (joins[1] if count > 1 else None)
        assert conference.end_time == max([conference.create_time, *leaves])
        assert conference.duration_seconds == seconds(conference.create_time, conference.end_time)
        assert conference.connect_duration_seconds == seconds(
            conference.start_time or conference.end_time, conference.end_time
        )
        assert conference.unique_participants == count
        assert conference.max_concurrent_participants == max(
            (sum(each.join_time <= time < each.leave_time for each in people) for time in joins),
            default=0,
        )
        assert conference.status == ("completed" if count > 1 else "not_started")
        assert conference.mixer_region == (people[0].conference_region if count > 1 else None)
        assert conference.ended_by in {None, *(each.call_sid for each in people)}
        bad = [
            each
            for each in people
            if min(each.metrics.inbound.mos, each.metrics.outbound.mos) < 3.5
        ]
        assert conference.detected_issues["call_quality"] >= len(bad)
        assert ("low_mos" in (conference.tags or ())) == bool(bad)
        assert conference.links == {
            "conference_participants": f"{fake.base_url}/v1/Conferences/{sid}/Participants"
        }


def seconds(start, end):
    return (end - start).total_seconds()


async def test_a_seed_gives_the_same_conferences():
    """What is made up depends on the seed alone, not on requests, and not on when it is asked."""
    found = []
    for seed, reads in ((1, 0), (1, 3), (2, 0)):
        async with FakeInsights(seed=seed) as fake:
            async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
                for _ in range(3):
                    sid = fake.add_conference(3)
                    for _ in range(reads):
                        await session.conference(sid)
            found.append([{**each, "url": None, "links": None} for each in fake.conferences()])

    assert found[0] == found[1]
    assert found[0] != found[2]


async def test_single_records(fake, get):
    """A conference, and a participant, can be fetched by their SIDs."""
    sid = fake.add_conference(3)
    [conference] = fake.conferences()
    one = fake.records(sid)[1]
    path = f"{LIST}/{sid}/Participants/{one['participant_sid']}"

    assert (await get(f"{LIST}/{sid}"))[:2] == (200, conference)
    assert (await get(path))[:2] == (200, one)
    assert (await get(f"{path}?Events=mute&Metrics=mos"))[:2] == (200, one)
    assert (await get(f"{LIST}/{sid}/Participants/CP0"))[0] == 404
    assert (await get(f"{LIST}/{SID}/Participants/{one['participant_sid']}"))[0] == 404


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?PageSizes=5", "PageSizes is not a parameter"),
        ("?status=completed", "status is not a parameter"),
        ("?Status=completed&Status=completed", "Status must be given once"),
        ("?Page=-1", "Page must be a whole number"),
        ("?Subaccount=AC1", "Subaccount must be AC and 32"),
        ("?CreatedAfter=2026-03-02", "CreatedAfter must be ISO 8601 with a time zone"),
        ("?CreatedAfter=2026-03-02T09:00:00", "CreatedAfter must be ISO 8601 with a time zone"),
        ("?CreatedBefore=2026-03-02T09:00:00+01:00", "CreatedBefore must be ISO 8601"),  # a space
        ("?CreatedBefore=yesterday", "CreatedBefore must be ISO 8601"),
        ("/{}?Events=mute", "Events is not a parameter"),
        ("/{}/Participants?Metrics=mos", "Metrics is not a parameter"),
        ("/{}/Participants/{}?Label=agent", "Label is not a parameter"),
    ],
)
async def test_wrong_parameters(fake, get, query, words):
    """A parameter that is unknown, repeated or malformed is refused with the name of it."""
    sid = fake.add_conference(1)
    participant_sid = fake.records(sid)[0]["participant_sid"]

    status, body, _ = await get(LIST + query.format(sid, participant_sid))

    assert (status, body["code"]) == (400, 20001)
    assert words in body["message"]


async def test_methods(fake, get):
    """Another method than GET is refused with the methods that are allowed."""
    sid = fake.add_conference(1)

    for path in (LIST, f"{LIST}/{sid}", f"{LIST}/{sid}/Participants"):
        status, _, headers = await get(path, "DELETE")
        assert (status, headers["Allow"]) == (405, "GET")


# --- Lists ---


async def test_newest_first(fake, get):
    """A list has the newest conferences first, and of one second the last one added."""
    sids = add_hourly(fake, 5)
    later = fake.add_conference(0, create_time=NOON)

    assert await listed(get) == [*sids[:0:-1], later, sids[0]]
    assert await listed(get, "?PageSize=2") == sids[:2:-1]
    _, body, _ = await get(f"{LIST}?PageSize=4&Status=not_started")
    assert "Status=not_started" in body["meta"]["next_page_url"]
    _, rest, _ = await get(body["meta"]["next_page_url"])
    assert [each["conference_sid"] for each in rest["conferences"]] == [later, sids[0]]
    assert rest["meta"]["key"] == "conferences"


async def test_the_last_24_hours(fake, get):
    """Without dates and without a SID, the list is of the 24 hours before the server's time."""
    old, new = add_hourly(fake, 2)

    assert await listed(get) == [new, old]
    fake.now = NOON + timedelta(days=1)
    assert await listed(get) == [new]
    fake.now += timedelta(hours=1)
    assert await listed(get) == []
    assert await listed(get, "?Status=not_started") == []
    assert await listed(get, f"?ConferenceSid={old}") == [old]
    assert await listed(get, "?CreatedAfter=2026-01-01T00:00:00Z") == [new, old]
    assert await listed(get, "?CreatedBefore=2026-03-02T13:00:00Z") == [old]


@pytest.mark.parametrize(
    ("inclusive", "hours"),
    [("neither", [2]), ("left", [1, 2]), ("right", [2, 3]), ("both", [1, 2, 3])],
)
async def test_bounds(fake, get, inclusive, hours):
    """Whether a window includes what was created at its bounds can be chosen."""
    sids = add_hourly(fake, 5)
    window = "?CreatedAfter=2026-03-02T14:00:00%2B01:00&CreatedBefore=2026-03-02T15:00:00.000Z"

    fake.inclusive = inclusive

    assert await listed(get, window) == [sids[hour] for hour in reversed(hours)]


async def test_times_are_stamped_to_the_second(fake, get):
    """A conference counts as created at the full second that its record names."""
    sid = fake.add_conference(0, create_time=NOON + timedelta(seconds=0.9))

    assert fake.conferences()[0]["create_time"] == "2026-03-02T12:00:00Z"
    assert await listed(get, "?CreatedAfter=2026-03-02T12:00:00.5Z") == []
    assert await listed(get, "?CreatedAfter=2026-03-02T11:59:59.5Z") == [sid]


@pytest.mark.parametrize(
    ("fields", "query"),
    [
        ({"friendly_name": "a b+c"}, "FriendlyName=a%20b%2Bc"),
        ({"status": "summary_timeout"}, "Status=summary_timeout"),
        ({"mixer_region": "us2"}, "MixerRegion=us2"),
        ({"tags": ["high_jitter", "low_mos"]}, "Tags=low_mos"),
        ({"account_sid": SUBACCOUNT}, f"Subaccount={SUBACCOUNT}"),
        ({"detected_issues": {"call_quality": 2, "x": 1}}, "DetectedIssues=x"),
        ({"end_reason": "x"}, "EndReason=x"),
        ({"conference_sid": SID}, f"ConferenceSid={SID}"),
    ],
)
async def test_filters(fake, get, fields, query):
    """Each filter selects the conferences with its value, and no others."""
    others = [
        fake.add_conference(0),
        fake.add_conference(0, tags=None, detected_issues=None),
        fake.add_conference(0, tags=["low"], detected_issues={"x": 0}),
    ]
    sid = fake.add_conference(3, **fields)

    assert await listed(get, f"?{query}") == [sid]
    other = "EndReason" if "Status" in query else "Status"
    assert await listed(get, f"?{query}&{other}=another") == []
    own = {*others} if "account_sid" in fields else {*others, sid}
    assert {*await listed(get)} == own


# --- Slow summaries ---


async def test_slow_summaries(fake, get):
    """Each GET of a conference takes the next step; its participants and the list follow."""
    sid = fake.add_conference(5, summary=[404, "in_progress", "complete"])
    path = f"{LIST}/{sid}"

    async def seen():
        status, body, _ = await get(f"{path}/Participants")
        return status, len(body.get("participants", ())), await listed(get)

    assert await seen() == (404, 0, [])
    assert (await get(path))[0] == 404
    assert await seen() == (404, 0, [])
    _, early, _ = await get(path)
    assert (early["processing_state"], early["status"]) == ("in_progress", "in_progress")
    assert (early["end_time"], early["unique_participants"]) == (None, None)
    assert await seen() == (200, 2, [sid])
    _, participants, _ = await get(f"{path}/Participants")
    assert {each["processing_state"] for each in participants["participants"]} == {"in_progress"}
    assert {each["metrics"] for each in participants["participants"]} == {None}
    one = fake.records(sid)[0]
    _, early_one, _ = await get(f"{path}/Participants/{one['participant_sid']}")
    assert early_one == {**one, "metrics": None, "processing_state": "in_progress"}
    for _ in range(2):
        assert (await get(path))[1] == fake.conferences()[0]
        assert await seen() == (200, 5, [sid])
    assert fake.conferences()[0]["processing_state"] == "complete"


async def test_steps_are_taken_by_answers_only(fake, get):
    """A GET that fails, or asks for another conference, takes no step."""
    sid = fake.add_conference(2, summary=["in_progress", "complete"])
    other = fake.add_conference(2)
    await get(f"{LIST}/{sid}")
    fake.fail_next(503)
    await get(f"{LIST}/{sid}")
    await get(f"{LIST}/{other}")
    await get(f"{LIST}/{sid}?Typo=1")

    _, body, _ = await get(LIST)
    states = {each["conference_sid"]: each["processing_state"] for each in body["conferences"]}
    assert states == {sid: "in_progress", other: "complete"}


async def test_summaries_that_time_out(fake, session):
    """A summary can time out; what is served in the end has all participants without metrics."""
    sid = fake.add_conference(3, summary=("timeout",))
    absent = fake.add_conference(3, summary=[404])

    conference = await session.conference(sid)

    assert (conference.processing_state, conference.status) == ("timeout", "summary_timeout")
    found = await session.participants(sid)
    assert [each.participant_sid for each in found] == [
        each["participant_sid"] for each in fake.records(sid)
    ]
    assert {(each.metrics, each.processing_state) for each in found} == {(None, "timeout")}
    assert [each["conference_sid"] for each in fake.conferences()] == [sid]
    assert fake.records(absent) == []
    with pytest.raises(NotFoundError):
        await session.participants(absent)


@pytest.mark.parametrize(
    ("steps", "error", "words"),
    [
        ([], ValueError, r"must be a list of 404, 'in_progress', .* it is \[\]"),
        ([404, "done"], ValueError, "it is .*'done'"),
        ("complete", TypeError, "summary must be a list of steps, not str"),
        (404, TypeError, "summary must be a list of steps, not int"),
    ],
)
async def test_wrong_steps(fake, steps, error, words):
    """Steps that do not exist are refused with those that do."""
    with pytest.raises(error, match=words):
        fake.add_conference(1, summary=steps)

    assert fake.conferences() == []


# --- Made-up fields ---


def test_the_fields_are_those_of_the_records():
    """Every field of a conference and of a participant can be set, but for addresses of its own."""
    own = {"conference_sid", "url", "links", "extra", "problems"}
    fields = {
        each.name for kind in (models.Conference, models.Participant) for each in attrs.fields(kind)
    }
    media = {"mos", "packet_loss_percentage", "total_packets_lost", "total_packets_received"}
    media |= {f"{name}_{each}" for name in ("jitter", "latency") for each in ("avg", "max")}

    assert {*MadeUpFields.__annotations__} == (fields - own) | {
        prefix + name for prefix in ("", "inbound_", "outbound_") for name in media
    }


async def test_made_up_fields(fake, session):
    """Fields change the records they belong to, metrics both directions or the one they name."""
    sid = fake.add_conference(
        3,
        label="agent",
        from_="+15005550006",
        join_time=NOON,
        events={"mute": [NOON, 5], "odd": 7},
        call_direction=models.CallDirection.INBOUND,
        duration_seconds=60,
        friendly_name=None,
        tags=("x",),
        start_time="soon",
        mos=1.2,
        inbound_mos=1.5,
        jitter_max=None,
        outbound_latency_avg=200,
        total_packets_lost="many",
    )

    [conference] = fake.conferences()
    assert conference["friendly_name"] is None
    assert conference["tags"] == ["x"]
    assert conference["start_time"] == "soon"
    assert conference["duration_seconds"] == 60
    assert conference["detected_issues"]["call_quality"] == 3
    for record in fake.records(sid):
        assert (record["label"], record["from"], record["duration_seconds"]) == (
            "agent", "+15005550006", 60,
        )  # fmt: skip
        assert record["join_time"] == "2026-03-02T12:00:00Z"
        assert record["events"] == {"mute": [NOON.timestamp() * 1000, 5], "odd": 7}
        inbound, outbound = record["metrics"]["inbound"], record["metrics"]["outbound"]
        assert (inbound["mos"], outbound["mos"]) == (1.5, 1.2)
        assert (inbound["jitter"]["max"], inbound["total_packets_lost"]) == (None, "many")
        assert (inbound["latency"]["avg"], outbound["latency"]["avg"]) == (0, 200)
    found = await session.participants(sid, on_invalid="keep")
    assert {each.call_direction for each in found} == {models.CallDirection.INBOUND}


async def test_made_up_fields_of_the_packages_own_records(fake, session):
    """`metrics` and `properties` can be records of the package, or JSON."""
    sid = fake.add_conference(1)
    [given] = await session.participants(sid)

    same = fake.add_conference(1, metrics=given.metrics, properties=given.properties)
    none = fake.add_conference(1, metrics=None, properties={"beep_on_exit": True}, events=None)

    [found] = await session.participants(same)
    assert (found.metrics, found.properties) == (given.metrics, given.properties)
    [found] = await session.participants(none)
    assert (found.metrics, found.events) == (None, None)
    assert found.properties == models.ParticipantProperties(beep_on_exit=True)


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        ({}, None),
        ({"outbound_packet_loss_percentage": 5.1}, ["high_packet_loss", "quality_warnings"]),
        ({"jitter_avg": 5, "jitter_max": 30}, ["high_jitter", "quality_warnings"]),
        ({"jitter_avg": 4.9, "jitter_max": 31}, None),
        ({"jitter_avg": 6, "jitter_max": 29}, None),
        ({"inbound_latency_avg": 151}, ["high_latency", "quality_warnings"]),
        ({"mos": 3.4}, ["low_mos", "quality_warnings"]),
        (
            {"mos": 1, "jitter_avg": 9, "jitter_max": 99},
            ["high_jitter", "low_mos", "quality_warnings"],
        ),
    ],
)
async def test_tags_follow_the_metrics(fake, fields, tags):
    """A bad metric of any kind becomes an issue of each participant, and tags."""
    good = {
        "inbound": {"mos": 4, "jitter": {"avg": 0, "max": 0}, "latency": {"avg": 150}},
        "outbound": {"mos": None, "packet_loss_percentage": 5, "jitter": {}, "latency": {}},
    }
    fake.add_conference(2, metrics=good)
    [conference] = fake.conferences()
    assert conference["detected_issues"]["call_quality"] == 0
    fake.reset()
    usual = {"mos": 4, "packet_loss_percentage": 0, "jitter_avg": 0, "jitter_max": 0}

    fake.add_conference(2, **(usual | fields))

    [conference] = fake.conferences()
    found = {*(conference["tags"] or ())} & {
        "high_packet_loss", "high_jitter", "high_latency", "low_mos", "quality_warnings",
    }  # fmt: skip
    assert sorted(found) == (tags or [])
    assert conference["detected_issues"]["call_quality"] == (2 if tags else 0)


async def test_participants_join_after_the_time_of_creation(fake, session):
    """The participants of a conference whose creation time is given join after that time."""
    sid = fake.add_conference(5, create_time=NOON, mixer_region="us2")

    found = await session.participants(sid)

    assert all(NOON <= each.join_time < NOON + timedelta(minutes=5) for each in found)
    assert {each.conference_region for each in found} == {"us2"}
    assert (await session.conference(sid)).create_time == NOON


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"lable": "a"}, TypeError, "'lable'. Did you mean label[?] The choices are account_sid,"),
        ({"zzz": 1}, TypeError, "'zzz'. The choices are"),
        ({"url": "x"}, TypeError, "'url'"),
        ({"label": {1}}, TypeError, "label cannot be encoded as JSON: JSON has no set"),
        ({"join_time": datetime(2026, 1, 1)}, ValueError, "join_time must have a time zone"),  # noqa: DTZ001
        ({"events": {"mute": [datetime(2026, 1, 1)]}}, ValueError, "events must have a time zone"),  # noqa: DTZ001
        ({"metrics": None, "mos": 1}, TypeError, "takes metrics or mos, not both"),
        ({"participants": [], "label": "a"}, TypeError, "label .* but participants is given"),
        ({"participants": [], "mos": 1}, TypeError, "mos .* but participants is given"),
        ({"conference": {}, "status": "x"}, TypeError, "status .* but conference is given"),
        ({"conference": 5}, TypeError, "conference must be a Conference or a mapping, not int"),
        (
            {"conference": models.Participant()},
            TypeError,
            "conference must be a Conference or a mapping, not Participant",
        ),
        ({"conference": {"a": {1}}}, TypeError, "conference cannot be encoded as JSON"),
    ],
)
async def test_wrong_fields(fake, arguments, error, words):
    """A field that cannot be used is an error that says why, and no conference is added."""
    with pytest.raises(error, match=words):
        fake.add_conference(**arguments)

    assert fake.conferences() == []


async def test_given_conferences(fake, session, get):
    """A conference that is given is served unchanged, and found by its own SID."""
    first = fake.add_conference(2)
    [served] = fake.conferences()
    record = await session.conference(first)
    given = {**served, "conference_sid": SID, "create_time": None, "new": {"a": [1]}}

    assert fake.add_conference(conference=given) == SID
    assert fake.add_conference(0, conference=record) == first
    nameless = fake.add_conference(0, conference={})
    elsewhere = fake.add_conference(0, conference_sid="CF1", conference={"conference_sid": SID})
    given["new"]["a"].clear()

    _, body, _ = await get(f"{LIST}/{SID}")
    assert body == {**given, "new": {"a": [1]}}
    assert (await get(f"{LIST}/{first}"))[1] == served
    assert (await get(f"{LIST}/{nameless}"))[1] == {}
    assert (await get(f"{LIST}/{elsewhere}"))[1] == {"conference_sid": SID}
    _, body, _ = await get(LIST)
    assert body["conferences"] == [
        served, {"conference_sid": SID}, {}, {**given, "new": {"a": [1]}},
    ]  # fmt: skip
    assert fake.conferences()[0] == {**given, "new": {"a": [1]}}


async def test_given_participants_make_a_conference(fake):
    """A conference is made up to fit given participants, whatever is wrong with them."""
    fake.add_conference(
        [
            {"join_time": "2026-02-01T10:00:00Z", "leave_time": "2026-02-01T10:01:00Z", "to": "+1"},
            {"join_time": 7, "metrics": {"inbound": {"mos": "bad"}}, "call_sid": "CA2"},
            {"join_time": "2026-02-01T10:00:30Z", "metrics": {"outbound": None}},
        ],
        end_reason="last_participant_left",
    )

    [conference] = fake.conferences()

    assert conference["create_time"] == "2026-02-01T10:00:00Z"
    assert conference["start_time"] == "2026-02-01T10:00:30Z"
    assert conference["unique_participants"] == 3
    assert conference["max_concurrent_participants"] == 1
    assert conference["mixer_region"] is None


# --- The clock, and a new beginning ---


async def test_recent_conferences():
    """With the real time as the server's, its conferences are of the last hours."""
    now = datetime.now(UTC)
    async with (
        FakeInsights(now=now) as fake,
        InsightsSession(fake.credentials, base_url=fake.base_url) as session,
    ):
        fake.add_conference(3)
        found = await session.conferences(created_after=now - timedelta(days=1))

    assert len(found) == 1
    assert found[0].end_time < now


@pytest.mark.parametrize(
    ("time", "error", "words"),
    [
        (datetime(2026, 3, 3), ValueError, "now must have a time zone"),  # noqa: DTZ001
        ("2026-03-03", TypeError, "now must be a datetime, not str"),
    ],
)
async def test_wrong_times(fake, time, error, words):
    """The server's time must be an aware datetime."""
    with pytest.raises(error, match=words):
        FakeInsights(now=time)
    with pytest.raises(error, match=words):
        fake.now = time


async def test_wrong_bounds(fake):
    """Bounds that do not exist are refused with those that do."""
    with pytest.raises(ValueError, match="one of neither, left, right, both, not 'all'"):
        fake.inclusive = "all"


async def test_reset():
    """After `reset` a server is as it was at its start, at the same address."""
    async with FakeInsights(seed=3, concurrency=9) as fake:
        async with InsightsSession(fake.credentials, base_url=fake.base_url) as session:
            sid = fake.add_conference(3)
            before = fake.base_url, fake.credentials, fake.now, fake.conferences()
            await session.conference(sid)
            log = fake.requests
            fake.fail_next(503, times=5)
            fake.now += timedelta(days=9)
            fake.inclusive, fake.latency, fake.concurrency = "both", 9.0, 1

            fake.reset()

            assert (fake.requests, fake.conferences()) == ([], [])
            assert len(log) == 1
            with pytest.raises(KeyError):
                fake.records(sid)
            with pytest.raises(NotFoundError):
                await session.conference(sid)
            assert (fake.inclusive, fake.latency, fake.concurrency) == ("neither", 0.0, 9)
            assert fake.add_conference(3) == sid
            assert (fake.base_url, fake.credentials, fake.now, fake.conferences()) == before
            assert [seen.status for seen in fake.requests] == [404]


async def test_restart():
    """After a restart the addresses in conferences lead to the new port."""
    fake = FakeInsights()
    async with fake:
        fake.add_conference(1)
        fake.add_conference(0, conference={"url": f"{fake.base_url}/x", "links": None})
        old = fake.base_url
    fake._port = int(old.rpartition(":")[2]) % 60000 + 2000
    async with fake:
        assert fake.base_url != old
        first, second = fake.conferences()
        assert first["url"].startswith(fake.base_url)
        assert first["links"]["conference_participants"].startswith(fake.base_url)
        assert second == {"url": f"{fake.base_url}/x", "links": None}


# --- Faults for some requests ---


async def test_faults_for_a_conference(fake, get):
    """A fault can be for one conference; other requests do not take it."""
    first, second = fake.add_conference(1), fake.add_conference(1)
    fake.fail_next(500, conference_sid=second)
    fake.fail_next(502)
    assert fake.pending_faults == 2

    assert (await get(f"{LIST}/{first}"))[0] == 502
    assert (await get(f"{LIST}/{first}/Participants"))[0] == 200
    assert (await get(f"{LIST}/{second}/Participants"))[0] == 500
    assert (await get(f"{LIST}/{second}"))[0] == 200
    assert fake.pending_faults == 0


async def test_faults_for_a_page(fake, session):
    """A fault can be for one page of a list, and only when that page is asked for."""
    sid = fake.add_conference(5)
    fake.fail_next(500, page=2, times=9, conference_sid=sid)

    found = []
    with pytest.raises(ServerError):
        async for participant in session.participants(sid, page_size=2):
            found.append(participant)

    assert len(found) == 4
    assert {request.status for request in fake.requests[:2]} == {200}
    await session.conference(sid)


@pytest.mark.parametrize("query", ["?PageSize=0", "?PageToken=x"])
async def test_faults_for_a_page_need_a_page(fake, get, query):
    """A request without a valid page takes no fault for a page."""
    fake.fail_next(500, page=0)

    assert (await get(f"{LIST}{query}"))[0] == 400
    assert (await get(LIST))[0] == 500


async def test_faults_for_a_path(fake, get):
    """A fault can be for the paths that a pattern matches, segment by segment."""
    sid = fake.add_conference(1)
    fake.fail_next(500, path="/v1/Conferences/*")
    fake.fail_next(501, path="/v1/Conferences")

    assert (await get(f"{LIST}/{sid}/Participants"))[0] == 200
    assert (await get(LIST))[0] == 501
    assert (await get(f"{LIST}/{sid}"))[0] == 500


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"page": -1}, "page must be a whole number from 0, not -1"),
        ({"path": "Conferences"}, "path must begin with a slash"),
    ],
)
async def test_faults_for_nothing(fake, get, arguments, words):
    """A fault that no request could ever take is refused."""
    with pytest.raises(ValueError, match=words):
        fake.fail_next(503, **arguments)

    assert (await get(LIST))[0] == 200
