"""What Twilio's Event Streams push to a webhook or to Kinesis, decoded into records.

    from aioparticipants import event_streams

    for event in event_streams.parse(await request.read()):
        print(event.id, event.type, event.record)

1. A body is a CloudEvents batch (an array of events) or a single event, in strict JSON. A webhook
   sink sends batches of up to 64 KiB, or single events with `batch_events: false`; a record of a
   Kinesis stream is a single event. (A Segment sink sends to Segment, not to a program of yours.)
   https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
   https://www.twilio.com/docs/events/event-streams/sink-resource
   https://www.twilio.com/docs/events/eventstreams-quickstart
2. A conference or participant summary becomes the same record as from the REST API, by the same
   rules: these events "contain the full set" of that resource's details. So the times in `events`
   are read as milliseconds, as in the REST API; the schema says "Unix timestamps" and no unit.
   https://www.twilio.com/docs/voice/voice-insights/event-streams/conference-insights-event
3. One member has another name: `call_state` ("Status of the call; completed, failed, etc.") is what
   the REST API has as `call_status` ("Call status of the call that generated the participant").
   Schema 1 can have both; then `call_state` is kept in the record's `extra`, as is everything else
   that the record has no field for (`quality_issues`, `whisper`, `agent_audio`, …).
   https://www.twilio.com/docs/events/event-types/conference-insights/conference-participant-summary
   https://www.twilio.com/docs/events/event-types/conference-insights/conference-summary
4. In a Kinesis record, `data` is a string of JSON, which CloudEvents forbids (3.1.2 of its JSON
   format). It is decoded where the event is a summary, and nowhere else.
5. An event of any other type is kept with its `data`, and has no record.
6. One bad event does not lose the others: it is delivered, too, and its `problems` say what is
   wrong. A body that cannot be read to its end is an error, so that the webhook answers with an
   error, and Twilio sends it again.
7. Twilio delivers an event at least once, in any order, and retries for up to four hours; then, or
   by a fault of its own, it drops the event. Deduplicate by `id`, and read by REST what is missing.
   https://www.twilio.com/docs/events/event-delivery-and-duplication
   https://www.twilio.com/docs/api/errors/91303 and /91308
8. The signature of a push is the caller's to check; see `parse`.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime  # noqa: TC003 - who resolves the annotations needs it
from enum import StrEnum
from typing import Final, Literal, cast

import attrs

from ._arguments import checked_choice
from ._decoding import array_items, decoded
from ._field_docs import documented
from ._json_values import (
    MismatchError,
    OpenEnum,
    are_texts,
    freeze,
    json_given,
    json_text,
    member_path,
    time_from_json,
    wrong_type,
)
from ._structuring import conference_keeping, participant_keeping
from .errors import InvalidRequestError, ResponseError
from .models import Conference, FrozenMapping, Participant

__all__ = ["EventType", "StreamEvent", "parse"]

#: Bytes of the largest body, and the most events in it. Twilio's batches have 64 KiB, and a Kinesis
#: record at most 1 MiB. Without a limit, whoever can send a body could keep the process busy.
_LARGEST_BODY: Final = 4 * 2**20
_MOST_EVENTS: Final = 10_000
#: Levels of the deepest body that is given decoded; `json` decodes about as many.
_DEEPEST: Final = 10_000
#: Types of decoded JSON, besides dict and list.
_PLAIN: Final = frozenset({str, bool, int, float, type(None)})
_VERSION: Final = re.compile(r"1\.[0-9]+")
#: The attributes that have a field, and whether CloudEvents requires them (CloudEvents 1.0.2, 3.1).
_ATTRIBUTES: Final[Mapping[str, bool]] = {
    "id": True,
    "type": True,
    "source": True,
    "specversion": True,
    "time": False,
    "dataschema": False,
    "datacontenttype": False,
}
_NO_MEMBERS: Final[FrozenMapping[object]] = FrozenMapping()


class EventType(StrEnum):
    """The types of the events that become records; any other type stays a plain string."""

    CONFERENCE_SUMMARY_COMPLETE = "com.twilio.voice.insights.conference-summary.complete"
    """Sent with the end of a conference."""
    CONFERENCE_SUMMARY_PARTIAL = "com.twilio.voice.insights.conference-summary.partial"
    """Sent with the start of a conference; the summary is not complete."""
    CONFERENCE_PARTICIPANT_SUMMARY_COMPLETE = (
        "com.twilio.voice.insights.conference-participant-summary.complete"
    )
    """Sent when a participant leaves."""
    PARTICIPANT_SUMMARY_COMPLETE = "com.twilio.voice.insights.participant-summary.complete"
    """The same, by the name that another of Twilio's pages gives it."""


