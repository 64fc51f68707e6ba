"""Results of a fan-out as JSON objects, and back; an error becomes an object, too.

1. The object of an error has what its `str` and some attributes say: nothing secret, by rule 3 of
   `errors`. The server's own text (`APIStatusError.message`, `.details`) can repeat the caller's
   input, so it is left out.
2. An error comes back as one of its class, with the same text and attributes, but without its
   `attempts`, its cause, and what is left out. A class that `errors` does not have comes back as an
   `InsightsError`.
3. The `context` of a result can be any object of the caller's, so it is left out.
4. Members that are not known are ignored, so that an older version reads what a newer one wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from . import errors
from ._arguments import checked_choice
from ._codecs import Member, codecs
from ._field_docs import documented, field_docs
from ._json_values import MismatchError
from ._record_codecs import (
    FlatCodec,
    GivenMembers,
    decoded,
    from_dict_error,
    read_record,
    read_records,
)
from ._record_methods import RecordMethods
from .errors import InsightsError
from .models import Conference, Participant, RecordProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._codecs import OnInvalid

__all__ = ["ResultCodec", "ResultError"]


@documented
@attrs.frozen(kw_only=True, weakref_slot=False)
class ResultError(RecordMethods):
    """Why the list of a conference is not complete."""

    type: str
    """The name of the error's class, such as `NotFoundError`."""
    message: str
    """What is wrong, and what to do about it; without personal data."""
    transient: bool
    """Whether the same request may succeed later."""
    status: int | None
    """The HTTP status, if Twilio answered."""
    code: int | None
    """Twilio's own error code, such as 20404; never the status."""
    retry_after: float | None
    """Seconds that the server asked to wait."""
    request_id: str | None
    """Twilio's id of the last request."""
    cursor: str | None
    """Where the list stopped, for `resume=`."""
    path: str | None
    """The place in the JSON body that is not what the API promises."""
    cursor_after: str | None
    """The cursor after the record that is not readable, for `resume=`."""

    @classmethod
    def of(cls, error: InsightsError) -> ResultError:
        """Return what an error says."""
        said: dict[str, Any] = {name: getattr(error, name, None) for name in _ATTRIBUTES}
        return cls(type=type(error).__name__, message=str(error), **said)

    def error(self, conference_sid: str) -> InsightsError:
        """Return an error that says this."""
        kind = vars(errors).get(self.type) if self.type in errors.__all__ else None
        if not (isinstance(kind, type) and issubclass(kind, InsightsError)):
            kind = InsightsError
        error = kind(self.message, conference_sid=conference_sid)
        for name in _ATTRIBUTES:
            if hasattr(error, name):
                setattr(error, name, getattr(self, name))
        return error


#: The attributes of errors that have the same names in their objects.
_ATTRIBUTES: Final = frozenset(each.name for each in attrs.fields(ResultError)) - {
    "type",
    "message",
}


class ResultCodec:
    """Writes and reads `ConferenceResult`s."""

    def __init__(self, kind: type) -> None:
        """Take the class `ConferenceResult`, which is above this module."""
        self._kind: Any = kind

    def to_dict(self, result: Any, /) -> dict[str, object]:
        """Return a result as a JSON object."""
        return {
            "conference_sid": str(result.conference_sid),  # whatever the caller gave as a SID
            "participants": [each.to_dict() for each in result.participants],
            "error": None if result.error is None else ResultError.of(result.error).to_dict(),
            "problems": [each.to_dict() for each in result.problems],
            "pages": result.pages,
            "seconds": result.seconds,
            "conference": None if result.conference is None else result.conference.to_dict(),
        }

    def from_dict(self, given: object, on_invalid: OnInvalid, /) -> Any:
        """Return the result for a mapping."""
        checked_choice(on_invalid, "on_invalid", ("raise", "keep"))
        raw = decoded(self._kind, given)
        try:
            return self._read(GivenMembers(raw), on_invalid)
        except MismatchError as error:
            problem = MismatchError(error.fault, error.path)
        raise from_dict_error(self._kind, problem)

    def _read(self, members: GivenMembers, on_invalid: OnInvalid) -> Any:
        sid = members.take("conference_sid", str)
        records = members.take_list("participants")
        error = members.get("error")
        problems = enumerate(members.take_list("problems"))
        conference = members.get("conference")
        return self._kind(
            conference_sid=sid,
            participants=read_records(Participant, records, ".participants", on_invalid),
            error=None if error is None else _ERRORS.read(error, ".error").error(sid),
            problems=tuple(_PROBLEMS.read(each, f".problems[{index}]") for index, each in problems),
            pages=members.take("pages", int),
            seconds=members.take("seconds", float, int),
            conference=None
            if conference is None
            else read_record(Conference, conference, ".conference", on_invalid),
        )

    def members(self, _arguments: Sequence[type] = (), /) -> list[Member]:
        """Return what the JSON object consists of."""
        texts = field_docs(self._kind)
        annotations = {
            "conference_sid": str,
            "participants": list[Participant],
            "error": ResultError | None,
            "problems": list[RecordProblem],
            "pages": int,
            "seconds": float,
            "conference": Conference | None,
        }
        return [
            Member(name=name, annotation=annotation, text=texts.get(name, ""))
            for name, annotation in annotations.items()
        ]


_ERRORS: Final = FlatCodec(ResultError)
_PROBLEMS: Final = FlatCodec(RecordProblem)
codecs[ResultError] = _ERRORS
