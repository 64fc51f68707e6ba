"""The proxy of a command. Only the commands read proxies from the environment.

1. `HTTPS_PROXY` (or `https_proxy`, which takes precedence), except for the hosts in `NO_PROXY`. On
   macOS and Windows, without these variables, the system's settings. The standard library reads
   all of these.
2. Plain http is allowed only to this machine, and never uses the environment's proxy.
3. A proxy without a scheme is an http proxy, as with curl.
"""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from .._settings import checked_proxy
from ..errors import InvalidRequestError

__all__ = ["proxy_for"]


def proxy_for(base_url: str, given: str | None) -> str | None:
    """Return the proxy for requests to `base_url`: the given one, the environment's, or None.

    Raises:
        InvalidRequestError: the environment's proxy is not an HTTP proxy.
    """
    if given is not None:
        return _with_scheme(given)
    origin = urlsplit(base_url)
    found = getproxies().get("https")
    if origin.scheme != "https" or not found or proxy_bypass(origin.netloc):
        return None
    try:
        return checked_proxy(_with_scheme(found), base_url=base_url)
    except InvalidRequestError:
        message = (
            "HTTPS_PROXY must be the URL of an HTTP proxy: http://[user:password@]host[:port]. "
            "To use no proxy, set NO_PROXY=twilio.com; to use another one, give --proxy=URL."
        )
    raise InvalidRequestError(message)


def _with_scheme(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"