_TYPES: Final = OpenEnum(EventType)


def _hidden(value: object) -> str:
    return "None" if value is None else "'***'"


def _keys_only(value: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{key!r}: '***'" for key in value) + "}"


@documented
@attrs.frozen(kw_only=True)
class StreamEvent:
    """One event: immutable at all levels, hashable, comparable and picklable.

    A field is None where the event does not have the attribute, or has a value that does not fit;
    `problems` then say why, and `extra` has the value. `repr` hides the values of `data` and of
    `extra`.
    """

    id: str | None = None
    """What to deduplicate by: Twilio can deliver the same event more than once, with the same id.
    None only if `problems` say so; never treat two such events as the same."""
    type: EventType | str | None = None
    """What happened."""
    source: str | None = None
    """The resource that it happened to, such as a path of Twilio's API."""
    specversion: str | None = None
    """The version of CloudEvents, `1.0`."""
    time: datetime | None = None
    """When Twilio made the event; an aware datetime in UTC. Not every event has one."""
    dataschema: str | None = None
    """The URL of the schema of `data`; the number at its end is the schema's version."""
    datacontenttype: str | None = None
    """The media type of `data`. Not used: Twilio's own examples have a time here."""
    data: object = attrs.field(default=None, repr=_hidden)
    """What Twilio sent about the resource, as a value of JSON: objects as immutable mappings,
    arrays as tuples. Where the event itself is not an object, that value. A value that cannot be
    made immutable (an infinite number, more than 64 levels) is kept as its JSON text."""
    record: Participant | Conference | None = None
    """The same as a record; None for other types, and if `data` is not an object. A wrong value in
    it is None here, as with `on_invalid="keep"` for a list."""
    extra: Mapping[str, object] = attrs.field(default=_NO_MEMBERS, repr=_keys_only)
    """The attributes that have no field here, and values that do not fit their field."""
    problems: tuple[str, ...] = ()
    """What is wrong with the event, such as `data.duration_seconds: expected an integer, found a
    string`. Empty if all of it fits."""

    @property
    def participant(self) -> Participant | None:
        """The record, if it is a participant."""
        return self.record if isinstance(self.record, Participant) else None

    @property
    def conference(self) -> Conference | None:
        """The record, if it is a conference."""
        return self.record if isinstance(self.record, Conference) else None


def parse(
    body: bytes | bytearray | str | Sequence[object] | Mapping[str, object],
    *,
    on_invalid: Literal["keep", "raise"] = "keep",
) -> list[StreamEvent]:
    """Return the events of a push of Twilio's Event Streams, in their order.

    It does not check who sent the body. Before you call it, let the package `twilio` check the
    header `X-Twilio-Signature`: `RequestValidator(auth_token).validate(url, body, signature)`,
    where `url` is the whole URL as Twilio requested it, with its query, and `body` is the text of
    the body. Refuse a URL without `bodySHA256`: its signature does not cover the body. The guide
    has a complete webhook. https://www.twilio.com/docs/usage/webhooks/webhooks-security

    An event can come more than once: deduplicate by its `id`. Events come in any order. A batch of
    64 KiB takes about 3 ms, without a pause.

    Args:
        body: the body as it came, up to 4 MiB; or what `json.loads` makes of it, an array of up to
            10,000 events or a single event.
        on_invalid: what to do with an event that is not as CloudEvents and Twilio describe it.
            `keep` delivers it with its `problems`, and whatever of it fits. `raise` raises for the
            first one. (A list of the REST API raises by default, as it can be resumed after a bad
            record. A push cannot: where the webhook fails, Twilio sends the same body again, and in
            the end drops the good events in it, too.)

    Raises:
        ResponseError: the body is not JSON, or is neither an array nor an object, or is too large;
            or, with `raise`, an event is bad. `path` says where, such as
            `[3].data.duration_seconds`.
        InvalidRequestError: `body` is of another type, or is decoded and has values of types that
            JSON does not have; or `on_invalid` is another word.
    """
    keep = checked_choice(on_invalid, "on_invalid", ("keep", "raise")) == "keep"
    value = _value_of(body)
    if isinstance(value, dict):
        return [_EventReader("", keep=keep).event(cast("object", value))]
    if isinstance(value, (list, Iterator)):
        return _events(cast("Sequence[object] | Iterator[object]", value), keep=keep)
    words = "is neither an array nor an object"
    raise _body_error(words)


