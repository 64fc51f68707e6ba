"""From bodies to pages and the next request, without an event loop."""

from __future__ import annotations

import pytest

from aioparticipants import PaginationError, ResponseError
from aioparticipants._messages import Request
from aioparticipants._paging import End, Failed, Pager
from aioparticipants._resources import PARTICIPANTS

from .bodies import all_of, read

SID = "CF" + "a" * 32
PATH = f"/v1/Conferences/{SID}/Participants"
FIRST = Request(path=PATH, query="PageSize=2", conference_sid=SID)
HOST = "https://insights.twilio.com"


def body(link=None, records=()):
    return {"participants": [*records], "meta": {"page": 0, "next_page_url": link}}


def new_pager():
    return Pager(FIRST, FIRST, resource=PARTICIPANTS)


def page(link=None, records=(), pager=None, asked=FIRST):
    return (pager or new_pager()).page(asked, read(body(link, records)), "RQ1")


def page_of(body):
    return new_pager().page(FIRST, read(body), "RQ1")


def failure_of(following):
    """Return the error that takes the place of the next page, after checking what it names."""
    assert isinstance(following, Failed)
    assert isinstance(following.error, PaginationError)
    assert (following.error.conference_sid, following.error.request_id) == (SID, "RQ1")
    return str(following.error)


@pytest.mark.parametrize("link", [None, ""])
def test_last_page(link):
    """A next link of null or "" ends the list."""
    last = page(link, records=[{}, {}])

    assert (all_of(last.records), last.following, last.request_id) == ([{}, {}], End(), "RQ1")
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
    """Only the query of a next link is used, byte for byte; its host is not."""
    query = "PageSize=2&Page=1&PageToken=PT%2Fa%2bb==&Label=a+b%20c"

    following = page(f"{origin}{PATH}?{query}").following

    assert following == Request(path=PATH, query=query, conference_sid=SID)


@pytest.mark.parametrize("path", [PATH.lower(), PATH.upper(), PATH.replace("aaaa", "AaAa")])
def test_the_case_of_a_link(path):
    """The case of a link's path does not matter; the next request has the path of the first."""
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
    """A link that is not plainly this list's next page is an error, after the page's records."""
    found = page(link, records=[{}])

    assert all_of(found.records) == [{}]
    assert "evil" not in failure_of(found.following)


@pytest.mark.parametrize("query", ["PageSize=2", "Page=1"])
def test_loops(query):
    """A query seen before is a loop, the very first one included."""
    pager = new_pager()
    second = page(f"{HOST}{PATH}?Page=1", pager=pager).following

    loop = page(f"{HOST}{PATH}?{query}", pager=pager, asked=second).following

    assert "in a loop" in failure_of(loop)


@pytest.mark.parametrize("query", ["Page=1", "Page=2"])
def test_another_attempt_at_a_page(query):
    """Another attempt at a page may have the same next link, or another one: that is no loop."""
    pager = new_pager()
    page(f"{HOST}{PATH}?Page=1", RECORDS, pager)

    assert page(f"{HOST}{PATH}?{query}", RECORDS, pager).following.query == query
    assert "in a loop" in failure_of(page(f"{HOST}{PATH}?PageSize=2", RECORDS, pager).following)


RECORDS = [{"participant_sid": f"CP{number}", "label": "x" * 600} for number in range(10)]


def page_after(records, then):
    """Return the second page of a list, given the records of the first and the second."""
    pager = new_pager()
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
    """Only the page before it counts: records may come again later in a list."""
    pager = new_pager()
    second = page(f"{HOST}{PATH}?Page=1", RECORDS, pager).following
    third = page(f"{HOST}{PATH}?Page=2", RECORDS[1:], pager, second).following

    assert all_of(page(None, RECORDS, pager, third).records) == RECORDS


def after_empty_pages(count, *, pager=None, interrupted_by=None):
    """Return what follows that many empty pages, one of which may have records after all."""
    pager, following = pager or new_pager(), FIRST
    for number in range(count):
        records = RECORDS if number == interrupted_by else []
        following = page(f"{HOST}{PATH}?Page={number + 1}", records, pager, following).following
    return following


def test_empty_pages():
    """After 250 empty pages in a row the list goes on; after one more it fails."""
    assert after_empty_pages(250).query == "Page=250"
    assert after_empty_pages(400, interrupted_by=200).query == "Page=400"
    assert "250 pages in a row were empty" in failure_of(after_empty_pages(251))


def test_the_end_after_empty_pages():
    """The last page may be empty as well, after any number of them."""
    pager = new_pager()

    assert page(None, (), pager, after_empty_pages(250, pager=pager)).following == End()


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
    """A page that names another conference is a transient error, and is not delivered."""
    whole = {"participants": records, "meta": {"next_page_url": None, **meta}}
    with pytest.raises(ResponseError, match="another conference") as caught:
        page_of(whole)

    assert caught.value.transient
    assert (caught.value.conference_sid, caught.value.request_id) == (SID, "RQ1")
    assert OTHER not in str(caught.value)


def test_a_malformed_record_that_names_another_conference():
    """A record that cannot be read names no conference: it is an error when the list gets to it."""
    malformed = f'{{"conference_sid": "{OTHER}", "label": NaN}}'
    body = f'{{"meta": {{"next_page_url": null}}, "participants": [{malformed}]}}'
    found = page_of(body)

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
    found = page_of(whole)

    assert all_of(found.records) == records


def test_no_participants():
    """A page whose records are null is an empty page."""
    whole = {"participants": None, "meta": {"next_page_url": None}}
    found = page_of(whole)

    assert (found.records.count, found.following) == (0, End())


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
    """A body without the parts of a page is an error with the path, never the end of the list."""
    with pytest.raises(ResponseError) as caught:
        page_of(broken)

    assert caught.value.path == path
    assert not caught.value.transient
    assert (caught.value.conference_sid, caught.value.request_id) == (SID, "RQ1")
