"""Credentials: what a session makes its `Authorization` headers of. None of them is ever shown.

1. Twilio takes HTTP Basic (RFC 7617): Account SID and Auth Token, or API key SID and secret.
   https://www.twilio.com/docs/usage/requests-to-twilio
2. Its OAuth apps get Bearer tokens (RFC 6750) for a client id and secret.
   https://www.twilio.com/docs/iam/oauth-apps/oauth-access-token
   Twilio documents OAuth for its REST API in general. No page of Twilio's says that Voice Insights
   accepts a Bearer token, or that it does not.
3. A `CredentialsProvider` of the user's returns whole header values, of whatever scheme.
4. A secret appears in no repr, is not pickled, and is removed from what a server echoes.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeAlias, cast, runtime_checkable
from urllib.parse import quote, urlencode

import attrs

from ._arguments import checked_sid, confidential_parts
from ._field_docs import documented
from .errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "AnyCredentials",
    "Authorization",
    "ClientCredentials",
    "Credentials",
    "CredentialsProvider",
    "checked_authorization",
    "credentials_from",
    "credentials_from_env",
]

#: The pairs of environment variables, in the order of search: a username, and a password, which can
#: have two names. Twilio's documents use both for the secret of an API key. OAuth is last, so that
#: an API key or an Auth Token that is set keeps its meaning.
_PAIRS: Final = (
    ("TWILIO_API_KEY", ("TWILIO_API_SECRET", "TWILIO_API_KEY_SECRET")),
    ("TWILIO_ACCOUNT_SID", ("TWILIO_AUTH_TOKEN",)),
    ("TWILIO_CLIENT_ID", ("TWILIO_CLIENT_SECRET",)),
)

TOKEN_URL: Final = "https://oauth.twilio.com/v2/token"  # noqa: S105 - an address, no secret

#: RFC 9110, 11.6.2: a scheme and what follows it, of visible ASCII characters and single spaces.
_HEADER: Final = re.compile(r"[!-~]+( [!-~]+)+")

#: The variable of each argument of `ClientCredentials`. That of the token URL is this package's
#: own, as `TWILIO_INSIGHTS_BASE_URL` is.
_OF_CLIENT: Final = {
    "client_id": "TWILIO_CLIENT_ID",
    "client_secret": "TWILIO_CLIENT_SECRET",
    "account_sid": "TWILIO_ACCOUNT_SID",
    "token_url": "TWILIO_OAUTH_TOKEN_URL",
}

#: Characters: a shorter text is no secret, and can occur in a body by chance. Twilio's have 32.
_SHORTEST_SECRET: Final = 8


def _usable_username(_instance: object, _attribute: object, value: Any) -> None:
    # RFC 7617, 2: a colon ends the user-id, and control characters are not allowed.
    if not isinstance(value, str) or not value or ":" in value or not value.isprintable():
        message = (
            "The username must be an Account SID (AC…) or API key SID (SK…): "
            "a non-empty str with no colon and no control character."
        )
        raise InvalidRequestError(message)


def _usable_password(_instance: object, _attribute: object, value: Any) -> None:
    if not isinstance(value, str) or not value or not value.isprintable():
        message = (
            "The password must be an Auth Token or API key secret: "
            "a non-empty str with no control character."
        )
        raise InvalidRequestError(message)


@attrs.frozen
class Credentials:
    """A username and a password for HTTP Basic; neither is shown by `repr`, and neither pickles.

    Args:
        username: the Account SID, or the SID of an API key.
        password: the Auth Token, or the secret of the API key.

    Raises:
        InvalidRequestError: one of the two cannot be sent.
    """

    username: str = attrs.field(validator=_usable_username, repr=False)
    password: str = attrs.field(validator=_usable_password, repr=False)

    def authorization(self) -> str:
        """Return the value of the `Authorization` header (RFC 7617, UTF-8)."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: a secret belongs in the environment of each process."""
        message = "Credentials do not pickle: give each process its own, as from_env() does."
        raise TypeError(message)


def _usable_client_text(_instance: object, attribute: attrs.Attribute[str], value: Any) -> None:
    if not isinstance(value, str) or not value or not value.isprintable():
        message = f"{attribute.name} must be a non-empty str with no control character."
        raise InvalidRequestError(message)


