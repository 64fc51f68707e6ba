"""From bodies to pages and the next request, without an event loop."""

from __future__ import annotations

import pytest

from aioparticipants import PaginationError, ResponseError
from aioparticipants._messages import Request
from aioparticipants._paging import Pager
from aioparticipants._resources import PARTICIPANTS

from .bodies import all_of, read

SID = "CF" + "a" * 32
PATH = f"/v1/Conferences/{SID}/Participants"
FIRST = Request(path=PATH, query="PageSize=2", conference_sid=SID)
HOST = "https://insights.twilio.com"


def body(link=None, records=()):
    return {"participants": [*records], "meta": {"page": 0, "next_page_url": link}}


def page(link=None, records=(), pager=None, asked=FIRST):
    return (pager or Pager(FIRST, FIRST, resource=PARTICIPANTS)).page(
        asked, read(body(link, records)), "RQ1"
    )


@pytest.mark.parametrize("link", [None, ""])
def test_last_page(link):
    """A page with a next link of null is the last, and one that is empty means the same."""
    last = page(link, records=[{}, {}])

    assert (all_of(last.records), last.following, last.request_id) == ([{}, {}], None, "RQ1")
    assert last.meta.page == 0


@pytest.mark.parametrize(
    "origin",
    [
        HOST,
        "https://insights.dublin.ie1.twilio.com",
        "http://127.0.0.1:4020",
        "https://evil.example",
    ],
)
def test_next_request(origin):
    """Of a next link the query is taken byte for byte, and nothing else: no host comes with it."""
    query = "PageSize=2&Page=1&PageToken=PT%2Fa%2bb==&Label=a+b%20c"

    following = page(f"{origin}{PATH}?{query}").following

    assert following == Request(path=PATH, query=query, conference_sid=SID)


@pytest.mark.parametrize("path", [PATH.lower(), PATH.upper(), PATH.replace("aaaa", "AaAa")])
def test_the_case_of_a_link(path):
    """A link's path may be written in either case; the next request keeps that of the first."""
    following = page(f"{HOST}{path}?Page=1&PageToken=aB").following

    assert following == Request(path=PATH, query="Page=1&PageToken=aB", conference_sid=SID)


HOSTILE = [
    "null",
    " ",
    PATH,
    f"{PATH}?Page=1",
    f"//evil.example{PATH}?Page=1",
    f"{HOST}{PATH}",
    f"{HOST}{PATH}?",
    f"{HOST}{PATH}?Page=1#x",
    f"{HOST}{PATH}#?Page=1",
    f"{HOST}{PATH}/?Page=1",
    f"{HOST}{PATH}/..?Page=1",
    f"{HOST}/v1/Conferences/CF{'b' * 32}/Participants?Page=1",
    f"{HOST}/v1/Conferences?Page=1",
    f"{HOST}/v1/../v1/Conferences/{SID}/Participants?Page=1",
    f"{HOST}/v1//Conferences/{SID}/Participants?Page=1",
    f"{HOST}/v1%2FConferences/{SID}/Participants?Page=1",
    f"{HOST}{PATH};x?Page=1",
    f"{HOST}\\@evil.example{PATH}?Page=1",
    f"https://user:pw@insights.twilio.com{PATH}?Page=1",
    f"https://insights.twilio.com@evil.example{PATH}?Page=1",
    f"https://insights.twilio.com:port{PATH}?Page=1",
    f"https://insights.twilio.com:99999{PATH}?Page=1",
    f"https://insights.twilio.com:0{PATH}?Page=1",
    f"https://[::1{PATH}?Page=1",
    f"https://{PATH}?Page=1",
    f"ftp://insights.twilio.com{PATH}?Page=1",
    "javascript:alert(1)",
    f"file://{PATH}?Page=1",
    f"{HOST}{PATH}?Page=1\r\nX-Evil: 1",
    f"{HOST}{PATH}?Page=\t1",
    f" {HOST}{PATH}?Page=1",
    f"{HOST}{PATH}?Page=1 ",
    f"{HOST}{PATH}?Page=\u0661",
    f"https://insights\u3002twilio.com{PATH}?Page=1",
]


@pytest.mark.parametrize("link", HOSTILE)
def test_hostile_links(link):
    """A link that is not plainly this list's next page is an error, told after the records."""
    found = page(link, records=[{}])

    assert all_of(found.records) == [{}]
    assert isinstance(found.following, PaginationError)
    assert "evil" not in repr(found.following)
    assert found.following.request_id == "RQ1"


