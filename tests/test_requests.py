"""Arguments to requests: what is valid is sent byte for byte, the rest is refused beforehand."""

from __future__ import annotations

import pytest

from aioparticipants import InvalidRequestError
from aioparticipants._requests import base_url_from, checked_limit, first_page

SID = "CF" + "aB3" * 10 + "00"


def test_first_page():
    """Path and query carry the arguments under the API's own names, percent-encoded."""
    request = first_page(
        SID, participant_sid="CP" + "0" * 32, label="Zoë & +1/#%?", events="hold", page_size=7
    )

    assert request.path == f"/v1/Conferences/{SID}/Participants"
    assert request.query == (
        f"ParticipantSid=CP{'0' * 32}&Label=Zo%C3%AB%20%26%20%2B1%2F%23%25%3F"
        "&Events=hold&PageSize=7"
    )
    assert request.conference_sid == SID
    assert "Label" not in repr(request)


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ({}, 1000),
        ({"limit": 0}, 1000),
        ({"limit": 250}, 250),
        ({"limit": 5000}, 1000),
        ({"limit": 5, "page_size": 50}, 50),
        ({"page_size": 1000}, 1000),
    ],
)
def test_page_size(arguments, size):
    """A page is as large as allowed, no larger than the limit, and the caller's own size wins."""
    assert first_page(SID, **arguments).query == f"PageSize={size}"


@pytest.mark.parametrize("digits", ["ab" * 16, "AB" * 16, "aB" * 16])
def test_sids_in_either_case(digits):
    """The digits of a SID may be in either case, as Twilio describes it, and are sent as given."""
    request = first_page("CF" + digits, participant_sid="CP" + digits)

    assert request.path == f"/v1/Conferences/CF{digits}/Participants"
    assert request.query == f"ParticipantSid=CP{digits}&PageSize=1000"


@pytest.mark.parametrize(
    "sid",
    [
        "", "CF", None, 1, SID + "\n", " " + SID, SID[:-1], SID + "0", "CP" + "0" * 32,
        "CF" + "g" * 32, "CF" + "٣" * 32, "../../2010-04-01/Accounts", f"{SID[:-3]}/..",
        SID[:-1] + "?", "cf" + "0" * 32,
    ],
)  # fmt: skip
def test_bad_sids(sid):
    """What is not a SID never becomes a path."""
    with pytest.raises(InvalidRequestError, match="conference_sid must be CF"):
        first_page(sid)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"participant_sid": SID}, "participant_sid must be CP"),
        ({"label": ""}, "label must be a non-empty str"),
        ({"label": 1}, "label must be a non-empty str"),
        ({"label": "\ud800"}, "label must be text"),
        ({"events": ""}, "events must be a non-empty str"),
        ({"page_size": 0}, "page_size must be a whole number from 1 to 1000"),
        ({"page_size": 1001}, "page_size must be"),
        ({"page_size": True}, "page_size must be"),
        ({"page_size": 50.0}, "page_size must be"),
        ({"page_size": "50"}, "page_size must be"),
    ],
)
def test_bad_filters(arguments, words):
    """A filter or size that the API cannot accept is refused, with its name."""
    with pytest.raises(InvalidRequestError, match=words) as caught:
        first_page(SID, **arguments)

    assert caught.value.__context__ is None


@pytest.mark.parametrize("limit", [-1, True, 1.0, "1"])
def test_bad_limits(limit):
    """A limit is a whole number from 0."""
    with pytest.raises(InvalidRequestError, match="limit must be a whole number from 0"):
        checked_limit(limit)


@pytest.mark.parametrize("limit", [None, 0, 1, 10**9])
def test_good_limits(limit):
    """Any whole number is a limit, and None is none."""
    assert checked_limit(limit) == limit


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        ({}, "https://insights.twilio.com"),
        ({"region": "us1"}, "https://insights.twilio.com"),
        ({"edge": "sydney"}, "https://insights.sydney.us1.twilio.com"),
        ({"edge": "dublin", "region": "ie1"}, "https://insights.dublin.ie1.twilio.com"),
        ({"base_url": "https://Proxy.example:8443/"}, "https://proxy.example:8443"),
        ({"base_url": "http://127.0.0.1:4010"}, "http://127.0.0.1:4010"),
        ({"base_url": "http://[::1]:4010"}, "http://[::1]:4010"),
        ({"base_url": "http://localhost"}, "http://localhost"),
    ],
)
def test_origins(arguments, url):
    """The origin is Twilio's, the region's, or the caller's."""
    assert base_url_from(**{"base_url": None, "region": None, "edge": None} | arguments) == url


@pytest.mark.parametrize(
    "arguments",
    [
        {"region": "ie1"},
        {"region": ["us1"]},
        {"region": "x@evil.example/", "edge": "dublin"},
        {"edge": "evil.example/"},
        {"edge": "dublin\n"},
        {"edge": "-"},
        {"edge": ""},
        {"edge": 1},
        {"base_url": "https://a.example", "region": "ie1"},
        {"base_url": "http://insights.twilio.com"},
        {"base_url": "http://127.0.0.1.evil.example"},
        {"base_url": "ftp://127.0.0.1"},
        {"base_url": "https://user:pw@a.example"},
        {"base_url": "https://a.example/path"},
        {"base_url": "https://a.example?x=1"},
        {"base_url": "https://a.example?"},
        {"base_url": "https://a.example#x"},
        {"base_url": "https://a.example:port"},
        {"base_url": "https://a.ex\nample"},
        {"base_url": "https://"},
        {"base_url": "a.example"},
        {"base_url": ""},
        {"base_url": 1},
    ],
)
def test_unsafe_origins(arguments):
    """An origin that could carry the credentials in the clear, or elsewhere, is refused."""
    with pytest.raises(InvalidRequestError) as caught:
        base_url_from(**{"base_url": None, "region": None, "edge": None} | arguments)

    assert "pw" not in repr(caught.value)
    assert caught.value.__context__ is None
