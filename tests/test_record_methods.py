"""From records, pages and results to dicts and JSON, and back; and how records behave elsewhere."""

from __future__ import annotations

import copy
import inspect
import io
import json
import pickle
import pprint
import pydoc
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import aiohttp
import attrs
import pytest
from rich import inspect as rich_inspect
from rich.console import Console
from rich.pretty import pretty_repr

from aioparticipants import (
    APIStatusError,
    AvgMax,
    CallDirection,
    Conference,
    ConferenceResult,
    InsightsError,
    InvalidRequestError,
    MediaMetrics,
    NotFoundError,
    Page,
    PageMeta,
    Participant,
    ParticipantMetrics,
    RecordProblem,
    ResponseError,
    TransportError,
    errors,
)
from aioparticipants.models import FrozenMapping

DESCRIPTION = Path(__file__).parents[2] / "shared" / "insights-v1-openapi.json"
NOON = datetime(2021, 10, 8, 12, tzinfo=UTC)
MEDIA = {
    "total_packets_lost": 3,
    "total_packets_received": 70,
    "packet_loss_percentage": 0,
    "jitter": {"avg": 0.41, "max": 1},
    "latency": {"avg": 0, "max": -0.0},
    "mos": 4.4,
}
RAW = {
    **Participant().to_dict(),
    "label": "agent é",
    "from": "+15005550006",
    "call_direction": "inbound",
    "call_status": "unheard-of",
    "join_time": "2021-10-08T02:58:51Z",
    "leave_time": "2021-10-08T02:59:55.25Z",
    "duration_seconds": 64,
    "coached_participants": ["CA1"],
    "properties": {
        "start_conference_on_enter": True,
        "end_conference_on_exit": None,
        "early_media": False,
        "enter_muted": None,
        "beep_on_enter": None,
        "beep_on_exit": None,
    },
    "events": {"mute": [1633705131123, 0]},
    "metrics": {"inbound": {**MEDIA, "tags": ["silent"]}, "outbound": {**MEDIA, "novel": [{}]}},
    "novel": {"a": [1, {"b": None}]},
}
RECORD = Participant.from_dict(RAW)
CONFERENCE = Conference.from_dict(
    {
        "conference_sid": "CF1",
        "friendly_name": "Board",
        "tags": ["low_mos", "new"],
        "detected_issues": {"call_quality": 2},
        "tag_info": {"low_mos": [{"severity": 1}]},
        "links": {"participants": "https://x"},
    }
)
META = PageMeta(page=0, page_size=50, key="participants", extra={"novel": 1})
PROBLEM = RecordProblem(conference_sid=None, index=3, cursor="c3", fault="an array")
RESULT = ConferenceResult(
    conference_sid="CF1",
    participants=(RECORD,),
    problems=(PROBLEM,),
    pages=1,
    seconds=0.5,
    conference=CONFERENCE,
)
VALUES = [
    RECORD,
    CONFERENCE,
    RECORD.metrics,
    RECORD.metrics.inbound,
    RECORD.metrics.inbound.jitter,
    RECORD.properties,
    META,
    PROBLEM,
    Page(records=(RECORD, Participant()), meta=META, request_id=None),
    Page(records=(CONFERENCE,), meta=PageMeta(key="conferences"), request_id=None),
    RESULT,
]


def name_of(value):
    return type(value).__name__


each_value = pytest.mark.parametrize("value", VALUES, ids=name_of)


def plain_types(value):
    """Return the exact types in a JSON value."""
    inner = [*value.values()] if type(value) is dict else value if type(value) is list else ()
    return {type(value)}.union(*map(plain_types, inner))


# --- Records ---


@each_value
def test_every_class_goes_to_json_and_back(value):
    """What `to_dict` gives is plain, `to_json` is its text, and `from_dict` gives it back."""
    written = value.to_dict()

    assert plain_types(written) <= {dict, list, str, int, float, bool, type(None)}
    assert json.loads(value.to_json()) == written
    assert type(value).from_dict(written) == value
    assert type(value).from_dict(FrozenMapping(written)) == value
    assert json.loads(json.dumps(written, allow_nan=False)) == written


