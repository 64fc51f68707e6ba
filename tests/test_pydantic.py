"""Records as pydantic and FastAPI see them: validation, serialisation and the OpenAPI schema."""

from __future__ import annotations

import json
from typing import Annotated

import aiohttp
import attrs
import pytest
from fastapi import Body, FastAPI
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from pydantic import BaseModel, TypeAdapter, ValidationError

from aioparticipants import (
    AvgMax,
    CallDirection,
    CallStatus,
    Conference,
    ConferenceResult,
    ConferenceTag,
    MediaMetrics,
    NotFoundError,
    Page,
    PageMeta,
    Participant,
    ParticipantMetrics,
    ParticipantProperties,
    RecordProblem,
)
from aioparticipants._field_docs import field_docs

from .asgi import uvicorn_app

CLASSES = [
    *(AvgMax, MediaMetrics, ParticipantMetrics, ParticipantProperties, Participant, Conference),
    *(PageMeta, RecordProblem),
]
RECORD = Participant.from_dict(
    {
        "label": "é",
        "from": "+15005550006",
        "call_direction": "inbound",
        "call_status": "unheard-of",
        "join_time": "2021-10-08T02:58:51.5Z",
        "events": {"mute": [1633705131123]},
        "metrics": {"inbound": {"mos": 4, "jitter": {"avg": 0.5}, "tags": ["silent"]}},
        "properties": {"early_media": True},
        "novel": {"a": [1]},
    }
)
CONFERENCE = Conference.from_dict(
    {
        "tags": ["low_mos", "new"],
        "detected_issues": {"call_quality": 1},
        "tag_info": {"low_mos": {"a": [1]}},
        "links": {"participants": "https://x"},
    }
)
META = PageMeta(page=0, key="participants")
PAGE = Page(records=(RECORD,), meta=META, request_id=None)
RESULT = ConferenceResult(conference_sid="CF1", participants=(RECORD,), pages=1, seconds=0.5)
FAILED = attrs.evolve(
    RESULT,
    error=NotFoundError("no", status=404, code=20404),
    problems=(RecordProblem(conference_sid="CF1", index=1, cursor="c", fault="an array"),),
)
VALUES = [
    (Participant, RECORD),
    (Participant | None, RECORD),
    (Conference, CONFERENCE),
    (MediaMetrics, RECORD.metrics.inbound),
    (PageMeta, META),
    (Page, PAGE),
    (Page[Participant], PAGE),
    (Page[Conference], Page(records=(CONFERENCE,), meta=META, request_id=None)),
    (ConferenceResult, RESULT),
    (ConferenceResult, FAILED),
]
each_value = pytest.mark.parametrize(
    ("annotation", "value"), VALUES, ids=[str(annotation) for annotation, _ in VALUES]
)


def component(annotation, name=None, *, mode="serialization"):
    """Return the JSON schema of a class, or of one that it refers to."""
    schema = TypeAdapter(annotation).json_schema(mode=mode)
    return schema["$defs"][name] if name else schema


# --- pydantic ---


@each_value
def test_values_are_validated(annotation, value):
    """A record stays as it is; a mapping and JSON text become one, as with `from_dict`."""
    adapter = TypeAdapter(annotation)

    assert adapter.validate_python(value) is value
    for found in (
        adapter.validate_python(value.to_dict()),
        adapter.validate_json(value.to_json()),
    ):
        assert type(found) is type(value)
        assert found.to_dict() == value.to_dict()


@each_value
def test_values_are_serialised(annotation, value):
    """What pydantic writes is what `to_dict` and `to_json` give."""
    adapter = TypeAdapter(list[annotation])

    assert adapter.dump_python([value]) == [value.to_dict()]
    assert adapter.dump_json([value]).decode() == f"[{value.to_json()}]"


@pytest.mark.parametrize(
    ("annotation", "given", "words"),
    [
        (list[Participant], [{}, {"metrics": {"inbound": {"mos": "4"}}}], "metrics.inbound.mos: "),
        (Participant, 7, "expected an object, found an integer"),
        (Participant, CONFERENCE, "expected a JSON value, found Conference"),
        (Page[Conference], PAGE, r"expected a Page\[Conference\]"),
        (Page[Conference], PAGE.to_dict(), r"expected a Page\[Conference\]"),
        (ConferenceResult, {}, "conference_sid: expected a string"),
    ],
)
def test_what_does_not_fit_is_a_validation_error(annotation, given, words):
    """What `from_dict` refuses is pydantic's ValidationError, with the path in its text."""
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(annotation).validate_python(given)


def test_records_are_fields_of_models():
    """A model with records as fields validates, serialises and describes them."""

    class Report(BaseModel):
        worst: Participant | None = None
        by_region: dict[str, list[Participant]] = {}

    report = Report(worst=RECORD, by_region={"us1": [RECORD.to_dict()]})

    assert report.by_region == {"us1": [RECORD]}
    assert report.model_dump() == {
        "worst": RECORD.to_dict(),
        "by_region": {"us1": [RECORD.to_dict()]},
    }
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert "Participant" in Report.model_json_schema()["$defs"]


# --- The schema ---


@pytest.mark.parametrize("kind", CLASSES)
def test_the_schema_describes_every_member(kind):
    """Each class, and each of its members, is described by the text in the source."""
    schema = component(kind)
    texts = {name.rstrip("_"): text for name, text in field_docs(kind).items()}

    assert schema["title"] == kind.__name__
    assert schema["description"] == kind.__doc__
    described = {name: each["description"] for name, each in schema["properties"].items()}
    assert described == {name: text for name, text in texts.items() if name in described}
    assert {*texts} - {*described} <= {"extra", "problems"}
    assert {*schema["required"]} == {*kind.from_dict(_example(kind)).to_dict()}


