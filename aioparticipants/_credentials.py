"""Credentials: they make the `Authorization` header, and are never shown.

Twilio takes HTTP Basic (RFC 7617): Account SID and Auth Token, or API key SID and secret.
https://www.twilio.com/docs/usage/requests-to-twilio
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from .errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Credentials", "credentials_from", "credentials_from_env"]

#: The pairs of environment variables, in the order of search: a username, and a password, which can
#: have two names. Twilio's documents use both for the secret of an API key.
_PAIRS = (
    ("TWILIO_API_KEY", ("TWILIO_API_SECRET", "TWILIO_API_KEY_SECRET")),
    ("TWILIO_ACCOUNT_SID", ("TWILIO_AUTH_TOKEN",)),
)

#: Characters: a shorter text is no secret, and can occur in a body by chance. Twilio's have 32.
_SHORTEST_SECRET = 8


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

    def redacted(self, body: bytes | bytearray) -> bytes | bytearray:
        """Return the body of an error reply without the credentials.

        Some proxies and gateways repeat the request there, and the error keeps what the body says.
        """
        header = self.authorization().removeprefix("Basic ")
        in_json = json.dumps(self.password)[1:-1]
        for secret in (header, header.replace("/", "\\/"), in_json, self.password):
            if len(secret) >= _SHORTEST_SECRET:
                body = body.replace(secret.encode(), b"***")
        return body

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: a secret belongs in the environment of each process."""
        message = "Credentials do not pickle: give each process its own, as from_env() does."
        raise TypeError(message)


def credentials_from(given: Any) -> Credentials:
    """Return `Credentials` as they are, or made from a `(username, password)` pair."""
    match given:
        case Credentials():
            return given
        case [username, password]:
            return Credentials(username, password)  # which checks that they are str
        case _:
            message = "The credentials must be a (username, password) pair of str, or Credentials."
            raise InvalidRequestError(message)


def credentials_from_env(environ: Mapping[str, str]) -> Credentials:
    """Return the first complete pair of variables. An empty variable counts as missing.

    Raises:
        InvalidRequestError: no pair is complete; the message names the missing variables.
    """
    wanted: list[str] = []
    for username, passwords in _PAIRS:
        password = next((name for name in passwords if environ.get(name)), passwords[0])
        missing = [name for name in (username, password) if not environ.get(name)]
        if not missing:
            return Credentials(environ[username], environ[password])
        wanted.append(" and ".join(missing))
    # If half of a pair is set, the caller means that pair, so only the other half is named.
    halves = [names for names in wanted if " and " not in names]
    message = f"No Twilio credentials in the environment: set {', or '.join(halves or wanted)}."
    raise InvalidRequestError(message)