def test_a_record_is_as_the_api_sent_it():
    """Names, forms, numbers and unknown members are the API's, exactly."""
    assert RECORD.to_dict() == RAW
    assert json.dumps(RECORD.to_dict(), sort_keys=True) == json.dumps(RAW, sort_keys=True)
    assert CONFERENCE.to_dict() == {
        **Conference().to_dict(),
        "conference_sid": "CF1",
        "friendly_name": "Board",
        "tags": ["low_mos", "new"],
        "detected_issues": {"call_quality": 2},
        "tag_info": {"low_mos": [{"severity": 1}]},
        "links": {"participants": "https://x"},
    }
    assert MediaMetrics().to_dict() == dict.fromkeys(MEDIA)


def test_json_text_is_compact_utf_8():
    """The text has no spaces and no escapes but for lone surrogates, so UTF-8 encodes it."""
    record = AvgMax(avg=1, extra={"a": "é\u2028", "b": "\ud800x"})

    assert record.to_json() == '{"avg":1,"max":null,"a":"é\u2028","b":"\\ud800x"}'
    assert json.loads(record.to_json().encode()) == record.to_dict()


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (NOON, "2021-10-08T12:00:00Z"),
        (NOON.replace(microsecond=500000), "2021-10-08T12:00:00.5Z"),
        (NOON.replace(microsecond=120), "2021-10-08T12:00:00.00012Z"),
        (NOON.replace(microsecond=1), "2021-10-08T12:00:00.000001Z"),
        (NOON.astimezone(timezone(timedelta(hours=-7))), "2021-10-08T12:00:00Z"),
        (NOON.replace(year=1), "0001-10-08T12:00:00Z"),
    ],
)
def test_times_are_in_utc_with_the_fewest_digits(time, text):
    """A time of any offset is written in UTC, with no more digits than it needs."""
    record = Participant(join_time=time)

    assert record.to_dict()["join_time"] == text
    assert Participant.from_dict(record.to_dict()) == record


def test_what_does_not_fit_is_kept_and_comes_back():
    """With `on_invalid="keep"`, wrong values are in `extra`, `problems` and the dict again."""
    raw = {**RAW, "duration_seconds": "64", "metrics": {"inbound": {**MEDIA, "mos": "good"}}}
    record = Participant.from_dict(raw, on_invalid="keep")

    assert record.duration_seconds is None
    assert record.extra["duration_seconds"] == "64"
    assert record.problems == (
        "duration_seconds: expected an integer, found a string",
        "metrics.inbound.mos: expected a number, found a string",
    )
    assert record.to_dict() == {**raw, "metrics": {**raw["metrics"], "outbound": None}}
    assert Participant.from_dict(record.to_dict(), on_invalid="keep") == record
    media = MediaMetrics.from_dict({"mos": "good"}, on_invalid="keep")
    assert media.to_dict()["mos"] == "good"
    assert MediaMetrics.from_dict(media.to_dict(), on_invalid="keep") == media


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (float("inf"), "1e999"),
        ([float("-inf")], "[-1e999]"),
        (nested(100), nested(100)),
        (nested(300), "[" * 301 + "]" * 301),
    ],
    ids=["infinite", "infinite inside", "100 levels", "300 levels"],
)
def test_values_that_were_kept_as_text(value, written):
    """A value kept as its JSON text is itself again in the dict, if Python can write it as JSON."""
    record = Participant.from_dict({"novel": value, "label": "x"}, on_invalid="keep")

    assert type(copy.deepcopy(record).extra["novel"]) is type(record.extra["novel"])
    assert isinstance(record.extra["novel"], str)
    assert record.to_dict()["novel"] == written
    assert json.loads(record.to_json())["novel"] == written
    assert plain_types(record.to_dict()) <= {dict, list, str, type(None)}
    assert pickle.loads(pickle.dumps(record)).to_dict() == record.to_dict()


