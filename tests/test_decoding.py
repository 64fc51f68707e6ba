"""The body of a page, decoded in pieces by the standard library and by msgspec, with one result."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aioparticipants import ResponseError
from aioparticipants._decoding import decoded, envelope
from aioparticipants._structuring import (
    conference,
    conference_keeping,
    participant,
    participant_keeping,
)

from . import bodies
from .bodies import PARTICIPANTS, WAYS, all_of, decode_records, page_of, read, steps
from .profiles import examples
from .records import ANYTHING, CONFERENCES, RECORDS, broken, read_all

META = {"next_page_url": None}
ways = pytest.mark.parametrize("decode", WAYS.values(), ids=WAYS)
#: Bytes of a window and of a chunk: the usual ones, and so few that anything can be cut by an end.
SIZES = [{}, {"window": 1, "chunk": 1}, {"window": 3, "chunk": 24}, {"window": 50, "chunk": 90}]


#: In the place of a malformed record that was skipped.
MALFORMED = object()


def outcome(body, decode, *, skip=False, **sizes):
    """Return what comes of a body: its members, its records as text, and the error."""
    records = []
    try:
        found = steps(envelope(body, "participants", decode, **sizes))
        if found.records is None:
            return found.members, None, None
        while len(records) != found.records.count:
            records.append(record_of(found.records, len(records), skip=skip))
    except ResponseError as error:
        failure = (str(error), error.path, error.transient, error.__context__)
        assert is_in_its_place(len(records), *failure[1:])
        return None, records, failure
    return found.members.get("meta"), records, None


def record_of(records, index, *, skip):
    """Return a record as text; skip a malformed one if `skip` and possible, else raise."""
    try:
        return repr(records.at(index))
    except ResponseError:
        if not skip or not records.skip(index):
            raise
    return MALFORMED


def is_in_its_place(delivered, path, transient, context):
    """Tell whether an error is transient before the first record only, and has the right path."""
    places = {f"participants[{delivered}]", "participants", "meta", None}
    return (
        context is None
        and path in ({None} if transient else places)
        and not (transient and delivered)
    )


def both(body, sizes=SIZES, *, skip=False):
    """Return the outcome of a body, which must be the same by both decoders and in any pieces."""
    first, *others = (
        outcome(body, decode, skip=skip, **each) for decode in WAYS.values() for each in sizes
    )
    for other in others:
        assert other == first
    return first


# --- Good bodies ---

spaces = st.text(st.sampled_from(" \t\r\n"), max_size=2)


def written(value, space):
    """Write a value as JSON, with white space wherever it is allowed."""
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


@examples(100)
@given(
    st.fixed_dictionaries(MEMBERS, optional={"links": FINITE, "é": FINITE}),
    st.permutations(["meta", "participants", "links", "é"]),
    spaces,
)
def test_any_good_page_is_what_json_says(members, order, space):
    """A good page is read as `json` reads it, whatever the order and the values of its members."""
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


@examples(60)
@given(
    st.lists(st.dictionaries(st.text(max_size=5), FINITE, max_size=3), max_size=12),
    st.sampled_from([", ", ",", ",\n  ", " ,\t", None]),
    st.integers(1, 40),
    st.integers(1, 200),
)
def test_any_chunks_are_what_json_says(records, between, window, chunk):
    """A good page is read whatever its separators, and wherever a window or a chunk ends."""
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
    """Return a decoder, and a list of the records that it finds in each chunk, or None."""
    found = []

    def counted(array):
        records = decode(array)
        found.append(None if records is None else len(records))
        return records

    return counted, found


@pytest.mark.parametrize("between", [", ", ",", ",\n    "])
@pytest.mark.parametrize("meta_first", [True, False])
def test_records_are_decoded_in_chunks(between, meta_first):
    """Records are decoded in chunks; an unusual separator is found at the first record."""
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
def test_missing_separators_are_searched_once_a_chunk(decode):
    """Where there is no separator, the search for it is once a chunk, not once a record."""

    class Searched(bytearray):
        """Counts how often it is searched."""

        searches = 0

        def rfind(self, *arguments):
            self.searches += 1
            return super().rfind(*arguments)

    numbers = [*range(5000)]
    body = Searched(json.dumps({"meta": {}, "participants": numbers, "more": []}).encode())
    found = steps(envelope(body, "participants", decode, chunk=1000))
    assert all_of(found.records) == numbers
    assert body.searches < 50


@pytest.mark.repeats
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
    """A record that contains a separator, or is not an object, is one record."""
    for place in range(12):
        records = [{"a": number} for number in range(11)]
        records.insert(place, odd)
        for ensure in (True, False):
            body = json.dumps({"meta": META, "participants": records}, ensure_ascii=ensure)
            for chunk in (*range(1, 60, 3), 200, 500):
                _, found, error = both(body.encode(), [{"window": 1, "chunk": chunk}])
                assert (found, error) == ([repr(each) for each in records], None)


def test_a_chunk_that_is_refused_is_tried_once():
    """Where each record contains the separator, a refused chunk is not tried again."""
    records = [{"a": [{"b": number}, {"c": number}]} for number in range(1000)]
    decode, found = counting(decode_records)
    body = json.dumps({"meta": META, "participants": records})

    assert all_of(read(body, decode=decode, chunk=1000).records) == records
    assert len(found) <= len(body) // 1000 + 2


@pytest.mark.parametrize("number", ["1", "-1", "1.5", "1e5", "1E+5", "-1.25e-10", "12345678901234"])
def test_a_number_at_the_end_of_a_window(number):
    """A number is read to its end, wherever the window ends."""
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
def test_records_are_read_in_their_order(decode, order):
    """Records of the current chunk can be read again, earlier ones cannot."""
    body = json.dumps({"meta": META, "p": [*range(100)], "x": []})
    page = {name: json.loads(body)[name] for name in order}
    records = read(page, "p", decode, chunk=1).records

    assert (records.known, records.count) == (0, None)
    assert [records.at(index) for index in (0, 0, 1, 5, 5)] == [0, 0, 1, 5, 5]
    assert (records.known, records.count) == (6, None)
    for index in (4, -1):
        with pytest.raises(IndexError):
            records.at(index)
    assert [records.at(index) for index in range(6, 100)] == [*range(6, 100)]
    assert (records.known, records.count) == (100, 100)
    assert records.at(99) == 99
    with pytest.raises(IndexError):
        records.at(100)


@ways
@pytest.mark.parametrize("chunk", [1, 50, None])
def test_scan_decodes_with_pauses(decode, chunk):
    """A scan decodes the records before an index, and at most a chunk more, with pauses."""
    body = {"meta": META, "participants": [*range(200)]}
    records = read(body, decode=decode, chunk=chunk).records

    assert len([*records.scan(70)]) == (2 if chunk else 1)
    assert records.known >= 70
    assert records.at(70) == 70
    assert [*records.scan(70)] == []
    assert [records.at(index) for index in range(71, 200)] == [*range(71, 200)]
    assert [*records.scan()] == []
    assert records.count == 200


@ways
@pytest.mark.parametrize("tail", ["}", ', "links": []}', ', "participants": []}', ", 1}"])
@pytest.mark.parametrize("begun", [0, 3])
def test_scan_ahead_stays_at_its_record(decode, tail, begun):
    """A scan ahead counts records without moving from the current one."""
    array = json.dumps([{"a": number} for number in range(100)])
    body = f'{{"meta": {{"next_page_url": null}}, "participants": {array}{tail}'
    records = read(body, decode=decode, chunk=100).records
    for index in range(begun):
        records.at(index)

    assert [*records.scan_ahead(1)] == []
    assert 1 <= records.known < 30
    assert [*records.scan_ahead(50)] != []
    assert 50 <= records.known < 80
    assert records.count is None
    assert [records.at(index) for index in range(begun, 10)] == [
        {"a": index} for index in range(begun, 10)
    ]
    assert [*records.scan_ahead(1000)] != []
    good = tail in {"}", ', "links": []}'}
    assert (records.known, records.count) == (100, 100 if good else None)
    assert [records.at(index) for index in range(10, 100)] == [
        {"a": index} for index in range(10, 100)
    ]
    assert [*records.scan_ahead(1000)] == []
    assert (records.known, records.count) == (100, 100 if good else None)
    if not good:
        with pytest.raises(ResponseError):
            records.at(100)
        assert not records.skip(100)


@ways
def test_scan_ahead_over_a_malformed_record(decode):
    """A scan ahead counts malformed records that can be skipped, and raises nothing."""
    nan = float("nan")
    records = read(page_of([nan, 1, 2, {"a": nan}, 4], META), decode=decode).records

    assert [*records.scan_ahead(4)] == []
    assert (records.known, records.count) == (4, None)
    assert [record_of(records, index, skip=True) for index in range(5)] == [
        MALFORMED, "1", "2", MALFORMED, "4",
    ]  # fmt: skip
    broken = read(page_of([{}, {}, {}], META, bad_at=1).replace("!", '"'), decode=decode).records
    assert [*broken.scan_ahead(3)] == []
    assert (broken.known, broken.count, broken.at(0)) == (1, None, {})


def test_an_unusual_page_is_read_with_pauses():
    """A page whose `meta` is after the records, but not last, is scanned with pauses."""
    body = json.dumps({"participants": [{}] * 100, "meta": META, "x": 1}).encode()

    assert len([*envelope(body, "participants", None, chunk=1)]) == 3
    assert len([*envelope(body, "participants", None, chunk=200)]) == 2
    assert read(body).members == {"meta": META, "x": 1}
    assert all_of(read(body, chunk=1).records) == [{}] * 100


# --- Values on which the decoders differ ---

#: Texts of values on which decoders differ.
ODD = [
    *("NaN", "Infinity", "-Infinity", "-0", "-0.0", "0.1", "1e5", "1E400", "-1e999", "5e-324"),
    *("18446744073709551615", "18446744073709551616", "-9223372036854775809"),
    *("9" * 4300, "9" * 4301),
    *("9007199254740993.0", "1e-400", "123456789012345678901234567890.5", "1.", ".5", "+1", "01"),
    *('"\\ud800"', '"\\udc00"', '"\\ud83d\\ude00"', '"\\ud83dx"', '"\\uD83D\\u0041"', '"\\x"'),
    *('"\x01"', '"\x7f"', '"\\u0000"', '"\u2028"', '"é"', '"\\/"', '"\t"', "'x'", '"'),
    *('{"a": 1, "b": 2, "a": 3}', '{"a": 1,}', "[1,]", "[1 2]", '{"a" 1}', "{1: 2}", "nul", "tru"),
    *("[" * 200 + "]" * 200, "[" * 20_000, "[" * 20_000 + "]" * 20_000, '{"a":' * 20_000),
    *("", " ", "]", "}", "//", "\ufeff1", "1 // x", "None"),
]  # fmt: skip


@pytest.mark.repeats
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: ascii(odd[:20]))
@pytest.mark.parametrize("place", [0, 1, 2])
def test_both_decoders_agree_on_odd_values(odd, place):
    """Where the two decoders differ, the standard library decides."""
    values = ['{"a": 1}', "2"]
    values.insert(place, odd)
    good = []
    for text in values:
        try:
            good.append(repr(json.loads(text, parse_constant=lambda name: 1 // 0)))
        except (ValueError, RecursionError, ZeroDivisionError):
            break
    members = ['"meta": {"next_page_url": null}', f'"participants": [{", ".join(values)}]']
    for order in (members, members[::-1]):
        _, records, error = both(("{" + ", ".join(order) + "}").encode())

        assert records == good or odd == "]"
        assert (error is None) == (len(good) == 3)


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\x80"])
@pytest.mark.parametrize("meta_first", [True, False])
def test_invalid_utf_8_is_an_error_in_its_place(bad, meta_first):
    """Behind the good records before invalid UTF-8 comes an error."""
    good = page_of([{"a": "xxx"}, {"b": "yyy"}, {"c": "é"}], META, meta_first=meta_first)
    _, everything, _ = both(good.encode())
    whole = good.encode()
    ends = [match.end() for match in re.finditer(rb'"}', whole)]
    for place in range(len(whole) + 1):
        _, records, error = both(whole[:place] + bad + whole[place:])
        assert records == everything[: len(records)]
        assert error is not None
        assert len(records) <= sum(end < place for end in ends)


# --- Bad bodies ---

GOOD = page_of([{"a": "x,]}"}, 2, [3]], META)
LAST = page_of([{"a": "x,]}"}, 2, [3]], META, meta_first=False)
TAIL = '{"meta": {}, "participants": [1, 2], "links": [{}], "participants_": null}'


@pytest.mark.parametrize("body", [GOOD, LAST, TAIL])
def test_a_body_that_is_cut_off(body):
    """A body that is cut off anywhere is an error, after good records at most."""
    _, everything, _ = both(body.encode())
    for length in range(len(body)):
        _, records, error = both(body[:length].encode())

        assert records == everything[: len(records)]
        assert error is not None


@pytest.mark.repeats
@pytest.mark.parametrize("body", [GOOD, LAST, TAIL])
@pytest.mark.parametrize("put", ["!", "}", "]", '"', ",", "]}", '}, {"', "\\"])
def test_a_body_with_something_in_it(body, put):
    """With something inserted anywhere, both decoders have the same result."""
    for place in range(len(body) + 1):
        broken = body[:place] + put + body[place:]
        _, records, error = both(broken.encode())
        try:
            valid = json.loads(broken)
        except ValueError:
            valid = None
        if valid is None:
            assert error is not None
        elif error is None and isinstance(valid.get("participants"), list):
            assert records == [repr(each) for each in valid["participants"]]


@examples(100)
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
    """For any tokens between two braces, both decoders agree with `json`."""
    body = "{" + text + "}"
    members, records, error = both(body.encode())
    try:
        json.loads(body)
    except ValueError:
        assert error is not None
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
    """A page with its records or its `meta` twice is an error, after the delivered records."""
    _, found, (_, *rest) = outcome(body.encode(), decode)

    assert (found, rest) == ([repr(each) for each in records], [path, False, None])


@ways
def test_an_envelope_of_a_thousand_members(decode):
    """An envelope with far more members than the API sends is refused."""
    many = "".join(f', "{number}": null' for number in range(1000))
    for body, records in [
        ('{"meta": {}' + many + ', "participants": [1]}', []),
        ('{"meta": {}, "participants": [1]' + many + "}", ["1"]),
    ]:
        _, found, (text, *rest) = outcome(body.encode(), decode)

        assert (found, rest) == (records, [None, False, None])
        assert "too many" in text


def test_a_malformed_record_raises_each_time():
    """A malformed record raises the same error each time, and so do those after it."""
    records = read(page_of([1, 2, 3], META, bad_at=1)).records
    assert records.at(0) == 1
    for index in (1, 2, 1):
        with pytest.raises(ResponseError) as caught:
            records.at(index)
        assert caught.value.path == "participants[1]"
        assert not caught.value.transient
    assert not records.skip(0)
    assert not records.skip(2)
    assert (records.known, records.count) == (1, None)


# --- Behind a malformed record ---

#: Texts of records that are not JSON, but whose end can be found by strings and brackets.
MALFORMED_TEXTS = [
    *("NaN", "Infinity", "-Infinity", "9" * 4301, "1.", ".5", "+1", "01", "nul", "'x'", "1 // x"),
    *('"\\x"', '"\x01"', '"\t"', '"\\ud8"', "\ufeff1", "!", "", " ", "1 2", "!{}", "[!{}]"),
    *('{"a": NaN}', '{"a": "\n"}', '{"a": [1,]}', '{"a": 1,}', "{1: 2}", '{"a": }', '{"a"}'),
    *('{"a": "}, {", "b": NaN}', '{"a": "\\\\", "b": NaN}', '{"a": "\\"}, {", "b": NaN}'),
    "[" * 12_000 + "]" * 12_000,
    *('"' + "x" * 9000 + '\x01"', '{"a": "' + "]" * 200_000 + '", "b": NaN}'),
]  # fmt: skip
#: Texts of records whose end cannot be found.
ENDLESS_TEXTS = [
    *('"', '{"a": "x}', '{"a": "x"y"}', '{"a": "x""}', '"a" "b"', "{} {}", "{}{}", "{} !", "[][]"),
    *("{", "[", "}", '{"a": 1]', "[1}", "[[1]", "{}}", '"a": 1', '{"a": [}', "[1: 2]", "1: 2"),
    *('{"a": "x}, {"', '{"a": 1} "b": 2}', "{[}]", '{"a" 1}'),
    *("[" * 100_000 + "]" * 100_000, '{"a": "' + "x" * 300_000 + '", "b": NaN}'),
]  # fmt: skip
malformed = pytest.mark.parametrize("text", MALFORMED_TEXTS, ids=lambda text: ascii(text[:20]))


def with_record(text, place, *, meta_first=True, between=", "):
    """Return the body of a page with a text among its records, and the texts of all."""
    records = ['{"a": "x,]}"}', '{"b": [1, {"c": "\\""}]}', '{"d": "é"}']
    records.insert(place, text)
    members = ['"meta": {"next_page_url": null}', f'"participants": [{between.join(records)}]']
    body = f"{{{between.join(members if meta_first else members[::-1])}}}"
    return body.encode("utf-8", "surrogatepass"), records


@pytest.mark.repeats
@malformed
@pytest.mark.parametrize("meta_first", [True, False])
def test_reading_goes_on_after_a_malformed_record(text, meta_first):
    """If the end of a malformed record can be found, all others are read at their indexes."""
    for place in range(4) if len(text) < 1000 else [1]:
        for between in (", ", ",", " ,\n"):
            body, records = with_record(text, place, meta_first=meta_first, between=between)
            _, found, error = both(body, skip=True)

            assert error is None
            assert found == [
                MALFORMED if index == place else repr(json.loads(each))
                for index, each in enumerate(records)
            ]


@pytest.mark.parametrize("text", ENDLESS_TEXTS, ids=lambda text: ascii(text[:20]))
def test_a_record_without_an_end_is_not_skipped(text):
    """If brackets and strings do not match, nothing is skipped, as it could be good records."""
    for place in range(3) if len(text) < 1000 else [1]:
        body, records = with_record(text, place)
        _, found, (_, path, transient, _) = both(body, skip=True)

        # A text of several may begin with a good record.
        assert found[:place] == [repr(json.loads(each)) for each in records[:place]]
        assert path == f"participants[{len(found)}]"
        assert not transient
        assert MALFORMED not in found


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\x80"])
def test_reading_goes_on_after_broken_utf_8(bad):
    """Invalid UTF-8 inside a string makes one record malformed."""
    for text in ('{"a": "?"}', '{"?": 1}', '{"a": "' + "x" * 9000 + '?"}'):
        body, _ = with_record(text, 1)
        _, found, error = both(body.replace(b"?", bad), skip=True)

        assert error is None
        assert [each is MALFORMED for each in found] == [False, True, False, False]


@examples(100)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 10_000),
            st.sampled_from(["insert", "replace", "delete"]),
            st.sampled_from([*'"\\,:[]{}xN', "\x01", "\xff"]),
        ),
        min_size=1,
        max_size=2,
    ),
    st.sampled_from(["a", "a}b", "}, {", 'x"y', "a],b", "\\", '{"', "},"]),
)
def test_no_damage_to_a_record_loses_another(damages, label):
    """No damage to a record loses, moves or changes another one without an error."""
    records = [{"label": label, "n": number, "x": {"y": [label, 1.5]}} for number in range(4)]
    texts = [json.dumps(each).encode() for each in records]
    text = bytearray(texts[1])
    for place, what, put in damages:
        at = 1 + place % (len(text) - 2)
        text[at : at + (what != "insert")] = put.encode("latin-1") if what != "delete" else b""
    texts[1] = bytes(text)
    body = b'{"meta": {}, "participants": [' + b", ".join(texts) + b"]}"
    try:
        expected = [*map(repr, json.loads(body)["participants"])]
    except ValueError:
        expected = None

    _, found, error = both(body, skip=True)

    if expected is not None:
        assert (found, error) == (expected, None)
        return
    others = [*map(repr, records)]
    assert found[0] == others[0]
    assert error is not None or MALFORMED in found
    if error is None:
        assert (found[2:], len(found)) == (others[2:], 4)
    else:
        assert found[2:] == others[2 : len(found)]


@malformed
def test_scan_skips_malformed_records(text):
    """A scan skips malformed records."""
    for decode in WAYS.values():
        for chunk in (1, None):
            body, _ = with_record(text, 1)
            records = read(body, decode=decode, chunk=chunk).records

            assert [*records.scan(2)] == []
            assert repr(records.at(2)) == repr({"b": [1, {"c": '"'}]})
            assert [*records.scan()] == []
            assert (records.known, records.count) == (4, 4)


@ways
def test_scan_stops_where_the_rest_cannot_be_read(decode):
    """A scan stops at a record that cannot be skipped, and its error is raised after it."""
    body, _ = with_record('{"a": "x}', 1)
    records = read(body, decode=decode).records

    assert [*records.scan(3)] == []
    assert records.known == 1
    with pytest.raises(ResponseError) as caught:
        records.at(3)
    assert caught.value.path == "participants[1]"


def test_many_malformed_records_are_linear_work():
    """A page of malformed records only is linear work."""

    class Counted(bytearray):
        """Counts the bytes that are taken out of it."""

        taken = 0

        def __getitem__(self, key):
            found = super().__getitem__(key)
            self.taken += len(found) if isinstance(key, slice) else 0
            return found

    texts = ", ".join('{"a": "\x01", "b": "' + "x" * 50 + '"}' for _ in range(3000))
    body = Counted(f'{{"meta": {{}}, "participants": [{texts}]}}'.encode())
    records = steps(envelope(body, "participants", None, window=32, chunk=1000)).records

    assert len([*records.scan()]) == 3000 // 32
    assert records.count == 3000
    assert body.taken < 20 * len(body)


@pytest.mark.repeats
@ways
def test_a_long_record_is_read_whatever_it_holds(decode):
    """A good record is read although it is longer than any window and than the search."""
    for size in (100, 5000, 40_000):
        for item in (1, "é", [[{}]]):
            record = {"a": [item] * size}
            records = [{}, record, {"b": 1}, record]
            for between in (", ", ","):
                texts = between.join(json.dumps(each, ensure_ascii=False) for each in records)
                body = f'{{"meta": {{}}, "participants": [{texts}]}}'
                assert all_of(read(body, decode=decode, chunk=50).records) == records


# --- Other bodies that are accepted ---


def test_a_byte_order_mark_is_ignored():
    """A byte order mark is ignored at the start of a body (RFC 8259, 8.1), and only there."""
    for body in (GOOD, LAST, TAIL):
        assert both(b"\xef\xbb\xbf" + body.encode()) == both(body.encode())
        assert both(b"\xef\xbb\xbf " + body.encode())[2] is None
        for bad in (b"\xef\xbb\xbf" * 2, b" \xef\xbb\xbf", b"\xef\xbb"):
            assert both(bad + body.encode())[2][2]
    assert decoded(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    assert both(b"\xef\xbb\xbf[]")[2][1:] == (None, False, None)


@pytest.mark.parametrize(
    "body",
    [
        '{"meta": {"next_page_url": null}, "participants": null}',
        '{"participants": null, "meta": {"next_page_url": null}}',
        '{"participants" : null , "x": 1, "meta": {"next_page_url": null}, "y": [1]}',
    ],
)
@ways
def test_records_of_null(body, decode):
    """A page whose records are null is empty, and its `meta` is read."""
    page = read(body, decode=decode)

    assert (page.records.known, page.records.count) == (0, 0)
    assert page.members["meta"] == META
    assert [*page.records.scan(), *page.records.scan_ahead(1)] == []
    with pytest.raises(IndexError):
        page.records.at(0)


@ways
@pytest.mark.parametrize("value", ["1", "{}", '"x"', "false"])
def test_records_of_another_type(value, decode):
    """Records that are missing, or neither an array nor null, are None."""
    for body in (f'{{"meta": {{}}, "participants": {value}}}', '{"meta": {}}', "{}"):
        assert read(body, decode=decode).records is None


# --- Before the first record ---


@ways
@pytest.mark.parametrize(
    "body",
    [
        '{"meta": {}, "participants": [1, 2}',
        '{"meta": {}, "participants": [}',
        '{"meta": {"a": NaN}, "participants": [1]}',
        '{"participants": [1], "meta": {"a": NaN}}',
        '{"participants": [1], "meta": {}, "x": NaN}',
        '{"participants": [1, {"a": "x}], "meta": {}, "x": 1}',
        '{"meta": {}, "participants": [1]',
    ],
)
def test_a_fault_before_the_first_record_is_transient(body, decode):
    """A body that is cut off, or whose `meta` cannot be read, is a transient error."""
    _, found, (_, path, transient, _) = outcome(body.encode(), decode)

    assert (found, path, transient) == ([], None, True)


@ways
@pytest.mark.parametrize("tail", ["}", ', "x": ', ', "x": NaN', ', "x": ' + "[" * 10**5 + "]"])
def test_a_fault_after_the_last_record_is_final(tail, decode):
    """A fault after the last record is a final error without the path of a record."""
    body = f'{{"meta": {{}}, "participants": [{{"a": 1}}]{tail}}}'
    _, found, (text, path, transient, _) = outcome(body.encode(), decode, skip=True)

    assert (found, path, transient) == (["{'a': 1}"], None, False)
    assert "after its last record" in text


# --- Participants ---


def only_record_of(body, decode, structure):
    """Return what comes of the only record in a body."""
    records = read(body, decode=decode).records
    try:
        record = structure(records.at(0), "participants", 0)
    except ResponseError as error:
        return str(error), error.path, error.transient, error.__context__
    written = json.dumps(record.to_dict(), sort_keys=True)
    read_all(record)
    assert json.dumps(record.to_dict(), sort_keys=True) == written
    return record, hash(record), repr(record), written


def same_participant(body):
    """Assert that both decoders give the same participant, strict or keeping."""
    for structure in (participant, participant_keeping):
        plain, fast = (only_record_of(body, decode, structure) for decode in PARTICIPANTS.values())
        assert plain == fast


def same_conference(body):
    """Assert that both decoders give the same conference, strict or keeping."""
    for structure in (conference, conference_keeping):
        plain, fast = (
            only_record_of(body, decode, structure) for decode in bodies.CONFERENCES.values()
        )
        assert plain == fast


@pytest.mark.parametrize("records", [RECORDS, CONFERENCES], ids=["participant", "conference"])
@examples(100)
@given(st.data())
def test_both_decoders_give_the_same_record(records, data):
    """Both decoders give the same record, good or broken."""
    same = same_participant if records is RECORDS else same_conference
    raw = data.draw(records)
    same(page_of([raw], META))
    try:
        body = page_of([broken(data.draw, raw, 2)], META)
    except (ValueError, RecursionError):  # too many digits to be written, or too deep
        return
    if not re.search(r"NaN|Infinity", body):
        same(body)


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
def test_both_decoders_agree_on_odd_participants(text):
    """Both decoders agree on repeated members, extreme numbers and unknown fields."""
    same_participant('{"meta": {"next_page_url": null}, "participants": [' + text + "]}")


# --- With and without the extra ---


@pytest.mark.parametrize("missing", [True, False])
def test_the_extra_is_picked_once_at_import(missing):
    """The package uses msgspec if it is installed, and works without it."""
    code = (
        f"import sys; sys.modules['msgspec'] = None if {missing} else __import__('msgspec'); "
        "from aioparticipants import InsightsSession; "
        "from aioparticipants._msgspec import decode_participants; "
        f"assert (decode_participants is None) == {missing}"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_chunks_fall_back_to_json():
    """A chunk that msgspec refuses is decoded by `json`."""
    assert decode_records(b'[1, "x"]') == [1, "x"]
    assert decode_records(b"[1, 1e999]") is None
    assert decode_records(b"[1, NaN]") is None
    assert all_of(read(page_of([1, float("1e300"), "\ud800"], META)).records) == [
        1,
        1e300,
        "\ud800",
    ]
