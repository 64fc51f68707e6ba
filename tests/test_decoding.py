"""A page's body, read piece by piece: by the standard library and by msgspec, with one result."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aioparticipants import ResponseError
from aioparticipants._decoding import envelope
from aioparticipants._structuring import participant, unstructure_participant

from .bodies import PARTICIPANTS, WAYS, all_of, decode_records, page_of, read, steps
from .test_properties import ANYTHING, RECORDS, SETTINGS, places, replaced, touch, wrong_values

META = {"next_page_url": None}
ways = pytest.mark.parametrize("decode", WAYS.values(), ids=WAYS)
#: Bytes of a window and of a chunk: as they are, and so few that whatever can end within one does.
SIZES = [{}, {"window": 1, "chunk": 1}, {"window": 3, "chunk": 24}, {"window": 50, "chunk": 90}]


def outcome(body, decode, **sizes):
    """Return all that can be seen of a body: members, records as text, and the error."""
    records = []
    try:
        found = steps(envelope(body, "participants", decode, **sizes))
        if found.records is None:
            return found.members, None, None
        while len(records) != found.records.count:
            records.append(repr(found.records.at(len(records))))
    except ResponseError as error:
        return None, records, (str(error), error.path, error.transient, error.__context__)
    return found.members.get("meta"), records, None


def both(body, sizes=SIZES):
    """Return the outcome of a body, the same in both ways, and in pieces of any size."""
    first, *others = (outcome(body, decode, **each) for decode in WAYS.values() for each in sizes)
    for other in others:
        assert other == first
    return first


# --- Good bodies ---

spaces = st.text(st.sampled_from(" \t\r\n"), max_size=2)


def written(value, space):
    """Write a value as JSON, with white space wherever it may stand; only text is escaped."""
    if isinstance(value, dict):
        inner = f",{space}".join(
            f"{json.dumps(key, ensure_ascii=len(space) != 1)}{space}:{written(item, space)}"
            for key, item in value.items()
        )
        return f"{space}{{{space}{inner}{space}}}{space}"
    if isinstance(value, list):
        inner = ",".join(written(item, space) for item in value)
        return f"{space}[{space}{inner}{space}]{space}"
    return space + json.dumps(value) + space


FINITE = ANYTHING.filter(lambda value: not re.search(r"NaN|Infinity", json.dumps(value)))
MEMBERS = {"meta": FINITE, "participants": st.lists(FINITE, max_size=40)}


@SETTINGS
@given(
    st.fixed_dictionaries(MEMBERS, optional={"links": FINITE, "é": FINITE}),
    st.permutations(["meta", "participants", "links", "é"]),
    spaces,
)
def test_any_good_page_is_what_json_says(members, order, space):
    """In whatever order its members come, and with whatever in them, a page is what it says."""
    page = {name: members[name] for name in order if name in members}
    body = written(page, space).encode("utf-8", "surrogatepass")
    try:
        whole = json.loads(body.decode())
    except UnicodeDecodeError:  # a lone surrogate, not escaped
        assert not both(body)[1]
        return

    meta, records, error = both(body)

    assert error is None
    assert repr(meta) == repr(whole["meta"])
    assert records == [repr(record) for record in whole["participants"]]


@SETTINGS
@given(
    st.lists(st.dictionaries(st.text(max_size=5), FINITE, max_size=3), max_size=12),
    st.sampled_from([", ", ",", ",\n  ", " ,\t", None]),
    st.integers(1, 40),
    st.integers(1, 200),
)
def test_any_chunks_are_what_json_says(records, between, window, chunk):
    """Whatever stands between two records, and wherever a piece of a body ends, a page is read."""
    texts = [json.dumps(each, ensure_ascii=chunk % 2 == 0) for each in records]
    array = texts[0] if texts else ""
    for number, text in enumerate(texts[1:]):
        array += (between or (", ", ",")[number // 4 % 2]) + text
    body = f'{{"meta": {{"next_page_url": null}}, "participants": [{array}]}}'
    try:
        encoded = body.encode()
    except UnicodeEncodeError:  # a lone surrogate, not escaped
        return

    _, found, error = both(encoded, [{"window": window, "chunk": chunk}])

    assert error is None
    assert found == [repr(record) for record in json.loads(body)["participants"]]


def counting(decode):
    """Return a way to the records, and a list of how many it found at once, or None."""
    found = []

    def counted(array):
        records = decode(array)
        found.append(None if records is None else len(records))
        return records

    return counted, found


@pytest.mark.parametrize("between", [", ", ",", ",\n    "])
@pytest.mark.parametrize("meta_first", [True, False])
def test_records_come_by_the_chunk(between, meta_first):
    """What stands between two records is learnt where it is unusual; others come by the chunk."""
    records = [{"a": "é" * 10, "b": [number]} for number in range(100)]
    texts = [json.dumps(each, ensure_ascii=False) for each in records]
    members = ['"meta": {"next_page_url": null}', f'"participants": [{between.join(texts)}]']
    body = "{" + between.join(members if meta_first else members[::-1]) + "}"
    decode, found = counting(decode_records)

    assert all_of(read(body, decode=decode, chunk=1000).records) == records
    assert sum(found) == (100 if between == ", " else 99)
    assert len(found) < 10
    found.clear()
    assert all_of(read(body, decode=decode).records) == records
    assert found == [100]


@pytest.mark.parametrize("decode", WAYS.values(), ids=WAYS)
def test_odd_records_are_not_searched_over_and_over(decode):
    """Where nothing stands between two records, that is found once a chunk, not once a record."""

    class Searched(bytearray):
        """Counts how often it is searched through."""

        searches = 0

        def rfind(self, *arguments):
            self.searches += 1
            return super().rfind(*arguments)

    numbers = [*range(5000)]
    body = Searched(json.dumps({"meta": {}, "participants": numbers, "more": []}).encode())
    found = steps(envelope(body, "participants", decode, chunk=1000))
    assert all_of(found.records) == numbers
    assert body.searches < 50


@pytest.mark.parametrize(
    "odd",
    [
        {"a": "}, {"},
        {"a": '}, {"a": "x"}, {'},
        {"a": [{}, {}]},
        {"a": [{"a": [{"a": 1}, {"a": 2}]}, {"a": 3}]},
        {"a": "]"},
        {"a": "x" * 300},
        {"é": "\u20ac" * 100 + "\U0001f600" * 50},
        [{}, {}],
        12345,
        None,
    ],
    ids=ascii,
)
def test_a_record_that_looks_like_several(odd):
    """What looks like the end of a record within one, or has none, is taken for what it is."""
    for place in range(12):
        records = [{"a": number} for number in range(11)]
        records.insert(place, odd)
        for ensure in (True, False):
            body = json.dumps({"meta": META, "participants": records}, ensure_ascii=ensure)
            for chunk in (*range(1, 60, 3), 200, 500):
                _, found, error = both(body.encode(), [{"window": 1, "chunk": chunk}])
                assert (found, error) == ([repr(each) for each in records], None)


def test_a_chunk_that_is_refused_is_tried_once():
    """Where what is between records is in each of them as well, no bytes are decoded thrice."""
    records = [{"a": [{"b": number}, {"c": number}]} for number in range(1000)]
    decode, found = counting(decode_records)
    body = json.dumps({"meta": META, "participants": records})

    assert all_of(read(body, decode=decode, chunk=1000).records) == records
    assert len(found) <= len(body) // 1000 + 2


@pytest.mark.parametrize("number", ["1", "-1", "1.5", "1e5", "1E+5", "-1.25e-10", "12345678901234"])
def test_a_number_at_the_end_of_a_window(number):
    """A number is read to its end, wherever the window ends that it is looked for in."""
    for window in range(1, 20):
        for body in (
            f'{{"x": {number}, "meta": {{"next_page_url": null}}, "participants": [{number}]}}',
            f'{{"participants": [{number} , {number}], "meta": {number}}}',
            f'{{"participants": [{number}], "meta": {{}}, "x": {number}}}',
        ):
            _, found, error = both(body.encode(), [{"window": window, "chunk": 1}])
            whole = json.loads(body)["participants"]
            assert (found, error) == ([repr(each) for each in whole], None)


@ways
@pytest.mark.parametrize("order", [["meta", "p", "x"], ["p", "meta"], ["p", "meta", "x"]])
def test_records_are_taken_in_any_order_that_is_known(decode, order):
    """A record that was reached can be taken again, and walking reaches no further than it must."""
    body = json.dumps({"meta": META, "p": [*range(100)], "x": []})
    page = {name: json.loads(body)[name] for name in order}
    records = read(page, "p", decode, chunk=1).records
    known = records.known

    assert [records.at(index) for index in (0, 1, 0, 2)] == [0, 1, 0, 2]
    assert records.known == max(3, known)
    assert len([*records.walk(70)]) == (0 if known == 100 else 2)
    assert records.known == max(70, known)
    assert (records.at(69), records.at(5)) == (69, 5)
    assert all_of(records) == [*range(100)]


@ways
@pytest.mark.parametrize("tail", ["}", ', "links": []}', ', "participants": []}', "!"])
def test_records_are_taken_again_from_any_chunk(decode, tail):
    """Records that were let go can be taken again; what follows them is looked at once."""
    array = json.dumps([{"a": number} for number in range(100)])
    body = f'{{"meta": {{"next_page_url": null}}, "participants": {array}{tail}'
    if tail == "!":
        body = body[:-2] + "!]}"
    records = read(body, decode=decode, chunk=100).records
    assert [*records.walk()] != []
    known, count = records.known, records.count

    for index in (70, 3, 50, 51, 2, 0, 98):
        assert records.at(index) == {"a": index}
    assert (records.known, records.count) == (known, count)
    assert known == (99 if tail == "!" else 100)
    assert count == (100 if tail in {"}", ', "links": []}'} else None)


def test_an_unusual_page_is_read_with_pauses():
    """A page whose `meta` stands in the midst gives the loop its turns while it is looked for."""
    body = json.dumps({"participants": [{}] * 100, "meta": META, "x": 1}).encode()

    assert len([*envelope(body, "participants", None, chunk=1)]) == 3
    assert len([*envelope(body, "participants", None, chunk=200)]) == 2
    assert read(body).members == {"meta": META, "x": 1}


# --- Records that only one of the two would take ---

#: Texts of values about which decoders differ.
ODD = [
    *("NaN", "Infinity", "-Infinity", "-0", "-0.0", "0.1", "1e5", "1E400", "-1e999", "5e-324"),
    *("18446744073709551615", "18446744073709551616", "-9223372036854775809"),
    *("9" * 4300, "9" * 4301),
    *("9007199254740993.0", "1e-400", "123456789012345678901234567890.5", "1.", ".5", "+1", "01"),
    *('"\\ud800"', '"\\udc00"', '"\\ud83d\\ude00"', '"\\ud83dx"', '"\\uD83D\\u0041"', '"\\x"'),
    *('"\x01"', '"\x7f"', '"\\u0000"', '"\u2028"', '"é"', '"\\/"', '"\t"', "'x'", '"'),
    *('{"a": 1, "b": 2, "a": 3}', '{"a": 1,}', "[1,]", "[1 2]", '{"a" 1}', "{1: 2}", "nul", "tru"),
    *("[" * 200 + "]" * 200, "[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000),
    *("", " ", "]", "}", "//", "\ufeff1", "1 // x", "None"),
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: ascii(odd[:20]))
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("meta_first", [True, False])
def test_both_ways_agree_on_odd_values(odd, place, meta_first):
    """What the two decoders see differently has one result: the standard library's."""
    values = ['{"a": 1}', "2"]
    values.insert(place, odd)
    members = ['"meta": {"next_page_url": null}', f'"participants": [{", ".join(values)}]']
    body = "{" + ", ".join(members if meta_first else members[::-1]) + "}"

    _, records, error = both(body.encode())

    good = []
    for text in values:
        try:
            good.append(repr(json.loads(text, parse_constant=lambda name: 1 // 0)))
        except (ValueError, RecursionError, ZeroDivisionError):
            break
    assert records[: len(good)] == good
    assert (error is None) == (len(good) == 3)
    assert error is None or error[2]


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\x80"])
@pytest.mark.parametrize("meta_first", [True, False])
def test_invalid_utf_8_is_told_where_it_stands(bad, meta_first):
    """Where a body is not UTF-8, records before that are good, and a transient error follows."""
    good = page_of([{"a": "xxx"}, {"b": "yyy"}, {"c": "é"}], META, meta_first=meta_first)
    _, everything, _ = both(good.encode())
    whole = good.encode()
    ends = [match.end() for match in re.finditer(rb'"}', whole)]
    for place in range(len(whole) + 1):
        _, records, error = both(whole[:place] + bad + whole[place:])
        assert records == everything[: len(records)]
        assert error[1:] == (None, True, None)
        assert len(records) <= sum(end < place for end in ends)


# --- Bad bodies ---

GOOD = page_of([{"a": "x,]}"}, 2, [3]], META)
LAST = page_of([{"a": "x,]}"}, 2, [3]], META, meta_first=False)
TAIL = '{"meta": {}, "participants": [1, 2], "links": [{}], "participants_": null}'


@pytest.mark.parametrize("body", [GOOD, LAST, TAIL])
@pytest.mark.parametrize("length", range(len(TAIL) + 10))
def test_a_body_that_is_cut_off(body, length):
    """Wherever a body ends too early, it is noticed, and what comes before that is right."""
    if length >= len(body):
        return
    _, records, error = both(body[:length].encode())
    _, everything, _ = both(body.encode())

    assert records == everything[: len(records)]
    assert error[2]


@pytest.mark.parametrize("body", [GOOD, LAST, TAIL])
@pytest.mark.parametrize("put", ["!", "}", "]", '"', ",", "]}", '}, {"', "\\"])
def test_a_body_with_something_in_it(body, put):
    """Wherever something stands that does not belong there, both ways say the same of it."""
    for place in range(len(body) + 1):
        broken = body[:place] + put + body[place:]
        _, records, error = both(broken.encode())
        try:
            valid = json.loads(broken)
        except ValueError:
            valid = None
        if valid is None:
            assert error[2]
        elif error is None and isinstance(valid.get("participants"), list):
            assert records == [repr(each) for each in valid["participants"]]


@SETTINGS
@given(
    st.lists(
        st.sampled_from(
            [
                *('"meta"', '"participants"', '"x"', ":", ",", "{", "}", "[", "]", " ", "1", "{}"),
                *('"meta": {"next_page_url": null}', '"participants": [', '{"a": 1}', "null"),
            ]
        ),
        max_size=14,
    ).map("".join)
)
@example('"participants": [1], "meta": {"meta": {}}')
@example('"participants": [{"meta": 1}]')
@example('"participants": [1, "meta": {}')
@example('"x": {"meta": {}}')
def test_any_text_has_one_result(text):
    """Whatever stands between two braces, both ways say the same of it, and `json` agrees."""
    body = "{" + text + "}"
    members, records, error = both(body.encode())
    try:
        json.loads(body)
    except ValueError:
        assert error[2]
    else:
        assert error is None or not error[2]
    assert members is not None or records is not None


@ways
@pytest.mark.parametrize(
    ("body", "records", "path"),
    [
        ('{"meta": {}, "meta": {}, "participants": [1]}', [], "meta"),
        ('{"meta": {}, "participants": null, "participants": [1]}', [], "participants"),
        ('{"meta": {}, "participants": [1], "participants": [2]}', [1], "participants"),
        ('{"meta": {}, "participants": [1], "meta": {}}', [1], "meta"),
        ('{"participants": [1], "participants": [2], "meta": {}}', [1], "participants"),
        ('{"participants": [1], "meta": {}, "participants": [2]}', [], "participants"),
    ],
)
def test_an_envelope_that_repeats_itself(decode, body, records, path):
    """A page that has its records or its `meta` twice is an error, behind what was handed out."""
    _, found, (_, *rest) = outcome(body.encode(), decode)

    assert (found, rest) == ([repr(each) for each in records], [path, False, None])


@ways
def test_an_envelope_of_a_thousand_members(decode):
    """What has far more members than the API sends is refused, without reading on."""
    many = "".join(f', "{number}": null' for number in range(1000))
    for body, records in [
        ('{"meta": {}' + many + ', "participants": [1]}', []),
        ('{"meta": {}, "participants": [1]' + many + "}", ["1"]),
    ]:
        _, found, (text, *rest) = outcome(body.encode(), decode)

        assert (found, rest) == (records, [None, False, None])
        assert "too many" in text


def test_damage_is_told_again():
    """A record that cannot be taken cannot be taken the next time, nor what is behind it."""
    records = read(page_of([1, 2, 3], META, bad_at=1)).records
    assert [*records.walk(3)] == []
    assert (records.known, records.count) == (1, None)
    for index in (1, 2, 1):
        with pytest.raises(ResponseError):
            records.at(index)
    assert records.at(0) == 1


# --- Participants ---


def participant_of(body, decode):
    """Return all that can be seen of the only participant in a body."""
    records = read(body, decode=decode).records
    try:
        record = participant(records.at(0), "participants", 0)
    except ResponseError as error:
        return str(error), error.path, error.transient, error.__context__
    written = json.dumps(unstructure_participant(record), sort_keys=True)
    touch(record)
    assert json.dumps(unstructure_participant(record), sort_keys=True) == written
    return record, hash(record), repr(record), written


def same_participant(body):
    """Return the participant of a body, which must be the same in both ways."""
    plain, fast = (participant_of(body, decode) for decode in PARTICIPANTS.values())
    assert plain == fast
    return plain


@SETTINGS
@given(RECORDS, st.data())
def test_any_participant_is_the_same_in_both_ways(raw, data):
    """A participant, whatever is right or wrong about it, is the same thing in both ways."""
    same_participant(page_of([raw], META))
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from([*places(raw)]))
        raw = replaced(raw, path, data.draw(wrong_values))
    try:
        body = page_of([raw], META)
    except (ValueError, RecursionError):  # too many digits to be written, or too deep
        return
    if not re.search(r"NaN|Infinity", body):
        same_participant(body)


@pytest.mark.parametrize(
    "text",
    [
        '{"label": 1, "label": "a"}',
        '{"label": "a", "label": 1}',
        '{"metrics": {"inbound": {"mos": 1}}, "metrics": null}',
        '{"metrics": {"inbound": {"mos": 1}, "inbound": {"jitter": {"avg": 2}}}}',
        '{"metrics": {"inbound": {"mos": 1e999}}}',
        '{"metrics": {"inbound": {"mos": 1.0, "total_packets_lost": 1.0}}}',
        '{"duration_seconds": -0, "outbound_queue_length": 18446744073709551616}',
        '{"duration_seconds": 1e2}',
        '{"is_coach": 1}',
        '{"label": "\\ud83d\\ude00"}',
        '{"label": "\\ud83d"}',
        '{"new": [1, {"a": 1e5}], "join_time": "2026-01-01T00:00:00Z"}',
        '{"join_time": "2026-01-01T00:00:00", "events": {"mute": [1e999]}}',
        '{"events": {"mute": [99999999999999999]}, "join_time": "soon"}',
        '{"events": {"mute": [1], "hold": []}, "tags": null, "coached_participants": ["CA1"]}',
        '{"from": "+15005550006", "from_": "x", "extra": {"a": 1}}',
        '{"properties": {"enter_muted": true}, "events": {"mute": [99999999999999999]}}',
        "[]",
        "null",
        '"x"',
    ],
)
def test_odd_participants_are_the_same_in_both_ways(text):
    """Repeated members, numbers at a type's edge, unknown fields: both ways say the same."""
    same_participant('{"meta": {"next_page_url": null}, "participants": [' + text + "]}")


# --- With and without the extra ---


@pytest.mark.parametrize("missing", [True, False])
def test_the_extra_is_picked_once_at_import(missing):
    """With msgspec it is used, and without it all works by the standard library alone."""
    code = (
        f"import sys; sys.modules['msgspec'] = None if {missing} else __import__('msgspec'); "
        "from aioparticipants import InsightsSession; "
        "from aioparticipants._speed import decode_participants; "
        f"assert (decode_participants is None) == {missing}"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_chunks_fall_back_to_json():
    """A chunk that msgspec refuses is decoded by `json`, as if msgspec were not there."""
    assert decode_records(b'[1, "x"]') == [1, "x"]
    assert decode_records(b"[1, 1e999]") is None
    assert decode_records(b"[1, NaN]") is None
    assert all_of(read(page_of([1, float("1e300"), "\ud800"], META)).records) == [
        1,
        1e300,
        "\ud800",
    ]