def test_text_that_cannot_be_parsed_stays_text():
    """A JSON text that the parser gives up on, as its levels exhaust the stack, stays a string."""
    record = Participant.from_dict({"novel": nested(700)}, on_invalid="keep")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 250)
    try:
        written = record.to_dict()
    finally:
        sys.setrecursionlimit(limit)

    assert written["novel"] == "[" * 701 + "]" * 701


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (Participant, {"metrics": {"inbound": {"mos": "PII"}}}, "metrics.inbound.mos: expected a"),
        (Participant, {"label": b"PII"}, "label: expected a JSON value, found bytes"),
        (Participant, {"from": 1}, "from: expected a string, found an integer"),
        (Participant, {"novel": nested(100)}, "novel: the value is nested too deeply"),
        (Participant, {"novel": [{1: "PII"}]}, "novel[0]: expected a string, found an integer"),
        (Participant, {"events": {"mute": [NOON]}}, "events.mute[0]: expected a JSON value"),
        (Participant, "PII", "expected an object, found a string"),
        (Participant, None, "expected an object, found null"),
        (AvgMax, {"max": float("nan")}, "max: expected a finite number"),
        (RecordProblem, {"conference_sid": 1}, "conference_sid: expected a string"),
        (RecordProblem, {**PROBLEM.to_dict(), "index": 1.5}, "index: expected an integer"),
        (RecordProblem, {1: 2}, "expected a string, found an integer"),
        (Page, {}, "meta: expected an object, found null"),
        (Page, {"meta": {"next_page_url": 1}}, "meta.next_page_url: expected a string"),
        (Page, {"meta": {}}, "expected one of the members participants and conferences"),
        (Page, {"meta": {}, "conferences": [], "participants": []}, "expected one of the members"),
        (Page, {"meta": {}, "participants": {}}, "participants: expected an array"),
        (Page, {"meta": {}, "participants": [{}, {"to": 1}]}, "participants[1].to: expected a"),
        (Page, [], "expected an object, found an array"),
        (ConferenceResult, {}, "conference_sid: expected a string, found null"),
        (ConferenceResult, {**RESULT.to_dict(), "participants": [{"to": 1}]}, "participants[0].to"),
        (ConferenceResult, {**RESULT.to_dict(), "error": {}}, "error.type: expected a string"),
        (ConferenceResult, {**RESULT.to_dict(), "problems": ["PII"]}, "problems[0]: expected an"),
    ],
)
def test_what_from_dict_refuses(kind, given, words):
    """What does not fit is the caller's mistake, named by its path, and its value is not shown."""
    with pytest.raises(InvalidRequestError) as caught:
        kind.from_dict(given)

    assert str(caught.value).startswith(f"{kind.__name__}.from_dict: {words}")
    assert "PII" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("kind", [Participant, Page, ConferenceResult])
def test_on_invalid_is_checked(kind):
    """`on_invalid` takes two words only."""
    with pytest.raises(InvalidRequestError, match="on_invalid must be 'raise' or 'keep'"):
        kind.from_dict({}, on_invalid="ignore")


def test_what_json_cannot_hold_is_not_kept_either():
    """A value that is no JSON, at any depth, is refused also with `on_invalid="keep"`."""
    endless = []
    endless.append(endless)
    deep = nested(70)
    innermost = deep
    while innermost:
        innermost = innermost[0]
    innermost.append(object())
    for value, words in [
        (object(), "expected a JSON value, found object"),
        (endless, "expected a JSON value"),
        (deep, "expected a JSON value"),
        (nested(100_000), "the value is nested too deeply"),
    ]:
        with pytest.raises(InvalidRequestError, match=words) as caught:
            Participant.from_dict({"novel": value}, on_invalid="keep")
        assert caught.value.__context__ is None


