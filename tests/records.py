"""Records that Hypothesis makes, good and broken, and independent rules that judge them."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import attrs
from hypothesis import strategies as st


def json_values(numbers, text):
    """Return JSON values of these numbers and texts, nested a few levels."""
    return st.recursive(
        st.none() | st.booleans() | numbers | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=6,
    )


#: Any JSON value, and NaN and infinite numbers, which are not JSON.
ANYTHING = json_values(
    st.integers(-(2**70), 2**70) | st.floats(), st.text(st.characters(), max_size=5)
)

EARLIEST, LATEST = -62135596800000, 253402300799999  # the years 1 to 9999, in milliseconds

integers = st.integers()
numbers = integers | st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(), max_size=8)  # lone surrogates are JSON, too
words = text | st.sampled_from(
    ["inbound", "completed", "sip", "large", "complete", "us1", "de1", "unheard-of", ""]
)


def _api_time(time):
    """Return a time in UTC with the fewest digits that are exact."""
    whole, _, digits = time.isoformat().removesuffix("+00:00").partition(".")
    return f"{whole}.{digits.rstrip('0')}Z" if digits else f"{whole}Z"


times = st.datetimes(timezones=st.just(UTC)).map(_api_time)
unknown_values = json_values(numbers, text)


def members(names, values):
    return dict.fromkeys(names.split(), values)


AVG_MAX = members("avg max", numbers)
MEDIA = {
    **members("total_packets_lost total_packets_received", integers),
    **members("packet_loss_percentage mos", numbers),
    **members("jitter latency", AVG_MAX),
    "tags": st.lists(text, max_size=2),
}
#: The 27 members of a record, and the values of each besides null.
RECORD = {
    **members("participant_sid label conference_sid call_sid account_sid", text),
    **members("from to country_code url", text),
    **members("call_direction call_status call_type jitter_buffer_size processing_state", words),
    **members("participant_region conference_region", words),
    **members("is_moderator is_coach", st.booleans()),
    **members("join_time leave_time", times),
    **members("duration_seconds outbound_queue_length outbound_time_in_queue", integers),
    "coached_participants": st.lists(text, max_size=2),
    "events": st.dictionaries(text, st.lists(st.integers(EARLIEST, LATEST), max_size=2)),
    "properties": members(
        "start_conference_on_enter end_conference_on_exit play_early_media early_media enter_muted "
        "beep_on_enter beep_on_exit",
        st.booleans(),
    ),
    "metrics": members("inbound outbound", MEDIA),
}
#: The 23 members of a conference.
CONFERENCE = {
    **members("conference_sid account_sid friendly_name ended_by url", text),
    **members("create_time start_time end_time", times),
    **members("duration_seconds connect_duration_seconds max_participants", integers),
    **members("max_concurrent_participants unique_participants", integers),
    **members("status end_reason mixer_region mixer_region_requested processing_state", words),
    "recording_enabled": st.booleans(),
    "detected_issues": st.dictionaries(text, integers, max_size=2),
    "tags": st.lists(words | st.sampled_from(["low_mos", "high_jitter"]), max_size=2),
    "tag_info": st.dictionaries(text, unknown_values, max_size=2),
    "links": st.dictionaries(text, text, max_size=2),
}
#: Members that come back absent where they were null; all others come back null where absent.
OMITTED = {"tags", "play_early_media", "early_media"}


@st.composite
def objects(draw, known):
    """Make an object with some of the known members, null or not, and sometimes an unknown one."""
    optional = {
        name: st.none() | (objects(values) if isinstance(values, dict) else values)
        for name, values in known.items()
    }
    found = draw(st.fixed_dictionaries({}, optional=optional))
    names = (text | st.sampled_from(["extra", "from_"])).filter(lambda name: name not in known)
    found |= draw(st.dictionaries(names, unknown_values, max_size=1))
    return dict(reversed(found.items())) if draw(st.booleans()) else found


RECORDS = objects(RECORD)
CONFERENCES = objects(CONFERENCE)


def completed(raw, known):
    """Return an object as it must come back: absent and null mean the same."""
    found = dict(raw)
    for name, values in known.items():
        if raw.get(name) is None:
            found[name] = None
            if name in OMITTED and known is not CONFERENCE:
                del found[name]
        elif isinstance(values, dict) and isinstance(raw[name], dict):
            found[name] = completed(raw[name], values)
    return found


def exact(value):
    """Return a JSON value as text: 1, 1.0 and True differ there, and the order does not count."""
    return json.dumps(value, sort_keys=True)


def read_all(value):
    """Read every value in a record, at all levels, and return how many there are."""
    if attrs.has(type(value)):
        inner = [getattr(value, field.name) for field in attrs.fields(type(value))]
    elif hasattr(value, "items"):
        inner = [*value.values()]
    else:
        inner = [*value] if isinstance(value, tuple) else []
    assert not isinstance(value, (dict, list, set))  # all of it is frozen
    return 1 + sum(map(read_all, inner))


# --- Broken records ---


def _nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


wrong_values = (
    st.none()
    | st.booleans()
    | integers
    | st.floats()
    | text
    | st.sampled_from(
        [
            *(math.inf, -math.inf, math.nan, 10**4000, -(2**63) - 1, LATEST + 1, EARLIEST - 1),
            *("2021-10-08T02:58:51", "2021-10-08T02:58:51+00:00", "0001-01-01T00:00:00+23:59"),
            *("12", [], {}, [[]], [None], [{}], [1], ["x"]),
            *({"mute": 1}, {"mute": [1, None]}, {"avg": "x"}),
        ]
    )
    | unknown_values
    | (st.integers(200, 900) | st.integers(1, 40)).map(_nested)
)


def _items(value):
    """Return the keys and values of a container; none of any other value."""
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def places(value):
    """Yield the paths of all values inside a JSON value, the outermost first."""
    waiting = [((), value)]  # a stack, as some values have too many levels for recursion
    while waiting:
        path, value = waiting.pop()
        yield path
        waiting += reversed([((*path, key), item) for key, item in _items(value)])


def replaced(value, path, new):
    """Return a copy of a JSON value with another value at a path."""
    if not path:
        return new
    changed = value.copy()
    changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed


def broken(draw, raw, most):
    """Return a copy of a record with up to `most` other values somewhere."""
    for _ in range(draw(st.integers(1, most))):
        raw = replaced(raw, draw(st.sampled_from([*places(raw)])), draw(wrong_values))
    return raw


def can_be_written(value):
    """Tell whether Python can write a JSON value as JSON: finite, and not too deep."""
    return _can_be_kept(value, levels=250)


def _can_be_kept(value, levels=66):
    """Tell whether a JSON value can be made immutable: finite, and not too deep."""
    level = [value]
    for _ in range(levels):
        if any(isinstance(each, float) and not math.isfinite(each) for each in level):
            return False
        level = [item for each in level for _, item in _items(each)]
    return not level


def _is_time(value):
    try:
        time = datetime.fromisoformat(value)
        return time.tzinfo is not None and time.astimezone(UTC) is not None
    except (ValueError, OverflowError):
        return False


def is_text(value):
    return type(value) is str


def is_integer(value):
    return type(value) is int


def is_number(value):
    return is_integer(value) or (type(value) is float and math.isfinite(value))


RULES = {
    **members("is_moderator is_coach", lambda value: type(value) is bool),
    **dict.fromkeys(RECORD["properties"], lambda value: type(value) is bool),
    **members("duration_seconds outbound_queue_length outbound_time_in_queue", is_integer),
    **members("connect_duration_seconds max_participants unique_participants", is_integer),
    "max_concurrent_participants": is_integer,
    "recording_enabled": lambda value: type(value) is bool,
    **members("create_time start_time end_time", lambda each: is_text(each) and _is_time(each)),
    "tag_info": lambda value: type(value) is dict and _can_be_kept(value),
    **members("total_packets_lost total_packets_received", is_integer),
    **members("packet_loss_percentage mos avg max", is_number),
    **members("join_time leave_time", lambda value: is_text(value) and _is_time(value)),
}


def shown(name):
    """Return a name as a path shows it: without unprintable characters."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in name)


