"""What replies mean, byte by byte, without an event loop."""

from __future__ import annotations

import json

import attrs
import pytest

from aioparticipants import (
    APIStatusError,
    AuthenticationError,
    NotFoundError,
    RateLimitError,
    ResponseError,
    ServerError,
)
from aioparticipants._messages import Request, Response
from aioparticipants._resources import PARTICIPANTS
from aioparticipants._responses import page_envelope, retry_after
from aioparticipants.errors import status_rule

from .bodies import decode_records, steps

SID = "CF" + "a" * 32
REQUEST = Request(path="/", query="Label=secret", conference_sid=SID)
PHONE = "+15005550006"


def reply(body=b"{}", status=200, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status=status, headers={"Twilio-Request-Id": "RQ1", **headers}, body=raw)


def read(*args, **kwargs):
    return steps(
        page_envelope(
            reply(*args, **kwargs),
            REQUEST,
            resource=attrs.evolve(PARTICIPANTS, decode=decode_records),
            now=lambda: 0.0,
        )
    )


def test_success():
    """A 200 with a JSON object is an envelope, with or without records."""
    assert read({"a": [1, 2.5, None, "ü"]}).members == {"a": [1, 2.5, None, "ü"]}
    assert read({"a": 1}).records is None
    assert read({"meta": {}, "participants": ["ü"]}).records.at(0) == "ü"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "cut off"),
        (b'{"participants": [{"label": "ag', "cut off"),
        (b"<html>", "cut off"),
        (b'{"a": NaN}', "cut off"),
        (b'{"a": -Infinity}', "cut off"),
        (b'{"a": "\xff"}', "cut off"),
        ('{"a": 1}'.encode("utf-16"), "cut off"),
        (b'{"a": ' + b"9" * 5000 + b"}", "cut off"),
        (b"[" * 200_000, "too deeply"),
    ],
)
def test_no_json_is_transient(body, words):
    """A body that is cut off, garbled or bottomless is worth another attempt."""
    with pytest.raises(ResponseError, match=words) as caught:
        read(body)

    assert caught.value.transient
    assert caught.value.request_id == "RQ1"
    assert caught.value.conference_sid == SID
    assert caught.value.__context__ is None


@pytest.mark.parametrize("body", [[], None, "x", 1, [{}]])
def test_other_json_is_final(body):
    """JSON that is no object will be none next time either."""
    with pytest.raises(ResponseError, match="not an object") as caught:
        read(body)

    assert not caught.value.transient


@pytest.mark.parametrize("status", [201, 204, 206])
def test_other_successes(status):
    """Only 200 promises a body."""
    with pytest.raises(ResponseError, match=str(status)) as caught:
        read(b"", status)

    assert not caught.value.transient


@pytest.mark.parametrize(
    ("body", "code", "message", "more_info"),
    [
        (
            {"code": 20404, "message": "not found", "more_info": "https://t/20404", "status": 404},
            20404, "not found", "https://t/20404",
        ),
        ({"code": 20404, "message": "not found", "moreInfo": "https://t"}, 20404, "not found", "https://t"),
        (
            {"type": "https://t/p", "title": "T", "status": 404, "code": 20404, "detail": "D"},
            20404, "D", "https://t/p",
        ),
        ({"title": "T"}, None, "T", None),
        (
            {"errors": [{"code": 20404, "message": "M", "infoUrl": "https://t"}, {"code": 1}]},
            20404, "M", "https://t",
        ),
        ({"errors": [], "message": "M"}, None, "M", None),
        ({"errors": ["x"]}, None, None, None),
        ({"code": "20404", "message": 7, "more_info": None}, None, None, None),
        ({"code": True}, None, None, None),
        ([], None, None, None),
        (b"<html>Bad gateway</html>", None, None, None),
        (b"", None, None, None),
        (b"[" * 200_000, None, None, None),
    ],
)  # fmt: skip
def test_error_bodies(body, code, message, more_info):
    """Every shape of error body yields what it has, and never decides the class."""
    with pytest.raises(NotFoundError) as caught:
        read(body, 404)

    error = caught.value
    assert (error.status, error.code, error.message, error.more_info) == (
        404,
        code,
        message,
        more_info,
    )
    assert error.request_id == "RQ1"
    assert error.__context__ is None


