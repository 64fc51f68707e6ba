"""Resources: valid arguments are sent byte for byte, all others are refused before."""

from __future__ import annotations

import pytest

from aioparticipants import InsightsSession, InvalidRequestError
from aioparticipants.__main__ import main
from aioparticipants._resources import PARTICIPANTS

SID = "CF" + "aB3" * 10 + "00"


def first_request(conference_sid, *, page_size=None, limit=None, **filters):
    return PARTICIPANTS.first_request(
        {"conference_sid": conference_sid}, filters, page_size=page_size, limit=limit
    )


def test_first_request():
    """Path and query hold the arguments under the API's own names, percent-encoded."""
    request = first_request(
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
        ({"label": None}, 1000),
        ({"limit": 0}, 1000),
        ({"limit": 250}, 250),
        ({"limit": 5000}, 1000),
        ({"limit": 5, "page_size": 50}, 50),
        ({"page_size": 1000}, 1000),
    ],
)
def test_page_size(arguments, size):
    """A page is as large as allowed, no larger than the limit; the caller's own size wins."""
    assert first_request(SID, **arguments).query == f"PageSize={size}"


@pytest.mark.parametrize("digits", ["ab" * 16, "AB" * 16, "aB" * 16])
def test_sids_in_either_case(digits):
    """The digits of a SID can be in either case, as Twilio describes it, and are sent as given."""
    request = first_request("CF" + digits, participant_sid="CP" + digits)

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
    """A value that is not a SID never becomes part of a path."""
    with pytest.raises(InvalidRequestError, match="conference_sid must be CF"):
        first_request(sid)


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
def test_bad_arguments(arguments, words):
    """A filter or size that the API cannot accept is refused by its name."""
    with pytest.raises(InvalidRequestError, match=words) as caught:
        first_request(SID, **arguments)

    assert caught.value.__context__ is None


FILTERS = {each.argument: each.parameter for each in PARTICIPANTS.filters}
VALUES = dict.fromkeys(FILTERS, "hold") | {"participant_sid": "CP" + "0" * 32}


@pytest.mark.parametrize("verb", [InsightsSession.participants, InsightsSession.fan_out])
async def test_each_filter_is_an_argument(fake, session, verb):
    """Each filter of the resource is an argument that reaches the query, and filters the fake."""
    sid = fake.add_conference(participants=2)
    for argument, parameter in FILTERS.items():
        await verb(
            session,
            [sid] if verb is InsightsSession.fan_out else sid,
            **{argument: VALUES[argument]},
        )
        assert fake.requests[-1].query[parameter] == VALUES[argument]


def test_each_filter_is_an_option(capsys):
    """Each filter of the resource is an option of `list`."""
    with pytest.raises(SystemExit):
        main(["list", "--help"])

    shown = capsys.readouterr().out
    assert all(f"--{argument.replace('_', '-')}" in shown for argument in FILTERS)