def _events(items: Iterable[object], *, keep: bool) -> list[StreamEvent]:
    events: list[StreamEvent] = []
    for index, item in enumerate(items):
        path = f"[{index}]"
        if index == _MOST_EVENTS:
            words = f"has more than {_MOST_EVENTS} events"
            raise _body_error(words, path)
        events.append(_EventReader(path, keep=keep).event(item))
    return events


# --- The body ---


def _body_error(words: str, path: str | None = None) -> ResponseError:
    """Return the error to raise; outside of `except`, as a chained error could show the body."""
    message = (
        f"The body of the push {words}. "
        "Check that it is given as it came, and that Twilio's Event Streams sent it."
    )
    return ResponseError(message, path=path)


def _value_of(body: object) -> object:
    """Return the decoded body; for an array that is still to be decoded, an iterator of its items.

    Raises:
        ResponseError: it is not JSON, or too large.
        InvalidRequestError: it is neither JSON nor a decoded body.
    """
    if isinstance(body, str):
        return _value_of_text(body)
    if isinstance(body, (bytes, bytearray)):
        return _value_of_bytes(bytes(body))
    if _is_plain(body):
        return body
    try:
        return json_given(body)
    except MismatchError as error:
        fault = f"{error.path}: {error.fault}"
    message = (
        f"body{fault}. Give the body as it came, as bytes or str, or what json.loads makes of it."
    )
    raise InvalidRequestError(message)


def _value_of_text(text: str) -> object:
    try:
        return _value_of_bytes(text.encode())
    except UnicodeEncodeError:
        words = "has characters that UTF-8 cannot encode"
    raise _body_error(words)


def _value_of_bytes(body: bytes) -> object:
    if len(body) > _LARGEST_BODY:
        words = f"is larger than {_LARGEST_BODY // 2**20} MiB"
        raise _body_error(words)
    if body.removeprefix(BOM_UTF8).lstrip(b" \t\n\r").startswith(b"["):
        return _items(body)
    try:
        return cast("object", decoded(body))
    except (ValueError, RecursionError):
        words = "was cut off, or is not JSON in UTF-8, or is nested too deeply"
    raise _body_error(words)


def _items(body: bytes) -> Iterator[object]:
    try:
        yield from array_items(body)
    except ResponseError as error:
        path = error.path
    else:
        return
    words = "was cut off, or is not JSON in UTF-8, or is nested too deeply"
    raise _body_error(words, path)


def _is_plain(value: object) -> bool:
    """Tell whether all values are of the types that `json` makes, at all levels.

    Raises:
        ResponseError: there are too many levels; perhaps an object contains itself.
    """
    waiting = [(value, 0)]  # a stack, as there can be too many levels for recursion
    while waiting:
        each, level = waiting.pop()
        if level > _DEEPEST:
            words = "is nested too deeply"
            raise _body_error(words)
        inner: Iterable[object] = ()
        if each.__class__ is dict:
            members = cast("dict[object, object]", each)
            if not are_texts(members):
                return False
            inner = members.values()
        elif each.__class__ is list:
            inner = cast("list[object]", each)
        elif each.__class__ not in _PLAIN:
            return False
        waiting += [(item, level + 1) for item in inner]
    return True


# --- One event ---


def _participant(members: dict[str, object]) -> Participant:
    """Return the record for the data of a participant summary; rule 3."""
    status = members.get("call_state")
    if isinstance(status, str) and members.get("call_status") is None:
        members = {**members, "call_status": status}
        del members["call_state"]
    return participant_keeping(members, "")


def _conference(members: dict[str, object]) -> Conference:
    return conference_keeping(members, "")


_RECORDS: Final[Mapping[str | None, Callable[[dict[str, object]], Participant | Conference]]] = {
    EventType.CONFERENCE_SUMMARY_COMPLETE: _conference,
    EventType.CONFERENCE_SUMMARY_PARTIAL: _conference,
    EventType.CONFERENCE_PARTICIPANT_SUMMARY_COMPLETE: _participant,
    EventType.PARTICIPANT_SUMMARY_COMPLETE: _participant,
}


