"""From bodies to pages and the next request, without an event loop."""

from __future__ import annotations

import pytest

from aioparticipants import PaginationError, ResponseError
from aioparticipants._messages import Request
from aioparticipants._paging import Pager

from .bodies import all_of, read

SID = "CF" + "a" * 32
PATH = f"/v1/Conferences/{SID}/Participants"
FIRST = Request(path=PATH, query="PageSize=2", conference_sid=SID)
HOST = "https://insights.twilio.com"


def body(link=None, records=()):
    return {"participants": [*records], "meta": {"page": 0, "next_page_url": link}}


def page(link=None, records=(), pager=None, asked=FIRST):
    return (pager or Pager(FIRST, FIRST, key="participants")).page(
        asked, read(body(link, records)), "RQ1"
    )


def test_last_page():
    """A page with a next link of null is the last."""
    last = page(records=[{}, {}])

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


HOSTILE = [
    "",
    "null",
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
def test_circles(query):
    """A query seen before is a circle, the very first one included."""
    pager = Pager(FIRST, FIRST, key="participants")
    second = page(f"{HOST}{PATH}?Page=1", pager=pager).following

    circle = page(f"{HOST}{PATH}?{query}", pager=pager, asked=second).following

    assert isinstance(circle, PaginationError)
    assert "circle" in str(circle)


@pytest.mark.parametrize("query", ["Page=1", "Page=2"])
def test_a_page_fetched_again(query):
    """The next link of a page that is fetched again is no circle, be it the same one or another."""
    pager = Pager(FIRST, FIRST, key="participants")
    page(f"{HOST}{PATH}?Page=1", pager=pager)

    assert page(f"{HOST}{PATH}?{query}", pager=pager).following.query == query
    assert isinstance(page(f"{HOST}{PATH}?PageSize=2", pager=pager).following, PaginationError)


@pytest.mark.parametrize(
    ("broken", "path"),
    [
        ({}, "participants"),
        ({"participants": None, "meta": {"next_page_url": None}}, "participants"),
        ({"participants": {}, "meta": {"next_page_url": None}}, "participants"),
        ({"conferences": [], "meta": {"next_page_url": None}}, "participants"),
        ({"participants": []}, "meta"),
        ({"participants": [], "meta": None}, "meta"),
        ({"participants": [], "meta": []}, "meta"),
        ({"participants": [], "meta": {}}, "meta.next_page_url"),
        ({"participants": [], "meta": {"next_page_url": 7}}, "meta.next_page_url"),
        ({"participants": [], "meta": {"next_page_url": None, "page": "0"}}, "meta.page"),
    ],
)
def test_bodies_that_are_no_page(broken, path):
    """A body without the parts of a page is an error with the path, never a silent end."""
    with pytest.raises(ResponseError) as caught:
        Pager(FIRST, FIRST, key="participants").page(FIRST, read(broken), "RQ1")

    assert caught.value.path == path
    assert not caught.value.transient
    assert (caught.value.conference_sid, caught.value.request_id) == (SID, "RQ1")