def faults(raw, path="participants[3]", known=RECORD):
    """Yield the paths of all that is wrong in an object."""
    if type(raw) is not dict:
        yield path
        return
    for name, value in raw.items():
        here = f"{path}.{shown(name)}"
        if name not in known:
            yield from () if _can_be_kept(value) else (here,)
        elif value is None:
            continue
        elif isinstance(known[name], dict):
            yield from faults(value, here, known[name])
        elif name == "events":
            yield from _faults_of_events(value, here)
        elif name in {"detected_issues", "links"}:
            yield from _faults_of_members(value, here, is_text if name == "links" else is_integer)
        elif name in {"tags", "coached_participants"}:
            yield from _faults_of_items(value, here, is_text)
        elif not RULES.get(name, is_text)(value):
            yield here


def _faults_of_events(value, path):
    if type(value) is not dict:
        yield path
        return
    for name, times_of_event in value.items():
        yield from _faults_of_items(
            times_of_event,
            f"{path}.{shown(name)}",
            lambda each: is_integer(each) and EARLIEST <= each <= LATEST,
        )


def _faults_of_members(value, path, fits):
    if type(value) is not dict:
        yield path
        return
    yield from (f"{path}.{shown(name)}" for name, item in value.items() if not fits(item))


def _faults_of_items(value, path, fits):
    if type(value) is not list:
        yield path
        return
    yield from (f"{path}[{index}]" for index, item in enumerate(value) if not fits(item))


def broken_fields(raw, known=RECORD):
    """Return how many fields of an object, at all levels, have a value that does not fit."""
    count = 0
    for name, value in raw.items():
        inner = known.get(name)
        if isinstance(inner, dict) and type(value) is dict:
            count += broken_fields(value, inner)
        else:
            count += any(True for _ in faults({name: value}, "", known))
    return count
