"""The settings of a session: what can be used, and what is refused before anything is opened."""

from __future__ import annotations

import aiohttp
import pytest

from aioparticipants import InsightsSession, InvalidRequestError
from aioparticipants._settings import (
    base_url_from,
    base_url_from_env,
    checked_proxy,
    checked_user_agent,
    client_timeout,
)

CREDENTIALS = ("AC" + "0" * 32, "s3cret-t0ken")
NOWHERE = {"base_url": None, "region": None, "edge": None}
BAD_USER_AGENTS = (
    "", " ", " a", "a ", "a\r\nCookie: b", "a\n", "a\tb", "a\0b", "caf\xe9", "x" * 201, 5, b"a",
)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        ({}, "https://insights.twilio.com"),
        ({"region": "us1"}, "https://insights.twilio.com"),
        ({"region": "ie1"}, "https://insights.dublin.ie1.twilio.com"),
        ({"region": "au1"}, "https://insights.sydney.au1.twilio.com"),
        ({"region": "ie1", "edge": "frankfurt"}, "https://insights.frankfurt.ie1.twilio.com"),
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
    assert base_url_from(**NOWHERE | arguments) == url


@pytest.mark.parametrize(
    "arguments",
    [
        {"region": "jp1"},
        {"region": "IE1"},
        {"region": ["us1"]},
        {"region": "x@evil.example/", "edge": "dublin"},
        {"edge": "evil.example/"},
        {"edge": "dublin\n"},
        {"edge": "-"},
        {"edge": ""},
        {"edge": 1},
        {"base_url": "https://a.example", "region": "ie1"},
        *(
            {"base_url": each}
            for each in (
                "http://insights.twilio.com", "http://127.0.0.1.evil.example", "ftp://127.0.0.1",
                "https://user:pw@a.example", "https://a.example/path", "https://a.example?x=1",
                "https://a.example?", "https://a.example#x", "https://a.example:port",
                "https://a.ex\nample", "https://a%2eexample", "https://[::1", "https://",
                "a.example", "", 1,
            )
        ),
    ],
)  # fmt: skip
def test_unsafe_origins(arguments):
    """An origin that could carry the credentials unencrypted, or elsewhere, is refused."""
    with pytest.raises(InvalidRequestError) as caught:
        base_url_from(**NOWHERE | arguments)

    assert "pw" not in repr(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("region", ["us1", "ie1", "au1"])
def test_regions_of_the_environment(region):
    """TWILIO_REGION alone is enough for the regions whose edge is known, and for no other."""
    assert base_url_from_env({"TWILIO_REGION": region}) == base_url_from(
        None, region=region, edge=None
    )
    with pytest.raises(
        InvalidRequestError, match=r"us1, ie1, au1\. It was read from TWILIO_REGION"
    ):
        base_url_from_env({"TWILIO_REGION": "jp1"})


@pytest.mark.parametrize("suffix", [None, "a", "call-reports/1.4 (+https://a.example)", "~" * 200])
def test_user_agents(suffix):
    """Up to 200 printable ASCII characters can be added to the User-Agent."""
    assert checked_user_agent(suffix) == suffix


@pytest.mark.parametrize(
    ("proxy", "base_url"),
    [
        (None, "https://a.example"),
        ("http://proxy.example:3128", "https://a.example"),
        ("https://user:pw@proxy.example/", "https://a.example"),
        ("http://127.0.0.1:3128", "http://127.0.0.1:1"),
    ],
)
def test_proxies(proxy, base_url):
    """A proxy is the URL of an HTTP proxy, as it was given."""
    assert checked_proxy(proxy, base_url=base_url) == proxy


@pytest.mark.parametrize(
    ("proxy", "base_url", "words"),
    [
        ("proxy.example", "https://a.example", "must be the URL of an HTTP proxy"),
        ("socks5://user:pw@h", "https://a.example", "must be the URL of an HTTP proxy"),
        ("http://user:pw@h:port", "https://a.example", "must be the URL of an HTTP proxy"),
        ("http://user:pw@h/path", "https://a.example", "must be the URL of an HTTP proxy"),
        (5, "https://a.example", "must be the URL of an HTTP proxy"),
        ("http://proxy.example", "http://127.0.0.1:1", "loopback"),
    ],
)
def test_bad_proxies(proxy, base_url, words):
    """Any other proxy is refused, and its password is not repeated."""
    with pytest.raises(InvalidRequestError, match=words) as caught:
        checked_proxy(proxy, base_url=base_url)

    assert "pw" not in repr(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "options",
    [
        *({"max_concurrency": each} for each in (0, 1.5, True)),
        {"http": 5},
        {"trace_configs": [5]},
        {"trace_configs": 5},
        {"retry": 5},
        *({"timeout": each} for each in (0, -1, float("nan"), float("inf"), True, "30")),
        {"timeout": aiohttp.ClientTimeout(total=None)},
        {"base_url": "http://insights.twilio.com"},
        {"region": "jp1"},
        *({"user_agent": each} for each in BAD_USER_AGENTS),
        {"ssl": False},
        {"proxy": "proxy.example"},
        {"limiter": 5},
        {"on_event": 5},
        {"tracer": 5},
    ],
)
async def test_bad_options(options):
    """An option that cannot be used is refused by its name when the session is made."""
    (name,) = options
    with pytest.raises(InvalidRequestError, match=name):
        InsightsSession(CREDENTIALS, **options)


async def test_trace_configs_of_a_borrowed_session():
    """Trace configs with a borrowed session would be ignored, so they are refused."""
    async with aiohttp.ClientSession() as http_session:
        with pytest.raises(InvalidRequestError, match="borrowed"):
            InsightsSession(CREDENTIALS, http=http_session, trace_configs=[aiohttp.TraceConfig()])


@pytest.mark.parametrize(
    ("given", "total", "connect", "read"),
    [
        (None, 30.0, 10.0, 20.0),
        (5, 5.0, 10.0, 20.0),
        (aiohttp.ClientTimeout(total=7), 7.0, 10.0, 20.0),
        (aiohttp.ClientTimeout(total=7, sock_connect=1, sock_read=2), 7.0, 1, 2),
    ],
)
def test_timeouts(given, total, connect, read):
    """An attempt has a time limit in all, to connect, and between bytes, whatever is given."""
    timeout = client_timeout(given)

    assert (timeout.total, timeout.sock_connect, timeout.sock_read) == (total, connect, read)


@pytest.mark.parametrize("part", ["connect", "sock_connect", "sock_read", "ceil_threshold"])
def test_a_bad_part_of_a_timeout_is_named(part):
    """The error for one part of a timeout names that part."""
    with pytest.raises(InvalidRequestError, match=rf"timeout\.{part} must be a finite number"):
        client_timeout(aiohttp.ClientTimeout(total=5, **{part: -1}))