def test_a_record_does_not_follow_its_mapping():
    """Neither the mapping that a record came from nor the dict that it gives changes the record."""
    given = copy.deepcopy(RAW)
    record = Participant.from_dict(given)
    given["metrics"]["inbound"]["mos"] = 1.0
    given["novel"]["a"].append(2)
    written = record.to_dict()
    written["metrics"]["inbound"]["tags"].append("x")
    written["novel"]["a"].append(2)

    assert record.to_dict() == RAW


def test_a_class_of_the_users_own():
    """A class derived from a record has the methods, and `from_dict` gives one of it."""

    @attrs.frozen(kw_only=True)
    class Mine(Participant):
        note: str = ""

    mine = Mine.from_dict(RAW)

    assert type(mine) is Mine
    assert mine.to_dict() == RAW
    assert Mine.from_dict({"label": 1}, on_invalid="keep").problems
    assert Mine(note="x").to_dict() == Participant().to_dict()


# --- Records made by hand ---


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (
            Participant(join_time=NOON.replace(tzinfo=None)),
            "Participant.join_time: expected a time",
        ),
        (
            Participant(leave_time=datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))),
            "Participant.leave_time: expected a time",
        ),
        (
            Participant(
                properties={}, metrics=ParticipantMetrics(inbound=MediaMetrics(mos=float("nan")))
            ),
            "Participant.metrics.inbound.mos: expected a finite number",
        ),
        (AvgMax(max=float("inf")), "AvgMax.max: expected a finite number"),
        (Page(records=(1,), meta=META, request_id=None), "Page.records: expected records of this"),
    ],
)
def test_values_by_hand_that_cannot_be_written(record, words):
    """A record made by hand with a value that JSON cannot hold says which field has it."""
    with pytest.raises(InvalidRequestError) as caught:
        record.to_dict()

    assert str(caught.value).startswith(words)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("value", [float("nan"), {1, 2}])
def test_unknown_members_by_hand_that_cannot_be_written(value):
    """`to_json` of such a record is a clear error, which does not show the value."""
    with pytest.raises(InvalidRequestError, match="has a value that JSON cannot hold") as caught:
        AvgMax(extra={"a": value}).to_json()

    assert caught.value.__cause__ is None


def test_records_by_hand_come_back():
    """Plain mappings, lists and times by hand are the same after JSON."""
    record = Participant(
        extra={"a": [{"b": [1]}], "c": {"d": ()}},
        events={"mute": [NOON + timedelta(microseconds=1234)]},
        call_direction=CallDirection.INBOUND,
        join_time=NOON.astimezone(timezone(timedelta(hours=2))),
    )

    assert hash(record) == hash(Participant.from_dict(record.to_dict()))
    assert record == Participant.from_dict(record.to_dict())
    assert record.events["mute"][0].microsecond == 1000


# --- Pages ---


@pytest.mark.parametrize(
    ("records", "key", "expected"),
    [
        ((RECORD,), "participants", "participants"),
        ((CONFERENCE,), None, "conferences"),
        ((CONFERENCE,), "participants", "conferences"),
        ((), "conferences", "conferences"),
        ((), "novel", "participants"),
        ((), None, "participants"),
    ],
)
def test_the_member_that_has_a_pages_records(records, key, expected):
    """It is named by the class of the records; an empty page's by `meta.key`, or `participants`."""
    page = Page(records=records, meta=PageMeta(key=key), request_id="RQ1")

    assert page.to_dict() == {
        "meta": page.meta.to_dict(),
        expected: [each.to_dict() for each in records],
    }
    assert Page.from_dict(page.to_dict()) == attrs.evolve(page, request_id=None)


