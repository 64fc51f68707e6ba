"""What the reply to a token request means: an access token and its lifetime, or an error.

The reply is that of RFC 6749, 5.1: `access_token`, `token_type`, `expires_in`, and here always
`refresh_token: null`.
https://www.twilio.com/docs/iam/oauth-apps/oauth-access-token

1. 200 is success, and 201, which Twilio's description of the endpoint names.
2. A token is sent only if it has the form of a Bearer token (RFC 6750, 2.1), so that nothing else
   gets into a header.
3. The lifetime is `expires_in`, if that is a positive number of seconds and at most 31 days: an app
   can set 1 minute to 30 days. (The example in Twilio's description is 1438315200000.) Else it is
   the `exp` claim of the token, if that is a JWT (RFC 7519, 4.1.4), minus the reply's own `Date`.
   Else it is the shortest that an app can set.
   The claim is read without checking the signature. It decides only when the next token is
   requested: a wrong one can cause a request too many, or a 401, but it permits nothing. Twilio
   checks the token.
4. A refusal of the client id or secret is an `AuthenticationError`, whatever its status: RFC 6749,
   5.2 allows 400 and 401. All other statuses have the classes of `errors`.
5. No error holds the body of a success, in which the token is.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final, TypeVar, cast

import attrs

from ._credentials import Authorization
from ._decoding import decoded
from ._responses import error_members, member, reply_time, retry_after
from .errors import (
    AuthenticationError,
    BadRequestError,
    ResponseError,
    TransportError,
    status_rule,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._messages import Response
    from .errors import InsightsError

__all__ = ["AccessToken", "access_token", "of_token_request"]

E = TypeVar("E", bound="InsightsError")

#: RFC 6750, 2.1: `b64token`. A longer one would not fit into the header of most servers.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,16384}={0,16}")

#: Seconds. An app can set 30 days; the rest is for clocks that differ.
_LONGEST: Final = 31 * 86400.0
#: Seconds: what is assumed of a token that does not say it, the shortest that an app can set.
_UNKNOWN: Final = 60.0

#: Seconds since the epoch, in the year 9999.
_LAST_TIME: Final = 253402300799

_SUCCESSES: Final = frozenset({200, 201})
_BAD_REQUEST: Final = 400
_REFUSED: Final = frozenset({401, 403})
#: RFC 6749, 5.2: the errors that are about the client, with status 400.
_CLIENT_ERRORS: Final = frozenset({"invalid_client", "invalid_grant", "unauthorized_client"})

_CHECK: Final = "Check client_id, client_secret and account_sid"
#: The remedies of a request for a page, and those of a token request.
_REWORDED: Final = (
    ("Set a smaller page_size, which is answered sooner, or a longer timeout.", "Check token_url."),
    ("Set a smaller page_size.", "Check token_url."),
    ("region, edge and base_url", "token_url"),
    ("base_url", "token_url"),
)


@attrs.frozen
class AccessToken:
    """A Bearer token."""

    authorization: Authorization = attrs.field(repr=False)
    """The header that it is sent in."""
    lifetime: float
    """Seconds."""


def access_token(response: Response, *, now: Callable[[], float]) -> AccessToken:
    """Return the token of a reply.

    Args:
        response: the reply to a token request.
        now: the time in seconds since the epoch, for replies without a `Date`.

    Raises:
        APIStatusError: the status is not a success.
        ResponseError: the body has no token.
    """
    if response.status not in _SUCCESSES:
        raise _refusal(response, now)
    members = _members(response)
    token, kind = members.get("access_token"), members.get("token_type")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise _unusable(response, "has no access_token that can be sent", path="access_token")
    if kind is not None and (not isinstance(kind, str) or kind.lower() != "bearer"):
        raise _unusable(response, "has a token of another type than Bearer", path="token_type")
    lifetime = _usable_lifetime(members.get("expires_in"))
    if lifetime is None:
        lifetime = _lifetime_by_claim(token, reply_time(response.headers, now=now))
    return AccessToken(Authorization(f"Bearer {token}"), lifetime or _UNKNOWN)


def of_token_request(error: E) -> E:
    """Return the error of a token request, with a message that says so."""
    if isinstance(error, (TransportError, ResponseError)):
        text = str(error)
        for pages, tokens in _REWORDED:
            text = text.replace(pages, tokens)
        error.args = (f"The OAuth token request failed. {text}",)
    return error


def _members(response: Response) -> Mapping[str, object]:
    """Return the members of a successful reply."""
    try:
        body = decoded(response.body)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        return cast("dict[str, object]", body)
    # As with a page, another attempt may well get a whole one.
    raise _unusable(response, "is no JSON object", transient=True)


def _usable_lifetime(seconds: object) -> float | None:
    """Return a lifetime, if it is a positive number of seconds that an app can set."""
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
        return float(seconds) if 0 < seconds <= _LONGEST else None
    return None


def _lifetime_by_claim(token: str, issued: float) -> float | None:
    """Return the seconds from `issued` to the `exp` claim of a JWT; None if it is not usable."""
    _, _, rest = token.partition(".")
    payload, _, _ = rest.partition(".")
    padded = payload + "=" * (-len(payload) % 4)
    try:
        claims = decoded(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        return None
    if not isinstance(claims, dict):
        return None
    expires = cast("dict[str, object]", claims).get("exp")
    if not isinstance(expires, (int, float)) or isinstance(expires, bool):
        return None
    # Compared first, as an int can be larger than any float.
    return _usable_lifetime(expires - issued) if 0 < expires < _LAST_TIME else None


def _unusable(
    response: Response, fault: str, *, path: str | None = None, transient: bool = False
) -> ResponseError:
    return ResponseError(
        f"The reply {fault}. Check token_url, and any proxy or gateway in between.",
        path=path,
        transient=transient,
        request_id=response.request_id,
    )


def _refusal(response: Response, now: Callable[[], float]) -> InsightsError:
    """Return the error for a status that is no success."""
    status, rule = response.status, status_rule(response.status)
    members = error_members(response.body)
    code, word = member(members, int, "code"), member(members, str, "error")
    kind, remedy = rule.kind, f"{_CHECK}; see .code and .message."
    if status in _REFUSED or (status == _BAD_REQUEST and word in _CLIENT_ERRORS):
        kind = AuthenticationError
        remedy = (
            f"{_CHECK}, and that the OAuth app still exists and its secret has not been replaced "
            "(https://www.twilio.com/docs/iam/oauth-apps)."
        )
    elif kind is not BadRequestError:
        remedy = "Check token_url, and any proxy or gateway in between."
        if rule.transient:
            remedy = "Try again later (https://status.twilio.com)."
    named = f"HTTP {status}" if code is None else f"HTTP {status}, Twilio error {code}"
    return kind(
        f"The OAuth token request failed: {named}. {remedy}",
        status=status,
        code=code,
        message=member(members, str, "error_description", "message", "detail", "title", "error"),
        more_info=member(members, str, "error_uri", "more_info", "moreInfo", "infoUrl", "type"),
        details=members,
        retry_after=retry_after(response.headers, now=now),
        request_id=response.request_id,
    )
