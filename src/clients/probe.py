"""One look at an address: does it answer, and as it should. No redirect is followed, no body read."""

import asyncio
import functools
import ssl
from base64 import b64encode
from urllib.parse import unquote, urlsplit

import httpx

from .. import tracing
from ..errors import Permanent, Transient
from .outgoing import outgoing

_context = functools.cache(httpx.create_ssl_context)  # reading the authorities takes a while


async def status_of(url: str, timeout_s: float) -> int:
    """The status a GET of `url` is answered with, asked for on a connection of its own.

    Raises Transient where no answer comes within `timeout_s`, all included, and Permanent for what is no address;
    neither says a word of the URL, which may hold a token.
    """
    try:
        parts = urlsplit(url)
        headers = {"User-Agent": "folkform-worker", "Connection": "close", "Accept": "*/*"}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        request = httpx.Request("GET", url, headers=headers)
        verify: ssl.SSLContext | bool = _context() if parts.scheme == "https" else False
    except (httpx.InvalidURL, ValueError):
        raise Permanent("its address cannot be read") from None
    try:
        with outgoing("probe", "GET", url) as span:
            async with asyncio.timeout(timeout_s):
                # not httpx' client, which logs addresses, and follows what the environment says of proxies
                async with httpx.AsyncHTTPTransport(verify=verify, trust_env=False) as transport:
                    response = await transport.handle_async_request(request)
                    await response.aclose()
            tracing.answered(span, response.status_code)
            return response.status_code
    except TimeoutError:
        words = f"no answer in {timeout_s:g} s"
    except httpx.HTTPError as e:
        words = _in_words(e)
    raise Transient(words)  # outside of the handlers: httpx' error, which knows the address, must not come along


def _in_words(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ConnectError):
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return "its TLS certificate is not valid"
        return "it cannot be reached"
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        return "the connection was cut"
    return f"the call failed ({type(error).__name__})"
