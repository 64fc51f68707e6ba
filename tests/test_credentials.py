"""Credentials: the Authorization header, and that no secret is shown."""

from __future__ import annotations

import copy
import pickle

import attrs
import pytest

from aioparticipants import (
    ClientCredentials,
    Credentials,
    InsightsSession,
    InvalidRequestError,
)
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


def test_client_credentials():
    """The id is shown and the secret is not; they are frozen, and pickle and copy are refused."""
    credentials = ClientCredentials("OQ1", SECRET)

    assert "OQ1" in repr(credentials)
    assert SECRET not in f"{credentials!r} {credentials}"
    assert credentials.token_url == "https://oauth.twilio.com/v2/token"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        credentials.client_secret = "other"
    for travel in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="do not pickle"):
            travel(credentials)


@pytest.mark.parametrize(
    "url",
    [
        "https://oauth.twilio.com/v2/token",
        "https://a.example:8443",
        "http://127.0.0.1:8080/v2/token",
        "http://localhost/token",
        "http://[::1]:1/v2/token",
    ],
)
def test_token_urls(url):
    """A token URL is https, or http on a loopback host, of any path."""
    assert ClientCredentials("OQ1", SECRET, token_url=url).token_request()[0] == url


@pytest.mark.parametrize(
    "given",
    [
        {"client_id": ""},
        {"client_id": None},
        {"client_id": "OQ1\n"},
        {"client_secret": ""},
        {"client_secret": SECRET.encode()},
        {"client_secret": SECRET + "\n"},
        {"account_sid": "AC1"},
        {"account_sid": "CF" + "0" * 32},
        {"account_sid": 7},
        *(
            {"token_url": url}
            for url in (
                "http://a.example/v2/token",
                "https://user:s3cret-t0ken@a.example/v2/token",
                "https://a.example/v2/token?x=s3cret-t0ken",
                "https://a.example/v2/token?",
                "https://a.example/v2/token#x",
                "https://a.example/v2 token",
                "https://a%2eexample/v2/token",
                "https://a.example:x/v2/token",
                "ftp://a.example/v2/token",
                "/v2/token",
                "",
                None,
            )
        ),
    ],
)
def test_unusable_client_credentials(given):
    """A value that cannot be sent, or not safely, is refused by its name, and is not repeated."""
    with pytest.raises(InvalidRequestError) as caught:
        ClientCredentials(**{"client_id": "OQ1", "client_secret": SECRET} | given)

    assert str(caught.value).startswith(next(iter(given)))
    assert SECRET not in f"{caught.value!r}"


class Vault:
    async def authorization(self):
        return "Bearer x"


def test_pair_or_object():
    """A pair becomes Credentials; Credentials and providers are taken as they are."""
    credentials = Credentials("AC1", SECRET)

    assert credentials_from(credentials) is credentials
    assert credentials_from(("AC1", SECRET)) == credentials
    for each in (ClientCredentials("OQ1", SECRET), Vault()):
        assert credentials_from(each) is each


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
        Vault,
        Vault().authorization,
        object(),
    ],
)
def test_unusable(given):
    """Values that cannot be sent are refused, and the error does not repeat them."""
    with pytest.raises(InvalidRequestError) as caught:
        credentials_from(given)

    assert SECRET not in f"{caught.value!r}"


ACCOUNT = {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "token"}
KEY = {"TWILIO_API_KEY": "SK1", "TWILIO_API_SECRET": "secret"}
APP = {"TWILIO_CLIENT_ID": "OQ1", "TWILIO_CLIENT_SECRET": SECRET}


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
    assert credentials_from_env(environ | APP).username == username


@pytest.mark.parametrize(
    ("environ", "account"),
    [
        (APP, None),
        (APP | {"TWILIO_ACCOUNT_SID": "", "TWILIO_AUTH_TOKEN": "", "TWILIO_API_KEY": ""}, None),
        (APP | {"TWILIO_ACCOUNT_SID": "AC" + "1" * 32}, "AC" + "1" * 32),
        (APP | {"TWILIO_ACCOUNT_SID": "AC" + "1" * 32, "TWILIO_API_KEY": "SK1"}, "AC" + "1" * 32),
    ],
)
def test_an_oauth_app_from_env(environ, account):
    """Client credentials count where neither an API key nor an Auth Token is complete."""
    found = credentials_from_env(environ)

    assert found == ClientCredentials("OQ1", SECRET, account_sid=account)


def test_the_token_url_from_env():
    """The token URL can be set, as for a test server."""
    url = "http://localhost:8080/v2/token"

    assert credentials_from_env(APP | {"TWILIO_OAUTH_TOKEN_URL": url}).token_url == url
    assert credentials_from_env(APP | {"TWILIO_OAUTH_TOKEN_URL": ""}) == ClientCredentials(
        "OQ1", SECRET
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TWILIO_CLIENT_ID", "OQ1\n"),
        ("TWILIO_CLIENT_SECRET", "s3cret-t0ken\n"),
        ("TWILIO_ACCOUNT_SID", "AC1"),
        ("TWILIO_OAUTH_TOKEN_URL", "http://a.example"),
    ],
)
def test_unusable_variables_of_an_oauth_app(variable, value):
    """A variable that cannot be used is named, and its value is not shown."""
    with pytest.raises(InvalidRequestError) as caught:
        credentials_from_env(APP | {variable: value})

    assert str(caught.value).endswith(f" It was read from {variable}.")
    assert value.strip() not in str(caught.value)
    assert caught.value.__context__ is None


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
        (
            {},
            (
                "TWILIO_API_KEY and TWILIO_API_SECRET, or TWILIO_ACCOUNT_SID and "
                "TWILIO_AUTH_TOKEN, or TWILIO_CLIENT_ID and TWILIO_CLIENT_SECRET."
            ),
        ),
        ({"TWILIO_CLIENT_ID": "OQ1"}, "set TWILIO_CLIENT_SECRET."),
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
        (("", "de1", ""), "It was read from TWILIO_REGION and TWILIO_EDGE."),
        (("", "us1\n", "dublin"), "It was read from TWILIO_REGION and TWILIO_EDGE."),
    ],
)
def test_unusable_places(place, words):
    """If the environment names no usable origin, the error names the variables."""
    with pytest.raises(InvalidRequestError, match=words) as caught:
        InsightsSession.from_env(ACCOUNT | dict(zip(PLACE, place, strict=True)))

    assert caught.value.__context__ is None