def test_a_page_keeps_what_does_not_fit():
    """With `on_invalid="keep"` records keep wrong values; `meta` always does, as in a reply."""
    raw = {"meta": {**META.to_dict(), "page": "0"}, "participants": [{**RAW, "to": 1}]}
    page = Page.from_dict(raw, on_invalid="keep")

    assert page.to_dict() == raw
    assert page.records[0].problems == ("to: expected a string, found an integer",)
    with pytest.raises(InvalidRequestError, match=r"participants\[0\]: expected an object"):
        Page.from_dict({"meta": {}, "participants": [1]}, on_invalid="keep")


async def test_what_is_read_is_what_was_served(fake, session):
    """Pages, and the records of a result, are written as the server sent them."""
    sid = fake.add_conference(participants=7)
    async with aiohttp.ClientSession() as client:
        async for page in session.participants(sid, page_size=3).pages():
            headers = {"Authorization": aiohttp.encode_basic_auth(*fake.credentials)}
            async with client.get(page.meta.url, headers=headers) as reply:
                assert page.to_dict() == await reply.json()
    (result,) = await session.fan_out([sid])

    assert result.to_dict() == {
        "conference_sid": sid,
        "participants": fake.records(sid),
        "error": None,
        "problems": [],
        "pages": 1,
        "seconds": result.seconds,
        "conference": None,
    }
    assert ConferenceResult.from_dict(result.to_dict()) == result


async def test_the_conference_of_a_result(fake, session):
    """A result has its conference as the server sent it, and leaves the caller's context out."""
    sid = fake.add_conference(participants=1)
    (result,) = await session.fan_out([(await session.conference(sid), object())])

    (summary,) = fake.conferences()
    assert result.to_dict()["conference"] == summary
    assert "context" not in result.to_dict()
    assert ConferenceResult.from_dict(result.to_dict()) == result
    with pytest.raises(InvalidRequestError, match=r"conference\.duration_seconds: expected an int"):
        ConferenceResult.from_dict({**result.to_dict(), "conference": {"duration_seconds": "x"}})


def test_published_examples_come_back():
    """Every example of Twilio's description, page or record, is the same after `from_dict`."""
    if not DESCRIPTION.exists():
        pytest.skip("Twilio's description is not beside the repository")
    paths = json.loads(DESCRIPTION.read_text(encoding="utf-8"))["paths"]
    count = 0
    for path, item in paths.items():
        kind = Participant if "/Participants" in path else Conference
        content = item["get"]["responses"]["200"]["content"]["application/json"]
        for example in content["examples"].values():
            body, count = example["value"], count + 1
            assert (Page if "meta" in body else kind).from_dict(body).to_dict() == body
    assert count == 9


# --- Results ---


def test_an_error_is_described_without_secrets():
    """An error becomes an object of always the same members, without the server's own text."""
    error = NotFoundError(
        "HTTP 404. Check the SID.",
        status=404,
        code=20404,
        message="secret",
        details={"a": "secret"},
        request_id="RQ1",
        cursor="c1",
        conference_sid="CF1",
    )
    written = attrs.evolve(RESULT, error=error).to_dict()

    assert written["error"] == {
        "type": "NotFoundError",
        "message": "HTTP 404. Check the SID.",
        "transient": False,
        "status": 404,
        "code": 20404,
        "retry_after": None,
        "request_id": "RQ1",
        "cursor": "c1",
        "path": None,
        "cursor_after": None,
    }
    assert "secret" not in json.dumps(written)


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("no", status=404, code=20404, request_id="RQ", cursor="c"),
        APIStatusError("busy", status=429, retry_after=1.5),
        ResponseError("bad", path="participants[1].to", cursor_after="c2", transient=True),
        TransportError("cut", transient=False),
        InsightsError("else"),
    ],
    ids=name_of,
)
def test_an_error_comes_back(error):
    """An error comes back as one of its class that says the same; unknown members are ignored."""
    written = {**attrs.evolve(RESULT, error=error).to_dict(), "novel": 1}
    found = ConferenceResult.from_dict(written).error

    assert type(found) is type(error)
    assert str(found) == str(error)
    assert found.conference_sid == "CF1"
    for name in ("transient", "status", "code", "retry_after", "cursor", "path", "cursor_after"):
        assert getattr(found, name, None) == getattr(error, name, None)
    assert {**ConferenceResult.from_dict(written).to_dict(), "novel": 1} == written


