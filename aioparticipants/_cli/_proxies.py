"""The proxy that a command goes through: the commands alone read the environment's.

1. `HTTPS_PROXY` (or `https_proxy`, which wins), but for the hosts that `NO_PROXY` names; on macOS
   and Windows the system's settings, where there are no such variables. All of it is the standard
   library's reading.
2. Plain http goes to this machine alone, and never through a proxy of the environment's.
3. A proxy with no scheme is an http one, as curl takes it.
"""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from .._settings import checked_proxy
from ..errors import InvalidRequestError

__all__ = ["proxy_for"]


def proxy_for(base_url: str, given: str | None) -> str | None:
    """Return the proxy for what goes to `base_url`: what was given, or the environment's, or None.

    Raises:
        InvalidRequestError: it is no HTTP proxy.
    """
    if given is not None:
        return _with_scheme(given)
    origin = urlsplit(base_url)
    found = getproxies().get("https")
    if origin.scheme != "https" or not found or proxy_bypass(origin.netloc):
        return None
    proxy = _with_scheme(found)
    try:
        return checked_proxy(proxy, base_url=base_url)
    except InvalidRequestError:
        message = (
            "HTTPS_PROXY must be the URL of an HTTP proxy: http://[user:password@]host[:port]. "
            "NO_PROXY=twilio.com goes without it, and --proxy=URL through another."
        )
    raise InvalidRequestError(message)


def _with_scheme(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"
