"""From a caller's arguments to a `Request`, or to an `InvalidRequestError` before anything is sent.

1. A SID is matched whole against its form, as Twilio describes it (`CF[0-9a-fA-F]{32}`: digits in
   either case, sent as they are given): what is not a SID never becomes part of a path.
2. Values are percent-encoded here, once; the transport sends the query byte for byte.
3. A page holds 1 to 1000 records. Where the caller names no size it is 1000, or `limit` where that
   is smaller: a conference of 250 is then one request, not five.
4. Hosts are built from words that are matched whole, so that no region can name another host.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import quote, urlencode, urlsplit

from ._messages import Request
from .errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "LARGEST_PAGE",
    "base_url_from",
    "base_url_from_env",
    "checked_limit",
    "checked_proxy",
    "first_page",
]

#: https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-participant-summary-resource
LARGEST_PAGE: Final = 1000

_HOST: Final = "insights.twilio.com"
_PUBLIC_REGION: Final = "us1"
# `[0-9]`, not `\d`, which takes Arabic digits too; `fullmatch`, as `$` allows a newline at the end.
_SID: Final = re.compile(r"(CF|CP|AC)[0-9a-fA-F]{32}")
_HOST_WORD: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
# No `%`, which some resolvers decode, and none of the other characters that a URL's host may hold.
_HOST_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?")
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def first_page(
    conference_sid: str,
    *,
    participant_sid: str | None = None,
    label: str | None = None,
    events: str | None = None,
    page_size: int | None = None,
    limit: int | None = None,
) -> Request:
    """Return the request for the first page of a conference's participants.

    Raises:
        InvalidRequestError: an argument that the API cannot accept.
    """
    if page_size is None:
        page_size = min(LARGEST_PAGE, limit or LARGEST_PAGE)
    given = {
        "ParticipantSid": None if participant_sid is None else _sid(participant_sid, "CP"),
        "Label": _text(label, "label"),
        "Events": _text(events, "events"),
        "PageSize": _whole_number(page_size, "page_size", low=1, high=LARGEST_PAGE),
    }
    query = {name: value for name, value in given.items() if value is not None}
    return Request(
        path=f"/v1/Conferences/{_sid(conference_sid, 'CF')}/Participants",
        query=urlencode(query, quote_via=quote, safe=""),
        conference_sid=conference_sid,
    )


def checked_limit(limit: int | None) -> int | None:
    """Return `limit` if it is None or a whole number from 0; raise `InvalidRequestError` if not."""
    return None if limit is None else _whole_number(limit, "limit", low=0)


def base_url_from(base_url: str | None, *, region: str | None, edge: str | None) -> str:
    """Return the origin that every request goes to: `https://host`, with no slash at the end.

    A region has its own host, `insights.{edge}.{region}.twilio.com`, and its own API keys:
    https://www.twilio.com/docs/global-infrastructure/understanding-twilio-regions
    The region us1 is where the public host is, so that it needs no edge.

    Raises:
        InvalidRequestError: the parts name no safe origin.
    """
    if base_url is not None:
        if region is not None or edge is not None:
            message = "Give base_url, or region and edge: not both."
            raise InvalidRequestError(message)
        return _origin(base_url)
    if edge is None and region in (None, _PUBLIC_REGION):  # a tuple, as it may be unhashable
        return f"https://{_HOST}"
    if edge is None:
        # Hosts with a region and no edge were switched off on 2026-04-28.
        message = "A region needs its edge too: region='ie1', edge='dublin'."
        raise InvalidRequestError(message)
    region_word = _host_word(_PUBLIC_REGION if region is None else region, "region")
    return f"https://insights.{_host_word(edge, 'edge')}.{region_word}.twilio.com"


def base_url_from_env(environ: Mapping[str, str]) -> str:
    """Return the origin that the environment names, as `base_url_from` does.

    `TWILIO_INSIGHTS_BASE_URL`, else `TWILIO_REGION` and `TWILIO_EDGE`. A variable that is empty
    counts as missing.

    Raises:
        InvalidRequestError: they name no safe origin; the variables are named.
    """
    base_url = environ.get("TWILIO_INSIGHTS_BASE_URL") or None
    region, edge = environ.get("TWILIO_REGION") or None, environ.get("TWILIO_EDGE") or None
    if base_url is not None:  # the more exact of the two wins: the others serve Twilio's own SDKs
        region = edge = None
    try:
        return base_url_from(base_url, region=region, edge=edge)
    except InvalidRequestError as error:
        message = str(error)
    read = "TWILIO_REGION and TWILIO_EDGE" if base_url is None else "TWILIO_INSIGHTS_BASE_URL"
    message = f"{message} It was read from {read}."
    raise InvalidRequestError(message)


def checked_proxy(proxy: str | None, *, base_url: str) -> str | None:
    """Return `proxy` if it is the URL of an HTTP proxy that may see what goes to `base_url`.

    Of https a proxy sees the host and the port alone (RFC 9110, 9.3.6); of http it sees it all.

    Raises:
        InvalidRequestError: it is none, or not one for this origin.
    """
    if proxy is None:
        return None
    advice = "proxy must be the URL of an HTTP proxy: http://[user:password@]host[:port]."
    if not isinstance(cast("object", proxy), str) or not re.fullmatch(r"[!-\[\]-~]+", proxy):
        raise InvalidRequestError(advice)
    try:
        parts = urlsplit(proxy)
        host, _ = parts.hostname, parts.port
    except ValueError:  # its text can hold a password, so it is not even chained
        parts, host = urlsplit(""), None
    bare = parts.path in {"", "/"} and not parts.query and not parts.fragment
    if parts.scheme not in {"http", "https"} or not host or not bare:
        raise InvalidRequestError(advice)
    if base_url.startswith("http:") and host not in _LOOPBACK:
        message = (
            "A proxy sees the headers of plain http: proxy must be on a loopback host, as the http "
            "base_url is; or give an https base_url."
        )
        raise InvalidRequestError(message)
    return proxy


def _sid(value: object, prefix: str) -> str:
    if isinstance(value, str) and _SID.fullmatch(value) and value.startswith(prefix):
        return value
    name = {"CF": "conference_sid", "CP": "participant_sid"}[prefix]
    message = f"{name} must be {prefix} followed by 32 hexadecimal digits."
    raise InvalidRequestError(message)


def _text(value: object, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        message = f"{name} must be a non-empty str, or None for no filter."
        raise InvalidRequestError(message)
    # A lone surrogate, which UTF-8 cannot encode; matched, as the codec's own error would hold the
    # value, which is PII.
    if re.search("[\ud800-\udfff]", value):
        message = f"{name} must be text that UTF-8 can encode."
        raise InvalidRequestError(message)
    return value


def _whole_number(value: object, name: str, *, low: int, high: int = sys.maxsize) -> int:
    # bool is an int to Python, and a mistake here.
    if type(value) is int and low <= value <= high:
        return value
    message = f"{name} must be a whole number from {low} to {high}."
    raise InvalidRequestError(message)


def _host_word(value: object, name: str) -> str:
    if isinstance(value, str) and _HOST_WORD.fullmatch(value):
        return value
    message = f"{name} must be a word of a-z, 0-9 and inner hyphens, at most 32 long."
    raise InvalidRequestError(message)


def _origin(base_url: object) -> str:
    advice = (
        "base_url must be an origin: https://host[:port], or http on a loopback host; "
        "no path, query, fragment or credentials."
    )
    # urlsplit drops tabs and newlines without a word, so look at the characters first.
    if not isinstance(base_url, str) or not re.fullmatch(r"[!-\[\]-~]+", base_url):
        raise InvalidRequestError(advice)
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text can hold a password, so it is not even chained
        parts, host, port = urlsplit(""), None, None
    plain = (
        host
        and (":" in host or _HOST_NAME.fullmatch(host))
        and "@" not in parts.netloc
        and parts.path in {"", "/"}
        and not parts.query
        and not parts.fragment
        and not base_url.endswith(("?", "#"))
    )
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
    if not plain or not secure:
        raise InvalidRequestError(advice)
    name = f"[{host}]" if ":" in str(host) else host
    return f"{parts.scheme}://{name}" + ("" if port is None else f":{port}")