@pytest.mark.parametrize("name", ["Elsewhere", "copied", "Attempt", "__doc__"])
def test_an_error_of_an_unknown_class(name):
    """An error of a class that the package does not have comes back as an InsightsError."""
    written = attrs.evolve(RESULT, error=TransportError("cut")).to_dict()
    written["error"]["type"] = name
    found = ConferenceResult.from_dict(written).error

    assert hasattr(errors, name) or name == "Elsewhere"
    assert type(found) is InsightsError
    assert found.transient
    assert str(found) == "cut"


def test_a_result_of_something_that_is_no_sid():
    """A result whose SID is not even a string is written with its text."""
    assert ConferenceResult(conference_sid=7).to_dict()["conference_sid"] == "7"


# --- Elsewhere ---


@each_value
def test_copies(value):
    """`copy`, `deepcopy`, `pickle`, `attrs.evolve` and `copy.replace` give equal values."""
    field = attrs.fields(type(value))[0].name
    changes = {field: getattr(value, field)}

    assert copy.copy(value) == value
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value
    assert attrs.evolve(value, **changes) == value
    if sys.version_info >= (3, 13):
        assert copy.replace(value, **changes) == value


def test_attrs_asdict():
    """`attrs.asdict` gives the fields by their Python names, nested records as dicts."""
    found = attrs.asdict(RECORD)

    assert found["from_"] == RAW["from"]
    assert found["join_time"] == datetime(2021, 10, 8, 2, 58, 51, tzinfo=UTC)
    assert found["metrics"]["inbound"]["jitter"] == {"avg": 0.41, "max": 1, "extra": {}}
    assert found["events"] == RECORD.events
    assert Participant(**{**found, "metrics": None, "properties": None}) == attrs.evolve(
        RECORD, metrics=None, properties=None
    )


def test_match():
    """Records match by keyword, nested ones and enums, too."""
    match RECORD:
        case Participant(
            call_direction=CallDirection.INBOUND,
            metrics=ParticipantMetrics(inbound=MediaMetrics(mos=mos)),
        ):
            assert mos == 4.4
        case _:
            pytest.fail("It did not match.")


def rich_of(value):
    console = Console(file=io.StringIO(), width=200)
    console.print(value)
    return console.file.getvalue()


@each_value
@pytest.mark.parametrize("show", [repr, pprint.pformat, pretty_repr, rich_of])
def test_shown_values_mask_personal_data(value, show):
    """What `repr`, `pprint` and rich show names the class, and masks personal data."""
    shown = show(value)

    assert name_of(value) in shown
    assert not [each for each in ("agent", "+1500", "Board", "'a'") if each in shown]


def test_rich_inspect():
    """`rich.inspect` shows a record with its fields and methods."""
    console = Console(file=io.StringIO(), width=200)
    rich_inspect(RECORD, console=console, methods=True)

    assert "duration_seconds = 64" in console.file.getvalue()
    assert "to_dict" in console.file.getvalue()


@pytest.mark.parametrize("kind", [Participant, Conference, MediaMetrics, Page, ConferenceResult])
def test_help_shows_the_methods(kind):
    """`help` of a class shows what its methods do."""
    shown = pydoc.plain(pydoc.render_doc(kind))

    for method in (kind.to_dict, kind.to_json, kind.from_dict):
        assert inspect.getdoc(method).splitlines()[0] in shown


def test_pydantic_is_not_imported():
    """The package, and the methods of its records, do not import pydantic."""
    code = (
        "import sys, aioparticipants as a; a.Participant.from_dict(a.Participant().to_dict());"
        "sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
