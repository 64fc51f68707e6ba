"""Records that a test gives, copied as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import cast

from ..models import Conference, Participant

__all__ = ["as_plain_json", "copy_conference", "copy_participants"]


def copy_participants(given: object) -> list[dict[str, object]]:
    """Return a copy of the given participants as JSON.

    Raises:
        TypeError: `given` is not an iterable of `Participant`s and mappings, or one of them
            cannot be encoded as JSON.
        ValueError: one of them cannot be encoded as JSON.
    """
    type_name = _type_name(given)
    if isinstance(given, Iterable) and not isinstance(given, (Mapping, str, bytes)):
        participants = cast("Iterable[object]", given)
        return [
            _copy(each, f"participants[{index}]", Participant)
            for index, each in enumerate(participants)
        ]
    message = (
        "participants must be the number of participants to make up, or an iterable of "
        f"Participants and mappings, not {type_name}."
    )
    raise TypeError(message)


def copy_conference(given: object) -> dict[str, object]:
    """Return a copy of the given conference as JSON; the errors are those of the function above."""
    return _copy(given, "conference", Conference)


def as_plain_json(value: object, name: str) -> object:
    """Return a copy of a value as JSON.

    Raises:
        TypeError: the value cannot be encoded as JSON.
        ValueError: the value cannot be encoded as JSON.
    """
    try:
        copied: object = json.loads(json.dumps(value, default=_encoded))
    except (TypeError, ValueError) as error:
        message = f"{name} cannot be encoded as JSON: {error}"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(message) from error
    return copied


def _copy(given: object, name: str, kind: type[Participant | Conference]) -> dict[str, object]:
    if isinstance(given, kind):
        record = given.to_dict()
    elif isinstance(given, Mapping):
        record = dict(cast("Mapping[str, object]", given))
    else:
        message = f"{name} must be a {kind.__name__} or a mapping, not {_type_name(given)}."
        raise TypeError(message)
    return cast("dict[str, object]", as_plain_json(record, name))


def _encoded(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    message = f"JSON has no {_type_name(value)}."
    raise TypeError(message)


def _type_name(value: object) -> str:
    return type(value).__name__