def _usable_account(_instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        checked_sid(value, attribute.name, "AC")


def _usable_token_url(_instance: object, attribute: attrs.Attribute[str], value: Any) -> None:
    if confidential_parts(value) is None:
        message = (
            f"{attribute.name} must be https://host[:port]/path, or http on a loopback host; "
            "no query, fragment or credentials."
        )
        raise InvalidRequestError(message)


@documented
@attrs.frozen
class ClientCredentials:
    """The client id and secret of a Twilio OAuth app; `repr` hides the secret, and neither pickles.

    The session requests an access token with them (RFC 6749, 4.4), and sends it as a Bearer token.
    All calls of the session share one token, which is renewed before it expires.
    https://www.twilio.com/docs/iam/oauth-apps/oauth-access-token

    No page of Twilio's says that Voice Insights accepts a Bearer token: try it with your app and
    its scopes. OAuth apps exist in the region us1 only, and an app of an account does not work for
    its subaccounts (https://www.twilio.com/docs/iam/oauth-apps/faqs).

    Raises:
        InvalidRequestError: a value cannot be used.
    """

    client_id: str = attrs.field(validator=_usable_client_text)
    """The id of the OAuth app: OQ and 32 hexadecimal digits."""
    client_secret: str = attrs.field(validator=_usable_client_text, repr=False)
    """The secret of the OAuth app."""
    account_sid: str | None = attrs.field(default=None, kw_only=True, validator=_usable_account)
    """The account to act for, a query parameter of the token request; None for the app's own."""
    token_url: str = attrs.field(default=TOKEN_URL, kw_only=True, validator=_usable_token_url)
    """Where to request tokens: https, or http on a loopback host."""

    def token_request(self) -> tuple[str, str]:
        """Return the URL and the form-encoded body of the token request."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
        }
        account = "" if self.account_sid is None else f"?account_sid={self.account_sid}"
        return self.token_url + account, urlencode(form)

    def redacted(self, body: bytes | bytearray) -> bytes | bytearray:
        """Return the body of an error reply without the secret, which some servers repeat."""
        return _without((self.client_secret,), body)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied, as `Credentials` do."""
        message = "ClientCredentials do not pickle: give each process its own, as from_env() does."
        raise TypeError(message)


@runtime_checkable
class CredentialsProvider(Protocol):
    """Returns the `Authorization` header of each attempt: for a vault, or a sidecar with tokens."""

    async def authorization(self) -> str:
        """Return the whole value of the header, such as `"Bearer …"`.

        The session asks before every attempt, of all its calls at once, and keeps nothing: a
        provider that fetches something should keep it. A request has no slot of the session's limit
        meanwhile. The session's `timeout` and the list's deadline apply. After a 401 the session
        asks once more, and sends the request again if the value is another one.

        Raises:
            Exception: the attempt fails with a `TransportError`, is retried as the policy allows,
                and the error's `__cause__` is the exception. An `InsightsError` is raised as it is.
        """
        ...


AnyCredentials: TypeAlias = tuple[str, str] | Credentials | ClientCredentials | CredentialsProvider
"""What `InsightsSession` takes."""


class Authorization:
    """The value of an `Authorization` header, and what of it must not be shown."""

    __slots__ = ("_password", "accepted", "header")

    def __init__(self, header: str, *, password: str = "") -> None:
        """Send `header`; `password` is a secret that it holds in another form."""
        self.header: str = header
        self.accepted: bool = False
        """Whether Twilio has answered a request with it other than by a 401."""
        self._password = password

    def redacted(self, body: bytes | bytearray) -> bytes | bytearray:
        """Return the body of an error reply without the credentials.

        Some proxies and gateways repeat the request there, and the error keeps what the body says.
        """
        return _without((*self.header.split(" ")[1:], self._password), body)


def checked_authorization(value: object) -> Authorization:
    """Return what a credentials provider has returned, if it can be sent.

    Raises:
        InvalidRequestError: it is no header value, which the message does not repeat.
    """
    if isinstance(value, str) and _HEADER.fullmatch(value):
        return Authorization(value)
    found = "one that cannot be sent" if isinstance(value, str) else f"a {type(value).__name__}"
    message = (
        f"The credentials provider's authorization() returned {found}: it must return the whole "
        "value of the header, such as 'Bearer …', a str of visible ASCII characters and spaces."
    )
    raise InvalidRequestError(message)


def _without(secrets: Iterable[str], body: bytes | bytearray) -> bytes | bytearray:
    """Return a body without secrets, in the forms in which a server may repeat them."""
    for secret in secrets:
        in_json = json.dumps(secret)[1:-1]
        in_form = quote(secret, safe="")
        for text in (secret, secret.replace("/", "\\/"), in_json, in_form):
            if len(text) >= _SHORTEST_SECRET:
                body = body.replace(text.encode(), b"***")
    return body


def credentials_from(given: Any) -> Credentials | ClientCredentials | CredentialsProvider:
    """Return credentials as they are, or those of a `(username, password)` pair.

    Raises:
        InvalidRequestError: it is nothing of the kind.
    """
    match given:
        case Credentials() | ClientCredentials():
            return given
        case [username, password]:
            return Credentials(username, password)  # which checks that they are str
        case _ if not isinstance(given, type) and callable(getattr(given, "authorization", None)):
            return cast("CredentialsProvider", given)
        case _:
            message = (
                "The credentials must be a (username, password) pair of str, Credentials, "
                "ClientCredentials, or an object with `async def authorization(self) -> str`."
            )
            raise InvalidRequestError(message)


def credentials_from_env(environ: Mapping[str, str]) -> Credentials | ClientCredentials:
    """Return the first complete pair of variables. An empty variable counts as missing.

    Raises:
        InvalidRequestError: no pair is complete; the message names the missing variables. Or one of
            them cannot be used.
    """
    wanted: list[str] = []
    for username, passwords in _PAIRS:
        password = next((name for name in passwords if environ.get(name)), passwords[0])
        missing = [name for name in (username, password) if not environ.get(name)]
        if not missing:
            if username == _OF_CLIENT["client_id"]:
                return _client_from_env(environ)
            return Credentials(environ[username], environ[password])
        wanted.append(" and ".join(missing))
    # If half of a pair is set, the caller means that pair, so only the other half is named.
    halves = [names for names in wanted if " and " not in names]
    message = f"No Twilio credentials in the environment: set {', or '.join(halves or wanted)}."
    raise InvalidRequestError(message)


def _client_from_env(environ: Mapping[str, str]) -> ClientCredentials:
    """Return the client credentials of the environment, which has both the id and the secret."""
    given = {name: environ.get(variable) or None for name, variable in _OF_CLIENT.items()}
    try:
        return ClientCredentials(
            str(given["client_id"]),
            str(given["client_secret"]),
            account_sid=given["account_sid"],
            token_url=given["token_url"] or TOKEN_URL,
        )
    except InvalidRequestError as error:
        message = str(error)
    name, _, _ = message.partition(" ")  # each of its messages begins with the argument
    message = f"{message} It was read from {_OF_CLIENT[name]}."
    raise InvalidRequestError(message)
