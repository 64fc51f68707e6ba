"""Replies with a page of another list, and lists whose pagination never ends."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from aioparticipants import InsightsSession, PaginationError, ResponseError, RetryPolicy

from .servers import http, raw

A, B = "CF" + "a" * 32, "CF" + "b" * 32
ANYONE = ("AC" + "0" * 32, "x" * 32)
QUICK = RetryPolicy(base_delay=0.001)


def page(sid, *labels, url=None, own_sid=True, following=None):
    """Return a reply with a page of a conference."""
    records = [
        {"conference_sid": sid, "label": each} if own_sid else {"label": each} for each in labels
    ]
    meta = {"next_page_url": following, "url": url}
    return http(json.dumps({"meta": meta, "participants": records}).encode())


def address(sid, query="PageSize=1000"):
    return f"https://insights.twilio.com/v1/Conferences/{sid}/Participants?{query}"


def labels(records):
    return [each.label for each in records]


@pytest.mark.parametrize("borrowed", [False, True])
async def test_an_extra_reply_shifts_no_other(borrowed):
    """An extra reply on a kept connection gives no conference the records of another."""
    replies = [
        page(A, "a") + page(A, "a"),  # the second one without a request
        page(B, "b"),
        page(A, "a"),
        page(B, "b"),
        page(A, "a"),
    ]
    async with raw(*replies) as server, aiohttp.ClientSession() as http_session:
        async with InsightsSession(
            ANYONE,
            base_url=server.base_url,
            retry=QUICK,
            http=http_session if borrowed else None,
        ) as session:
            assert labels(await session.participants(A)) == ["a"]
            await asyncio.sleep(0.01)  # until the extra reply has come
            found = labels(await session.participants(B))
            # The n-th request gets the n-th reply, so this is the one that the server sent last.
            assert found == ["b"]
    assert server.connections >= 2


async def test_an_extra_reply_shifts_no_other_kind():
    """An extra reply on a kept connection is no reply to a request for another kind of record."""
    body = {"meta": {"next_page_url": None, "key": "participants"}, "participants": []}
    of_participants = http(json.dumps(body).encode())
    body = {"meta": {"next_page_url": None, "key": "conferences"}, "conferences": []}
    of_conferences = http(json.dumps(body).encode())
    one, other = (http(json.dumps({"conference_sid": sid}).encode()) for sid in (A, B))

    async def conferences(session):
        assert await session.conferences(created_after=None) == []

    async def conference(session):
        assert (await session.conference(A)).conference_sid == A

    async def participants(session):
        assert await session.participants(A) == []

    for extra, good, ask in [
        (of_participants, of_conferences, conferences),
        (of_participants, one, conference),
        (of_conferences, one, conference),
        (of_conferences, of_participants, participants),
        (other, one, conference),
    ]:
        async with (
            raw(one + extra, good, good) as server,  # the extra one without a request
            InsightsSession(ANYONE, base_url=server.base_url, retry=QUICK) as session,
        ):
            await session.conference(A)
            await asyncio.sleep(0.01)  # until the extra reply has come
            await ask(session)
        assert server.connections == 2


@pytest.mark.parametrize(
    "wrong",
    [
        page(A, "a"),
        page(A, "a", url=address(A)),
        page(A, "a", url=address(A), own_sid=False),
        page(A, "a", url=address(A.upper().replace("CF", "CF")), own_sid=False),
        page(A, url=address(A)),
    ],
    ids=["record", "both", "address", "upper case", "empty page"],
)
async def test_the_page_of_another_conference(wrong):
    """A page of another conference is a failed attempt; no record of it is delivered."""
    async with raw(wrong, page(B, "b")) as server:
        async with InsightsSession(ANYONE, base_url=server.base_url, retry=QUICK) as session:
            assert labels(await session.participants(B)) == ["b"]
    assert len(server.heads) == server.connections == 2


async def test_always_the_page_of_another_conference():
    """After the last attempt it is a transient ResponseError that lists the attempts."""
    async with raw(page(A, "a", url=address(A))) as server:
        async with InsightsSession(ANYONE, base_url=server.base_url, retry=QUICK) as session:
            with pytest.raises(ResponseError, match="about another conference") as caught:
                await session.participants(B)
    assert (caught.value.transient, caught.value.conference_sid) == (True, B)
    assert [each.outcome for each in caught.value.attempts] == ["ResponseError"] * 5
    assert server.connections == 5


@pytest.mark.parametrize(
    "right",
    [
        page(B.replace("b", "B"), "b", url=address(B)),
        page(B, "b", url=address(B).lower()),
        page(B, "b", url="https://gateway.example/insights/participants"),
        page(B, "b", url=7),
        http(
            json.dumps(
                {
                    "meta": {"next_page_url": None},
                    "participants": [
                        {"properties": {"conference_sid": A}, "conference_sid": B, "label": "b"}
                    ],
                }
            ).encode()
        ),
        http(
            json.dumps(
                {
                    "meta": {"next_page_url": None},
                    "participants": [
                        {"label": "b", "url": f'"conference_sid": "{A}"', "conference_sid": None}
                    ],
                }
            ).encode()
        ),
    ],
    ids=["upper case", "lower case", "gateway", "no text", "nested member", "in a string"],
)
async def test_the_page_of_the_right_conference(right):
    """A page that only looks like another conference's is delivered."""
    async with raw(right) as server:
        async with InsightsSession(ANYONE, base_url=server.base_url, retry=QUICK) as session:
            assert labels(await session.participants(B)) == ["b"]


def linked(number, *records):
    following = f"https://insights.twilio.com/v1/Conferences/{A}/Participants?Page={number}"
    return http(
        json.dumps({"meta": {"next_page_url": following}, "participants": records}).encode()
    )


async def test_a_page_that_repeats_the_one_before():
    """If a page repeats the one before, the list fails before a record comes twice."""
    replies = [linked(n, {"participant_sid": "CP1"}, {"participant_sid": "CP2"}) for n in range(9)]
    async with raw(*replies) as server:
        async with InsightsSession(ANYONE, base_url=server.base_url) as session:
            found = []
            with pytest.raises(PaginationError, match="repeats the one before"):
                async for each in session.participants(A):
                    found.append(each.participant_sid)
    assert found == ["CP1", "CP2"]
    assert len(server.heads) == 2


@pytest.mark.parametrize(("count", "ends"), [(250, True), (251, False)])
async def test_empty_pages(count, ends):
    """Up to 250 empty pages in a row are normal; one more is an error."""
    replies = [linked(n) for n in range(1, count + 1)] + [page(A, "a")]
    async with raw(*replies) as server:
        async with InsightsSession(ANYONE, base_url=server.base_url) as session:
            if ends:
                assert labels(await session.participants(A)) == ["a"]
            else:
                with pytest.raises(PaginationError, match="pages in a row were empty") as caught:
                    await anext(session.participants(A))
                assert len(server.heads) == count
                # The user can go on all the same.
                rest = session.participants(A, resume=caught.value.cursor)
                server.replies[:] = [linked(count + 1)] * (count + 1) + [page(A, "a")]
                assert labels(await rest) == ["a"]
