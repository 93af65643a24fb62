"""The one way out to merchants: a name is resolved once, every address of it judged, and only what was judged dialled.

Check and connect cannot come apart: no other address, later answer or spelling of a name gets past `Guard`.
"""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_address

import httpcore

from ...errors import Misuse, Transient
from ...rules.addresses import Address, denied, is_within, unwrapped
from ...rules.webhook_url import check_url
from ...settings.webhooks import WebhookSettings
from .stream import ATTEMPT, Stream

Resolve = Callable[[str, int], Awaitable[list[str]]]

RESOLVE_S = 5.0
CONNECT_S = 10.0  # shared out among a host's addresses
HTTP_PORT = 80

# a merchant's name server that fails looks like ours that does not answer: the resolver tells both as EAI_AGAIN
_OUR_RESOLVER = {socket.EAI_AGAIN, socket.EAI_SYSTEM, socket.EAI_MEMORY}
_OUR_NETWORK = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
    *(errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM),
}


class Denied(Misuse):
    """This host or port must not be called; the message says why."""


class Unreached(Transient):
    """No connection came about. `is_ours`: the merchant is not to blame."""

    def __init__(self, message: str, *, is_ours: bool = False) -> None:
        super().__init__(message)
        self.is_ours = is_ours


# uvloop's own has four threads and gives names two of them: two merchants whose name servers hang would stop the others
_LOOK_UPS = ThreadPoolExecutor(32, thread_name_prefix="look-up")


async def system_resolve(host: str, port: int) -> list[str]:
    """The addresses of `host` by the system's resolver, best first. Raises socket.gaierror."""
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_LOOK_UPS, look_up)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def checked_addresses(host: str, port: int, settings: WebhookSettings, resolve: Resolve) -> list[Address]:
    """Every address of `host`, each of which may be called at `port`; best first, at least one.

    Raises Denied where one of them may not be called, whatever the others are: an answer that mixes is an attack or a
    mistake. Raises Unreached where there is no address.
    """
    addresses: list[Address] = []
    for answer in await _resolved(host, port, resolve):
        try:
            addresses.append(ip_address(answer))
        except ValueError as e:
            raise Denied(f"{host} resolves to something that is no IP address") from e
    for address in addresses:
        if reason := denied(address, settings.allowed_networks):
            raise Denied(f"{host} must not be called: {reason}")
    if not _is_port_open(port, settings) and not all(
        is_within(address, settings.allowed_networks) for address in addresses
    ):
        raise _wrong_port(port, settings)
    return list(dict.fromkeys(unwrapped(address) for address in addresses))


async def examine(url: str, settings: WebhookSettings, resolve: Resolve = system_resolve) -> str | None:
    """Whether an endpoint may be saved: None, or a sentence to warn with where its host does not resolve now.

    Raises Misuse for a bad URL and Denied, which is one, for an address or a port that must not be called. Says
    nothing about tomorrow: every call is judged again when it connects.
    """
    try:
        target = check_url(url, allow_http=settings.allow_http)
    except ValueError as e:
        raise Misuse(str(e)) from e
    if not settings.allowed_networks and not _is_port_open(target.port, settings):
        raise _wrong_port(target.port, settings)
    try:
        await checked_addresses(target.host, target.port, settings, resolve)
    except Unreached as e:
        return f"{e}; it is saved, and nothing can be delivered there until it resolves"
    return None


class Guard(httpcore.AsyncNetworkBackend):
    """Opens connections for one httpcore pool, to addresses that may be called and no others."""

    def __init__(self, settings: WebhookSettings, resolve: Resolve) -> None:
        self.live: set[Stream] = set()  # connections that are open
        self._settings = settings
        self._resolve = resolve

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address of `host` that takes it, within `CONNECT_S`.

        Raises Denied and Unreached. TLS and the Host header still go by the name, which httpcore keeps.
        """
        attempt = ATTEMPT.get()
        if attempt:
            attempt.step = "the name to be resolved"
        addresses = await checked_addresses(host, port, self._settings, self._resolve)
        if attempt:
            attempt.step = "a connection"
        stream = await self._dialled(addresses, port)
        if attempt:
            attempt.stream, attempt.connects = stream, attempt.connects + 1
        return stream

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Always raises Denied."""
        raise Denied("a unix socket must not be called")

    def abort(self) -> list[Stream]:
        """Close every connection at once, and return those whose sockets are still to be closed by the event loop."""
        streams = list(self.live)
        for stream in streams:
            stream.abort()
        return streams

    async def _dialled(self, addresses: Sequence[Address], port: int) -> Stream:
        loop = asyncio.get_running_loop()
        end = loop.time() + CONNECT_S
        failures: list[OSError] = []
        for number, address in enumerate(addresses):
            # an address that swallows packets must leave the next one its time
            share_s = max(end - loop.time(), 0.0) / (len(addresses) - number)
            try:
                async with asyncio.timeout(share_s):
                    _, stream = await loop.create_connection(lambda: Stream(self.live), str(address), port)
            except OSError as e:  # TimeoutError is one
                failures.append(e)
            else:
                return stream
        raise _unreached(failures)


def _is_port_open(port: int, settings: WebhookSettings) -> bool:
    return port in settings.allowed_ports or (port == HTTP_PORT and settings.allow_http)


def _wrong_port(port: int, settings: WebhookSettings) -> Denied:
    ports = sorted({*settings.allowed_ports, *((HTTP_PORT,) if settings.allow_http else ())})
    return Denied(f"port {port} must not be called: use {' or '.join(map(str, ports)) or 'another host'}")


async def _resolved(host: str, port: int, resolve: Resolve) -> list[str]:
    try:
        async with asyncio.timeout(RESOLVE_S):
            answers = await resolve(host, port)
    except socket.gaierror as e:
        if e.errno in _OUR_RESOLVER:
            raise Unreached(f"our resolver could not look up {host}", is_ours=True) from e
        raise Unreached(f"{host} does not resolve to any address") from e
    except OSError as e:  # TimeoutError is one
        raise Unreached(f"our resolver could not look up {host}", is_ours=True) from e
    except UnicodeError as e:  # what Python says of a name that DNS cannot hold
        raise Unreached(f"{host} does not resolve to any address") from e
    if not answers:
        raise Unreached(f"{host} does not resolve to any address")
    return answers


def _unreached(failures: Sequence[OSError]) -> Unreached:
    """One that the merchant answers for comes first: with us offline there would be none."""
    for failure in failures:
        if failure.errno not in _OUR_NETWORK:
            return Unreached(_in_words(failure))
    return Unreached("our network could not be used to connect", is_ours=True)


def _in_words(failure: OSError) -> str:
    if isinstance(failure, TimeoutError):
        return "nothing answers there: the connection timed out"
    if isinstance(failure, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(failure, ConnectionError):
        return "the connection was reset"
    return "the host cannot be reached"