def test_lying_status_in_body():
    """The HTTP status counts, whatever the body says of it."""
    with pytest.raises(ServerError) as caught:
        read({"status": 200, "code": 200}, 503)

    assert caught.value.status == 503
    assert caught.value.details == {"status": 200, "code": 200}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (302, "Redirects are not followed"),
        (400, "did not accept a parameter"),
        (401, "Advanced Features"),
        (403, "key is restricted"),
        (404, "30 days"),
        (404, "up to 30 minutes after the end: .* try again later"),
        (407, "proxy='http://user:password@host:port'"),
        (408, "try again later"),
        (409, "See .code and .message"),
        (429, "max_concurrency"),
        (500, "try again later"),
        (501, "does not offer this"),
        (504, "smaller page_size.* try again later"),
        (505, "does not speak HTTP/1.1"),
        (522, "The fault is Twilio's"),
        (600, "The fault is Twilio's"),
        (101, "no answer to a request"),
    ],
)
def test_remedies(status, words):
    """Each status names its cause and what to do, without what the server said."""
    with pytest.raises(APIStatusError, match=words) as caught:
        read({"message": f"no number {PHONE}", "code": 1}, status)

    shown = f"{caught.value!s} {caught.value!r}"
    assert PHONE not in shown
    assert f"HTTP {status}, Twilio error 1." in shown
    assert PHONE in caught.value.message


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize(
    ("code", "words"),
    [
        (17000, "Advanced Features are off .* subaccount neither its parent .*/errors/17000"),
        (17007, "call ended before .* Advanced Features were turned on .*/errors/17007"),
        (20003, "refused the credentials: .* of another region .*/errors/20003"),
    ],
)
def test_remedies_of_codes(status, code, words):
    """Where Twilio's code says more than the status, the message has its cause and its page."""
    with pytest.raises(APIStatusError, match=words) as caught:
        read({"code": code, "message": f"no number {PHONE}"}, status)

    assert (caught.value.status, caught.value.code) == (status, code)
    assert type(caught.value) is status_rule(status).kind
    assert str(caught.value).startswith(f"HTTP {status}, Twilio error {code}. ")
    assert PHONE not in str(caught.value)


@pytest.mark.parametrize(("status", "code"), [(500, 17000), (429, 17007), (302, 20003), (401, 1)])
def test_remedies_of_statuses(status, code):
    """A code says nothing more where the status is transient or no refusal, or it is unknown."""
    with pytest.raises(APIStatusError) as caught:
        read({"code": code}, status)

    assert str(caught.value).endswith(f". {status_rule(status).remedy}")


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (None, None),
        ("0", 0),
        ("7", 7),
        ("999999", 999999),
        *(
            (bad, None)
            for bad in ("", "-1", "+1", " 7", "7.0", "1e3", "٣", "1, 2", "9" * 7, "many")
        ),
    ],
)
def test_concurrent_requests(value, count):
    """Twilio's count of requests in flight is a whole number of at most six digits, or None."""
    headers = {} if value is None else {"Twilio-Concurrent-Requests": value}

    assert reply(**headers).concurrent_requests == count


def test_retry_after_is_on_the_error():
    """A refusal carries the seconds that the server asked for, and its own code."""
    with pytest.raises(RateLimitError) as caught:
        read({"code": 20429}, 429, **{"Retry-After": "3"})

    assert (caught.value.retry_after, caught.value.code) == (3.0, 20429)
    with pytest.raises(AuthenticationError) as refused:
        read({}, 401)
    assert refused.value.retry_after is None


DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
NOON = 784111777.0  # the same, in seconds since the epoch


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("999999999", 999999999.0),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
        ("Sun Nov  6 08:50:37 1994", 60.0),
        (DATE, 0.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        *[(bad, None) for bad in (
            "", "-1", "+5", "nan", "inf", "1e9", "1, 2", "٣", "0x1", "soon", "9" * 10, "9" * 400,
            "Sun, 99 Nov 1994 08:50:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT" + " " * 60 + "x",
        )],
    ],
)  # fmt: skip
def test_retry_after_forms(value, seconds):
    """Seconds and the three forms of date are read (RFC 9110, 10.2.3); nonsense is as if absent."""
    assert retry_after({"Retry-After": value}, now=lambda: NOON) == seconds


def test_dates_count_from_the_servers_clock():
    """A date is measured from the reply's own Date, so a wrong clock here does no harm."""
    headers = {"Retry-After": "Sun, 06 Nov 1994 08:50:37 GMT", "Date": DATE}

    assert retry_after(headers, now=lambda: 0.0) == 60.0
    assert retry_after({}, now=lambda: 0.0) is None