class _EventReader:
    """Reads one event, and notes what is wrong with it."""

    def __init__(self, path: str, *, keep: bool) -> None:
        self._path = path  # of the event in the body
        self._keep = keep
        self._problems: list[str] = []
        self._extra: dict[str, object] = {}

    def event(self, raw: object) -> StreamEvent:
        """Return the event for any item of the body.

        Raises:
            ResponseError: something is wrong with it, and that is not to be kept.
        """
        if isinstance(raw, ResponseError):
            self._note("", "not JSON in UTF-8, or nested too deeply")
            return StreamEvent(problems=tuple(self._problems))
        if raw.__class__ is not dict:
            self._note("", wrong_type({dict}, raw).fault)
            return StreamEvent(data=self._frozen(raw, ""), problems=tuple(self._problems))
        return self._event(cast("dict[str, object]", raw))

    def _event(self, members: dict[str, object]) -> StreamEvent:
        texts = {name: self._text(name, members.get(name)) for name in _ATTRIBUTES}
        version = texts["specversion"]
        if version is not None and not _VERSION.fullmatch(version):
            self._note(".specversion", "expected version 1.0 of CloudEvents")
        time = self._time(texts["time"])
        for name, value in members.items():
            # null is the same as no attribute (JSON format of CloudEvents, 2.2).
            if name not in _ATTRIBUTES and name != "data" and value is not None:
                self._extra[name] = self._frozen(value, member_path(name))
        data, record = self._data(members.get("data"), _RECORDS.get(texts["type"]))
        return StreamEvent(
            id=texts["id"],
            type=_TYPES[texts["type"]],
            source=texts["source"],
            specversion=version,
            time=time,
            dataschema=texts["dataschema"],
            datacontenttype=texts["datacontenttype"],
            data=data,
            record=record,
            extra=FrozenMapping(self._extra),
            problems=tuple(self._problems),
        )

    def _text(self, name: str, value: object) -> str | None:
        """Return an attribute; None if it is not given, or does not fit."""
        if isinstance(value, str) and (value or not _ATTRIBUTES[name]):
            return value
        if value is None:
            if _ATTRIBUTES[name]:
                self._note(f".{name}", "required by CloudEvents, and missing")
            return None
        empty = isinstance(value, str)
        fault = "expected a string that is not empty" if empty else wrong_type({str}, value).fault
        self._note(f".{name}", fault)
        self._extra[name] = self._frozen(value, f".{name}")
        return None

    def _time(self, text: str | None) -> datetime | None:
        try:
            return time_from_json(text)
        except MismatchError as error:
            fault = error.fault
        self._note(".time", fault)
        self._extra["time"] = text
        return None

    def _data(
        self,
        data: object,
        structure: Callable[[dict[str, object]], Participant | Conference] | None,
    ) -> tuple[object, Participant | Conference | None]:
        """Return the data, immutable, and the record for it if there is a function for its type."""
        if structure is None:
            return self._frozen(data, ".data"), None
        if isinstance(data, str):  # as in Kinesis
            with suppress(ValueError, RecursionError):  # then the string does not fit
                data = cast("object", decoded(data.encode()))
        if data.__class__ is not dict:
            self._note(".data", wrong_type({dict}, data).fault)
            return self._frozen(data, ".data"), None
        record = structure(cast("dict[str, object]", data))
        for problem in record.problems:
            path, _, fault = problem.rpartition(": ")
            self._note(f".data.{path}", fault)
        return self._frozen(data, ".data"), record

    def _frozen(self, value: object, path: str) -> object:
        """Return a value that is immutable at all levels; its JSON text if it cannot be."""
        try:
            return freeze(value)
        except MismatchError as error:
            fault = error.fault
        self._note(path, f"{fault}; its JSON text is kept")
        return json_text(value)

    def _note(self, path: str, fault: str) -> None:
        """Note that a value of the event does not fit.

        Raises:
            ResponseError: if that is not to be kept.
        """
        if self._keep:
            self._problems.append(f"{path[1:]}: {fault}" if path else fault)
            return
        path = (self._path + path).removeprefix(".")
        message = (
            f"An event of the push is not as Twilio describes it: {path}: {fault}. "
            "Parse it with on_invalid='keep', or see whether a newer version of this package "
            "knows of it."
        )
        raise ResponseError(message, path=path)