def _example(kind):
    values = {"conference_sid": "CF1", "index": 0, "cursor": "c", "fault": "f"}
    return values if kind is RecordProblem else {}


def test_nothing_is_required_of_a_record_that_is_given():
    """What is read may lack any member; a page or result may lack those that can be null."""
    assert component(Participant, mode="validation")["required"] == []
    assert component(Page[Participant], mode="validation")["required"] == ["meta", "participants"]
    assert component(Page, mode="validation")["required"] == ["meta"]
    assert component(ConferenceResult, mode="validation")["required"] == [
        *("conference_sid", "participants", "problems", "pages", "seconds")
    ]


def test_the_schema_of_each_form():
    """Every kind of member has the form in which JSON has it, and null beside it."""
    members = component(Participant)["properties"] | component(Conference)["properties"]
    forms = {
        "label": {"type": "string"},
        "is_coach": {"type": "boolean"},
        "duration_seconds": {"type": "integer"},
        "join_time": {"type": "string", "format": "date-time"},
        "coached_participants": {"type": "array", "items": {"type": "string"}},
        "metrics": {"$ref": "#/$defs/ParticipantMetrics"},
        "events": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "integer"}},
        },
        "call_direction": {"type": "string", "examples": [*CallDirection]},
        "call_status": {"type": "string", "examples": [*CallStatus]},
        "tags": {"type": "array", "items": {"type": "string", "examples": [*ConferenceTag]}},
        "detected_issues": {"type": "object", "additionalProperties": {"type": "integer"}},
        "links": {"type": "object", "additionalProperties": {"type": "string"}},
        "tag_info": {"type": "object", "additionalProperties": True},
    }
    for name, form in forms.items():
        assert members[name]["anyOf"] == [form, {"type": "null"}], name
    mos = component(Participant, "MediaMetrics")["properties"]["mos"]
    assert mos["anyOf"] == [{"type": "number"}, {"type": "null"}]


@pytest.mark.parametrize("mode", ["serialization", "validation"])
@each_value
def test_values_fit_the_schema(annotation, value, mode):
    """What is written fits the schema, unknown words and members included."""
    schema = component(annotation, mode=mode)

    OAS31Validator.check_schema(schema)
    OAS31Validator(schema).validate(json.loads(value.to_json()))
    assert not OAS31Validator(schema).is_valid([])


@pytest.mark.parametrize(
    "wrong",
    [
        {"duration_seconds": "3"},
        {"call_direction": 1},
        {"metrics": {"inbound": {"jitter": {"avg": "0.5"}}}},
        {"events": {"mute": ["2021-10-08T02:58:51Z"]}},
    ],
)
def test_other_values_do_not_fit_the_schema(wrong):
    """The schema of a record refuses values of the types that `from_dict` refuses."""
    schema = component(Participant, mode="validation")

    assert not OAS31Validator(schema).is_valid(wrong)
    assert OAS31Validator(schema).is_valid(dict.fromkeys(wrong))


# --- FastAPI ---


def application(records):
    """Return an application whose handlers return and take records."""
    app = FastAPI()

    @app.get("/participants")
    async def participants() -> list[Participant]:
        return records

    @app.get("/conference")
    async def conference() -> Conference:
        return CONFERENCE

    @app.get("/page")
    async def page() -> Page[Participant]:
        return PAGE

    @app.get("/result")
    async def result() -> ConferenceResult:
        return FAILED

    @app.get("/mapping", response_model=Participant)
    async def mapping() -> object:
        return RECORD.to_dict()

    @app.post("/same")
    async def same(record: Annotated[Participant, Body()]) -> Participant:
        assert isinstance(record, Participant)
        return record

    return app


async def test_fastapi_answers_with_records(fake, session):
    """A handler's records are the JSON that Twilio sent, and a body becomes a record."""
    sid = fake.add_conference(participants=3)
    app = application(await session.participants(sid))
    async with uvicorn_app(app) as address, aiohttp.ClientSession(address) as client:

        async def get(path):
            async with client.get(path) as reply:
                assert reply.status == 200
                return await reply.json()

        assert await get("/participants") == fake.records(sid)
        assert await get("/conference") == CONFERENCE.to_dict()
        assert await get("/page") == PAGE.to_dict()
        assert await get("/result") == FAILED.to_dict()
        assert await get("/mapping") == RECORD.to_dict()
        async with client.post("/same", json=RECORD.to_dict()) as reply:
            assert (reply.status, await reply.json()) == (200, RECORD.to_dict())
        async with client.post("/same", json={"duration_seconds": "3"}) as reply:
            assert reply.status == 422
            assert "duration_seconds: expected an integer" in await reply.text()

        description = await get("/openapi.json")
        validate(description)
        schemas = description["components"]["schemas"]
        assert {"Conference", "ConferenceResult", "Page_Participant_", "PageMeta"} < {*schemas}
        answer = description["paths"]["/participants"]["get"]["responses"]["200"]
        items = answer["content"]["application/json"]["schema"]["items"]["$ref"]
        mos = schemas["MediaMetrics-Output"]["properties"]["mos"]
        assert items == "#/components/schemas/Participant-Output"
        assert mos["description"] == field_docs(MediaMetrics)["mos"]
        assert schemas["Page_Participant_"]["title"] == "Page[Participant]"


def test_one_component_a_class():
    """Where records are only returned, each class is one component, under its own name."""
    app = FastAPI()

    @app.get("/")
    async def participants() -> list[Participant]:
        return []

    description = app.openapi()

    validate(description)
    assert {*description["components"]["schemas"]} == {
        *("AvgMax", "MediaMetrics", "Participant", "ParticipantMetrics", "ParticipantProperties")
    }
