"""The token endpoint of FakeInsights: `POST /v2/token`, as https://oauth.twilio.com has it.

1. It takes the form of RFC 6749, 4.4.2, and answers as Twilio documents it:
   https://www.twilio.com/docs/iam/oauth-apps/oauth-access-token
   A refusal has the form of RFC 6749, 5.2, as Twilio documents none.
2. A token looks like a JWT with an `exp` claim; its signature is made up. The server knows the
   tokens that it has issued, and until when it accepts each.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

__all__ = ["TOKEN_PATH", "Tokens"]

TOKEN_PATH: Final = "/v2/token"  # noqa: S105 - an address, no secret


class Tokens:
    """Issues access tokens to one client, and knows them again."""

    def __init__(self, rng: random.Random) -> None:
        """Make up the client's id and secret."""
        self._rng = rng
        self.client_id: str = f"OQ{rng.getrandbits(128):032x}"
        self.client_secret: str = f"{rng.getrandbits(256):064x}"
        self._valid_until: dict[str, float] = {}

    def answer(self, form: Mapping[str, object], *, lifetime: float) -> tuple[int, bytes]:
        """Return the status and the body of the reply to a token request."""
        if form.get("grant_type") != "client_credentials":
            return _refusal(400, "unsupported_grant_type", "Only client_credentials is supported.")
        if not self.is_client(form):
            return _refusal(401, "invalid_client", "The client id or secret is wrong.")
        body = {
            "access_token": self._issue(lifetime),
            "id_token": None,
            "token_type": "Bearer",
            "expires_in": lifetime,
            "refresh_token": None,
        }
        return 200, json.dumps(body).encode()

    def is_client(self, form: Mapping[str, object]) -> bool:
        """Return whether a form has the client's id and secret."""
        given = (form.get("client_id"), form.get("client_secret"))
        return given == (self.client_id, self.client_secret)

    def accepts(self, authorization: str) -> bool:
        """Return whether the value of an `Authorization` header is a token that is valid now."""
        scheme, _, token = authorization.partition(" ")
        expired_at = self._valid_until.get(token, 0.0)
        return scheme.lower() == "bearer" and time.monotonic() < expired_at

    def revoke(self) -> None:
        """Accept none of the tokens issued so far."""
        self._valid_until.clear()

    def _issue(self, lifetime: float) -> str:
        now = time.time()
        claims = {"iss": self.client_id, "iat": int(now), "exp": int(now + lifetime)}
        parts = (_base64({"alg": "HS256", "typ": "JWT"}), _base64(claims))
        token = ".".join((*parts, f"{self._rng.getrandbits(256):064x}"))
        self._valid_until[token] = time.monotonic() + lifetime
        return token


def _base64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _refusal(status: int, error: str, description: str) -> tuple[int, bytes]:
    return status, json.dumps({"error": error, "error_description": description}).encode()