@pytest.mark.parametrize("query", ["PageSize=2", "Page=1"])
def test_loops(query):
    """A query seen before is a loop, the very first one included."""
    pager = Pager(FIRST, FIRST, resource=PARTICIPANTS)
    second = page(f"{HOST}{PATH}?Page=1", pager=pager).following

    loop = page(f"{HOST}{PATH}?{query}", pager=pager, asked=second).following

    assert isinstance(loop, PaginationError)
    assert "round in a loop" in str(loop)


@pytest.mark.parametrize("query", ["Page=1", "Page=2"])
def test_another_attempt_at_a_page(query):
    """The next link of another attempt at a page is no loop, be it the same one or another."""
    pager = Pager(FIRST, FIRST, resource=PARTICIPANTS)
    page(f"{HOST}{PATH}?Page=1", RECORDS, pager)

    assert page(f"{HOST}{PATH}?{query}", RECORDS, pager).following.query == query
    loop = page(f"{HOST}{PATH}?PageSize=2", RECORDS, pager).following
    assert isinstance(loop, PaginationError)


RECORDS = [{"participant_sid": f"CP{number}", "label": "x" * 600} for number in range(10)]


def page_after(records, then, pager=None):
    """Return the second page of a list, the first of which has other records, or the same."""
    pager = pager or Pager(FIRST, FIRST, resource=PARTICIPANTS)
    second = page(f"{HOST}{PATH}?Page=1", records, pager).following
    return page(f"{HOST}{PATH}?Page=2", then, pager, second)


def test_a_page_that_repeats_the_one_before():
    """A page whose records are those of the page before is an error, before they are delivered."""
    with pytest.raises(PaginationError, match="repeats the one before") as caught:
        page_after(RECORDS, RECORDS)

    assert (caught.value.conference_sid, caught.value.request_id) == (SID, "RQ1")


@pytest.mark.parametrize("index", [0, 9])
def test_a_page_that_is_like_the_one_before(index):
    """A page that differs from the page before in one record is a page like any other."""
    others = [*RECORDS]
    others[index] = {**others[index], "label": "y" * 600}

    assert all_of(page_after(RECORDS, others).records) == others
    assert all_of(page_after(RECORDS, RECORDS[:9]).records) == RECORDS[:9]
    assert all_of(page_after([], []).records) == []


def test_a_page_that_repeats_an_earlier_one():
    """Only the page right before counts: records may well come back later in a list."""
    pager = Pager(FIRST, FIRST, resource=PARTICIPANTS)
    second = page(f"{HOST}{PATH}?Page=1", RECORDS, pager).following
    third = page(f"{HOST}{PATH}?Page=2", RECORDS[1:], pager, second).following

    assert all_of(page(None, RECORDS, pager, third).records) == RECORDS


def after_empty_pages(count, *, interrupted_by=None):
    """Return what follows so many empty pages, one of which may have records after all."""
    pager = Pager(FIRST, FIRST, resource=PARTICIPANTS)
    following = FIRST
    for number in range(count):
        records = RECORDS if number == interrupted_by else []
        following = page(f"{HOST}{PATH}?Page={number + 1}", records, pager, following).following
    return following


def test_empty_pages():
    """250 empty pages in a row go on, and the next one is an error that can be resumed behind."""
    assert after_empty_pages(250).query == "Page=250"
    assert after_empty_pages(400, interrupted_by=200).query == "Page=400"
    found = after_empty_pages(251)

    assert isinstance(found, PaginationError)
    assert "250 pages in a row were empty" in str(found)
    assert (found.conference_sid, found.request_id) == (SID, "RQ1")


def test_the_end_after_empty_pages():
    """The last page may be empty as well, after whatever number of them."""
    pager = Pager(FIRST, FIRST, resource=PARTICIPANTS)
    asked = FIRST
    for number in range(250):
        asked = page(f"{HOST}{PATH}?Page={number + 1}", (), pager, asked).following

    assert page(None, (), pager, asked).following is None


# --- Another conference's page ---

OTHER = "CF" + "b" * 32
OWN = {"participant_sid": "CP1", "conference_sid": SID}
ALIEN = {"participant_sid": "CP2", "conference_sid": OTHER}
OTHER_URL = f"{HOST}/v1/Conferences/{OTHER}/Participants?PageSize=2"


