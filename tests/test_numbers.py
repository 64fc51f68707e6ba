"""Numbers as arguments: those that no float or size can hold are refused, and never crash.

`10**400` is less than infinity in Python, but larger than any float.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import aiohttp
import pytest

from aioparticipants import InsightsSession, InvalidRequestError, RetryPolicy

SID = "CF" + "a" * 32
CREDENTIALS = ("AC" + "0" * 32, "s3cret-t0ken")
HUGE = 10**400
BAD_SECONDS = [HUGE, -HUGE, float("inf"), float("nan"), -1, "5", True, Fraction(1, 2), Decimal(1)]
BAD_SIZES = [HUGE, -HUGE, 2**63, 1.0, "5", True, Fraction(2), Decimal(2)]


def session(**options):
    return InsightsSession(CREDENTIALS, base_url="http://127.0.0.1:9", **options)


@pytest.mark.parametrize("value", BAD_SECONDS, ids=lambda value: f"{value!r:.9}")
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda v: session(timeout=v), id="timeout"),
        pytest.param(lambda v: session(timeout=aiohttp.ClientTimeout(total=v)), id="total"),
        *(
            pytest.param(
                lambda v, name=name: session(timeout=aiohttp.ClientTimeout(total=5, **{name: v})),
                id=name,
            )
            for name in ("connect", "sock_connect", "sock_read", "ceil_threshold")
        ),
        *(
            pytest.param(lambda v, name=name: RetryPolicy(**{name: v}), id=name)
            for name in ("base_delay", "max_delay", "max_retry_after", "budget")
        ),
        pytest.param(lambda v: session().participants(SID, deadline=v), id="deadline"),
        pytest.param(lambda v: session().fan_out([SID], deadline=v), id="fan-out's deadline"),
    ],
)
def test_invalid_seconds(use, value):
    """Seconds must be a finite number that a float can hold; anything else is refused at once."""
    with pytest.raises(InvalidRequestError, match="number of seconds"):
        use(value)


@pytest.mark.parametrize("value", BAD_SIZES, ids=lambda value: f"{value!r:.9}")
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda v: session(max_concurrency=v), id="max_concurrency"),
        pytest.param(lambda v: session().fan_out([SID], concurrency=v), id="concurrency"),
        pytest.param(lambda v: session().participants(SID, page_size=v), id="page_size"),
        pytest.param(lambda v: session().participants(SID, limit=v), id="limit"),
    ],
)
def test_invalid_sizes(use, value):
    """Sizes must be whole numbers below 2**63; anything else is refused at once."""
    with pytest.raises(InvalidRequestError, match="a whole number from"):
        use(value)


async def test_largest_numbers(fake):
    """The largest accepted numbers work."""
    sid = fake.add_conference(participants=3)
    seconds, size = 10**308, 2**63 - 1
    parts = dict.fromkeys(("connect", "sock_connect", "sock_read", "total"), seconds)
    async with InsightsSession(
        fake.credentials,
        base_url=fake.base_url,
        timeout=aiohttp.ClientTimeout(**parts),
        max_concurrency=size,
        retry=RetryPolicy(base_delay=0, max_delay=seconds, max_retry_after=seconds, budget=seconds),
    ) as opened:
        fake.fail_next(503)
        assert len(await opened.participants(sid, limit=size, deadline=seconds)) == 3
        results = [each async for each in opened.fan_out([sid], concurrency=size, deadline=seconds)]

    assert [each.error for each in results] == [None]
