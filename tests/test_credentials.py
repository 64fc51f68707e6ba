"""Credentials: the Authorization header, and that no secret is shown."""

from __future__ import annotations

import copy
import pickle

import pytest

from aioparticipants import Credentials, InsightsSession, InvalidRequestError
from aioparticipants._credentials import credentials_from, credentials_from_env

SECRET = "s3cret-t0ken"


def test_authorization():
    """The header is RFC 7617's own example, and UTF-8 beyond ASCII."""
    assert Credentials("Aladdin", "open sesame").authorization() == (
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    )
    assert Credentials("test", "123£").authorization() == "Basic dGVzdDoxMjPCow=="


def test_secrets_are_not_shown():
    """Neither repr nor str shows a credential; pickle and copy are refused."""
    credentials = Credentials("AC1", SECRET)

    assert SECRET not in f"{credentials!r} {credentials}"
    assert "AC1" not in f"{credentials!r} {credentials}"
    for travel in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="do not pickle"):
            travel(credentials)


def test_pair_or_object():
    """A pair becomes Credentials, and Credentials are taken as they are."""
    credentials = Credentials("AC1", SECRET)

    assert credentials_from(credentials) is credentials
    assert credentials_from(("AC1", SECRET)) == credentials


@pytest.mark.parametrize(
    "given",
    [
        None,
        "AC1:s3cret-t0ken",
        ("AC1",),
        ("AC1", None),
        ("AC1", SECRET, "x"),
        ("", SECRET),
        ("A:C", SECRET),
        ("AC1\r\nX: y", SECRET),
        ("AC1", ""),
        ("AC1", SECRET + "\n"),
        (1, SECRET),
        ("AC1", 1),
    ],
)
def test_unusable(given):
    """Values that cannot be sent are refused, and the error does not repeat them."""
    with pytest.raises(InvalidRequestError) as caught:
        credentials_from(given)

    assert SECRET not in f"{caught.value!r}"


ACCOUNT = {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "token"}
KEY = {"TWILIO_API_KEY": "SK1", "TWILIO_API_SECRET": "secret"}


@pytest.mark.parametrize(
    ("environ", "username"),
    [
        (ACCOUNT, "AC1"),
        (KEY, "SK1"),
        (ACCOUNT | KEY, "SK1"),
        (ACCOUNT | {"TWILIO_API_KEY": "SK1"}, "AC1"),
        (ACCOUNT | {"TWILIO_API_KEY": "", "TWILIO_API_SECRET": "secret"}, "AC1"),
        ({"TWILIO_API_KEY": "SK1", "TWILIO_API_KEY_SECRET": "secret"}, "SK1"),
    ],
)
def test_from_env(environ, username):
    """The API key comes first, and a pair counts only when it is complete."""
    assert credentials_from_env(environ).username == username


@pytest.mark.parametrize(
    ("secrets", "password"),
    [
        ({"TWILIO_API_SECRET": "a"}, "a"),
        ({"TWILIO_API_KEY_SECRET": "b"}, "b"),
        ({"TWILIO_API_SECRET": "", "TWILIO_API_KEY_SECRET": "b"}, "b"),
        ({"TWILIO_API_SECRET": "a", "TWILIO_API_KEY_SECRET": "b"}, "a"),
    ],
)
def test_names_of_a_secret(secrets, password):
    """The secret of an API key has either of the names that Twilio's documents use."""
    assert credentials_from_env({"TWILIO_API_KEY": "SK1", **secrets}).password == password


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "TWILIO_API_KEY and TWILIO_API_SECRET, or TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN"),
        ({"TWILIO_ACCOUNT_SID": "AC1"}, "set TWILIO_AUTH_TOKEN."),
        ({"TWILIO_API_SECRET": "x", "TWILIO_API_KEY": ""}, "set TWILIO_API_KEY."),
        ({"TWILIO_API_KEY_SECRET": "x"}, "set TWILIO_API_KEY."),
        ({"TWILIO_API_KEY": "SK1", "TWILIO_API_KEY_SECRET": ""}, "set TWILIO_API_SECRET."),
    ],
)
def test_missing_variables_are_named(environ, words):
    """The missing variables are named, and no others."""
    with pytest.raises(InvalidRequestError) as caught:
        credentials_from_env(environ)

    assert words in str(caught.value)


PLACE = ("TWILIO_INSIGHTS_BASE_URL", "TWILIO_REGION", "TWILIO_EDGE")
OTHER = "https://a.example"
PUBLIC = "https://insights.twilio.com"


@pytest.mark.parametrize(
    ("place", "options", "url"),
    [
        (("", "", ""), {}, PUBLIC),
        ((OTHER, "", ""), {}, OTHER),
        ((OTHER, "ie1", "dublin"), {}, OTHER),
        ((OTHER, "ie1", ""), {}, OTHER),
        (("", "us1", ""), {}, PUBLIC),
        (("", "us1", "ashburn"), {}, "https://insights.ashburn.us1.twilio.com"),
        (("", "", "dublin"), {}, "https://insights.dublin.us1.twilio.com"),
        (("", "ie1", "dublin"), {}, "https://insights.dublin.ie1.twilio.com"),
        ((OTHER, "", ""), {"region": "us1"}, PUBLIC),
        ((OTHER, "", ""), {"edge": "sydney"}, "https://insights.sydney.us1.twilio.com"),
        (("", "ie1", "dublin"), {"base_url": OTHER}, OTHER),
        ((OTHER, "", ""), {"base_url": None, "region": None}, OTHER),
    ],
)
def test_place(monkeypatch, place, options, url):
    """A base URL wins over a region, and the caller's options win over the environment."""
    environ = ACCOUNT | dict(zip(PLACE, place, strict=True))

    shown = repr(InsightsSession.from_env(environ, **options))
    assert f" of {url}: " in shown
    assert ACCOUNT["TWILIO_AUTH_TOKEN"] not in shown
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    for name in KEY:
        monkeypatch.delenv(name, raising=False)
    assert f" of {url}: " in repr(InsightsSession.from_env(**options))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (("http://a.example", "", ""), "It was read from TWILIO_INSIGHTS_BASE_URL."),
        (("", "ie1", ""), "It was read from TWILIO_REGION and TWILIO_EDGE."),
        (("", "us1\n", "dublin"), "It was read from TWILIO_REGION and TWILIO_EDGE."),
    ],
)
def test_unusable_places(place, words):
    """If the environment names no usable origin, the error names the variables."""
    with pytest.raises(InvalidRequestError, match=words) as caught:
        InsightsSession.from_env(ACCOUNT | dict(zip(PLACE, place, strict=True)))

    assert caught.value.__context__ is None