@pytest.mark.parametrize(
    ("records", "meta"),
    [
        ([ALIEN], {}),
        ([{"label": "x", **ALIEN}], {}),
        ([{"extra": {"conference_sid": OTHER}, **ALIEN}], {}),
        ([], {"url": OTHER_URL}),
        ([], {"first_page_url": OTHER_URL}),
        ([OWN], {"url": OTHER_URL}),
        ([{}], {"url": OTHER_URL.partition("?")[0]}),
        ([{}], {"url": f"/v1/Conferences/{OTHER}/Participants"}),
        ([{}], {"url": f"https://proxy.example/twilio/v1/Conferences/{OTHER}?x"}),
    ],
)
def test_pages_of_another_conference(records, meta):
    """A page that says it is of another conference is a transient error, and is not delivered."""
    whole = {"participants": records, "meta": {"next_page_url": None, **meta}}
    with pytest.raises(ResponseError, match="another conference") as caught:
        Pager(FIRST, FIRST, resource=PARTICIPANTS).page(FIRST, read(whole), "RQ1")

    assert caught.value.transient
    assert (caught.value.conference_sid, caught.value.request_id) == (SID, "RQ1")
    assert OTHER not in str(caught.value)


def test_a_malformed_record_that_names_another_conference():
    """What cannot be read is not judged: it is told as what it is, where the list gets to it."""
    malformed = f'{{"conference_sid": "{OTHER}", "label": NaN}}'
    body = f'{{"meta": {{"next_page_url": null}}, "participants": [{malformed}]}}'
    found = Pager(FIRST, FIRST, resource=PARTICIPANTS).page(FIRST, read(body), "RQ1")

    with pytest.raises(ResponseError, match="JSON") as caught:
        found.records.at(0)
    assert caught.value.path == "participants[0]"


@pytest.mark.parametrize(
    ("records", "meta"),
    [
        ([OWN], {}),
        ([{**OWN, "conference_sid": "CF" + "A" * 32}], {}),
        ([{**OWN, "conference_sid": None}], {}),
        ([{**OWN, "conference_sid": "unknown"}], {}),
        ([{**OWN, "conference_sid": 7}], {}),
        ([{"extra": ALIEN, **OWN}], {}),
        ([{"label": '"conference_sid": "' + OTHER + '"'}], {}),
        ([{"participant_sid": "CP1", "extra": ALIEN}], {}),
        ([7, ALIEN], {}),
        ([], {}),
        ([], {"url": f"{HOST}{PATH}", "first_page_url": f"{HOST}{PATH.upper()}?Page=0"}),
        ([], {"url": f"{HOST}{PATH.replace('Conferences', 'conferences')}"}),
        ([], {"url": f"{HOST}{PATH}?Label=/Conferences/{OTHER}"}),
        ([], {"url": f"{HOST}/v1/Elsewhere?Label=/Conferences/{OTHER}"}),
        ([], {"url": None, "first_page_url": ""}),
        ([], {"url": "no URL"}),
        ([], {"url": 7, "page": "0", "page_size": {}, "key": []}),
        ([], {"url": f"{HOST}/v1/Conferences/{OTHER}x/Participants"}),
    ],
)
def test_pages_that_name_no_other_conference(records, meta):
    """A page that names its own conference, or none, is good, whatever else is in it."""
    whole = {"participants": records, "meta": {"next_page_url": None, **meta}}
    found = Pager(FIRST, FIRST, resource=PARTICIPANTS).page(FIRST, read(whole), "RQ1")

    assert all_of(found.records) == records


def test_no_participants():
    """A page whose records are null is an empty one, where `meta` says that it is a page."""
    whole = {"participants": None, "meta": {"next_page_url": None}}
    found = Pager(FIRST, FIRST, resource=PARTICIPANTS).page(FIRST, read(whole), "RQ1")

    assert (found.records.count, found.following) == (0, None)


@pytest.mark.parametrize(
    ("broken", "path"),
    [
        ({}, "participants"),
        ({"participants": {}, "meta": {"next_page_url": None}}, "participants"),
        ({"conferences": [], "meta": {"next_page_url": None}}, "participants"),
        ({"participants": []}, "meta"),
        ({"participants": [], "meta": None}, "meta"),
        ({"participants": [], "meta": []}, "meta"),
        ({"participants": [], "meta": {}}, "meta.next_page_url"),
        ({"participants": [], "meta": {"next_page_url": 7}}, "meta.next_page_url"),
    ],
)
def test_bodies_that_are_no_page(broken, path):
    """A body without the parts of a page is an error with the path, never a silent end."""
    with pytest.raises(ResponseError) as caught:
        Pager(FIRST, FIRST, resource=PARTICIPANTS).page(FIRST, read(broken), "RQ1")

    assert caught.value.path == path
    assert not caught.value.transient
    assert (caught.value.conference_sid, caught.value.request_id) == (SID, "RQ1")
